//! Reading a host: its domains as facts, its pools and networks as topology.
//!
//! Everything here runs on a work connection's thread and asks only the libvirt daemon, never a guest.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use babelvisor_core::model::{
    BackendId, Host, HostId, Network, NetworkId, PoolId, PoolVolume, StoragePool, Topology, VmFacts,
};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::storage_vol::StorageVol;
use virt_sys as sys;

use crate::config::LibvirtConfig;
use crate::connection::CallError;
use crate::convert::{self, DiskVolume, Surroundings};
use crate::error::code;
use crate::ffi;
use crate::networks::address_ranges;
use crate::qos::PROBE;
use crate::quirks::Driver;
use crate::raw::{AddressSource, GuestInterface};
use crate::shared::{Shared, leased_addresses, volume_key};
use crate::xml::host::{HostCapabilities, NetworkXml, PoolXml};
use crate::xml::view::DiskXml;
use crate::xml::{DomainXml, Element};

/// How long the size of a volume is believed.
const VOLUME_AGE: Duration = Duration::from_secs(60);
/// How long it is believed that a path is no volume.
const NO_VOLUME_AGE: Duration = Duration::from_secs(5);

/// libvirt's error numbers that reading meets when an object vanished meanwhile.
pub(crate) const GONE: [u32; 4] = [42, 43, 49, 50];

/// What is learned of a host once per connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Which of libvirt's drivers it is.
    pub driver: Driver,
    /// The host's name.
    pub hostname: String,
    /// Canonical id of the host.
    pub host: HostId,
    /// What guests it can run.
    pub capabilities: HostCapabilities,
    /// Hypervisor and version in words.
    pub hypervisor: String,
}

/// Learns a host's profile.
pub(crate) fn profile(connection: &Connect, backend: &BackendId) -> Result<Profile, CallError> {
    let kind = connection.driver_type()?;
    let hostname = connection.hostname()?;
    let capabilities = HostCapabilities::parse(&connection.capabilities()?)?;
    let version = |number: u32| {
        format!(
            "{}.{}.{}",
            number / 1_000_000,
            number / 1000 % 1000,
            number % 1000
        )
    };
    let hypervisor = match (connection.hyp_version(), connection.lib_version()) {
        (Ok(hypervisor), Ok(library)) => {
            format!("{kind} {} (libvirt {})", version(hypervisor), version(library))
        }
        _ => kind.clone(),
    };
    let native = capabilities.uuid.clone().unwrap_or_else(|| hostname.clone());
    Ok(Profile {
        driver: Driver::from_type(&kind),
        host: HostId::computed(backend, &native),
        hostname,
        capabilities,
        hypervisor,
    })
}

/// The id of a libvirt network. Its name is its key: definitions of domains refer to it by name.
pub(crate) fn network_id(backend: &BackendId, name: &str) -> NetworkId {
    NetworkId::computed(backend, name)
}

/// The id of a storage pool, by its name.
pub(crate) fn pool_id(backend: &BackendId, name: &str) -> PoolId {
    PoolId::computed(backend, name)
}

/// Reads domains of one host. Cheap to clone into calls.
#[derive(Clone)]
pub(crate) struct Reader {
    /// The configured backend.
    pub backend: BackendId,
    /// The host's profile.
    pub profile: Arc<Profile>,
    /// What is remembered between reads.
    pub memory: Arc<Memory>,
}

/// What is remembered between reads: sizes of volumes, and what guest agents said.
#[derive(Default)]
pub(crate) struct Memory {
    volumes: Mutex<HashMap<String, (DiskVolume, Instant)>>,
    agents: Mutex<HashMap<Uuid, Vec<GuestInterface>>>,
    moves: Mutex<HashMap<Uuid, u64>>,
}

impl Memory {
    /// Notes that a call of ours has just changed a domain: readings that began before are old news.
    pub(crate) fn note_move(&self, domain: Uuid) {
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        let count = moves.entry(domain).or_default();
        *count = count.wrapping_add(1);
    }

