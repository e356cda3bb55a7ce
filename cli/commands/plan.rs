//! `lifeboat plan`: what a run would do and whether each step may start. Asks the world, changes nothing, owns nothing.

use lifeboat_engine::Inventory;
use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::predict::predict;
use lifeboat_engine::preflight::{StepReadiness, preflight};
use lifeboat_engine::proof::{self, Proofs};
use lifeboat_engine::readiness::readiness;
use lifeboat_server::control::{Client, Reply, Request};
use lifeboat_store::{MemoryStore, StoreError};
use serde_json::json;
use std::sync::Arc;

use crate::args::{Format, Global, PlanArgs};
use crate::exit::{Exit, Trouble, print, say};
use crate::{render, wiring};

pub(crate) async fn run(global: &Global, args: &PlanArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let plan = wiring::plan(global, &args.runbook, &registry, &inventory)?;
    let earlier = earlier(global, &inventory, &plan.runbook).await;
    let max_age = inventory.policies.readiness_max_age.map(|age| age.0);
    let proven = earlier.as_ref().ok().map(|proofs| readiness(&plan, proofs, SystemClock.now(), max_age));
    let predicted = earlier.as_ref().ok().and_then(|proofs| predict(&plan, proofs));
    // A plan needs no journal: whoever runs in the data folder is not disturbed.
    let ports = wiring::ports(Arc::new(MemoryStore::new()), registry, inventory);
    let readiness = preflight(&plan, &ports).await;
    match args.format {
        Format::Text => {
            if let Err(why) = &earlier {
                say(&format!("warning: what earlier runs proved cannot be read: {why}"));
            }
            let known = render::plan::Known {
                catalog: ports.registry.as_ref(),
                readiness: &readiness,
                proven: proven.as_ref(),
                predicted: predicted.as_ref(),
            };
            print(&render::plan::text(&plan, known))?;
        }
        Format::Json => print(&format!(
            "{:#}\n",
            json!({ "plan": plan, "readiness": readiness, "proven": proven, "predicted": predicted, "proven_unknown": earlier.as_ref().err() })
        ))?,
    }
    let refused = readiness.iter().any(StepReadiness::refuses);
    Ok(if refused { Exit::Refused } else { Exit::Done })
}

/// A data folder that holds a store has this file.
const MARK: &str = "format";

/// What earlier runs proved. The folder is held for a moment only, and one that is not there is not made.
async fn earlier(global: &Global, inventory: &Inventory, runbook: &str) -> Result<Proofs, String> {
    if inventory.store.etcd.is_none() && !global.data.join(MARK).exists() {
        return Ok(Proofs::default());
    }
    match wiring::open_store_to_look(global, inventory) {
        Ok(store) => proof::read(store.as_ref(), runbook).await.map_err(|error| error.to_string()),
        Err(StoreError::InUse { .. }) => match Client::new(&global.data).ask(&Request::Proofs(runbook.to_owned())).await {
            Ok(Reply::Proofs(proofs)) => Ok(*proofs),
            Ok(Reply::Failed(why)) => Err(why),
            Ok(Reply::Runs(_) | Reply::Names(_) | Reply::Journal { .. } | Reply::Done | Reply::Refused(_) | Reply::MakesWay(_)) => {
                Err("the owner of the data folder answered another question".into())
            }
            Err(error) => Err(error.to_string()),
        },
        Err(error) => Err(error.to_string()),
    }
}
