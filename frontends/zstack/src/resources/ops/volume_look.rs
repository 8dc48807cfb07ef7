//! What can be done with volumes: formats, capabilities, and who can have which.

use babelvisor_core::Error;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{EntryState, PowerState, Vm, VolumeKind};
use babelvisor_core::query::{VolumeView, may_see};
use bytes::Bytes;
use serde_json::json;

use crate::decode::Call;
use crate::operations::{Row, boxed, sync};
use crate::resources::machines;
use crate::{Zstack, encode};

/// Operations that only look.
pub(super) const ROWS: &[Row] = &[
    sync("GetVolumeFormat", boxed!(formats)),
    sync("GetVolumeCapabilities", boxed!(capabilities)),
    sync("GetDataVolumeAttachableVm", boxed!(machines_for)),
];

/// The layouts that there are, each with the kinds of hypervisors of this site.
async fn formats(zstack: &Zstack, _: &Call) -> Result<Bytes, Error> {
    let now = zstack.core.now();
    let mut kinds: Vec<&str> = now
        .hosts
        .values()
        .map(|host| machines::hypervisor(&host.hypervisor))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let master = kinds.first().copied().unwrap_or("KVM");
    let rows = ["qcow2", "raw", "iso"].map(|format| {
        json!({
            "format": format,
            "masterHypervisorType": master,
            "supportingHypervisorTypes": kinds,
        })
    });
    encode::json_of(&json!({ "formats": rows }))
}

/// What its backend can do with a volume. Volumes move with their machines only.
async fn capabilities(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let volume = zstack.volume_in(call, "uuid").await?;
    let backend = zstack.core.backends().get(&volume.backend);
    let can = |capability| backend.is_some_and(|backend| backend.capabilities().get(capability).usable());
    encode::json_of(&json!({ "capabilities": {
        "MigrationInCurrentPrimaryStorage": can(Capability::VmMigrate),
        "MigrationToOtherPrimaryStorage": false,
    }}))
}

/// Whether a disk can be plugged into a machine now.
fn takes_disks(vm: &Vm) -> bool {
    match vm.power() {
        PowerState::Running | PowerState::Blocked | PowerState::Off | PowerState::Crashed => vm.visible(),
        PowerState::NoState | PowerState::Paused | PowerState::ShuttingDown | PowerState::Suspended => false,
    }
}

/// Whether a volume waits to be attached.
fn is_free(volume: &VolumeView) -> bool {
    let ready = volume.record.as_ref().is_some_and(|record| {
        record.enabled && record.trashed_at.is_none() && record.state == EntryState::Ready
    });
    let shareable = volume.record.as_ref().is_some_and(|record| record.shareable);
    ready && volume.kind == VolumeKind::Data && (volume.vm.is_none() || shareable)
}

/// `GetDataVolumeAttachableVm`: machines that a volume can be attached to.
async fn machines_for(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let volume = zstack.volume_in(call, "volumeUuid").await?;
    let now = zstack.core.now();
    let machines = now.by_number.values().filter(|vm| {
        is_free(&volume)
            && *vm.home() == volume.backend
            && may_see(&call.caller, vm)
            && takes_disks(vm)
            && volume.vm.as_ref().is_none_or(|holder| holder.id != vm.id)
    });
    let found: Result<Vec<Bytes>, Error> = machines.map(|vm| zstack.vm_json(&now, vm)).collect();
    Ok(encode::inventories(found?, None))
}
