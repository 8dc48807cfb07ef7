//! The repository and its images. There is one repository; every image that the gateway knows is in it, whatever
//! pool of whatever backend holds it.

use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::{
    BackendId, Caller, EntryState, Image, ImageId, ImageKind, PoolId, StoragePool, VolumeFormat,
};
use babelvisor_core::{Error, ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::V1Compute;
use crate::call::Call;
use crate::decode::{Params, uuid};
use crate::encode::{Data, RangeState};
use crate::error::Fault;
use crate::lookups::{part_of, range_states};
use crate::operations::{Row, row};
use crate::place::{self, Area};

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("repository.list", repository_list),
    row!("repository.get", repository_get),
    row!("image.get", image_get),
    row!("image.list", image_list),
    row!("image.sync", image_sync),
    row!("image.delete", image_delete),
];

/// What the repository is for, in the words of its document; it holds no security or stack templates.
const USAGES: [&str; 3] = ["cdrom", "floppy", "image"];

#[derive(Serialize)]
struct Repository<'a> {
    cluster_uuid: String,
    cluster_name: String,
    tenant: String,
    tenant_name: &'a str,
    uuid: String,
    name: &'a str,
    usages: [&'static str; 3],
    /// Null is everybody.
    acl: Option<Value>,
    ctime: Option<i64>,
    mtime: Option<i64>,
    capacity: u64,
}

#[derive(Serialize)]
struct Repositories<'a> {
    list: Vec<Repository<'a>>,
    total_count: usize,
    each_scope_list_state: Vec<RangeState>,
}

/// An image, names and capitals as the client's type has them.
#[derive(Serialize)]
struct ShownImage<'a> {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "Repository")]
    repository: String,
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "Format")]
    format: &'a str,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Vsize")]
    virtual_size: u64,
    #[serde(rename = "CTime")]
    created: i64,
    #[serde(rename = "LastModified")]
    changed: i64,
    #[serde(rename = "Md5")]
    md5: &'static str,
    #[serde(rename = "Extra")]
    extra: Map<String, Value>,
    #[serde(rename = "OsType")]
    os: String,
    #[serde(rename = "RegisterTime")]
    registered: i64,
    #[serde(rename = "VolumeUUID")]
    volume: &'static str,
    #[serde(rename = "Available")]
    available: bool,
    #[serde(rename = "RepositoryName")]
    repository_name: &'a str,
}

#[derive(Serialize)]
struct Wrapped<'a> {
    image: ShownImage<'a>,
}

#[derive(Serialize)]
struct Images<'a> {
    total: usize,
    images: Vec<Wrapped<'a>>,
}

/// Which usage of a repository an image is for.
const fn usage(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Disk | ImageKind::Data => "image",
        ImageKind::Iso => "cdrom",
        ImageKind::Floppy => "floppy",
    }
}

