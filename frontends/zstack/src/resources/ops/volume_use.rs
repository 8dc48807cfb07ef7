//! Volumes in use: attached, detached, made larger, limited.

use babelvisor_core::command::{ChangeVm, Command};
use babelvisor_core::model::{DiskLimits, VmChange, VmId, VolumeId, VolumeKind};
use babelvisor_core::query::VolumeView;
use babelvisor_core::{Error, ErrorKind};
use bytes::Bytes;
use serde_json::json;

use super::{positive, refused, volume_told};
use crate::decode::{self, Call};
use crate::operations::{Row, Started, boxed, job, sync};
use crate::{Zstack, encode, error};

/// Operations on what a machine does with a volume.
pub(super) const ROWS: &[Row] = &[
    job("AttachDataVolumeToVm", boxed!(attach), boxed!(volume_told, told)),
    job(
        "DetachDataVolumeFromVm",
        boxed!(detach),
        boxed!(volume_told, told),
    ),
    job("ResizeRootVolume", boxed!(resize_root), boxed!(volume_told, told)),
    job("ResizeDataVolume", boxed!(resize_data), boxed!(volume_told, told)),
    job("SetVolumeQoS", boxed!(limit), boxed!(super::nothing, told)),
    job("DeleteVolumeQoS", boxed!(free), boxed!(super::nothing, told)),
    sync("GetVolumeQoS", boxed!(limits)),
];

/// The least bandwidth that can be set, in bytes a second, as in the original.
const LEAST_BANDWIDTH: u64 = 1024;

async fn attach(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let volume = zstack.volume_in(call, "volumeUuid").await?;
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    if volume.kind == VolumeKind::Root {
        return Err(refused(
            "volume",
            volume.id.0,
            "is a root volume, only data volumes can be attached",
        ));
    }
    let options = call.options.clone();
    let job = zstack
        .core
        .attach_volume(&call.caller, volume.id, vm.id, None, false, options)
        .await
        .map_err(|error| of_volume(error, volume.id))?;
    Ok(Started::Job(Box::new(job)))
}

/// The state that forbids it may be the volume's, which is no state of a machine.
fn of_volume(error: Error, volume: VolumeId) -> Error {
    let about_volume = error
        .subject
        .as_ref()
        .is_some_and(|subject| subject.noun == VolumeId::NOUN);
    if error.kind == ErrorKind::IllegalState && about_volume {
        refused(
            "volume",
            volume.0,
            &format!("is not ready for this: {}", error.detail),
        )
    } else {
        error
    }
}

async fn detach(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let volume = zstack.volume_in(call, "uuid").await?;
    let vm = match call.asked("vmUuid") {
        None => None,
        Some(text) => {
            let id = decode::uuid(text).ok_or_else(|| error::no_resource("vmUuid", VmId::NOUN, text))?;
            Some(VmId(id))
        }
    };
    let options = call.options.clone();
    let job = zstack
        .core
        .detach_volume(&call.caller, volume.id, vm, options)
        .await;
    let job = job.map_err(|error| of_volume(error, volume.id))?;
    Ok(Started::Job(Box::new(job)))
}

async fn resize_root(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    resize(zstack, call, VolumeKind::Root, "is not a root volume").await
}

async fn resize_data(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    resize(zstack, call, VolumeKind::Data, "is not a data volume").await
}

async fn resize(zstack: &Zstack, call: &Call, kind: VolumeKind, otherwise: &str) -> Result<Started, Error> {
    let size = positive(call, "size")?;
    let volume = zstack.volume_in(call, "uuid").await?;
    if volume.kind != kind {
        return Err(refused("volume", volume.id.0, otherwise));
    }
    let options = call.options.clone();
    let job = zstack
        .core
        .resize_volume(&call.caller, volume.id, size, options)
        .await
        .map_err(|error| of_volume(error, volume.id))?;
    Ok(Started::Job(Box::new(job)))
}

/// Limits the volume's traffic in both directions together.
async fn limit(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let bandwidth = positive(call, "volumeBandwidth")?;
    if bandwidth < LEAST_BANDWIDTH {
        let why = format!("field[volumeBandwidth] must be at least {LEAST_BANDWIDTH}");
        return Err(Error::invalid("volumeBandwidth", why));
    }
    let limits = |now: DiskLimits| DiskLimits {
        total_bytes: bandwidth,
        read_bytes: 0,
        write_bytes: 0,
        ..now
    };
    set_limits(zstack, call, limits).await
}

async fn free(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let limits = |now: DiskLimits| DiskLimits {
        total_bytes: 0,
        read_bytes: 0,
        write_bytes: 0,
        ..now
    };
    set_limits(zstack, call, limits).await
}

async fn set_limits(
    zstack: &Zstack,
    call: &Call,
    limits: impl Fn(DiskLimits) -> DiskLimits + Send,
) -> Result<Started, Error> {
    let VolumeView { id, vm, disk, .. } = zstack.volume_in(call, "uuid").await?;
    let (Some(vm), Some(disk)) = (vm, disk) else {
        return Err(refused("volume", id.0, "is not attached to a machine"));
    };
    let change = ChangeVm {
        vm: vm.id,
        changes: vec![VmChange::DiskQos {
            target: disk.target.clone(),
            limits: limits(disk.limits),
        }],
        volume: Some(id),
    };
    let command = Command::ChangeVm(Box::new(change));
    let job = zstack
        .core
        .submit(&call.caller, command, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}

/// `GetVolumeQoS`: -1 is no limit.
async fn limits(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let volume = zstack.volume_in(call, "uuid").await?;
    let limit = volume.disk.map_or(0, |disk| disk.limits.total_bytes);
    let limit = i64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(-1);
    encode::json_of(&json!({ "volumeUuid": volume.id.simple(), "volumeBandwidth": limit }))
}