    /// How often [`Memory::note_move`] was told of a domain.
    pub(crate) fn moves(&self, domain: Uuid) -> u64 {
        let moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        moves.get(&domain).copied().unwrap_or_default()
    }

    /// Forgets the volume behind a path: it was created, resized or deleted.
    pub(crate) fn forget_volume(&self, path: &str) {
        self.volumes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path);
    }

    /// Remembers or (with nothing) forgets what a guest's agent said of its addresses; says whether that is new.
    pub(crate) fn set_agent_addresses(&self, domain: Uuid, addresses: Option<Vec<GuestInterface>>) -> bool {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &addresses {
            Some(addresses) => agents.insert(domain, addresses.clone()),
            None => agents.remove(&domain),
        };
        before != addresses
    }

    fn agent_addresses(&self, domain: Uuid) -> Vec<GuestInterface> {
        self.agents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&domain)
            .cloned()
            .unwrap_or_default()
    }

    fn volume(&self, path: &str) -> Option<DiskVolume> {
        let volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        let (volume, at) = volumes.get(path)?;
        let age = if volume.volume.is_some() {
            VOLUME_AGE
        } else {
            NO_VOLUME_AGE
        };
        (at.elapsed() < age).then(|| volume.clone())
    }

    fn keep_volume(&self, path: &str, volume: DiskVolume) {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        // Now and then, not each time: a first list of a large host inserts thousands.
        if volumes.len().is_multiple_of(1024) {
            volumes.retain(|_, (_, at)| at.elapsed() < VOLUME_AGE);
        }
        volumes.insert(path.to_owned(), (volume, Instant::now()));
    }
}

/// Facts about many domains, fetched in a few calls.
#[derive(Default)]
struct Bulk {
    states: HashMap<Uuid, u32>,
    autostart: HashSet<Uuid>,
    saved: HashSet<Uuid>,
    transient: HashSet<Uuid>,
    shared: Arc<Shared>,
}

/// The definition with its passwords, and without them for everybody else.
pub(crate) fn definition(domain: &Domain) -> Result<(DomainXml, Arc<str>), CallError> {
    let text = match domain.xml_desc(sys::VIR_DOMAIN_XML_SECURE) {
        Ok(text) => text,
        // A connection without the right to see passwords still sees the rest.
        Err(error) if matches!(code(&error), 29 | 88) => domain.xml_desc(0)?,
        Err(error) => return Err(error.into()),
    };
    let mut root = Element::parse(&text)?;
    let xml = DomainXml::read(&root)?;
    if !text.contains("passwd") {
        return Ok((xml, text.into()));
    }
    if let Some(devices) = root.get_mut("devices") {
        for graphics in devices.elements_mut().filter(|e| e.name == "graphics") {
            graphics.unset("passwd");
        }
    }
    Ok((xml, root.to_xml()?.into()))
}

