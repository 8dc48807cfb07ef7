//! What can be done with a whole VM besides making it: copying it, moving it, the trash, a picture of its screen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::create::{Specified, backend_name, check_name, distinct_name};
use super::{Core, SubmitOptions, authorise, capable};
use crate::backend::{CallContext, VmRef};
use crate::capability::Capability;
use crate::command::{ChangeVm, Command, CreateVm, MigrateVm, TrashVm};
use crate::error::{Error, Result};
use crate::model::{
    Caller, HostId, Job, MediumKind, MediumSpec, NicSource, NicSpec, PoolVolume, Screenshot, Vm, VmChange,
    VmFacts, VmId, VmSpec, VolumeKind, VolumeRecord, VolumeSource, VolumeSpec,
};
use crate::state::{self, Occasion};

/// A copy of a VM that a client asks for.
#[derive(Debug, Clone, Default)]
pub struct CloneRequest {
    /// The copy's id where the client chooses it.
    pub id: Option<VmId>,
    /// The copy's display name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether disks are copy-on-write layers over the source's rather than full copies: the source must then
    /// never be written again.
    pub linked: bool,
    /// Whether the disks besides the root disk are copied, too.
    pub data_disks: bool,
    /// Whether to start the copy.
    pub start: bool,
}

impl Core {
    /// Takes the copying of a VM, which is off. The copy is visible at once; it has the source's hardware, new MAC
    /// addresses and no medium in its drives.
    ///
    /// # Errors
    /// `NotFound`, `IllegalState` when the source is not off, `Unsupported` for a disk that is no pool volume,
    /// `QuotaExceeded`, `NoResources`.
    pub async fn clone_vm(
        &self,
        caller: &Caller,
        source: VmId,
        request: CloneRequest,
        options: SubmitOptions,
    ) -> Result<(Arc<Vm>, Job)> {
        authorise::may_change(caller)?;
        if let Some(job) = self.known_job(caller, None, &options).await?
            && let Some(vm) = job.command.vm()
        {
            return Ok((self.vm(caller, vm).await?, job));
        }
        check_name(&request.name)?;
        let source = self.vm(caller, source).await?;
        state::standing(&source)?;
        let facts = source.facts.clone();
        let facts = facts.ok_or_else(|| Error::illegal_state("vm", source.id, "it is not made yet"))?;
        if source.activity.is_none() && !state::fits(Occasion::Off, facts.power) {
            let state = facts.power.as_ref().replace('_', " ");
            let text = format!("a vm is copied while it is off, its power state is {state}");
            return Err(Error::illegal_state("vm", source.id, text));
        }
        let now = self.now();
        let vm = request.id.unwrap_or_else(VmId::random);
        let hold = self.holds.begin(&self.inventory, caller, vm, &request.name)?;
        let name = if hold.name_is_contested {
            distinct_name(&request.name, vm)
        } else {
            backend_name(&now, source.home(), &request.name, vm)
        };
        let specified = copy_of(&source, &facts, vm, name, &request, caller)?;
        let mut record = self
            .new_record(caller, vm, source.home(), &specified.spec)
            .await?;
        record.display_name = Some(request.name.clone());
        record.remark = request.description.clone();
        record.image = source.record.image;
        record.flavor = source.record.flavor;
        record.tags = source.record.tags.clone();
        record.os = source.record.os.clone();
        record.group = source.record.group;
        record.admin_user = source.record.admin_user.clone();
        record.admin_password = source.record.admin_password.clone();
        let create = CreateVm {
            vm,
            spec: specified.spec.clone(),
            start: request.start,
            from: Some(source.id),
            importing: false,
        };
        let job = self
            .accept_creation(caller, create, record, specified, options)
            .await?;
        drop(hold);
        Ok((self.vm(caller, vm).await?, job))
    }

    /// Takes changes of a VM's hardware and settings.
    ///
    /// # Errors
    /// Those of [`Core::submit`].
    pub async fn change_vm(
        &self,
        caller: &Caller,
        vm: VmId,
        changes: Vec<VmChange>,
        options: SubmitOptions,
    ) -> Result<Job> {
        let volume = None;
        let command = Command::ChangeVm(Box::new(ChangeVm { vm, changes, volume }));
        self.submit(caller, command, options).await
    }

    /// Takes the move of a running VM to another host.
    ///
    /// # Errors
    /// `NotFound` for the host, `IllegalState` when it is there already; those of [`Core::submit`].
    pub async fn migrate_vm(
        &self,
        caller: &Caller,
        vm: VmId,
        host: HostId,
        options: SubmitOptions,
    ) -> Result<Job> {
        let seen = self.vm(caller, vm).await?;
        let now = self.now();
        let to = now.hosts.get(&host);
        let to = to.ok_or_else(|| Error::not_found(HostId::NOUN, host))?;
        if seen.facts.as_ref().is_some_and(|facts| facts.host == host) {
            return Err(Error::illegal_state("vm", vm, "it is on that host already"));
        }
        let home = self.backend(seen.home())?;
        let there = self.backend(&to.backend)?;
        if home.kind() != there.kind() {
            return Err(Error::unsupported(format!(
                "a vm cannot move from {} to {}",
                home.kind(),
                there.kind()
            )));
        }
        if *home.id() != *there.id() && there.migration_address().is_none() {
            return Err(Error::unsupported(format!(
                "backend {} has no address to migrate to",
                there.id()
            )));
        }
        let to = to.backend.clone();
        let command = Command::MigrateVm(MigrateVm { vm, to, host });
        self.submit(caller, command, options).await
    }

