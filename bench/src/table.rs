//! The table: one row for each workload, with its limit and its goal. What is measured is elsewhere.

/// Whether a goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// Nothing to reach: a figure beside another.
    Told,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) raw: String,
    pub(crate) ratio: String,
    pub(crate) goal: String,
    pub(crate) verdict: Verdict,
}

impl Row {
    pub(crate) fn new(what: &str, ours: impl Into<String>) -> Self {
        Self { what: what.into(), ours: ours.into(), raw: String::new(), ratio: String::new(), goal: String::new(), verdict: Verdict::Told }
    }

    pub(crate) fn raw(mut self, raw: impl Into<String>) -> Self {
        self.raw = raw.into();
        self
    }

    pub(crate) fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = format!("{ratio:.2}");
        self
    }

    /// What must be reached, and whether it is.
    pub(crate) fn goal(mut self, goal: impl Into<String>, reached: Verdict) -> Self {
        self.goal = goal.into();
        self.verdict = reached;
        self
    }
}

/// `Met` where the condition holds.
pub(crate) fn met_if(holds: Holds) -> Verdict {
    match holds {
        Holds::AtMost(value, limit) if value <= limit => Verdict::Met,
        Holds::AtLeast(value, limit) if value >= limit => Verdict::Met,
        Holds::AtMost(..) | Holds::AtLeast(..) => Verdict::Missed,
    }
}

/// A figure and its limit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holds {
    AtMost(f64, f64),
    AtLeast(f64, f64),
}

/// The rows as text, columns aligned.
pub(crate) fn text(rows: &[Row]) -> String {
    let head = ["workload", "ours", "raw limit", "ratio", "goal", ""].map(String::from);
    let lines: Vec<[String; 6]> = std::iter::once(head)
        .chain(rows.iter().map(|row| {
            let verdict = match row.verdict {
                Verdict::Met => "ok",
                Verdict::Missed => "MISSED",
                Verdict::Told => "",
            };
            [row.what.clone(), row.ours.clone(), row.raw.clone(), row.ratio.clone(), row.goal.clone(), verdict.into()]
        }))
        .collect();
    let mut text = String::new();
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
            text.push_str(cell);
            if column + 1 < line.len() {
                text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
