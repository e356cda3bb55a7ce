//! Builds the real parts from files: sources, inventory, registry, store. Commands get what they need and no more.

use std::fs::FileType;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_engine::checkpoint::key::SigningKey;
use lifeboat_engine::checkpoint::sink::FileSink;
use lifeboat_engine::checkpoint::{KeySource, Timing, Witness};
use lifeboat_engine::clock::SystemClock;
use lifeboat_engine::inventory::{self, Inventory};
use lifeboat_engine::journal::RunId;
use lifeboat_engine::ports::Ports;
use lifeboat_engine::registry::Registry;
use lifeboat_engine::secret::{LocalSecrets, Secrets};
use lifeboat_engine::together::Together;
use lifeboat_runbooks::diagnostic::{Diagnostic, Severity, Source};
use lifeboat_runbooks::plan::Plan;
use lifeboat_runbooks::render as diagnostics;
use lifeboat_runbooks::{Library, PlanRequest, Runbook, plan as planning};
use lifeboat_store::{FolderLock, OwnerId, Salvaged, SledOptions, SledStore, Store, StoreError};
use rustix::fs::OFlags;

use crate::args::{CONFIG_DEFAULT, DATA_DEFAULT, Global, RunbookArgs, When};
use crate::exit::{Exit, Trouble, say};
use crate::shared_store;

/// Largest file that is read: above the language's own limit, so that the language can say what is wrong.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads a text file. Nothing else is read: a device has no end, and a pipe may never say anything.
pub(crate) fn source(path: &Path) -> Result<Source, Trouble> {
    let name = path.display().to_string();
    let fail = |error: &std::io::Error| Trouble::usage(format!("{name} cannot be read: {error}"));
    let found = std::fs::metadata(path).map_err(|error| fail(&error))?;
    if !found.is_file() {
        return Err(Trouble::usage(format!("{name} cannot be read: it is {}, not a file", special(found.file_type())))
            .help("write the text to a file and name that"));
    }
    let too_long = |size: &str| Trouble::usage(format!("{name} has {size} bytes; at most {FILE_BYTES_MAX} are read"));
    if found.len() > FILE_BYTES_MAX {
        return Err(too_long(&found.len().to_string()));
    }
    // What was a file a moment ago may be a pipe now: opening it must not wait for a writer.
    let no_wait = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new().read(true).custom_flags(no_wait).open(path).map_err(|error| fail(&error))?;
    // Some files, as those of /proc, have no size until they are read.
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_long(&format!("more than {FILE_BYTES_MAX}")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name: name.into(), text: text.into() }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            Err(Trouble::usage(format!("{name}:{line}: the file is not UTF-8 text (byte {at})"))
                .help("save it as UTF-8 without a byte order mark"))
        }
    }
}

/// What is there instead of a file.
fn special(kind: FileType) -> &'static str {
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

/// The folder of a runbook: its child runs are read from there and from below, and from nowhere else.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// That in which a file stands.
    pub(crate) fn of(file: &Path) -> Self {
        Self(file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned())
    }
}

impl Library for Folder {
    fn open(&self, path: &str) -> Result<Source, String> {
        let whole = if self.0 == Path::new(".") { PathBuf::from(path) } else { self.0.join(path) };
        let real = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
        // A link may lead anywhere.
        if !real(&whole)?.starts_with(real(&self.0)?) {
            return Err("it is a link that leads out of the folder of the runbook that is run".to_owned());
        }
        source(&whole).map_err(|trouble| trouble.what().to_owned())
    }
}

/// Whether to colour what goes to standard error.
pub(crate) fn colour(global: &Global) -> diagnostics::Colour {
    colour_of(global, &std::io::stderr())
}

/// Whether to colour what goes to standard output.
pub(crate) fn colour_of_output(global: &Global) -> diagnostics::Colour {
    colour_of(global, &std::io::stdout())
}

fn colour_of(global: &Global, stream: &impl std::io::IsTerminal) -> diagnostics::Colour {
    match global.color {
        When::Always => diagnostics::Colour::Ansi,
        When::Never => diagnostics::Colour::Plain,
        When::Auto if stream.is_terminal() && std::env::var_os("NO_COLOR").is_none() => diagnostics::Colour::Ansi,
        When::Auto => diagnostics::Colour::Plain,
    }
}

