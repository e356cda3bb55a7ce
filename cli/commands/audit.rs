//! `lifeboat audit`: keys that sign checkpoints, and the proof that journals are what was signed.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use lifeboat_engine::audit::{Audit, Auditor, Cause, Claims, Extent};
use lifeboat_engine::checkpoint::key::{PublicKey, SigningKey};
use lifeboat_engine::inventory::CheckpointPolicy;
use lifeboat_engine::secret::{LocalSecrets, Secrets};
use lifeboat_store::Walk;
use lifeboat_store::export::Reader;
use serde_json::json;

use crate::args::{AuditArgs, AuditCommand, Format, Global, KeygenArgs, VerifyArgs};
use crate::exit::{Exit, Trouble, print, say};
use crate::wiring;

pub(crate) async fn run(global: &Global, args: &AuditArgs) -> Result<Exit, Trouble> {
    match &args.command {
        AuditCommand::Keygen(args) => keygen(global, args),
        AuditCommand::Verify(args) => verify(global, args).await,
    }
}

fn keygen(global: &Global, args: &KeygenArgs) -> Result<Exit, Trouble> {
    if wiring::is_inside(&args.file, &global.data) {
        return Err(Trouble::usage(format!("{} lies in the data folder", args.file.display()))
            .help("whoever can rewrite the journals must not have the key: keep it elsewhere"));
    }
    let key = SigningKey::generate().map_err(Trouble::engine)?;
    let mut public = args.file.clone().into_os_string();
    public.push(".pub");
    let public = PathBuf::from(public);
    // The public half first: where the second file cannot be written there is no secret left lying around.
    create(&public, 0o644, &key.public().to_pem())?;
    create(&args.file, 0o600, key.to_pem().reveal())?;
    say(&format!("the key {} is in {}; give {} to whoever checks", key.public().id(), args.file.display(), public.display()));
    let whole = std::path::absolute(&args.file).unwrap_or_else(|_| args.file.clone());
    print(&format!(
        "policies:\n  checkpoints:\n    file: /somewhere/else/checkpoints.jsonl   # outside of the data folder, best on another machine\n    key: file:{}\n",
        whole.display()
    ))?;
    Ok(Exit::Done)
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), Trouble> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all())).map_err(|error| {
        let trouble = Trouble::usage(format!("{} cannot be written: {error}", path.display()));
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            trouble.help("a key that is there is never overwritten; choose another name")
        } else {
            trouble
        }
    })
}

/// Most lines of a checkpoint file that are told of one by one.
const WARNINGS_MAX: usize = 20;

async fn verify(global: &Global, args: &VerifyArgs) -> Result<Exit, Trouble> {
    let policy = policy(global, args)?;
    let key = public_key(args, policy.as_ref())?;
    let file = match (&args.checkpoints, &policy) {
        (Some(file), _) => file.clone(),
        (None, Some((policy, folder))) => folder.join(&policy.file),
        (None, None) => {
            return Err(
                Trouble::usage("no checkpoints are named").help("give --checkpoints FILE, or `policies.checkpoints` in the inventory")
            );
        }
    };
    let unread = |error: &dyn std::fmt::Display| Trouble::usage(format!("the checkpoints {} cannot be read: {error}", file.display()));
    let input = File::open(&file).map_err(|error| unread(&error))?;
    let claims = Claims::read(BufReader::new(input), &key).map_err(|error| unread(&error))?;
    // Lines that somebody changed are findings.
    for void in claims.void.iter().filter(|void| void.cause != Cause::Tampered).take(WARNINGS_MAX) {
        say(&format!("warning: {}, line {} {}; it proves nothing", file.display(), void.line, void.why));
    }
    let mut auditor = Auditor::new(claims);
    let extent = match &args.export {
        Some(export) => {
            let input = File::open(export).map_err(|error| Trouble::usage(format!("{} cannot be read: {error}", export.display())))?;
            Reader::new(BufReader::new(input)).for_each(|seen| auditor.hear(&seen));
            if auditor.heard_store() { Extent::Whole } else { Extent::Part }
        }
        None => {
            let store = wiring::open_at_rest(global)?;
            let mut walk = Walk::over_all(store.as_ref()).await.map_err(|error| wiring::store_trouble(&error))?;
            while let Some(seen) = walk.next().await.map_err(|error| wiring::store_trouble(&error))? {
                auditor.hear(&seen);
            }
            Extent::Whole
        }
    };
    let audit = auditor.judge(extent);
    match args.format {
        Format::Text => print(&text(&audit, extent, &key))?,
        Format::Json => {
            let extent = match extent {
                Extent::Whole => "whole",
                Extent::Part => "part",
            };
            print(&format!(
                "{:#}\n",
                json!({ "sound": audit.findings.is_empty(), "extent": extent, "key": key.id(), "unproven": audit.unproven(), "audit": audit })
            ))?;
        }
    }
    Ok(if audit.findings.is_empty() { Exit::Done } else { Exit::Engine })
}

