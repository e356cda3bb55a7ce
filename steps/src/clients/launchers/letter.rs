//! What a launcher is told, as bytes on a socket with the ends of two pipes beside them. No deciding here.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A launcher believes no letter that is larger: the system itself takes no more in arguments and environment.
pub(super) const LETTER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most open files that come with one message.
const FILES_MAX: usize = 2;

/// The program to become.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) program: OsString,
    pub(super) folder: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
}

impl Letter {
    /// Its length, then each part with its own length: a part may hold any byte.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut put = |part: &OsStr| {
            let bytes = part.as_bytes();
            body.extend(length(bytes.len())?);
            body.extend(bytes);
            Ok::<(), io::Error>(())
        };
        put(&self.program)?;
        put(&self.folder)?;
        put(OsStr::new(&self.args.len().to_string()))?;
        self.args.iter().try_for_each(|arg| put(arg))?;
        self.env.iter().try_for_each(|(name, value)| put(name).and_then(|()| put(value)))?;
        if body.len() > LETTER_BYTES_MAX {
            return Err(io::Error::other(format!("{} bytes of arguments and environment are too many", body.len())));
        }
        Ok([length(body.len())?.to_vec(), body].concat())
    }

    /// The letter in these bytes, without the length before it.
    pub(super) fn decode(mut body: &[u8]) -> Option<Self> {
        let mut parts = Vec::new();
        while !body.is_empty() {
            let (length, rest) = body.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let part = rest.get(..length)?;
            parts.push(OsString::from_vec(part.to_vec()));
            body = &rest[length..];
        }
        let mut parts = parts.into_iter();
        let (program, folder) = (parts.next()?, parts.next()?);
        let count: usize = parts.next()?.to_str()?.parse().ok()?;
        let args: Vec<OsString> = parts.by_ref().take(count).collect();
        let mut env = Vec::new();
        while let Some(name) = parts.next() {
            env.push((name, parts.next()?));
        }
        (args.len() == count).then_some(Self { program, folder, args, env })
    }
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    u32::try_from(bytes).map(u32::to_le_bytes).map_err(io::Error::other)
}

/// Sends bytes with open files; answers how many of the bytes went. A side that is gone is an error, never a signal.
pub(super) fn send(line: BorrowedFd<'_>, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut room);
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files for one message"));
    }
    Ok(sendmsg(line, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
}

/// Receives bytes, and the open files that came with them. No bytes: the other side is gone.
pub(super) fn receive(line: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut room);
    let got = loop {
        match recvmsg(line, &mut [IoSliceMut::new(bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            got => break got?,
        }
    };
    let mut files = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            files.extend(came);
        }
    }
    Ok((got.bytes, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_comes_back_as_it_was_whatever_bytes_are_in_it() {
        let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let letter = Letter {
            program: part(b"/bin/a b"),
            folder: part(b"/"),
            args: vec![part(b""), part(b"x\0LD_PRELOAD=y"), part(b"\xff\n")],
            env: vec![(part(b"TOKEN"), part(b"a\0PATH=/tmp")), (part(b"EMPTY"), part(b""))],
        };
        let bytes = letter.encode().unwrap();
        assert_eq!(Letter::decode(&bytes[4..]), Some(letter));
        for cut in 4..bytes.len() {
            assert_ne!(Letter::decode(&bytes[4..cut]).map(|letter| letter.env.len()), Some(2), "cut at {cut}");
        }
    }
}
