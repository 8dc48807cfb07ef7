//! Images: their names and states, into the trash and out of it, away for good; and the guest agent's mark.

use babelvisor_core::Error;
use babelvisor_core::model::{Image, ImageId, ImageKind, Timestamp, VolumeFormat};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{delete_mode, one_of, refused, said, state_event};
use crate::decode::Call;
use crate::find::named;
use crate::operations::{Row, Started, boxed, job, sync};
use crate::resources::{IMAGE, machines::PLATFORMS};
use crate::{Zstack, encode};

/// Operations on images that are there.
pub(super) const ROWS: &[Row] = &[
    job("UpdateImage", boxed!(update), boxed!(super::image_told, told)),
    job("ChangeImageState", boxed!(state), boxed!(super::image_told, told)),
    job("DeleteImage", boxed!(delete), boxed!(super::nothing, told)),
    job("RecoverImage", boxed!(recover), boxed!(super::image_told, told)),
    job("ExpungeImage", boxed!(expunge), boxed!(super::nothing, told)),
    job("SetImageQga", boxed!(set_agent), boxed!(super::nothing, told)),
    sync("GetImageQga", boxed!(agent)),
];

/// `Image::settings`: whether guests made from it have an agent.
const AGENT: &str = "zstack-qga";

async fn edit(
    zstack: &Zstack,
    call: &Call,
    field: &str,
    change: impl Fn(&mut Image) -> Result<(), Error> + Send + Sync,
) -> Result<Uuid, Error> {
    let id = ImageId(call.path_id(field, ImageId::NOUN)?);
    let edited = zstack.core.edit_entry(&call.caller, id, change).await;
    edited.map_err(|error| named(error, field))?;
    Ok(id.0)
}

/// What `mediaType` and `format` say, as far as they are there.
pub(super) fn form(call: &Call) -> Result<(Option<ImageKind>, Option<VolumeFormat>), Error> {
    let (format, iso) = match call.text("format").map(str::to_ascii_lowercase).as_deref() {
        None => (None, false),
        Some("qcow2") => (Some(VolumeFormat::Qcow2), false),
        Some("raw") => (Some(VolumeFormat::Raw), false),
        Some("iso") => (Some(VolumeFormat::Raw), true),
        Some(_) => return Err(one_of(call, "format", "qcow2, raw, iso")),
    };
    let kind = match call.text("mediaType") {
        None if iso => Some(ImageKind::Iso),
        None => None,
        Some("RootVolumeTemplate") => Some(ImageKind::Disk),
        Some("DataVolumeTemplate") => Some(ImageKind::Data),
        Some("ISO") => Some(ImageKind::Iso),
        Some(_) => {
            return Err(one_of(
                call,
                "mediaType",
                "RootVolumeTemplate, DataVolumeTemplate, ISO",
            ));
        }
    };
    if iso && kind.is_some_and(|kind| kind != ImageKind::Iso) {
        let why = "invalid field[format], iso is the format of images with mediaType ISO only";
        return Err(Error::invalid("format", why));
    }
    Ok((kind, format))
}

/// What `platform` says, as far as it is there.
pub(super) fn platform(call: &Call) -> Result<Option<String>, Error> {
    match call.text("platform") {
        None => Ok(None),
        Some(platform) if PLATFORMS.contains(&platform) => Ok(Some(platform.to_owned())),
        Some(_) => Err(one_of(call, "platform", &PLATFORMS.join(", "))),
    }
}

async fn update(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let (kind, format) = form(call)?;
    let platform = platform(call)?;
    let change = |image: &mut Image| {
        if let Some(name) = call.text("name") {
            image.name = name.to_owned();
        }
        if let Some(description) = said(call, "description") {
            image.description = description;
        }
        if let Some(system) = said(call, "guestOsType") {
            image.os = system;
        }
        if let Some(kind) = kind {
            image.kind = kind;
        }
        if let Some(format) = format {
            image.format = Some(format);
            for location in &mut image.locations {
                location.format = format;
            }
        }
        if let Some(system) = call.flag("system") {
            image.system = system;
        }
        if let Some(platform) = &platform {
            image.platform.clone_from(platform);
        }
        Ok(())
    };
    let id = edit(zstack, call, "uuid", change).await?;
    Ok(Started::Done(zstack.told_now(&call.caller, &IMAGE, id)?))
}

