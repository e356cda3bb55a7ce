//! Events of the YAML parser to the tree. What runbooks do not allow (tags, anchors, merge keys, duplicate keys, second documents) is
//! reported here at its place, all of it; only a syntax error ends the reading.

#![expect(clippy::wildcard_enum_match_arm, reason = "the parser's events may grow; what is unknown is no node")]

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError};

use super::{Content, DEPTH_MAX, Entry, FILE_BYTES_MAX, Node, Style, scalar};
use crate::codes;
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::parse::PROBLEMS_MAX;

/// Reads a file. `None` where there is no document to speak of; the problems say why.
pub(crate) fn read(source: &Source, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    let text = &source.text;
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes; {FILE_BYTES_MAX} is the most", text.len());
        problems.push(Diagnostic::error(codes::LIMIT, Span::default(), message));
        return None;
    }
    let before = problems.len();
    check_characters(text, problems);
    if problems.len() > before {
        return None;
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        disallow_directives: true,
        block_nesting_limit: DEPTH_MAX * 2,
        flow_nesting_limit: DEPTH_MAX * 2,
    };
    let mut reader = Reader { text, parser: Parser::new_from_str_with_options(text, options), problems };
    match reader.document() {
        Ok(root) => root,
        Err(Stop::Syntax(error)) => {
            let problem = reader.syntax_problem(&error);
            reader.problems.push(problem);
            None
        }
        Err(Stop::TooDeep(span)) => {
            let message = format!("lists and mappings are nested deeper than {DEPTH_MAX} levels");
            reader.problems.push(Diagnostic::error(codes::LIMIT, span, message));
            None
        }
    }
}

/// Invisible and reordering characters let a file mean something else than people see.
fn check_characters(text: &str, problems: &mut Vec<Diagnostic>) {
    for (at, character) in text.char_indices() {
        let what = match character {
            '\t' | '\n' | '\r' => continue,
            '\u{feff}' if at == 0 => continue,
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => "a control character",
            '\u{2028}' | '\u{2029}' => "a line separator that editors do not show",
            '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => "an invisible character",
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => "a character that reorders the text around it",
            '\u{fffd}' => "the mark of bytes that are not UTF-8",
            _ => continue,
        };
        if problems.len() > PROBLEMS_MAX {
            return;
        }
        crate::work::spend(1);
        let span = Span { start: at, end: at + character.len_utf8() };
        let message = format!("U+{:04X} is {what}", u32::from(character));
        problems.push(Diagnostic::error(codes::BAD_CHARACTER, span, message).help("remove it, and save the file as UTF-8"));
    }
}

enum Stop {
    Syntax(ScanError),
    TooDeep(Span),
}

struct Reader<'a, 'p> {
    text: &'a str,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    problems: &'p mut Vec<Diagnostic>,
}

/// What the properties before a node say.
struct Properties {
    tag: Option<(String, Span)>,
    anchored: bool,
}

