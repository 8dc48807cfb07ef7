//! Where a new VM goes, and whether there is room. One rule for the placement itself and for frontends that ask
//! beforehand:
//!
//! - a backend is up, configured here, has the images, and is where the request wishes to be; among several one
//!   that keeps the affinity group's rule comes first, then the one with most free memory;
//! - one of its hosts has the memory. Where a host does not say what is free, its size is what counts: a VM
//!   larger than its host never runs, while whether several share it is the hypervisor's to judge (it may swap
//!   or merge pages);
//! - one of its pools has each disk in full, though a thin one may never need it: a promise that is kept only if
//!   nobody fills the disks is none. A pool that does not say how large it is (capacity 0) is taken at its word
//!   when the volume is made, not before. A disk of unknown size fits everywhere;
//! - a hard rule of an affinity group is kept or the VM is refused; a soft one is kept where it can be.

use std::collections::HashSet;

use super::Core;
use super::create::{CreateRequest, Root, Wish};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::{Entry as _, Snapshot};
use crate::model::{
    AffinityGroup, AffinityGroupId, AffinityPolicy, BackendId, Caller, Host, HostId, Image, ImageKind,
    NicSource, PoolId, StoragePool,
};

/// A backend that can take the VM.
pub(super) struct Place {
    pub(super) backend: BackendId,
    /// The host, where the request or a group leaves no choice.
    pub(super) host: Option<HostId>,
    /// The pool of each disk, the root disk first.
    pub(super) pools: Vec<String>,
}

/// What a place must have.
struct Needs<'r> {
    images: Vec<&'r Image>,
    memory: u64,
    /// Each disk's bytes and the pool that it must go to.
    disks: Vec<(u64, Option<PoolId>)>,
    wish: &'r Wish,
    networks: Vec<BackendId>,
    group: Option<&'r AffinityGroup>,
}

