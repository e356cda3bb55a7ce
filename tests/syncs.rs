//! What a step costs the disk: a step with nothing to look at first shares its intent's commit with the outcome before it, one sync a step.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use support::process::{binary, run};
use support::stage::write;

/// How many syncs more a chain twice as long may cost: one for each of its hundred steps more, and two for what a file's growth may add.
const SYNCS_MORE_MAX: usize = 102;

#[test]
fn a_chain_of_steps_costs_one_sync_for_each_step() {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let (short, long) = (syncs(folder.path(), 100), syncs(folder.path(), 200));
    println!("100 steps: {short} syncs; 200 steps: {long}");
    assert!(short >= 100, "{short} syncs cannot have made the outcomes of 100 steps durable one after the other");
    assert!(long - short <= SYNCS_MORE_MAX, "a hundred steps more cost {} syncs more ({short}, {long})", long - short);
}

/// Runs a chain of steps under strace and counts what it waited for.
fn syncs(folder: &Path, steps: usize) -> usize {
    let (config, runbook, calls) =
        (folder.join("lifeboat.yaml"), folder.join(format!("{steps}.yaml")), folder.join(format!("{steps}.strace")));
    write(&config, "lifeboat: v1\n");
    let mut text = format!("lifeboat: v1\nname: chain-{steps}\nsteps:\n");
    for step in 0..steps {
        let needs = if step == 0 { String::new() } else { format!("    needs: [s{}]\n", step - 1) };
        let _written = write!(text, "  - id: s{step}\n    type: wait\n{needs}    with: {{ for: 1ms }}\n");
    }
    write(&runbook, &text);
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-e", "trace=fdatasync,fsync,sync_file_range,msync,sync", "-o"]).arg(&calls).arg(binary());
    command.arg("--config").arg(&config).arg("--data").arg(folder.join(format!("data-{steps}"))).arg("run").arg(&runbook);
    let ended = run(command.args(["--format", "json"])).expect(0);
    let report = ended.json();
    assert_eq!(report["outcome"], "succeeded");
    assert_eq!(report["steps"].as_array().map(Vec::len), Some(steps));
    let calls = std::fs::read_to_string(&calls).unwrap_or_else(|error| panic!("{error}"));
    // A call that another thread interrupted in the trace is told twice: once begun, once resumed.
    calls.lines().filter(|line| !line.contains("resumed>") && ["fsync(", "fdatasync("].iter().any(|call| line.contains(call))).count()
}
