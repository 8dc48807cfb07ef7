//! From a host's events to the core's: what changed is read again, one call a domain.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use babelvisor_core::backend::BackendEvent;
use babelvisor_core::model::{AgentState, PowerState, VmFacts, VmId};
use babelvisor_core::{Error, ErrorKind};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{broadcast, mpsc};
use uuid::Uuid;

use crate::backend::LibvirtBackend;
use crate::connection::CallError;
use crate::connection::events::HostEvent;
use crate::ffi;
use crate::raw::{AddressSource, DomainChange, RawEvent};

/// How long reading one domain or the whole host may take.
const READ: Duration = Duration::from_secs(30);
/// How long a guest's agent may think about its addresses.
const AGENT: Duration = Duration::from_secs(10);
/// When a started guest is looked at again: a DHCP lease makes no event.
const LEASE_LOOKS: [u64; 6] = [2, 4, 8, 15, 30, 60];
/// Domains that are read at once.
const PARALLEL: usize = 4;
/// Pause after a failed reading of the whole host.
const RETRY: Duration = Duration::from_secs(1);

/// What has to be read again.
#[derive(Default)]
struct Dirty {
    everything: bool,
    topology: bool,
    domains: Vec<Uuid>,
    agents: Vec<Uuid>,
    down: Option<String>,
}

impl Dirty {
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
                    DomainChange::Agent { connected: true } => self.agents.push(uuid),
                    DomainChange::Lifecycle {
                        event: STARTED | RESUMED,
                        ..
                    } => later.start(uuid),
                    _ => {}
                }
                if !self.domains.contains(&uuid) {
                    self.domains.push(uuid);
                }
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
    let mut later = Later::default();
    // Whatever happened before we listened is covered by reading everything once.
    let mut dirty = Dirty::default();
    match backend.host().status() {
        status if status.is_up() => dirty.note(HostEvent::Up, &mut later),
        status => dirty.note(HostEvent::Down(status.reason()), &mut later),
    }
    loop {
        if settle(backend, std::mem::take(&mut dirty), &mut later, &out)
            .await
            .is_err()
        {
            return;
        }
        let wake = async {
            match later.next() {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = out.closed() => return,
            () = wake => dirty.domains = later.due(Instant::now()),
            event = events.recv() => take(event, &mut dirty, &mut later),
        }
        // What has piled up meanwhile is settled together.
        loop {
            match events.try_recv() {
                Ok(event) => dirty.note(event, &mut later),
                Err(broadcast::error::TryRecvError::Lagged(_)) => dirty.note(HostEvent::Up, &mut later),
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

/// The receiver has gone.
struct Closed;

async fn settle(
    backend: &LibvirtBackend,
    dirty: Dirty,
    later: &mut Later,
    out: &mpsc::Sender<BackendEvent>,
) -> Result<(), Closed> {
    if let Some(reason) = dirty.down {
        send(
            out,
            BackendEvent::Down(Error::new(ErrorKind::BackendUnavailable, reason)),
        )
        .await?;
    }
    if dirty.everything {
        backend.forget_profile();
        everything(backend, later, out).await?;
    }
    if dirty.topology {
        match backend.read_topology(Instant::now() + READ).await {
            Ok(topology) => send(out, BackendEvent::Topology(topology)).await?,
            Err(error) => {
                tracing::warn!(backend = %backend.name(), %error, "pools and networks cannot be read")
            }
        }
    }
    for uuid in dirty.agents {
        agent_addresses(backend, uuid).await;
    }
    let readings = stream::iter(dirty.domains)
        .map(|uuid| async move { (uuid, backend.read_domain(uuid, Instant::now() + READ).await) })
        .buffer_unordered(PARALLEL)
        .collect::<Vec<_>>()
        .await;
    for (uuid, reading) in readings {
        match reading {
            Ok(Some(facts)) => {
                if !matches!(facts.power, PowerState::Running | PowerState::Blocked) || complete(&facts) {
                    later.stop(uuid);
                }
                if facts.power == PowerState::Off {
                    backend.memory().set_agent_addresses(uuid, None);
                }
                send(out, BackendEvent::Changed(Box::new(facts))).await?;
            }
            Ok(None) => {
                later.stop(uuid);
                backend.memory().set_agent_addresses(uuid, None);
                send(out, BackendEvent::Gone(VmId(uuid))).await?;
            }
            Err(error) => {
                tracing::warn!(backend = %backend.name(), vm = %uuid, %error, "a changed domain cannot be read");
            }
        }
    }
    Ok(())
}

/// Whether every interface on a network has an address: then nothing more is awaited.
fn complete(facts: &VmFacts) -> bool {
    facts
        .nics
        .iter()
        .all(|nic| nic.network.is_none() || !nic.addresses.is_empty())
}

/// Reads all domains until it succeeds; a loss of the host ends the attempt, because an `Up` will follow.
async fn everything(
    backend: &LibvirtBackend,
    later: &mut Later,
    out: &mpsc::Sender<BackendEvent>,
) -> Result<(), Closed> {
    loop {
        match backend.read_all(Instant::now() + READ).await {
            Ok(all) => {
                for facts in &all {
                    let running = matches!(facts.power, PowerState::Running | PowerState::Blocked);
                    if running && facts.agent == AgentState::Connected {
                        agent_addresses(backend, facts.id.0).await;
                    }
                    if running && !complete(facts) {
                        later.start(facts.id.0);
                    }
                }
                return send(out, BackendEvent::Resync(all)).await;
            }
            Err(error) if !backend.host().status().is_up() => {
                tracing::debug!(backend = %backend.name(), %error, "the host went away while it was read");
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(backend = %backend.name(), %error, "the host cannot be read; it is tried again");
                let error = backend.error(error, "backend", backend.name());
                send(out, BackendEvent::Down(error)).await?;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Asks a guest's agent for its addresses; what it says is merged into the next reading.
async fn agent_addresses(backend: &LibvirtBackend, uuid: Uuid) {
    let asked = backend
        .host()
        .slow(Instant::now() + AGENT, move |connection| {
            let domain = connection.lookup_domain_by_uuid(uuid).map_err(CallError::from)?;
            Ok(ffi::interface_addresses(&domain, AddressSource::Agent)?)
        })
        .await;
    match asked {
        Ok(interfaces) => backend.memory().set_agent_addresses(uuid, Some(interfaces)),
        Err(error) => tracing::debug!(vm = %uuid, %error, "the guest agent gives no addresses"),
    }
}

async fn send(out: &mpsc::Sender<BackendEvent>, event: BackendEvent) -> Result<(), Closed> {
    out.send(event).await.map_err(|_| Closed)
}
