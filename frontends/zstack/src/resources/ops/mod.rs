//! Operations on resources other than machines. What only the gateway remembers is changed at once: the call is done
//! when it is accepted. What lies on a backend is a job of the core.

mod affinity;
mod image;
mod image_from;
mod offering;
mod snapshot;
mod volume;
mod volume_look;
mod volume_use;

use babelvisor_core::command::Command;
use babelvisor_core::model::{
    Caller, ImageId, Job, PoolId, ResourceId, Role, SnapshotId, Tag, TagResource, TenantId, VolumeId,
};
use babelvisor_core::query::scope;
use babelvisor_core::{Error, ErrorKind};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::storage::backup_storage;
use super::{IMAGE, VOLUME, VOLUME_SNAPSHOT};
use crate::decode::Call;
use crate::error::no_resource;
use crate::operations::{Row, Told};
use crate::query::table::{Resource, World};
use crate::query::{inventory, one};
use crate::{Zstack, encode};

/// The tables of all families.
pub(crate) const TABLES: &[&[Row]] = &[
    offering::ROWS,
    affinity::ROWS,
    image::ROWS,
    image_from::ROWS,
    volume::ROWS,
    volume_use::ROWS,
    volume_look::ROWS,
    snapshot::ROWS,
];

/// The longest tag that is kept.
const LONGEST_TAG: usize = 2048;

impl Zstack {
    /// A resource as JSON, as the caller sees it now; none if it is not there for it.
    pub(crate) fn resource(&self, caller: &Caller, resource: &'static Resource, id: Uuid) -> Option<Bytes> {
        let now = self.core.now();
        let index = self.indexes.of(&now);
        let world = World {
            now: &now,
            index: &index,
            scope: scope(caller),
            zone: &self.zone,
        };
        let row = one(&world, resource, id)?;
        Some(inventory(&world, resource, row))
    }

    /// `{"inventory": …}` of it, for a call that is done at once.
    fn told_now(&self, caller: &Caller, resource: &'static Resource, id: Uuid) -> Result<Value, Error> {
        let found = self.resource(caller, resource, id);
        let found = found.ok_or_else(|| Error::not_found(resource.inventory(), id))?;
        let value: Value = serde_json::from_slice(&found)
            .map_err(|error| Error::internal(format!("an answer cannot be encoded: {error}")))?;
        Ok(json!({ "inventory": value }))
    }

    /// `{"inventory": …}` of it, for a job; `{}` if it is gone since.
    fn told_later(&self, caller: &Caller, resource: &'static Resource, id: Uuid) -> Told {
        let found = self.resource(caller, resource, id);
        Told::Result(found.map_or_else(encode::nothing, |found| encode::inventory(&found)))
    }

    /// The pool that a backup storage's uuid names.
    fn backup_pool(&self, field: &str, id: Uuid) -> Result<PoolId, Error> {
        let now = self.core.now();
        let found = now.pools.values().find(|pool| backup_storage(pool) == id);
        found
            .map(|pool| pool.id)
            .ok_or_else(|| no_resource(field, "BackupStorageVO", &id.simple().to_string()))
    }

    /// The pool that `primaryStorageUuid` names, if it names one.
    fn primary_pool(&self, call: &Call) -> Result<Option<PoolId>, Error> {
        const FIELD: &str = "primaryStorageUuid";
        let Some(id) = call.id(FIELD, PoolId::NOUN)? else {
            return Ok(None);
        };
        let known = self.core.now().pools.contains_key(&PoolId(id));
        match known {
            true => Ok(Some(PoolId(id))),
            false => Err(no_resource(FIELD, PoolId::NOUN, &id.simple().to_string())),
        }
    }
}

/// Whom a new offering or image belongs to: an administrator's are everybody's, because nobody could use them
/// otherwise.
fn owner(caller: &Caller) -> Option<TenantId> {
    match caller.role {
        Role::Admin => None,
        Role::User | Role::Viewer => Some(caller.tenant.clone()),
    }
}

