//! Making a VM: its volumes, its first-boot seed, its definition, and its first start.

use std::sync::Arc;

use super::power::power_step;
use crate::backend::Backend;
use crate::command::{CreateVm, PowerAction};
use crate::error::{Error, ErrorKind, Result};
use crate::jobs::context::JobContext;
use crate::jobs::undo::Undo;
use crate::layers::distinct_name;
use crate::model::{PoolVolume, PowerState, VmId, VmSpec};

/// The pool volume that carries a VM's first-boot set-up.
pub(crate) fn seed_volume(vm: VmId, pool: &str) -> PoolVolume {
    PoolVolume {
        pool: pool.to_owned(),
        name: format!("{vm}-seed.img"),
    }
}

pub(super) async fn create_vm(context: &mut JobContext, create: &CreateVm) -> Result<()> {
    let vm = create.vm;
    if let Some(source) = create.from {
        source_is_off(context, source).await?;
    }
    let mut disks = Vec::with_capacity(create.spec.volumes.len());
    for (place, volume) in create.spec.volumes.iter().enumerate() {
        let undo = Undo::DeleteVolume {
            pool: volume.pool.clone(),
            name: volume.name.clone(),
        };
        let make =
            |backend: Arc<dyn Backend>, call| async move { backend.create_volume(&call, volume).await };
        // Copying disks is what takes time.
        let come = |volumes: usize| u8::try_from(volumes * 90 / create.spec.volumes.len()).unwrap_or(90);
        context.weigh(come(place), come(place + 1));
        disks.push(context.step(&format!("volume-{place}"), Some(undo), make).await?);
        context.progress(come(place + 1));
    }
    let seed = match (&create.spec.guest, create.spec.volumes.first()) {
        (Some(setup), Some(root)) => {
            let PoolVolume { pool, name } = seed_volume(vm, &root.pool);
            let undo = Undo::DeleteVolume {
                pool: pool.clone(),
                name: name.clone(),
            };
            let (pool, name) = (pool.as_str(), name.as_str());
            let make = |backend: Arc<dyn Backend>, call| async move {
                backend.create_seed(&call, vm, pool, name, setup).await
            };
            Some(context.step("seed", Some(undo), make).await?)
        }
        (Some(_), None) | (None, _) => None,
    };
    let (spec, disks, seed) = (&create.spec, disks.as_slice(), seed.as_ref());
    let define = |name: String| {
        let spec = VmSpec { name, ..spec.clone() };
        move |backend: Arc<dyn Backend>, call| {
            let spec = spec.clone();
            async move { backend.define(&call, vm, &spec, disks, seed).await }
        }
    };
    let undo = || Some(Undo::Undefine { vm });
    let remembered = context.has_done("define") || context.has_done("rename");
    // The name was free when it was chosen. Somebody who took it since must not make the creation fail.
    let other = distinct_name(&spec.title, vm);
    let first = if context.steps.contains_key("rename") {
        None
    } else {
        match context.step("define", undo(), define(spec.name.clone())).await {
            Err(error) if error.kind == ErrorKind::AlreadyExists && spec.name != other => None,
            outcome => Some(outcome?),
        }
    };
    let facts = match first {
        Some(facts) => facts,
        None => context.step("rename", undo(), define(other)).await?,
    };
    if remembered {
        // The journal's facts are from before the crash, and the VM may have started, changed or gone since.
        let now = context
            .backend
            .get(&context.plain_call(), &context.vm_ref(vm))
            .await;
        context.inventory.facts(now.ok().flatten().into_iter().collect());
    } else {
        context.inventory.facts(vec![facts]);
    }
    if create.start {
        power_step(
            context,
            "start",
            vm,
            PowerAction::Start,
            Some(Undo::ForceOff { vm }),
        )
        .await?;
    }
    Ok(())
}

/// The disks of a VM that runs would be copied torn.
async fn source_is_off(context: &JobContext, source: VmId) -> Result<()> {
    let call = context.plain_call();
    let facts = context.backend.get(&call, &context.vm_ref(source)).await?;
    let facts = facts.ok_or_else(|| Error::not_found("vm", source))?;
    let power = facts.power;
    context.inventory.facts(vec![facts]);
    match power {
        PowerState::Off | PowerState::Crashed => Ok(()),
        PowerState::NoState
        | PowerState::Running
        | PowerState::Blocked
        | PowerState::Paused
        | PowerState::ShuttingDown
        | PowerState::Suspended => Err(Error::illegal_state(
            "vm",
            source,
            format!(
                "its disks can only be copied while it is off, it is {}",
                power.as_ref().replace('_', " ")
            ),
        )),
    }
}
