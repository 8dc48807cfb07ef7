//! Whether several guests fit at once. The core places them one by one; this looks ahead, so that a call for five
//! guests of which four fit makes none.
//!
//! It counts whole sizes: memory against what each host has free, disks against what the pools have. A thin disk
//! may need less, but a promise that is kept only if nobody fills the disks is none.

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::layers::Core;
use babelvisor_core::model::{BackendId, Image};
use babelvisor_core::{Error, ErrorKind};

use crate::error::Fault;

/// Refuses `quantity` guests of this size if the backend that the core would choose cannot take them all.
pub(crate) fn check(
    core: &Core,
    now: &Snapshot,
    image: &Image,
    quantity: u32,
    memory: u64,
    disk: u64,
) -> Result<(), Fault> {
    let up = image
        .locations
        .iter()
        .map(|location| &location.backend)
        .filter(|backend| now.backend_up(backend) && core.backends().contains_key(*backend));
    let most_free = |backend: &BackendId| free_memory(now, backend).max().unwrap_or(0);
    let chosen = up.max_by_key(|backend| most_free(backend));
    let fit = chosen.map_or(0, |backend| {
        let hosts: u64 = free_memory(now, backend).map(|free| free / memory.max(1)).sum();
        let pools = now
            .pools
            .values()
            .filter(|pool| pool.backend == *backend && pool.active);
        let disks: u64 = match disk.max(image.size) {
            0 => u64::MAX,
            size => pools.map(|pool| pool.available / size).sum(),
        };
        hosts.min(disks)
    });
    if fit >= u64::from(quantity) {
        Ok(())
    } else {
        let text = format!("{quantity} guests are asked for and {fit} fit; none was made");
        Err(Error::new(ErrorKind::NoResources, text).into())
    }
}

fn free_memory<'a>(now: &'a Snapshot, backend: &'a BackendId) -> impl Iterator<Item = u64> + 'a {
    let hosts = now.hosts.values().filter(move |host| host.backend == *backend);
    hosts.map(|host| host.memory_free.unwrap_or(host.memory))
}
