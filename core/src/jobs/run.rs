//! What each command does, as steps. One function a command, read from top to bottom.

use std::collections::HashSet;
use std::sync::Arc;

use super::context::JobContext;
use super::undo::Undo;
use crate::backend::Backend;
use crate::command::{Command, CreateVm, DeleteVm, PowerAction};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::distinct_name;
use crate::model::{PoolVolume, PowerState, Vm, VmId, VmSpec};
use crate::state::{self, Verdict};

/// Runs the job's command to its end.
///
/// # Errors
/// Those of the steps; the engine then undoes.
pub(super) async fn run(context: &mut JobContext) -> Result<()> {
    match context.job.command.clone() {
        Command::CreateVm(create) => create_vm(context, &create).await,
        Command::DeleteVm(delete) => delete_vm(context, &delete).await,
        Command::Power(power) => change_power(context, power.vm, power.action).await,
    }
}

/// The pool volume that carries a VM's first-boot set-up.
pub(crate) fn seed_volume(vm: VmId, pool: &str) -> PoolVolume {
    PoolVolume {
        pool: pool.to_owned(),
        name: format!("{vm}-seed.img"),
    }
}

async fn create_vm(context: &mut JobContext, create: &CreateVm) -> Result<()> {
    let vm = create.vm;
    let mut disks = Vec::with_capacity(create.spec.volumes.len());
    for (place, volume) in create.spec.volumes.iter().enumerate() {
        let undo = Undo::DeleteVolume {
            pool: volume.pool.clone(),
            name: volume.name.clone(),
        };
        let make =
            |backend: Arc<dyn Backend>, call| async move { backend.create_volume(&call, volume).await };
        disks.push(context.step(&format!("volume-{place}"), Some(undo), make).await?);
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

async fn delete_vm(context: &mut JobContext, delete: &DeleteVm) -> Result<()> {
    let vm = delete.vm;
    // What goes is written down first: after the definition is gone nobody can tell.
    let volumes = if delete.volumes {
        volumes_of(context, vm)
    } else {
        Vec::new()
    };
    let volumes: Vec<PoolVolume> = context
        .step("plan", None, |_, _| {
            let volumes = volumes.clone();
            async move { Ok(volumes) }
        })
        .await?;
    power_step(context, "off", vm, PowerAction::ForceOff, None).await?;
    context.no_way_back();
    let native = context.vm_ref(vm);
    let native = &native;
    let undefine = |backend: Arc<dyn Backend>, call| async move { backend.undefine(&call, native).await };
    context.step("undefine", None, undefine).await?;
    for (place, PoolVolume { pool, name }) in volumes.iter().enumerate() {
        let remove =
            |backend: Arc<dyn Backend>, call| async move { backend.delete_volume(&call, pool, name).await };
        context.step(&format!("volume-{place}"), None, remove).await?;
    }
    Ok(())
}

/// What a deletion that failed past its point of no return has not removed, in words.
pub(super) fn unfinished(context: &JobContext) -> Vec<String> {
    let output = |step: &str| context.steps.get(step).and_then(|trace| trace.output.as_ref());
    let (Command::DeleteVm(_), Some(_), Some(plan)) =
        (&context.job.command, output("undefine"), output("plan"))
    else {
        return Vec::new();
    };
    let volumes: Vec<PoolVolume> = serde_json::from_value(plan.clone()).unwrap_or_default();
    let left = volumes.iter().enumerate();
    left.filter(|(place, _)| output(&format!("volume-{place}")).is_none())
        .map(|(_, PoolVolume { pool, name })| format!("volume {name} in pool {pool}"))
        .collect()
}

/// The writable disks of a VM that are pool volumes, and whatever we made for it; not those that another VM
/// of the same backend has attached as well, nor one that others are made from.
fn volumes_of(context: &JobContext, vm: VmId) -> Vec<PoolVolume> {
    let now = context.inventory.now();
    let Some(vm) = now.vms.get(&vm) else {
        return Vec::new();
    };
    let locations = now.images.values().flat_map(|image| &image.locations);
    let locations = locations.filter(|location| location.backend == *vm.home());
    let images: HashSet<&str> = locations.map(|location| location.native.as_str()).collect();
    let is_image = |source: &str, PoolVolume { pool, name }: &PoolVolume| {
        images.contains(source) || images.contains(format!("{pool}/{name}").as_str())
    };
    let attached = |vm: &Vm| -> Vec<PoolVolume> {
        let disks = vm.facts.iter().flat_map(|facts| facts.disks.iter());
        disks
            .filter(|disk| !disk.readonly)
            .filter_map(|disk| {
                disk.volume
                    .clone()
                    .filter(|volume| !is_image(&disk.source, volume))
            })
            .collect()
    };
    let mut volumes: Vec<_> = attached(vm)
        .into_iter()
        .chain(vm.record.volumes.iter().cloned())
        .filter(|volume| !is_image("", volume))
        .collect();
    volumes.sort();
    volumes.dedup();
    let others = now.vms.values();
    let others = others.filter(|other| other.id != vm.id && other.home() == vm.home());
    let shared: HashSet<PoolVolume> = others.flat_map(|other| attached(other)).collect();
    volumes.retain(|volume| !shared.contains(volume));
    volumes
}

async fn change_power(context: &mut JobContext, vm: VmId, action: PowerAction) -> Result<()> {
    // The layers said so, too, unless the command was taken blindly or queued.
    if let Some(vm) = context.inventory.now().vms.get(&vm) {
        state::standing(vm)?;
    }
    match judge(context, vm, action).await? {
        Verdict::AlreadySo => Ok(()),
        Verdict::Illegal => {
            let power = context
                .inventory
                .now()
                .vms
                .get(&vm)
                .map_or(PowerState::NoState, |vm| vm.power());
            Err(state::refusal(action, vm, power))
        }
        Verdict::Legal => match action {
            PowerAction::ForceReboot => {
                power_step(context, "off", vm, PowerAction::ForceOff, None).await?;
                power_step(context, "start", vm, PowerAction::Start, None).await
            }
            PowerAction::Start
            | PowerAction::Shutdown
            | PowerAction::ForceOff
            | PowerAction::Reboot
            | PowerAction::Reset
            | PowerAction::Suspend
            | PowerAction::Resume => power_step(context, action.as_ref(), vm, action, None).await,
        },
    }
}

/// Judges by the inventory; before saying no, or that nothing is to do, looks at the backend itself, because
/// an event may be on its way. A force reboot that was cut off after switching off goes on.
async fn judge(context: &JobContext, vm: VmId, action: PowerAction) -> Result<Verdict> {
    let half_way = action == PowerAction::ForceReboot && context.steps.contains_key("off");
    if half_way {
        return Ok(Verdict::Legal);
    }
    let seen = context
        .inventory
        .now()
        .vms
        .get(&vm)
        .map(|vm| state::verdict(action, vm.power()));
    match seen {
        Some(Verdict::Legal) => Ok(Verdict::Legal),
        Some(Verdict::AlreadySo | Verdict::Illegal) | None => {
            let facts = context
                .backend
                .get(&context.plain_call(), &context.vm_ref(vm))
                .await?;
            let facts = facts.ok_or_else(|| Error::not_found("vm", vm))?;
            let verdict = state::verdict(action, facts.power);
            context.inventory.facts(vec![facts]);
            Ok(verdict)
        }
    }
}

async fn power_step(
    context: &mut JobContext,
    name: &str,
    vm: VmId,
    action: PowerAction,
    undo: Option<Undo>,
) -> Result<()> {
    let native = context.vm_ref(vm);
    let native = &native;
    let absent_is_off = action == PowerAction::ForceOff;
    let call = |backend: Arc<dyn Backend>, call| async move {
        match backend.power(&call, native, action).await {
            Err(error) if absent_is_off && error.kind == crate::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    };
    let remembered = context.has_done(name);
    context.step(name, undo, call).await?;
    // What was reached before a crash may be otherwise now.
    if !remembered && let Some(power) = reached(action) {
        context.inventory.presume_power(vm, power);
    }
    Ok(())
}

/// The power state that an action has reached when its backend call returns.
const fn reached(action: PowerAction) -> Option<PowerState> {
    match action {
        PowerAction::Start | PowerAction::Resume | PowerAction::ForceReboot => Some(PowerState::Running),
        PowerAction::Shutdown | PowerAction::ForceOff => Some(PowerState::Off),
        PowerAction::Suspend => Some(PowerState::Paused),
        PowerAction::Reboot | PowerAction::Reset => None,
    }
}
