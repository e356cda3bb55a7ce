//! Asking web servers one question each, on a fresh connection, with limits. What answer is good is decided in `verify`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::ReadContext;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect};

use super::tcp;

/// Most bytes read of an answer. Compressed answers are not asked for and not unpacked.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Whether the answer's body is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It is read, up to [`BODY_BYTES_MAX`].
    Read,
    /// Only the status counts.
    Ignored,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status. A redirect is not followed: it is an answer like any other.
    pub status: u16,
    /// The body as text, where it was wanted.
    pub body: String,
}

/// Where a host's addresses come from.
#[derive(Clone)]
pub enum Hosts {
    /// The machine's own resolver.
    Resolver,
    /// These, whatever the host is named.
    Pinned(Vec<SocketAddr>),
}

impl Resolve for Hosts {
    fn resolve(&self, name: Name) -> Resolving {
        let hosts = self.clone();
        Box::pin(async move {
            let found = match hosts {
                Self::Resolver => tcp::addresses(name.as_str(), 0).await,
                Self::Pinned(addresses) => tcp::permitted(name.as_str(), addresses),
            };
            // Judged here and connected to as judged: the name cannot be given another address in between.
            found.map(|addresses| Box::new(addresses.into_iter()) as Addrs).map_err(Into::into)
        })
    }
}

/// Checks an address that a person wrote.
///
/// # Errors
/// Why it is not asked.
pub fn address(url: &str) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|error| format!("{url:?} is no web address: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("{url:?} is neither http nor https"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("a web address must not hold a user or a password: it would be seen in journals and reports".into());
    }
    let host = parsed.host_str().ok_or_else(|| format!("{url:?} names no host"))?;
    // The parser has read numbers like 0x7f.1 by now; names are judged when they are looked up.
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse()
        && let Some(what) = tcp::forbidden(ip)
    {
        return Err(format!("{url:?} leads to {ip}, {what}: Lifeboat never connects there"));
    }
    Ok(parsed)
}

/// Asks once, with GET.
///
/// # Errors
/// Where no whole answer came in time, in words.
pub async fn get(cx: &ReadContext, url: &Url, hosts: Hosts, limit: Duration, body: Body) -> Result<Answer, String> {
    let limit = limit.min(cx.time_left());
    let client = client(hosts, limit)?;
    let mut response = client.get(url.clone()).send().await.map_err(|error| in_words(&error))?;
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    match body {
        Body::Ignored => {}
        Body::Read => {
            while let Some(chunk) = response.chunk().await.map_err(|error| in_words(&error))? {
                if bytes.len() + chunk.len() > BODY_BYTES_MAX {
                    return Err(format!("the answer is longer than {BODY_BYTES_MAX} bytes"));
                }
                bytes.extend_from_slice(&chunk);
            }
        }
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&bytes).into_owned() })
}

/// A client for one question: no proxy, no redirects, no connection kept, because a kept one would hide that the name moved.
fn client(hosts: Hosts, limit: Duration) -> Result<Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Only tests get here: the binary chooses at its start. Losing a race against another thread is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    Client::builder()
        .dns_resolver(Arc::new(hosts))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(limit)
        .timeout(limit)
        .user_agent("lifeboat")
        .build()
        .map_err(|error| format!("the HTTP client cannot be set up: {}", in_words(&error)))
}

/// The whole chain of causes: the outermost alone says only that sending failed.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words = format!("{words}: {inner_words}");
        }
        cause = inner.source();
    }
    words
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolver => f.write_str("Resolver"),
            Self::Pinned(addresses) => f.debug_tuple("Pinned").field(addresses).finish(),
        }
    }
}
