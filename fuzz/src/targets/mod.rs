//! The targets: what reads bytes that people, disks or other programs wrote. Each runs an input, checks what must hold, and sums up
//! what it saw in a number.

mod expression;
mod journal;
mod yaml;

#[path = "../../../runbooks/tests/catalog/mod.rs"]
mod catalog;

use std::hash::{Hash, Hasher};
use std::path::Path;

use crate::chance::Chance;
use crate::mutate;

/// A target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The YAML reader: `parse`, `check`, `plan`, the drawing of problems, and test files.
    Yaml,
    /// The decoder of journal entries, and `Run::apply` over whatever it gives.
    Journal,
    /// Expressions: the parser, the checker and the evaluator.
    Expression,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Yaml, Self::Journal, Self::Expression];

    /// `yaml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Journal => "journal",
            Self::Expression => "expression",
        }
    }

    /// Runs an input. Panics where something does not hold that must.
    #[must_use]
    pub fn run(self, input: &[u8]) -> Ran {
        match self {
            Self::Yaml => yaml::run(input),
            Self::Journal => journal::run(input),
            Self::Expression => expression::run(input),
        }
    }

    pub(crate) fn mutate(self, chance: &mut Chance, base: &[u8], other: &[u8]) -> Vec<u8> {
        let (text, others) = (String::from_utf8_lossy(base), String::from_utf8_lossy(other));
        let mut changed = match self {
            Self::Yaml => mutate::text(chance, &text, &others, &yaml::WORDS).into_bytes(),
            Self::Journal => journal::mutate(chance, &text, &others),
            Self::Expression => mutate::text(chance, &text, &others, &expression::WORDS).into_bytes(),
        };
        if chance.one_in(40) {
            mutate::bytes(chance, &mut changed);
        }
        changed
    }

    /// Folders of the repository that hold good inputs beside the target's own.
    pub(crate) fn more_seeds(self) -> &'static [&'static str] {
        match self {
            Self::Yaml => &["runbooks/tests/good", "runbooks/tests/bad", "runbooks/library", "examples"],
            Self::Journal | Self::Expression => &[],
        }
    }

    pub(crate) fn is_seed(self, path: &Path) -> bool {
        match self {
            Self::Yaml => path.extension().is_none_or(|end| end == "yaml"),
            Self::Journal | Self::Expression => true,
        }
    }

    /// Inputs that are made rather than kept.
    pub(crate) fn made_seeds(self) -> Vec<Vec<u8>> {
        match self {
            Self::Yaml => Vec::new(),
            Self::Journal => journal::seeds(),
            Self::Expression => expression::SEEDS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        }
    }
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// A number for what was seen.
    pub behaviour: u64,
    /// How far it came.
    pub reach: Reach,
}

/// How far an input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Something was wrong with it before the end.
    Refused,
    /// To the last stage: a plan was made, an entry was applied, an expression had a value.
    Whole,
}

fn ran(seen: impl Hash, whole: Whole) -> Ran {
    Ran { behaviour: behaviour(seen), reach: if whole.0 { Reach::Whole } else { Reach::Refused } }
}

/// Whether the last stage was reached.
#[derive(Clone, Copy)]
struct Whole(bool);

/// Some of the inputs, always the same ones: for parts of a target that repeat what another part has just done.
fn is_one_in(n: u64, input: &[u8]) -> bool {
    crate::corpus::sum(input).is_multiple_of(n)
}

/// A number for what was seen. The standard hasher's keys are fixed, so it is the same in each process.
fn behaviour(seen: impl Hash) -> u64 {
    #[expect(deprecated, reason = "its keys are fixed, which is what is wanted here")]
    let mut hasher = std::hash::SipHasher::new();
    seen.hash(&mut hasher);
    hasher.finish()
}

/// Numbers that only grow are told apart by their size, not each by each.
fn size(count: usize) -> u32 {
    usize::BITS - count.leading_zeros()
}
