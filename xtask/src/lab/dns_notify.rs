//! Tells the secondary DNS server of a change at once, as BIND, NSD and PowerDNS do. Knot 3.2 waits a second or two and has no setting for it.
//!
//! Without this the lab would measure Knot's habit: clients that ask the secondary would follow a change that much later.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::lab::dns_query;
use crate::trouble::{Doing, Result};

/// How often the primary's serial is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A thread that looks at the primary's serial and sends NOTIFY (RFC 1996) to the secondary when it has risen. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Notifier {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Begins to look.
    pub(crate) fn start(primary: SocketAddr, secondary: SocketAddr, zone: &'static str) -> Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).doing(|| "open a UDP socket".to_owned())?;
        let ended = Arc::new(AtomicBool::new(false));
        let its_end = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut told = dns_query::serial(primary, zone).ok();
            while !its_end.load(Ordering::SeqCst) {
                thread::sleep(LOOK_AGAIN);
                let Ok(now) = dns_query::serial(primary, zone) else { continue };
                if told != Some(now) {
                    // A lost message costs a second: Knot sends its own.
                    let _sent = socket.send_to(&notify(zone), secondary);
                    told = Some(now);
                }
            }
        });
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and nothing depends on how it ended.
            let _joined = thread.join();
        }
    }
}

/// A NOTIFY of the zone's SOA: the message of a question with opcode 4 and the flag "authoritative".
fn notify(zone: &str) -> Vec<u8> {
    let mut message = dns_query::question(zone, dns_query::TYPE_SOA);
    message[2] = (4 << 3) | 0x04;
    message
}
