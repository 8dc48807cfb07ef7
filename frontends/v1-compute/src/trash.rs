//! The recycle bin: the way back from a deletion that was not for good, and the way on. Machines (type 2) and
//! volumes (type 1) lie in it side by side.

use std::sync::Arc;

use babelvisor_core::command::{Command, DeleteVm};
use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Caller, TenantId, Timestamp, Vm};
use babelvisor_core::query::{self, VolumeView};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::{BatchOutput, Data, RangeState};
use crate::error::Fault;
use crate::life::entry::{setting, switched};
use crate::lookups::{part_of, range_states};
use crate::operations::{Row, row};
use crate::place::{self, Area};
use crate::storage::trashed;

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("trash.list", trash_list),
    row!("trash.restore", trash_restore),
    row!("trash.delete", trash_delete),
];

/// The number of volumes in requests and answers.
const VOLUME: u64 = 1;
/// The number of machines.
const MACHINE: u64 = 2;

/// Something in the bin.
#[derive(Serialize)]
struct Trashed {
    uuid: String,
    name: String,
    #[serde(rename = "type")]
    kind: u64,
    tenant: String,
    tenant_name: String,
    namespace_uuid: String,
    cluster_uuid: String,
    cluster_name: String,
    create_time: i64,
    /// In nanoseconds, unlike every other time.
    delete_time: i64,
}

#[derive(Serialize)]
struct TrashList {
    list: Vec<Trashed>,
    total_count: usize,
    each_range_list_state: Vec<RangeState>,
}

/// Something that a request names.
#[derive(Deserialize)]
struct Object {
    uuid: String,
    #[serde(rename = "type")]
    kind: u64,
    #[serde(default)]
    namespace_uuid: Option<String>,
}

impl Object {
    fn value(&self) -> Value {
        let namespace = self.namespace_uuid.as_deref().unwrap_or_default();
        json!({"uuid": self.uuid, "type": self.kind, "namespace_uuid": namespace})
    }
}

/// What a request names, found.
enum Found {
    Machine(Arc<Vm>),
    Volume(Box<VolumeView>),
}

impl V1Compute {
    /// `trash.list`, oldest deletion first.
    pub(crate) async fn trash_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        let now = self.core.now();
        let cluster = self.cluster(&now, params.text("cluster_uuid"))?;
        let tenant = self.tenant(&call.caller, params.text("tenant"))?;
        let kind = params.number("filter_object_type")?;
        if kind.is_some_and(|kind| kind != VOLUME && kind != MACHINE) {
            return Err(Fault::parameter(
                "filter_object_type: expected 1 (volumes) or 2 (machines)",
            ));
        }
        let mut all = Vec::new();
        if kind != Some(VOLUME) {
            all.extend(machines(&now, &call.caller));
        }
        if kind != Some(MACHINE) {
            all.extend(volumes(&now, &call.caller, &cluster));
        }
        let wanted = tenant
            .as_ref()
            .map(|tenant| place::tenant_uuid(tenant).to_string());
        let name = params.text("filter_name");
        all.retain(|thing| {
            wanted.as_ref().is_none_or(|tenant| thing.tenant == *tenant) && part_of(name, &thing.name)
        });
        all.sort_by(|one, other| (one.delete_time, &one.name).cmp(&(other.delete_time, &other.name)));
        let total = all.len();
        Data::of(&TrashList {
            list: params.page()?.cut(all),
            total_count: total,
            each_range_list_state: range_states(&now, total),
        })
    }

    /// `trash.restore`: a machine comes back stopped.
    pub(crate) async fn trash_restore(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let objects = objects(call)?;
        let mut batch = BatchOutput::default();
        for object in objects {
            let outcome = self.restore(call, &object).await;
            batch.push(
                &call.operation.id,
                object.value(),
                outcome.map(|()| object.value()),
            );
        }
        Data::of(&batch)
    }

    /// `trash.delete`: for good, machines with the volumes that their deletion said.
    pub(crate) async fn trash_delete(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let objects = objects(call)?;
        let mut batch = BatchOutput::default();
        for object in objects {
            let outcome = self.expunge(call, &object).await;
            batch.push(
                &call.operation.id,
                object.value(),
                outcome.map(|()| object.value()),
            );
        }
        Data::of(&batch)
    }

    async fn restore(&self, call: &Call<'_>, object: &Object) -> Result<(), Fault> {
        match self.in_trash(&call.caller, object).await? {
            Found::Machine(vm) => {
                self.core.recover_vm(&call.caller, vm.id).await?;
            }
            Found::Volume(view) => {
                let edited = self.core.edit_volume(&call.caller, view.id, |record| {
                    record.trashed_at = None;
                    Ok(())
                });
                edited.await?;
            }
        }
        Ok(())
    }

    async fn expunge(&self, call: &Call<'_>, object: &Object) -> Result<(), Fault> {
        match self.in_trash(&call.caller, object).await? {
            Found::Machine(vm) => {
                let command = Command::DeleteVm(DeleteVm {
                    vm: vm.id,
                    volumes: switched(&vm, setting::TRASHED_VOLUMES),
                    keep_data_volumes: false,
                });
                self.change(&call.caller, call.operation, command).await
            }
            Found::Volume(view) => self.remove_volume(call, view.id).await,
        }
    }

    /// What `object` names, if it lies in the bin.
    async fn in_trash(&self, caller: &Caller, object: &Object) -> Result<Found, Fault> {
        let namespace = object.namespace_uuid.as_deref().unwrap_or_default();
        let unknown = || Fault::unknown("object in the recycle bin", &object.uuid);
        match object.kind {
            MACHINE => {
                let identifier = ComputeIdentifier {
                    compute_uuid: object.uuid.clone(),
                    tenant: namespace.to_owned(),
                    ..ComputeIdentifier::default()
                };
                let vm = self.machine(caller, &identifier, true).await?;
                if vm.record.trashed_at.is_none() {
                    return Err(unknown());
                }
                Ok(Found::Machine(vm))
            }
            VOLUME => {
                let view = self.any_volume(caller, &object.uuid).await?;
                if !trashed(&view) {
                    return Err(unknown());
                }
                Ok(Found::Volume(Box::new(view)))
            }
            _ => Err(Fault::parameter(
                "objects[].type: expected 1 (volume) or 2 (machine)",
            )),
        }
    }
}

