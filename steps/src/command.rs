//! The `command` step type: a program of the operator's, as a list of arguments. Which programs may run is in the inventory;
//! how one is started and stopped is in `clients::process`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use lifeboat_engine::run::DRILL;
use lifeboat_engine::secret::SecretRef;
use lifeboat_engine::step::{Gate, Observation, Readiness, Step, StepError};
use lifeboat_engine::{Effect, Evidence, ReadContext, StepContext, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clients::process::{self, End, Launch, Program, Ran};

/// Runs a program with a list of arguments. There is no shell: nothing in an argument is ever interpreted.
///
/// Only programs that the inventory lists under `policies.programs` are started, in an environment that holds what is given
/// here and nothing else, in the inventory's folder. When time is up, the program and all it started are killed; when Lifeboat dies, the
/// program and its process group. What left the group by then is found by its environment and stopped when the run is resumed;
/// what also emptied its environment is not found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program, by its full path.
    pub program: PathBuf,
    /// Its arguments, one by one.
    #[serde(default)]
    pub args: Vec<String>,
    /// Resources it only looks at.
    #[serde(default)]
    pub reads: Vec<ResourceName>,
    /// Resources it changes.
    #[serde(default)]
    pub changes: Vec<ResourceName>,
    /// Resources it destroys, wholly or in part.
    #[serde(default)]
    pub destroys: Vec<ResourceName>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment variables with secret values. They are taken out of what the program says.
    #[serde(default)]
    pub secret_env: BTreeMap<String, SecretRef>,
    /// Exit codes that mean success.
    #[serde(default = "zero")]
    #[schemars(length(min = 1))]
    pub expect_exit: Vec<u8>,
    /// What the program prints.
    #[serde(default)]
    pub outputs: Printed,
    /// A program that tells what became of this one, asked after a crash or a timeout. Exit code 0: it is done. 1: it is not done,
    /// and nothing of it goes on. Anything else: unknown. Without it such a step holds for a person.
    #[serde(default)]
    pub check: Option<Check>,
}

/// The name of a resource of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("x-lifeboat-resource" = "any"))]
pub struct ResourceName(pub String);

fn zero() -> Vec<u8> {
    vec![0]
}

/// A program that only looks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The program, by its full path.
    pub program: PathBuf,
    /// Its arguments, one by one.
    #[serde(default)]
    pub args: Vec<String>,
}

/// What a program prints on its standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Printed {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object, which becomes `outputs.json`.
    Json,
}

/// What must be known again after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The program, free of links.
    pub program: PathBuf,
    /// When the step was prepared.
    pub prepared_at: Timestamp,
}

/// How the program ended and what it said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finished {
    /// Its exit code; absent where the success was found out by `check`.
    pub exit_code: Option<i32>,
    /// The end of its standard output, at most 64 KiB.
    pub stdout: String,
    /// The end of its error output, at most 64 KiB.
    pub stderr: String,
    /// How many bytes it printed in all.
    pub stdout_bytes: u64,
    /// How many bytes of errors it printed in all.
    pub stderr_bytes: u64,
    /// What it printed, with `outputs: json`.
    pub json: Value,
}

/// Names of variables by which a program can be made to run something else than what the inventory allows.
const FORBIDDEN: [&str; 12] = [
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "GCONV_PATH",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "RUBYOPT",
    "RUBYLIB",
    "PERL5OPT",
    "PERL5LIB",
];

/// Beginnings of such names.
const FORBIDDEN_PREFIXES: [&str; 5] = ["LD_", "PYTHON", "BASH_FUNC_", "GIT_", "LIFEBOAT_"];

const UNKNOWN_IN_DRILLS: &str = "in a drill it must be known what a program touches: name the resources under reads, changes or destroys";

/// Most bytes of all arguments and variables. The system's own limit is higher, and differs.
const ARGUMENT_BYTES_MAX: usize = 128 * 1024;

impl Step for Command {
    const TYPE: &'static str = "command";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Destroy;
    /// Files of this machine, and secrets, which are such files or variables.
    const GATE: Gate = Gate::Glances;
    type Intent = Intent;
    type Output = Finished;

    fn touches(&self) -> Vec<Touch> {
        let touch = |effect| move |resource: &ResourceName| Touch { resource: resource.0.clone(), effect };
        let read = self.reads.iter().map(touch(Effect::Read));
        let changed = self.changes.iter().map(touch(Effect::Change));
        read.chain(changed).chain(self.destroys.iter().map(touch(Effect::Destroy))).collect()
    }

