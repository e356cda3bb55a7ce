//! The kinds of resource that the inventory may hold. What is done to them is in the steps.

pub mod database;
pub mod dns_record;
