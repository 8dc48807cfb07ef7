//! Volumes as objects: making, attaching, detaching, resizing and removing them.

use std::sync::Arc;

use super::create::{format_of, location};
use super::{Core, SubmitOptions, audit, authorise, capable};
use crate::command::{ChangeVm, Command, VolumeAction, VolumeJob};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Heard;
use crate::model::{
    BackendId, Caller, DiskAttachment, DiskOfferingId, EntryState, Image, ImageKind, Job, PoolId, PoolVolume,
    Vm, VmChange, VmId, VolumeId, VolumeKind, VolumeRecord, VolumeSource, VolumeSpec,
};
use crate::query::VolumeView;
use crate::registry::entry_write;
use crate::store::Expect;

/// A data volume that a client asks for.
#[derive(Debug, Clone, Default)]
pub struct VolumeRequest {
    /// The volume's id where the client chooses it; one that was ever in use is refused.
    pub id: Option<VolumeId>,
    /// Display name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Bytes; at least the image's size is made.
    pub size: u64,
    /// What it starts from; nothing without.
    pub image: Option<Arc<Image>>,
    /// Where it goes.
    pub pool: Option<PoolId>,
    /// The backend that it goes to, where no pool says it: that of the VM that it is meant for.
    pub backend: Option<BackendId>,
    /// The offering that the size comes from.
    pub offering: Option<DiskOfferingId>,
    /// Whether several VMs may have it attached at once.
    pub shareable: bool,
    /// What the dialect only records.
    pub settings: std::collections::BTreeMap<String, String>,
}

impl Core {
    /// A volume that the caller may see: one with a record, or one that a VM has attached.
    ///
    /// # Errors
    /// `NotFound`; those of the store.
    pub async fn volume(&self, caller: &Caller, id: VolumeId) -> Result<VolumeView> {
        let unknown = || Error::not_found(VolumeId::NOUN, id);
        let now = self.now();
        match self.entry::<VolumeRecord>(caller, id).await {
            Ok(record) => Ok(VolumeView::of_record(&now, record)),
            Err(error) if error.kind == ErrorKind::NotFound => {
                VolumeView::attached(&now, caller, id).ok_or_else(unknown)
            }
            Err(error) => Err(error),
        }
    }