/// Shows problems; an error among them ends the command.
pub(crate) fn show(global: &Global, source: &Source, problems: &[Diagnostic]) -> Result<(), Trouble> {
    if !problems.is_empty() {
        say(diagnostics::text(source, problems, colour(global)).trim_end());
    }
    if problems.iter().any(|problem| problem.severity == Severity::Error) { Err(Trouble::told(Exit::Usage)) } else { Ok(()) }
}

/// The inventory; a missing file is an error that says what to do.
pub(crate) fn inventory(global: &Global, registry: &Registry) -> Result<Inventory, Trouble> {
    if !global.config.exists() {
        return Err(Trouble::engine(format!("there is no inventory {}", global.config.display()))
            .help("say where it is with --config FILE; `lifeboat schema inventory` tells what it may hold"));
    }
    let source = source(&global.config)?;
    let folder = global.config.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::path::absolute(folder).map_err(|error| Trouble::engine(format!("the inventory's folder has no path: {error}")))?;
    let (inventory, problems) = inventory::read(&source, &folder, registry.kinds());
    show(global, &source, &problems).map_err(|_| Trouble::told(Exit::Engine))?;
    inventory.ok_or_else(|| Trouble::told(Exit::Engine))
}

/// A runbook, parsed. Problems are shown.
pub(crate) fn runbook(global: &Global, path: &Path) -> Result<(Source, Runbook), Trouble> {
    let source = source(path)?;
    let (runbook, problems) = lifeboat_runbooks::load(&source, &Folder::of(path));
    match runbook {
        Some(runbook) if problems.iter().all(|problem| problem.severity != Severity::Error) => Ok((source, runbook)),
        Some(runbook) => {
            // What parsing found is not all: the rules have more to say about what could be read.
            let mut all = problems;
            all.extend(lifeboat_runbooks::check(&runbook, &lifeboat_steps::registry(), None));
            show(global, &source, &all)?;
            Err(Trouble::told(Exit::Usage))
        }
        None => {
            show(global, &source, &problems)?;
            Err(Trouble::told(Exit::Usage))
        }
    }
}

/// A plan from a file, a mode and inputs.
pub(crate) fn plan(global: &Global, args: &RunbookArgs, registry: &Registry, inventory: &Inventory) -> Result<Plan, Trouble> {
    let (source, runbook) = runbook(global, &args.file)?;
    let request = PlanRequest { mode: args.mode.clone(), inputs: inputs(&args.inputs)? };
    let warnings: Vec<Diagnostic> = lifeboat_runbooks::check(&runbook, registry, Some(inventory))
        .into_iter()
        .filter(|problem| problem.severity == Severity::Warning)
        .collect();
    match planning(&runbook, &request, registry, inventory) {
        Ok(plan) => {
            show(global, &source, &warnings)?;
            Ok(plan)
        }
        Err(problems) => {
            show(global, &source, &problems)?;
            Err(Trouble::told(Exit::Usage))
        }
    }
}

fn inputs(given: &[String]) -> Result<std::collections::BTreeMap<String, String>, Trouble> {
    let mut inputs = std::collections::BTreeMap::new();
    for pair in given {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Trouble::usage(format!("--input {pair:?} has no value")).help("write --input name=value"));
        };
        if inputs.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Trouble::usage(format!("--input {name} is given twice")));
        }
    }
    Ok(inputs)
}

