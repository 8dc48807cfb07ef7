//! Names of new guests. A name is unique among living guests: what is taken is replaced, or refused where the site
//! wants that. Two calls at the same time cannot get the same one, because a name is held from the choice until
//! the guest that bears it is in the inventory.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use babelvisor_core::layers::{Core, random_name};
use babelvisor_core::model::Caller;
use babelvisor_core::query;

use crate::error::Fault;
use crate::settings::NameConflict;

/// Letters and digits of a random name.
const RANDOM_LENGTH: usize = 8;

/// Names that are held. In small letters: the original's database compares so.
#[derive(Debug, Default)]
pub(crate) struct Names {
    held: Mutex<HashSet<String>>,
}

/// Names for a call, held until this is dropped.
pub(crate) struct Held<'a> {
    pub(crate) names: Vec<String>,
    owner: &'a Names,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut held = self.owner.held.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            held.remove(&name.to_lowercase());
        }
    }
}

/// The names that a request asks for: one as it stands, several numbered from 1; an empty one leaves the choice to
/// the gateway.
pub(crate) fn wanted(name: &str, quantity: u32) -> Vec<Option<String>> {
    match (name, quantity) {
        ("", _) => vec![None; quantity as usize],
        (name, 1) => vec![Some(name.to_owned())],
        (name, _) => (1..=quantity)
            .map(|number| Some(format!("{name}-{number}")))
            .collect(),
    }
}

impl Names {
    /// Holds a free name for each wanted one.
    pub(crate) fn hold(
        &self,
        core: &Core,
        caller: &Caller,
        wanted: Vec<Option<String>>,
        conflict: NameConflict,
    ) -> Result<Held<'_>, Fault> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // The inventory is read under the lock: whoever let go of a name has put its guest there before.
        let now = core.now();
        let mut taken: HashSet<String> = now
            .vms
            .values()
            .filter(|vm| query::may_see(caller, vm))
            .map(|vm| vm.name().to_lowercase())
            .collect();
        taken.extend(held.iter().cloned());
        let mut names = Vec::with_capacity(wanted.len());
        for name in wanted {
            let name = match (name, conflict) {
                (Some(name), _) if !taken.contains(&name.to_lowercase()) => name,
                (Some(name), NameConflict::Refuse) => return Err(Fault::name_taken(&name)),
                (Some(_) | None, _) => loop {
                    let name = random_name(RANDOM_LENGTH);
                    if !taken.contains(&name.to_lowercase()) {
                        break name;
                    }
                },
            };
            taken.insert(name.to_lowercase());
            names.push(name);
        }
        held.extend(names.iter().map(|name| name.to_lowercase()));
        Ok(Held { names, owner: self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_guests_are_numbered_from_one() {
        let named = |names: Vec<Option<String>>| names.into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(named(wanted("web", 1)), ["web"]);
        assert_eq!(named(wanted("web", 3)), ["web-1", "web-2", "web-3"]);
        assert_eq!(wanted("", 2), [None, None]);
    }
}