    /// Changes what the registry remembers of a volume, and makes a record of one that had none.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, whatever `change` refuses; those of the store.
    pub async fn edit_volume(
        &self,
        caller: &Caller,
        id: VolumeId,
        change: impl Fn(&mut VolumeRecord) -> Result<()> + Send + Sync,
    ) -> Result<VolumeView> {
        authorise::may_change(caller)?;
        let view = self.volume(caller, id).await?;
        if view.record.is_none() {
            match self.registry.add_entry(view.to_record()).await {
                Ok((record, version)) => self.inventory.entries(vec![Heard::written(record, version)]),
                // Somebody else made it in the same moment.
                Err(error) if error.kind == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        self.edit_entry::<VolumeRecord>(caller, id, change).await?;
        self.volume(caller, id).await
    }

    /// Takes the creation of a data volume, which is visible at once.
    ///
    /// # Errors
    /// `InvalidInput`, `AlreadyExists` for a chosen id that was ever in use, `NoResources`, `Unsupported`.
    pub async fn create_volume(
        &self,
        caller: &Caller,
        request: VolumeRequest,
        options: SubmitOptions,
    ) -> Result<(VolumeView, Job)> {
        authorise::may_change(caller)?;
        if let Some(job) = self.known_job(caller, None, &options).await?
            && let Command::Volume(made) = &job.command
        {
            return Ok((self.volume(caller, made.volume).await?, job));
        }
        super::create::check_name(&request.name)?;
        let size = request
            .size
            .max(request.image.as_ref().map_or(0, |image| image.size));
        if size == 0 && request.image.is_none() {
            return Err(Error::invalid("size", "an empty volume needs a size"));
        }
        if let Some(image) = request
            .image
            .as_ref()
            .filter(|image| image.kind == ImageKind::Iso)
        {
            let text = format!("image {} is an optical disc", image.name);
            return Err(Error::invalid("image", text));
        }
        let (backend, pool) = self.volume_place(&request, size)?;
        let source = match &request.image {
            // A layer would tie the volume to its image for life: data volumes are copies.
            Some(image) => {
                let location = location(image, &backend)?;
                VolumeSource::Copy {
                    image: location.native.clone(),
                    format: location.format,
                }
            }
            None => VolumeSource::Blank,
        };
        let id = request.id.unwrap_or_else(VolumeId::random);
        let format = format_of(&source);
        let place = PoolVolume {
            pool,
            name: format!("{id}.{}", format.as_ref()),
        };
        let mut record = VolumeRecord::new(
            backend.clone(),
            place.clone(),
            VolumeKind::Data,
            Some(caller.tenant.clone()),
        );
        record.id = id;
        record.display_name = request.name;
        record.description = request.description;
        record.format = format;
        record.capacity = size;
        record.disk_offering = request.offering;
        record.image = request.image.map(|image| image.id);
        record.shareable = request.shareable;
        record.settings = request.settings;
        let command = Command::Volume(VolumeJob {
            volume: id,
            vm: None,
            action: VolumeAction::Create(VolumeSpec {
                pool: place.pool,
                name: place.name,
                capacity: size,
                format,
                source,
                bus: None,
            }),
        });
        capable::check(&command, self.backend(&backend)?.as_ref())?;
        audit::asked(caller, &command);
        let writes = vec![entry_write(&record, Expect::Absent)?];
        let job = self.accept(caller, command, backend, writes, options).await;
        let job = match job {
            Err(error)
                if error.kind == ErrorKind::Conflict
                    && self.registry.entry::<VolumeRecord>(id).await?.is_some() =>
            {
                let text = format!("a volume with the id {id} exists or existed");
                return Err(Error::new(ErrorKind::AlreadyExists, text).about(VolumeId::NOUN, id));
            }
            outcome => outcome?,
        };
        self.inventory.entries(vec![Heard::written(record, 1)]);
        Ok((self.volume(caller, id).await?, job))
    }

    fn volume_place(&self, request: &VolumeRequest, size: u64) -> Result<(BackendId, String)> {
        let now = self.now();
        if let Some(id) = request.pool {
            let pool = now.pools.get(&id);
            let pool = pool.ok_or_else(|| Error::not_found(PoolId::NOUN, id))?;
            let name = self.choose_pool(&now, &pool.backend, size, Some(id))?;
            return Ok((pool.backend.clone(), name));
        }
        let has_image = |backend: &BackendId| match &request.image {
            Some(image) => location(image, backend).is_ok(),
            None => true,
        };
        let mut backends: Vec<&BackendId> = self.backends().keys().collect();
        backends.retain(|backend| {
            request.backend.as_ref().is_none_or(|wish| wish == *backend)
                && now.backend_up(backend)
                && has_image(backend)
        });
        backends.sort_unstable();
        let mut refused = None;
        for backend in backends {
            match self.choose_pool(&now, backend, size, None) {
                Ok(pool) => return Ok((backend.clone(), pool)),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            Error::new(
                ErrorKind::NoResources,
                "no backend that is up can take the volume",
            )
        }))
    }

    /// Plugs a volume into a VM.
    ///
    /// # Errors
    /// `NotFound`, `IllegalState` for a volume that is not ready, disabled, in the trash or attached elsewhere,
    /// `InvalidInput` for one on another backend; those of [`Core::submit`].
    pub async fn attach_volume(
        &self,
        caller: &Caller,
        volume: VolumeId,
        vm: VmId,
        bus: Option<String>,
        readonly: bool,
        options: SubmitOptions,
    ) -> Result<Job> {
        let view = self.volume(caller, volume).await?;
        let vm = self.vm(caller, vm).await?;
        let refused = |why: String| Err(Error::illegal_state(VolumeId::NOUN, volume, why));
        let shareable = view.record.as_ref().is_some_and(|record| record.shareable);
        if let Some(record) = &view.record {
            match &record.state {
                EntryState::Ready => {}
                EntryState::Creating => return refused("it is still being made".to_owned()),
                EntryState::Failed(_) => return refused("it could not be made".to_owned()),
            }
            if record.trashed_at.is_some() {
                return refused("it is in the trash, recover it first".to_owned());
            }
            if !record.enabled {
                return refused("it is disabled, enable it first".to_owned());
            }
        }
        if let Some(holder) = &view.vm
            && !shareable
        {
            return refused(format!("it is attached to vm {} already", holder.id));
        }
        if view.backend != *vm.home() {
            let text = format!(
                "volume {volume} is on backend {}, vm {} on backend {}",
                view.backend,
                vm.id,
                vm.home()
            );
            return Err(Error::invalid("volume", text));
        }
        let change = VmChange::AttachDisk(DiskAttachment {
            volume: view.place.clone(),
            format: view.format,
            bus,
            readonly,
            shareable,
        });
        let command = Command::ChangeVm(Box::new(ChangeVm {
            vm: vm.id,
            changes: vec![change],
            volume: Some(volume),
        }));
        self.submit(caller, command, options).await
    }

    /// Unplugs a volume from the VM that has it, or from `vm` where several have.
    ///
    /// # Errors
    /// `NotFound`, `IllegalState` when it is not attached or is what the VM boots from; those of [`Core::submit`].
    pub async fn detach_volume(
        &self,
        caller: &Caller,
        volume: VolumeId,
        vm: Option<VmId>,
        options: SubmitOptions,
    ) -> Result<Job> {
        let view = self.volume(caller, volume).await?;
        let holder = match vm {
            Some(vm) => Some(self.vm(caller, vm).await?),
            None => view.vm.clone(),
        };
        let not_attached = || Error::illegal_state(VolumeId::NOUN, volume, "it is not attached to a vm");
        let holder = holder.ok_or_else(not_attached)?;
        let disk = disk_of(&holder, &view.place).ok_or_else(not_attached)?;
        if disk.root {
            let why = "the vm boots from it, it cannot be detached";
            return Err(Error::illegal_state(VolumeId::NOUN, volume, why));
        }
        let command = Command::ChangeVm(Box::new(ChangeVm {
            vm: holder.id,
            changes: vec![VmChange::DetachDisk {
                target: disk.target.clone(),
            }],
            volume: Some(volume),
        }));
        self.submit(caller, command, options).await
    }

    /// Makes a volume larger.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` for a size below the present one; those of [`Core::submit`].
    pub async fn resize_volume(
        &self,
        caller: &Caller,
        volume: VolumeId,
        capacity: u64,
        options: SubmitOptions,
    ) -> Result<Job> {
        let view = self.volume(caller, volume).await?;
        if capacity < view.capacity {
            let text = format!(
                "a volume cannot be made smaller: it has {} bytes, {capacity} are asked for",
                view.capacity
            );
            return Err(Error::invalid("size", text));
        }
        let action = VolumeAction::Resize {
            place: view.place.clone(),
            capacity,
        };
        self.submit_volume(caller, &view, action, options).await
    }

    /// Removes a data volume for good.
    ///
    /// # Errors
    /// `NotFound`, `IllegalState` for one that is attached; those of [`Core::submit`].
    pub async fn delete_volume(
        &self,
        caller: &Caller,
        volume: VolumeId,
        options: SubmitOptions,
    ) -> Result<Job> {
        let view = self.volume(caller, volume).await?;
        let action = VolumeAction::Delete {
            place: view.place.clone(),
        };
        self.submit_volume(caller, &view, action, options).await
    }

    async fn submit_volume(
        &self,
        caller: &Caller,
        view: &VolumeView,
        action: VolumeAction,
        options: SubmitOptions,
    ) -> Result<Job> {
        let command = Command::Volume(VolumeJob {
            volume: view.id,
            vm: view.vm.as_ref().map(|vm| vm.id),
            action,
        });
        self.submit_on(caller, command, &view.backend, options).await
    }
}

/// The disk by which a VM has a volume.
pub(super) fn disk_of<'v>(vm: &'v Vm, place: &PoolVolume) -> Option<&'v crate::model::Disk> {
    let disks = vm.facts.iter().flat_map(|facts| facts.disks.iter());
    disks.into_iter().find(|disk| disk.volume.as_ref() == Some(place))
}
