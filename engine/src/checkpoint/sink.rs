//! Where checkpoints go: a file that is only appended to. Who can write to it beside us decides what it is worth; see docs/operations.md.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Signed;

/// How much of a file's end is read to find the last checkpoints, in bytes: some 2,500 of them.
const RECENT_BYTES: u64 = 1024 * 1024;

/// A place for checkpoints, out of reach of whoever can rewrite the store.
pub trait Sink: fmt::Debug + Send {
    /// Adds whole lines; durable when this returns.
    ///
    /// # Errors
    /// Where they may not be there. Adding them again does no harm.
    fn append(&mut self, lines: &str) -> io::Result<()>;

    /// The last checkpoints, as far as they can be had cheaply. Lines that cannot be read are left out.
    ///
    /// # Errors
    /// Where the place cannot be read.
    fn recent(&mut self) -> io::Result<Vec<Signed>>;

    /// Its name, for people.
    fn name(&self) -> String;
}

/// A file.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    /// Whether the last write may have left half a line.
    torn: Torn,
}

#[derive(Debug, PartialEq, Eq)]
enum Torn {
    Perhaps,
    No,
}

impl FileSink {
    /// The file is made when the first checkpoint is written, for this user alone.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), torn: Torn::Perhaps }
    }

    /// Opened anew for each group of checkpoints: a file that was rotated or mounted again meanwhile is found.
    fn open(&self) -> io::Result<(File, Fresh)> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600);
        match options.open(&self.path) {
            Ok(file) => Ok((file, Fresh::No)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((options.create_new(true).open(&self.path)?, Fresh::Yes)),
            Err(error) => Err(error),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Fresh {
    Yes,
    No,
}

impl Sink for FileSink {
    fn append(&mut self, lines: &str) -> io::Result<()> {
        let (mut file, fresh) = self.open()?;
        let mut text = String::new();
        if self.torn == Torn::Perhaps && !ends_in_a_line(&mut file)? {
            text.push('\n');
        }
        text.push_str(lines);
        self.torn = Torn::Perhaps;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if fresh == Fresh::Yes
            && let Some(folder) = self.path.parent()
        {
            File::open(folder)?.sync_all()?;
        }
        self.torn = Torn::No;
        Ok(())
    }

    fn recent(&mut self) -> io::Result<Vec<Signed>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(RECENT_BYTES)))?;
        let mut found = Vec::new();
        for line in BufReader::new(file.take(RECENT_BYTES)).split(b'\n') {
            let line = line?;
            found.extend(std::str::from_utf8(&line).ok().and_then(|line| Signed::from_line(line).ok()));
        }
        Ok(found)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn ends_in_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0u8; 1];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_torn_line_spoils_no_other_and_the_file_is_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("checkpoints");
        let mut sink = FileSink::new(&path);
        assert!(sink.recent().unwrap().is_empty());
        sink.append("one\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"half a li").unwrap();
        FileSink::new(&path).append("two\nthree\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nhalf a li\ntwo\nthree\n");
        // A file that was moved away is begun anew.
        std::fs::rename(&path, place.path().join("checkpoints.1")).unwrap();
        sink.append("four\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
    }
}
