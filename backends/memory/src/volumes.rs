//! Volumes: blank, copied, layered, seeds. A pool reserves the whole size of each, so that it can be filled.

use std::sync::Arc;

use babelvisor_core::model::{
    DiskAttachment, GuestSetup, JobId, VmId, Volume, VolumeFormat, VolumeId, VolumeSource, VolumeSpec,
};
use babelvisor_core::{Error, ErrorKind, Result};

use crate::convert::native_key;
use crate::error;
use crate::restore::stored_volume;
use crate::state_file::Line;
use crate::world::{Disk, Event, Origin, World, is_up};

/// What a seed takes.
const SEED_SIZE: u64 = 1 << 20;

impl World {
    /// Makes a volume, or hands over the one that the same job made before.
    pub(crate) fn create_volume(&mut self, job: Option<JobId>, spec: &VolumeSpec) -> Result<Volume> {
        if let Some(mine) = self.own_volume(job, &spec.pool, &spec.name)? {
            return Ok(mine);
        }
        let mut capacity = spec.capacity;
        let origin = match &spec.source {
            VolumeSource::Blank if capacity == 0 => {
                return Err(Error::invalid("capacity", "a blank volume needs at least 1 byte"));
            }
            VolumeSource::Blank => Origin::Blank,
            VolumeSource::Copy { image, format } => {
                let base = self.image(image, *format, capacity)?;
                capacity = capacity.max(self.capacity_of(&base));
                Origin::Copy
            }
            VolumeSource::Layer { image, format } => {
                if spec.format != VolumeFormat::Qcow2 {
                    return Err(Error::invalid(
                        "format",
                        "only a qcow2 volume can be a layer over an image",
                    ));
                }
                let base = self.image(image, *format, capacity)?;
                capacity = capacity.max(self.capacity_of(&base));
                Origin::Layer { base }
            }
        };
        self.add_volume(&spec.pool, &spec.name, capacity, spec.format, origin, job)
    }

    /// Makes the volume with a VM's first-boot set-up.
    pub(crate) fn create_seed(
        &mut self,
        job: Option<JobId>,
        vm: VmId,
        pool: &str,
        name: &str,
        setup: &GuestSetup,
    ) -> Result<Volume> {
        if let Some(mine) = self.own_volume(job, pool, name)? {
            return Ok(mine);
        }
        let setup = Box::new(setup.clone());
        self.add_volume(
            pool,
            name,
            SEED_SIZE,
            VolumeFormat::Raw,
            Origin::Seed { vm, setup },
            job,
        )
    }

    /// A volume as it is.
    pub(crate) fn volume(&self, pool: &str, name: &str) -> Option<Volume> {
        self.disks
            .get(&native_key(pool, name))
            .map(|disk| disk.volume.clone())
    }

    /// Makes a volume at least `capacity` bytes large; whoever has it attached sees the new size.
    pub(crate) fn resize_volume(&mut self, pool: &str, name: &str, capacity: u64) -> Result<Volume> {
        let key = native_key(pool, name);
        let disk = self
            .disks
            .get_mut(&key)
            .ok_or_else(|| Error::not_found("volume", &key))?;
        let more = capacity.saturating_sub(disk.volume.capacity);
        if more == 0 {
            return Ok(disk.volume.clone());
        }
        let slot = self
            .pools
            .get_mut(pool)
            .ok_or_else(|| Error::not_found("pool", pool))?;
        let available = slot.capacity.saturating_sub(slot.used);
        if more > available {
            return Err(error::no_room(pool, more, available));
        }
        slot.used = slot.used.saturating_add(more);
        disk.volume.capacity = capacity;
        disk.volume.allocation = capacity;
        let (volume, stored) = (disk.volume.clone(), stored_volume(disk));
        self.keep(|| Line::Volume(Box::new(stored)));
        let holders: Vec<VmId> = self
            .guests
            .values()
            .filter(|guest| guest.facts.disks.iter().any(|disk| disk.source == key))
            .map(|guest| guest.facts.id)
            .collect();
        for vm in holders {
            if let Some(guest) = self.guests.get_mut(&vm) {
                for disk in &mut Arc::make_mut(&mut guest.facts).disks {
                    if disk.source == key {
                        disk.capacity = capacity;
                    }
                }
            }
            self.commit(vm);
        }
        self.publish(Event::Topology);
        Ok(volume)
    }