/// How a person calls this program from any folder for the same inventory and data.
pub(crate) fn command(global: &Global) -> String {
    let whole = |path: &Path| quoted(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    format!("lifeboat --config {} --data {}", whole(&global.config), whole(&global.data))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    word(&path.display().to_string())
}

/// A word as a shell takes it.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:=@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The same, as short as it can be: where both are the defaults, the bare name does from this folder.
pub(crate) fn hint(global: &Global) -> String {
    let bare = global.config == Path::new(CONFIG_DEFAULT) && global.data == Path::new(DATA_DEFAULT);
    if bare { "lifeboat".into() } else { command(global) }
}

/// The ports around a store.
pub(crate) fn ports(store: Arc<dyn Store>, registry: Registry, inventory: Inventory) -> Ports {
    let secrets = LocalSecrets::new(&inventory.folder);
    Ports { store, registry: Arc::new(registry), inventory: Arc::new(inventory), secrets: Arc::new(secrets), clock: Arc::new(SystemClock) }
}

/// Opens the store that the inventory names, to drive runs: the data folder is this process's own then.
pub(crate) fn open_store(global: &Global, inventory: &Inventory) -> Result<Arc<dyn Store>, StoreError> {
    match &inventory.store.etcd {
        None => open_folder(&global.data),
        Some(etcd) => shared_store::open(inventory, etcd, shared_store::Folder::Kept(FolderLock::take(&global.data)?)),
    }
}

/// Opens it to look and to steer. A store that machines share can be looked at beside the process that drives runs from this folder;
/// who is to steer them is asked first.
pub(crate) fn open_store_to_look(global: &Global, inventory: &Inventory) -> Result<Arc<dyn Store>, StoreError> {
    match &inventory.store.etcd {
        None => open_folder(&global.data),
        Some(etcd) => {
            // Given back at once: the next command must not find this one in its way.
            drop(FolderLock::take(&global.data)?);
            shared_store::open(inventory, etcd, shared_store::Folder::Free)
        }
    }
}

/// What still reads of a folder that does not open because it is damaged. Nothing is changed, and nobody may act by it.
pub(crate) fn salvage(global: &Global, damage: &StoreError) -> Option<Salvaged> {
    let salvaged = Salvaged::from(&global.data).ok()?;
    say(&format!("warning: {damage}"));
    say("warning: shown is what still reads; the newest of it may be among what is lost, so act by nothing that stands here alone");
    for lost in salvaged.lost.iter().take(LOST_MAX) {
        say(&format!("  lost: {lost}"));
    }
    let more = salvaged.lost.len().saturating_sub(LOST_MAX);
    if more > 0 {
        say(&format!("  and {more} more"));
    }
    for log in salvaged.cut.iter().take(LOST_MAX) {
        say(&format!("  {log} lacks its end"));
    }
    say(
        "help: keep a copy of the folder as it is; `lifeboat store export --leave-out-damaged --output FILE` saves every finished run that reads",
    );
    Some(salvaged)
}

/// Most sentences about what is lost.
const LOST_MAX: usize = 8;

fn open_folder(folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
    SledStore::open(folder, &SledOptions::default()).map(|store| Arc::new(Together::before(store)) as Arc<dyn Store>)
}

/// Opens a store that is there and that no process of this folder writes to.
pub(crate) fn open_at_rest(global: &Global) -> Result<Arc<dyn Store>, Trouble> {
    let inventory = inventory_if_there(global)?;
    if !global.data.exists() && inventory.store.etcd.is_none() {
        return Err(
            Trouble::usage(format!("there is no data folder {}", global.data.display())).help("say where runs are kept with --data DIR")
        );
    }
    open_store_to_look(global, &inventory).map_err(|error| {
        let trouble = open_trouble(&global.data, &error);
        if matches!(error, StoreError::InUse { .. }) {
            trouble.help("the whole folder is looked at, so no process may write to it meanwhile: let that process end first, or stop it with Ctrl-C and `lifeboat resume` it afterwards")
        } else {
            trouble
        }
    })
}

/// The inventory, or an empty one where there is none.
pub(crate) fn inventory_if_there(global: &Global) -> Result<Inventory, Trouble> {
    if global.config.exists() { inventory(global, &lifeboat_steps::registry()) } else { Ok(Inventory::default()) }
}

/// Puts a witness before the store where the inventory wants checkpoints.
pub(crate) fn witnessed(store: Arc<dyn Store>, inventory: &Inventory, data: &Path) -> Result<Arc<dyn Store>, Trouble> {
    let Some(policy) = &inventory.policies.checkpoints else { return Ok(store) };
    let file = inventory.path(&policy.file);
    if is_inside(&file, data) {
        return Err(Trouble::engine(format!("the checkpoints {} lie in the data folder", file.display()))
            .help("whoever can rewrite the journals must not be able to rewrite these: `policies.checkpoints.file` belongs elsewhere"));
    }
    let (secrets, reference) = (LocalSecrets::new(&inventory.folder), policy.key.clone());
    let key: KeySource = Box::new(move || {
        let secret = secrets.read(&reference).map_err(|error| error.to_string())?;
        SigningKey::from_pem(&secret).map_err(|why| format!("the key {reference} {why}"))
    });
    let fresh_id = uuid::Uuid::now_v7().to_string();
    let sink = Box::new(FileSink::new(&file));
    let witness = Witness::before(store, key, sink, Arc::new(SystemClock), Timing::default(), &fresh_id, Arc::new(say));
    // Everything is wired before the runtime is busy.
    let witness = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(witness));
    Ok(Arc::new(witness.map_err(|error| store_trouble(&error))?))
}