/// What `stateEvent` asks for.
fn state_event(call: &Call) -> Result<bool, Error> {
    match call.needed("stateEvent")? {
        "enable" => Ok(true),
        "disable" => Ok(false),
        _ => Err(one_of(call, "stateEvent", "enable, disable")),
    }
}

/// Judges `deleteMode`. Nothing here depends on what is deleted so that only force would do it: both modes do the
/// same.
fn delete_mode(call: &Call) -> Result<(), Error> {
    match call.asked("deleteMode") {
        None | Some("Permissive" | "Enforcing") => Ok(()),
        Some(_) => Err(one_of(call, "deleteMode", "Permissive, Enforcing")),
    }
}

/// A member has a value that is none of those that there are.
fn one_of(call: &Call, field: &str, known: &str) -> Error {
    let message = crate::decode::message(&call.operation.id);
    let text = format!("invalid value of field[{field}] of message[{message}], expected one of [{known}]");
    Error::invalid(field, text)
}

/// Free text of the wrapper; empty text takes away what is there, absence leaves it.
fn said(call: &Call, name: &str) -> Option<String> {
    call.body.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// A number of the wrapper that must be there and above 0.
fn positive(call: &Call, name: &str) -> Result<u64, Error> {
    let number = call
        .number(name)
        .ok_or_else(|| crate::error::mandatory(&call.operation.id, name))?;
    u64::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Error::invalid(name, format!("field[{name}] must be greater than 0")))
}

/// Gives a new resource the tags of its call.
async fn keep_tags<I: ResourceId>(zstack: &Zstack, call: &Call, id: I) -> Result<(), Error> {
    let lists = [(&call.system_tags, true), (&call.user_tags, false)];
    for (texts, system) in lists {
        for text in texts.iter().filter(|text| !text.is_empty()) {
            if text.len() > LONGEST_TAG {
                let why = format!("a tag has at most {LONGEST_TAG} bytes");
                return Err(Error::invalid("systemTags", why));
            }
            let tenant = Some(call.caller.tenant.clone());
            let tag = Tag::new(TagResource::of(id), text.clone(), system, tenant);
            zstack.core.add_entry(&call.caller, tag).await?;
        }
    }
    Ok(())
}

/// A success without a result.
async fn nothing(_: &Zstack, _: &Caller, _: &Job) -> Result<Told, Error> {
    Ok(Told::Result(encode::nothing()))
}

/// Tells a job's volume.
async fn volume_told(zstack: &Zstack, caller: &Caller, job: &Job) -> Result<Told, Error> {
    let volume: Option<VolumeId> = match &job.command {
        Command::Volume(job) => Some(job.volume),
        Command::ChangeVm(change) => change.volume,
        _ => None,
    };
    Ok(volume.map_or_else(
        || Told::Result(encode::nothing()),
        |id| zstack.told_later(caller, &VOLUME, id.0),
    ))
}

/// Tells a job's image.
async fn image_told(zstack: &Zstack, caller: &Caller, job: &Job) -> Result<Told, Error> {
    let image: Option<ImageId> = match &job.command {
        Command::Image(job) => Some(job.image),
        _ => None,
    };
    Ok(image.map_or_else(
        || Told::Result(encode::nothing()),
        |id| zstack.told_later(caller, &IMAGE, id.0),
    ))
}

/// Tells a job's snapshot.
async fn snapshot_told(zstack: &Zstack, caller: &Caller, job: &Job) -> Result<Told, Error> {
    let snapshot: Option<SnapshotId> = match &job.command {
        Command::Snapshot(job) => Some(job.snapshot),
        _ => None,
    };
    Ok(snapshot.map_or_else(
        || Told::Result(encode::nothing()),
        |id| zstack.told_later(caller, &VOLUME_SNAPSHOT, id.0),
    ))
}

/// What a resource's state forbids.
fn refused(noun: &str, id: Uuid, why: &str) -> Error {
    let id = id.simple();
    Error::new(ErrorKind::Conflict, format!("{noun}[uuid:{id}] {why}")).about(noun, id)
}
