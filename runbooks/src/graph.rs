//! The graph of a runbook: what waits for what, in which order, and which steps are known to have ended before another. Circles and needs
//! that cannot be met are found here.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use petgraph::Direction;
use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::PROBLEMS_MAX;
use crate::runbook::{Runbook, Step};
use crate::suggest;

/// Steps by their place in the file (the main part first, then `finally`) and the needs between them.
pub(crate) struct Graph<'a> {
    pub steps: Vec<&'a Step>,
    /// Steps of the main part come before this place.
    pub main: usize,
    names: HashMap<&'a str, usize>,
    needs: DiGraph<(), Span, usize>,
    /// Every step after what it needs, ties in the order of the file; steps of circles are left out.
    pub order: Vec<usize>,
    /// For each step one bit for each step that ends before it.
    ancestors: Vec<Vec<u64>>,
    /// How many more unknown names are compared with all known ones.
    suggestions: Cell<u32>,
}

impl<'a> Graph<'a> {
    /// Builds the graph and reports what is wrong with it.
    pub(crate) fn of(runbook: &'a Runbook, problems: &mut Vec<Diagnostic>) -> Self {
        let steps: Vec<&Step> = runbook.all_steps().collect();
        let mut names = HashMap::new();
        for (index, step) in steps.iter().enumerate() {
            if !step.name.value.is_empty() {
                names.entry(step.name.value.as_str()).or_insert(index);
            }
        }
        let mut graph = Self {
            main: runbook.steps.len(),
            names,
            needs: DiGraph::default(),
            order: Vec::new(),
            ancestors: Vec::new(),
            steps,
            suggestions: Cell::new(SUGGESTIONS_MAX),
        };
        graph.steps.iter().for_each(|_| {
            graph.needs.add_node(());
        });
        for index in 0..graph.steps.len() {
            graph.connect(index, problems);
        }
        graph.circles(problems);
        graph.sort();
        graph
    }

    /// A step by name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Help for the name of a step that does not exist.
    pub(crate) fn instead(&self, wrong: &str, reader: Option<usize>) -> Option<String> {
        self.suggestions.set(self.suggestions.get().checked_sub(1)?);
        let reader = reader.map_or("", |reader| self.steps[reader].name.value.as_str());
        let known: Vec<&str> =
            self.steps.iter().map(|step| step.name.value.as_str()).filter(|name| !name.is_empty() && *name != reader).collect();
        crate::work::spend(known.len());
        suggest::instead(wrong, &known)
    }

    /// Whether the order of a step is known: steps of circles have none.
    pub(crate) fn is_ordered(&self, step: usize) -> bool {
        self.ancestors.get(step).is_some_and(|bits| !bits.is_empty())
    }

    /// Whether `before` has always ended when `step` starts.
    pub(crate) fn is_before(&self, before: usize, step: usize) -> bool {
        self.ancestors.get(step).and_then(|bits| bits.get(before / 64)).is_some_and(|word| word & (1 << (before % 64)) != 0)
    }

