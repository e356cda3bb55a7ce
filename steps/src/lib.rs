//! Step types and kinds of resource, and the one list that registers them. The doors to the outside are in `clients`.

pub mod clients;
pub mod command;
pub mod fence_db;
pub mod heartbeat;
pub mod measure_rpo;
mod mutants;
pub mod promote_db;
pub mod resources;
pub mod update_dns;
pub mod verify;
pub mod wait;

use lifeboat_engine::Registry;

/// Everything this binary can do.
#[must_use]
pub fn registry() -> Registry {
    Registry::new()
        .with::<promote_db::PromoteDb>()
        .with::<measure_rpo::MeasureRpo>()
        .with::<fence_db::FenceDb>()
        .with_resource::<resources::database::Database>()
        .with_resource::<resources::dns_record::DnsRecord>()
        .with::<command::Command>()
        .with::<update_dns::UpdateDns>()
        .with::<verify::Verify>()
        .with::<wait::Wait>()
}
