//! Data volumes: made, named, into the trash and out of it, away for good.

use babelvisor_core::layers::VolumeRequest;
use babelvisor_core::model::{
    DiskOffering, DiskOfferingId, Host, HostId, Image, ImageId, ImageKind, Timestamp, VolumeId, VolumeKind,
    VolumeRecord,
};
use babelvisor_core::query::VolumeView;
use babelvisor_core::{Error, ErrorKind};
use serde_json::json;

use super::{delete_mode, keep_tags, refused, said, state_event, volume_told};
use crate::Zstack;
use crate::decode::Call;
use crate::find::named;
use crate::operations::{Row, Started, boxed, job};
use crate::resources::VOLUME;

/// Operations on what a volume is.
pub(super) const ROWS: &[Row] = &[
    job("CreateDataVolume", boxed!(create), boxed!(volume_told, told)),
    job(
        "CreateDataVolumeFromVolumeTemplate",
        boxed!(create_from),
        boxed!(volume_told, told),
    ),
    job("DeleteDataVolume", boxed!(delete), boxed!(super::nothing, told)),
    job("RecoverDataVolume", boxed!(recover), boxed!(volume_told, told)),
    job("ExpungeDataVolume", boxed!(expunge), boxed!(super::nothing, told)),
    job("ChangeVolumeState", boxed!(state), boxed!(volume_told, told)),
    job("UpdateVolume", boxed!(update), boxed!(volume_told, told)),
];

impl Zstack {
    /// The volume that the path names.
    pub(super) async fn volume_in(&self, call: &Call, field: &str) -> Result<VolumeView, Error> {
        let id = VolumeId(call.path_id(field, VolumeId::NOUN)?);
        let found = self.core.volume(&call.caller, id).await;
        found.map_err(|error| named(error, field))
    }
}

/// What both creations say in the same words.
fn described(zstack: &Zstack, call: &Call) -> Result<VolumeRequest, Error> {
    Ok(VolumeRequest {
        id: call.id("resourceUuid", VolumeId::NOUN)?.map(VolumeId),
        name: call.needed("name")?.to_owned(),
        description: said(call, "description").unwrap_or_default(),
        pool: zstack.primary_pool(call)?,
        shareable: call.system_tags.iter().any(|tag| tag == "ephemeral::shareable"),
        ..VolumeRequest::default()
    })
}

async fn make(zstack: &Zstack, call: &Call, request: VolumeRequest) -> Result<Started, Error> {
    let (made, job) = zstack
        .core
        .create_volume(&call.caller, request, call.options.clone())
        .await?;
    keep_tags(zstack, call, made.id).await?;
    Ok(Started::Job(Box::new(job)))
}

async fn create(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    const FIELD: &str = "diskOfferingUuid";
    let id = DiskOfferingId(call.needed_id(FIELD, DiskOfferingId::NOUN)?);
    let offering = zstack.entry::<DiskOffering>(call, FIELD, id).await?;
    if !offering.enabled {
        return Err(refused("disk offering", id.0, "is disabled, enable it first"));
    }
    let request = VolumeRequest {
        size: offering.disk_size,
        offering: Some(id),
        ..described(zstack, call)?
    };
    make(zstack, call, request).await
}

async fn create_from(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    const FIELD: &str = "imageUuid";
    let id = ImageId(call.path_id(FIELD, ImageId::NOUN)?);
    let image = zstack.entry::<Image>(call, FIELD, id).await?;
    if image.kind != ImageKind::Data {
        return Err(refused("image", id.0, "is not a template of data volumes"));
    }
    if !image.usable() {
        return Err(refused("image", id.0, "is disabled, deleted or not ready"));
    }
    if call.text("primaryStorageUuid").is_none() {
        return Err(crate::error::mandatory(&call.operation.id, "primaryStorageUuid"));
    }
    let host = call.id("hostUuid", HostId::NOUN)?;
    let host = host.map(|id| zstack.host("hostUuid", id)).transpose()?;
    let request = VolumeRequest {
        size: image.size,
        image: Some(image),
        ..described(zstack, call)?
    };
    same_backend(zstack, &request, host.as_deref())?;
    make(zstack, call, request).await
}

/// A host that does not reach the named storage cannot have the volume.
fn same_backend(zstack: &Zstack, request: &VolumeRequest, host: Option<&Host>) -> Result<(), Error> {
    let now = zstack.core.now();
    let pool = request.pool.and_then(|id| now.pools.get(&id));
    match (pool, host) {
        (Some(pool), Some(host)) if pool.backend != host.backend => {
            let why = "the host does not have the named primary storage";
            Err(Error::invalid("hostUuid", why))
        }
        _ => Ok(()),
    }
}

/// A volume that is no machine's root.
fn data(volume: &VolumeView) -> Result<(), Error> {
    match volume.kind {
        VolumeKind::Data => Ok(()),
        VolumeKind::Root => Err(refused(
            "volume",
            volume.id.0,
            "is a root volume, it goes with its machine",
        )),
    }
}

/// What is not there is as good as deleted, if its uuid is one.
async fn delete(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    delete_mode(call)?;
    let id = VolumeId(call.path_id("uuid", VolumeId::NOUN)?);
    let volume = match zstack.core.volume(&call.caller, id).await {
        Ok(volume) => volume,
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Started::Done(json!({}))),
        Err(error) => return Err(error),
    };
    data(&volume)?;
    if volume.vm.is_some() {
        return Err(refused(
            "volume",
            id.0,
            "is attached to a machine, detach it first",
        ));
    }
    let at = Timestamp::now();
    let change = |record: &mut VolumeRecord| {
        record.trashed_at.get_or_insert(at);
        Ok(())
    };
    zstack.core.edit_volume(&call.caller, id, change).await?;
    Ok(Started::Done(json!({})))
}

async fn edit(
    zstack: &Zstack,
    call: &Call,
    change: impl Fn(&mut VolumeRecord) -> Result<(), Error> + Send + Sync,
) -> Result<Started, Error> {
    let id = VolumeId(call.path_id("uuid", VolumeId::NOUN)?);
    let edited = zstack.core.edit_volume(&call.caller, id, change).await;
    edited.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Done(zstack.told_now(&call.caller, &VOLUME, id.0)?))
}

async fn recover(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    edit(zstack, call, |record| match record.trashed_at.take() {
        Some(_) => Ok(()),
        None => Err(refused("volume", record.id.0, "is not deleted")),
    })
    .await
}

async fn expunge(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let volume = zstack.volume_in(call, "uuid").await?;
    data(&volume)?;
    if volume
        .record
        .as_ref()
        .is_none_or(|record| record.trashed_at.is_none())
    {
        return Err(refused("volume", volume.id.0, "is not deleted, delete it first"));
    }
    let job = zstack
        .core
        .delete_volume(&call.caller, volume.id, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}

async fn state(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let enabled = state_event(call)?;
    edit(zstack, call, |record| {
        record.enabled = enabled;
        Ok(())
    })
    .await
}

async fn update(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    edit(zstack, call, |record| {
        if let Some(name) = call.text("name") {
            record.display_name = name.to_owned();
        }
        if let Some(description) = said(call, "description") {
            record.description = description;
        }
        Ok(())
    })
    .await
}
