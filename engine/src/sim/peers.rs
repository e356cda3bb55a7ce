//! What effects mean: databases with roles, timelines, write acceptance and replicated positions, and DNS records. Two writable
//! primaries and lost data are facts here, whatever the engine believes. Positions are milliseconds of commits since dawn.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// One node of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Whether it takes writes now.
    pub writable: bool,
    /// The history that it is on: raised by each promotion.
    pub timeline: u32,
    /// Commits up to here are in it; `None` while it takes writes and so has all.
    pub position_ms: Option<u64>,
    /// How far it is behind the node that it copies.
    pub lag_ms: u64,
}

/// A database: some nodes, of which one should take writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// Acknowledged commits that no node has which takes writes now, as the promotions caused it.
    pub lost_ms: u64,
}

/// All peers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Databases.
    pub databases: BTreeMap<String, Database>,
    /// What each DNS record answers.
    pub records: BTreeMap<String, String>,
    /// What each record answered before, for those who take their change back.
    before: BTreeMap<String, Vec<String>>,
}

fn text<'a>(with: &'a Value, key: &str) -> &'a str {
    with.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn ms(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Database {
    /// Names of the nodes that take writes.
    #[must_use]
    pub fn writable(&self) -> Vec<&str> {
        self.nodes.iter().filter(|(_, node)| node.writable).map(|(name, _)| name.as_str()).collect()
    }

    /// Takes no more writes from now. What it has stays where it is.
    fn stop(&mut self, name: &str, now: Duration) {
        if let Some(node) = self.nodes.get_mut(name).filter(|node| node.writable) {
            node.writable = false;
            node.position_ms = Some(ms(now));
        }
    }

    /// The last commit that was acknowledged by any node until now.
    fn acknowledged(&self, now: Duration) -> u64 {
        self.nodes.values().map(|node| if node.writable { ms(now) } else { node.position_ms.unwrap_or(0) }).max().unwrap_or(0)
    }

    /// What a promotion of this node loses now: acknowledged, and not in it.
    #[must_use]
    pub fn would_lose_ms(&self, name: &str, now: Duration) -> u64 {
        let acknowledged = self.acknowledged(now);
        let has = self.nodes.get(name).map_or(0, |node| node.position_ms.unwrap_or_else(|| acknowledged.saturating_sub(node.lag_ms)));
        acknowledged.saturating_sub(has)
    }

    fn promote(&mut self, name: &str, now: Duration) {
        let lost = self.would_lose_ms(name, now);
        let timeline = self.nodes.values().map(|node| node.timeline).max().unwrap_or(0) + 1;
        if let Some(node) = self.nodes.get_mut(name).filter(|node| !node.writable) {
            node.writable = true;
            node.timeline = timeline;
            node.position_ms = None;
            self.lost_ms += lost;
        }
    }
}

impl Peers {
    /// A primary and one replica that is so many milliseconds behind.
    pub fn add_database(&mut self, name: &str, primary: &str, replica: &str, lag_ms: u64) {
        let node = |writable, lag_ms| Node { writable, timeline: 1, position_ms: None, lag_ms };
        let nodes = BTreeMap::from([(primary.to_owned(), node(true, 0)), (replica.to_owned(), node(false, lag_ms))]);
        self.databases.insert(name.to_owned(), Database { nodes, lost_ms: 0 });
    }

    /// A record that answers this.
    pub fn add_record(&mut self, name: &str, answer: &str) {
        self.records.insert(name.to_owned(), answer.to_owned());
    }

    /// A node stops taking writes by itself.
    pub fn dies(&mut self, database: &str, node: &str, now: Duration) {
        if let Some(database) = self.databases.get_mut(database) {
            database.stop(node, now);
        }
    }

    /// The effect of a step came about. Says which law that broke.
    pub(super) fn landed(&mut self, step_type: &str, with: &Value, now: Duration) -> Option<String> {
        let database = text(with, "db");
        match step_type {
            "fence-db" => self.databases.get_mut(database)?.stop(text(with, "node"), now),
            "promote-db" => self.databases.get_mut(database)?.promote(text(with, "node"), now),
            "update-dns" => {
                let (record, to) = (text(with, "record"), text(with, "to"));
                let before = self.records.insert(record.to_owned(), to.to_owned());
                self.before.entry(record.to_owned()).or_default().extend(before);
            }
            _ => {}
        }
        self.broken(database)
    }

    /// The effect of a step was taken back. Says which law that broke.
    pub(super) fn taken_back(&mut self, step_type: &str, with: &Value, now: Duration) -> Option<String> {
        let database = text(with, "db");
        match step_type {
            // Whatever was fenced takes writes again.
            "fence-db" => {
                if let Some(node) = self.databases.get_mut(database)?.nodes.get_mut(text(with, "node")) {
                    node.writable = true;
                    node.position_ms = None;
                }
            }
            "promote-db" => self.databases.get_mut(database)?.stop(text(with, "node"), now),
            "update-dns" => {
                let record = text(with, "record");
                if let Some(before) = self.before.get_mut(record).and_then(Vec::pop) {
                    self.records.insert(record.to_owned(), before);
                }
            }
            _ => {}
        }
        self.broken(database)
    }

    fn broken(&self, database: &str) -> Option<String> {
        let writable = self.databases.get(database)?.writable();
        (writable.len() > 1).then(|| format!("{} take writes for {database} at the same time", writable.join(" and ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn orders() -> Peers {
        let mut peers = Peers::default();
        peers.add_database("orders", "a", "b", 3000);
        peers
    }

    #[test]
    fn a_promotion_beside_a_writable_primary_is_two_primaries() {
        let at = Duration::from_secs(10);
        let mut peers = orders();
        assert!(peers.landed("promote-db", &json!({"db": "orders", "node": "b"}), at).is_some());
        let mut peers = orders();
        assert_eq!(peers.landed("fence-db", &json!({"db": "orders", "node": "a"}), at), None);
        assert_eq!(peers.landed("promote-db", &json!({"db": "orders", "node": "b"}), at), None);
        assert!(peers.taken_back("fence-db", &json!({"db": "orders", "node": "a"}), at).is_some());
    }

    #[test]
    fn what_was_acknowledged_and_not_copied_is_lost() {
        let mut peers = orders();
        peers.dies("orders", "a", Duration::from_secs(10));
        peers.landed("promote-db", &json!({"db": "orders", "node": "b"}), Duration::from_secs(60));
        assert_eq!(peers.databases["orders"].lost_ms, 3000, "the copy stood still with the primary");
    }
}