/// The inventory's policy with the folder that its paths count from, where it is needed and there.
fn policy(global: &Global, args: &VerifyArgs) -> Result<Option<(CheckpointPolicy, PathBuf)>, Trouble> {
    if (args.checkpoints.is_some() && args.public_key.is_some()) || !global.config.exists() {
        return Ok(None);
    }
    let inventory = wiring::inventory(global, &lifeboat_steps::registry())?;
    Ok(inventory.policies.checkpoints.map(|policy| (policy, inventory.folder)))
}

fn public_key(args: &VerifyArgs, policy: Option<&(CheckpointPolicy, PathBuf)>) -> Result<PublicKey, Trouble> {
    match (&args.public_key, policy) {
        (Some(file), _) => {
            let text = wiring::source(file)?.text;
            PublicKey::from_pem(&text).map_err(|why| Trouble::usage(format!("{} {why}", file.display())))
        }
        (None, Some((policy, folder))) => {
            let secret = LocalSecrets::new(folder).read(&policy.key).map_err(|error| Trouble::from_error(Exit::Usage, &error))?;
            SigningKey::from_pem(&secret).map(|key| key.public()).map_err(|why| Trouble::usage(format!("the key {} {why}", policy.key)))
        }
        (None, None) => Err(Trouble::usage("no public key is named").help("give --public-key FILE, as `lifeboat audit keygen` wrote it")),
    }
}

fn text(audit: &Audit, extent: Extent, key: &PublicKey) -> String {
    let mut text = String::new();
    for finding in &audit.findings {
        let _ = writeln!(text, "FOUND  {finding}");
    }
    let what = match extent {
        Extent::Whole => "the store",
        Extent::Part => "part of a store",
    };
    let entries: u64 = audit.logs.iter().map(|log| log.entries).sum();
    let _ = writeln!(
        text,
        "{what}: {} logs with {entries} entries, held against {} checkpoints of the key {}",
        audit.logs.len(),
        audit.checkpoints,
        key.id()
    );
    if audit.of_other_stores > 0 {
        let _ = writeln!(text, "{} checkpoints are about other stores and say nothing here", audit.of_other_stores);
    }
    for log in audit.logs.iter().filter(|log| log.proven < log.entries) {
        let since = log.signed_at.map_or_else(String::new, |at| format!(", signed at {at}"));
        let _ =
            writeln!(text, "unproven  {}: entries {} to {} lie behind the last checkpoint{since}", log.log, log.proven, log.entries - 1);
    }
    let _ = match audit.findings.len() {
        0 => match audit.unproven() {
            0 => writeln!(text, "every entry is what was signed"),
            behind => writeln!(text, "every entry up to the last checkpoints is what was signed; the {behind} behind them are not proven"),
        },
        1 => writeln!(text, "1 thing is not as it was signed"),
        many => writeln!(text, "{many} things are not as they were signed"),
    };
    text
}
