//! What the lab needs on this machine and how to get it. Looks first, installs only what is missing, says what and why.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::place;
use crate::lab::process::{self, Account};
use crate::trouble::{Doing, Result, Trouble};

/// A program the lab needs: where it must be, the Debian package that brings it, and why.
#[derive(Clone, Copy)]
pub(super) struct Need {
    pub(super) program: &'static str,
    pub(super) package: &'static str,
    pub(super) why: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "/usr/lib/postgresql/15/bin/postgres", package: "postgresql-15", why: "the databases of the lab" },
    Need { program: "/usr/lib/postgresql/15/bin/psql", package: "postgresql-client-15", why: "the client outside the engine" },
    Need { program: "/usr/sbin/knotd", package: "knot", why: "the authoritative DNS servers of the lab" },
    Need { program: "/usr/bin/knsupdate", package: "knot-dnsutils", why: "DNS updates from outside the engine" },
    Need { program: "/usr/sbin/named", package: "bind9", why: "the second kind of DNS server that updates are tested against" },
    Need { program: "/usr/bin/setpriv", package: "util-linux", why: "no server runs as root" },
    Need { program: "/usr/bin/etcd", package: "etcd-server", why: "the members of a cluster that machines share" },
    Need { program: "/usr/bin/openssl", package: "openssl", why: "certificates for servers that demand them" },
    Need { program: "/usr/sbin/ip", package: "iproute2", why: "networks of their own for those members" },
    Need { program: "/usr/bin/strace", package: "strace", why: "tests that count syncs" },
];

/// What building needs beside Rust: etcd's client makes its code from protocol files.
const BUILD_NEEDS: &[Need] = &[
    Need { program: "/usr/bin/protoc", package: "protobuf-compiler", why: "etcd's client is made with it" },
    Need {
        program: "/usr/include/google/protobuf/descriptor.proto",
        package: "libprotobuf-dev",
        why: "the protocol files that all others begin with",
    },
];

/// The Python programs of the Route 53 peers, kept in a folder of their own under `target/`.
pub(super) const PYTHON: &str = "/usr/bin/python3";

/// One line for a person about something that is being installed.
pub type Tell<'a> = &'a mut dyn FnMut(&str);

/// Makes sure that PostgreSQL, Knot and the small tools are here.
///
/// # Errors
/// The exact command to type, when something is missing and cannot be installed from here.
pub fn peers(tell: Tell<'_>) -> Result<()> {
    all_of(&[NEEDS, BUILD_NEEDS].concat(), tell)
}

/// Makes sure that the product can be built.
///
/// # Errors
/// As [`peers`].
pub fn build_tools(tell: Tell<'_>) -> Result<()> {
    all_of(BUILD_NEEDS, tell)
}

/// Makes sure that this kind of file system can be made: `ext4`, `xfs` or `btrfs`.
///
/// # Errors
/// As [`peers`]; or it is another kind, or the kernel does not have it.
pub fn file_system(kind: &str, tell: Tell<'_>) -> Result<()> {
    let need = match kind {
        "ext4" => Need { program: "/usr/sbin/mkfs.ext4", package: "e2fsprogs", why: "images for the power-cut rig" },
        "xfs" => Need { program: "/usr/sbin/mkfs.xfs", package: "xfsprogs", why: "images for the power-cut rig" },
        "btrfs" => Need { program: "/usr/sbin/mkfs.btrfs", package: "btrfs-progs", why: "images for the power-cut rig" },
        other => return Err(Trouble::new(format!("there is no rig for the file system `{other}`; use ext4, xfs or btrfs"))),
    };
    all_of(&[need], tell)
}

pub(super) fn all_of(needs: &[Need], tell: Tell<'_>) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !Path::new(need.program).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    for need in &missing {
        tell(&format!("installing {}: {} ({} is missing)", need.package, need.why, need.program));
    }
    apt_install(&packages)
}

/// Says whether everything [`peers`] would install is here.
///
/// # Errors
/// The command to type when it is not.
pub fn check() -> Result<()> {
    match NEEDS.iter().find(|need| !Path::new(need.program).exists()) {
        None => Ok(()),
        Some(need) => Err(Trouble::new(format!(
            "{} is missing ({}): run `cargo xtask install`, or `apt-get install {}`",
            need.program, need.why, need.package
        ))),
    }
}

/// Makes sure that the Route 53 emulator is here and returns its program.
///
/// # Errors
/// What to type, when it cannot be installed from here.
pub fn route53(tell: Tell<'_>) -> Result<PathBuf> {
    let peers = place::reachable(&place::target().join("peers"), Account::find()?)?;
    let program = peers.join("venv/bin/ministack");
    if program.exists() {
        return Ok(program);
    }
    let _turn = place::Turn::wait(&peers.join("venv.lock"))?;
    if program.exists() {
        return Ok(program);
    }
    tell("installing ministack (PyPI) into target/peers/venv: a Route 53 that can be asked without an account");
    // The interpreter of the system, because one under a private home cannot be entered by another user.
    venv_module(tell)?;
    run(Command::new(PYTHON).args(["-m", "venv"]).arg(peers.join("venv")))?;
    run(Command::new(peers.join("venv/bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", "ministack"]))?;
    Ok(program)
}

/// Makes sure that folders for Python programs can be made.
pub(super) fn venv_module(tell: Tell<'_>) -> Result<()> {
    if run(Command::new(PYTHON).args(["-c", "import ensurepip, venv"])).is_err() {
        tell("installing python3-venv: to make a folder for Python programs");
        apt_install(&["python3-venv"])?;
    }
    Ok(())
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(Trouble::new(format!("this is no Debian; please install by hand what `{by_hand}` would")));
    }
    let root = process::is_root();
    if !root && !Path::new("/usr/bin/sudo").exists() {
        return Err(Trouble::new(format!("please run as root: {by_hand}")));
    }
    let apt = || {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.arg("apt-get");
        }
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let install = || {
        let mut command = apt();
        command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
        command
    };
    // A fresh machine has no package lists, or old ones.
    if run(&mut install()).is_ok() {
        return Ok(());
    }
    run(apt().args(["update", "--quiet"]))?;
    run(&mut install()).map_err(|error| Trouble::new(format!("{error}\nplease run by hand: {by_hand}")))
}

pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().doing(|| format!("run {}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Trouble::new(format!("{} {}: {}", command.get_program().display(), output.status, said.trim())))
}
