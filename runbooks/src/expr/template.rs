//! Where `${{ }}` begins and ends in a scalar. What stands between is an expression and is read elsewhere.

use std::borrow::Cow;

/// A piece of a scalar.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// Text as it is, `$${{` already turned into `${{`.
    Text(Cow<'a, str>),
    /// An expression, with the byte at which its text begins in the scalar.
    Expression {
        /// Without the marks.
        text: &'a str,
        /// Offset of `text` in the scalar.
        start: usize,
    },
}

/// A `${{` that is never closed, and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TemplateProblem {
    /// Offset of the `${{` in the scalar.
    pub at: usize,
    /// Why.
    pub why: &'static str,
}

/// The text that a scalar without expressions stands for.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if text.contains("$${{") { Cow::Owned(text.replace("$${{", "${{")) } else { Cow::Borrowed(text) }
}

/// Splits a scalar.
pub(crate) fn parts(text: &str) -> Result<Vec<Part<'_>>, TemplateProblem> {
    let mut parts = Vec::new();
    let mut literal_from = 0;
    let mut from = 0;
    while let Some(mark) = text[from..].find("${{").map(|at| at + from) {
        if text[..mark].ends_with('$') {
            from = mark + 3;
            continue;
        }
        if mark > literal_from {
            parts.push(Part::Text(unescape(&text[literal_from..mark])));
        }
        let start = mark + 3;
        let Some(length) = end_of_expression(&text[start..]) else {
            return Err(TemplateProblem { at: mark, why: "`${{` is never closed by `}}`" });
        };
        parts.push(Part::Expression { text: &text[start..start + length], start });
        from = start + length + 2;
        literal_from = from;
    }
    if literal_from < text.len() || parts.is_empty() {
        parts.push(Part::Text(unescape(&text[literal_from..])));
    }
    Ok(parts)
}

/// Length of the expression before its `}}`: braces of map literals and quoted texts inside do not end it.
fn end_of_expression(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\'' | b'"' => {
                at = end_of_text(bytes, at)?;
                continue;
            }
            b'{' => depth += 1,
            b'}' if depth == 0 && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The byte after the text literal that begins at `open`; `r` before it means that `\` is itself.
pub(super) fn end_of_text(bytes: &[u8], open: usize) -> Option<usize> {
    let quote = *bytes.get(open)?;
    let raw = open > 0 && matches!(bytes[open - 1], b'r' | b'R');
    let width = if bytes[open..].starts_with(&[quote; 3]) { 3 } else { 1 };
    let mut at = open + width;
    while at < bytes.len() {
        if bytes[at] == b'\\' && !raw {
            at += 2;
        } else if bytes[at..].starts_with(&[quote; 3][..width]) {
            return Some(at + width);
        } else {
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_inside_quotes_and_braces_do_not_end_an_expression() {
        let text = r#"a ${{ {"}}": {'x': "\"}}"}}["k"] }} b $${{ c }} ${{ r'\' }}"#;
        let parts = parts(text).unwrap();
        assert_eq!(parts.len(), 4, "{parts:?}");
        assert_eq!(parts[1], Part::Expression { text: r#" {"}}": {'x': "\"}}"}}["k"] "#, start: 5 });
        assert_eq!(parts[2], Part::Text(" b ${{ c }} ".into()));
    }

    #[test]
    fn an_unclosed_mark_is_found_where_it_stands() {
        assert_eq!(parts("é ${{ 'x}}").unwrap_err().at, 3);
        assert_eq!(parts("").unwrap(), vec![Part::Text("".into())]);
    }
}
