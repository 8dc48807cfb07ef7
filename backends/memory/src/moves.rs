//! Moving a guest to another host of this hypervisor while it runs, and a picture of its screen.

use std::sync::Arc;

use babelvisor_core::model::{HostId, Screenshot, VmId};
use babelvisor_core::{Error, ErrorKind, Result};

use crate::error;
use crate::world::{Event, World, is_up};

/// One black pixel as PNG: nobody draws on these screens.
const BLACK: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b, 0x55, 0x00,
    0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x60, 0x00, 0x00, 0x00, 0x02, 0x00, 0x01,
    0xe5, 0x27, 0xde, 0xfc, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

impl World {
    /// Moves a running guest; being there already is success.
    pub(crate) fn migrate(&mut self, vm: VmId, to: HostId) -> Result<()> {
        let guest = self
            .guests
            .get_mut(&vm)
            .ok_or_else(|| Error::not_found("vm", vm))?;
        let (from, memory) = (guest.facts.host, guest.facts.memory.current);
        if from == to {
            return Ok(());
        }
        if !is_up(guest.facts.power) {
            return Err(Error::illegal_state(
                "vm",
                vm,
                "a vm that is off does not move while it runs",
            ));
        }
        let there = self.hosts.iter_mut().find(|slot| slot.host.id == to);
        let there = there.ok_or_else(|| Error::not_found("host", to))?;
        if there.host.memory.saturating_sub(there.used) < memory {
            let text = format!("host {} has no {memory} bytes of memory left", there.host.name);
            return Err(Error::new(ErrorKind::NoResources, text));
        }
        there.used = there.used.saturating_add(memory);
        there.guests += 1;
        let facts = Arc::make_mut(&mut guest.facts);
        facts.host = to;
        if let Some(here) = self.hosts.iter_mut().find(|slot| slot.host.id == from) {
            here.used = here.used.saturating_sub(memory);
            here.guests = here.guests.saturating_sub(1);
        }
        self.commit(vm);
        self.publish(Event::Topology);
        Ok(())
    }

    /// What a running guest shows.
    pub(crate) fn screenshot(&self, vm: VmId) -> Result<Screenshot> {
        let guest = self.guests.get(&vm).ok_or_else(|| Error::not_found("vm", vm))?;
        if !is_up(guest.facts.power) {
            return Err(error::not_running(vm));
        }
        Ok(Screenshot {
            media_type: "image/png".to_owned(),
            bytes: bytes::Bytes::from_static(BLACK),
        })
    }
}
