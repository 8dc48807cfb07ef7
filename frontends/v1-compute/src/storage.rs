//! Pools and volumes. A pool is a pool of a backend; a volume is one with a record of its own or one that a machine
//! has attached. Lists carry the capitals of their documents: `TotalCount`, `List`.

use std::collections::BTreeMap;
use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::layers::{SubmitOptions, VolumeRequest};
use babelvisor_core::model::{Caller, EntryState, PoolId, StoragePool, Timestamp, VolumeId};
use babelvisor_core::query::VolumeView;
use babelvisor_core::{Error, ErrorKind};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::V1Compute;
use crate::call::Call;
use crate::decode::uuid;
use crate::encode::{BatchOutput, Data, RangeState};
use crate::error::Fault;
use crate::lookups::{first_cluster, part_of, range_states};
use crate::operations::{Row, row};
use crate::place;

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("pool.list", pool_list),
    row!("volume.create", volume_create),
    row!("volume.list", volume_list),
    row!("volume.share_list", volume_share_list),
    row!("volume.get", volume_get),
    row!("volume.delete", volume_delete),
];

/// How many volumes one call makes at most.
const MOST_VOLUMES: u64 = 100;
/// Under this name a volume's attributes are recorded.
const ATTRIBUTE: &str = "compute.attribute";
/// Under this name the space for snapshots is recorded.
const SNAP_CAPACITY: &str = "compute.snap_capacity";

#[derive(Serialize)]
struct Pool<'a> {
    tenant: &'a str,
    tenant_name: &'a str,
    namespace: &'a str,
    name: &'a str,
    uuid: String,
    storage_size: u64,
    used_size: u64,
    available: u64,
    create_time: Option<i64>,
    volume_num: usize,
    attr: Map<String, Value>,
    cluster_uuid: &'a str,
    cluster_name: &'a str,
}

#[derive(Serialize)]
struct Pools<'a> {
    #[serde(rename = "TotalCount")]
    total_count: usize,
    #[serde(rename = "List")]
    list: Vec<Pool<'a>>,
    each_range_list_state: Vec<RangeState>,
}

/// A volume of the list.
#[derive(Serialize)]
struct Volume {
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Pool")]
    pool: String,
    #[serde(rename = "Capacity")]
    capacity: u64,
    #[serde(rename = "Status")]
    status: &'static str,
    #[serde(rename = "Attr")]
    attributes: Value,
    #[serde(rename = "Ctime")]
    created: i64,
    #[serde(rename = "PoolName")]
    pool_name: String,
    tenant: String,
    tenant_name: String,
    /// The machine that has it; empty for none.
    owner: String,
    used: bool,
}

#[derive(Serialize)]
struct Volumes {
    #[serde(rename = "TotalCount")]
    total_count: usize,
    #[serde(rename = "List")]
    list: Vec<Volume>,
    each_range_list_state: Vec<RangeState>,
}

