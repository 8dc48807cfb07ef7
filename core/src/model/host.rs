//! Where VMs live: hosts, pools and networks, as their backends report them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{BackendId, ClusterId, HostId, NetworkId, PoolId, ZoneId};

/// A hypervisor host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Computed.
    pub id: HostId,
    /// The backend that has it.
    pub backend: BackendId,
    /// Host name.
    pub name: String,
    /// Address that clients reach consoles at, if configured or known.
    #[serde(default)]
    pub address: Option<String>,
    /// CPU threads.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Free memory in bytes, when it can be had.
    #[serde(default)]
    pub memory_free: Option<u64>,
    /// Hypervisor and version in words.
    pub hypervisor: String,
    /// The cluster's configured name.
    pub cluster: String,
    /// The zone's configured name.
    pub zone: String,
}

impl Host {
    /// The id of its zone: computed from the zone's name, so that every dialect and gateway has the same.
    pub fn zone_id(&self) -> ZoneId {
        ZoneId::computed(&BackendId::new("topology"), &self.zone)
    }

    /// The id of its cluster: computed from the names of zone and cluster.
    pub fn cluster_id(&self) -> ClusterId {
        let path = format!("{}\u{0}{}", self.zone, self.cluster);
        ClusterId::computed(&BackendId::new("topology"), &path)
    }
}

/// A storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoragePool {
    /// Computed.
    pub id: PoolId,
    /// The backend that has it.
    pub backend: BackendId,
    /// The backend's name of it.
    pub name: String,
    /// `dir`, `lvm`, `rbd` …
    pub kind: String,
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes free.
    pub available: u64,
    /// Whether it can be used now.
    pub active: bool,
}

/// A network that VMs can be attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Computed.
    pub id: NetworkId,
    /// The backend that has it.
    pub backend: BackendId,
    /// The backend's name of it.
    pub name: String,
    /// The bridge behind it, if known.
    #[serde(default)]
    pub bridge: Option<String>,
    /// Whether it can be used now.
    pub active: bool,
    /// The addresses that it gives to its guests, as far as its backend says.
    #[serde(default)]
    pub ranges: Vec<AddressRange>,
}

/// IPv4 addresses that a network gives to its guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// The first one.
    pub first: Ipv4Addr,
    /// The last one, included.
    pub last: Ipv4Addr,
    /// How many bits of an address name the network.
    pub prefix: u8,
    /// Where guests send what is not for their own network.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
}

impl AddressRange {
    /// The netmask: its first `prefix` bits are set.
    pub fn netmask(&self) -> Ipv4Addr {
        let bits = u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix.into()));
        Ipv4Addr::from_bits(bits.unwrap_or(0))
    }

    /// The network's own address: `first` without the bits of the guest.
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() & self.netmask().to_bits())
    }
}

/// Everything around the VMs that one backend has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Topology {
    /// Hosts.
    pub hosts: Vec<Host>,
    /// Pools.
    pub pools: Vec<StoragePool>,
    /// Networks.
    pub networks: Vec<Network>,
}
