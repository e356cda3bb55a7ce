//! `lifeboat schema`: JSON Schemas for editors.

use lifeboat_engine::inventory;

use crate::args::{SchemaArgs, SchemaOf};
use crate::exit::{Exit, Trouble, print};

pub(crate) fn run(args: &SchemaArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let schema = match args.of {
        SchemaOf::Runbook => lifeboat_runbooks::schema(&registry),
        SchemaOf::Test => lifeboat_runbooks::testing::schema(),
        SchemaOf::Inventory => inventory::schema(registry.kinds()),
    };
    print(&format!("{schema:#}\n"))?;
    Ok(Exit::Done)
}
