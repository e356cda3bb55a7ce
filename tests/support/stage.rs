//! A stage: a lab of real servers, the example's own inventory and runbook with the lab's addresses, and a data folder that is not there yet.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::lab::postgres::PRIMARY;
use xtask::lab::{Lab, Layout, Parts, dns, dns_query, root};
use xtask::look_until;

use super::process::{Ended, Going, PATIENCE, binary, run};

/// The replica that the example promotes.
pub(crate) const WEST: &str = "us-west-2";
/// The other replica.
pub(crate) const EUROPE: &str = "eu-west-1";

/// Real servers, and what describes them to Lifeboat.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    /// Holds the inventory, the runbook and the data folder.
    pub(crate) folder: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) runbook: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let lab = match Lab::lay_out(Layout::of_test(Parts::PostgresAndDns)) {
            Ok(lab) => lab,
            Err(error) => panic!("{error}"),
        };
        let folder = lab.folder().join("stage");
        make(&folder);
        let stage =
            Self { config: folder.join("lifeboat.yaml"), data: folder.join("data"), runbook: folder.join("runbook.yaml"), folder, lab };
        stage.inventory(|text| text);
        stage.write_runbook(|text| text);
        stage
    }

    /// Writes the example's inventory with the lab's addresses, changed by `change`.
    pub(crate) fn inventory(&self, change: impl FnOnce(String) -> String) {
        let mut text = example("lifeboat.yaml");
        let node = |region: &str| self.lab.node(region).address.to_string();
        let replacements = [
            ("127.0.77.1:15353", self.lab.dns().primary.to_string()),
            ("127.0.77.2:15353", self.lab.dns().secondary.to_string()),
            ("127.0.77.1", node(PRIMARY)),
            ("127.0.77.2", node(WEST)),
            ("127.0.77.3", node(EUROPE)),
            ("port: 15432", format!("port: {}", self.lab.node(PRIMARY).port)),
            ("../../target/demo/lab", self.lab.folder().display().to_string()),
            ("../../target/demo/heartbeat.json", self.folder.join("heartbeat.json").display().to_string()),
        ];
        for (old, new) in replacements {
            assert!(text.contains(old), "the example's inventory has no {old:?} any more");
            text = text.replace(old, &new);
        }
        write(&self.config, &change(text));
    }

    /// Writes the example's runbook, changed by `change`.
    pub(crate) fn write_runbook(&self, change: impl FnOnce(String) -> String) {
        write(&self.runbook, &change(example("runbook.yaml")));
    }

    /// A `lifeboat` command on this stage.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--config").arg(&self.config).arg("--data").arg(&self.data).args(words).current_dir(&self.folder);
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn lifeboat(&self, words: &[&str]) -> Ended {
        run(&mut self.command(words))
    }

    /// The words of the main job, which leave as soon as only a person can help.
    pub(crate) fn run_words(&self) -> Vec<&str> {
        vec!["run", self.runbook.to_str().unwrap_or_default(), "--no-wait"]
    }

    /// The report of the newest run.
    #[track_caller]
    pub(crate) fn report(&self) -> Value {
        self.lifeboat(&["report", "--format", "json"]).expect(0).json()
    }

    /// Starts `lifeboat heartbeat` and waits until a few beats are acknowledged.
    #[track_caller]
    pub(crate) fn beat(&self) -> Going {
        self.beat_in("orders-db")
    }

    /// The same in another database of the inventory.
    #[track_caller]
    pub(crate) fn beat_in(&self, db: &str) -> Going {
        let mut going = Going::start(&mut self.command(&["heartbeat", db, "--create-table"]));
        let file = self.folder.join("heartbeat.json");
        let beats = look_until(PATIENCE, || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let kept: Value = serde_json::from_str(&text).unwrap_or_default();
            let enough = kept["recent"].as_array().is_some_and(|recent| recent.len() >= 3);
            if enough { Some(true) } else { going.has_ended().then_some(false) }
        });
        assert_eq!(beats, Some(true), "the heartbeat does not beat:\n{}", going.lines().concat());
        going
    }

    /// What may be seen of the world from outside: equal before and after whatever changed nothing.
    #[track_caller]
    pub(crate) fn world(&self) -> World {
        let ask = |region: &str| {
            let node = self.lab.node(region);
            let sql = "select pg_is_in_recovery(), timeline_id from pg_control_checkpoint()";
            let promotions = node.log_count("received promote request").unwrap_or_else(|error| panic!("{error}"));
            let answer = node.psql("postgres", sql).unwrap_or_else(|error| format!("silent: {}", error.to_string().contains("refused")));
            (region.to_owned(), answer, promotions, node.data.join("standby.signal").exists())
        };
        World {
            nodes: [PRIMARY, WEST, EUROPE].map(ask).to_vec(),
            serial: self.lab.dns().serial().unwrap_or_else(|error| panic!("{error}")),
            addresses: self.lab.dns().addresses(dns::RECORD).map(|found| format!("{found:?}")).unwrap_or_default(),
        }
    }

    /// Fails the test unless the failover happened exactly once: one promotion, one fork, one change of the zone, everywhere.
    #[track_caller]
    pub(crate) fn assert_one_failover(&self) {
        let west = self.lab.node(WEST);
        assert_eq!(west.log_count("received promote request").unwrap_or_default(), 1, "promotions of {WEST}");
        assert_eq!(self.lab.node(EUROPE).log_count("received promote request").unwrap_or_default(), 0, "promotions of {EUROPE}");
        let role = west.psql("app", "select pg_is_in_recovery()").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(role, "f", "{WEST} is no primary");
        let histories: Vec<PathBuf> = std::fs::read_dir(west.data.join("pg_wal"))
            .unwrap_or_else(|error| panic!("{error}"))
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "history"))
            .collect();
        assert_eq!(histories.len(), 1, "{histories:?}");
        let history = std::fs::read_to_string(&histories[0]).unwrap_or_default();
        let forks = history.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).count();
        assert_eq!(forks, 1, "{history}");
        let dns = self.lab.dns();
        for server in [dns.primary, dns.secondary] {
            let serial = dns_query::serial(server, dns::ZONE).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(serial, dns::FIRST_SERIAL + 1, "the zone at {server}");
            let addresses = dns_query::addresses(server, dns::RECORD).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(addresses, [west.address], "{} at {server}", dns::RECORD);
        }
    }
}

/// What may be seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct World {
    nodes: Vec<(String, String, usize, bool)>,
    serial: u32,
    addresses: String,
}

/// A file of the example.
pub(crate) fn example(name: &str) -> String {
    let file = root().join("examples/postgres-failover").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[track_caller]
pub(crate) fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

#[track_caller]
pub(crate) fn make(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}
