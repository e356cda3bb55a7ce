//! Arguments of every command. The doc comments are the `--help` texts.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use crate::args_upkeep::{
    AuditArgs, AuditCommand, CompactArgs, ExportArgs, ImportArgs, KeygenArgs, StoreArgs, StoreCommand, VerifyArgs,
};

/// The inventory where none is named.
pub(crate) const CONFIG_DEFAULT: &str = "lifeboat.yaml";
/// The data folder where none is named.
pub(crate) const DATA_DEFAULT: &str = ".lifeboat";

/// Runs disaster-recovery runbooks: durable, measured, honest.
///
/// Exit codes: 0 done; 1 the run failed, was undone or was cancelled; 2 bad usage or an invalid runbook; 3 refused before anything
/// was changed; 4 waiting for a person; 5 the engine itself failed.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The inventory: resources, people, policies
    #[arg(long, global = true, default_value = CONFIG_DEFAULT, env = "LIFEBOAT_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The data folder: journals of runs. One process owns it at a time
    #[arg(long, global = true, default_value = DATA_DEFAULT, env = "LIFEBOAT_DATA", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Colour in what people read
    #[arg(long, global = true, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check runbooks: every problem with its place. Asks nothing outside
    Check(CheckArgs),
    /// Show what a run would do and whether each step may start. Changes nothing
    Plan(PlanArgs),
    /// Run a runbook in the foreground
    Run(RunArgs),
    /// Run a runbook as a drill: it puts everything back, and passes or fails against what is promised
    Drill(DrillArgs),
    /// Go on with a run whose process is gone
    Resume(ResumeArgs),
    /// List runs
    Runs(RunsArgs),
    /// Show how a run stands and what it waits for
    Status(StatusArgs),
    /// Follow a run that another process drives, live. Changes nothing; Ctrl-C leaves the run alone
    Watch(WatchArgs),
    /// Say why a run or a step waits, who can act now, and what each decision would lead to
    Why(WhyArgs),
    /// Report what a run achieved against what was promised
    Report(ReportArgs),
    /// Say yes to a step that asks
    Approve(AnswerArgs),
    /// Say no to a step that asks: final
    Deny(AnswerArgs),
    /// Decide about a step that is held, has failed or has not begun, or about an undo that failed
    Resolve(ResolveArgs),
    /// Stop a run: nothing more is started
    Cancel(CancelArgs),
    /// Hold a run for a while: nothing starts and nothing is undone, what acts goes on to its end, approvals still count
    Pause(HoldArgs),
    /// Let a paused run go on
    Continue(HoldArgs),
    /// Stop every new change, in all runs, undo included: of one resource or of everything
    Freeze(FreezeArgs),
    /// Allow changes again
    Unfreeze(FreezeArgs),
    /// Play a runbook in a simulated world: each step failing, each pair of steps failing. Changes nothing
    Simulate(SimulateArgs),
    /// Run the tests beside a runbook in a simulated world. Changes nothing
    Test(TestArgs),
    /// Prove that journals were not rewritten, by signed checkpoints outside of the data folder
    Audit(AuditArgs),
    /// Check, move and shrink the data folder
    Store(StoreArgs),
    /// Draw a runbook's graph
    Graph(GraphArgs),
    /// List the step types, or print one's page
    Steps(StepsArgs),
    /// Print the JSON Schema of runbooks, of their tests, or of the inventory, for editors
    Schema(SchemaArgs),
    /// Write a heartbeat row and keep the acknowledged values outside the database
    Heartbeat(HeartbeatArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Runbooks
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

/// Which runbook, how.
#[derive(Debug, Args)]
pub(crate) struct RunbookArgs {
    /// The runbook
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The mode; may be left out where the runbook has exactly one beside `drill`
    #[arg(long)]
    pub(crate) mode: Option<String>,
    /// An input; may be given several times
    #[arg(long = "input", value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) runbook: RunbookArgs,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) runbook: RunbookArgs,
    /// When service was last known good and when its failure was first seen: two instants of RFC 3339 with a comma between
    #[arg(long, value_name = "EARLIEST,LATEST")]
    pub(crate) outage_began: Option<String>,
    /// Leave as soon as only a person can help (exit code 4); `resume` goes on later
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// What is printed at the end
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// The runbook; it has to name the mode `drill`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// An input; may be given several times
    #[arg(long = "input", value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
    /// Leave as soon as only a person can help (exit code 4); `resume` goes on later
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// What is printed at the end
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The run; may be left out where exactly one is unfinished. The end of its name is enough
    pub(crate) run: Option<String>,
    /// Leave as soon as only a person can help (exit code 4)
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Stand by while another machine drives the run, and take it over when that one is gone
    #[arg(long)]
    pub(crate) wait: bool,
    /// What is printed at the end
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

/// The production executor plays the plan in virtual time, with simulated steps made from the catalog: every step fails in turn (for
/// good, refused at its gate, outcome unknown; an approval is denied or not answered), then every pair that can end differently from
/// its single failures. Simulated people say yes to every approval. Nothing outside this process is asked or changed.
///
/// Exit code 0 when every case ends acceptably: it succeeds, waits for a person, or ends with nothing left behind. 1 when a case ends
/// stuck, leaves an effect behind, or may leave two primaries, and no --allow names that. 2 for bad input.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    pub(crate) runbook: RunbookArgs,
    /// An output of a step wherever it succeeds; what is not named is made up from the output's type. May be given several times
    #[arg(long = "output", value_name = "STEP.NAME=VALUE")]
    pub(crate) outputs: Vec<String>,
    /// What simulated people answer to approvals
    #[arg(long, default_value = "yes")]
    pub(crate) approvals: Answers,
    /// The most pairs of failures that are played; of more, a sample from all over the plan
    #[arg(long, default_value_t = lifeboat_engine::sim::rehearsal::PAIRS_DEFAULT, value_name = "N")]
    pub(crate) pairs: usize,
    /// An end that is accepted in this runbook. May be given several times
    #[arg(long, value_name = "END")]
    pub(crate) allow: Vec<Allowed>,
    /// Every case in full
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Answers {
    /// Everybody says yes
    Yes,
    /// Somebody says no
    No,
    /// Nobody answers
    Silence,
}

/// Ends that a runbook may have only when somebody says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Allowed {
    /// A run ends stuck: a person is needed, locks are kept
    Stuck,
    /// A run ends without success, and effects stand
    LeftBehind,
    /// Two databases may take writes
    TwoPrimaries,
}

/// A test file lists cases: what happens to steps and what people do, and what is expected of the run. Each case is played by the
/// production executor in a simulated world. `lifeboat schema test` prints the form.
///
/// Exit code 0 when every case meets its expectations, 1 when one does not, 2 for bad input.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Test files; for a runbook, the test file beside it (`runbook.yaml`: `runbook.test.yaml`)
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Only cases whose name holds this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) limit: NonZeroU32,
    /// Only those older than this run
    #[arg(long, value_name = "RUN")]
    pub(crate) before: Option<String>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The run; the end of its name is enough. Without it: the newest
    pub(crate) run: Option<String>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The run; the end of its name is enough. Without it: the newest
    pub(crate) run: Option<String>,
    /// Live progress, or one journal entry a line
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The run; the end of its name is enough. Without it: the newest
    pub(crate) run: Option<String>,
    /// One step; without it every step that waits, was left out or is not done
    pub(crate) step: Option<String>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// One page that needs no network
    Html,
    /// The timeline as a picture
    Svg,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The run; the end of its name is enough. Without it: the newest
    pub(crate) run: Option<String>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: ReportFormat,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArgs {
    /// The run; the end of its name is enough
    pub(crate) run: String,
    /// The step that asks
    pub(crate) step: String,
    /// Your words; kept in the journal
    #[arg(long)]
    pub(crate) comment: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decision {
    /// It is done; give its outputs with --output
    Done,
    /// Try again
    Retry,
    /// Go on without it, in this run only; also before it has begun
    Skip,
    /// It has failed for good
    GiveUp,
}

#[derive(Debug, Args)]
pub(crate) struct ResolveArgs {
    /// The run; the end of its name is enough
    pub(crate) run: String,
    /// The step; left out only with --release
    #[arg(required_unless_present = "release")]
    pub(crate) step: Option<String>,
    /// What you decide
    #[arg(required_unless_present = "release")]
    pub(crate) decision: Option<Decision>,
    /// One output of a step that is done: name=value, the value as JSON or plain text
    #[arg(long = "output", value_name = "NAME=VALUE")]
    pub(crate) outputs: Vec<String>,
    /// Give up the locks that a stuck run keeps
    #[arg(long, conflicts_with_all = ["step", "decision", "outputs"])]
    pub(crate) release: bool,
    /// Why; kept in the journal
    #[arg(long, required = true)]
    pub(crate) comment: String,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The run; the end of its name is enough
    pub(crate) run: String,
    /// Why; kept in the journal
    #[arg(long)]
    pub(crate) comment: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// The run; the end of its name is enough
    pub(crate) run: String,
    /// Why; kept in the journal
    #[arg(long, required = true)]
    pub(crate) comment: String,
}

#[derive(Debug, Args)]
pub(crate) struct FreezeArgs {
    /// The resource of the inventory; without it everything
    pub(crate) resource: Option<String>,
    /// Why; whoever waits reads it
    #[arg(long, required = true)]
    pub(crate) comment: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    Svg,
    Mermaid,
    Dot,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) runbook: RunbookArgs,
    /// Output
    #[arg(long, default_value = "svg")]
    pub(crate) format: GraphFormat,
}

#[derive(Debug, Args)]
pub(crate) struct StepsArgs {
    /// A step type; without it all are listed
    pub(crate) step_type: Option<String>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Of what
    #[arg(value_enum, default_value = "runbook")]
    pub(crate) of: SchemaOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// Runbook files
    Runbook,
    /// lifeboat.yaml
    Inventory,
    /// Tests of runbooks (`*.test.yaml`)
    Test,
}

#[derive(Debug, Args)]
pub(crate) struct HeartbeatArgs {
    /// The database of the inventory
    #[arg(value_name = "DATABASE")]
    pub(crate) database: String,
    /// Create the heartbeat table first if it is missing
    #[arg(long)]
    pub(crate) create_table: bool,
}
