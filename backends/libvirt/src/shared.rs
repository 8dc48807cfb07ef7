//! What all domains of a list have in common: the host's volumes and leases, asked for once instead of once a domain.

use std::collections::HashMap;

use babelvisor_core::model::PoolVolume;
use virt::connect::Connect;
use virt::storage_vol::StorageVol;
use virt_sys as sys;

use crate::connection::CallError;
use crate::ffi;
use crate::quirks::Driver;
use crate::raw::GuestInterface;
use crate::read::optional;
use crate::xml::DomainXml;

/// What all domains of a list may refer to, so that not each of them has to ask for it.
#[derive(Default)]
pub(crate) struct Shared {
    /// Volumes by path, and by pool and name as disks refer to them.
    pub volumes: HashMap<String, (PoolVolume, StorageVol)>,
    /// Addresses by MAC address; none where each domain has to be asked.
    pub leases: Option<HashMap<String, Vec<(String, u32)>>>,
}

impl Shared {
    /// Asks the host once.
    pub(crate) fn read(connection: &Connect, driver: Driver) -> Result<Shared, CallError> {
        let mut shared = Shared::default();
        for pool in optional(connection.list_all_storage_pools(sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE))? {
            // A pool with more volumes than one reply carries is asked for each by itself.
            let (Ok(name), Ok(volumes)) = (pool.name(), pool.list_all_volumes(0)) else {
                continue;
            };
            for volume in volumes {
                let (Ok(own), Ok(key)) = (volume.name(), volume.key()) else {
                    continue;
                };
                let place = PoolVolume {
                    pool: name.clone(),
                    name: own,
                };
                shared.volumes.insert(
                    volume_key(&place.pool, &place.name),
                    (place.clone(), volume.clone()),
                );
                // Of files the key is the path; what else it may be is no disk's source.
                shared.volumes.insert(key, (place, volume));
            }
        }
        if driver == Driver::Qemu {
            shared.leases = leases(connection);
        }
        Ok(shared)
    }
}

/// All addresses that the host's networks have given away; none if one of them does not say.
fn leases(connection: &Connect) -> Option<HashMap<String, Vec<(String, u32)>>> {
    let mut all: HashMap<String, Vec<(String, u32)>> = HashMap::new();
    let active = sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE;
    for network in connection.list_all_networks(active).ok()? {
        for lease in ffi::network_leases(&network).ok()? {
            all.entry(lease.mac)
                .or_default()
                .push((lease.address, lease.prefix));
        }
    }
    Some(all)
}

/// The addresses of a domain among those of all.
pub(crate) fn leased_addresses(
    xml: &DomainXml,
    leases: &HashMap<String, Vec<(String, u32)>>,
) -> Vec<GuestInterface> {
    let interfaces = xml.interfaces.iter().filter(|nic| nic.kind == "network");
    let found = interfaces.filter_map(|nic| {
        let mac = nic.mac.as_ref()?;
        Some(GuestInterface {
            name: nic.target.clone().unwrap_or_default(),
            mac: Some(mac.clone()),
            addresses: leases.get(mac)?.clone(),
        })
    });
    found.collect()
}

/// The key of a volume that a disk names by its pool.
pub(crate) fn volume_key(pool: &str, name: &str) -> String {
    format!("{pool}\u{0}{name}")
}
