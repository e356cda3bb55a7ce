//! Values of expressions against an evaluator of our own: random trees of numbers, truths and texts are worth what their tree says, however
//! they are written down.

use std::collections::BTreeMap;

use lifeboat_runbooks::expr::{Scope, fill, is_true};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A number.
#[derive(Clone, Debug)]
enum Number {
    Is(i64),
    Input,
    Sum(Box<Number>, Box<Number>),
    Difference(Box<Number>, Box<Number>),
    Product(Box<Number>, Box<Number>),
    Negative(Box<Number>),
    /// Of numbers that are never 0.
    Quotient(Box<Number>, i64),
    Rest(Box<Number>, i64),
    Choice(Box<Truth>, Box<Number>, Box<Number>),
    Size(Text),
    ListSize(Vec<i64>),
}

/// A truth.
#[derive(Clone, Debug)]
enum Truth {
    Is(bool),
    Input,
    Both(Box<Truth>, Box<Truth>),
    Either(Box<Truth>, Box<Truth>),
    Not(Box<Truth>),
    Compared(Box<Number>, &'static str, Box<Number>),
    Same(Text, Text),
    Within(Box<Number>, Vec<i64>),
    AllBelow(Vec<i64>, i64),
    AnyBelow(Vec<i64>, i64),
    Begins(Text, Text),
}

/// A text.
#[derive(Clone, Debug)]
struct Text(String);

const N: i64 = 3;
const FLAG: bool = true;

impl Number {
    /// `None` where it leaves the numbers that there are.
    fn worth(&self) -> Option<i64> {
        match self {
            Self::Is(n) => Some(*n),
            Self::Input => Some(N),
            Self::Sum(a, b) => a.worth()?.checked_add(b.worth()?),
            Self::Difference(a, b) => a.worth()?.checked_sub(b.worth()?),
            Self::Product(a, b) => a.worth()?.checked_mul(b.worth()?),
            Self::Negative(a) => a.worth()?.checked_neg(),
            Self::Quotient(a, by) => a.worth()?.checked_div(*by),
            Self::Rest(a, by) => a.worth()?.checked_rem(*by),
            // Only the branch that is taken has to have a value.
            Self::Choice(which, a, b) => {
                if which.worth()? {
                    a.worth()
                } else {
                    b.worth()
                }
            }
            Self::Size(text) => i64::try_from(text.0.chars().count()).ok(),
            Self::ListSize(items) => i64::try_from(items.len()).ok(),
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Is(n) if *n < 0 => format!("({n})"),
            Self::Is(n) => n.to_string(),
            Self::Input => "inputs.n".into(),
            Self::Sum(a, b) => format!("({} + {})", a.written(), b.written()),
            Self::Difference(a, b) => format!("({} - {})", a.written(), b.written()),
            Self::Product(a, b) => format!("({} * {})", a.written(), b.written()),
            Self::Negative(a) => format!("(-{})", a.written()),
            Self::Quotient(a, by) => format!("({} / {})", a.written(), Self::Is(*by).written()),
            Self::Rest(a, by) => format!("({} % {})", a.written(), Self::Is(*by).written()),
            Self::Choice(which, a, b) => format!("({} ? {} : {})", which.written(), a.written(), b.written()),
            Self::Size(text) => format!("size({})", text.written()),
            Self::ListSize(items) => format!("size({items:?})"),
        }
    }
}

impl Truth {
    fn worth(&self) -> Option<bool> {
        match self {
            Self::Is(truth) => Some(*truth),
            Self::Input => Some(FLAG),
            Self::Both(a, b) => Some(a.worth()? && b.worth()?),
            Self::Either(a, b) => Some(a.worth()? || b.worth()?),
            Self::Not(a) => Some(!a.worth()?),
            Self::Compared(a, how, b) => {
                let order = a.worth()?.cmp(&b.worth()?);
                Some(match *how {
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    ">=" => order.is_ge(),
                    "==" => order.is_eq(),
                    _ => order.is_ne(),
                })
            }
            Self::Same(a, b) => Some(a.0 == b.0),
            Self::Within(a, items) => Some(items.contains(&a.worth()?)),
            Self::AllBelow(items, end) => Some(items.iter().all(|item| item < end)),
            Self::AnyBelow(items, end) => Some(items.iter().any(|item| item < end)),
            Self::Begins(a, b) => Some(a.0.starts_with(&b.0)),
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Is(truth) => truth.to_string(),
            Self::Input => "inputs.flag".into(),
            Self::Both(a, b) => format!("({} && {})", a.written(), b.written()),
            Self::Either(a, b) => format!("({} || {})", a.written(), b.written()),
            Self::Not(a) => format!("!{}", a.written()),
            Self::Compared(a, how, b) => format!("({} {how} {})", a.written(), b.written()),
            Self::Same(a, b) => format!("({} == {})", a.written(), b.written()),
            Self::Within(a, items) => format!("({} in {items:?})", a.written()),
            Self::AllBelow(items, end) => format!("{items:?}.all(x, x < {end})"),
            Self::AnyBelow(items, end) => format!("{items:?}.exists(x, x < {end})"),
            Self::Begins(a, b) => format!("{}.startsWith({})", a.written(), b.written()),
        }
    }
}

impl Text {
    fn written(&self) -> String {
        Value::String(self.0.clone()).to_string()
    }
}

fn text() -> impl Strategy<Value = Text> {
    "[a-cé ß-]{0,4}".prop_map(Text)
}

fn list() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(-3..4_i64, 0..4)
}

