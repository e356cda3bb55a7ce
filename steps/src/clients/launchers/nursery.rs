//! The hidden entry of the binary: a small process of one thread, started by the engine, that keeps launchers ready. A launcher is a fork
//! of it which waits for a letter and becomes the program. It dies with the engine, and launchers and programs die with it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use fork::Fork;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, getpid, getppid, kill_process_group, pidfd_open,
    set_parent_process_death_signal, setpgid, waitid,
};

use super::letter::{LETTER_BYTES_MAX, Letter, receive, send};
use super::{BEGINS, ENDED_BY_SIGNAL, EXITED, NOT_STARTED};

/// The first word of the command line that asks for this entry.
pub(super) const WORD: &str = "__launchers";

/// Runs the entry where the command line asks for it: `__launchers ENGINE-PID`, with the engine's socket as standard input.
pub fn entry(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != WORD {
        return None;
    }
    let engine = args.next().and_then(|pid| pid.to_str()?.parse().ok()).and_then(Pid::from_raw);
    match engine.map(|engine| tend(io::stdin().as_fd(), engine)) {
        Some(Ok(())) => Some(ExitCode::SUCCESS),
        Some(Err(_)) | None => Some(ExitCode::FAILURE),
    }
}

/// A launcher, or the program that it became.
struct Ward {
    pid: Pid,
    /// Tells when it has ended, and keeps its number from being given to another.
    process: OwnedFd,
    /// The engine's wire to it, while the engine holds the other end.
    line: Option<OwnedFd>,
    has_ended: bool,
}

/// Raises launchers on demand until the engine is gone.
///
/// # Errors
/// Where the socket to the engine fails.
pub fn tend(engine: BorrowedFd<'_>, engine_pid: Pid) -> io::Result<()> {
    // The closed socket tells that the engine is gone. A process that was stopped does not see that, so it is made to go on.
    told_of_the_death_of(engine_pid, Signal::CONT)?;
    let mut wards: Vec<Ward> = Vec::new();
    loop {
        let (engine_calls, news) = listen(engine, &wards)?;
        if engine_calls {
            let mut order = [0; 1];
            let (0, _) = receive(engine, &mut order)? else {
                raise(engine, &mut wards)?;
                continue;
            };
            // The engine is gone, and nobody watches what runs: none of it goes on, and none of its children.
            wards.iter().filter(|ward| !ward.has_ended).for_each(Ward::kill);
            return Ok(());
        }
        for (ward, (ended, let_go)) in wards.iter_mut().zip(news) {
            if ended {
                ward.tell_end();
            }
            if let_go {
                if !ward.has_ended {
                    ward.kill();
                }
                ward.line = None;
            }
        }
        // The number of one that has ended stays taken until the engine lets go of it, so that its signals hit nobody else.
        wards.retain(|ward| {
            let over = ward.has_ended && ward.line.is_none();
            if over {
                let _ = waitid(WaitId::PidFd(ward.process.as_fd()), WaitIdOptions::EXITED);
            }
            !over
        });
    }
}

