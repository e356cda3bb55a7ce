//! What a stopped server's log holds beyond a position, read by `pg_waldump` from its files. Reads only.

use std::time::Duration;

use lifeboat_engine::clock::Clock;

use super::lsn::Lsn;
use super::program;
use crate::resources::database::Local;

/// Longest time for reading a log; what takes longer is not known exactly.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// The part of a log beyond a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where the log ends.
    pub end: Lsn,
    /// Commits and prepared transactions in it.
    pub transactions: u64,
}

/// Reads what a stopped server's log holds on a timeline from a position on.
///
/// # Errors
/// That it cannot be told: a segment is missing, or there is too much to read in time.
pub async fn tail(clock: &dyn Clock, local: &Local, timeline: u32, from: Lsn) -> Result<Tail, String> {
    let wal = local.data_dir.join("pg_wal");
    let (wal, timeline, start) = (wal.display().to_string(), timeline.to_string(), from.to_string());
    let arguments = ["-p", &wal, "-t", &timeline, "-s", &start];
    // Its output may be large: all records are skipped first, to learn where the log ends, then only transactions are told.
    let end = program::beside_server(clock, local, "pg_waldump", &[&arguments[..], &["-q"]].concat(), READ_WITHIN).await?;
    let end = log_end(&end.stderr, from)?;
    if end <= from {
        return Ok(Tail { end: from, transactions: 0 });
    }
    let listed =
        program::beside_server(clock, local, "pg_waldump", &[&arguments[..], &["-r", "Transaction"]].concat(), READ_WITHIN).await?;
    Ok(Tail { end, transactions: transactions(&listed.stdout) })
}

/// `pg_waldump` always ends with a complaint: about the place where the next record would be.
fn log_end(complaint: &str, from: Lsn) -> Result<Lsn, String> {
    if complaint.contains("could not find a valid record after") {
        return Ok(from);
    }
    let unknown = || format!("pg_waldump does not tell where the log ends: {}", complaint.trim());
    if !complaint.contains("error in WAL record at") {
        return Err(unknown());
    }
    // `error in WAL record at 0/4000028: invalid record length at 0/40000A0: wanted 24, got 0`. Where only the last good record is
    // named, the log ends somewhere behind it; that is not exact, so it is not taken.
    let places: Vec<Lsn> = complaint
        .split(" at ")
        .skip(1)
        .filter_map(|rest| rest.split([':', ' ', '\n', ',']).next())
        .filter_map(|word| word.parse().ok())
        .collect();
    match places.as_slice() {
        [_, end, ..] => Ok(*end),
        [] | [_] => Err(unknown()),
    }
}

/// Everything of the transaction manager but aborts and bookkeeping tells a client that something is done.
fn transactions(listed: &str) -> u64 {
    let tells = |line: &&str| line.split_once("desc: ").is_some_and(|(_, what)| what.starts_with("COMMIT") || what.starts_with("PREPARE"));
    listed.lines().filter(tells).count().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_read_from_the_complaint() {
        let said = "pg_waldump: error: error in WAL record at 0/4000028: invalid record length at 0/40000A0: wanted 24, got 0\n";
        assert_eq!(log_end(said, Lsn(1)).unwrap(), Lsn(0x400_00A0));
        let said = "pg_waldump: error: could not find a valid record after 0/4000100\n";
        assert_eq!(log_end(said, Lsn(0x400_0100)).unwrap(), Lsn(0x400_0100));
        assert!(log_end("pg_waldump: error: could not find file \"000000010000000000000006\"", Lsn(1)).is_err());
        assert!(log_end("pg_waldump: error: error in WAL record at 0/4000028: unexpected pageaddr 0/1 in log segment", Lsn(1)).is_err());
        assert!(log_end("", Lsn(1)).is_err());
    }

    #[test]
    fn commits_count_and_aborts_do_not() {
        let listed = "rmgr: Transaction len (rec/tot): 34/34, tx: 739, lsn: 0/0302F8C8, prev 0/0302F890, desc: COMMIT 2026-11-22 23:00:00.1 UTC\n\
                      rmgr: Transaction len (rec/tot): 34/34, tx: 740, lsn: 0/0302F8F0, prev 0/0302F8C8, desc: ABORT 2026-11-22 23:00:00.2 UTC\n\
                      rmgr: Transaction len (rec/tot): 34/34, tx: 741, lsn: 0/0302F920, prev 0/0302F8F0, desc: COMMIT_PREPARED 741: x\n";
        assert_eq!(transactions(listed), 2);
    }
}