    /// Takes the move of a VM to the trash.
    ///
    /// # Errors
    /// Those of [`Core::submit`].
    pub async fn trash_vm(&self, caller: &Caller, vm: VmId, options: SubmitOptions) -> Result<Job> {
        self.submit(caller, Command::TrashVm(TrashVm { vm }), options)
            .await
    }

    /// Takes a VM out of the trash, at once.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, `IllegalState` when it is not there.
    pub async fn recover_vm(&self, caller: &Caller, vm: VmId) -> Result<Arc<Vm>> {
        self.annotate(caller, vm, |record| match record.trashed_at.take() {
            Some(_) => Ok(()),
            None => Err(Error::illegal_state("vm", record.id, "it is not in the trash")),
        })
        .await
    }

    /// A picture of a running VM's screen. This asks the hypervisor.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `IllegalState` for a VM that is off, `BackendUnavailable`.
    pub async fn screenshot(&self, caller: &Caller, vm: VmId) -> Result<Screenshot> {
        let seen = self.vm(caller, vm).await?;
        let backend = self.backend(seen.home())?;
        capable::one(Capability::ConsoleScreenshot, backend.as_ref())?;
        let call = CallContext::plain(Instant::now() + Duration::from_secs(10), self.keyring.clone());
        let native = seen.facts.as_ref();
        let native = native.map_or_else(|| vm.to_string(), |facts| facts.native.clone());
        backend.screenshot(&call, &VmRef { id: vm, native }).await
    }

    /// Takes a command whose backend is known without its VM, or that is about no VM at all.
    pub(super) async fn submit_on(
        &self,
        caller: &Caller,
        command: Command,
        backend: &crate::model::BackendId,
        options: SubmitOptions,
    ) -> Result<Job> {
        if command.vm().is_some() {
            return self.submit(caller, command, options).await;
        }
        authorise::may_change(caller)?;
        if let Some(known) = self.known_job(caller, Some(&command), &options).await? {
            return Ok(known);
        }
        capable::check(&command, self.backend(backend)?.as_ref())?;
        super::audit::asked(caller, &command);
        self.accept(caller, command, backend.clone(), Vec::new(), options)
            .await
    }
}

/// The specification of a copy.
fn copy_of(
    source: &Vm,
    facts: &VmFacts,
    vm: VmId,
    name: String,
    request: &CloneRequest,
    caller: &Caller,
) -> Result<Specified> {
    let disks = facts.disks.iter().filter(|disk| !disk.readonly);
    let disks = disks
        .enumerate()
        .filter(|(place, _)| *place == 0 || request.data_disks);
    let mut volumes = Vec::new();
    let mut records = Vec::new();
    for (place, disk) in disks {
        let from = disk.volume.as_ref().ok_or_else(|| {
            let text = format!("disk {} of vm {} is no volume of a pool", disk.target, source.id);
            Error::unsupported(text)
        })?;
        let (id, native) = (
            crate::model::VolumeId::random(),
            format!("{}/{}", from.pool, from.name),
        );
        let format = if request.linked {
            crate::model::VolumeFormat::Qcow2
        } else {
            disk.format
        };
        let name = match place {
            0 => format!("{vm}-root.{}", format.as_ref()),
            _ => format!("{id}.{}", format.as_ref()),
        };
        let (image, layout) = (native, disk.format);
        volumes.push(VolumeSpec {
            pool: from.pool.clone(),
            name: name.clone(),
            capacity: disk.capacity,
            format,
            source: match request.linked {
                true => VolumeSource::Layer {
                    image,
                    format: layout,
                },
                false => VolumeSource::Copy {
                    image,
                    format: layout,
                },
            },
            bus: Some(disk.bus.clone()).filter(|bus| !bus.is_empty()),
        });
        if place > 0 {
            let pool = from.pool.clone();
            let tenant = Some(caller.tenant.clone());
            let home = source.home().clone();
            let mut record = VolumeRecord::new(home, PoolVolume { pool, name }, VolumeKind::Data, tenant);
            record.id = id;
            record.display_name = format!("{}-{}", request.name, disk.target);
            record.format = format;
            record.capacity = disk.capacity;
            record.made_for = Some(vm);
            records.push(record);
        }
    }
    let nics = facts.nics.iter().map(|nic| NicSpec {
        source: match (&nic.network, nic.source.as_str()) {
            (_, "user") => NicSource::User,
            (Some(_), name) => NicSource::Network(name.to_owned()),
            (None, name) => NicSource::Bridge(name.to_owned()),
        },
        mac: None,
        model: Some(nic.model.clone()).filter(|model| !model.is_empty()),
    });
    let media = facts.removable.iter().filter_map(|drive| {
        let kind = match drive.kind.as_str() {
            "cdrom" => MediumKind::Cdrom,
            "floppy" => MediumKind::Floppy,
            _ => return None,
        };
        Some(MediumSpec { kind, source: None })
    });
    let spec = VmSpec {
        name,
        title: request.name.clone(),
        vcpus: facts.cpu.current,
        max_vcpus: facts.cpu.max,
        topology: facts.cpu.topology,
        cpu_model: facts.cpu.model.clone(),
        memory: facts.memory.current,
        max_memory: facts.memory.max,
        firmware: facts.firmware,
        boot: facts.boot.clone(),
        volumes,
        attached: Vec::new(),
        media: media.collect(),
        nics: nics.collect(),
        graphics: facts.graphics.iter().map(|display| display.kind).collect(),
        video: Vec::new(),
        console_password: source.record.console_password.clone(),
        guest: None,
        host: None,
    };
    Ok(Specified {
        spec,
        volumes: records,
    })
}
