//! Proxies that lose what they are told to lose: the request, or only its answer. What is lost is said here, carrying is in the files beside.

mod dns;
mod statement;
mod tcp;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use dns::DnsProxy;
pub use tcp::{Speaks, TcpProxy};

/// What gets lost on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The request never arrives: nothing happened on the other side.
    Request,
    /// The request arrives and is carried out, and the answer never comes back.
    Answer,
}

/// Whether anything passes at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Everything passes, except for what a rule loses.
    Up,
    /// Connections stay open and nothing passes: a link that drops packets.
    Silent,
    /// Connections are closed and new ones are closed at once: a peer that is gone.
    Cut,
}

/// A rule: lose this, for requests that contain the pattern, so many times.
#[derive(Debug, Clone)]
struct Rule {
    loss: Loss,
    pattern: Vec<u8>,
    times: u32,
}

/// What a proxy's threads and its owner share.
#[derive(Debug)]
struct Shared {
    link: Mutex<Link>,
    rule: Mutex<Option<Rule>>,
    lost: AtomicU32,
}

impl Shared {
    fn new() -> Self {
        Self { link: Mutex::new(Link::Up), rule: Mutex::new(None), lost: AtomicU32::new(0) }
    }

    fn link(&self) -> Link {
        *lock(&self.link)
    }

    fn set_link(&self, link: Link) {
        *lock(&self.link) = link;
    }

    fn set_rule(&self, loss: Loss, pattern: &[u8], times: u32) {
        *lock(&self.rule) = Some(Rule { loss, pattern: pattern.to_vec(), times });
    }

    /// Whether the rule in force is about a request like this.
    fn matches(&self, is_about: impl FnOnce(&[u8]) -> bool) -> bool {
        lock(&self.rule).as_ref().is_some_and(|rule| rule.times > 0 && is_about(&rule.pattern))
    }

    /// Uses the rule once and says what to lose; `None` when it was used up meanwhile.
    fn lose_once(&self) -> Option<Loss> {
        let mut rule = lock(&self.rule);
        let rule = rule.as_mut().filter(|rule| rule.times > 0)?;
        rule.times -= 1;
        self.lost.fetch_add(1, Ordering::SeqCst);
        Some(rule.loss)
    }

    fn lost(&self) -> u32 {
        self.lost.load(Ordering::SeqCst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn contains(text: &[u8], pattern: &[u8]) -> bool {
    !pattern.is_empty() && text.windows(pattern.len()).any(|window| window == pattern)
}