async fn state(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let enabled = state_event(call)?;
    let change = |image: &mut Image| {
        image.enabled = enabled;
        Ok(())
    };
    let id = edit(zstack, call, "uuid", change).await?;
    Ok(Started::Done(zstack.told_now(&call.caller, &IMAGE, id)?))
}

/// Judges `backupStorageUuids`: an image is kept on one, which must be among them if there are some.
fn storages(zstack: &Zstack, named: &[Uuid], id: Uuid, call: &Call) -> Result<(), Error> {
    if named.is_empty() {
        return Ok(());
    }
    let image: Value = zstack
        .resource(&call.caller, &IMAGE, id)
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    let places = image.get("backupStorageRefs").and_then(Value::as_array);
    let places = places.into_iter().flatten();
    let places: Vec<&str> = places
        .filter_map(|place| place.get("backupStorageUuid")?.as_str())
        .collect();
    let here = |storage: &Uuid| places.contains(&storage.simple().to_string().as_str());
    // Where an image lies that the configuration names is not always known.
    if places.is_empty() || named.iter().any(here) {
        return Ok(());
    }
    Err(refused("image", id, "is not on any of the named backup storages"))
}

async fn delete(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    delete_mode(call)?;
    let id = ImageId(call.path_id("uuid", ImageId::NOUN)?);
    let named_storages = call
        .asked_all("backupStorageUuids")
        .filter_map(crate::decode::uuid);
    storages(zstack, &named_storages.collect::<Vec<_>>(), id.0, call)?;
    let at = Timestamp::now();
    let change = |image: &mut Image| {
        image.trashed_at.get_or_insert(at);
        Ok(())
    };
    edit(zstack, call, "uuid", change).await?;
    Ok(Started::Done(json!({})))
}

async fn recover(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let id = call.path_id("imageUuid", ImageId::NOUN)?;
    storages(
        zstack,
        &call.ids("backupStorageUuids", "BackupStorageVO")?,
        id,
        call,
    )?;
    let change = |image: &mut Image| match image.trashed_at.take() {
        Some(_) => Ok(()),
        None => Err(refused("image", id, "is not deleted")),
    };
    let id = edit(zstack, call, "imageUuid", change).await?;
    Ok(Started::Done(zstack.told_now(&call.caller, &IMAGE, id)?))
}

async fn expunge(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let id = ImageId(call.path_id("imageUuid", ImageId::NOUN)?);
    let image = zstack.entry::<Image>(call, "imageUuid", id).await?;
    storages(
        zstack,
        &call.ids("backupStorageUuids", "BackupStorageVO")?,
        id.0,
        call,
    )?;
    if image.trashed_at.is_none() {
        return Err(refused("image", id.0, "is not deleted, delete it first"));
    }
    let job = zstack
        .core
        .delete_image(&call.caller, id, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}

async fn set_agent(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let on = call
        .flag("enable")
        .ok_or_else(|| crate::error::mandatory(&call.operation.id, "enable"))?;
    let change = |image: &mut Image| {
        image.settings.insert(AGENT.to_owned(), on.to_string());
        Ok(())
    };
    edit(zstack, call, "uuid", change).await?;
    Ok(Started::Done(json!({})))
}

async fn agent(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let id = ImageId(call.path_id("uuid", ImageId::NOUN)?);
    let image = zstack.entry::<Image>(call, "uuid", id).await?;
    let enabled = image.settings.get(AGENT).is_some_and(|on| on == "true");
    encode::json_of(&json!({ "uuid": id.simple(), "enable": enabled }))
}
