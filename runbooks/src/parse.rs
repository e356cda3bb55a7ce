//! Text to the author's form. The structure is checked against the file's schema, then read leniently: what is missing or wrong was
//! reported already. What needs a catalog or an inventory is in `rules`.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use serde_json::Value;

use crate::codes;
use crate::diagnostic::{Diagnostic, Source, Span};
use crate::duration::Period;
use crate::names::{StepId, is_step_name};
use crate::plan::{ErrorClass, Objectives, OnFailure, Retry, Return};
use crate::render::line_of;
use crate::runbook::{
    DRILL, ForEach, Input, InputType, MODE_DEFAULT, Output, RETRY_DEFAULT, Runbook, STEPS_MAX, Spanned, Step, TIMEOUT_DEFAULT_MS, Trigger,
    TriggerKind, Undo, With, Written,
};
use crate::shape::literal::{Checker, Place, Templates};
use crate::shape::{self, Kind, Shape, TextRules};
use crate::yaml::{self, Content, Entry, Node};
use crate::{editor, suggest};

// What is beyond the limits of the file's schema was reported, and is not looked at.
const MODES_MAX: usize = 20;
const TRIGGERS_MAX: usize = 100;
const VALUES_MAX: usize = 1000;
const NEEDS_MAX: usize = 1000;
const OUTPUTS_MAX: usize = 200;

/// Keys that say something of attempts, and so nothing of a child run: its own steps make them.
pub(crate) const KEYS_OF_ATTEMPTS: [&str; 4] = ["timeout", "retry", "undo", "point_of_no_return"];

/// Most inputs of a runbook: people type them.
const INPUTS_MAX: usize = 200;

/// Most problems that are told of one file; more are noise.
pub(crate) const PROBLEMS_MAX: usize = 500;

/// Reads a runbook. All problems of form are told at once; there is no runbook only where the text is not YAML, or not a mapping with
/// steps. Use `check` for everything that needs to know the step types.
#[must_use]
pub fn parse(source: &Source) -> (Option<Runbook>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let Some(root) = yaml::read(source, &mut problems) else { return (None, problems) };
    let count = ["steps", "finally"].iter().filter_map(|key| root.get(key)).map(|steps| steps.items().len()).sum::<usize>();
    if count > STEPS_MAX {
        let span = root.entry("steps").map_or(root.span, |entry| entry.key_span);
        problems.push(
            Diagnostic::error(codes::LIMIT, span, format!("the runbook has {count} steps; {STEPS_MAX} is the most"))
                .help("split it into several runbooks"),
        );
        return (None, problems);
    }
    // Always the same, and reading it takes longer than reading a small file.
    static SHAPE: OnceLock<Shape> = OnceLock::new();
    let shape = SHAPE.get_or_init(|| shape::read(&editor::structure()));
    let mut checker = Checker::new(Templates::AreText);
    checker.check(&root, shape, &Place { name: "the runbook".to_owned(), ..Place::root(&root) });
    problems.append(&mut checker.problems);
    let ids =
        ["steps", "finally"].iter().filter_map(|key| root.get(key)).flat_map(Node::items).filter_map(|step| text(step.get("id"))).collect();
    let mut reader = Reader { source, problems, lines: Lines::default(), ids };
    let runbook = reader.runbook(&root);
    let mut problems = reader.problems;
    tidy(&mut problems);
    let runbook = runbook.map(|runbook| Runbook { problems: problems.clone(), ..runbook });
    (runbook, problems)
}

/// In the order of the file, each once, and not endlessly many.
pub(crate) fn tidy(problems: &mut Vec<Diagnostic>) {
    problems.sort_by(|a, b| (a.file(), a.span, a.code, &a.message).cmp(&(b.file(), b.span, b.code, &b.message)));
    problems.dedup();
    if problems.len() > PROBLEMS_MAX {
        let more = problems.len() - PROBLEMS_MAX;
        let span = problems[PROBLEMS_MAX].span;
        problems.truncate(PROBLEMS_MAX);
        problems.push(Diagnostic::error(codes::TOO_MANY_PROBLEMS, span, format!("there are {more} more problems; mend these first")));
    }
}

