//! A desk: an inventory, runbooks and a data folder, without any server. Enough for everything that is about the engine itself.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use xtask::lab::others_may_reach;

use super::process::{Ended, Going, binary, run};
use super::stage::{make, write};

/// A small inventory with people who work as system users that every Debian has. Members of the group `daemon` reach the engine.
const PEOPLE: &str = "\
lifeboat: v1
people:
  ada:
    roles: [oncall]
    system_user: daemon
  bob:
    roles: [oncall]
    system_user: nobody
  eve:
    roles: [finance]
    system_user: games
policies:
  control_group: daemon
";

/// Files for one test. They are removed with it.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
    pub(crate) config: PathBuf,
    pub(crate) data: PathBuf,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        // Other system users pass through, as they would on a machine where several people work.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
        let desk = Self { config: folder.path().join("lifeboat.yaml"), data: folder.path().join("data"), folder };
        write(&desk.config, PEOPLE);
        desk
    }

    /// Writes a file of this desk and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let file = self.folder.path().join(name);
        write(&file, text);
        file.display().to_string()
    }

    /// A runbook of so many waits, one after the other.
    pub(crate) fn chain(&self, name: &str, steps: usize, length: &str) -> String {
        let mut text = format!("lifeboat: v1\nname: {name}\nsteps:\n");
        for step in 0..steps {
            let needs = if step == 0 { String::new() } else { format!("    needs: [s{}]\n", step - 1) };
            let _written = write!(text, "  - id: s{step}\n    type: wait\n{needs}    with: {{ for: {length} }}\n");
        }
        self.file(&format!("{name}.yaml"), &text)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.command_of(binary(), words)
    }

    fn command_of(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("--config").arg(&self.config).arg("--data").arg(&self.data).args(words).current_dir(self.folder.path());
        command.env_remove("LIFEBOAT_CONFIG").env_remove("LIFEBOAT_DATA").env_remove("NO_COLOR");
        command
    }

    /// A command as another system user: user id and group id.
    pub(crate) fn command_as(&self, (uid, gid): (u32, u32), words: &[&str]) -> Command {
        use std::os::unix::process::CommandExt as _;
        let program = if others_may_reach(binary()) {
            binary().to_owned()
        } else {
            let copy = self.folder.path().join("lifeboat");
            if !copy.exists() {
                std::fs::copy(binary(), &copy).unwrap_or_else(|error| panic!("{error}"));
            }
            copy
        };
        let mut command = self.command_of(&program, words);
        command.uid(uid).gid(gid);
        command
    }

    #[track_caller]
    pub(crate) fn lifeboat(&self, words: &[&str]) -> Ended {
        run(&mut self.command(words))
    }

    #[track_caller]
    pub(crate) fn start(&self, words: &[&str]) -> Going {
        Going::start(&mut self.command(words))
    }

    /// Makes a folder of this desk.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        make(&folder);
        folder
    }
}