impl<'a> Reader<'a, '_> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span, Option<Span>)>, Stop> {
        crate::work::spend(1);
        match self.parser.next_event() {
            None => Ok(None),
            Some(Err(error)) => Err(Stop::Syntax(error)),
            Some(Ok((event, span))) => {
                let tag = span.tag_span().map(|tag| self.span(&tag));
                let span = self.span(&span);
                Ok(Some((event, span, tag)))
            }
        }
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        let start = span.start.byte_offset().unwrap_or(0).min(self.text.len());
        let end = span.end.byte_offset().unwrap_or(start).min(self.text.len());
        Span { start, end: end.max(start) }
    }

    fn report(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) {
        if self.problems.len() > PROBLEMS_MAX {
            return;
        }
        self.problems.push(Diagnostic::error(code, span, message).help(help));
    }

    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        while let Some((event, span, tag)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) => {
                    if root.is_some() {
                        self.report(codes::SECOND_DOCUMENT, span, "a second document begins here", "write one document a file");
                        break;
                    }
                }
                event => root = Some(self.node(event, span, tag, 0, None)?),
            }
        }
        let empty = root.as_ref().is_none_or(|node| node.scalar().is_some_and(|scalar| scalar.value.is_null()));
        if empty {
            self.report(
                codes::EMPTY,
                Span::default(),
                "there is nothing in this file",
                "begin with `lifeboat: v1`, or copy a file of `examples/`",
            );
            return Ok(None);
        }
        Ok(root)
    }

    fn node(&mut self, event: Event<'a>, span: Span, tag: Option<Span>, depth: usize, key: Option<&str>) -> Result<Node, Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::TooDeep(span));
        }
        match event {
            Event::Scalar(text, style, anchor, tagged) => {
                let tag = tagged.map(|name| (name.original(), tag.unwrap_or(span)));
                let broken = self.refuse(Properties { tag, anchored: anchor != 0 }, span, key);
                let content = if broken { Content::Broken } else { Content::Scalar(scalar::scalar(text.into_owned(), style_of(style))) };
                Ok(Node { content, span: self.trimmed(span) })
            }
            Event::SequenceStart(_, anchor, tagged) => {
                let tag = tagged.map(|name| (name.original(), tag.unwrap_or(span)));
                self.refuse(Properties { tag, anchored: anchor != 0 }, span, key);
                self.list(span, depth)
            }
            Event::MappingStart(_, anchor, tagged) => {
                let tag = tagged.map(|name| (name.original(), tag.unwrap_or(span)));
                self.refuse(Properties { tag, anchored: anchor != 0 }, span, key);
                self.map(span, depth)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let help = if key.is_some_and(is_expression_key) { QUOTE } else { "write the value out, or quote it if `*` is part of it" };
                self.report(codes::ANCHOR, span, "runbooks have no aliases (`*name`)", help);
                Ok(Node { content: Content::Broken, span })
            }
            _ => Ok(Node { content: Content::Broken, span }),
        }
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Node, Stop> {
        let mut items: Vec<Node> = Vec::new();
        let mut end = start.end;
        while let Some((event, span, tag)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                end = end.max(if self.text[..span.end].ends_with(']') { span.end } else { 0 });
                break;
            }
            let item = self.node(event, span, tag, depth + 1, None)?;
            end = item.span.end;
            items.push(item);
        }
        Ok(Node { content: Content::List(items), span: Span { start: start.start, end } })
    }

    fn map(&mut self, start: Span, depth: usize) -> Result<Node, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut end = start.end;
        while let Some((event, key_span, tag)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                end = end.max(if self.text[..key_span.end].ends_with('}') { key_span.end } else { 0 });
                break;
            }
            let key_node = self.node(event, key_span, tag, depth + 1, None)?;
            let key = self.key(&key_node);
            let Some((event, span, tag)) = self.next()? else { break };
            let value = self.node(event, span, tag, depth + 1, key.as_deref())?;
            end = value.span.end.max(key_node.span.end);
            let Some(key) = key else { continue };
            if let Some(first) = places.get(&key) {
                if self.problems.len() > PROBLEMS_MAX {
                    continue;
                }
                crate::work::spend(*first / 64);
                let line = self.text[..*first].matches('\n').count() + 1;
                let message = format!("`{key}` stands twice here; the first is on line {line}");
                self.report(codes::DUPLICATE_KEY, key_node.span, message, "keep one of them");
                continue;
            }
            places.insert(key.clone(), key_node.span.start);
            entries.push(Entry { key, key_span: key_node.span, value });
        }
        let first = entries.first().map_or(start.start, |entry| if start.start == start.end { entry.key_span.start } else { start.start });
        Ok(Node { content: Content::Map(entries), span: Span { start: first, end: end.max(first) } })
    }

    fn key(&mut self, node: &Node) -> Option<String> {
        match &node.content {
            Content::Scalar(scalar) if scalar.text == "<<" && scalar.style == Style::Plain => {
                self.report(codes::MERGE_KEY, node.span, "runbooks have no merge keys (`<<`)", "write the entries out");
                None
            }
            Content::Scalar(scalar) if scalar.value.is_string() => Some(scalar.text.clone()),
            Content::Scalar(scalar) => {
                let message =
                    if scalar.value.is_null() { "a key is empty".to_owned() } else { format!("the key `{}` is not a text", scalar.text) };
                self.report(codes::KEY_NOT_TEXT, node.span, message, "quote the key");
                None
            }
            Content::List(_) | Content::Map(_) => {
                let quote = self.text[node.span.start..].starts_with('{') && self.text[..node.span.start].ends_with('$');
                let help = if quote || self.line_of(node.span.start).contains("{{") {
                    "quote the whole value: \"${{ ... }}\""
                } else {
                    "a key is a single word"
                };
                self.report(codes::KEY_NOT_TEXT, node.span, "a list or mapping cannot be a key", help);
                None
            }
            Content::Broken => None,
        }
    }

    /// Reports tag and anchor; says whether the value was lost with them.
    fn refuse(&mut self, properties: Properties, span: Span, key: Option<&str>) -> bool {
        if properties.anchored {
            self.report(codes::ANCHOR, span, "runbooks have no anchors (`&name`)", "write the value out where it is needed");
        }
        let Some((name, tag_span)) = properties.tag else { return properties.anchored };
        let tag_span = if tag_span.end > tag_span.start { tag_span } else { self.rest_of_line(tag_span.start) };
        if key.is_some_and(is_expression_key) {
            let message = format!("YAML reads `{name}` as a tag, not as \"not\"");
            self.report(codes::QUOTE_IT, self.rest_of_line(tag_span.start), message, QUOTE);
        } else {
            self.report(
                codes::TAG,
                tag_span,
                format!("runbooks have no tags (`{name}`)"),
                "write the plain value, or quote it if `!` is part of it",
            );
        }
        true
    }

    fn syntax_problem(&self, error: &ScanError) -> Diagnostic {
        let at = error.marker().byte_offset().unwrap_or(0).min(self.text.len());
        let why = error.info();
        if why.contains("nest") || why.contains("recursion") || why.contains("depth") {
            let message = format!("lists and mappings are nested deeper than {DEPTH_MAX} levels");
            return Diagnostic::error(codes::LIMIT, Span { start: at, end: at }, message);
        }
        let line = self.line_of(at);
        let before = self.text[..at].trim_end();
        let line_before = self.line_of(before.len());
        let trap = [line, line_before].into_iter().find(|line| line.contains("${{") || expression_of(line).is_some());
        let diagnostic = |code, message: String| Diagnostic::error(code, Span { start: at, end: at }, message);
        if let Some(trap) = trap {
            let help = if trap.contains("${{") { "quote the whole value: \"${{ ... }}\"" } else { QUOTE };
            return diagnostic(codes::QUOTE_IT, format!("YAML cannot read this: {why}")).help(help);
        }
        if line.trim_end_matches(|c| c != '\t').contains('\t') && line.trim_start().len() < line.len() {
            return diagnostic(codes::NOT_YAML, format!("YAML cannot read this: {why}"))
                .help("indent with spaces: YAML allows no tabs there");
        }
        let problem = diagnostic(codes::NOT_YAML, format!("YAML cannot read this: {why}"));
        if line.contains(": ") { problem.help("a value that holds `: `, ` #` or begins with a sign must be quoted") } else { problem }
    }

    fn line_of(&self, at: usize) -> &'a str {
        let at = at.min(self.text.len());
        let start = self.text[..at].rfind('\n').map_or(0, |line_end| line_end + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        &self.text[start..end]
    }

    fn rest_of_line(&self, start: usize) -> Span {
        let end = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        Span { start, end: start + self.text[start..end].trim_end().len() }
    }

    /// Block scalars end where the next thing begins; the white space between is not theirs.
    fn trimmed(&self, span: Span) -> Span {
        let end = span.start + self.text[span.start..span.end].trim_end().len();
        Span { start: span.start, end }
    }
}

const QUOTE: &str = "quote the whole expression";

/// Keys whose values are bare expressions.
pub(crate) fn is_expression_key(key: &str) -> bool {
    key == "if" || key == "assert"
}

fn expression_of(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    line.strip_prefix("if:").or_else(|| line.strip_prefix("assert:"))
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
    }
}
