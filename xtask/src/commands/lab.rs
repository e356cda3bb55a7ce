//! `cargo xtask lab`: a lab to play with, until its input ends or Ctrl-C. Lays out nothing of its own.

use std::io::Read as _;

use xtask::lab::postgres::{DATABASE, REGIONS};
use xtask::lab::{Lab, Layout, Parts, install};
use xtask::{Result, Trouble};

/// Starts a lab, says how to reach it, and ends it when the input ends.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if let Some(word) = words.first() {
        return Err(Trouble::new(format!("`lab` takes no argument, found `{word}`")));
    }
    install::peers(&mut |line| println!("{line}"))?;
    let farewell = "the lab is cleaned up".to_owned();
    let lab = Lab::lay_out(Layout { farewell, ..Layout::of_test(Parts::PostgresAndDns) })?;
    for region in REGIONS {
        let node = lab.node(region);
        let secret = lab.secret("app");
        println!("{region}: PGPASSWORD=$(cat {}) psql -h {} -p {} -U app {DATABASE}", secret.display(), node.address, node.port);
    }
    let dns = lab.dns();
    println!("dns: kdig @{} -p {} db.orders.lab", dns.primary.ip(), dns.primary.port());
    println!("lab: {}", lab.folder().display());
    // The content does not matter, only its end does.
    let mut ignored = Vec::new();
    let _ended = std::io::stdin().read_to_end(&mut ignored);
    Ok(())
}
