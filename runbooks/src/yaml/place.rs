//! From a byte of a decoded scalar back to the byte of the file that it came from, for all five styles.

use super::{Scalar, Style};
use crate::diagnostic::Span;

impl Scalar {
    /// The part of the file that the bytes `from..to` of the decoded text came from. `raw` is the scalar's own part of the file, which
    /// begins at byte `start`.
    pub(crate) fn part(&self, raw: &str, start: usize, from: usize, to: usize) -> Span {
        let to = to.max(from);
        let (mut first, mut last) = (None, raw.len());
        let mut walk = Walk::new(self.style, raw);
        let mut at = 0;
        for decoded in self.text.chars() {
            crate::work::spend(1);
            let (begin, end) = walk.find(decoded);
            if at <= from {
                first = Some(begin);
            }
            at += decoded.len_utf8();
            if at >= to {
                last = end;
                break;
            }
        }
        let first = if from >= self.text.len() { walk.at } else { first.unwrap_or(walk.at) };
        Span { start: start + first, end: start + last.max(first) }
    }
}

/// A position in the raw text that follows the decoded one.
struct Walk<'a> {
    style: Style,
    raw: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    fn new(style: Style, raw: &'a str) -> Self {
        let at = match style {
            // The part of a block scalar begins with its first character, not with its header (`>-`).
            Style::Plain | Style::Literal | Style::Folded => 0,
            Style::SingleQuoted | Style::DoubleQuoted => 1.min(raw.len()),
        };
        Self { style, raw, at }
    }

    /// Where the next decoded character stands: everything between two characters is white space, because only that is folded away.
    fn find(&mut self, decoded: char) -> (usize, usize) {
        loop {
            let Some(found) = self.raw.get(self.at..).and_then(|rest| rest.chars().next()) else { return (self.raw.len(), self.raw.len()) };
            let begin = self.at;
            if found == '\\' && self.style == Style::DoubleQuoted {
                let length = escape_length(&self.raw[begin..]);
                self.at += length;
                if self.raw[begin..self.at].ends_with('\n') {
                    continue;
                }
                return (begin, self.at);
            }
            if found == '\'' && self.style == Style::SingleQuoted {
                self.at = (begin + 2).min(self.raw.len());
                return (begin, self.at);
            }
            if found == decoded {
                self.at += found.len_utf8();
                return (begin, self.at);
            }
            if decoded.is_whitespace() && found.is_whitespace() {
                // A line break that was folded into a space, or the other way round.
                self.at += found.len_utf8();
                return (begin, self.at);
            }
            if decoded.is_whitespace() {
                return (begin, begin);
            }
            self.at += found.len_utf8();
        }
    }
}

/// Bytes of the escape that `raw` begins with.
fn escape_length(raw: &str) -> usize {
    let digits = match raw.chars().nth(1) {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        Some('\r') if raw[2..].starts_with('\n') => 1,
        Some(other) => return 1 + other.len_utf8(),
        None => return raw.len(),
    };
    (2 + digits..=raw.len()).find(|end| raw.is_char_boundary(*end)).unwrap_or(raw.len())
}

#[cfg(test)]
mod tests {
    use crate::diagnostic::Source;
    use crate::yaml;

    /// In each file the decoded scalar holds `here`, and it is found at the same word of the file.
    #[test]
    fn a_word_is_found_again_in_every_style() {
        for text in [
            "k: a here b\n",
            "k: 'it''s ''a'' here'\n",
            "k: \"\\u00e9\\x41\\U0001F600\\\" \\t é here\"\n",
            "k: \"one \\\n   two\n   three here\"\n",
            "k: plain\n   folded é\n   here\n",
            "k: 'q\n\n  two here'\n",
            "k: |\n  first line\n    more here\n",
            "k: >-\n  folded é\n  text\n\n  here\n",
            "k: |2-\n    indented here\n",
            "- k: >\n    a\n      b\n\n    here\n",
        ] {
            let source = Source { name: "t".into(), text: text.into() };
            let mut problems = Vec::new();
            let root = yaml::read(&source, &mut problems).unwrap();
            assert!(problems.is_empty(), "{text}: {problems:?}");
            let map = root.items().first().unwrap_or(&root);
            let node = map.get("k").unwrap();
            let scalar = node.scalar().unwrap();
            let at = scalar.text.find("here").unwrap();
            let span = scalar.part(&text[node.span.start..node.span.end], node.span.start, at, at + 4);
            assert_eq!(&text[span.start..span.end], "here", "{text:?} {:?}", scalar.text);
        }
    }
}