impl Reader {
    /// Facts of the domain with that UUID; `None` when there is none.
    pub(crate) fn get(&self, connection: &Connect, uuid: Uuid) -> Result<Option<VmFacts>, CallError> {
        let read = || {
            let domain = connection.lookup_domain_by_uuid(uuid)?;
            self.facts(connection, &domain, None)
        };
        match read() {
            Ok(facts) => Ok(Some(facts)),
            Err(CallError::Libvirt(error)) if GONE.contains(&code(&error)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Facts of all domains.
    pub(crate) fn list(&self, connection: &Connect) -> Result<Vec<VmFacts>, CallError> {
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        let shared = Arc::new(Shared::read(connection, self.profile.driver)?);
        // Active and inactive apart: one reply of libvirt carries at most 16,384 objects.
        for group in [
            sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE,
            sys::VIR_CONNECT_LIST_DOMAINS_INACTIVE,
        ] {
            let domains = connection.list_all_domains(group)?;
            if domains.is_empty() {
                continue;
            }
            let bulk = self.bulk(connection, group, Arc::clone(&shared))?;
            for domain in &domains {
                match self.facts(connection, domain, Some(&bulk)) {
                    Ok(facts) if seen.insert(facts.id) => all.push(facts),
                    Ok(_) => {}
                    Err(CallError::Libvirt(error)) if GONE.contains(&code(&error)) => {}
                    // One definition that cannot be read must not hide the others.
                    Err(CallError::Xml(error)) => {
                        tracing::warn!(backend = %self.backend, %error, "a domain's definition cannot be read");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(all)
    }

    fn bulk(&self, connection: &Connect, group: u32, shared: Arc<Shared>) -> Result<Bulk, CallError> {
        let mut bulk = Bulk {
            shared,
            ..Bulk::default()
        };
        if self.profile.driver.quirks().bulk_state {
            let active = group == sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE;
            let flag = if active {
                sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
            } else {
                sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE
            };
            // Where the driver cannot, each domain is asked for its state.
            if let Ok(records) = ffi::all_domain_stats(connection, sys::VIR_DOMAIN_STATS_STATE, flag) {
                bulk.states = records
                    .iter()
                    .filter_map(|r| Some((r.uuid, u32::try_from(r.unsigned("state.state")?).ok()?)))
                    .collect();
            }
        }
        let marked = |flag: u32| -> Result<HashSet<Uuid>, CallError> {
            let domains = connection.list_all_domains(group | flag)?;
            Ok(domains.iter().filter_map(|d| d.uuid().ok()).collect())
        };
        bulk.autostart = marked(sys::VIR_CONNECT_LIST_DOMAINS_AUTOSTART)?;
        bulk.saved = marked(sys::VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)?;
        bulk.transient = marked(sys::VIR_CONNECT_LIST_DOMAINS_TRANSIENT)?;
        Ok(bulk)
    }

    fn facts(
        &self,
        connection: &Connect,
        domain: &Domain,
        bulk: Option<&Bulk>,
    ) -> Result<VmFacts, CallError> {
        let uuid = domain.uuid()?;
        let (xml, text) = definition(domain)?;
        let state = match bulk.and_then(|b| b.states.get(&uuid)) {
            Some(state) => *state,
            None => ffi::domain_state(domain)?.0,
        };
        let (saved, persistent, autostart) = match bulk {
            Some(bulk) => (
                bulk.saved.contains(&uuid),
                !bulk.transient.contains(&uuid),
                bulk.autostart.contains(&uuid),
            ),
            None => {
                let persistent = domain.is_persistent()?;
                // Neither question is allowed about a transient domain.
                let saved = persistent && domain.has_managed_save(0).unwrap_or(false);
                (
                    saved,
                    persistent,
                    persistent && domain.autostart().unwrap_or(false),
                )
            }
        };
        let volumes = xml
            .disks
            .iter()
            .map(|disk| self.volume_of(connection, disk, bulk.map(|bulk| bulk.shared.as_ref())))
            .collect();
        let running = matches!(
            state,
            sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED | sys::VIR_DOMAIN_PAUSED
        );
        let leased = xml.interfaces.iter().any(|i| i.kind == "network");
        let mut addresses = Vec::new();
        if running && leased {
            addresses = match bulk.and_then(|bulk| bulk.shared.leases.as_ref()) {
                Some(leases) => leased_addresses(&xml, leases),
                None => ffi::interface_addresses(domain, AddressSource::Lease).unwrap_or_default(),
            };
        }
        if running && xml.agent_connected() {
            addresses.extend(self.memory.agent_addresses(uuid));
        }
        // A partial image of an interrupted save stays behind while the domain runs; it will not be restored.
        let saved = saved && !running;
        let around = Surroundings {
            state,
            saved,
            persistent,
            autostart,
            volumes,
            addresses,
            definition: Some(text),
        };
        Ok(convert::facts(&self.backend, self.profile.host, &xml, around))
    }

    fn volume_of(&self, connection: &Connect, disk: &DiskXml, shared: Option<&Shared>) -> DiskVolume {
        let key = match (&disk.source, &disk.pool, &disk.volume) {
            (_, Some(pool), Some(volume)) => volume_key(pool, volume),
            (Some(path), ..) if path.starts_with('/') => path.clone(),
            _ => return DiskVolume::default(),
        };
        if let Some(known) = self.memory.volume(&key) {
            return known;
        }
        let found = (|| {
            if let Some((place, volume)) = shared.and_then(|shared| shared.volumes.get(&key)) {
                return Ok(DiskVolume {
                    volume: Some(place.clone()),
                    capacity: volume.info()?.capacity,
                });
            }
            let volume = match (&disk.pool, &disk.volume) {
                (Some(pool), Some(name)) => connection
                    .lookup_storage_pool_by_name(pool)?
                    .lookup_storage_vol_by_name(name)?,
                _ => connection.lookup_storage_vol_by_path(&key)?,
            };
            disk_volume(&volume)
        })()
        .unwrap_or_default();
        self.memory.keep_volume(&key, found.clone());
        found
    }

    /// The host itself, its pools and its networks.
    pub(crate) fn topology(
        &self,
        connection: &Connect,
        config: &LibvirtConfig,
    ) -> Result<Topology, CallError> {
        let node = connection.node_info()?;
        let host = Host {
            id: self.profile.host,
            backend: self.backend.clone(),
            name: self.profile.hostname.clone(),
            address: config.console_address.clone(),
            cpus: node.cpus,
            memory: node.memory.saturating_mul(1024),
            // libvirt's figure counts the page cache as used, and its test driver's is made up: neither says what fits.
            memory_free: None,
            hypervisor: self.profile.hypervisor.clone(),
            cluster: config.cluster.clone(),
            zone: config.zone.clone(),
        };
        let mut pools = Vec::new();
        for pool in optional(connection.list_all_storage_pools(0))? {
            let Some(xml) = vanished(pool.xml_desc(0))? else {
                continue;
            };
            let xml = PoolXml::parse(&xml)?;
            pools.push(StoragePool {
                id: pool_id(&self.backend, &xml.name),
                backend: self.backend.clone(),
                kind: xml.kind,
                capacity: xml.capacity,
                available: xml.available,
                active: pool.is_active().unwrap_or(false),
                name: xml.name,
            });
        }
        let mut networks = Vec::new();
        for network in optional(connection.list_all_networks(0))? {
            let Some(xml) = vanished(network.xml_desc(0))? else {
                continue;
            };
            let xml = NetworkXml::parse(&xml)?;
            if xml.name.starts_with(PROBE) {
                continue;
            }
            networks.push(Network {
                id: network_id(&self.backend, &xml.name),
                backend: self.backend.clone(),
                ranges: address_ranges(&xml),
                bridge: xml.bridge,
                active: network.is_active().unwrap_or(false),
                name: xml.name,
            });
        }
        pools.sort_by(|a, b| a.name.cmp(&b.name));
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Topology {
            hosts: vec![host],
            pools,
            networks,
        })
    }
}

/// Pool, name and size of a volume.
pub(crate) fn disk_volume(volume: &StorageVol) -> Result<DiskVolume, virt::error::Error> {
    let pool = volume.lookup_storage_pool()?.name()?;
    let capacity = volume.info()?.capacity;
    Ok(DiskVolume {
        volume: Some(PoolVolume {
            pool,
            name: volume.name()?,
        }),
        capacity,
    })
}

/// A list that some drivers do not have: then it is empty.
pub(crate) fn optional<T>(list: Result<Vec<T>, virt::error::Error>) -> Result<Vec<T>, CallError> {
    match list {
        Err(error) if code(&error) == 3 => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// Something that may have vanished since it was listed.
fn vanished<T>(result: Result<T, virt::error::Error>) -> Result<Option<T>, CallError> {
    match result {
        Err(error) if GONE.contains(&code(&error)) => Ok(None),
        other => Ok(Some(other?)),
    }
}
