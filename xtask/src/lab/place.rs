//! Where a lab lives: its folder, its loopback addresses, its ports, and the removal of what dead labs left. No servers.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::lab::postgres;
use crate::lab::process::{self, Account};
use crate::patience::look_until;
use crate::trouble::{Doing, Result, Trouble};

/// Where the search for a free port begins; below the kernel's range of ephemeral ports, so nobody takes one in passing.
const FIRST_PORT: u16 = 15_400;
/// Where the search ends.
const LAST_PORT: u16 = 31_999;
/// A socket's path has at most 107 bytes, and the lab's own part of it needs up to 40.
const LONGEST_PATH_BYTES: usize = 64;
/// Where files are kept in memory.
const MEMORY: &str = "/dev/shm";
/// Free memory below which labs go to the disk: enough for a dozen at once.
const MEMORY_ROOM_MIB: u64 = 4096;
/// How long the last files of killed servers may take to become removable.
const REMOVED_WITHIN: Duration = Duration::from_secs(2);
/// In a lab's folder: the shell script that takes down the network which the lab made for itself, if it made one.
pub(crate) const NETWORK: &str = "network-down";
/// Ports that one process may use before it begins again.
static NEXT_PORT: AtomicU16 = AtomicU16::new(FIRST_PORT);
/// Numbers the labs of one process.
static NEXT_LAB: AtomicU16 = AtomicU16::new(0);

/// The folder that holds everything cargo builds, and so everything a lab leaves.
pub fn target() -> PathBuf {
    if let Some(chosen) = std::env::var_os("CARGO_TARGET_DIR") {
        return PathBuf::from(chosen);
    }
    root().join("target")
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// A folder under `target/` that the servers' user can reach.
///
/// A clone under a private home or with a very long path (`/root` is 0700) cannot be entered by the `postgres` user,
/// or gives sockets names that are too long. Then the folder is made under
/// `/var/tmp` and `wanted` becomes a link to it, so that a person still finds everything where the README says.
pub(crate) fn reachable(wanted: &Path, account: Account) -> Result<PathBuf> {
    if let Ok(existing) = fs::canonicalize(wanted) {
        return Ok(existing);
    }
    let parent = wanted.parent().ok_or_else(|| Trouble::new("a lab cannot be the root of the file system"))?;
    fs::create_dir_all(parent).doing(|| format!("make {}", parent.display()))?;
    let parent = fs::canonicalize(parent).doing(|| format!("find {}", parent.display()))?;
    let may_enter = account == Account::Ourselves || parent.ancestors().all(others_may_enter);
    if may_enter && parent.as_os_str().len() <= LONGEST_PATH_BYTES {
        let folder = parent.join(wanted.file_name().unwrap_or_default());
        fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
        return Ok(folder);
    }
    elsewhere(wanted, Path::new("/var/tmp"))
}

/// Makes a folder under `base` and the link `wanted` to it. A link whose folder is gone (after a restart of the machine) is made good.
fn elsewhere(wanted: &Path, base: &Path) -> Result<PathBuf> {
    let folder = base.join(format!("lifeboat-{:016x}", fingerprint(wanted)));
    fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
    // These places are open to everybody, and the name can be guessed: what somebody else put there is not used.
    let ours = fs::metadata("/proc/self").is_ok_and(|us| fs::symlink_metadata(&folder).is_ok_and(|it| it.is_dir() && it.uid() == us.uid()));
    if !ours {
        return Err(Trouble::new(format!("{} belongs to somebody else; remove it", folder.display())));
    }
    // Two processes may both find the link missing; whichever loses finds it made.
    match std::os::unix::fs::symlink(&folder, wanted) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Trouble::new(format!("cannot link {}: {error}", wanted.display())))
        }
        Ok(()) | Err(_) => Ok(folder),
    }
}

/// A short name for a path, the same every time (FNV-1a).
fn fingerprint(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn others_may_enter(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.mode() & 0o001 != 0)
}

/// An exclusive lock between processes, held until dropped. The kernel frees it when the holder dies,
/// and the file is closed on exec, so a server that was started meanwhile does not keep it.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "the open file is the lock")] fs::File);

impl Turn {
    /// Waits for the lock file at `path`.
    pub(crate) fn wait(path: &Path) -> Result<Self> {
        let file = fs::File::create(path).doing(|| format!("open {}", path.display()))?;
        file.lock().doing(|| format!("lock {}", path.display()))?;
        Ok(Self(file))
    }
}

/// Takes the lock at `path`, or says `taken` when another process has it.
///
/// # Errors
/// `taken`, or that the file cannot be made.
pub fn only_one(path: &Path, taken: &str) -> Result<Turn> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).doing(|| format!("make {}", parent.display()))?;
    }
    let file = fs::File::create(path).doing(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Turn(file)),
        Err(_) => Err(Trouble::new(taken)),
    }
}

/// Whether users other than the owner can reach this file or folder.
#[must_use]
pub fn others_may_reach(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|path| path.ancestors().all(others_may_enter))
}

/// The folder of one lab.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The folder itself.
    pub(crate) folder: PathBuf,
    /// Who runs the servers.
    pub(crate) account: Account,
    /// First of the three addresses.
    base: Ipv4Addr,
}

impl Place {
    /// A new place for a lab of a test, with addresses that no other process has: they follow from our pid.
    pub(crate) fn of_this_process(account: Account) -> Result<Self> {
        let labs = labs(account)?;
        let pid = std::process::id();
        let number = NEXT_LAB.fetch_add(1, Ordering::Relaxed);
        let folder = labs.join(format!("{pid}-{number}"));
        Self::make(folder, account, base_of_this_process())
    }

