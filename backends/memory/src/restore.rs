//! The world's way onto disk and back.

use std::sync::Arc;

use babelvisor_core::model::{PowerState, VmFacts};

use crate::state_file::{Held, StoredGuest, StoredVolume};
use crate::world::{Disk, Guest, Origin, Password, Transition, World, is_up};

impl World {
    /// Takes over what the state file holds. What was under way has ended while nobody looked.
    pub(crate) fn remember(&mut self, held: Held) {
        for StoredVolume { volume, origin } in held.volumes.into_values() {
            let pool = self.pools.iter_mut().find(|(_, pool)| pool.id == volume.pool);
            if let Some((_, pool)) = pool {
                pool.used = pool.used.saturating_add(volume.capacity);
            }
            let disk = Disk {
                volume,
                origin,
                attached: None,
                layers: 0,
            };
            self.disks.insert(disk.volume.native.clone(), disk);
        }
        let bases: Vec<String> = self
            .disks
            .values()
            .filter_map(|disk| match &disk.origin {
                Origin::Layer { base } => Some(base.clone()),
                Origin::Blank | Origin::Given | Origin::Copy | Origin::Seed { .. } => None,
            })
            .collect();
        for base in bases {
            if let Some(base) = self.disks.get_mut(&base) {
                base.layers += 1;
            }
        }
        for stored in held.guests.into_values() {
            let (id, transition, ignores) = (stored.facts.id, stored.transition, stored.ignores_acpi);
            self.remember_guest(stored);
            match transition {
                Some(Transition::Booting) => self.set_power(id, PowerState::Running),
                Some(Transition::ShuttingDown) if !ignores => self.set_power(id, PowerState::Off),
                Some(Transition::ShuttingDown) | None => continue,
            }
            self.keep_guest(id);
        }
    }

    fn remember_guest(&mut self, stored: StoredGuest) {
        let facts = stored.facts;
        if let Some(slot) = self.hosts.iter_mut().find(|slot| slot.host.id == facts.host) {
            for port in facts.graphics.iter().filter_map(|display| display.port) {
                self.ports.keep(port);
            }
            if is_up(facts.power) {
                slot.used = slot.used.saturating_add(facts.memory.current);
            }
        }
        self.leases.extend(stored.leases.iter().flatten());
        self.enter(Guest {
            facts: Arc::new(facts),
            title: stored.title,
            ignores_acpi: stored.ignores_acpi,
            boots: stored.boots,
            leases: stored.leases,
            password: stored.password.map(|sealed| Password { plain: None, sealed }),
            transition: None,
            generation: 0,
            waiters: None,
            snapshots: stored.snapshots,
        });
    }
}

/// A guest as it is written down.
pub(crate) fn stored_guest(guest: &Guest) -> StoredGuest {
    StoredGuest {
        facts: VmFacts::clone(&guest.facts),
        title: guest.title.clone(),
        ignores_acpi: guest.ignores_acpi,
        boots: guest.boots,
        leases: guest.leases.clone(),
        password: guest.password.as_ref().map(|password| password.sealed.clone()),
        transition: guest.transition,
        snapshots: guest.snapshots.clone(),
    }
}

/// A volume as it is written down.
pub(crate) fn stored_volume(disk: &Disk) -> StoredVolume {
    StoredVolume {
        volume: disk.volume.clone(),
        origin: disk.origin.clone(),
    }
}
