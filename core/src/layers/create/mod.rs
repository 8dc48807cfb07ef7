//! Creating a VM: choosing where it goes and under which names, then one atomic store call that makes both
//! the row that every dialect shows at once and the job that will fill it.

mod names;
mod request;
mod specify;

use std::sync::Arc;

pub(crate) use names::distinct_name;
pub use names::random_name;
pub(super) use request::check_name;
pub use request::{
    ConsoleChoice, CreateRequest, DiskRequest, GuestLogin, MediumRequest, NicRequest, Root, Wish,
};
pub(super) use specify::{Specified, format_of, location};

pub(super) use names::backend_name;

use super::{Core, SubmitOptions, audit, authorise, capable};
use crate::command::{Command, CreateVm};
use crate::error::{Error, Result};
use crate::inventory::Heard;
use crate::jobs::seed_volume;
use crate::model::{
    AffinityGroup, BackendId, Caller, Job, NicSource, NicSpec, Planned, PoolVolume, Vm, VmId, VmOrigin,
    VmRecord, VmSpec,
};
use crate::registry::{Registry, entry_write, new_vm_writes};
use crate::store::Expect;

impl Core {
    /// Takes the creation of a VM. The VM is visible at once, without facts and with activity `Creating`.
    ///
    /// # Errors
    /// `InvalidInput` for sizes out of range, `AlreadyExists` for a chosen id that was ever in use, `QuotaExceeded`,
    /// `NoResources` when no backend that is up has the images, a pool with room and memory, `Unsupported`; in
    /// every case nothing was made.
    pub async fn create_vm(
        &self,
        caller: &Caller,
        request: CreateRequest,
        options: SubmitOptions,
    ) -> Result<(Arc<Vm>, Job)> {
        authorise::may_change(caller)?;
        if let Some(job) = self.known_job(caller, None, &options).await?
            && let Some(vm) = job.command.vm()
        {
            return Ok((self.vm(caller, vm).await?, job));
        }
        request.check()?;
        let now = self.now();
        let vm = request.id.unwrap_or_else(VmId::random);
        let hold = self.holds.begin(&self.inventory, caller, vm, &request.name)?;
        let place = self.place(&now, caller, &request)?;
        let contested = hold.name_is_contested;
        let specified = self.specify(&now, vm, &caller.tenant, contested, &place, &request)?;
        let mut record = self
            .new_record(caller, vm, &place.backend, &specified.spec)
            .await?;
        record.display_name = Some(request.name.clone());
        record.remark = request.description.clone();
        record.image = request.image().map(|image| image.id);
        record.flavor = request.flavor;
        record.lease_term = request.lease_term;
        record.expires_at = request.expires_at;
        record.tags = request.tags.clone();
        record.hostname = request.hostname.clone();
        record.ssh_keys = request.ssh_keys.clone();
        record.os = request.os.clone();
        record.group = request.group;
        record.settings = request.settings.clone();
        if let Some(login) = &request.login {
            let image_user = || request.image().map(|image| image.admin_user.clone());
            record.admin_user = login.user.clone().or_else(image_user);
            record.admin_password = Some(self.seal(&login.password)?);
        }
        let create = CreateVm {
            vm,
            spec: specified.spec.clone(),
            start: request.start,
            from: None,
            importing: request.importing,
        };
        let job = self
            .accept_creation(caller, create, record, specified, options)
            .await?;
        drop(hold);
        if let Some(group) = request.wish.affinity {
            let join = |group: &mut AffinityGroup| {
                group.members.insert(vm);
                Ok(())
            };
            self.edit_entry::<AffinityGroup>(caller, group, join).await?;
        }
        Ok((self.vm(caller, vm).await?, job))
    }

    /// The record of a VM that is about to be made of `spec`.
    pub(super) async fn new_record(
        &self,
        caller: &Caller,
        vm: VmId,
        backend: &BackendId,
        spec: &VmSpec,
    ) -> Result<VmRecord> {
        let alias = self.registry.new_aliases(1).await?.into_iter().next();
        let alias = alias.ok_or_else(|| Error::internal("no alias was given out"))?;
        let planned = Planned {
            vcpus: spec.vcpus,
            memory: spec.memory,
            disks: spec.volumes.iter().map(|volume| volume.capacity).collect(),
            networks: spec.nics.iter().map(network_name).collect(),
            host: spec.host,
        };
        let (backend, tenant, origin) = (backend.clone(), caller.tenant.clone(), VmOrigin::Created);
        let mut record = Registry::new_vm(vm, alias, backend, tenant, origin, Some(planned));
        record.console_password = spec.console_password.clone();
        record.volumes = spec
            .volumes
            .iter()
            .map(|volume| PoolVolume {
                pool: volume.pool.clone(),
                name: volume.name.clone(),
            })
            .chain(
                spec.guest
                    .iter()
                    .zip(spec.volumes.first())
                    .map(|(_, root)| seed_volume(vm, &root.pool)),
            )
            .collect();
        Ok(record)
    }

    /// Stores the job of a creation with the records that belong to it: all or nothing.
    pub(super) async fn accept_creation(
        &self,
        caller: &Caller,
        create: CreateVm,
        record: VmRecord,
        specified: Specified,
        options: SubmitOptions,
    ) -> Result<Job> {
        let backend = record.backend.clone();
        let command = Command::CreateVm(Box::new(create));
        capable::check(&command, self.backend(&backend)?.as_ref())?;
        audit::asked(caller, &command);
        let mut writes = new_vm_writes(std::slice::from_ref(&record))?;
        for volume in &specified.volumes {
            writes.push(entry_write(volume, Expect::Absent)?);
        }
        let vm = record.id;
        let job = self.accept(caller, command, backend, writes, options).await;
        let job = match job {
            // The id was the client's: somebody had it before.
            Err(error)
                if error.kind == crate::ErrorKind::Conflict && self.registry.vm(vm).await?.is_some() =>
            {
                let text = format!("a vm with the id {vm} exists or existed");
                return Err(Error::new(crate::ErrorKind::AlreadyExists, text).about(VmId::NOUN, vm));
            }
            outcome => outcome?,
        };
        self.inventory.records(vec![(record, 1)]);
        let volumes = specified.volumes.into_iter();
        self.inventory
            .entries(volumes.map(|volume| Heard::written(volume, 1)).collect());
        Ok(job)
    }
}

fn network_name(nic: &NicSpec) -> String {
    match &nic.source {
        NicSource::Network(name) | NicSource::Bridge(name) => name.clone(),
        NicSource::User => "user".to_owned(),
    }
}
