//! What the hypervisor is made of: hosts, pools, networks, guests; and the one way in which a change leaves
//! it: onto disk, into the events, to whoever waits for the guest. All of it is synchronous and under one
//! lock, so that events, file and answers agree about the order of changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use babelvisor_core::model::{
    AddressRange, BackendId, GuestSetup, NetworkId, NicId, NicSource, PoolId, PowerState, VmFacts, VmId,
    Volume,
};
use babelvisor_core::secret::{Sealed, Secret};
use babelvisor_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast, watch};

use crate::config::MemoryConfig;
use crate::convert::{Plan, native_key};
use crate::error;
use crate::hosts::{HostSlot, Pool, Ports, host};
use crate::restore::{stored_guest, stored_volume};
use crate::snapshots::Snapshots;
use crate::state_file::{Line, StateFile};

/// What guests of every network are given addresses of: all of them are one network, without a way out.
pub(crate) const LEASES: AddressRange = AddressRange {
    first: Ipv4Addr::new(10, 0, 0, 1),
    last: Ipv4Addr::new(10, 255, 255, 254),
    prefix: 8,
    gateway: None,
};

/// Events that a watcher may lag behind before it must read everything anew.
const EVENT_BACKLOG: usize = 4096;

/// The connection between gateway and hypervisor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// Why it is down, when it is.
    pub(crate) down: Option<String>,
    /// Counts the losses, so that a loss shows that was over before anybody looked.
    pub(crate) losses: u64,
}

/// A change, as watchers are told.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Changed(Arc<VmFacts>),
    Gone(VmId),
    /// Free memory or free space are not what they were.
    Topology,
}

/// What a guest is doing by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Transition {
    Booting,
    ShuttingDown,
}

/// A console password: in plain text while the process lives, sealed on disk.
pub(crate) struct Password {
    pub(crate) plain: Option<Secret>,
    pub(crate) sealed: Sealed,
}

/// A virtual machine.
pub(crate) struct Guest {
    pub(crate) facts: Arc<VmFacts>,
    pub(crate) title: Option<String>,
    pub(crate) ignores_acpi: bool,
    pub(crate) boots: u32,
    /// The address that each interface gets while the guest is up.
    pub(crate) leases: Vec<Option<Ipv4Addr>>,
    pub(crate) password: Option<Password>,
    pub(crate) transition: Option<Transition>,
    /// Grows with every change of power, so that an overtaken transition ends nothing.
    pub(crate) generation: u64,
    pub(crate) waiters: Option<Arc<Notify>>,
    pub(crate) snapshots: Snapshots,
}

/// What a volume is there for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    Blank,
    /// There from the start, or put there from outside.
    Given,
    Copy,
    /// Reads what it lacks from the volume with this native key.
    Layer {
        base: String,
    },
    /// First-boot set-up of a VM.
    Seed {
        vm: VmId,
        setup: Box<GuestSetup>,
    },
}

pub(crate) struct Disk {
    pub(crate) volume: Volume,
    pub(crate) origin: Origin,
    /// The VM that has it.
    pub(crate) attached: Option<VmId>,
    /// How many layers read from it.
    pub(crate) layers: usize,
}

/// The simulated hypervisor.
pub(crate) struct World {
    pub(crate) id: BackendId,
    pub(crate) hosts: Vec<HostSlot>,
    pub(crate) pools: BTreeMap<String, Pool>,
    pub(crate) networks: BTreeMap<String, NetworkId>,
    pub(crate) guests: BTreeMap<VmId, Guest>,
    names: HashMap<String, VmId>,
    pub(crate) disks: BTreeMap<String, Disk>,
    pub(crate) leases: HashSet<Ipv4Addr>,
    pub(crate) ports: Ports,
    /// Whether guests report addresses at all.
    pub(crate) reports_addresses: bool,
    file: Option<StateFile>,
    /// Why the state can no longer be kept: such a hypervisor is down.
    pub(crate) broken: Option<Error>,
    link: watch::Sender<Link>,
    events: broadcast::Sender<Event>,
    pub(crate) events_to_drop: u32,
}

impl World {
    /// A world as `config` describes it, or as its state file remembers it.
    pub(crate) fn new(
        id: &BackendId,
        config: &MemoryConfig,
        reports_addresses: bool,
        link: watch::Sender<Link>,
    ) -> Self {
        let mut world = Self {
            id: id.clone(),
            hosts: (1..=config.hosts.count)
                .map(|number| host(id, config, number))
                .collect(),
            pools: config
                .pools
                .iter()
                .map(|pool| {
                    let slot = Pool {
                        id: PoolId::computed(id, &pool.name),
                        capacity: pool.capacity,
                        used: 0,
                    };
                    (pool.name.clone(), slot)
                })
                .collect(),
            networks: config
                .networks
                .iter()
                .map(|name| (name.clone(), NetworkId::computed(id, name)))
                .collect(),
            guests: BTreeMap::new(),
            names: HashMap::new(),
            disks: BTreeMap::new(),
            leases: HashSet::new(),
            ports: Ports::new(),
            reports_addresses,
            file: None,
            broken: None,
            link,
            events: broadcast::Sender::new(EVENT_BACKLOG),
            events_to_drop: 0,
        };
        if let Err(error) = world.fill(config) {
            world
                .link
                .send_modify(|link| link.down = Some(error.detail.clone()));
            world.broken = Some(error);
        }
        world
    }