    fn preview(&self) -> String {
        let words: Vec<String> = self.args.iter().map(|arg| format!("{arg:?}")).collect();
        format!("run {} {}", self.program.display(), words.join(" ")).trim_end().to_owned()
    }

    fn forbidden(known: &Value, cx: &ReadContext) -> Option<String> {
        Known::deserialize(known).map_or_else(|error| Some(error.to_string()), |known| known.forbidden(cx))
    }

    async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<Intent>, StepError> {
        let refused = |why: String| Ok(Readiness::Refused { why, evidence: Evidence::none() });
        if let Some(why) = Self::forbidden(&serde_json::to_value(self).unwrap_or_default(), cx) {
            return refused(why);
        }
        let program = match Program::allowed(&cx.inventory, &self.program) {
            Ok(program) => program,
            Err(why) => return refused(why),
        };
        let mut evidence = Evidence::of("program", program.path().display().to_string());
        match &self.check {
            Some(check) => evidence.note("check", check.program.display().to_string()),
            None if self.acts() => evidence.note("after a crash or a timeout", "it holds for a person, because it has no check"),
            None => {}
        }
        if let Err(why) = self.environment(cx) {
            return refused(why);
        }
        Ok(Readiness::Ready { intent: Intent { program: program.path().to_owned(), prepared_at: cx.now() }, evidence })
    }

    async fn execute(&self, intent: &Intent, cx: &StepContext) -> Result<Finished, StepError> {
        // Looking takes longer than many a program: every process of the machine is asked.
        if cx.may_have_begun() && !process::leftovers(cx).is_empty() {
            cx.progress("stopping what an earlier attempt left running");
            process::reap(cx).await;
            return Err(self.ended_otherwise("an earlier attempt was still running without an engine to watch it, and was stopped".into()));
        }
        let program = Program::allowed(&cx.inventory, &intent.program).map_err(|why| StepError::refused(why, Evidence::none()))?;
        let (env, secret_env) = self.environment(cx).map_err(StepError::hopeless)?;
        cx.progress(&format!("running {}", program.path().display()));
        let launch = Launch { program: &program, args: &self.args, env, secret_env };
        let ran = process::act(cx, launch).await.map_err(|error| StepError::hopeless(error.to_string()))?;
        self.judge(ran)
    }

    async fn observe(&self, _: &Intent, cx: &ReadContext) -> Result<Observation<Finished>, StepError> {
        if !process::leftovers(cx).is_empty() {
            return Ok(Observation::InProgress);
        }
        let Some(check) = &self.check else {
            if self.acts() {
                let why =
                    "nothing can tell what became of the program: give the step a `check`, or look yourself and resolve the step".into();
                return Ok(Observation::Unknown { why });
            }
            return Ok(Observation::NotDone);
        };
        let unknown = |why: String| Ok(Observation::Unknown { why });
        let program = match Program::allowed(&cx.inventory, &check.program) {
            Ok(program) => program,
            Err(why) => return unknown(format!("check: {why}")),
        };
        let (env, secret_env) = match self.environment(cx) {
            Ok(environment) => environment,
            Err(why) => return unknown(why),
        };
        match process::look(cx, Launch { program: &program, args: &check.args, env, secret_env }).await {
            Err(error) => unknown(format!("check: {error}")),
            Ok(Ran { end: End::Exit(0), stdout, stderr }) => Ok(Observation::Done(Finished {
                exit_code: None,
                stdout: stdout.text,
                stderr: stderr.text,
                stdout_bytes: stdout.bytes_total,
                stderr_bytes: stderr.bytes_total,
                json: Value::Null,
            })),
            Ok(Ran { end: End::Exit(1), .. }) => Ok(Observation::NotDone),
            Ok(ran) => unknown(format!("the check {} {}{}", program.path().display(), in_words(ran.end), last_words(&ran))),
        }
    }
}

type Environment = (BTreeMap<String, String>, BTreeMap<String, lifeboat_engine::secret::Secret>);

impl Command {
    /// Whether it may change anything. One that touches nothing known may.
    fn acts(&self) -> bool {
        self.reads.is_empty() || !self.changes.is_empty() || !self.destroys.is_empty()
    }

    /// What the program gets, once all of it is known.
    fn environment(&self, cx: &ReadContext) -> Result<Environment, String> {
        let bytes: usize = self.args.iter().chain(self.env.values()).map(String::len).sum();
        if bytes > ARGUMENT_BYTES_MAX {
            return Err(format!("arguments and variables of {bytes} bytes are more than {ARGUMENT_BYTES_MAX}"));
        }
        if self.args.iter().chain(self.env.values()).any(|text| text.contains('\0')) {
            return Err("an argument or a variable holds a zero byte, which no program can be given".into());
        }
        let secrets = self
            .secret_env
            .iter()
            .map(|(name, reference)| cx.secret(reference).map(|secret| (name.clone(), secret)).map_err(|error| error.to_string()));
        Ok((self.env.clone(), secrets.collect::<Result<_, String>>()?))
    }