    /// Makes the volume that an upload has filled, or hands over the one that the same job made before.
    pub(crate) fn uploaded(&mut self, job: Option<JobId>, spec: &VolumeSpec) -> Result<Volume> {
        if let Some(mine) = self.own_volume(job, &spec.pool, &spec.name)? {
            return Ok(mine);
        }
        self.add_volume(
            &spec.pool,
            &spec.name,
            spec.capacity,
            spec.format,
            Origin::Given,
            job,
        )
    }

    /// The native key of a volume that is named by it, by `pool/name`, or by a name that one pool only has.
    pub(crate) fn find_volume(&self, key: &str) -> Result<String> {
        self.find(key).map(|disk| disk.volume.native.clone())
    }

    /// Removes a volume that nobody needs; absent is success.
    pub(crate) fn delete_volume(&mut self, pool: &str, name: &str) -> Result<()> {
        let key = native_key(pool, name);
        let Some(disk) = self.disks.get(&key) else {
            return Ok(());
        };
        let user = disk.attached.filter(|vm| {
            self.guests
                .get(vm)
                .is_some_and(|guest| is_up(guest.facts.power) || guest.transition.is_some())
        });
        if let Some(vm) = user {
            let detail = format!("volume {key} is in use by running vm {vm}; stop it first");
            return Err(Error::illegal_state("volume", &key, detail));
        }
        if disk.layers > 0 {
            let detail = format!(
                "{} volumes are layers over volume {key}; delete them first",
                disk.layers
            );
            return Err(Error::illegal_state("volume", &key, detail));
        }
        let Some(disk) = self.disks.remove(&key) else {
            return Ok(());
        };
        if let Origin::Layer { base } = &disk.origin
            && let Some(base) = self.disks.get_mut(base)
        {
            base.layers = base.layers.saturating_sub(1);
        }
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.used = pool.used.saturating_sub(disk.volume.capacity);
        }
        self.keep(|| Line::VolumeGone { native: key });
        self.publish(Event::Topology);
        Ok(())
    }

    /// Puts a volume into a pool with room for it.
    pub(crate) fn add_volume(
        &mut self,
        pool: &str,
        name: &str,
        capacity: u64,
        format: VolumeFormat,
        origin: Origin,
        job: Option<JobId>,
    ) -> Result<Volume> {
        error::check_name("name", name)?;
        let key = native_key(pool, name);
        if self.disks.contains_key(&key) {
            return Err(error::taken("volume", &format!("{pool}/{name}")));
        }
        let slot = self
            .pools
            .get_mut(pool)
            .ok_or_else(|| Error::not_found("pool", pool))?;
        let available = slot.capacity.saturating_sub(slot.used);
        if capacity > available {
            return Err(error::no_room(pool, capacity, available));
        }
        slot.used = slot.used.saturating_add(capacity);
        let disk = Disk {
            volume: Volume {
                id: VolumeId::computed(&self.id, &key),
                backend: self.id.clone(),
                pool: slot.id,
                native: key.clone(),
                name: name.to_owned(),
                format,
                capacity,
                allocation: capacity,
                made_by: job,
            },
            origin,
            attached: None,
            layers: 0,
        };
        if let Origin::Layer { base } = &disk.origin
            && let Some(base) = self.disks.get_mut(base)
        {
            base.layers += 1;
        }
        let volume = disk.volume.clone();
        let stored = stored_volume(&disk);
        self.disks.insert(key, disk);
        self.keep(|| Line::Volume(Box::new(stored)));
        self.publish(Event::Topology);
        Ok(volume)
    }

    /// Whether `volumes` are there and free for `vm`.
    pub(crate) fn check_attachable<'a>(
        &self,
        vm: VmId,
        volumes: impl Iterator<Item = &'a Volume>,
    ) -> Result<()> {
        for volume in volumes {
            let disk = self
                .disks
                .get(&volume.native)
                .ok_or_else(|| Error::not_found("volume", &volume.native))?;
            if let Some(holder) = disk.attached.filter(|holder| *holder != vm) {
                let detail = format!("volume {} is attached to vm {holder}", volume.native);
                return Err(Error::illegal_state("volume", &volume.native, detail));
            }
        }
        Ok(())
    }

    /// The volume that shall be plugged into `vm`, if it is what is said of it and no other guest has it.
    pub(crate) fn free_volume(&self, vm: VmId, wanted: &DiskAttachment) -> Result<&Volume> {
        let key = native_key(&wanted.volume.pool, &wanted.volume.name);
        let disk = self
            .disks
            .get(&key)
            .ok_or_else(|| Error::not_found("volume", &key))?;
        if disk.volume.format != wanted.format {
            let text = format!(
                "volume {key} is {}, not {}",
                disk.volume.format.as_ref(),
                wanted.format.as_ref()
            );
            return Err(Error::invalid("format", text));
        }
        if let Some(holder) = disk.attached.filter(|holder| *holder != vm && !wanted.shareable) {
            let text = format!("it is attached to vm {holder}");
            return Err(Error::illegal_state("volume", &key, text));
        }
        Ok(&disk.volume)
    }

    fn own_volume(&self, job: Option<JobId>, pool: &str, name: &str) -> Result<Option<Volume>> {
        match self.disks.get(&native_key(pool, name)) {
            None => Ok(None),
            Some(disk) if job.is_some() && disk.volume.made_by == job => Ok(Some(disk.volume.clone())),
            Some(_) => Err(error::taken("volume", &format!("{pool}/{name}"))),
        }
    }

    /// The virtual size of the volume with this native key.
    fn capacity_of(&self, native: &str) -> u64 {
        self.disks.get(native).map_or(0, |disk| disk.volume.capacity)
    }

    fn find(&self, key: &str) -> Result<&Disk> {
        let by_path = key
            .split_once('/')
            .and_then(|(pool, name)| self.disks.get(&native_key(pool, name)));
        let found = self.disks.get(key).or(by_path);
        match found {
            Some(disk) => Ok(disk),
            None => {
                let mut named = self
                    .pools
                    .keys()
                    .filter_map(|pool| self.disks.get(&native_key(pool, key)));
                let first = named.next().ok_or_else(|| Error::not_found("image", key))?;
                if named.next().is_some() {
                    let detail = format!("several pools have an image {key}; name it pool/{key}");
                    return Err(Error::invalid("image", detail));
                }
                Ok(first)
            }
        }
    }

    /// Finds an image by native key, `pool/name`, or a name that is in one pool only; its layout must be the
    /// declared one and it must fit into `capacity`, unless that is 0.
    fn image(&self, key: &str, format: VolumeFormat, capacity: u64) -> Result<String> {
        let disk = self.find(key)?;
        if disk.volume.format != format {
            let detail = format!(
                "image {key} is {}, not {}",
                disk.volume.format.as_ref(),
                format.as_ref()
            );
            return Err(Error::invalid("format", detail));
        }
        if capacity != 0 && capacity < disk.volume.capacity {
            let detail = format!(
                "the volume has {capacity} bytes, image {key} needs {}",
                disk.volume.capacity
            );
            return Err(Error::new(ErrorKind::InvalidInput, detail).about("image", key)).map_err(|error| {
                Error {
                    field: Some("capacity".to_owned()),
                    ..error
                }
            });
        }
        Ok(disk.volume.native.clone())
    }
}
