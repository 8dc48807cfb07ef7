//! Volume snapshots: made, named, gone back to, removed.

use babelvisor_core::Error;
use babelvisor_core::layers::SnapshotRequest;
use babelvisor_core::model::{SnapshotId, SnapshotRecord};

use super::{delete_mode, keep_tags, refused, said, snapshot_told};
use crate::Zstack;
use crate::decode::Call;
use crate::find::named;
use crate::operations::{Row, Started, boxed, job};
use crate::resources::VOLUME_SNAPSHOT;

/// Operations on snapshots.
pub(super) const ROWS: &[Row] = &[
    job(
        "CreateVolumeSnapshot",
        boxed!(create),
        boxed!(snapshot_told, told),
    ),
    job(
        "UpdateVolumeSnapshot",
        boxed!(update),
        boxed!(snapshot_told, told),
    ),
    job(
        "RevertVolumeFromSnapshot",
        boxed!(revert),
        boxed!(super::nothing, told),
    ),
    job(
        "DeleteVolumeSnapshot",
        boxed!(delete),
        boxed!(super::nothing, told),
    ),
];

/// Of one volume, without memory, as this dialect knows them. A volume that no machine has cannot be asked.
async fn create(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let volume = zstack.volume_in(call, "volumeUuid").await?;
    let Some(vm) = &volume.vm else {
        return Err(refused("volume", volume.id.0, "is not attached to a machine"));
    };
    let request = SnapshotRequest {
        id: call.id("resourceUuid", SnapshotId::NOUN)?.map(SnapshotId),
        name: call.needed("name")?.to_owned(),
        description: said(call, "description").unwrap_or_default(),
        memory: false,
        volume: Some(volume.id),
    };
    let options = call.options.clone();
    let (made, job) = zstack
        .core
        .create_snapshot(&call.caller, vm.id, request, options)
        .await?;
    keep_tags(zstack, call, made.id).await?;
    Ok(Started::Job(Box::new(job)))
}

async fn update(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let id = SnapshotId(call.path_id("uuid", SnapshotId::NOUN)?);
    let change = |record: &mut SnapshotRecord| {
        if let Some(name) = call.text("name") {
            record.display_name = name.to_owned();
        }
        if let Some(description) = said(call, "description") {
            record.description = description;
        }
        Ok(())
    };
    let edited = zstack.core.edit_entry(&call.caller, id, change).await;
    edited.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Done(zstack.told_now(
        &call.caller,
        &VOLUME_SNAPSHOT,
        id.0,
    )?))
}

async fn revert(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let id = SnapshotId(call.path_id("uuid", SnapshotId::NOUN)?);
    let options = call.options.clone();
    let job = zstack.core.revert_snapshot(&call.caller, id, options).await;
    let job = job.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Job(Box::new(job)))
}

async fn delete(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    delete_mode(call)?;
    let id = SnapshotId(call.path_id("uuid", SnapshotId::NOUN)?);
    let options = call.options.clone();
    let job = zstack.core.delete_snapshot(&call.caller, id, options).await;
    let job = job.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Job(Box::new(job)))
}
