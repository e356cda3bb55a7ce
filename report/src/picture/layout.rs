//! Places a directed acyclic graph in layers, top to bottom. Knows nothing of steps: nodes are numbers, sizes are given.

/// A node to place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) width: f64,
}

/// Where things are: node centres, layer of each node, and the bends of each edge from its source's centre to its target's.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) x: Vec<f64>,
    pub(super) layer: Vec<usize>,
    pub(super) layers: usize,
    /// For each edge, the x of its bend in each layer strictly between its ends.
    pub(super) bends: Vec<Vec<f64>>,
    pub(super) width: f64,
}

/// Space between neighbours in a layer.
const GAP: f64 = 26.0;

/// Room for an edge that passes a layer.
const PASSING: f64 = 14.0;

/// Rounds of ordering and of straightening: more changes little on plans that people write.
const ROUNDS: usize = 8;

/// Most points at which edges pass layers: counting their crossings costs the square of those in one layer.
const PASSES_MAX: usize = 6_000;

/// Places nodes. Edges are (from, to) with from before to in the numbering, which makes the graph acyclic. Nothing where the edges
/// pass more layers than can be drawn.
pub(super) fn place(nodes: &[Node], edges: &[(usize, usize)]) -> Option<Layout> {
    let mut layer = vec![0; nodes.len()];
    for &(from, to) in sorted(edges).iter() {
        assert!(from < to && to < nodes.len(), "edges go forward in the plan's order");
        layer[to] = layer[to].max(layer[from] + 1);
    }
    let layers = layer.iter().max().map_or(0, |last| last + 1);
    let passes: usize = edges.iter().map(|(from, to)| layer[*to] - layer[*from] - 1).sum();
    if passes > PASSES_MAX {
        return None;
    }
    let mut net = Net::new(nodes, edges, &layer, layers);
    net.order();
    net.straighten();
    net.plumb(edges);
    let left = net.all().map(|v| net.x[v] - net.width[v] / 2.0).fold(f64::INFINITY, f64::min);
    let right = net.all().map(|v| net.x[v] + net.width[v] / 2.0).fold(0.0, f64::max);
    let left = if left.is_finite() { left } else { 0.0 };
    Some(Layout {
        x: net.x[..nodes.len()].iter().map(|x| x - left).collect(),
        layer,
        layers,
        bends: net.chains.iter().map(|chain| chain.iter().map(|v| net.x[*v] - left).collect()).collect(),
        width: (right - left).max(0.0),
    })
}

/// By source: a longest path needs each layer final before it is passed on.
fn sorted(edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut edges = edges.to_vec();
    edges.sort_unstable();
    edges
}

/// The graph with a point for each layer that an edge passes, so that every edge joins neighbouring layers.
struct Net {
    /// Numbers below this are nodes, the rest points that edges pass.
    nodes: usize,
    rows: Vec<Vec<usize>>,
    above: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
    width: Vec<f64>,
    x: Vec<f64>,
    chains: Vec<Vec<usize>>,
}

impl Net {
    fn new(nodes: &[Node], edges: &[(usize, usize)], layer: &[usize], layers: usize) -> Self {
        let mut net = Self {
            nodes: nodes.len(),
            rows: vec![Vec::new(); layers],
            above: vec![Vec::new(); nodes.len()],
            below: vec![Vec::new(); nodes.len()],
            width: nodes.iter().map(|node| node.width).collect(),
            x: vec![0.0; nodes.len()],
            chains: Vec::with_capacity(edges.len()),
        };
        for (node, row) in layer.iter().enumerate() {
            net.rows[*row].push(node);
        }
        for &(from, to) in edges {
            let mut chain = Vec::new();
            let mut last = from;
            for row in layer[from] + 1..layer[to] {
                let point = net.width.len();
                net.width.push(PASSING);
                net.x.push(0.0);
                net.above.push(Vec::new());
                net.below.push(Vec::new());
                net.rows[row].push(point);
                net.join(last, point);
                chain.push(point);
                last = point;
            }
            net.join(last, to);
            net.chains.push(chain);
        }
        net
    }

    fn join(&mut self, upper: usize, lower: usize) {
        self.below[upper].push(lower);
        self.above[lower].push(upper);
    }