/// A host to run on.
struct Candidate<'s> {
    host: &'s Host,
    free: u64,
    /// Whether it keeps the group's rule.
    kept: bool,
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
        is_bootable(image)?;
        let wish = Wish::default();
        let needs = Needs {
            images: vec![image],
            memory,
            disks: vec![(disk.max(image.size), None)],
            wish: &wish,
            networks: Vec::new(),
            group: None,
        };
        let backend = &self.find_place(&now, &needs)?.backend;
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

    /// The place for one VM.
    pub(super) fn place(&self, now: &Snapshot, caller: &Caller, request: &CreateRequest) -> Result<Place> {
        let mut disks = Vec::with_capacity(1 + request.disks.len());
        match &request.root {
            Root::Image(image) => {
                is_bootable(image)?;
                disks.push((request.disk.max(image.size), request.wish.pool));
            }
            Root::Blank => disks.push((request.disk, request.wish.pool)),
            Root::None => {}
        }
        for disk in &request.disks {
            let size = disk.size.max(disk.image.as_ref().map_or(0, |image| image.size));
            disks.push((size, disk.pool.or(request.wish.pool)));
        }
        let mut networks = Vec::new();
        for id in request.nics.iter().flatten().filter_map(|nic| nic.network) {
            let network = now.networks.get(&id);
            let network = network.ok_or_else(|| Error::not_found(crate::model::NetworkId::NOUN, id))?;
            networks.push(network.backend.clone());
        }
        let group = match request.wish.affinity {
            Some(id) => {
                let found = now
                    .entry::<AffinityGroup>(id)
                    .filter(|group| group.seen_by(caller));
                Some(found.ok_or_else(|| Error::not_found(AffinityGroupId::NOUN, id))?)
            }
            None => None,
        };
        let needs = Needs {
            images: request.images().map(AsRef::as_ref).collect(),
            memory: request.memory,
            disks,
            wish: &request.wish,
            networks,
            group: group
                .map(AsRef::as_ref)
                .filter(|group: &&AffinityGroup| group.enabled),
        };
        self.find_place(now, &needs)
    }

    fn find_place(&self, now: &Snapshot, needs: &Needs<'_>) -> Result<Place> {
        let members = needs.group.map(|group| hosts_of(now, group));
        let mut candidates: Vec<Candidate<'_>> = now
            .hosts
            .values()
            .map(AsRef::as_ref)
            .filter(|host| now.backend_up(&host.backend) && self.backends().contains_key(&host.backend))
            .filter(|host| has_images(&host.backend, &needs.images))
            .filter(|host| wished(host, needs.wish) && needs.networks.iter().all(|on| *on == host.backend))
            .filter_map(|host| {
                let free = host.memory_free.unwrap_or(host.memory);
                let kept = keeps(needs.group, members.as_ref(), host.id);
                (free >= needs.memory).then_some(Candidate { host, free, kept })
            })
            .collect();
        let hard = needs.group.is_some_and(|group| match group.policy {
            AffinityPolicy::AntiAffinityHard | AffinityPolicy::AffinityHard => true,
            AffinityPolicy::AntiAffinitySoft | AffinityPolicy::AffinitySoft => false,
        });
        if hard && !candidates.is_empty() {
            candidates.retain(|candidate| candidate.kept);
            if let (true, Some(group)) = (candidates.is_empty(), needs.group) {
                let text = format!(
                    "no host with room keeps the rule {} of affinity group {}",
                    group.policy.as_ref().replace('_', " "),
                    group.name
                );
                return Err(Error::new(ErrorKind::NoResources, text).about(AffinityGroupId::NOUN, group.id));
            }
        }
        candidates.sort_by_key(|candidate| std::cmp::Reverse((candidate.kept, candidate.free)));
        let fixed = needs.wish.host.is_some() || needs.group.is_some();
        let mut refused = None;
        for candidate in candidates {
            match self.choose_pools(now, &candidate.host.backend, &needs.disks) {
                Ok(pools) => {
                    return Ok(Place {
                        backend: candidate.host.backend.clone(),
                        host: fixed.then_some(candidate.host.id),
                        pools,
                    });
                }
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| nowhere(now, needs)))
    }

    fn choose_pools(
        &self,
        now: &Snapshot,
        backend: &BackendId,
        disks: &[(u64, Option<PoolId>)],
    ) -> Result<Vec<String>> {
        let chosen = disks.iter();
        let chosen = chosen.map(|(size, wish)| self.choose_pool(now, backend, *size, *wish));
        // What asks for no disk needs no pool.
        chosen.collect()
    }

    /// A pool of `backend` for a disk of so many bytes.
    ///
    /// # Errors
    /// `NoResources`; `NotFound` for a pool that does not exist, `InvalidInput` for one elsewhere.
    pub(super) fn choose_pool(
        &self,
        now: &Snapshot,
        backend: &BackendId,
        size: u64,
        wish: Option<PoolId>,
    ) -> Result<String> {
        if let Some(id) = wish {
            let pool = now.pools.get(&id);
            let pool = pool.ok_or_else(|| Error::not_found(PoolId::NOUN, id))?;
            if pool.backend != *backend {
                let text = format!("storage pool {} is not on backend {backend}", pool.name);
                return Err(Error::invalid("pool", text));
            }
            if !pool.active || room_in(pool, size) == 0 {
                let text = format!("storage pool {} is not active with {size} bytes free", pool.name);
                return Err(Error::new(ErrorKind::NoResources, text).about(PoolId::NOUN, id));
            }
            return Ok(pool.name.clone());
        }
        let mut pools: Vec<_> = self.pools(now, backend).collect();
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        let pool = pools.into_iter().find(|pool| room_in(pool, size) > 0);
        let pool = pool.ok_or_else(|| {
            let name = self.policy.pool.as_ref();
            let which = name.map_or_else(String::new, |name| format!(" named {name}"));
            let text = format!("backend {backend} has no active storage pool{which} with {size} bytes free");
            Error::new(ErrorKind::NoResources, text)
        })?;
        Ok(pool.name.clone())
    }

    pub(super) fn choose_network(&self, now: &Snapshot, backend: &BackendId) -> Result<NicSource> {
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

fn is_bootable(image: &Image) -> Result<()> {
    if image.kind != ImageKind::Disk {
        let text = format!("image {} is not a disk to boot from", image.name);
        return Err(Error::invalid("image", text));
    }
    Ok(())
}

fn has_images(backend: &BackendId, images: &[&Image]) -> bool {
    let has = |image: &&Image| {
        image
            .locations
            .iter()
            .any(|location| location.backend == *backend)
    };
    images.iter().all(has)
}

fn wished(host: &Host, wish: &Wish) -> bool {
    wish.backend
        .as_ref()
        .is_none_or(|backend| *backend == host.backend)
        && wish.host.is_none_or(|id| id == host.id)
        && wish.cluster.is_none_or(|id| id == host.cluster_id())
        && wish.zone.is_none_or(|id| id == host.zone_id())
}

/// The hosts that a group's members are on, or will be once they are made.
fn hosts_of(now: &Snapshot, group: &AffinityGroup) -> HashSet<HostId> {
    let members = group.members.iter().filter_map(|vm| now.vms.get(vm));
    members
        .filter_map(|vm| match (&vm.facts, &vm.record.planned) {
            (Some(facts), _) => Some(facts.host),
            (None, Some(planned)) => planned.host,
            (None, None) => None,
        })
        .collect()
}

fn keeps(group: Option<&AffinityGroup>, members: Option<&HashSet<HostId>>, host: HostId) -> bool {
    let (Some(group), Some(members)) = (group, members) else {
        return true;
    };
    match group.policy {
        AffinityPolicy::AntiAffinitySoft | AffinityPolicy::AntiAffinityHard => !members.contains(&host),
        AffinityPolicy::AffinitySoft | AffinityPolicy::AffinityHard => {
            members.is_empty() || members.contains(&host)
        }
    }
}

/// Why there is no host at all.
fn nowhere(now: &Snapshot, needs: &Needs<'_>) -> Error {
    let memory = needs.memory;
    let up = |host: &&Host| now.backend_up(&host.backend);
    let all = || now.hosts.values().map(AsRef::as_ref).filter(up);
    let unlucky = |image: &&&Image| !all().any(|host| has_images(&host.backend, &[image]));
    let text = match (needs.images.iter().find(unlucky), needs.images.first()) {
        (Some(image), _) => format!(
            "no backend that is up has image {} and a host with {memory} bytes of free memory",
            image.name
        ),
        (None, _) if !all().any(|host| wished(host, needs.wish)) => {
            "no host that is up is where the request wishes the vm to be".to_owned()
        }
        (None, Some(image)) => format!(
            "no backend that is up has image {} and a host with {memory} bytes of free memory",
            image.name
        ),
        (None, None) => format!("no backend that is up has a host with {memory} bytes of free memory"),
    };
    Error::new(ErrorKind::NoResources, text)
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