/// Counts lines as the file is read from top to bottom.
#[derive(Default)]
struct Lines {
    at: usize,
    line: u32,
}

struct Reader<'a> {
    source: &'a Source,
    problems: Vec<Diagnostic>,
    lines: Lines,
    /// Every id of the file, so that none is proposed that is taken.
    ids: HashSet<String>,
}

impl Reader<'_> {
    fn report(&mut self, code: &'static str, span: Span, message: impl Into<String>, help: &str) {
        let problem = Diagnostic::error(code, span, message);
        self.problems.push(if help.is_empty() { problem } else { problem.help(help) });
    }

    fn line(&mut self, at: usize) -> u32 {
        if at < self.lines.at || self.lines.line == 0 {
            self.lines = Lines { at, line: line_of(&self.source.text, at) };
        } else {
            let between = self.source.text.as_bytes()[self.lines.at..at].iter().filter(|byte| **byte == b'\n').count();
            self.lines = Lines { at, line: self.lines.line.saturating_add(u32::try_from(between).unwrap_or(u32::MAX)) };
        }
        self.lines.line
    }

    fn runbook(&mut self, root: &Node) -> Option<Runbook> {
        if !matches!(root.content, Content::Map(_)) {
            return None;
        }
        let name = spanned(root.get("name")).unwrap_or(Spanned { value: String::new(), span: root.span });
        let modes = self.modes(root);
        let objectives = root.get("objectives");
        let objective = |key: &str| objectives.and_then(|node| period_ms(node.get(key)));
        let runbook = Runbook {
            source: self.source.clone(),
            title: text(root.get("title")).unwrap_or_else(|| name.value.clone()),
            owner: text(root.get("owner")),
            objectives: Objectives { rto_ms: objective("rto"), rpo_ms: objective("rpo") },
            inputs: self.inputs(root.get("inputs")),
            triggers: self.triggers(root.get("triggers"), &modes),
            on_failure: on_failure(root.get("on_failure")),
            deadline_ms: period_ms(root.get("deadline")),
            steps: root.get("steps").map(Node::items).unwrap_or_default().iter().map(|node| self.step(node)).collect(),
            finally: root.get("finally").map(Node::items).unwrap_or_default().iter().map(|node| self.step(node)).collect(),
            outputs: root
                .get("outputs")
                .map(Node::entries)
                .unwrap_or_default()
                .iter()
                .take(OUTPUTS_MAX)
                .map(|entry| self.output(entry))
                .collect(),
            name,
            modes,
            children: None,
            height: 0,
            problems: Vec::new(),
        };
        self.unique_ids(&runbook);
        Some(runbook)
    }

    fn output(&mut self, entry: &Entry) -> Output {
        let name = Spanned { value: entry.key.clone(), span: entry.key_span };
        if let Some(why) = name_problem(&name.value, "an output") {
            self.report(codes::BAD_NAME, name.span, why, "use a lower-case letter, then letters, digits and _");
        }
        Output { name, node: entry.value.clone() }
    }

    fn modes(&mut self, root: &Node) -> Vec<Spanned<String>> {
        let Some(node) = root.get("modes") else {
            return vec![Spanned { value: MODE_DEFAULT.to_owned(), span: Span::default() }];
        };
        let mut modes: Vec<Spanned<String>> = Vec::new();
        for mode in node.items().iter().take(MODES_MAX).filter_map(|item| spanned(Some(item))) {
            if modes.iter().any(|known| known.value == mode.value) {
                self.report(codes::DUPLICATE_ID, mode.span, format!("the mode `{}` stands twice here", mode.value), "keep one of them");
            } else {
                modes.push(mode);
            }
        }
        if modes.iter().all(|mode| mode.value == DRILL)
            && let Some(drill) = modes.first()
        {
            self.report(codes::UNKNOWN_MODE, drill.span, "a runbook needs a mode besides `drill`", "add one, for example `failover`");
        }
        modes
    }

    fn inputs(&mut self, node: Option<&Node>) -> Vec<Input> {
        let mut inputs = Vec::new();
        let entries = node.map(Node::entries).unwrap_or_default();
        if let Some(entry) = entries.get(INPUTS_MAX) {
            let message = format!("the runbook has {} inputs; {INPUTS_MAX} is the most", entries.len());
            self.report(codes::LIMIT, entry.key_span, message, "group them, or split the runbook");
        }
        for entry in entries.iter().take(INPUTS_MAX) {
            let name = Spanned { value: entry.key.clone(), span: entry.key_span };
            if let Some(why) = name_problem(&name.value, "an input") {
                self.report(codes::BAD_NAME, name.span, why, "use a lower-case letter, then letters, digits and _");
            }
            let input_type = match entry.value.get("type").and_then(Node::text) {
                Some("integer") => InputType::Integer,
                Some("number") => InputType::Number,
                Some("boolean") => InputType::Boolean,
                Some("duration") => InputType::Duration,
                _ => InputType::String,
            };
            let shape = input_shape(input_type, None);
            let one_of = entry.value.get("one_of").map(|list| {
                list.items()
                    .iter()
                    .take(VALUES_MAX)
                    .enumerate()
                    .filter_map(|(index, item)| self.input_value(item, &shape, &format!("value {} of `one_of`", index + 1)))
                    .collect::<Vec<_>>()
            });
            let shape = input_shape(input_type, one_of.as_deref());
            let default = entry.value.get("default").and_then(|node| self.input_value(node, &shape, "`default`"));
            if let (Some(default), Some(one_of), Some(node)) = (&default, &one_of, entry.value.get("default"))
                && !one_of.contains(default)
                && !matches!(shape.kind, Kind::Text(_))
            {
                self.report(codes::NOT_ONE_OF, node.span, "`default` is none of the values of `one_of`", "");
            }
            inputs.push(Input { name, input_type, default, one_of, description: text(entry.value.get("description")) });
        }
        inputs
    }

    fn input_value(&mut self, node: &Node, shape: &Shape, name: &str) -> Option<Value> {
        if node.scalar().is_some_and(|scalar| scalar.text.contains("${{")) {
            self.report(codes::BAD_INPUT, node.span, "inputs hold plain values, no expressions", "write the value");
            return None;
        }
        let mut checker = Checker::new(Templates::AreText);
        checker.check(node, shape, &Place { pointer: String::new(), name: name.to_owned(), head: node.span });
        let fits = checker.problems.is_empty();
        self.problems.append(&mut checker.problems);
        let value = node.to_value();
        let value = if matches!(shape.kind, Kind::Number(_)) { value.as_f64().map_or(value, Value::from) } else { value };
        (fits && !value.is_null()).then_some(value)
    }

    fn triggers(&mut self, node: Option<&Node>, modes: &[Spanned<String>]) -> Vec<Trigger> {
        let mut triggers: Vec<Trigger> = Vec::new();
        for item in node.map(Node::items).unwrap_or_default().iter().take(TRIGGERS_MAX) {
            let Some(id) = spanned(item.get("id")) else { continue };
            if triggers.iter().any(|known| known.id.value == id.value) {
                self.report(codes::DUPLICATE_ID, id.span, format!("the trigger `{}` stands twice here", id.value), "give it another id");
            }
            let kinds: Vec<_> =
                item.entries().iter().filter(|entry| matches!(entry.key.as_str(), "health" | "telegram" | "schedule")).collect();
            let [kind] = kinds.as_slice() else {
                let message = format!(
                    "the trigger `{}` has {} of `health`, `telegram` and `schedule`",
                    id.value,
                    if kinds.is_empty() { "none" } else { "several" }
                );
                self.report(codes::MISSING_KEY, id.span, message, "give it exactly one");
                continue;
            };
            let mode = spanned(kind.value.get("mode"));
            if let Some(mode) = &mode
                && !modes.iter().any(|known| known.value == mode.value)
            {
                let known: Vec<&str> = modes.iter().map(|mode| mode.value.as_str()).collect();
                self.problems.push(
                    Diagnostic::error(codes::UNKNOWN_MODE, mode.span, format!("the runbook has no mode `{}`", mode.value))
                        .maybe_help(suggest::instead(&mode.value, &known)),
                );
            }
            let part = |key: &str| text(kind.value.get(key)).unwrap_or_default();
            let mode = mode.map(|mode| mode.value).unwrap_or_default();
            let parsed = match kind.key.as_str() {
                "health" => TriggerKind::Health { monitor: part("monitor"), mode },
                "telegram" => {
                    let roles =
                        kind.value.get("roles").map(Node::items).unwrap_or_default().iter().filter_map(|role| text(Some(role))).collect();
                    TriggerKind::Telegram { command: part("command"), mode, roles }
                }
                _ => {
                    self.cron(kind.value.get("cron"));
                    TriggerKind::Schedule { cron: part("cron"), timezone: part("timezone"), mode }
                }
            };
            triggers.push(Trigger { id, kind: parsed });
        }
        triggers
    }

    fn cron(&mut self, node: Option<&Node>) {
        let Some(cron) = spanned(node) else { return };
        if let Err(problem) = crate::schedule::Cron::parse(&cron.value) {
            self.report(codes::BAD_SCHEDULE, cron.span, problem.why, problem.help);
        }
    }

    fn step(&mut self, node: &Node) -> Step {
        let head = node.entries().first().map_or(node.span, |entry| entry.key_span);
        let name = spanned(node.get("id")).unwrap_or(Spanned { value: String::new(), span: head });
        let id = StepId::new(&name.value).ok().filter(|id| is_step_name(id.as_str()));
        if id.is_none() && !name.value.is_empty() {
            // The schema's pattern would only say that it does not match.
            self.problems.retain(|problem| problem.code != codes::BAD_FORM || problem.span != name.span);
            let why = name_problem(&name.value, "a step").unwrap_or_else(|| format!("`{}` is no step id", name.value));
            let help = match suggested_id(&name.value) {
                Some(better) if self.ids.contains(&better) => format!("`{better}` is taken; choose another lower-case name"),
                Some(better) => format!("write `{better}`"),
                None => "use a lower-case letter, then letters, digits and _ (63 at most)".to_owned(),
            };
            self.report(codes::BAD_NAME, name.span, why, &help);
        }
        let line = self.line(head.start);
        Step {
            id,
            step_type: spanned(node.get("type")).unwrap_or(Spanned { value: String::new(), span: head }),
            needs: node
                .get("needs")
                .map(Node::items)
                .unwrap_or_default()
                .iter()
                .take(NEEDS_MAX)
                .filter_map(|need| spanned(Some(need)))
                .collect(),
            timeout_ms: period_ms(node.get("timeout")).unwrap_or(TIMEOUT_DEFAULT_MS),
            retry: self.retry(node.get("retry")),
            undo: self.undo(node.entry("undo"), &name),
            on_failure: on_failure(node.get("on_failure")),
            point_of_no_return: match node.get("point_of_no_return").and_then(Node::scalar).map(|scalar| &scalar.value) {
                Some(Value::Bool(true)) => Return::NoReturn,
                _ => Return::Possible,
            },
            line,
            head,
            condition: node.get("if").and_then(|node| self.written(node, "if")),
            asserts: match node.get("assert") {
                Some(list) if matches!(list.content, Content::List(_)) => {
                    list.items().iter().filter_map(|item| self.written(item, "assert")).collect()
                }
                Some(single) => self.written(single, "assert").into_iter().collect(),
                None => Vec::new(),
            },
            with: node.entry("with").map(|entry| With { key_span: entry.key_span, node: entry.value.clone() }),
            for_each: node.entry("for_each").map(for_each),
            keys: KEYS_OF_ATTEMPTS.iter().filter_map(|key| node.entry(key).map(|entry| (*key, entry.key_span))).collect(),
            name,
        }
    }

    /// `undo` in its short form, a word, or a step in place of the step type's own undo.
    fn undo(&mut self, entry: Option<&Entry>, of: &Spanned<String>) -> Undo {
        let Some(entry) = entry else { return Undo::Default };
        let node = &entry.value;
        if !matches!(node.content, Content::Map(_)) {
            return if node.text() == Some("never") { Undo::Never } else { Undo::Default };
        }
        let head = node.entries().first().map_or(entry.key_span, |first| first.key_span);
        Undo::Written(Box::new(Step {
            id: None,
            name: of.clone(),
            step_type: spanned(node.get("type")).unwrap_or(Spanned { value: String::new(), span: head }),
            needs: Vec::new(),
            timeout_ms: period_ms(node.get("timeout")).unwrap_or(TIMEOUT_DEFAULT_MS),
            retry: RETRY_DEFAULT,
            undo: Undo::Default,
            on_failure: None,
            point_of_no_return: Return::Possible,
            line: self.line(head.start),
            head,
            condition: None,
            asserts: Vec::new(),
            with: node.entry("with").map(|entry| With { key_span: entry.key_span, node: entry.value.clone() }),
            for_each: None,
            keys: Vec::new(),
        }))
    }

    fn written(&mut self, node: &Node, key: &str) -> Option<Written> {
        let scalar = node.scalar()?;
        if matches!(scalar.value, Value::Null | Value::Number(_)) {
            return None;
        }
        let inner = scalar.text.trim();
        if let Some(bare) = inner.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}")) {
            let help = format!("write {}", bare.trim());
            self.report(codes::BAD_EXPRESSION, node.span, format!("`{key}` is an expression already; it needs no `${{{{ }}}}`"), &help);
            return None;
        }
        Some(Written { text: scalar.text.clone(), node: node.clone() })
    }

    fn retry(&mut self, node: Option<&Node>) -> Retry {
        let Some(node) = node else { return RETRY_DEFAULT };
        let whole = |node: &Node| node.scalar().and_then(|scalar| scalar.value.as_u64()).and_then(|whole| u32::try_from(whole).ok());
        let attempts = node.get("attempts").and_then(whole).unwrap_or(1).clamp(1, 100);
        let class = |node: &Node| ErrorClass::ALL.into_iter().find(|class| node.text() == Some(class.word()));
        let on = node.get("on").map(|list| list.items().iter().filter_map(class).collect::<Vec<_>>().into());
        let mut retry = Retry { attempts, on, ..RETRY_DEFAULT };
        if let Some(backoff) = spanned(node.get("backoff")) {
            match backoff_of(&backoff.value) {
                Ok((min, max)) => (retry.backoff_min_ms, retry.backoff_max_ms) = (min, max),
                Err(why) => {
                    self.report(codes::BAD_DURATION, backoff.span, why, "write the shortest and the longest wait, for example 2s..30s")
                }
            }
            if attempts == 1 {
                let warning = Diagnostic::warning(codes::NO_EFFECT, backoff.span, "`backoff` has no effect: there is one attempt only");
                self.problems.push(warning.help("set `attempts` to 2 or more, or remove `backoff`"));
            }
        }
        retry
    }

    fn unique_ids(&mut self, runbook: &Runbook) {
        let mut first: HashMap<&str, u32> = HashMap::new();
        for step in runbook.all_steps() {
            let name = step.name.value.as_str();
            if name.is_empty() {
                continue;
            }
            match first.get(name) {
                Some(line) => {
                    let message = format!("the step id `{name}` is taken by line {line}");
                    self.report(codes::DUPLICATE_ID, step.name.span, message, "give one of the two another id");
                }
                None => {
                    first.insert(name, step.line);
                }
            }
        }
    }
}

