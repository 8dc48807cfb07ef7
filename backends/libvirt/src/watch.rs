//! From a host's events to the core's: what changed is read again, one call a domain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::BackendEvent;
use babelvisor_core::model::{AgentState, PowerState, VmFacts, VmId};
use babelvisor_core::{Error, ErrorKind};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{Semaphore, broadcast, mpsc};
use uuid::Uuid;

use crate::backend::LibvirtBackend;
use crate::connection::events::HostEvent;
use crate::connection::{CallError, Host};
use crate::ffi;
use crate::raw::{AddressSource, DomainChange, RawEvent};
use crate::read::Memory;

/// How long reading one domain or the whole host may take.
const READ: Duration = Duration::from_secs(30);
/// How long a guest's agent may think about its addresses.
const AGENT: Duration = Duration::from_secs(10);
/// When a started guest is looked at again: a DHCP lease makes no event.
const LEASE_LOOKS: [u64; 13] = [1, 2, 4, 6, 8, 11, 15, 20, 30, 45, 60, 120, 300];
/// Guests' agents that are asked at once: a few that hang must not use up the slow lane.
const AGENTS: usize = 2;
/// On a large host reading everything takes seconds, during which events wait: at most this part of the time.
const RECONCILE_SHARE: u32 = 50;
/// Domains that are read at once.
const PARALLEL: usize = 4;
/// Pause after a failed reading of the whole host.
const RETRY: Duration = Duration::from_secs(1);

/// What has to be read again.
#[derive(Default)]
struct Dirty {
    everything: bool,
    topology: bool,
    domains: BTreeSet<Uuid>,
    /// Those of `domains` that nothing happened to: addresses are awaited.
    looks: Vec<Uuid>,
    agents: Vec<Uuid>,
    down: Option<String>,
}

impl Dirty {
    fn look_again(&mut self, due: Vec<Uuid>) {
        self.domains.extend(&due);
        self.looks = due;
    }

    fn note(&mut self, event: HostEvent, later: &mut Later) {
        match event {
            HostEvent::Up => {
                *self = Dirty {
                    everything: true,
                    topology: true,
                    ..Dirty::default()
                };
            }
            HostEvent::Down(reason) => {
                *self = Dirty {
                    down: Some(reason),
                    ..Dirty::default()
                }
            }
            HostEvent::Raw(RawEvent::Domain { uuid, change, .. }) => {
                match change {
                    DomainChange::Agent { connected: true } => {
                        self.agents.push(uuid);
                        later.start(uuid);
                    }
                    DomainChange::Lifecycle {
                        event: STARTED | RESUMED,
                        ..
                    } => later.start(uuid),
                    _ => {}
                }
                self.domains.insert(uuid);
            }
            HostEvent::Raw(RawEvent::Pool { .. } | RawEvent::Network { .. }) => self.topology = true,
            HostEvent::Raw(RawEvent::Closed(_)) => {}
        }
    }
}

const STARTED: i32 = virt_sys::VIR_DOMAIN_EVENT_STARTED as i32;
const RESUMED: i32 = virt_sys::VIR_DOMAIN_EVENT_RESUMED as i32;

/// Domains to be looked at again, by time.
#[derive(Default)]
struct Later(BTreeMap<(Instant, Uuid), ()>);

impl Later {
    fn start(&mut self, uuid: Uuid) {
        let now = Instant::now();
        self.0.retain(|(_, other), ()| *other != uuid);
        self.0.extend(
            LEASE_LOOKS
                .iter()
                .map(|s| ((now + Duration::from_secs(*s), uuid), ())),
        );
    }

    fn stop(&mut self, uuid: Uuid) {
        self.0.retain(|(_, other), ()| *other != uuid);
    }

    fn next(&self) -> Option<Instant> {
        self.0.keys().next().map(|(at, _)| *at)
    }

    fn due(&mut self, now: Instant) -> Vec<Uuid> {
        let mut due = Vec::new();
        while let Some(((at, uuid), ())) = self.0.first_key_value().map(|(k, v)| (*k, *v)) {
            if at > now {
                break;
            }
            self.0.remove(&(at, uuid));
            due.push(uuid);
        }
        due
    }
}

