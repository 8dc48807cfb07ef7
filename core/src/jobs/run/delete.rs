//! Removing a VM, for good or into the trash.

use std::collections::HashSet;
use std::sync::Arc;

use super::power::power_step;
use crate::backend::Backend;
use crate::capability::Capability;
use crate::command::{Command, DeleteVm, PowerAction};
use crate::error::Result;
use crate::jobs::context::JobContext;
use crate::model::{PoolVolume, Vm, VmChange, VmId, VolumeKind};

pub(super) async fn delete_vm(context: &mut JobContext, delete: &DeleteVm) -> Result<()> {
    let vm = delete.vm;
    // What goes is written down first: after the definition is gone nobody can tell.
    let volumes = if delete.volumes {
        volumes_of(context, vm, delete.keep_data_volumes)
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
    super::say(context, &volumes)
}

/// What a deletion that failed past its point of no return has not removed, in words.
pub(in crate::jobs) fn unfinished(context: &JobContext) -> Vec<String> {
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

/// Switches a VM off and keeps it from starting with its host; its record is marked when the job ends.
pub(super) async fn trash_vm(context: &mut JobContext, vm: VmId) -> Result<()> {
    power_step(context, "off", vm, PowerAction::ForceOff, None).await?;
    let now = context.inventory.now();
    let starts_with_host = now.vms.get(&vm).and_then(|vm| vm.facts.as_ref());
    if starts_with_host.is_none_or(|facts| !facts.autostart)
        || !context
            .backend
            .capabilities()
            .get(Capability::ConfigAutostart)
            .usable()
    {
        return Ok(());
    }
    let native = context.vm_ref(vm);
    let (native, change) = (&native, &VmChange::Autostart { on: false });
    let call = |backend: Arc<dyn Backend>, call| async move { backend.change(&call, native, change).await };
    context.step("autostart", None, call).await
}

/// The writable disks of a VM that are pool volumes, and whatever we made for it; not those that another VM
/// of the same backend has attached as well, nor one that others are made from.
fn volumes_of(context: &JobContext, vm: VmId, keep_data: bool) -> Vec<PoolVolume> {
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
    if keep_data {
        let is_data = |place: &PoolVolume| {
            let record = now.volume_at(vm.home(), place);
            record.is_some_and(|record| record.kind == VolumeKind::Data)
        };
        volumes.retain(|volume| !is_data(volume));
    }
    volumes
}
