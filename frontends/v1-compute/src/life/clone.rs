//! Copies of machines. A copy is made of a machine that is off; both show the action cloning meanwhile. The answer
//! names the source and not the copy, which clients find by its name.

use babelvisor_core::Error;
use babelvisor_core::command::Command;
use babelvisor_core::layers::{CloneRequest, SubmitOptions};
use babelvisor_core::model::{Caller, Vm};
use serde_json::{Value, json};

use super::details::more;
use super::disk::named;
use super::longwork::percent;
use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::{BatchOutput, Data};
use crate::error::{Code, Fault};
use crate::place;

/// How many copies one call may make.
const MOST: u64 = 100;

impl V1Compute {
    /// `compute.clone`.
    pub(crate) async fn clone_machine(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        let name = params.text("clone_name");
        if name.is_empty() {
            return Err(Fault::parameter("clone_name is missing"));
        }
        let count = params.number("clone_num")?.unwrap_or(1).max(1);
        if count > MOST {
            return Err(Fault::parameter(format!("clone_num: expected 1 to {MOST}")));
        }
        if !params.text("snapshot").is_empty() {
            let why = "a machine is copied as it is, not as a snapshot of it was";
            return Err(Error::unsupported(why).into());
        }
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(params), false)
            .await?;
        self.copyable_to(call, &vm)?;
        let tenant = self.tenant(&call.caller, params.text("migrate_namespace"))?;
        let caller = match tenant {
            Some(tenant) => call.acting_in(Some(tenant)),
            None => call.acting_in(Some(vm.record.tenant.clone())),
        };
        let group = Some(params.text("object_group")).filter(|said| !said.is_empty());
        let group = match group {
            Some(said) => Some(self.group(&caller, Some(said)).await?),
            None => None,
        };
        let mut batch = BatchOutput::default();
        for index in 0..count {
            let name = match count {
                1 => name.to_owned(),
                _ => format!("{name}-{index}"),
            };
            let identity = json!({
                "tenant": "", "vm_uuid": vm.id.to_string(), "index": index, "clone_name": name,
            });
            let request = CloneRequest {
                name,
                linked: params.flag("link"),
                data_disks: true,
                ..CloneRequest::default()
            };
            // One after the other: they all copy the same disks.
            let options = if index == 0 {
                SubmitOptions::REFUSE
            } else {
                SubmitOptions::QUEUE
            };
            let outcome = self.copy(&caller, &vm, request, options, group).await;
            batch.push(&call.operation.id, identity.clone(), outcome.map(|()| identity));
        }
        Data::of(&batch)
    }

    async fn copy(
        &self,
        caller: &Caller,
        source: &Vm,
        request: CloneRequest,
        options: SubmitOptions,
        group: Option<Option<babelvisor_core::model::GroupId>>,
    ) -> Result<(), Fault> {
        let (copy, job) = self.core.clone_vm(caller, source.id, request, options).await?;
        let parent = source.id.to_string();
        let of_source = source.record.settings.get(super::entry::setting::TYPE).cloned();
        self.core
            .annotate(caller, copy.id, |record| {
                record.settings.insert(more::PARENT.to_owned(), parent.clone());
                if let Some(kind) = &of_source {
                    record
                        .settings
                        .insert(super::entry::setting::TYPE.to_owned(), kind.clone());
                }
                if let Some(group) = group {
                    record.group = group;
                }
                Ok(())
            })
            .await?;
        self.note_job(caller, copy.id, job.id).await?;
        self.note_job(caller, source.id, job.id).await
    }

    /// Refuses places that a copy cannot go to: its volumes are made beside those that they copy.
    fn copyable_to(&self, call: &Call<'_>, vm: &Vm) -> Result<(), Fault> {
        let now = self.core.now();
        let zone = call.params.text("zone");
        if !zone.is_empty() && !place::is(zone, place::zone_of(&now, vm).uuid) {
            return Err(Error::unsupported("a copy is made in the zone of its source").into());
        }
        let disks = call.params.get("disks").and_then(Value::as_array);
        let facts = vm.facts.as_ref();
        for (disk, facts) in disks.into_iter().flatten().zip(facts.into_iter().cycle()) {
            let text = |name: &str| disk.get(name).and_then(Value::as_str).unwrap_or_default();
            let found = named(facts, text("target_device"))?;
            let wished = self.pool(&now, "source_pool_uuid", text("source_pool_uuid"))?;
            let pool = found.volume.as_ref().and_then(|volume| {
                let mut pools = now.pools.values();
                pools.find(|pool| pool.backend == *vm.home() && pool.name == volume.pool)
            });
            if pool.is_none_or(|pool| pool.id != wished) {
                let why = format!(
                    "the copy of disk {} is made in the pool that it is in",
                    found.target
                );
                return Err(Error::unsupported(why).into());
            }
        }
        Ok(())
    }

    /// `compute.clone_progress`.
    pub(crate) async fn clone_progress(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        let job = self.last_job(&call.caller, &vm).await?;
        let cloning = job.filter(|job| match &job.command {
            Command::CreateVm(create) => create.from.is_some() && !job.state.ended(),
            _ => false,
        });
        match cloning {
            Some(job) => Data::of(&json!({"progress": percent(&job)})),
            None => Err(Fault::code(Code::NotCloning)),
        }
    }
}
