//! Connecting to addresses that runbooks name, and the rule which addresses they may not name. What is said over a connection
//! is not known here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lifeboat_engine::ReadContext;
use tokio::net::TcpStream;

/// Why an address must not be reached, or nothing where it may: a runbook's author must not make the engine read the credentials
/// that clouds hand out on link-local addresses.
#[must_use]
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    /// Amazon's metadata service over IPv6.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => forbidden_v4(v4),
            None if v6.is_unicast_link_local() => Some("a link-local address, where clouds hand out credentials"),
            None if v6 == METADATA => Some("the cloud's metadata service, which hands out credentials"),
            None if v6.is_multicast() => Some("a multicast address"),
            None if v6.is_unspecified() => Some("no address of anything"),
            None => None,
        },
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_link_local() {
        Some("a link-local address, where clouds hand out credentials")
    } else if address == Ipv4Addr::new(100, 100, 100, 200) {
        Some("a cloud's metadata service, which hands out credentials")
    } else if address.is_unspecified() || address.octets()[0] == 0 {
        Some("no address of anything")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Finds the addresses of a host by the machine's own resolver, leaving out those that must not be reached.
///
/// # Errors
/// Where it has none that may be reached.
pub async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let found: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => tokio::net::lookup_host((bare, port)).await.map_err(|error| format!("{host} cannot be found: {error}"))?.collect(),
    };
    permitted(host, found)
}

/// Those of the addresses that may be reached.
///
/// # Errors
/// Where none may.
pub fn permitted(host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
    let mut why = format!("{host} has no address");
    let mut kept = Vec::with_capacity(found.len());
    for address in found {
        match forbidden(address.ip()) {
            None => kept.push(address),
            Some(what) => why = format!("{host} is {}, {what}: Lifeboat never connects there", address.ip()),
        }
    }
    if kept.is_empty() { Err(why) } else { Ok(kept) }
}

/// Connects to the first of the addresses that answers.
///
/// # Errors
/// What the last one said.
pub async fn connect(cx: &ReadContext, addresses: &[SocketAddr], limit: Duration) -> Result<(TcpStream, SocketAddr), String> {
    let mut why = "no address was given".to_owned();
    for address in addresses {
        if let Some(what) = forbidden(address.ip()) {
            why = format!("{} is {what}", address.ip());
            continue;
        }
        match tokio::time::timeout(limit.min(cx.time_left()), TcpStream::connect(address)).await {
            Ok(Ok(connection)) => return Ok((connection, *address)),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address}: no connection within {:.1} s", limit.as_secs_f64()),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_refused_however_they_are_written() {
        for text in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "ff02::1",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert!(forbidden(address).is_some(), "{text} may be reached");
        }
    }

    #[test]
    fn ordinary_and_private_addresses_may_be_reached() {
        for text in ["127.0.0.1", "10.0.0.1", "192.0.2.1", "::1", "fd12::1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(forbidden(text.parse().unwrap()), None, "{text}");
        }
    }

    #[tokio::test]
    async fn other_spellings_of_forbidden_addresses_find_nothing() {
        // The system's resolver reads these the old way; whatever it makes of them is judged after.
        for host in ["0xa9.0xfe.0xa9.0xfe", "2852039166", "169.254.43518", "0251.0376.0251.0376", "[::ffff:169.254.169.254]"] {
            assert!(addresses(host, 80).await.is_err(), "{host} may be reached");
        }
    }
}
