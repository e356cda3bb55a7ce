//! Arguments of `lifeboat audit` and `lifeboat store`. The doc comments are the `--help` texts.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::Format;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Make a key that signs checkpoints, and its public half
    Keygen(KeygenArgs),
    /// Hold the data folder, or an export, against its checkpoints. Nothing is asked outside
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The private key: for this user alone, outside of the data folder. Its public half is written beside it, with `.pub`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The checkpoints; without it those of the inventory
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoints: Option<PathBuf>,
    /// The public key that they were signed for; without it the key of the inventory
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: Option<PathBuf>,
    /// An export instead of the data folder
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Check every journal, kept value, lock and list: what is wrong, where, and what to do
    Verify {
        /// Output
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Write all runs, or one, to a file that any program can read
    Export(ExportArgs),
    /// Take the runs of an export into this data folder. Nothing is overwritten
    Import(ImportArgs),
    /// Move finished runs to an archive file and throw away what nothing names any more
    Compact(CompactArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Only this run; the end of its name is enough
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// The file, which must not be there yet; without it standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Where the folder is damaged, write what is whole, name what is left out, and end with exit code 5
    #[arg(long)]
    pub(crate) leave_out_damaged: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The export
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Go on with an import that was cut short
    #[arg(long = "continue")]
    pub(crate) go_on: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// So many of the newest finished runs stay
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) keep_newest: usize,
    /// Runs that ended within so many days stay
    #[arg(long, value_name = "N", default_value = "30")]
    pub(crate) keep_days: u32,
    /// The folder of the archive files; without it `archive` in the data folder
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: Option<PathBuf>,
    /// Output
    #[arg(long, default_value = "text")]
    pub(crate) format: Format,
}
