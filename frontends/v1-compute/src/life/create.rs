//! Making machines: unified_create, create (the same call by another name) and unified_import, which shows its
//! machines as importing until their disks are filled.
//!
//! A creation is answered when the machine is there; one that takes longer than the contract's wait is answered as
//! it then is, and its action shows the rest. An import is answered when it has begun. A machine that could not be
//! made is taken away again with its volumes; one whose import fails stays, with the action `importfail`.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::command::{Command, DeleteVm};
use babelvisor_core::layers::{SnapshotRequest, SubmitOptions};
use babelvisor_core::model::{Caller, GroupId, Vm, VmId, VolumeId};
use babelvisor_schemas::Operation;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::belonging;
use super::request::Asked;
use super::wanted::{Wanted, said};
use super::words::IMPORTED;
use crate::V1Compute;
use crate::call::Call;
use crate::encode::{BatchOutput, Data};
use crate::error::Fault;
use crate::place;

/// How many machines one call may make.
const MOST: u64 = 100;
/// How many are made at a time.
const AT_ONCE: usize = 8;

/// What all machines of a call have in common.
#[derive(Clone, Copy)]
pub(super) struct Making<'a> {
    pub(super) caller: &'a Caller,
    pub(super) operation: &'static Operation,
    pub(super) extra: Extra,
}

/// How calls that make machines differ.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extra {
    /// Whether the machines are told as soon as their disks are being read in.
    pub(super) importing: bool,
    /// The machine's uuid, where the client chooses it.
    pub(super) id: Option<VmId>,
    /// Whether the new machine gets a snapshot.
    pub(super) snapshot: bool,
}

impl V1Compute {
    /// `compute.unified_create` and `compute.create`.
    pub(crate) async fn unified_create(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let wanted = call.params.typed()?;
        self.make_machines(call, wanted, Extra::default()).await
    }

    /// `compute.unified_import`.
    pub(crate) async fn unified_import(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let wanted = call.params.typed()?;
        let extra = Extra {
            importing: true,
            ..Extra::default()
        };
        self.make_machines(call, wanted, extra).await
    }

    /// Makes the machines of a call.
    pub(super) async fn make_machines(
        &self,
        call: &mut Call<'_>,
        wanted: Wanted,
        extra: Extra,
    ) -> Result<Data, Fault> {
        let name = wanted.meta.as_ref().and_then(|meta| said(&meta.compute_name));
        let name = name.ok_or_else(|| Fault::parameter("meta.compute_name is missing"))?;
        let names = names(name, wanted.create_num)?;
        let tenant = self.tenant(&call.caller, said(&wanted.tenant).unwrap_or_default())?;
        let caller = call.acting_in(tenant);
        let making = Making {
            caller: &caller,
            operation: call.operation,
            extra,
        };
        if extra.id.is_some() && names.len() > 1 {
            return Err(Fault::parameter("assign_vm_uuid: one uuid is for one machine"));
        }
        let group = self.group(&caller, said(&wanted.object_group)).await?;
        let identity = |index: usize, name: &str| self.identity(&wanted, &caller, group, index, name);
        let wanted = &wanted;
        let under_way = names.iter().enumerate().map(|(index, name)| {
            let identity = identity(index, name);
            async move {
                let outcome = self.make(making, wanted, name).await;
                (identity, outcome)
            }
        });
        let under_way: Vec<_> = under_way.collect();
        let mut done = futures_util::stream::iter(under_way).buffered(AT_ONCE);
        let mut batch = BatchOutput::default();
        while let Some((mut identity, outcome)) = done.next().await {
            let outcome = outcome.map(|(vm, macs)| {
                self.fill_in(&mut identity, &vm, &macs);
                identity.clone()
            });
            batch.push(&call.operation.id, identity, outcome);
        }
        Data::of(&batch)
    }

    /// The `data` of a result, of a machine that is not there yet.
    fn identity(
        &self,
        wanted: &Wanted,
        caller: &Caller,
        group: Option<GroupId>,
        index: usize,
        name: &str,
    ) -> Value {
        let tenant = said(&wanted.tenant)
            .map_or_else(|| place::tenant_uuid(&caller.tenant).to_string(), str::to_owned);
        let (group, group_name) = belonging::named_group(&self.core.now(), group, &caller.tenant);
        json!({
            "tenant": tenant, "vm_uuid": "", "index": index, "vm_name": name, "volume_uuids": [],
            "mac_addresses": [], "group": group, "group_name": group_name,
        })
    }

    /// Adds what is known of the machine.
    fn fill_in(&self, identity: &mut Value, vm: &Vm, macs: &[String]) {
        let now = self.core.now();
        let seen = now.vms.get(&vm.id).map_or(vm, |seen| &**seen);
        let volumes = seen
            .record
            .volumes
            .iter()
            .filter(|place| !place.name.contains("-seed."));
        let of_record = volumes.map(|place| now.volume_id(seen.home(), place).to_string());
        let volumes: Vec<String> = match &seen.facts {
            Some(facts) => {
                let places = facts.disks.iter().filter_map(|disk| disk.volume.as_ref());
                places
                    .map(|place| now.volume_id(seen.home(), place).to_string())
                    .collect()
            }
            None => of_record.collect(),
        };
        if let Value::Object(members) = identity {
            members.insert("vm_uuid".to_owned(), vm.id.to_string().into());
            members.insert("volume_uuids".to_owned(), json!(volumes));
            members.insert("mac_addresses".to_owned(), json!(macs));
        }
    }

