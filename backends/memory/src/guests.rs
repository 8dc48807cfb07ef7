//! What the trait's methods do to guests as a whole: define, undefine, console, its password.

use std::sync::Arc;

use babelvisor_core::backend::{CallContext, Console};
use babelvisor_core::model::{DiskAttachment, VmFacts, VmId, Volume};
use babelvisor_core::{Error, Result};

use crate::convert::Plan;
use crate::error;
use crate::world::{Password, World, is_up};

pub(crate) fn define<'a>(
    world: &mut World,
    call: &CallContext,
    mut plan: Plan,
    password: Option<Password>,
    attached: &[DiskAttachment],
    volumes: impl Iterator<Item = &'a Volume>,
) -> Result<Arc<VmFacts>> {
    if let Some(guest) = world.guests.get(&plan.id)
        && call.job.is_some()
        && guest.facts.made_by == call.job
    {
        return Ok(Arc::clone(&guest.facts));
    }
    world.check_attachable(plan.id, volumes)?;
    // They are the last disks of the plan, in this order.
    for (disk, wanted) in plan.disks.iter_mut().rev().zip(attached.iter().rev()) {
        disk.capacity = world.free_volume(plan.id, wanted)?.capacity;
    }
    for source in plan.media.iter_mut().filter_map(|drive| drive.source.as_mut()) {
        *source = world.find_volume(source)?;
    }
    let id = world.add(plan, password)?;
    world.commit(id);
    let guest = world.guests.get(&id).ok_or_else(|| Error::not_found("vm", id))?;
    Ok(Arc::clone(&guest.facts))
}

pub(crate) fn undefine(world: &mut World, vm: VmId) -> Result<()> {
    let Some(guest) = world.guests.get(&vm) else {
        return Ok(());
    };
    let state = guest.facts.power;
    if is_up(state) || guest.transition.is_some() {
        let detail = format!(
            "a vm whose power state is {} cannot be undefined; force it off first",
            if is_up(state) { state.as_ref() } else { "booting" }
        );
        return Err(Error::illegal_state("vm", vm, detail));
    }
    world.remove(vm);
    Ok(())
}

pub(crate) fn console(world: &World, vm: VmId) -> Result<Console> {
    let guest = world.guests.get(&vm).ok_or_else(|| Error::not_found("vm", vm))?;
    let facts = &guest.facts;
    let display = facts
        .graphics
        .first()
        .ok_or_else(|| Error::not_found("console of vm", vm))?;
    let port = display.port.ok_or_else(|| error::not_running(vm))?;
    let host = world
        .hosts
        .iter()
        .find(|slot| slot.host.id == facts.host)
        .and_then(|slot| slot.host.address.clone())
        .unwrap_or_else(|| "127.0.0.1".to_owned());
    Ok(Console {
        kind: display.kind,
        host,
        port,
    })
}

pub(crate) fn set_password(world: &mut World, vm: VmId, password: Password) -> Result<()> {
    let guest = world
        .guests
        .get_mut(&vm)
        .ok_or_else(|| Error::not_found("vm", vm))?;
    guest.password = Some(password);
    let shown = guest.facts.graphics.iter().all(|display| display.has_password);
    if shown {
        // Nothing visible changes, but the new text must outlive the process.
        world.keep_guest(vm);
        return Ok(());
    }
    for display in &mut Arc::make_mut(&mut guest.facts).graphics {
        display.has_password = true;
    }
    world.commit(vm);
    Ok(())
}
