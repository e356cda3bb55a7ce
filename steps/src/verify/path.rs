//! The address that clients would reach through a DNS record, found by asking the record's own servers.

use std::net::{IpAddr, SocketAddr};

use lifeboat_engine::ReadContext;
use tokio::task::JoinSet;

use crate::clients::dns::{Reader, RecordKind, RecordSet, full_name, in_words};
use crate::resources::dns_record::{DnsRecord, Provider, Rfc2136};

/// Where clients of the record are led now. All its servers that answer must agree.
pub(super) async fn addresses(cx: &ReadContext, record: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let record = resource(cx, record)?;
    let set = agreed(cx, &record).await?.ok_or_else(|| format!("{} has no record", record.name))?;
    let parse = |value: &String| value.parse::<IpAddr>().map_err(|_| format!("{} leads to {value}, which is no address", record.name));
    set.values.iter().map(|value| Ok(SocketAddr::new(parse(value)?, port))).collect()
}

/// What the record's servers say, if all that answer say the same.
pub(super) async fn agreed(cx: &ReadContext, record: &DnsRecord) -> Result<Option<RecordSet>, String> {
    let server = servers(record)?;
    let name = full_name(&record.name)?;
    let mut asked = JoinSet::new();
    let all = if server.servers.is_empty() { vec![server.primary] } else { server.servers.clone() };
    for address in all {
        let (reader, name, kind) = (Reader::new(cx), name.clone(), record.kind);
        asked.spawn(async move { (address, reader.set(address.0, &name, kind).await) });
    }
    let mut said: Option<Option<RecordSet>> = None;
    let (mut silent, mut answers) = (Vec::new(), 0);
    while let Some(joined) = asked.join_next().await {
        let (address, answer) = joined.map_err(|error| error.to_string())?;
        match answer {
            Ok(seen) => {
                answers += 1;
                match &said {
                    Some(other) if *other != seen.set => {
                        return Err(format!(
                            "the servers of {name} disagree: {} and {} (at {address})",
                            in_words(other.as_ref()),
                            in_words(seen.set.as_ref())
                        ));
                    }
                    Some(_) | None => said = Some(seen.set),
                }
            }
            Err(error) => silent.push(error.to_string()),
        }
    }
    match said {
        Some(set) if answers > 0 && silent.len() <= server.silent_servers_max as usize => Ok(set),
        Some(_) | None => Err(silent.join("; ")),
    }
}

/// What a check through this record needs of it.
pub(super) fn usable(cx: &ReadContext, record: &str) -> Result<(), String> {
    let record = resource(cx, record)?;
    servers(&record)?;
    match record.kind {
        RecordKind::A | RecordKind::Aaaa => Ok(()),
        RecordKind::Cname => Err(format!("{} is a CNAME: it leads to a name, and only addresses can be followed", record.name)),
    }
}

pub(super) fn resource(cx: &ReadContext, record: &str) -> Result<DnsRecord, String> {
    cx.inventory.get::<DnsRecord>(record).map_err(|error| error.to_string())
}

fn servers(record: &DnsRecord) -> Result<&Rfc2136, String> {
    match record.provider()? {
        Provider::Rfc2136(server) => Ok(server),
        Provider::Route53(_) => Err(format!(
            "{} is in Route 53, whose servers are not in the inventory: use a host name, which the machine's resolver finds",
            record.name
        )),
    }
}