impl V1Compute {
    /// `repository.list`.
    pub(crate) async fn repository_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        let now = self.core.now();
        let cluster = self.cluster(&now, params.text("cluster_uuid"))?;
        self.tenant(&call.caller, params.text("tenant"))?;
        let usage = params.text("filter_usage");
        let fits = (usage.is_empty() || USAGES.contains(&usage))
            && part_of(params.text("filter_name"), &self.settings.repository.name);
        let all: Vec<Repository<'_>> = fits
            .then(|| self.shown_repository(&now, &call.caller, cluster))
            .into_iter()
            .collect();
        let total = all.len();
        Data::of(&Repositories {
            list: params.page()?.cut(all),
            total_count: total,
            each_scope_list_state: range_states(&now, total),
        })
    }

    /// `repository.get`.
    pub(crate) async fn repository_get(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let now = self.core.now();
        let cluster = self.cluster(&now, call.params.text("cluster_uuid"))?;
        self.repository(call.params.text("uuid"))?;
        Data::of(&self.shown_repository(&now, &call.caller, cluster))
    }

    /// `image.get`: by uuid where there is one, else by its exact name.
    pub(crate) async fn image_get(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        self.repository(params.text("repository"))?;
        let image = match params.text("uuid") {
            "" => self.image_named(&call.caller, params.text("name"))?,
            text => self.image(&call.caller, "uuid", text).await?,
        };
        Data::of(&Wrapped {
            image: self.shown_image(&image),
        })
    }

    /// `image.list`.
    pub(crate) async fn image_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        match params.text("repository") {
            "" => {}
            said => self.repository(said)?,
        }
        let wanted = params.text("filter_usage");
        let mut images = self.ready_images(&call.caller);
        images.retain(|image| {
            part_of(params.text("filter_name"), &image.name)
                && (wanted.is_empty() || wanted == usage(image.kind))
        });
        let total = images.len();
        let shown = images.iter().map(|image| Wrapped {
            image: self.shown_image(image),
        });
        Data::of(&Images {
            total,
            images: params.page()?.cut(shown.collect()),
        })
    }

    /// `image.sync`: there is nothing to read in, because the gateway wrote what it has; the repository is checked.
    pub(crate) async fn image_sync(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let said = call
            .params
            .get("image")
            .and_then(|image| member(image, "repository"));
        let said = said.unwrap_or_else(|| call.params.text("repository"));
        if said.is_empty() {
            return Err(Fault::parameter("image.repository is missing"));
        }
        self.repository(said)?;
        Ok(Data::empty())
    }

    /// `image.delete`: with its volumes; answered when it is gone.
    pub(crate) async fn image_delete(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params: &Params = &call.params;
        match params.text("repository") {
            "" => {}
            said => self.repository(said)?,
        }
        let image = self.image(&call.caller, "uuid", params.text("uuid")).await?;
        let job = self
            .core
            .delete_image(&call.caller, image.id, SubmitOptions::REFUSE)
            .await?;
        self.core
            .wait_for_success(job.id, call.operation.longest_wait)
            .await?;
        Ok(Data::empty())
    }

    /// Whether `said` names the repository, by uuid or name.
    ///
    /// # Errors
    /// 10001 for nothing at all, 22001 for another one.
    pub(crate) fn repository(&self, said: &str) -> Result<(), Fault> {
        if said.is_empty() {
            return Err(Fault::parameter("the uuid of the repository is missing"));
        }
        if said == self.settings.repository.name || place::is(said, self.repository_uuid()) {
            return Ok(());
        }
        Err(Fault::unknown("repository", said))
    }

    /// The repository's uuid.
    pub(crate) fn repository_uuid(&self) -> Uuid {
        place::computed("repository", &self.settings.repository.name)
    }

    /// The pool of `backend` that exports are written to; none leaves it to the site's choice for new volumes.
    ///
    /// # Errors
    /// 22007 if the site names a pool that this backend does not have.
    pub(crate) fn repository_pool(
        &self,
        now: &Snapshot,
        backend: &BackendId,
    ) -> Result<Option<PoolId>, Fault> {
        let Some(name) = &self.settings.repository.pool else {
            return Ok(None);
        };
        let mut pools = now.pools.values();
        match pools.find(|pool| pool.backend == *backend && pool.name == *name) {
            Some(pool) => Ok(Some(pool.id)),
            None => Err(Error::new(
                ErrorKind::NoResources,
                format!("backend {backend} has no pool {name}, where the repository is kept"),
            )
            .into()),
        }
    }

    /// The image that `text`, the parameter `field`, names by uuid; it is there and may be used.
    ///
    /// # Errors
    /// 10001 for something that is no uuid, 22001 for an image that does not exist, 22003 for one that is still
    /// being made or was not made.
    pub(crate) async fn image(&self, caller: &Caller, field: &str, text: &str) -> Result<Arc<Image>, Fault> {
        if text.is_empty() {
            return Err(Fault::parameter(format!("{field} is missing")));
        }
        let unknown = || Fault::unknown("image", text);
        let id = ImageId(uuid(field, text)?);
        let image = self
            .core
            .entry::<Image>(caller, id)
            .await
            .map_err(|error| match error.kind {
                ErrorKind::NotFound => unknown(),
                _ => Fault::from(error),
            })?;
        if image.trashed_at.is_some() {
            return Err(unknown());
        }
        match &image.state {
            EntryState::Ready => Ok(image),
            EntryState::Creating => Err(Error::illegal_state("image", id, "it is still being made").into()),
            EntryState::Failed(_) => Err(Error::illegal_state("image", id, "it could not be made").into()),
        }
    }

    /// The image with exactly this name; of several the newest.
    ///
    /// # Errors
    /// 10001 for no name, 22001 for one that no image has.
    pub(crate) fn image_named(&self, caller: &Caller, name: &str) -> Result<Arc<Image>, Fault> {
        if name.is_empty() {
            return Err(Fault::parameter("name or uuid is missing"));
        }
        let mut images = self.ready_images(caller);
        images.retain(|image| image.name == name);
        images.pop().ok_or_else(|| Fault::unknown("image", name))
    }

    /// The images that are there, oldest first, those of one moment by name.
    fn ready_images(&self, caller: &Caller) -> Vec<Arc<Image>> {
        let mut images = self.core.entries::<Image>(caller);
        images.retain(|image| image.state == EntryState::Ready && image.trashed_at.is_none());
        images.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        images
    }

    fn shown_repository(&self, now: &Snapshot, caller: &Caller, cluster: Area) -> Repository<'_> {
        let wanted = self.settings.repository.pool.as_deref();
        let kept = |pool: &&Arc<StoragePool>| pool.active && wanted.is_none_or(|name| pool.name == name);
        Repository {
            cluster_uuid: cluster.uuid.to_string(),
            cluster_name: cluster.name,
            tenant: place::tenant_uuid(&caller.tenant).to_string(),
            tenant_name: "",
            uuid: self.repository_uuid().to_string(),
            name: &self.settings.repository.name,
            usages: USAGES,
            acl: None,
            ctime: None,
            mtime: None,
            capacity: now.pools.values().filter(kept).map(|pool| pool.capacity).sum(),
        }
    }

    fn shown_image<'a>(&'a self, image: &'a Image) -> ShownImage<'a> {
        ShownImage {
            uuid: image.id.to_string(),
            repository: self.repository_uuid().to_string(),
            name: &image.name,
            format: match (image.kind, image.layout()) {
                (ImageKind::Iso, _) => "iso",
                (ImageKind::Disk | ImageKind::Data | ImageKind::Floppy, Some(VolumeFormat::Qcow2)) => "qcow2",
                (ImageKind::Disk | ImageKind::Data | ImageKind::Floppy, _) => "raw",
            },
            size: if image.actual_size > 0 {
                image.actual_size
            } else {
                image.size
            },
            virtual_size: image.size,
            created: image.created.as_second(),
            changed: image.changed.as_second(),
            md5: "",
            extra: Map::new(),
            os: format!("{} {}", image.os, image.os_version).trim().to_owned(),
            registered: image.created.as_second(),
            volume: "",
            available: image.usable(),
            repository_name: &self.settings.repository.name,
        }
    }
}

/// The text member `name` of an object, whatever its capitals.
fn member<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    let members = value.as_object()?;
    let found = members.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    found.1.as_str()
}
