//! `command` with real programs: arguments arrive byte by byte, nothing is left running, nothing else is started.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_engine::step::{Observation, Step, StepError};
use lifeboat_engine::{Effect, Touch};
use lifeboat_steps::clients::launchers;
use lifeboat_steps::command::Command;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stage::{Stage, look_until, ready, refusal, seen, step};

/// How long a process may take to go once it was killed. A bound, not a wait.
const SOON: Duration = Duration::from_secs(20);

/// A folder with scripts that the inventory allows.
struct Workshop {
    folder: TempDir,
    allowed: Vec<PathBuf>,
}

impl Workshop {
    fn new() -> Self {
        with_launchers();
        Self { folder: TempDir::new().unwrap(), allowed: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn script(&mut self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        mode(&path, 0o755);
        self.allowed.push(path.clone());
        path
    }

    fn stage(&self) -> Stage {
        Stage::new(json!({ "lifeboat": "v1", "policies": { "programs": self.allowed } }), self.folder.path())
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn command(with: Value) -> Command {
    step(with)
}

/// A length of sleep that no other process has: what a broken test left running must not confuse the next one.
fn long(number: u32) -> String {
    format!("{}.{}", 864_000 + number, std::process::id())
}

/// Pids of processes whose command line has this word.
fn running(word: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(std::process::id()).unwrap();
    pids.filter(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != own && String::from_utf8_lossy(&words).contains(word)
    })
    .collect()
}

const DANGEROUS: [&str; 44] = [
    "",
    " ",
    "  two  spaces ",
    "$(id)",
    "`id`",
    "${IFS}",
    "$HOME",
    "$1",
    "$@",
    "; id",
    "&& id",
    "|| id",
    "| id",
    "& id",
    "> out",
    "< in",
    ">> out",
    "2>&1",
    "\n id",
    "\r\n",
    "\t",
    "'",
    "\"",
    "''",
    "\"\"",
    "\\",
    "\\n",
    "\\\\",
    "*",
    "?",
    "[a-z]",
    "~",
    "~root",
    "{a,b}",
    "!!",
    "#",
    "--",
    "-",
    "--help",
    "-rf /",
    "%s%n",
    "$((1+1))",
    "ünï\u{202e}cödé 🚨",
    "a=b",
];

#[tokio::test]
async fn no_argument_is_ever_interpreted() {
    let mut shop = Workshop::new();
    let echo = shop.script("echo", r#"for a in "$@"; do printf '%s\0' "$a"; done"#);
    let mut args: Vec<String> = DANGEROUS.iter().map(ToString::to_string).collect();
    for one in DANGEROUS {
        for (before, after) in
            [("x", ""), ("", "x"), ("'", "'"), ("\"", "\""), ("$(", ")"), ("\n", "\n"), (";", ";"), ("\\", "\\"), ("${", "}"), ("=", "&")]
        {
            args.push(format!("{before}{one}{after}"));
        }
    }
    assert!(args.len() > 450);
    let stage = shop.stage();
    let step = command(json!({ "program": echo, "args": args }));
    let done = step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    let heard: Vec<&str> = done.stdout.strip_suffix('\0').unwrap().split('\0').collect();
    assert_eq!(heard, args);
}

#[tokio::test]
async fn only_what_the_inventory_allows_is_started() {
    let mut shop = Workshop::new();
    let good = shop.script("good", "exit 0");
    let other = shop.path("other");
    std::fs::copy(&good, &other).unwrap();
    let link_to_good = shop.path("link-to-good");
    std::os::unix::fs::symlink(&good, &link_to_good).unwrap();
    let link_out = shop.path("link-out");
    std::os::unix::fs::symlink("/usr/bin/env", &link_out).unwrap();
    shop.allowed.push(link_out.clone());
    let writable = shop.script("writable", "exit 0");
    mode(&writable, 0o775);
    let plain = shop.script("plain", "exit 0");
    mode(&plain, 0o644);
    let open = shop.path("open");
    std::fs::create_dir(&open).unwrap();
    let inside = shop.script("open/inside", "exit 0");
    mode(&open, 0o777);
    let stage = shop.stage();
    let cases: [(PathBuf, &str); 8] = [
        (other, "does not allow"),
        ("/bin/sh".into(), "does not allow"),
        ("good".into(), "no absolute path"),
        (shop.path("nowhere"), "cannot be found"),
        (link_out, "leads to /usr/bin/env"),
        (writable, "could be exchanged"),
        (plain, "not a file that can be started"),
        (inside, "could be exchanged"),
    ];
    for (program, words) in cases {
        let why = refusal(&command(json!({ "program": program })), &stage).await;
        assert!(why.contains(words), "{}: {why}", program.display());
    }
    let through_link = command(json!({ "program": link_to_good }));
    through_link.execute(&ready(&through_link, &stage).await, &stage.act()).await.unwrap();
}

#[tokio::test]
async fn variables_that_start_something_else_are_refused() {
    let mut shop = Workshop::new();
    let good = shop.script("good", "exit 0");
    let stage = shop.stage();
    for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "PYTHONPATH", "IFS", "GIT_SSH_COMMAND", "LIFEBOAT_KEY", "a-b", "1A", "", "A=B"] {
        let step = command(json!({ "program": good, "env": { name: "x" } }));
        let why = refusal(&step, &stage).await;
        assert!(why.contains("variable"), "{name}: {why}");
    }
}

#[tokio::test]
async fn the_environment_is_clean_and_secrets_are_taken_out_of_what_is_said() {
    let mut shop = Workshop::new();
    let show = shop.script("show", "/usr/bin/env; echo \"the token is $TOKEN\" >&2");
    std::fs::write(shop.path("token"), "correct-horse-battery\n").unwrap();
    let stage = shop.stage();
    let step = command(json!({ "program": show, "env": { "REGION": "us-west-2" }, "secret_env": { "TOKEN": "file:token" } }));
    let done = step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    let found: BTreeMap<&str, &str> = done.stdout.lines().filter_map(|line| line.split_once('=')).collect();
    let names: Vec<&str> =
        found.keys().copied().filter(|name| *name != "PWD" && *name != "_" && *name != "SHLVL" && *name != "OLDPWD").collect();
    assert_eq!(names, ["LC_ALL", "LIFEBOAT_KEY", "LIFEBOAT_RUN", "LIFEBOAT_STEP", "PATH", "REGION", "TOKEN"]);
    assert_eq!((found["TOKEN"], found["REGION"], done.stderr.as_str()), ("***", "us-west-2", "the token is ***\n"));
    assert!(!serde_json::to_string(&done).unwrap().contains("battery"));
}

#[tokio::test]
async fn the_end_of_long_output_is_kept_without_half_a_secret() {
    let mut shop = Workshop::new();
    let chatter = shop.script("chatter", "i=0; while [ $i -lt 9000 ]; do echo \"$i $TOKEN\"; i=$((i+1)); done; echo the end");
    std::fs::write(shop.path("token"), "correct-horse-battery\n").unwrap();
    let stage = shop.stage();
    let step = command(json!({ "program": chatter, "secret_env": { "TOKEN": "file:token" } }));
    let done = step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    assert!(done.stdout.len() <= 64 * 1024 && done.stdout_bytes > 200_000, "{} of {}", done.stdout.len(), done.stdout_bytes);
    assert!(done.stdout.ends_with("8999 ***\nthe end\n"));
    assert!(!done.stdout.contains("battery"));
}

#[tokio::test]
async fn json_that_is_printed_becomes_an_output() {
    let mut shop = Workshop::new();
    let good = shop.script("good", r#"echo '{"rows": 3}'"#);
    let bad = shop.script("bad", "echo '[1]'");
    let stage = shop.stage();
    let step = command(json!({ "program": good, "outputs": "json" }));
    let done = step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    assert_eq!(done.json, json!({ "rows": 3 }));
    let step = command(json!({ "program": bad, "outputs": "json" }));
    let failed = step.execute(&ready(&step, &stage).await, &stage.act()).await;
    assert!(matches!(&failed, Err(StepError::Unknown { why }) if why.contains("no JSON object")), "{failed:?}");
}

#[tokio::test]
async fn an_unexpected_end_is_unknown_where_something_may_have_changed() {
    let mut shop = Workshop::new();
    let fails = shop.script("fails", "echo half done >&2; exit 3");
    let stage = shop.stage();
    let step = command(json!({ "program": fails }));
    let intent = ready(&step, &stage).await;
    let ended = step.execute(&intent, &stage.act()).await;
    let Err(StepError::Unknown { why }) = ended else { panic!("{ended:?}") };
    assert!(why.contains("exit code 3") && why.contains("half done"), "{why}");
    assert!(seen(&step.observe(&intent, &stage.read()).await).starts_with("unknown"), "it must never be tried again blindly");
    let step = command(json!({ "program": fails, "expect_exit": [0, 3] }));
    assert_eq!(step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap().exit_code, Some(3));
}

#[tokio::test]
async fn the_check_tells_what_became_of_it() {
    let mut shop = Workshop::new();
    let act = shop.script("act", "exit 0");
    let check = shop.script("check", "exit $1");
    let stage = shop.stage();
    for (code, wanted) in [("0", "done"), ("1", "not done"), ("2", "unknown: ")] {
        let step = command(json!({ "program": act, "check": { "program": check, "args": [code] } }));
        let intent = ready(&step, &stage).await;
        let observed = step.observe(&intent, &stage.read()).await;
        assert!(seen(&observed).starts_with(wanted), "{}", seen(&observed));
    }
    let step = command(json!({ "program": act, "check": { "program": "/usr/bin/id" } }));
    assert!(refusal(&step, &stage).await.contains("check"));
}

/// Starts children that heed no TERM, one of them in a session of its own.
const STUBBORN: &str = r#"trap '' TERM; /usr/bin/setsid /usr/bin/sleep "$1" & /usr/bin/sleep "$1" & echo started; wait; wait; wait"#;

#[tokio::test]
async fn when_time_is_up_the_program_and_all_its_children_are_gone() {
    let mut shop = Workshop::new();
    let stubborn = shop.script("stubborn", STUBBORN);
    let stage = shop.stage();
    let step = command(json!({ "program": stubborn, "args": [long(1)] }));
    let ended = step.execute(&ready(&step, &stage).await, &stage.act_for(Duration::from_secs(3))).await;
    let Err(StepError::Unknown { why }) = ended else { panic!("{ended:?}") };
    assert!(why.contains("time was up") && why.contains("started"), "{why}");
    assert_eq!(running(&long(1)), Vec::<i32>::new());
}

#[tokio::test]
async fn a_call_that_is_cut_off_takes_the_program_with_it() {
    let mut shop = Workshop::new();
    let stubborn = shop.script("stubborn", &format!("trap '' TERM; /usr/bin/sleep {} & wait; wait", long(2)));
    let stage = shop.stage();
    let step = command(json!({ "program": stubborn }));
    let intent = ready(&step, &stage).await;
    let act = stage.act();
    let cut = tokio::select! {
        ended = step.execute(&intent, &act) => Err(ended),
        there = tokio::task::spawn_blocking(|| look_until(SOON, || (!running(&long(2)).is_empty()).then_some(()))) => Ok(there.unwrap()),
    };
    assert!(matches!(cut, Ok(Some(()))), "{cut:?}");
    let gone = look_until(SOON, || running(&long(2)).is_empty().then_some(()));
    assert!(gone.is_some(), "{:?} still run", running(&long(2)));
}

#[tokio::test]
async fn what_a_dead_engine_left_running_is_found_and_stopped() {
    let mut shop = Workshop::new();
    let act = shop.script("act", "exit 0");
    let check = shop.script("check", "exit 1");
    let stage = shop.stage();
    let step = command(json!({ "program": act, "check": { "program": check } }));
    let intent = ready(&step, &stage).await;
    let mut orphan =
        std::process::Command::new("/usr/bin/sleep").arg(long(3)).env("LIFEBOAT_KEY", stage.read().idempotency_key()).spawn().unwrap();
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "in progress");
    let ended = step.execute(&intent, &stage.act()).await;
    assert!(matches!(&ended, Err(StepError::Unknown { why }) if why.contains("without an engine")), "{ended:?}");
    assert!(look_until(SOON, || orphan.try_wait().unwrap()).is_some(), "it still runs");
    assert_eq!(seen(&step.observe(&intent, &stage.read()).await), "not done");
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipe_open_does_not_hold_the_step() {
    let mut shop = Workshop::new();
    let starts = shop.script("starts", &format!("/usr/bin/sleep {} & echo $!", long(4)));
    let stage = shop.stage();
    let step = command(json!({ "program": starts }));
    let done = step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap();
    let pid: i32 = done.stdout.trim().parse().unwrap();
    // What a program leaves behind on purpose after its own end is its own business.
    assert_eq!(running(&long(4)), [pid]);
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn preparing_and_observing_do_not_start_the_program() {
    let mut shop = Workshop::new();
    let trace = shop.path("trace");
    let act = shop.script("act", &format!("echo ran >> {}", trace.display()));
    let check = shop.script("check", "exit 1");
    let stage = shop.stage();
    let step = command(json!({ "program": act, "check": { "program": check } }));
    let intent = ready(&step, &stage).await;
    step.observe(&intent, &stage.read()).await.unwrap();
    assert!(!trace.exists());
    step.execute(&intent, &stage.act()).await.unwrap();
    assert!(trace.exists());
}

#[tokio::test]
async fn in_a_drill_it_must_be_known_what_a_program_touches() {
    let mut shop = Workshop::new();
    let act = shop.script("act", "exit 0");
    let mut stage = shop.stage();
    std::sync::Arc::make_mut(&mut stage.facts).mode = "drill".into();
    assert!(refusal(&command(json!({ "program": act })), &stage).await.contains("drill"));
    let step = command(json!({ "program": act, "reads": ["a"], "changes": ["b"], "destroys": ["c"] }));
    ready(&step, &stage).await;
    let touch = |resource: &str, effect| Touch { resource: resource.into(), effect };
    assert_eq!(step.touches(), [touch("a", Effect::Read), touch("b", Effect::Change), touch("c", Effect::Destroy)]);
}

#[tokio::test]
async fn a_program_that_only_reads_may_be_tried_again() {
    let mut shop = Workshop::new();
    let fails = shop.script("fails", "exit 1");
    let stage = shop.stage();
    let step = command(json!({ "program": fails, "reads": ["orders-db"] }));
    let intent = ready(&step, &stage).await;
    let ended = step.execute(&intent, &stage.act()).await;
    assert!(matches!(ended, Err(StepError::NotDone { .. })), "{ended:?}");
    assert!(matches!(step.observe(&intent, &stage.read()).await, Ok(Observation::NotDone)));
}

/// Programs are started as in the product, this test program being the one with the hidden entry.
fn with_launchers() {
    let entry = ["--ignored", "--exact", "command::where_launchers_come_from"].map(str::to_owned);
    launchers::set_up(std::env::current_exe().unwrap(), entry.to_vec());
}

#[test]
#[ignore = "is the process that other tests have their launchers from"]
fn where_launchers_come_from() {
    use std::os::fd::AsFd as _;
    let Some(engine) = std::env::args().skip_while(|word| word != "__launchers").nth(1) else { return };
    let engine = rustix::process::Pid::from_raw(engine.parse().unwrap()).unwrap();
    launchers::tend(std::io::stdin().as_fd(), engine).unwrap();
}

/// The processes whose parent this is.
fn children(parent: i32) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let parent_of = |pid: &i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    pids.filter(|pid| parent_of(pid) == Some(parent)).collect()
}

/// The process that makes an engine's launchers.
fn nursery(engine: u32) -> i32 {
    let engine = i32::try_from(engine).unwrap();
    let found = look_until(SOON, || children(engine).into_iter().find(|child| running("__launchers").contains(child)));
    found.unwrap_or_else(|| panic!("{engine} has none"))
}

fn send(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_program_that_cannot_be_started_did_nothing() {
    let mut shop = Workshop::new();
    let broken = shop.script("broken", "");
    std::fs::write(&broken, "#!/nowhere/shell\n").unwrap();
    let stage = shop.stage();
    let step = command(json!({ "program": broken }));
    let ended = step.execute(&ready(&step, &stage).await, &stage.act()).await;
    let Err(StepError::NotDone { why, .. }) = ended else { panic!("{ended:?}") };
    assert!(why.contains("could not be started") && why.contains("No such file"), "{why}");
}

#[tokio::test]
async fn a_launcher_that_was_killed_while_it_waited_costs_nothing() {
    let mut shop = Workshop::new();
    let trace = shop.path("trace");
    let act = shop.script("act", &format!("echo ran >> {}", trace.display()));
    let stage = shop.stage();
    let step = command(json!({ "program": act }));
    let intent = ready(&step, &stage).await;
    step.execute(&intent, &stage.act()).await.unwrap();
    let nursery = nursery(std::process::id());
    let waiting = look_until(SOON, || Some(children(nursery)).filter(|children| !children.is_empty())).unwrap();
    waiting.iter().for_each(|pid| send(*pid, rustix::process::Signal::KILL));
    step.execute(&intent, &stage.act()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), "ran\nran\n");
}

#[tokio::test]
async fn with_the_nursery_its_programs_die_and_the_next_program_gets_another() {
    let mut shop = Workshop::new();
    let sleeps = shop.script("sleeps", &format!("/usr/bin/sleep {} & /usr/bin/sleep {}", long(6), long(6)));
    let quick = shop.script("quick", "echo here");
    let stage = shop.stage();
    let step = command(json!({ "program": sleeps }));
    let intent = ready(&step, &stage).await;
    let act = stage.act();
    let own = std::process::id();
    let killer = tokio::task::spawn_blocking(move || {
        look_until(SOON, || (running(&long(6)).len() == 2).then_some(())).unwrap();
        send(nursery(own), rustix::process::Signal::KILL);
    });
    let ended = step.execute(&intent, &act).await;
    killer.await.unwrap();
    assert!(matches!(&ended, Err(StepError::Unknown { why }) if why.contains("signal 9")), "{ended:?}");
    assert_eq!(running(&long(6)), Vec::<i32>::new());
    let step = command(json!({ "program": quick }));
    assert_eq!(step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap().stdout, "here\n");
}

#[tokio::test]
async fn programs_side_by_side_get_a_launcher_each_and_none_is_left_when_nobody_wants_one() {
    let mut shop = Workshop::new();
    let meet = shop.path("meet");
    std::fs::create_dir(&meet).unwrap();
    // None ends before all are there.
    let all =
        format!(": > {0}/$1; while [ $(/usr/bin/ls {0} | /usr/bin/wc -l) -lt 20 ]; do /usr/bin/sleep 0.05; done; echo $1", meet.display());
    let act = shop.script("act", &all);
    let stage = shop.stage();
    let runs = (0..20).map(|number| {
        let (act, stage) = (act.clone(), stage.clone());
        tokio::spawn(async move {
            let step = command(json!({ "program": act, "args": [number.to_string()] }));
            step.execute(&ready(&step, &stage).await, &stage.act()).await.unwrap().stdout
        })
    });
    for (number, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(run.await.unwrap(), format!("{number}\n"));
    }
    let nursery = nursery(std::process::id());
    let left = look_until(SOON, || (!running("__launchers").contains(&nursery)).then_some(()));
    assert!(left.is_some(), "it is still there, with {:?}", children(nursery));
}

#[tokio::test]
async fn a_secret_is_on_no_command_line_while_the_program_runs() {
    let mut shop = Workshop::new();
    let sleeps = shop.script("sleeps", &format!("test \"$TOKEN\" = correct-horse-battery && exec /usr/bin/sleep {}", long(7)));
    std::fs::write(shop.path("token"), "correct-horse-battery\n").unwrap();
    let stage = shop.stage();
    let step = command(json!({ "program": sleeps, "secret_env": { "TOKEN": "file:token" } }));
    let (intent, act) = (ready(&step, &stage).await, stage.act());
    let found = tokio::select! {
        ended = step.execute(&intent, &act) => panic!("{ended:?}"),
        found = tokio::task::spawn_blocking(|| {
            look_until(SOON, || (!running(&long(7)).is_empty()).then_some(())).unwrap();
            running("correct-horse-battery")
        }) => found.unwrap(),
    };
    assert_eq!(found, Vec::<i32>::new());
}

/// Started by the tests below in a process of its own, which is then killed.
#[tokio::test]
#[ignore = "is the engine that other tests kill"]
#[expect(clippy::disallowed_methods, reason = "the folder is handed over by the test that starts this one")]
async fn an_engine_to_be_killed() {
    let Ok(folder) = std::env::var("LIFEBOAT_TEST_FOLDER") else { return };
    if std::env::var("LIFEBOAT_TEST_PLAIN").is_err() {
        with_launchers();
    }
    let program = Path::new(&folder).join("long");
    let stage = Stage::new(json!({ "lifeboat": "v1", "policies": { "programs": [program] } }), Path::new(&folder));
    let step = command(json!({ "program": program }));
    let _ = step.execute(&ready(&step, &stage).await, &stage.act()).await;
}

/// An engine in which the script `long` runs, once so many processes with this word are there.
fn engine_with(shop: &Workshop, word: &str, processes: usize, plain: Option<&str>) -> std::process::Child {
    let mut engine = std::process::Command::new(std::env::current_exe().unwrap());
    engine.args(["--ignored", "--exact", "command::an_engine_to_be_killed"]).env("LIFEBOAT_TEST_FOLDER", shop.path(""));
    engine.envs(plain.map(|plain| ("LIFEBOAT_TEST_PLAIN", plain))).stdout(std::process::Stdio::null());
    let mut engine = engine.spawn().unwrap();
    if look_until(SOON, || (running(word).len() == processes).then_some(())).is_none() {
        engine.kill().unwrap();
        panic!("the program was not started");
    }
    engine
}

fn kill(mut engine: std::process::Child) {
    engine.kill().unwrap();
    engine.wait().unwrap();
}

#[test]
fn a_program_dies_with_the_engine() {
    for plain in [None, Some("yes")] {
        let mut shop = Workshop::new();
        shop.script("long", &format!("exec /usr/bin/sleep {}", long(5)));
        let engine = engine_with(&shop, &long(5), 1, plain);
        kill(engine);
        let gone = look_until(SOON, || running(&long(5)).is_empty().then_some(()));
        assert!(gone.is_some(), "{plain:?}: {:?} still run", running(&long(5)));
    }
}

#[test]
fn a_program_dies_when_its_engine_and_the_nursery_are_killed_at_once() {
    let mut shop = Workshop::new();
    shop.script("long", &format!("exec /usr/bin/sleep {}", long(9)));
    let engine = engine_with(&shop, &long(9), 1, None);
    let nursery = nursery(engine.id());
    // Neither may have time to see the other die.
    send(i32::try_from(engine.id()).unwrap(), rustix::process::Signal::STOP);
    send(nursery, rustix::process::Signal::KILL);
    kill(engine);
    let gone = look_until(SOON, || running(&long(9)).is_empty().then_some(()));
    assert!(gone.is_some(), "{:?} still run", running(&long(9)));
}

#[test]
fn with_the_engine_die_a_programs_children_its_launchers_and_where_they_come_from() {
    for stopped in [None, Some(rustix::process::Signal::STOP)] {
        let mut shop = Workshop::new();
        shop.script("long", &format!("trap '' TERM HUP; /usr/bin/sleep {} & /usr/bin/sleep {}; wait", long(8), long(8)));
        let engine = engine_with(&shop, &long(8), 2, None);
        let nursery = nursery(engine.id());
        let launchers = look_until(SOON, || Some(children(nursery)).filter(|children| children.len() == 2)).unwrap();
        stopped.iter().for_each(|signal| send(nursery, *signal));
        kill(engine);
        let left = || [&launchers[..], &[nursery], &running(&long(8))].concat().into_iter().filter(is_there).collect::<Vec<i32>>();
        let gone = look_until(SOON, || left().is_empty().then_some(()));
        assert!(gone.is_some(), "{stopped:?}: {:?} are left", left());
    }
}

/// Whether a process is there, and is not only waiting for its parent to hear of its end.
fn is_there(pid: &i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}