impl V1Compute {
    /// `pool.list`: the pools that can be used now, by name.
    pub(crate) async fn pool_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        let now = self.core.now();
        let cluster = self.cluster(&now, params.text("cluster_uuid"))?;
        let tenant = self.tenant(&call.caller, params.text("tenant"))?;
        let tenant = tenant.unwrap_or_else(|| call.caller.tenant.clone());
        let least = params.number("filter_avail_more_than")?.unwrap_or_default();
        let mut pools: Vec<&Arc<StoragePool>> = now
            .pools
            .values()
            .filter(|pool| {
                pool.active && pool.available >= least && part_of(params.text("filter_name"), &pool.name)
            })
            .collect();
        pools.sort_by(|one, other| (&one.name, &one.backend).cmp(&(&other.name, &other.backend)));
        let volumes = volumes_in(&now, &call.caller);
        let total = pools.len();
        let tenant_uuid = place::tenant_uuid(&tenant).to_string();
        let cluster_uuid = cluster.uuid.to_string();
        let list = params.page()?.cut(pools).into_iter().map(|pool| Pool {
            tenant: &tenant_uuid,
            tenant_name: tenant.as_str(),
            namespace: &tenant_uuid,
            name: &pool.name,
            uuid: pool.id.to_string(),
            storage_size: pool.capacity,
            used_size: pool.capacity.saturating_sub(pool.available),
            available: pool.available,
            create_time: None,
            volume_num: volumes.get(&pool.id).copied().unwrap_or_default(),
            attr: Map::new(),
            cluster_uuid: &cluster_uuid,
            cluster_name: &cluster.name,
        });
        Data::of(&Pools {
            total_count: total,
            list: list.collect(),
            each_range_list_state: range_states(&now, total),
        })
    }

    /// `volume.create`: answered when the volumes are there; a failed one does not take the others back.
    pub(crate) async fn volume_create(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        let name = params.text("volume_name");
        let count = params.number("count")?.unwrap_or(1);
        if !(1..=MOST_VOLUMES).contains(&count) {
            return Err(Fault::parameter(format!("count: expected 1 to {MOST_VOLUMES}")));
        }
        let capacity = params.number("capacity")?.unwrap_or_default();
        if capacity == 0 {
            return Err(Fault::parameter("capacity: expected bytes, more than 0"));
        }
        let pool = self.pool(&self.core.now(), "pool_uuid", params.text("pool_uuid"))?;
        let tenant = self.tenant(&call.caller, params.text("tenant"))?;
        let caller = call.acting_in(tenant);
        let mut settings = BTreeMap::new();
        if let Some(attribute) = params.get("attribute") {
            settings.insert(ATTRIBUTE.to_owned(), attribute.to_string());
        }
        if let Some(bytes) = params.number("snap_capacity")? {
            settings.insert(SNAP_CAPACITY.to_owned(), bytes.to_string());
        }
        let mut batch = BatchOutput::default();
        for number in 1..=count {
            let name = match count {
                1 => name.to_owned(),
                _ => format!("{name}-{number:04}"),
            };
            let identity = json!({"volume_uuid": "", "volume_name": name});
            let request = VolumeRequest {
                name,
                size: capacity,
                pool: Some(pool),
                settings: settings.clone(),
                ..VolumeRequest::default()
            };
            let outcome = self.new_volume(call, &caller, request).await;
            batch.push(&call.operation.id, identity, outcome);
        }
        Data::of(&batch)
    }

    async fn new_volume(
        &self,
        call: &Call<'_>,
        caller: &Caller,
        request: VolumeRequest,
    ) -> Result<Value, Fault> {
        let (view, job) = self
            .core
            .create_volume(caller, request, SubmitOptions::REFUSE)
            .await?;
        self.core
            .wait_for_success(job.id, call.operation.longest_wait)
            .await?;
        // Both forms that clients know: the document's, and an object of its own.
        let (uuid, name) = (view.id.to_string(), view.name());
        Ok(json!({
            "volume_uuid": uuid,
            "volume_name": name,
            "volume": {"uuid": uuid, "name": name, "capacity": view.capacity},
        }))
    }

    /// `volume.list`.
    pub(crate) async fn volume_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        self.volumes(call, |_| true)
    }

    /// `volume.share_list`: those that several machines may have at once.
    pub(crate) async fn volume_share_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        self.volumes(call, |view| {
            let record = view.record.as_ref();
            record.is_some_and(|record| record.shareable)
        })
    }

    fn volumes(&self, call: &Call<'_>, fits: fn(&VolumeView) -> bool) -> Result<Data, Fault> {
        let params = &call.params;
        let now = self.core.now();
        self.cluster(&now, params.text("cluster_uuid"))?;
        let tenant = self.tenant(&call.caller, params.text("tenant"))?;
        let pool = match params.text("filter_pool_uuid") {
            "" => None,
            text => Some(uuid("filter_pool_uuid", text)?),
        };
        let (name, id) = (params.text("filter_name"), params.text("filter_uuid"));
        let mut views = VolumeView::all(&now, &call.caller);
        views.retain(|view| {
            fits(view)
                && !trashed(view)
                && part_of(name, view.name())
                && part_of(&id.to_lowercase(), &view.id.to_string())
                && (tenant.is_none() || view.tenant.is_none() || view.tenant == tenant)
                && pool.is_none_or(|pool| pool_of(&now, view).is_some_and(|found| found.id.0 == pool))
        });
        views.sort_by(|one, other| (created(one), one.name()).cmp(&(created(other), other.name())));
        let total = views.len();
        let page = params.page()?.cut(views);
        Data::of(&Volumes {
            total_count: total,
            list: page.iter().map(|view| volume(&now, view)).collect(),
            each_range_list_state: range_states(&now, total),
        })
    }

    /// `volume.get`.
    pub(crate) async fn volume_get(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let said = match call.params.text("volume_uuid") {
            "" => call.params.text("uuid"),
            said => said,
        };
        let view = self.volume(&call.caller, said).await?;
        let now = self.core.now();
        let cluster = first_cluster(&now);
        let mut shown = serde_json::to_value(volume(&now, &view)).map_err(crate::encode::unwritable)?;
        if let Some(members) = shown.as_object_mut() {
            members.insert("cluster_uuid".to_owned(), cluster.uuid.to_string().into());
            members.insert("cluster_name".to_owned(), cluster.name.into());
        }
        Data::of(&shown)
    }

    /// `volume.delete`: into the recycle bin, or for good with `real_delete`.
    pub(crate) async fn volume_delete(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let view = self.volume(&call.caller, call.params.text("volume_uuid")).await?;
        if let Some(vm) = &view.vm {
            let why = format!("machine {} has it, detach it first", vm.id);
            return Err(Error::illegal_state("volume", view.id, why).into());
        }
        if call.params.flag("real_delete") {
            self.remove_volume(call, view.id).await?;
        } else {
            self.core
                .edit_volume(&call.caller, view.id, |record| {
                    record.trashed_at = Some(Timestamp::now());
                    Ok(())
                })
                .await?;
        }
        Ok(Data::empty())
    }

    /// Removes a volume for good, and waits until it is gone.
    pub(crate) async fn remove_volume(&self, call: &Call<'_>, id: VolumeId) -> Result<(), Fault> {
        let job = self
            .core
            .delete_volume(&call.caller, id, SubmitOptions::REFUSE)
            .await?;
        self.core
            .wait_for_success(job.id, call.operation.longest_wait)
            .await?;
        Ok(())
    }

    /// The volume that `said` names, which is not in the recycle bin.
    ///
    /// # Errors
    /// 10001 for nothing or something that is no uuid, 22001 for a volume that does not exist.
    pub(crate) async fn volume(&self, caller: &Caller, said: &str) -> Result<VolumeView, Fault> {
        let view = self.any_volume(caller, said).await?;
        if trashed(&view) {
            return Err(Fault::unknown("volume", said));
        }
        Ok(view)
    }

    /// The same, in the recycle bin or not.
    pub(crate) async fn any_volume(&self, caller: &Caller, said: &str) -> Result<VolumeView, Fault> {
        if said.is_empty() {
            return Err(Fault::parameter("volume_uuid is missing"));
        }
        let id = VolumeId(uuid("volume_uuid", said)?);
        let view = self.core.volume(caller, id).await;
        view.map_err(|error| match error.kind {
            ErrorKind::NotFound => Fault::unknown("volume", said),
            _ => Fault::from(error),
        })
    }

    /// The pool that `said`, the parameter `field`, names.
    ///
    /// # Errors
    /// 10001 for nothing or something that is no uuid, 22001 for a pool that does not exist or is out of use.
    pub(crate) fn pool(&self, now: &Snapshot, field: &str, said: &str) -> Result<PoolId, Fault> {
        if said.is_empty() {
            return Err(Fault::parameter(format!("{field} is missing")));
        }
        let id = PoolId(uuid(field, said)?);
        let found = now.pools.get(&id).filter(|pool| pool.active);
        found
            .map(|pool| pool.id)
            .ok_or_else(|| Fault::unknown("pool", said))
    }
}

