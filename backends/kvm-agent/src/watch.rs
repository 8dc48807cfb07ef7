//! Tells the gateway what the agent's reports, and the tasks that ended, have changed.

use std::collections::BTreeMap;
use std::time::Duration;

use babelvisor_core::backend::BackendEvent;
use babelvisor_core::model::{Timestamp, Topology, VmFacts};
use tokio::sync::mpsc;

use crate::backend::KvmAgentBackend;
use crate::convert::View;

/// How often is looked without news: the agent may have fallen silent, and the store may have been out of reach.
const LOOK: Duration = Duration::from_secs(2);

/// The receiver has gone away.
struct Closed;

/// What was told last.
enum Told {
    Nothing,
    Down,
    Up {
        machines: BTreeMap<String, VmFacts>,
        topology: Topology,
    },
}

/// Sends events until `out` closes.
pub(crate) async fn watch(backend: &KvmAgentBackend, out: mpsc::Sender<BackendEvent>) {
    let mut changes = backend.mailbox().changes();
    let mut told = Told::Nothing;
    loop {
        changes.mark_unchanged();
        match tell(backend, &out, told).await {
            Ok(now) => told = now,
            Err(Closed) => return,
        }
        tokio::select! {
            () = out.closed() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK.min(backend.config().lost_after())) => {}
        }
    }
}

async fn tell(
    backend: &KvmAgentBackend,
    out: &mpsc::Sender<BackendEvent>,
    told: Told,
) -> Result<Told, Closed> {
    let view = match backend.view(Timestamp::now()).await {
        Ok(view) => view,
        Err(reason) => {
            if !matches!(told, Told::Down) {
                send(out, BackendEvent::Down(reason)).await?;
            }
            return Ok(Told::Down);
        }
    };
    let View {
        machines, topology, ..
    } = view;
    let machines: BTreeMap<String, VmFacts> = machines
        .into_iter()
        .map(|(name, machine)| (name, machine.facts))
        .collect();
    match told {
        Told::Nothing | Told::Down => {
            // Before the machines: whoever hears that the host is up may place something on it at once.
            send(out, BackendEvent::Topology(topology.clone())).await?;
            send(out, BackendEvent::Resync(machines.values().cloned().collect())).await?;
        }
        Told::Up {
            machines: before,
            topology: known,
        } => {
            if known != topology {
                send(out, BackendEvent::Topology(topology.clone())).await?;
            }
            for (name, facts) in &before {
                if !machines.contains_key(name) {
                    send(out, BackendEvent::Gone(facts.id)).await?;
                }
            }
            for (name, facts) in &machines {
                if before.get(name) != Some(facts) {
                    send(out, BackendEvent::Changed(Box::new(facts.clone()))).await?;
                }
            }
        }
    }
    Ok(Told::Up { machines, topology })
}

async fn send(out: &mpsc::Sender<BackendEvent>, event: BackendEvent) -> Result<(), Closed> {
    out.send(event).await.map_err(|_| Closed)
}