/// Waits until something happens: whether the engine calls, and of each ward whether it has ended and whether the engine let go of it.
fn listen(engine: BorrowedFd<'_>, wards: &[Ward]) -> io::Result<(bool, Vec<(bool, bool)>)> {
    let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
    let mut watched = vec![PollFd::from_borrowed_fd(engine, PollFlags::IN)];
    for ward in wards {
        let ends = if ward.has_ended { PollFlags::empty() } else { PollFlags::IN };
        watched.push(PollFd::new(&ward.process, ends));
        // What is sent on it is not for this process.
        watched.push(match &ward.line {
            Some(line) => PollFd::new(line, PollFlags::RDHUP),
            None => PollFd::new(&ward.process, PollFlags::empty()),
        });
    }
    match poll(&mut watched, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let engine_calls = !watched[0].revents().is_empty();
    let of_wards = watched[1..].chunks(2).zip(wards);
    let news = of_wards.map(|(pair, ward)| {
        let ended = !ward.has_ended && pair[0].revents().contains(PollFlags::IN);
        (ended, ward.line.is_some() && pair[1].revents().intersects(gone))
    });
    Ok((engine_calls, news.collect()))
}

/// Makes one more launcher and hands its wire to the engine, with its number. Where that fails the engine is told number zero.
fn raise(engine: BorrowedFd<'_>, wards: &mut Vec<Ward>) -> io::Result<()> {
    let made = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(io::Error::from);
    let made = made.and_then(|(theirs, line)| {
        let nursery = getpid();
        match fork::fork()? {
            Fork::Child => {
                // Each end that stayed open here would keep others from seeing that it was closed.
                drop(theirs);
                wards.clear();
                launch(line, nursery)
            }
            Fork::Parent(pid) => Ok((theirs, line, pid)),
        }
    });
    let ward = made.and_then(|(theirs, line, pid)| {
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("no process"))?;
        // Both sides do it, so that it is done before either goes on.
        let _ = setpgid(Some(pid), Some(pid));
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        Ok((theirs, Ward { pid, process, line: Some(line), has_ended: false }))
    });
    match ward {
        Ok((theirs, ward)) => {
            send(engine, &ward.pid.as_raw_nonzero().get().to_le_bytes(), &[theirs.as_fd()])?;
            wards.push(ward);
        }
        Err(_) => {
            send(engine, &0_i32.to_le_bytes(), &[])?;
        }
    }
    Ok(())
}

impl Ward {
    fn kill(&self) {
        // It is not reaped yet, so the number cannot belong to another group.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }

    /// Tells the engine how it ended, and leaves its number taken.
    fn tell_end(&mut self) {
        self.has_ended = true;
        let status = waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let (kind, code) = status.ok().flatten().map_or((ENDED_BY_SIGNAL, 0), |status: WaitIdStatus| match status.exit_status() {
            Some(code) => (EXITED, code),
            None => (ENDED_BY_SIGNAL, status.terminating_signal().unwrap_or(0)),
        });
        if let Some(line) = &self.line {
            let mut message = vec![kind];
            message.extend(code.to_le_bytes());
            // An engine that is gone needs no answer; one that is there has room for six bytes.
            let _ = rustix::net::send(line, &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }
}

/// From here on this process gets the signal when its parent dies. An error where that happened already.
fn told_of_the_death_of(parent: Pid, signal: Signal) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal))?;
    if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::other("the parent is gone")) }
}

/// The launcher: waits for its letter and becomes the program. It has acted on nothing before it says that it begins.
fn launch(line: OwnedFd, nursery: Pid) -> ! {
    let _ = setpgid(None, None);
    if told_of_the_death_of(nursery, Signal::KILL).is_ok()
        && let Some((letter, files)) = read_letter(line.as_fd())
        && let Ok([stdout, stderr]) = <[OwnedFd; 2]>::try_from(files)
    {
        let mut command = Command::new(&letter.program);
        command.args(&letter.args).env_clear().envs(letter.env).current_dir(&letter.folder);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        if send(line.as_fd(), &[BEGINS], &[]).is_ok() {
            // It only comes back where the program could not be started.
            let why = command.exec().to_string();
            let why = &why.as_bytes()[..why.len().min(usize::from(u8::MAX))];
            let _ = send(line.as_fd(), &[&[NOT_STARTED, u8::try_from(why.len()).unwrap_or(u8::MAX)], why].concat(), &[]);
        }
    }
    std::process::exit(127)
}

/// Nothing where the engine let go of this launcher without using it.
fn read_letter(line: BorrowedFd<'_>) -> Option<(Letter, Vec<OwnedFd>)> {
    let mut files = Vec::new();
    let mut read = |bytes: &mut [u8]| -> Option<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            let (count @ 1.., came) = receive(line, &mut bytes[filled..]).ok()? else { return None };
            files.extend(came);
            filled += count;
        }
        Some(())
    };
    let mut length = [0; 4];
    read(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= LETTER_BYTES_MAX)?;
    let mut body = vec![0; length];
    read(&mut body)?;
    Some((Letter::decode(&body)?, files))
}