/// Runs until `out` closes.
pub(crate) async fn run(backend: &LibvirtBackend, out: mpsc::Sender<BackendEvent>) {
    let mut events = backend.host().subscribe();
    let (agents, mut answered) = Agents::new(backend);
    let mut watch = Watch {
        backend,
        out,
        later: Later::default(),
        agents,
        reconcile_at: Instant::now() + backend.reconcile_every(),
    };
    // Whatever happened before we listened is covered by reading everything once.
    let mut dirty = Dirty::default();
    match backend.host().status() {
        status if status.is_up() => dirty.note(HostEvent::Up, &mut watch.later),
        status => dirty.note(HostEvent::Down(status.reason()), &mut watch.later),
    }
    loop {
        if watch.settle(std::mem::take(&mut dirty)).await.is_err() {
            return;
        }
        let next = watch.later.next();
        let wake = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = watch.out.closed() => return,
            () = wake => dirty.look_again(watch.later.due(Instant::now())),
            () = tokio::time::sleep_until(watch.reconcile_at.into()) => watch.reconcile(&mut dirty),
            Some(uuid) = answered.recv() => {
                dirty.domains.insert(uuid);
            }
            event = events.recv() => take(event, &mut dirty, &mut watch.later),
        }
        // What has piled up meanwhile is settled together.
        loop {
            match events.try_recv() {
                Ok(event) => dirty.note(event, &mut watch.later),
                Err(broadcast::error::TryRecvError::Lagged(_)) => dirty.note(HostEvent::Up, &mut watch.later),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => break,
            }
        }
    }
}

fn take(event: Result<HostEvent, broadcast::error::RecvError>, dirty: &mut Dirty, later: &mut Later) {
    match event {
        Ok(event) => dirty.note(event, later),
        // Some events were lost: only reading everything helps.
        Err(broadcast::error::RecvError::Lagged(_)) => dirty.note(HostEvent::Up, later),
        Err(broadcast::error::RecvError::Closed) => {}
    }
}

/// Asks guests' agents for addresses in the background, because an agent may take its time or hang.
struct Agents {
    host: Host,
    memory: Arc<Memory>,
    permits: Arc<Semaphore>,
    answered: mpsc::UnboundedSender<Uuid>,
}

impl Agents {
    fn new(backend: &LibvirtBackend) -> (Agents, mpsc::UnboundedReceiver<Uuid>) {
        let (answered, inbox) = mpsc::unbounded_channel();
        let agents = Agents {
            host: backend.host().clone(),
            memory: backend.memory(),
            permits: Arc::new(Semaphore::new(AGENTS)),
            answered,
        };
        (agents, inbox)
    }

    /// Asks one agent; a new answer makes its domain be read again.
    fn ask(&self, uuid: Uuid) {
        let (host, memory) = (self.host.clone(), Arc::clone(&self.memory));
        let (permits, answered) = (Arc::clone(&self.permits), self.answered.clone());
        tokio::spawn(async move {
            let Ok(_permit) = permits.acquire().await else {
                return;
            };
            let asked = host
                .slow(Instant::now() + AGENT, move |connection| {
                    let domain = connection.lookup_domain_by_uuid(uuid)?;
                    Ok(ffi::interface_addresses(&domain, AddressSource::Agent)?)
                })
                .await;
            match asked {
                Ok(interfaces) => {
                    if memory.set_agent_addresses(uuid, Some(interfaces)) {
                        // The watch may have ended meanwhile.
                        let _ = answered.send(uuid);
                    }
                }
                Err(error) => tracing::debug!(vm = %uuid, %error, "the guest agent gives no addresses"),
            }
        });
    }
}

/// The receiver has gone.
struct Closed;

struct Watch<'a> {
    backend: &'a LibvirtBackend,
    out: mpsc::Sender<BackendEvent>,
    later: Later,
    agents: Agents,
    reconcile_at: Instant,
}