/// Whether a file, there or not yet, lies in a folder.
pub(crate) fn is_inside(file: &Path, folder: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().ok().or_else(|| std::path::absolute(path).ok());
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (whole(file).filter(|_| file.exists()).or_else(|| whole(parent)), whole(folder)) {
        (Some(file), Some(folder)) => file.starts_with(folder),
        (_, _) => false,
    }
}

/// The one run that a person means by all or the end of its name.
pub(crate) fn only(all: &[RunId], name: &str) -> Result<RunId, Trouble> {
    if let Some(exact) = all.iter().find(|run| run.as_str() == name) {
        return Ok(exact.clone());
    }
    let fits: Vec<&RunId> = all.iter().filter(|run| run.as_str().ends_with(name)).collect();
    match fits.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(Trouble::usage(format!("there is no run {name:?}")).help("`lifeboat runs` lists them; the end of a name is enough")),
        many => {
            let names = many.iter().map(|run| run.as_str()).collect::<Vec<_>>().join(", ");
            Err(Trouble::usage(format!("{name:?} fits {} runs: {names}", many.len())))
        }
    }
}

/// Whether this user owns the folder's files.
pub(crate) fn is_mine(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}

/// Says why the data folder cannot be opened.
pub(crate) fn open_trouble(folder: &Path, error: &StoreError) -> Trouble {
    let StoreError::Io { source, .. } = error else { return store_trouble(error) };
    let trouble = store_trouble(error);
    if source.kind() == ErrorKind::ReadOnlyFilesystem {
        trouble
            .about(&format!("the data folder {} is on a read-only file system", folder.display()))
            .help("mount it for writing: the folder is written to even by whoever only looks")
    } else if source.kind() == ErrorKind::PermissionDenied && is_mine(folder) {
        trouble
            .about(&format!("the data folder {} is yours, but read-only", folder.display()))
            .help(format!("allow yourself to write: chmod -R u+rwX {}", quoted(folder)))
    } else {
        trouble
    }
}

/// Says what a store's error means for the person.
pub(crate) fn store_trouble(error: &StoreError) -> Trouble {
    // Where another process has the folder nothing failed here: it is the answer that a lock gives.
    let exit = if matches!(error, StoreError::InUse { .. }) { Exit::Refused } else { Exit::Engine };
    let trouble = Trouble::from_error(exit, error);
    let help = [
        // Another folder is no way out: locks end at the folder, so a run in another one would not know of this one's.
        (
            matches!(error, StoreError::InUse { .. }),
            "`lifeboat status` shows what that process does; wait for its end, or end its run first",
        ),
        (matches!(error, StoreError::DiskFull { .. }), "nothing that was acknowledged is lost; make room, then `lifeboat resume` goes on"),
        (matches!(error, StoreError::NewerFormat { .. }), "use the newer lifeboat that wrote it; the folder was not touched"),
        (matches!(error, StoreError::Damaged { .. }), "keep a copy of the folder as it is before you try anything"),
        (
            matches!(error, StoreError::InDoubt { .. }),
            "nothing goes on without a majority of the cluster; once it answers, `lifeboat resume` reads what is kept and goes on from there",
        ),
        (
            matches!(error, StoreError::Unreachable { .. }),
            "nothing goes on without a majority of the cluster, and nothing is kept elsewhere instead; look at its members and the network",
        ),
        (
            matches!(error, StoreError::UnfitServer { .. }),
            "use another version, or say in the inventory who accepts this one and why: store.etcd.accept_stale_reads",
        ),
        (matches!(error, StoreError::Poisoned(_)), "`lifeboat resume` opens the folder anew and goes on from what is kept"),
    ];
    match help.iter().find(|(fits, _)| *fits) {
        Some((_, help)) => trouble.help(*help),
        None => trouble,
    }
}

/// A new name for this process as a writer of journals: never the same twice.
pub(crate) fn owner() -> OwnerId {
    // Runs may be driven from several machines, and people have to know where to look.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-.".contains(*c)).take(64).collect();
    OwnerId(format!("{host}-{}-{}", std::process::id(), uuid::Uuid::now_v7().simple()))
}

/// Chance for run ids, from the random part of a fresh UUID.
pub(crate) fn chance() -> u32 {
    let bytes = uuid::Uuid::now_v7().into_bytes();
    u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])
}