/// `for_each` in its short form, a list, or its long one.
fn for_each(entry: &Entry) -> ForEach {
    let long = matches!(entry.value.content, Content::Map(_));
    let whole = |key: &str| {
        let node = entry.value.get(key).filter(|_| long)?;
        node.scalar().and_then(|scalar| scalar.value.as_u64()).and_then(|whole| u32::try_from(whole).ok()).filter(|whole| *whole > 0)
    };
    let list = if long { entry.value.get("list") } else { Some(&entry.value) };
    ForEach { key_span: entry.key_span, list: list.cloned(), max: whole("max"), concurrency: whole("concurrency") }
}

/// Shape of an input's values.
pub(crate) fn input_shape(input_type: InputType, one_of: Option<&[Value]>) -> Shape {
    let words = one_of.map(|values| values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
    Shape::of(match input_type {
        InputType::String => Kind::Text(TextRules { one_of: words.filter(|words| !words.is_empty()), ..TextRules::default() }),
        InputType::Integer => Kind::Int(shape::Limits { min: Some(i128::from(i64::MIN)), max: Some(i128::from(i64::MAX)) }),
        InputType::Number => Kind::Number(shape::Limits::default()),
        InputType::Boolean => Kind::Bool,
        InputType::Duration => Kind::Duration,
    })
}

fn spanned(node: Option<&Node>) -> Option<Spanned<String>> {
    let node = node?;
    node.text().map(|text| Spanned { value: text.to_owned(), span: node.span })
}

fn text(node: Option<&Node>) -> Option<String> {
    node.and_then(Node::text).map(str::to_owned)
}

fn period_ms(node: Option<&Node>) -> Option<u64> {
    node.and_then(Node::text).and_then(|text| Period::parse(text).ok()).map(Period::as_millis)
}

fn on_failure(node: Option<&Node>) -> Option<OnFailure> {
    match node.and_then(Node::text)? {
        "hold" => Some(OnFailure::Hold),
        "undo" => Some(OnFailure::Undo),
        "abort" => Some(OnFailure::Abort),
        _ => None,
    }
}

fn backoff_of(text: &str) -> Result<(u64, u64), String> {
    let (min, max) = text.split_once("..").ok_or_else(|| format!("{text:?} is no pair of waits"))?;
    let length =
        |part: &str| Period::parse(part.trim()).map(Period::as_millis).map_err(|why| why.split(';').next().unwrap_or(&why).to_owned());
    let (min, max) = (length(min)?, length(max)?);
    if min > max { Err(format!("{text:?} begins with the longer wait")) } else { Ok((min, max)) }
}

/// Which character of a name is wrong, with its number where it only looks right.
fn name_problem(name: &str, of: &str) -> Option<String> {
    let shown = crate::shape::literal::shortened(name);
    for (at, letter) in name.chars().enumerate() {
        let fits = letter.is_ascii_lowercase() || (at > 0 && (letter.is_ascii_digit() || letter == '_'));
        if !fits {
            let which =
                if letter.is_ascii() { format!("{letter:?}") } else { format!("'{letter}' (U+{:04X}, not ASCII)", u32::from(letter)) };
            let place = if at == 0 { "begins with".to_owned() } else { format!("has, as character {},", at + 1) };
            return Some(format!("`{shown}` is no name of {of}: it {place} {which}"));
        }
    }
    if name.is_empty() {
        return Some(format!("the name of {of} is empty"));
    }
    (name.len() > crate::names::STEP_ID_BYTES_MAX).then(|| format!("`{shown}` is too long a name of {of}"))
}

fn suggested_id(name: &str) -> Option<String> {
    let better: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|letter| if letter == '-' || letter == ' ' || letter == '.' { '_' } else { letter })
        .collect();
    is_step_name(&better).then_some(better)
}