    fn all(&self) -> impl Iterator<Item = usize> + '_ {
        self.rows.iter().flatten().copied()
    }

    /// Orders each layer by the middle of its neighbours, sweeping down and up, and keeps the order with the fewest crossings.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.rows.clone());
        for round in 0..ROUNDS {
            let down = round % 2 == 0;
            let sequence: Vec<usize> =
                if down { (1..self.rows.len()).collect() } else { (0..self.rows.len().saturating_sub(1)).rev().collect() };
            for row in sequence {
                let place = self.places();
                let neighbours = if down { &self.above } else { &self.below };
                let mut keyed: Vec<(f64, usize)> =
                    self.rows[row].iter().map(|v| (mean(&neighbours[*v], &place).unwrap_or(place[*v]), *v)).collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.rows[row] = keyed.into_iter().map(|(_, v)| v).collect();
            }
            let now = self.crossings();
            if now < best.0 {
                best = (now, self.rows.clone());
            }
        }
        self.rows = best.1;
    }

    #[expect(clippy::cast_precision_loss, reason = "places in a layer are small")]
    fn places(&self) -> Vec<f64> {
        let mut place = vec![0.0; self.width.len()];
        for row in &self.rows {
            for (index, v) in row.iter().enumerate() {
                place[*v] = index as f64 - row.len() as f64 / 2.0;
            }
        }
        place
    }

    fn crossings(&self) -> usize {
        let place = self.places();
        let mut count = 0;
        for row in &self.rows {
            let mut ends: Vec<(f64, f64)> =
                row.iter().flat_map(|v| self.below[*v].iter().map(|w| (place[*v], place[*w])).collect::<Vec<_>>()).collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            for (index, one) in ends.iter().enumerate() {
                count += ends[index + 1..].iter().filter(|other| other.0 > one.0 && other.1 < one.1).count();
            }
        }
        count
    }

    /// Moves each layer as near as its order allows to the middle of its neighbours.
    fn straighten(&mut self) {
        for row in 0..self.rows.len() {
            let order = self.rows[row].clone();
            self.settle(&order, &vec![0.0; order.len()]);
        }
        for round in 0..2 * ROUNDS {
            let sequence: Vec<usize> = if round % 2 == 0 { (0..self.rows.len()).collect() } else { (0..self.rows.len()).rev().collect() };
            for row in sequence {
                let order = self.rows[row].clone();
                let wishes: Vec<f64> = order.iter().map(|v| self.wish(*v)).collect();
                self.settle(&order, &wishes);
            }
        }
    }

    /// Hangs each long edge on one line where its neighbours leave room: best under its source, else over its target.
    fn plumb(&mut self, edges: &[(usize, usize)]) {
        let mut beside = vec![(f64::NEG_INFINITY, f64::INFINITY); self.width.len()];
        for (edge, chain) in self.chains.clone().into_iter().enumerate() {
            for row in &self.rows {
                for (index, v) in row.iter().enumerate() {
                    let room = |w: usize| f64::midpoint(self.width[w], self.width[*v]) + GAP / 2.0;
                    beside[*v] = (
                        index.checked_sub(1).map_or(f64::NEG_INFINITY, |left| self.x[row[left]] + room(row[left])),
                        row.get(index + 1).map_or(f64::INFINITY, |right| self.x[*right] - room(*right)),
                    );
                }
            }
            let low = chain.iter().map(|v| beside[*v].0).fold(f64::NEG_INFINITY, f64::max);
            let high = chain.iter().map(|v| beside[*v].1).fold(f64::INFINITY, f64::min);
            if low > high {
                continue;
            }
            let (from, to) = (self.x[edges[edge].0], self.x[edges[edge].1]);
            let x = if (low..=high).contains(&from) || !(low..=high).contains(&to) { from.clamp(low, high) } else { to };
            for v in chain {
                self.x[v] = x;
            }
        }
    }

    fn passes(&self, v: usize) -> bool {
        v >= self.nodes
    }

    /// The middle of the neighbours. Points of the same long edge pull at each other most, so that it runs straight.
    fn wish(&self, v: usize) -> f64 {
        let (mut sum, mut weight) = (0.0, 0.0);
        for w in self.above[v].iter().chain(&self.below[v]) {
            let pull = match (self.passes(v), self.passes(*w)) {
                (true, true) => 8.0,
                (true, false) | (false, true) => 2.0,
                (false, false) => 1.0,
            };
            (sum, weight) = (sum + pull * self.x[*w], weight + pull);
        }
        if weight > 0.0 { sum / weight } else { self.x[v] }
    }

    /// The nearest places to the wishes that keep order and distance (pool adjacent violators). Bends weigh more than boxes.
    fn settle(&mut self, order: &[usize], wishes: &[f64]) {
        let mut offset = Vec::with_capacity(order.len());
        let mut total = 0.0;
        for (index, v) in order.iter().enumerate() {
            if index > 0 {
                total += (self.width[order[index - 1]] + self.width[*v]) / 2.0 + GAP;
            }
            offset.push(total);
        }
        // Blocks of (weighted sum, weight, count): neighbours that would overlap share their mean.
        let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
        for (v, (wish, offset)) in order.iter().zip(wishes.iter().zip(&offset)) {
            let weight = if self.passes(*v) { 6.0 } else { 1.0 };
            let mut block = (weight * (wish - offset), weight, 1);
            while let Some(last) = blocks.pop_if(|last| last.0 / last.1 > block.0 / block.1) {
                block = (block.0 + last.0, block.1 + last.1, block.2 + last.2);
            }
            blocks.push(block);
        }
        let mut index = 0;
        for (sum, weight, count) in blocks {
            for _ in 0..count {
                self.x[order[index]] = sum / weight + offset[index];
                index += 1;
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "neighbours are few")]
fn mean(of: &[usize], values: &[f64]) -> Option<f64> {
    (!of.is_empty()).then(|| of.iter().map(|v| values[*v]).sum::<f64>() / of.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxes(count: usize) -> Vec<Node> {
        vec![Node { width: 200.0 }; count]
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let layout = place(&boxes(4), &[(0, 1), (1, 2), (2, 3)]).unwrap();
        assert_eq!(layout.layer, [0, 1, 2, 3]);
        assert!(layout.x.iter().all(|x| (x - 100.0).abs() < 1e-6), "{:?}", layout.x);
    }

    #[test]
    fn a_long_edge_goes_around_what_lies_between_its_ends() {
        let layout = place(&boxes(4), &[(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]).unwrap();
        assert!((layout.x[1] - layout.x[2]).abs() >= 226.0 - 1e-6);
        assert_eq!(layout.bends[4].len(), 1);
        assert!([1, 2].iter().all(|node| (layout.bends[4][0] - layout.x[*node]).abs() > 100.0), "{layout:?}");
    }

    #[test]
    fn more_than_can_be_drawn_is_not_tried() {
        let mut edges: Vec<(usize, usize)> = (1..300).map(|to| (to - 1, to)).collect();
        edges.extend((0..150).flat_map(|from| (0..10).map(move |to| (from, 290 + to))));
        assert!(place(&boxes(300), &edges).is_none());
    }

    #[test]
    fn avoidable_crossings_are_avoided() {
        let layout = place(&boxes(6), &[(0, 5), (1, 4), (2, 3)]).unwrap();
        let pairs = [(0, 5), (1, 4), (2, 3)];
        for (a, b) in pairs {
            for (c, d) in pairs {
                assert!(!(layout.x[a] < layout.x[c] && layout.x[b] > layout.x[d]), "{a}-{b} crosses {c}-{d}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_two_nodes_overlap(edges in prop::collection::vec((0usize..12, 0usize..12), 0..24)) {
            let mut edges: Vec<(usize, usize)> = edges.into_iter().filter(|(a, b)| a < b).collect();
            edges.sort_unstable();
            edges.dedup();
            let layout = place(&boxes(12), &edges).unwrap();
            for a in 0..12 {
                prop_assert!(layout.x[a] >= 100.0 - 1e-6 && layout.x[a] + 100.0 <= layout.width + 1e-6);
                for b in 0..a {
                    prop_assert!(layout.layer[a] != layout.layer[b] || (layout.x[a] - layout.x[b]).abs() >= 200.0);
                }
            }
            for (from, to) in edges { prop_assert!(layout.layer[from] < layout.layer[to]); }
        }
    }
}
