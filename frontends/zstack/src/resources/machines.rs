//! What tables read of a machine, as its own inventory tells it.

use std::net::IpAddr;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{AddressRange, Nic, Vm};

use crate::vm::inventory::{CPU_SPEED, DEFAULT_NETWORK, range_of};
pub(crate) use crate::vm::inventory::{
    PLATFORMS, disk_volume, format_name, hypervisor, l3_network, last_change, platform, platform_of_image,
    root_disk, used_ip,
};
pub(crate) use crate::vm::state::{placed, state};

use super::offering::INSTANCE_ALLOCATOR;

/// CPU speed in MHz: as stated, else its offering's, else 0.
pub(super) fn cpu_speed(now: &Snapshot, vm: &Vm) -> u64 {
    let stated = vm
        .record
        .settings
        .get(CPU_SPEED)
        .and_then(|speed| speed.parse().ok());
    let flavor = vm.record.flavor.and_then(|id| now.entries.flavors.get(&id));
    stated.unwrap_or_else(|| flavor.map_or(0, |flavor| flavor.cpu_speed))
}

/// The strategy by which its host is chosen: its offering's.
pub(super) fn allocator<'w>(now: &'w Snapshot, vm: &Vm) -> &'w str {
    let flavor = vm.record.flavor.and_then(|id| now.entries.flavors.get(&id));
    let stated = flavor.map(|flavor| flavor.allocator.as_str());
    stated
        .filter(|name| !name.is_empty())
        .unwrap_or(INSTANCE_ALLOCATOR)
}

/// The uuid of its default network, where a client chose one.
pub(super) fn default_network(vm: &Vm) -> Option<&str> {
    vm.record.settings.get(DEFAULT_NETWORK).map(String::as_str)
}

/// The range of an interface's network that its address lies in.
pub(super) fn range<'w>(now: &'w Snapshot, nic: &Nic, address: Option<IpAddr>) -> Option<&'w AddressRange> {
    let network = nic.network.and_then(|id| now.networks.get(&id))?;
    range_of(network, address?)
}