    fn judge(&self, ran: Ran) -> Result<Finished, StepError> {
        let program = self.program.display();
        let expected = |code: i32| u8::try_from(code).is_ok_and(|code| self.expect_exit.contains(&code));
        let code = match ran.end {
            End::Exit(code) if expected(code) => code,
            End::Exit(_) | End::Signal(_) | End::TimeUp => {
                return Err(self.ended_otherwise(format!("{program} {}{}", in_words(ran.end), last_words(&ran))));
            }
        };
        let json = match self.outputs {
            Printed::Text => Value::Null,
            Printed::Json => match serde_json::from_str(&ran.stdout.text) {
                Ok(Value::Object(fields)) => Value::Object(fields),
                Ok(_) => return Err(self.ended_otherwise(format!("{program} succeeded, but what it printed is no JSON object"))),
                Err(error) => return Err(self.ended_otherwise(format!("{program} succeeded, but what it printed is no JSON: {error}"))),
            },
        };
        Ok(Finished {
            exit_code: Some(code),
            stdout: ran.stdout.text,
            stderr: ran.stderr.text,
            stdout_bytes: ran.stdout.bytes_total,
            stderr_bytes: ran.stderr.bytes_total,
            json,
        })
    }

    /// A program that acts may have done half its work; one that only reads has done nothing.
    fn ended_otherwise(&self, why: String) -> StepError {
        if self.acts() { StepError::unknown(why) } else { StepError::not_done(why) }
    }
}

/// As much of the parameters as can be judged before the run; what is not known yet is absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Known {
    program: Option<PathBuf>,
    check: Option<KnownCheck>,
    env: Option<BTreeMap<String, Value>>,
    secret_env: Option<BTreeMap<String, Option<SecretRef>>>,
    reads: Option<Vec<Value>>,
    changes: Option<Vec<Value>>,
    destroys: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct KnownCheck {
    program: Option<PathBuf>,
}

impl Known {
    fn forbidden(&self, cx: &ReadContext) -> Option<String> {
        let allowed = |program: &Option<PathBuf>| program.as_ref().and_then(|path| Program::allowed(&cx.inventory, path).err());
        if let Some(why) = allowed(&self.program) {
            return Some(why);
        }
        if let Some(why) = self.check.as_ref().and_then(|check| allowed(&check.program)) {
            return Some(format!("check: {why}"));
        }
        let (plain, secret) = (self.env.iter().flatten(), self.secret_env.iter().flatten());
        if let Some(why) = plain.map(|(name, _)| name).chain(secret.clone().map(|(name, _)| name)).find_map(|name| bad_variable(name)) {
            return Some(why);
        }
        let mut secret_names = secret.clone().map(|(name, _)| name);
        if let Some(name) = secret_names.find(|name| self.env.as_ref().is_some_and(|env| env.contains_key(*name))) {
            return Some(format!("the variable {name} is given in env and in secret_env"));
        }
        if let Some(error) = secret.filter_map(|(_, reference)| reference.as_ref()).find_map(|reference| cx.secret(reference).err()) {
            return Some(error.to_string());
        }
        let touches = [&self.reads, &self.changes, &self.destroys].into_iter().flatten().any(|names| !names.is_empty());
        (cx.facts.mode == DRILL && !touches).then(|| UNKNOWN_IN_DRILLS.to_owned())
    }
}

/// Why a program must not be given a variable of this name, if that is so.
fn bad_variable(name: &str) -> Option<String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if !plain {
        return Some(format!("{name:?} is no name of an environment variable"));
    }
    let forbidden = FORBIDDEN.contains(&name) || FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    forbidden.then(|| format!("the variable {name} could make the program run something that the inventory does not allow"))
}

fn in_words(end: End) -> String {
    match end {
        End::Exit(code) => format!("ended with exit code {code}"),
        End::Signal(signal) => format!("was killed by signal {signal}"),
        End::TimeUp => "was stopped because its time was up".into(),
    }
}

/// The last line of its errors, or else of its output.
fn last_words(ran: &Ran) -> String {
    let last =
        |text: &str| text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(|line| line.chars().take(300).collect::<String>());
    last(&ran.stderr.text).or_else(|| last(&ran.stdout.text)).map_or_else(String::new, |line| format!("; it last said: {line}"))
}
