//! What happened in a play, as lines and as their sum: two plays of one seed have the same sum.

use std::hash::{Hash as _, Hasher as _};

/// Lines of one play. Kept only on demand; their sum and number always.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    sum: u64,
    count: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn note(&mut self, words: impl FnOnce() -> String) {
        let line = words();
        // The standard hasher with its fixed keys: the sum needs to be the same in each process, not hard to forge.
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        (self.sum, &line).hash(&mut hasher);
        self.sum = hasher.finish();
        self.count += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }

    pub(super) fn keep_lines(&mut self) {
        self.lines.get_or_insert_with(Vec::new);
    }

    /// The sum of all lines in their order.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many lines.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lines, where they were kept.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