    /// Makes one machine; with it come the addresses of its interfaces, which are known before it is there.
    async fn make(
        &self,
        making: Making<'_>,
        wanted: &Wanted,
        name: &str,
    ) -> Result<(Arc<Vm>, Vec<String>), Fault> {
        let mut asked = self
            .asked(making.caller, wanted, name, making.extra.importing)
            .await?;
        asked.request.id = making.extra.id;
        let nics = asked.request.nics.iter().flatten();
        let macs = nics.filter_map(|nic| nic.mac.clone()).collect();
        if making.extra.importing {
            asked
                .request
                .settings
                .insert(IMPORTED.to_owned(), "true".to_owned());
        }
        Ok((self.carry_out(making, asked).await?, macs))
    }

    /// Makes a machine and plugs in the volumes that existed before.
    pub(super) async fn carry_out(&self, making: Making<'_>, asked: Asked) -> Result<Arc<Vm>, Fault> {
        let Making {
            caller, operation, ..
        } = making;
        let data: Vec<VolumeId> = asked.request.disks.iter().filter_map(|disk| disk.id).collect();
        for (volume, _) in &asked.attached {
            self.volume(caller, &volume.to_string()).await?;
        }
        let (vm, job) = self
            .core
            .create_vm(caller, asked.request, SubmitOptions::REFUSE)
            .await?;
        if making.extra.importing {
            self.note_job(caller, vm.id, job.id).await?;
            return Ok(vm);
        }
        match self.core.wait_for_success(job.id, operation.longest_wait).await {
            Ok(_) => {}
            // It goes on, and the machine's action shows it.
            Err(error) if error.kind == ErrorKind::Timeout => return Ok(vm),
            Err(error) => {
                self.take_back(caller, operation, vm.id, &data).await;
                return Err(error.into());
            }
        }
        for (volume, bus) in asked.attached {
            let options = SubmitOptions::REFUSE;
            let attached = match self
                .core
                .attach_volume(caller, volume, vm.id, bus, false, options)
                .await
            {
                Ok(job) => self.core.wait_for_success(job.id, operation.longest_wait).await,
                Err(error) => Err(error),
            };
            if let Err(error) = attached {
                self.take_back(caller, operation, vm.id, &data).await;
                return Err(error.into());
            }
        }
        if making.extra.snapshot
            && let Err(error) = self.first_snapshot(caller, operation, vm.id).await
        {
            self.take_back(caller, operation, vm.id, &data).await;
            return Err(error.into());
        }
        Ok(vm)
    }

    async fn first_snapshot(
        &self,
        caller: &Caller,
        operation: &Operation,
        vm: VmId,
    ) -> babelvisor_core::Result<()> {
        let request = SnapshotRequest {
            name: "auto".to_owned(),
            ..SnapshotRequest::default()
        };
        let (_, job) = self
            .core
            .create_snapshot(caller, vm, request, SubmitOptions::REFUSE)
            .await?;
        self.core.wait_for_success(job.id, operation.longest_wait).await?;
        Ok(())
    }

    /// Removes a machine that could not be made whole, and the volumes that were made for it; those that existed
    /// before stay.
    async fn take_back(&self, caller: &Caller, operation: &Operation, vm: VmId, data: &[VolumeId]) {
        let command = Command::DeleteVm(DeleteVm {
            vm,
            volumes: true,
            keep_data_volumes: true,
        });
        let wait = operation.longest_wait;
        let removed = match self.core.submit(caller, command, SubmitOptions::QUEUE).await {
            Ok(job) => self.core.wait_for_success(job.id, wait).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::error!(%vm, %error, "a machine that could not be made could not be taken back");
        }
        for volume in data {
            match self
                .core
                .delete_volume(caller, *volume, SubmitOptions::QUEUE)
                .await
            {
                Ok(_) => {}
                // The creation's own undo was there first.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(%volume, %error, "a volume of a machine that could not be made stays");
                }
            }
        }
    }
}

/// The names of all machines of a call: with the suffix `-index` where there are several.
fn names(name: &str, count: Option<u64>) -> Result<Vec<String>, Fault> {
    match count {
        None | Some(1) => Ok(vec![name.to_owned()]),
        Some(count @ 2..=MOST) => Ok((0..count).map(|index| format!("{name}-{index}")).collect()),
        Some(_) => Err(Fault::parameter(format!("create_num: expected 1 to {MOST}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_machines_are_numbered_and_one_is_not() {
        assert_eq!(names("web", None).ok(), Some(vec!["web".to_owned()]));
        assert_eq!(names("web", Some(1)).ok(), Some(vec!["web".to_owned()]));
        let three = ["web-0", "web-1", "web-2"].map(str::to_owned).to_vec();
        assert_eq!(names("web", Some(3)).ok(), Some(three));
        for count in [0, 101] {
            assert!(names("web", Some(count)).is_err(), "{count}");
        }
    }
}