    /// A place at a folder and at addresses of the caller's choice. What was in the folder is removed.
    pub(crate) fn at(folder: &Path, base: Ipv4Addr, account: Account) -> Result<Self> {
        let folder = reachable(folder, account)?;
        Self::make(folder, account, base)
    }

    fn make(folder: PathBuf, account: Account, base: Ipv4Addr) -> Result<Self> {
        remove(&folder)?;
        fs::create_dir_all(folder.join("pids")).doing(|| format!("make {}", folder.display()))?;
        // The servers' user must be able to pass through, whatever our umask is.
        restrict(&folder, 0o711)?;
        process::record_owner(&folder.join("owner"))?;
        let place = Self { folder, account, base };
        let secrets = place.folder.join("secrets");
        fs::create_dir(&secrets).doing(|| format!("make {}", secrets.display()))?;
        restrict(&secrets, 0o700)?;
        for shared in ["wal", "postgres", "dns"] {
            place.make_for_servers(shared)?;
        }
        Ok(place)
    }

    /// Makes a folder that the servers' user owns.
    pub(crate) fn make_for_servers(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).doing(|| format!("make {}", folder.display()))?;
        restrict(&folder, 0o700)?;
        self.account.own(&folder)?;
        Ok(folder)
    }

    /// Writes a secret that only we can read, and says where.
    pub(crate) fn secret(&self, name: &str, value: &str) -> Result<PathBuf> {
        let file = self.folder.join("secrets").join(name);
        fs::write(&file, value).doing(|| format!("write {}", file.display()))?;
        restrict(&file, 0o600)?;
        Ok(file)
    }

    /// The folder of pid files.
    pub(crate) fn pids(&self) -> PathBuf {
        self.folder.join("pids")
    }

    /// The address of a node, counted from 1 to 3.
    pub(crate) fn address(&self, number: u8) -> Ipv4Addr {
        let base = u32::from(self.base);
        Ipv4Addr::from(base + u32::from(number))
    }

    /// A port that is free for TCP and UDP on each of the lab's addresses.
    pub(crate) fn free_port(&self) -> Result<u16> {
        let addresses = [1, 2, 3].map(|number| self.address(number));
        for _ in FIRST_PORT..LAST_PORT {
            let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
            if port >= LAST_PORT {
                NEXT_PORT.store(FIRST_PORT, Ordering::Relaxed);
            }
            if is_free(port, &addresses) {
                return Ok(port);
            }
        }
        Err(Trouble::new(format!("no port between {FIRST_PORT} and {LAST_PORT} is free on {}", addresses[0])))
    }

    /// This port, when it is free on each of the lab's addresses.
    pub(crate) fn exact_port(&self, port: u16) -> Result<u16> {
        let addresses = [1, 2, 3].map(|number| self.address(number));
        if is_free(port, &addresses) {
            return Ok(port);
        }
        Err(Trouble::new(format!("port {port} is taken on one of {addresses:?}; does another lab with these addresses run?")))
    }
}

/// The folder of the labs of tests: in memory where there is room, because copying four thousand files to a disk takes
/// seconds and to memory a third of one; `target/peers/labs` is then a link.
fn labs(account: Account) -> Result<PathBuf> {
    let link = reachable(&target().join("peers"), account)?.join("labs");
    if let Ok(existing) = fs::canonicalize(&link) {
        return Ok(existing);
    }
    if memory_has_room() {
        return elsewhere(&link, Path::new(MEMORY));
    }
    fs::create_dir_all(&link).doing(|| format!("make {}", link.display()))?;
    Ok(link)
}

fn memory_has_room() -> bool {
    let Ok(output) = Command::new("df").args(["--output=avail", "--block-size=1M", MEMORY]).output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().nth(1).and_then(|free| free.trim().parse::<u64>().ok()).is_some_and(|free| free >= MEMORY_ROOM_MIB)
}

/// The address before the three that belong to this process alone.
pub(crate) fn base_of_this_process() -> Ipv4Addr {
    // A pid has at most 22 bits; with two bits for the node that fills 127.0.0.0/8 exactly.
    let [_, b, c, d] = ((std::process::id() & 0x3f_ffff) << 2).to_be_bytes();
    Ipv4Addr::new(127, b, c, d)
}

fn is_free(port: u16, addresses: &[Ipv4Addr]) -> bool {
    addresses.iter().all(|address| {
        let address = (IpAddr::V4(*address), port);
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    })
}

/// Sets the mode of a file or folder.
pub(crate) fn restrict(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing(|| format!("restrict {}", path.display()))
}

/// Kills whatever is recorded in a lab's folder and removes the folder's content.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    process::kill_recorded(&folder.join("pids"))?;
    postgres::free_shared_memory(&folder.join("postgres"));
    if folder.join(NETWORK).exists() {
        // What is left of it is seen by the next lab that takes a network, and passed over.
        let _down = Command::new("/bin/sh").arg(folder.join(NETWORK)).stderr(std::process::Stdio::null()).status();
    }
    // A server that was just killed may still be writing; a later try finds it gone.
    let removed = look_until(REMOVED_WITHIN, || (fs::remove_dir_all(folder).is_ok() || !folder.exists()).then_some(()));
    removed.ok_or_else(|| Trouble::new(format!("cannot remove {}", folder.display())))
}

/// Removes the labs whose owner is dead: what a power cut or a killed guardian left behind.
pub(crate) fn reap(account: Account) -> Result<()> {
    let peers = reachable(&target().join("peers"), account)?;
    let _turn = Turn::wait(&peers.join("reaper.lock"))?;
    let Ok(entries) = fs::read_dir(labs(account)?) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let owner = entry.path().join("owner");
        // A lab that is just being made has no owner file yet; its maker is about to write it.
        if owner.exists() && !process::owner_lives(&owner) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
