//! Where the socket is, also in folders whose path is longer than a socket address may be.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Name of the socket in the data folder.
pub const SOCKET_NAME: &str = "control.sock";

/// A socket address holds 107 bytes and a final zero on Linux.
const ADDRESS_BYTES_MAX: usize = 107;

/// A path by which the socket of a folder can be bound or connected to; the file keeps it valid.
pub(super) fn address(folder: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let plain = folder.join(SOCKET_NAME);
    if plain.as_os_str().len() <= ADDRESS_BYTES_MAX {
        return Ok((plain, None));
    }
    // Through the open folder the path is short, however long the folder's own is.
    let open = File::open(folder)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", open.as_raw_fd())), Some(open)))
}