/// Whether a volume lies in the recycle bin.
pub(crate) fn trashed(view: &VolumeView) -> bool {
    let record = view.record.as_ref();
    record.is_some_and(|record| record.trashed_at.is_some())
}

fn created(view: &VolumeView) -> Option<Timestamp> {
    let of_record = view.record.as_ref().map(|record| record.first_seen);
    of_record.or_else(|| view.vm.as_ref().map(|vm| vm.record.first_seen))
}

/// The pool that a volume is in, if its backend reports it.
pub(crate) fn pool_of<'s>(now: &'s Snapshot, view: &VolumeView) -> Option<&'s Arc<StoragePool>> {
    let mut pools = now.pools.values();
    pools.find(|pool| pool.backend == view.backend && pool.name == view.place.pool)
}

/// How many volumes that the caller sees are in each pool.
fn volumes_in(now: &Snapshot, caller: &Caller) -> BTreeMap<PoolId, usize> {
    let mut counts = BTreeMap::new();
    for view in VolumeView::all(now, caller) {
        if let Some(pool) = pool_of(now, &view) {
            *counts.entry(pool.id).or_default() += 1;
        }
    }
    counts
}

fn volume(now: &Snapshot, view: &VolumeView) -> Volume {
    let record = view.record.as_ref();
    let attributes = record
        .and_then(|record| record.settings.get(ATTRIBUTE))
        .and_then(|text| serde_json::from_str(text).ok());
    let tenant = view.tenant.as_ref();
    Volume {
        uuid: view.id.to_string(),
        name: view.name().to_owned(),
        pool: pool_of(now, view)
            .map(|pool| pool.id.to_string())
            .unwrap_or_default(),
        capacity: view.capacity,
        status: match view.state() {
            EntryState::Ready => "healthy",
            EntryState::Creating => "creating",
            EntryState::Failed(_) => "error",
        },
        attributes: attributes.unwrap_or_else(|| json!({})),
        created: created(view).map(Timestamp::as_second).unwrap_or_default(),
        pool_name: view.place.pool.clone(),
        tenant: tenant
            .map(|tenant| place::tenant_uuid(tenant).to_string())
            .unwrap_or_default(),
        tenant_name: tenant
            .map(|tenant| tenant.as_str().to_owned())
            .unwrap_or_default(),
        owner: view.vm.as_ref().map(|vm| vm.id.to_string()).unwrap_or_default(),
        used: view.vm.is_some(),
    }
}