impl Watch<'_> {
    fn reconcile(&mut self, dirty: &mut Dirty) {
        self.reconcile_at = Instant::now() + self.backend.reconcile_every();
        if self.backend.host().status().is_up() {
            dirty.everything = true;
            dirty.topology = true;
        }
    }

    async fn settle(&mut self, dirty: Dirty) -> Result<(), Closed> {
        let backend = self.backend;
        if let Some(reason) = dirty.down {
            self.send(BackendEvent::Down(Error::new(
                ErrorKind::BackendUnavailable,
                reason,
            )))
            .await?;
        }
        if dirty.everything {
            backend.forget_profile();
        }
        // Before the domains: whoever hears that the host is up may place something on it at once.
        if dirty.topology {
            match backend.read_topology(Instant::now() + READ).await {
                Ok(topology) => self.send(BackendEvent::Topology(topology)).await?,
                Err(error) => {
                    tracing::warn!(backend = %backend.name(), %error, "pools and networks cannot be read");
                }
            }
        }
        if dirty.everything {
            self.everything().await?;
        }
        for uuid in dirty.agents {
            self.agents.ask(uuid);
        }
        let memory = backend.memory();
        let memory = &memory;
        let readings = stream::iter(dirty.domains)
            .map(|uuid| async move {
                let moves = memory.moves(uuid);
                (
                    uuid,
                    moves,
                    backend.read_domain(uuid, Instant::now() + READ).await,
                )
            })
            .buffer_unordered(PARALLEL)
            .collect::<Vec<_>>()
            .await;
        for (uuid, mut moves, mut reading) in readings {
            // A call of ours that ended meanwhile is newer than this reading, and whoever waited for it has been told: the
            // old state must not come after.
            while memory.moves(uuid) != moves {
                moves = memory.moves(uuid);
                reading = backend.read_domain(uuid, Instant::now() + READ).await;
            }
            self.changed(uuid, reading, dirty.looks.contains(&uuid)).await?;
        }
        Ok(())
    }

    async fn changed(
        &mut self,
        uuid: Uuid,
        reading: Result<Option<VmFacts>, CallError>,
        look: bool,
    ) -> Result<(), Closed> {
        match reading {
            Ok(Some(facts)) => {
                if !running(&facts) {
                    self.later.stop(uuid);
                    if facts.power == PowerState::Off {
                        self.agents.memory.set_agent_addresses(uuid, None);
                    }
                } else if complete(&facts) {
                    self.later.stop(uuid);
                } else if look && facts.agent == AgentState::Connected {
                    self.agents.ask(uuid);
                }
                self.send(BackendEvent::Changed(Box::new(facts))).await
            }
            Ok(None) => {
                self.later.stop(uuid);
                self.agents.memory.set_agent_addresses(uuid, None);
                self.send(BackendEvent::Gone(VmId(uuid))).await
            }
            Err(error) => {
                tracing::warn!(backend = %self.backend.name(), vm = %uuid, %error,
                    "a changed domain cannot be read; it is tried again");
                self.later.start(uuid);
                Ok(())
            }
        }
    }

    /// Reads all domains until it succeeds; a loss of the host ends the attempt, because an `Up` will follow.
    async fn everything(&mut self) -> Result<(), Closed> {
        let backend = self.backend;
        loop {
            let begun = Instant::now();
            match backend.read_all(begun + READ).await {
                Ok(all) => {
                    self.reconcile_at = Instant::now()
                        + self
                            .backend
                            .reconcile_every()
                            .max(begun.elapsed() * RECONCILE_SHARE);
                    for facts in all.iter().filter(|facts| running(facts) && !complete(facts)) {
                        self.later.start(facts.id.0);
                        if facts.agent == AgentState::Connected {
                            self.agents.ask(facts.id.0);
                        }
                    }
                    return self.send(BackendEvent::Resync(all)).await;
                }
                Err(error) if !backend.host().status().is_up() => {
                    tracing::debug!(backend = %backend.name(), %error, "the host went away while it was read");
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(backend = %backend.name(), %error, "the host cannot be read; it is tried again");
                    let error = backend.error(error, "backend", backend.name());
                    self.send(BackendEvent::Down(error)).await?;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn send(&self, event: BackendEvent) -> Result<(), Closed> {
        self.out.send(event).await.map_err(|_| Closed)
    }
}

fn running(facts: &VmFacts) -> bool {
    matches!(facts.power, PowerState::Running | PowerState::Blocked)
}

/// Whether every interface has an address: then nothing more is awaited.
fn complete(facts: &VmFacts) -> bool {
    facts.nics.iter().all(|nic| !nic.addresses.is_empty())
}
