//! The query language: one engine for every resource, driven by the tables of [`resources`].
//!
//! ```text
//! parse   what the query string asks          plan    names looked up, values in the type of their field
//! index   which VMs can fulfil it at all      eval    which rows do, in order, one page of them
//! render  that page as JSON
//! ```
//! Looked up in an index, not walked to: `=` and `?=` on a machine's uuid, name, state, host, cluster, zone, image and
//! offering; on an interface's uuid, MAC, address, network and machine; on a volume's uuid and machine; and all of
//! these behind a relation (`vmNics.ip=`, `host.name~=`: the small table is judged first, its keys are looked up).
//! Every other condition is judged row by row, on the model: only the page that is answered is encoded.

mod eval;
pub(crate) mod index;
mod parse;
mod pattern;
mod plan;
#[cfg(test)]
mod reference;
mod render;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use babelvisor_core::model::VmId;
use babelvisor_core::query::scope;
use babelvisor_core::{Error, ErrorKind};
use bytes::Bytes;

pub(crate) use index::Indexes;
pub(crate) use parse::QUERY_STRING;

use crate::Zstack;
use crate::decode::Call;
use crate::operations::{Row as Operation, sync};
use crate::resources::{self, Row};
use parse::Question;
use plan::Plan;
use table::{Resource, World};

macro_rules! queries {
    ($($id:literal => $resource:ident,)*) => {
        /// Every query.
        pub(crate) const ROWS: &[Operation] = &[
            $(sync($id, |zstack, call| Box::pin(answer(zstack, call, &resources::$resource))),)*
        ];

        /// Every resource that can be queried.
        #[cfg(test)]
        pub(crate) static RESOURCES: &[&Resource] = &[$(&resources::$resource,)*];
    };
}

queries! {
    "QueryVmInstance" => VM_INSTANCE,
    "QueryVmNic" => VM_NIC,
    "QueryVolume" => VOLUME,
    "QueryVolumeSnapshot" => VOLUME_SNAPSHOT,
    "QueryVolumeSnapshotTree" => VOLUME_SNAPSHOT_TREE,
    "QueryImage" => IMAGE,
    "QueryInstanceOffering" => INSTANCE_OFFERING,
    "QueryDiskOffering" => DISK_OFFERING,
    "QueryAffinityGroup" => AFFINITY_GROUP,
    "QueryZone" => ZONE,
    "QueryCluster" => CLUSTER,
    "QueryHost" => HOST,
    "QueryPrimaryStorage" => PRIMARY_STORAGE,
    "QueryBackupStorage" => BACKUP_STORAGE,
    "QueryL2Network" => L2_NETWORK,
    "QueryL3Network" => L3_NETWORK,
    "QueryIpRange" => IP_RANGE,
    "QueryAccount" => ACCOUNT,
    "QueryShareableVolumeVmInstanceRef" => SHAREABLE_REF,
}

/// Answers a query of `resource`: a list, or the one row that the path names, or none of it.
async fn answer(zstack: &Zstack, call: &Call, resource: &'static Resource) -> Result<Bytes, Error> {
    let named = call.path("uuid");
    let question = if named.is_empty() {
        let pairs = call.query.iter();
        Question::read(pairs.map(|(name, value)| (name.as_str(), value.as_str())))?
    } else {
        known(zstack, call, resource, named).await?;
        Question::one(named)
    };
    let plan = Plan::new(resource, &question, &zstack.zone)?;
    let now = zstack.core.now();
    let index = zstack.indexes.of(&now);
    let world = World {
        now: &now,
        index: &index,
        scope: scope(&call.caller),
        zone: &zstack.zone,
    };
    let found = eval::find(&world, resource, &plan);
    if plan.count {
        return Ok(format!("{{\"total\":{}}}", found.total.unwrap_or_default()).into());
    }
    let mut json = Vec::with_capacity(found.rows.len().saturating_mul(1024).clamp(64, 32 << 20));
    json.extend_from_slice(b"{\"inventories\":[");
    for (place, row) in found.rows.into_iter().enumerate() {
        if place > 0 {
            json.push(b',');
        }
        match (&plan.fields, row) {
            (Some(fields), _) => render::part(&world, fields, row, &mut json),
            (None, Row::Vm(vm)) => json.extend_from_slice(&zstack.vm_json(&now, vm)?),
            (None, _) => render::row(&world, resource, row, &mut json),
        }
    }
    json.push(b']');
    if let Some(total) = found.total {
        json.extend_from_slice(format!(",\"total\":{total}").as_bytes());
    }
    json.push(b'}');
    Ok(json.into())
}

/// A machine that another gateway made a moment ago is looked up before it is said not to be there.
async fn known(zstack: &Zstack, call: &Call, resource: &Resource, named: &str) -> Result<(), Error> {
    let machines = std::ptr::eq(resource, &resources::VM_INSTANCE);
    let Some(id) = crate::decode::uuid(named).filter(|_| machines) else {
        return Ok(());
    };
    match zstack.core.vm(&call.caller, VmId(id)).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// One row as answers show it.
pub(crate) fn inventory<'w>(world: &World<'w>, resource: &'static Resource, row: Row<'w>) -> Bytes {
    let mut json = Vec::with_capacity(1024);
    render::row(world, resource, row, &mut json);
    json.into()
}

/// The row of `resource` with this uuid, if the caller sees it.
pub(crate) fn one<'w>(world: &World<'w>, resource: &'static Resource, id: uuid::Uuid) -> Option<Row<'w>> {
    let question = Question::one(&id.simple().to_string());
    let plan = Plan::new(resource, &question, world.zone).ok()?;
    eval::find(world, resource, &plan).rows.into_iter().next()
}