fn leaf() -> impl Strategy<Value = Number> {
    prop_oneof![
        4 => (-9..10_i64).prop_map(Number::Is),
        1 => Just(Number::Input),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN + 1, 1 << 40]).prop_map(Number::Is),
        1 => text().prop_map(Number::Size),
        1 => list().prop_map(Number::ListSize),
    ]
}

fn simple_truth() -> impl Strategy<Value = Truth> {
    prop_oneof![
        any::<bool>().prop_map(Truth::Is),
        Just(Truth::Input),
        (text(), text()).prop_map(|(a, b)| Truth::Same(a, b)),
        (text(), text()).prop_map(|(a, b)| Truth::Begins(a, b)),
        (list(), -3..4_i64).prop_map(|(items, end)| Truth::AllBelow(items, end)),
        (list(), -3..4_i64).prop_map(|(items, end)| Truth::AnyBelow(items, end)),
    ]
}

fn number() -> impl Strategy<Value = Number> {
    leaf().prop_recursive(3, 16, 3, |inner| {
        let two = || (inner.clone(), inner.clone()).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
        let by = prop_oneof![1..6_i64, -5..0_i64];
        prop_oneof![
            two().prop_map(|(a, b)| Number::Sum(a, b)),
            two().prop_map(|(a, b)| Number::Difference(a, b)),
            two().prop_map(|(a, b)| Number::Product(a, b)),
            inner.clone().prop_map(|a| Number::Negative(Box::new(a))),
            (inner.clone(), by.clone()).prop_map(|(a, by)| Number::Quotient(Box::new(a), by)),
            (inner.clone(), by).prop_map(|(a, by)| Number::Rest(Box::new(a), by)),
            (simple_truth(), inner.clone(), inner.clone()).prop_map(|(which, a, b)| Number::Choice(
                Box::new(which),
                Box::new(a),
                Box::new(b)
            )),
        ]
    })
}

fn truth() -> impl Strategy<Value = Truth> {
    let how = || prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let base = prop_oneof![
        1 => simple_truth(),
        2 => (number(), how(), number()).prop_map(|(a, how, b)| Truth::Compared(Box::new(a), how, Box::new(b))),
        1 => (number(), list()).prop_map(|(a, items)| Truth::Within(Box::new(a), items)),
    ];
    base.prop_recursive(2, 8, 2, |inner| {
        let two = || (inner.clone(), inner.clone()).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
        prop_oneof![
            two().prop_map(|(a, b)| Truth::Both(a, b)),
            two().prop_map(|(a, b)| Truth::Either(a, b)),
            inner.clone().prop_map(|a| Truth::Not(Box::new(a))),
        ]
    })
}

fn inputs() -> BTreeMap<String, Value> {
    BTreeMap::from([("n".to_owned(), json!(N)), ("flag".to_owned(), json!(FLAG))])
}

/// How deep brackets stand in each other. The language has a limit, and tests for it elsewhere.
fn depth(written: &str) -> usize {
    let mut open: usize = 0;
    let mut most = 0;
    for letter in written.chars() {
        match letter {
            '(' | '[' => open += 1,
            ')' | ']' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

const DEPTH_MAX: usize = 7;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_number_is_worth_what_its_tree_says(number in number()) {
        let (inputs, steps) = (inputs(), BTreeMap::new());
        let scope = Scope::new("failover", &inputs, &steps);
        let written = number.written();
        prop_assume!(depth(&written) <= DEPTH_MAX);
        let got = fill(&json!(format!("${{{{ {written} }}}}")), &scope);
        match number.worth() {
            Some(wanted) => prop_assert_eq!(got.unwrap(), json!(wanted), "{}", written),
            // What leaves the numbers that there are is an error, never another number.
            None => prop_assert!(got.is_err(), "{} is {:?}", written, got),
        }
    }

    #[test]
    fn a_truth_is_what_its_tree_says_wherever_it_stands(truth in truth()) {
        let (inputs, steps) = (inputs(), BTreeMap::new());
        let scope = Scope::new("failover", &inputs, &steps);
        let written = truth.written();
        prop_assume!(depth(&written) < DEPTH_MAX);
        // A part that has no value may be passed over, where the other part decides: then there is nothing to hold it against.
        let Some(wanted) = truth.worth() else { return Ok(()) };
        prop_assert_eq!(is_true(&written, &scope).unwrap(), wanted, "{}", written);
        prop_assert_eq!(fill(&json!(format!("${{{{ {written} }}}}")), &scope).unwrap(), json!(wanted));
        // Joined with text it is text.
        prop_assert_eq!(fill(&json!(format!("it is ${{{{ {written} }}}}")), &scope).unwrap(), json!(format!("it is {wanted}")));
        // Twice not is the same.
        prop_assert_eq!(is_true(&format!("!!({written})"), &scope).unwrap(), wanted);
    }
}
