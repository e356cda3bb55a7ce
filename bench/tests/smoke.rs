//! The bench runs: every workload of this process, small and once. Figures are no test's concern.

use std::process::Command;

#[test]
fn every_workload_can_be_measured_and_has_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat-bench"));
    command.args(["--quick", "--only", "store,syncs,chain,fan,runs,bytes,plans,memory", "--folder"]).arg(folder.path().join("bench"));
    let output = command.output().unwrap();
    let (table, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    for row in [
        "store alone",
        "syncs, chain",
        "chain of 50, step p50",
        "side by side and a join",
        "runs x 10",
        "bytes written",
        "planning",
        "runs in flight",
        "that wait for people",
    ] {
        assert!(table.contains(row), "no row for {row:?} in\n{table}");
    }
    assert!(!table.contains("MISSED"), "a small round has no verdict:\n{table}");
}

#[test]
fn a_rival_that_is_not_installed_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat-bench"));
    command
        .args(["--quick", "--only", "rivals", "--rivals"])
        .arg(folder.path().join("none"))
        .arg("--folder")
        .arg(folder.path().join("bench"));
    let output = command.output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for rival in ["Restate", "DBOS", "Temporal"] {
        assert!(table.lines().any(|line| line.contains(rival) && line.contains("--install-rivals")), "{rival} is not in\n{table}");
    }
}

#[test]
fn an_unknown_workload_is_refused_with_the_known_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_lifeboat-bench")).args(["--only", "tea"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("no workload tea") && told.contains("chain"), "{told}");
}
