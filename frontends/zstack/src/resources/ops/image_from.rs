//! New images: from the network, and from volumes.

use babelvisor_core::layers::{ImageFrom, ImageRequest};
use babelvisor_core::model::{Image, ImageId, ImageKind, PoolId, VolumeId, VolumeKind};
use babelvisor_core::query::VolumeView;
use babelvisor_core::{Error, ErrorKind};
use bytes::Bytes;

use super::{image, image_told, keep_tags, owner, refused, said};
use crate::decode::Call;
use crate::find::named;
use crate::operations::{Row, Started, boxed, job, sync};
use crate::resources::{BACKUP_STORAGE, storage::backup_storage};
use crate::{Zstack, encode};

/// Operations that make images, and where they can go.
pub(super) const ROWS: &[Row] = &[
    job("AddImage", boxed!(add), boxed!(image_told, told)),
    job(
        "CreateRootVolumeTemplateFromRootVolume",
        boxed!(from_root),
        boxed!(image_told, told),
    ),
    job(
        "CreateDataVolumeTemplateFromVolume",
        boxed!(from_volume),
        boxed!(image_told, told),
    ),
    sync("GetCandidateBackupStorageForCreatingImage", boxed!(candidates)),
];

/// The one backup storage that a call names, as a pool. An image lies in one place only.
fn place(zstack: &Zstack, call: &Call) -> Result<Option<PoolId>, Error> {
    const FIELD: &str = "backupStorageUuids";
    match call.ids(FIELD, "BackupStorageVO")?.as_slice() {
        [] => Ok(None),
        [one] => zstack.backup_pool(FIELD, *one).map(Some),
        [_, _, ..] => Err(Error::new(
            ErrorKind::Unsupported,
            "an image is kept on one backup storage; name one in field[backupStorageUuids]",
        )),
    }
}

/// The image that a call describes.
fn described(call: &Call, kind: ImageKind) -> Result<Image, Error> {
    let mut image = Image::new(call.needed("name")?, kind, owner(&call.caller));
    if let Some(id) = call.id("resourceUuid", ImageId::NOUN)? {
        image.id = ImageId(id);
    }
    image.description = said(call, "description").unwrap_or_default();
    image.os = said(call, "guestOsType").unwrap_or_default();
    image.platform = image::platform(call)?.unwrap_or_default();
    image.system = call.flag("system").unwrap_or_default();
    Ok(image)
}

async fn make(zstack: &Zstack, call: &Call, request: ImageRequest) -> Result<Started, Error> {
    let (made, job) = zstack
        .core
        .make_image(&call.caller, request, call.options.clone())
        .await?;
    keep_tags(zstack, call, made.id).await?;
    Ok(Started::Job(Box::new(job)))
}

async fn add(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let url = call.needed("url")?.to_owned();
    call.needed("format")?;
    if !matches!(call.text("type"), None | Some("zstack")) {
        return Err(super::one_of(call, "type", "zstack"));
    }
    let (kind, format) = image::form(call)?;
    let pool = place(zstack, call)?;
    let pool = pool.ok_or_else(|| crate::error::mandatory(&call.operation.id, "backupStorageUuids"))?;
    let request = ImageRequest {
        image: described(call, kind.unwrap_or(ImageKind::Disk))?,
        from: ImageFrom::Url(url),
        format,
        pool: Some(pool),
    };
    make(zstack, call, request).await
}

/// The volume that the path names.
async fn source(zstack: &Zstack, call: &Call, field: &str) -> Result<VolumeView, Error> {
    let id = VolumeId(call.path_id(field, VolumeId::NOUN)?);
    let found = zstack.core.volume(&call.caller, id).await;
    found.map_err(|error| named(error, field))
}

async fn from_root(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let volume = source(zstack, call, "rootVolumeUuid").await?;
    if volume.kind != VolumeKind::Root {
        return Err(refused("volume", volume.id.0, "is not a root volume"));
    }
    let request = ImageRequest {
        image: described(call, ImageKind::Disk)?,
        from: ImageFrom::Volume(volume.id),
        format: None,
        pool: place(zstack, call)?,
    };
    make(zstack, call, request).await
}

async fn from_volume(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let volume = source(zstack, call, "volumeUuid").await?;
    let request = ImageRequest {
        image: described(call, ImageKind::Data)?,
        from: ImageFrom::Volume(volume.id),
        format: None,
        pool: place(zstack, call)?,
    };
    make(zstack, call, request).await
}

/// Where an image of a volume can go: the pools of its own backend that have room for it.
async fn candidates(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let volume = if call.path("volumeUuid").is_empty() {
        use babelvisor_core::model::{SnapshotId, SnapshotRecord};
        const FIELD: &str = "volumeSnapshotUuid";
        let id = SnapshotId(call.path_id(FIELD, SnapshotId::NOUN)?);
        let record = zstack.entry::<SnapshotRecord>(call, FIELD, id).await?;
        let vm = zstack.core.vm(&call.caller, record.vm).await?;
        let views = VolumeView::of_vm(&zstack.core.now(), &vm);
        let wanted = |view: &VolumeView| match record.volume {
            Some(id) => view.id == id,
            None => view.kind == VolumeKind::Root,
        };
        let found = views.into_iter().find(wanted);
        found.ok_or_else(|| Error::not_found(VolumeId::NOUN, id))?
    } else {
        source(zstack, call, "volumeUuid").await?
    };
    let now = zstack.core.now();
    let mut pools: Vec<_> = now.pools.values().collect();
    pools.retain(|pool| pool.backend == volume.backend && pool.active && pool.available >= volume.capacity);
    pools.sort_by(|one, two| one.name.cmp(&two.name));
    let found = pools
        .into_iter()
        .filter_map(|pool| zstack.resource(&call.caller, &BACKUP_STORAGE, backup_storage(pool)));
    Ok(encode::inventories(found, None))
}