    fn fill(&mut self, config: &MemoryConfig) -> Result<()> {
        config.check()?;
        let mut held = None;
        if let Some(path) = &config.state_file {
            let (file, found) = StateFile::open(path, &self.id)?;
            self.file = Some(file);
            held = found;
        }
        if let Some(held) = held {
            self.remember(held);
        } else {
            let network = config.networks.first().map(String::as_str);
            for index in 0..config.vms {
                let plan = Plan::generated(&self.id, index, network);
                let id = self.add(plan, None)?;
                if index % 4 != 3 {
                    self.set_power(id, PowerState::Running);
                }
                self.keep_guest(id);
            }
        }
        for image in &config.images {
            if let Some(pool) = config.pool_of(image)
                && !self.disks.contains_key(&native_key(pool, &image.name))
            {
                self.add_volume(pool, &image.name, image.size, image.format, Origin::Given, None)?;
            }
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Adds a guest, off, on the host with the fewest. Nothing is kept or announced yet.
    pub(crate) fn add(&mut self, plan: Plan, password: Option<Password>) -> Result<VmId> {
        let id = plan.id;
        if self.guests.contains_key(&id) {
            return Err(error::taken("vm", &id.to_string()));
        }
        if self.names.contains_key(&plan.name) {
            return Err(error::taken("vm", &plan.name));
        }
        for nic in &plan.nics {
            if let NicSource::Network(name) = &nic.source
                && !self.networks.contains_key(name)
            {
                return Err(Error::not_found("network", name));
            }
        }
        let (vcpus, memory) = (plan.max_vcpus, plan.max_memory);
        let host = self
            .hosts
            .iter()
            .filter(|slot| plan.host.is_none_or(|host| host == slot.host.id))
            .filter(|slot| slot.host.cpus >= vcpus && slot.host.memory >= memory)
            .min_by_key(|slot| slot.guests)
            .map(|slot| slot.host.id)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NoResources,
                    format!("no host is as large as {vcpus} vcpus and {memory} bytes of memory"),
                )
            })?;
        let sources: Vec<bool> = plan
            .nics
            .iter()
            .map(|nic| match nic.source {
                NicSource::Network(_) | NicSource::Bridge(_) => true,
                NicSource::User => false,
            })
            .collect();
        let title = plan.title.clone();
        let facts = plan.into_facts(&self.id, host);
        let leases = facts
            .nics
            .iter()
            .zip(sources)
            .map(|(nic, leased)| if leased { self.lease(nic.id) } else { None })
            .collect();
        self.enter(Guest {
            facts: Arc::new(facts),
            title,
            ignores_acpi: false,
            boots: 0,
            leases,
            password,
            transition: None,
            generation: 0,
            waiters: None,
            snapshots: Snapshots::default(),
        });
        Ok(id)
    }

    /// Takes a guest in, with its name, its volumes and its place on a host.
    pub(crate) fn enter(&mut self, guest: Guest) {
        let facts = &guest.facts;
        if let Some(slot) = self.hosts.iter_mut().find(|slot| slot.host.id == facts.host) {
            slot.guests += 1;
        }
        for source in sources(facts) {
            if let Some(disk) = self.disks.get_mut(source) {
                // Who shares a volume, or has it as a medium, does not take it from who has it.
                disk.attached.get_or_insert(facts.id);
            }
        }
        self.names.insert(facts.name.clone(), facts.id);
        self.guests.insert(facts.id, guest);
    }

    /// Takes a guest away, up or not, and announces it. Its volumes stay.
    pub(crate) fn remove(&mut self, id: VmId) -> bool {
        self.set_power(id, PowerState::Off);
        let Some(guest) = self.guests.remove(&id) else {
            return false;
        };
        if let Some(waiters) = &guest.waiters {
            waiters.notify_waiters();
        }
        let facts = &guest.facts;
        self.names.remove(&facts.name);
        for lease in guest.leases.iter().flatten() {
            self.leases.remove(lease);
        }
        if let Some(slot) = self.hosts.iter_mut().find(|slot| slot.host.id == facts.host) {
            slot.guests = slot.guests.saturating_sub(1);
        }
        for source in sources(facts) {
            if let Some(disk) = self.disks.get_mut(source)
                && disk.attached == Some(id)
            {
                disk.attached = None;
            }
        }
        self.keep(|| Line::GuestGone { id });
        self.publish(Event::Gone(id));
        true
    }

    /// Renames a guest.
    pub(crate) fn rename(&mut self, id: VmId, name: &str) -> Result<()> {
        error::check_name("name", name)?;
        match self.names.get(name) {
            Some(holder) if *holder == id => return Ok(()),
            Some(_) => return Err(error::taken("vm", name)),
            None => {}
        }
        let guest = self
            .guests
            .get_mut(&id)
            .ok_or_else(|| Error::not_found("vm", id))?;
        let facts = Arc::make_mut(&mut guest.facts);
        let old = std::mem::replace(&mut facts.name, name.to_owned());
        facts.definition = Some(crate::convert::definition(facts, guest.title.as_deref()));
        self.names.remove(&old);
        self.names.insert(name.to_owned(), id);
        self.commit(id);
        Ok(())
    }

    /// An address of [`LEASES`] that depends on the interface, and on others only where two would collide.
    pub(crate) fn lease(&mut self, nic: NicId) -> Option<Ipv4Addr> {
        let [a, b, c, ..] = *nic.0.as_bytes();
        let start = u32::from_be_bytes([0, a, b, c]);
        (0..1_u32 << 24)
            .map(|step| Ipv4Addr::from((10 << 24) | (start.wrapping_add(step) & 0x00ff_ffff)))
            .filter(|address| !matches!(address.octets(), [.., 0 | 255]))
            .find(|address| self.leases.insert(*address))
    }

    /// A guest has changed: keeps it, announces it, wakes who waits for it.
    pub(crate) fn commit(&mut self, id: VmId) {
        self.keep_guest(id);
        if let Some(guest) = self.guests.get(&id) {
            if let Some(waiters) = &guest.waiters {
                waiters.notify_waiters();
            }
            let facts = Arc::clone(&guest.facts);
            self.publish(Event::Changed(facts));
        }
    }

    /// Writes a guest down without announcing it.
    pub(crate) fn keep_guest(&mut self, id: VmId) {
        if self.file.is_some()
            && let Some(stored) = self.guests.get(&id).map(stored_guest)
        {
            self.keep(|| Line::Guest(Box::new(stored)));
        }
    }

    /// Writes a line, if lines are written; a hypervisor that cannot keep its state goes down.
    pub(crate) fn keep(&mut self, line: impl FnOnce() -> Line) {
        let Some(file) = &mut self.file else { return };
        let mut written = file.append(&line());
        if file.wants_rewriting(self.guests.len() + self.disks.len()) {
            let volumes = self
                .disks
                .values()
                .map(|disk| Line::Volume(Box::new(stored_volume(disk))));
            let guests = self
                .guests
                .values()
                .map(|guest| Line::Guest(Box::new(stored_guest(guest))));
            written = written.and(file.rewrite(&self.id, volumes.chain(guests)));
        }
        if let Err(error) = written {
            tracing::error!(backend = %self.id, %error, "the simulated hypervisor cannot keep its state");
            self.link.send_modify(|link| {
                link.down = Some(error.detail.clone());
                link.losses += 1;
            });
            self.broken = Some(error);
        }
    }

    /// Tells the watchers.
    pub(crate) fn publish(&mut self, event: Event) {
        if self.events_to_drop > 0 && !matches!(event, Event::Topology) {
            self.events_to_drop -= 1;
            return;
        }
        // No receiver is no fault: nobody watches.
        let _ = self.events.send(event);
    }

    /// Everything as it is now, and every event after it.
    pub(crate) fn observe(&self) -> (broadcast::Receiver<Event>, Vec<Arc<VmFacts>>) {
        (self.events.subscribe(), self.all())
    }

    /// All guests, cheaply.
    pub(crate) fn all(&self) -> Vec<Arc<VmFacts>> {
        self.guests
            .values()
            .map(|guest| Arc::clone(&guest.facts))
            .collect()
    }
}

/// Whether a guest in this state holds memory, ports and addresses.
pub(crate) const fn is_up(power: PowerState) -> bool {
    match power {
        PowerState::Running
        | PowerState::Blocked
        | PowerState::Paused
        | PowerState::ShuttingDown
        | PowerState::Suspended => true,
        PowerState::NoState | PowerState::Off | PowerState::Crashed => false,
    }
}

/// The native keys of all volumes that a guest has.
fn sources(facts: &VmFacts) -> impl Iterator<Item = &str> {
    let disks = facts.disks.iter().map(|disk| disk.source.as_str());
    let media = facts
        .removable
        .iter()
        .filter_map(|medium| medium.source.as_deref());
    disks.chain(media)
}
