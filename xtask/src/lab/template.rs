//! The stopped clusters that every lab is copied from: made once, so that a lab starts in about a second. No lab's state is here.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::place::{self, Turn};
use crate::lab::postgres::{self, Durability, PRIMARY, REGIONS, Wiring};
use crate::lab::process::{Account, Server, Signal};
use crate::trouble::{Doing, Result, Trouble};

/// Raised whenever the recipe below changes, so that an old template is not used with a new lab.
const RECIPE: u32 = 4;
/// Where the template's clusters listen while they are made: on addresses of this process, below the ports of its labs.
const BUILDING_PORT: u16 = 15_399;

/// The settings that are the same in every lab; what differs is in `lab.conf`, which the last line includes.
const SETTINGS: &str = "
unix_socket_directories = ''
shared_buffers = 16MB
dynamic_shared_memory_type = mmap
max_connections = 60
max_wal_senders = 12
wal_level = replica
wal_log_hints = on
wal_keep_size = 64MB
min_wal_size = 32MB
max_wal_size = 256MB
archive_mode = on
hot_standby = on
autovacuum = off
password_encryption = 'scram-sha-256'
log_line_prefix = '%m [%p] %q%u@%d/%a '
log_statement = 'mod'
timezone = 'UTC'
log_timezone = 'UTC'
include = 'lab.conf'
";

/// Who may log in: passwords only, from loopback only.
const ADMISSION: &str = "
host replication replicator 127.0.0.0/8 scram-sha-256
host all         all        127.0.0.0/8 scram-sha-256
";

/// The roles of the lab.
pub(crate) const ROLES: [&str; 6] = ["postgres", "replicator", "app", "heartbeat", "lifeboat_probe", "lifeboat_act"];

/// The password of a role. The same in every lab, because a lab's clusters are copies; they listen on loopback only.
pub(crate) fn password(role: &str) -> String {
    format!("lab-{role}-pw")
}

/// The folder with one stopped cluster per region; made when it is not there yet.
pub(crate) fn ready(account: Account) -> Result<PathBuf> {
    let peers = place::reachable(&place::target().join("peers"), account)?;
    let template = peers.join(format!("template-{RECIPE}"));
    if template.join("complete").exists() {
        return Ok(template);
    }
    let _turn = Turn::wait(&peers.join("template.lock"))?;
    if template.join("complete").exists() {
        return Ok(template);
    }
    if template.exists() {
        fs::remove_dir_all(&template).doing(|| format!("remove the unfinished {}", template.display()))?;
    }
    build(&template, account)?;
    fs::write(template.join("complete"), "").doing(|| "mark the template complete".to_owned())?;
    Ok(template)
}

fn build(template: &Path, account: Account) -> Result<()> {
    for folder in [template.to_owned(), template.join("wal"), template.join("pids")] {
        fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
        place::restrict(&folder, 0o755)?;
        account.own(&folder)?;
    }
    let port = BUILDING_PORT;
    let wiring = |region: &str| Wiring {
        listen: address(region),
        port,
        upstream: (address(PRIMARY), port),
        wal: template.join("wal"),
        durability: Durability::Relaxed,
        region: region.to_owned(),
    };
    let primary = init(template, account, &wiring(PRIMARY))?;
    for replica in REGIONS.into_iter().filter(|region| *region != PRIMARY) {
        clone(template, account, &wiring(replica), (address(PRIMARY), port))?;
    }
    let mut servers = vec![primary];
    for replica in REGIONS.into_iter().filter(|region| *region != PRIMARY) {
        servers.push(start(template, account, replica)?);
    }
    // Standbys first, so that the primary's shutdown checkpoint is not missed by design but by order.
    for server in servers.into_iter().rev() {
        server.signal(Signal::Interrupt)?;
        server.wait()?;
    }
    Ok(())
}

fn address(region: &str) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(place::base_of_this_process()) + postgres::number_of(region))
}

fn init(template: &Path, account: Account, wiring: &Wiring) -> Result<Server> {
    let data = template.join(PRIMARY);
    let password_file = template.join("initial-password");
    fs::write(&password_file, password("postgres")).doing(|| "write the first password".to_owned())?;
    account.own(&password_file)?;
    place::restrict(&password_file, 0o600)?;
    let mut initdb = account.command(postgres::binary("initdb"));
    initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "--no-instructions"]);
    initdb.args(["-E", "UTF8", "--locale=C", "--pwfile"]).arg(&password_file);
    succeed(initdb, "initdb")?;
    fs::remove_file(&password_file).doing(|| "remove the first password".to_owned())?;
    append(&data.join("postgresql.conf"), SETTINGS)?;
    fs::write(data.join("pg_hba.conf"), ADMISSION).doing(|| "write pg_hba.conf".to_owned())?;
    postgres::write_wiring(&data, account, wiring)?;
    let server = start(template, account, PRIMARY)?;
    create_roles(template, wiring)?;
    Ok(server)
}

fn create_roles(template: &Path, wiring: &Wiring) -> Result<()> {
    let (roles, objects) = (template.join("roles.sql"), template.join("objects.sql"));
    let mut script = include_str!("roles.sql").to_owned();
    for role in ROLES {
        // `\i` ends in the database postgres, where roles are as good as anywhere.
        script.push_str(&format!("alter role {role} password '{}';\n", password(role)));
    }
    for slot in REGIONS.into_iter().filter(|region| *region != PRIMARY) {
        let slot = super::postgres::slot(slot);
        script.push_str(&format!("select pg_create_physical_replication_slot('{slot}', true);\n"));
    }
    fs::write(&roles, script).doing(|| "write roles.sql".to_owned())?;
    fs::write(&objects, include_str!("objects.sql")).doing(|| "write objects.sql".to_owned())?;
    let mut psql = postgres::psql_command(wiring.listen, wiring.port, "postgres", "postgres");
    psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-v"]).arg(format!("objects={}", objects.display())).arg("-f").arg(&roles);
    succeed(psql, "create the roles")
}

fn clone(template: &Path, account: Account, wiring: &Wiring, from: (Ipv4Addr, u16)) -> Result<()> {
    let data = template.join(&wiring.region);
    let mut backup = account.command(postgres::binary("pg_basebackup"));
    backup.env("PGPASSWORD", password("replicator"));
    backup.arg("-h").arg(from.0.to_string()).arg("-p").arg(from.1.to_string()).args(["-U", "replicator", "-D"]).arg(&data);
    backup.args(["-X", "stream", "-c", "fast", "--no-sync", "--no-manifest"]);
    succeed(backup, "pg_basebackup")?;
    fs::write(data.join("standby.signal"), "").doing(|| "write standby.signal".to_owned())?;
    account.own(&data.join("standby.signal"))?;
    postgres::write_wiring(&data, account, wiring)
}

fn start(template: &Path, account: Account, region: &str) -> Result<Server> {
    let data = template.join(region);
    let log = template.join(format!("{region}.log"));
    let mut server = postgres::launch(account, &data, &log, &template.join("pids"), region)?;
    postgres::wait_ready(&mut server, &data, &log)?;
    Ok(server)
}

fn append(file: &Path, text: &str) -> Result<()> {
    let mut content = fs::read_to_string(file).doing(|| format!("read {}", file.display()))?;
    content.push_str(text);
    fs::write(file, content).doing(|| format!("write {}", file.display()))
}

fn succeed(mut command: Command, what: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().doing(|| format!("run {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Trouble::new(format!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