    /// The steps of the main part that no other one needs: where they have ended, all have.
    pub(crate) fn last(&self) -> impl Iterator<Item = &'a Step> {
        let is_last = |index: &usize| self.needs.neighbors_directed(NodeIndex::new(*index), Direction::Outgoing).next().is_none();
        (0..self.main).filter(is_last).map(|index| self.steps[index])
    }

    fn connect(&mut self, index: usize, problems: &mut Vec<Diagnostic>) {
        let step = self.steps[index];
        let mut seen: HashSet<&str> = HashSet::new();
        for need in &step.needs {
            let name = need.value.as_str();
            crate::work::spend(1);
            if problems.len() > PROBLEMS_MAX {
                return;
            }
            if !seen.insert(name) {
                problems
                    .push(Diagnostic::error(codes::BAD_NEED, need.span, format!("`{name}` stands twice here")).help("keep one of them"));
                continue;
            }
            let Some(before) = self.find(name) else {
                let problem = Diagnostic::error(codes::UNKNOWN_STEP, need.span, format!("there is no step `{name}`"));
                problems.push(problem.maybe_help(self.instead(name, Some(index))));
                continue;
            };
            match (index < self.main, before < self.main) {
                (true, false) => problems.push(
                    Diagnostic::error(codes::BAD_NEED, need.span, format!("`{name}` is a step of `finally`, which runs after all others"))
                        .help("remove it from `needs`"),
                ),
                (false, true) => problems.push(
                    Diagnostic::error(codes::BAD_NEED, need.span, format!("steps of `finally` run after all others, `{name}` included"))
                        .help("remove it: in `finally`, `needs` orders the steps of `finally` only"),
                ),
                (true, true) | (false, false) => {
                    self.needs.add_edge(NodeIndex::new(before), NodeIndex::new(index), need.span);
                }
            }
        }
    }

    fn circles(&self, problems: &mut Vec<Diagnostic>) {
        for mut circle in kosaraju_scc(&self.needs) {
            if problems.len() > PROBLEMS_MAX {
                return;
            }
            circle.sort_unstable();
            let first = circle[0];
            if circle.len() == 1 {
                if let Some(edge) = self.needs.find_edge(first, first) {
                    let name = &self.steps[first.index()].name.value;
                    let problem = Diagnostic::error(codes::CYCLE, self.needs[edge], format!("the step `{name}` needs itself"));
                    problems.push(problem.help("remove it from its own `needs`"));
                }
                continue;
            }
            let path = self.shortest_circle(first, &circle);
            let name = |node: &NodeIndex<usize>| self.steps[node.index()].name.value.as_str();
            let arrows: Vec<&str> = path.iter().chain(path.first()).map(name).collect();
            let mut places = Vec::new();
            for (waiting, before) in path.iter().zip(path.iter().skip(1).chain(path.first())).take(SHOWN_MAX) {
                let line = self.steps[waiting.index()].line;
                places.push(format!("`{}` (line {line}) needs `{}`", name(waiting), name(before)));
            }
            let span = self.needs.find_edge(path[1 % path.len()], path[0]).map_or(Span::default(), |edge| self.needs[edge]);
            let shown = if arrows.len() > SHOWN_MAX + 1 {
                format!("{} -> ... -> {}", arrows[..SHOWN_MAX].join(" -> "), arrows[arrows.len() - 1])
            } else {
                arrows.join(" -> ")
            };
            let message = format!("these steps wait for each other: {shown}");
            problems.push(Diagnostic::error(codes::CYCLE, span, message).help(format!("remove one of these: {}", places.join("; "))));
        }
    }

    /// The steps of a circle through `first`, each followed by one that it needs.
    fn shortest_circle(&self, first: NodeIndex<usize>, among: &[NodeIndex<usize>]) -> Vec<NodeIndex<usize>> {
        let mut towards: HashMap<NodeIndex<usize>, NodeIndex<usize>> = HashMap::new();
        let mut queue = VecDeque::from([first]);
        while let Some(step) = queue.pop_front() {
            crate::work::spend(1);
            for need in self.needs.neighbors_directed(step, Direction::Incoming) {
                if need == first {
                    let mut path = vec![step];
                    let mut here = step;
                    while let Some(before) = towards.get(&here) {
                        path.push(*before);
                        here = *before;
                    }
                    path.reverse();
                    return path;
                }
                if among.binary_search(&need).is_ok() && !towards.contains_key(&need) {
                    towards.insert(need, step);
                    queue.push_back(need);
                }
            }
        }
        vec![first]
    }

    fn sort(&mut self) {
        let count = self.steps.len();
        let words = count.div_ceil(64).max(1);
        let mut open: Vec<usize> =
            (0..count).map(|index| self.needs.neighbors_directed(NodeIndex::new(index), Direction::Incoming).count()).collect();
        let mut ready: BinaryHeap<Reverse<usize>> = (0..count).filter(|index| open[*index] == 0).map(Reverse).collect();
        self.ancestors = vec![Vec::new(); count];
        while let Some(Reverse(index)) = ready.pop() {
            let mut bits = vec![0_u64; words];
            for before in self.needs.neighbors_directed(NodeIndex::new(index), Direction::Incoming) {
                crate::work::spend(words / 8 + 1);
                bits[before.index() / 64] |= 1 << (before.index() % 64);
                for (word, more) in bits.iter_mut().zip(&self.ancestors[before.index()]) {
                    *word |= more;
                }
            }
            self.ancestors[index] = bits;
            self.order.push(index);
            for after in self.needs.neighbors_directed(NodeIndex::new(index), Direction::Outgoing) {
                open[after.index()] -= 1;
                if open[after.index()] == 0 {
                    ready.push(Reverse(after.index()));
                }
            }
        }
    }
}

/// How many unknown names of steps get a "did you mean": each is compared with all others.
const SUGGESTIONS_MAX: u32 = 50;

/// A longer circle is cut in messages.
const SHOWN_MAX: usize = 8;
