//! Who is at the other end: the system user that the kernel names, and the person of the inventory who works as that user.

use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::journal::Actor;
use nix::unistd::{Uid, User};

/// The name of a user id; the number where the system knows no name.
#[must_use]
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// The user of this process.
#[must_use]
pub fn this_user() -> String {
    user_name(Uid::current().as_raw())
}

/// The actor behind a system user.
#[must_use]
pub fn actor_of(system_user: &str, via: &str, inventory: &Inventory) -> Actor {
    let person = inventory.person_of_system_user(system_user).map(|(name, _)| name.to_owned());
    Actor { person, system_user: system_user.to_owned(), via: via.to_owned() }
}