fn objects(call: &Call<'_>) -> Result<Vec<Object>, Fault> {
    #[derive(Deserialize)]
    struct Body {
        objects: Vec<Object>,
    }
    let Body { objects } = call.params.typed()?;
    if objects.is_empty() {
        return Err(Fault::parameter("objects: expected at least one"));
    }
    Ok(objects)
}

fn nanoseconds(at: Option<Timestamp>) -> i64 {
    // Fits until the year 2262.
    at.and_then(|at| i64::try_from(at.as_nanosecond()).ok())
        .unwrap_or_default()
}

fn owner(tenant: Option<&TenantId>) -> (Option<Uuid>, String) {
    (
        tenant.map(place::tenant_uuid),
        tenant
            .map(|tenant| tenant.as_str().to_owned())
            .unwrap_or_default(),
    )
}

fn machines<'s>(now: &'s Snapshot, caller: &'s Caller) -> impl Iterator<Item = Trashed> + 's {
    let mine = now.trash.values().filter(move |vm| query::may_see(caller, vm));
    mine.map(move |vm| {
        let tenant = place::tenant_uuid(&vm.record.tenant).to_string();
        let cluster = place::cluster_of(now, vm);
        Trashed {
            uuid: vm.id.to_string(),
            name: vm.name().to_owned(),
            kind: MACHINE,
            tenant_name: vm.record.tenant.as_str().to_owned(),
            namespace_uuid: tenant.clone(),
            tenant,
            cluster_uuid: cluster.uuid.to_string(),
            cluster_name: cluster.name,
            create_time: vm.record.first_seen.as_second(),
            delete_time: nanoseconds(vm.record.trashed_at),
        }
    })
}

fn volumes(now: &Snapshot, caller: &Caller, cluster: &Area) -> Vec<Trashed> {
    let mut views = VolumeView::all(now, caller);
    views.retain(trashed);
    let thing = |view: &VolumeView| {
        let record = view.record.as_ref();
        let (tenant, tenant_name) = owner(view.tenant.as_ref());
        let tenant = tenant.map(|uuid| uuid.to_string()).unwrap_or_default();
        Trashed {
            uuid: view.id.to_string(),
            name: view.name().to_owned(),
            kind: VOLUME,
            tenant_name,
            namespace_uuid: tenant.clone(),
            tenant,
            cluster_uuid: cluster.uuid.to_string(),
            cluster_name: cluster.name.clone(),
            create_time: record
                .map(|record| record.first_seen.as_second())
                .unwrap_or_default(),
            delete_time: nanoseconds(record.and_then(|record| record.trashed_at)),
        }
    };
    views.iter().map(thing).collect()
}
