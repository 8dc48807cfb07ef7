//! Hosts, display ports, pools, and the topology that is made of them.

use std::collections::BTreeSet;

use babelvisor_core::model::{BackendId, Host, HostId, Network, PoolId, StoragePool, Topology};

use crate::config::MemoryConfig;
use crate::world::World;

pub(crate) struct HostSlot {
    pub(crate) host: Host,
    pub(crate) guests: usize,
    /// Memory of guests that are up.
    pub(crate) used: u64,
}

pub(crate) struct Pool {
    pub(crate) id: PoolId,
    pub(crate) capacity: u64,
    pub(crate) used: u64,
}

/// The display ports; the lowest free one is given out. All hosts have the same address, so they share them.
pub(crate) struct Ports {
    returned: BTreeSet<u16>,
    next: Option<u16>,
}

impl Ports {
    const FIRST: u16 = 5900;

    pub(crate) fn new() -> Self {
        Self {
            returned: BTreeSet::new(),
            next: Some(Self::FIRST),
        }
    }

    pub(crate) fn take(&mut self) -> Option<u16> {
        self.returned.pop_first().or_else(|| {
            let port = self.next?;
            self.next = port.checked_add(1);
            Some(port)
        })
    }

    pub(crate) fn give_back(&mut self, port: u16) {
        self.returned.insert(port);
    }

    /// Marks a port as taken that a guest has kept over a restart.
    pub(crate) fn keep(&mut self, port: u16) {
        while self.next.is_some_and(|next| next <= port) {
            if let Some(passed) = self.next {
                self.returned.insert(passed);
                self.next = passed.checked_add(1);
            }
        }
        self.returned.remove(&port);
    }
}

impl World {
    /// Hosts, pools and networks as they are now.
    pub(crate) fn topology(&self) -> Topology {
        Topology {
            hosts: self
                .hosts
                .iter()
                .map(|slot| Host {
                    memory_free: Some(slot.host.memory.saturating_sub(slot.used)),
                    ..slot.host.clone()
                })
                .collect(),
            pools: self
                .pools
                .iter()
                .map(|(name, pool)| StoragePool {
                    id: pool.id,
                    backend: self.id.clone(),
                    name: name.clone(),
                    kind: "memory".to_owned(),
                    capacity: pool.capacity,
                    available: pool.capacity.saturating_sub(pool.used),
                    active: true,
                })
                .collect(),
            networks: self
                .networks
                .iter()
                .map(|(name, id)| Network {
                    id: *id,
                    backend: self.id.clone(),
                    name: name.clone(),
                    bridge: None,
                    active: true,
                    ranges: vec![crate::world::LEASES],
                })
                .collect(),
        }
    }
}

/// Host number `number` of a config, counted from 1.
pub(crate) fn host(id: &BackendId, config: &MemoryConfig, number: u32) -> HostSlot {
    let name = format!("host-{number}");
    HostSlot {
        host: Host {
            id: HostId::computed(id, &name),
            backend: id.clone(),
            name,
            address: Some(config.hosts.address.clone()),
            cpus: config.hosts.cpus,
            memory: config.hosts.memory,
            memory_free: None,
            hypervisor: concat!("Babelvisor memory ", env!("CARGO_PKG_VERSION")).to_owned(),
            cluster: config.cluster.clone(),
            zone: config.zone.clone(),
        },
        guests: 0,
        used: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_port_is_given_out() {
        let mut ports = Ports::new();
        ports.keep(5902);
        assert_eq!(ports.take(), Some(5900));
        assert_eq!(ports.take(), Some(5901));
        assert_eq!(ports.take(), Some(5903));
        ports.give_back(5901);
        assert_eq!(ports.take(), Some(5901));
        ports.keep(u16::MAX);
        assert_eq!(ports.take(), Some(5904));
    }
}
