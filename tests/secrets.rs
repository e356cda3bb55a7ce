//! Canaries: secrets that a run reads and its programs say aloud, in every dress, in every place, must be nowhere afterwards: not in the raw
//! files of the store, not in what was printed, not in any report.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::process::{Ended, binary, run};
use support::stage::write;

/// Every canary: found by its middle too, in case an end was cut off.
const CANARIES: usize = 50;

/// Says its secret plain, in two halves with a pause, dressed up, on both outputs, and ends as it is told.
const PROGRAM: &str = r#"#!/bin/sh
echo "plain $TOKEN"; echo "plain $TOKEN" >&2
half=$(printf %s "$TOKEN" | cut -c1-10); rest=$(printf %s "$TOKEN" | cut -c11-)
printf %s "$half"; sleep 0.05; echo "$rest"
printf %s "$TOKEN" | base64 -w0; echo
printf 'user:%s' "$TOKEN" | base64 -w0; echo
printf %s "$TOKEN" | od -An -tx1 | tr -d ' \n'; echo
printf '{"token":"%s"}\n' "$TOKEN"
printf 'x=%s\n' "$(printf %s "$TOKEN" | sed 's/+/%2B/g; s/\//%2F/g')"
i=0; while [ $i -lt "$2" ]; do echo "$i $TOKEN" >&2; i=$((i+1)); done
exit "$1"
"#;

fn canary(number: usize) -> String {
    format!("Canary{number:02}+Qx/{}zW{number:02}yellow", number * 7919)
}

/// The letters of a canary that no dress leaves standing where it was taken out whole, and those of each dress.
fn traces(canary: &str) -> Vec<String> {
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = |before: &str| {
        let mut command = Command::new("sh");
        let out = command.args(["-c", "printf '%s%s' \"$1\" \"$2\" | base64 -w0", "sh", before, canary]).output();
        let text = String::from_utf8_lossy(&out.unwrap_or_else(|error| panic!("{error}")).stdout).into_owned();
        // Away from the ends, whose letters hold bits of neighbours.
        text.get(8..text.len() - 6).unwrap_or_default().to_owned()
    };
    let percent = canary.replace('+', "%2B").replace('/', "%2F");
    vec![canary.to_owned(), canary[4..18].to_owned(), hex[10..40].to_owned(), base64(""), base64("user:"), percent]
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap_or_else(|error| panic!("{error}")) };
        let program = place.path("program");
        write(&program, PROGRAM);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
        write(&place.path("lifeboat.yaml"), &format!("lifeboat: v1\npolicies: {{ programs: [{}] }}\n", program.display()));
        let mut text = "lifeboat: v1\nname: canaries\non_failure: abort\nsteps:\n".to_owned();
        for number in 0..CANARIES {
            write(&place.path(&format!("secret-{number}")), &format!("{}\n", canary(number)));
            // Some succeed, some fail and are tried again, some are looked at by a check that says the secret too.
            let exit = [0, 3, 0, 1][number % 4];
            // More than is kept of an output, so that its beginning is cut off somewhere.
            let lines = if number < 3 { 4000 } else { 5 };
            let check = if number % 5 == 0 {
                format!(", check: {{ program: {}, args: [\"0\", \"1\"] }}", program.display())
            } else {
                String::new()
            };
            text.push_str(&format!(
                "  - {{ id: s{number}, type: command, on_failure: hold, retry: {{ attempts: 2, backoff: 1ms..1ms }}, with: {{ program: {}, args: [\"{exit}\", \"{lines}\"], secret_env: {{ TOKEN: \"file:secret-{number}\" }}{check} }} }}\n",
                program.display()
            ));
        }
        write(&place.path("runbook.yaml"), &text);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lifeboat(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.path("lifeboat.yaml")).arg("--data").arg(self.path("data")).args(words);
        run(&mut command)
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn fifty_secrets_that_programs_say_aloud_are_nowhere_afterwards() {
    let place = Place::new();
    let runbook = place.path("runbook.yaml").display().to_string();
    let mut said: Vec<(String, String)> = Vec::new();
    let mut hear = |what: &str, ended: &Ended| said.push((what.to_owned(), format!("{}\n{}", ended.stdout, ended.stderr)));
    hear("check", &place.lifeboat(&["check", &runbook]));
    hear("plan", &place.lifeboat(&["plan", &runbook, "--format", "json"]));
    let ended = place.lifeboat(&["run", &runbook, "--no-wait"]);
    assert_eq!(ended.code, Some(4), "it is held by steps that fail:\n{}", ended.stderr);
    let name = ended.run_name();
    hear("run", &ended);
    for words in [
        &["runs", "--format", "json"][..],
        &["status", &name, "--format", "json"],
        &["status", &name],
        &["why", &name],
        &["why", &name, "s1"],
        &["report", &name],
        &["report", &name, "--format", "json"],
        &["report", &name, "--format", "html"],
        &["store", "export"],
        &["steps"],
    ] {
        let ended = place.lifeboat(words);
        assert!(!ended.stdout.is_empty(), "{words:?} says nothing: {}", ended.stderr);
        hear(&words.join(" "), &ended);
    }
    let mut raw = Vec::new();
    files(&place.path("data"), &mut raw);
    for file in &raw {
        let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{error}"));
        said.push((file.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    // What the programs said is there, without the secrets: the search would find them.
    assert!(said.iter().any(|(_, text)| text.contains("plain ***")), "nothing of what the programs said was kept");
    for number in 0..CANARIES {
        let canary = canary(number);
        for trace in traces(&canary) {
            for (what, text) in &said {
                assert!(!text.contains(&trace), "{what} tells {trace:?} of {canary}");
            }
        }
    }
}
