//! Where a new VM goes, and whether there is room. One rule for the placement itself and for frontends that ask
//! beforehand:
//!
//! - a backend is up, configured here, and has the image; among several the one with most free memory comes
//!   first;
//! - one of its hosts has the memory. Where a host does not say what is free, its size is what counts: a VM
//!   larger than its host never runs, while whether several share it is the hypervisor's to judge (it may swap
//!   or merge pages);
//! - one of its pools has the disk in full, though a thin one may never need it: a promise that is kept only if
//!   nobody fills the disks is none. A pool that does not say how large it is (capacity 0) is taken at its word
//!   when the volume is made, not before. A disk of unknown size fits everywhere.

use super::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Snapshot;
use crate::model::{BackendId, Host, Image, ImageKind, ImageLocation, NicSource, StoragePool};

/// A backend that can take the VM.
pub(super) struct Place<'a> {
    pub(super) location: &'a ImageLocation,
    pub(super) pool: String,
    pub(super) network: NicSource,
}

impl Core {
    /// Refuses `quantity` VMs of this size, made from `image`, if the backend that the first of them would go to
    /// has no room for all. `memory` and `disk` are bytes for one; at least the image's size counts as disk. It
    /// promises nothing: room may be taken before the VMs are made.
    ///
    /// # Errors
    /// `NoResources`, saying how many fit, or why there is no place at all; `InvalidInput` for an image that is
    /// none to boot from.
    pub fn fits(&self, image: &Image, quantity: u32, memory: u64, disk: u64) -> Result<()> {
        let now = self.now();
        let place = self.place(&now, image, memory, disk)?;
        let backend = &place.location.backend;
        let by_memory = sum(hosts(&now, backend).map(|host| match host.memory_free {
            Some(free) => free / memory.max(1),
            None if host.memory >= memory => u64::MAX,
            None => 0,
        }));
        let by_disk = sum(self
            .pools(&now, backend)
            .map(|pool| room_in(pool, disk.max(image.size))));
        let fit = by_memory.min(by_disk);
        if fit >= u64::from(quantity) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NoResources,
            format!("{quantity} vms are asked for, backend {backend} has room for {fit}"),
        ))
    }

    /// The backend to put one VM on.
    pub(super) fn place<'a>(
        &self,
        now: &Snapshot,
        image: &'a Image,
        memory: u64,
        disk: u64,
    ) -> Result<Place<'a>> {
        if image.kind != ImageKind::Disk {
            let text = format!("image {} is not a disk to boot from", image.name);
            return Err(Error::invalid("image", text));
        }
        let mut candidates: Vec<(u64, &ImageLocation)> = image
            .locations
            .iter()
            .filter(|location| {
                now.backend_up(&location.backend) && self.backends().contains_key(&location.backend)
            })
            .filter_map(|location| {
                let free = hosts(now, &location.backend).map(|host| host.memory_free.unwrap_or(host.memory));
                let most = free.max()?;
                (most >= memory).then_some((most, location))
            })
            .collect();
        candidates.sort_by_key(|(free, _)| std::cmp::Reverse(*free));
        let mut refused = None;
        for (_, location) in candidates {
            match self.place_on(now, location, disk.max(image.size)) {
                Ok(place) => return Ok(place),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            let text = format!(
                "no backend that is up has image {} and a host with {memory} bytes of free memory",
                image.name
            );
            Error::new(ErrorKind::NoResources, text)
        }))
    }

    fn place_on<'a>(&self, now: &Snapshot, location: &'a ImageLocation, disk: u64) -> Result<Place<'a>> {
        let backend = &location.backend;
        let mut pools: Vec<_> = self.pools(now, backend).collect();
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        let pool = pools.into_iter().find(|pool| room_in(pool, disk) > 0);
        let pool = pool.ok_or_else(|| {
            let name = self.policy.pool.as_ref();
            let which = name.map_or_else(String::new, |name| format!(" named {name}"));
            let text = format!("backend {backend} has no active storage pool{which} with {disk} bytes free");
            Error::new(ErrorKind::NoResources, text)
        })?;
        Ok(Place {
            location,
            pool: pool.name.clone(),
            network: self.choose_network(now, backend)?,
        })
    }

    fn choose_network(&self, now: &Snapshot, backend: &BackendId) -> Result<NicSource> {
        let active = now.networks.values();
        let active = active.filter(|network| network.backend == *backend && network.active);
        let mut names: Vec<&str> = active.map(|network| network.name.as_str()).collect();
        names.sort_unstable();
        match &self.policy.network {
            Some(name) if name == "user" => Ok(NicSource::User),
            Some(name) if names.contains(&name.as_str()) => Ok(NicSource::Network(name.clone())),
            Some(name) => Err(Error::new(
                ErrorKind::NoResources,
                format!("backend {backend} has no active network named {name}"),
            )),
            None => Ok(names
                .first()
                .map_or(NicSource::User, |name| NicSource::Network((*name).to_owned()))),
        }
    }

    /// The pools of a backend that new volumes may go to.
    fn pools<'s>(&self, now: &'s Snapshot, backend: &BackendId) -> impl Iterator<Item = &'s StoragePool> {
        let pools = now.pools.values().map(AsRef::as_ref);
        pools
            .filter(|pool: &&StoragePool| pool.backend == *backend && pool.active)
            .filter(|pool| self.policy.pool.as_ref().is_none_or(|name| pool.name == *name))
    }
}

fn hosts<'s>(now: &'s Snapshot, backend: &BackendId) -> impl Iterator<Item = &'s Host> {
    let hosts = now.hosts.values().map(AsRef::as_ref);
    hosts.filter(move |host: &&Host| host.backend == *backend)
}

/// How many disks of so many bytes a pool takes.
fn room_in(pool: &StoragePool, disk: u64) -> u64 {
    if pool.capacity == 0 {
        return u64::MAX;
    }
    pool.available.checked_div(disk).unwrap_or(u64::MAX)
}

fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}
