//! What a mutant tells of what happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use babelvisor_core::backend::{Backend as _, BackendEvent};
use babelvisor_core::model::{PowerState, VmFacts, VmId};
use babelvisor_memory::MemoryBackend;
use tokio::sync::mpsc;

use crate::fault::Fault;

/// Listens to the sound backend and tells on, with the fault.
pub(crate) async fn retell(sound: &Arc<MemoryBackend>, fault: Fault, out: mpsc::Sender<BackendEvent>) {
    let (inner_out, mut events) = mpsc::channel(4096);
    let inner = Arc::clone(sound);
    let listening = tokio::spawn(async move { inner.watch(inner_out).await });
    let mut before: BTreeMap<VmId, VmFacts> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = out.closed(), if fault != Fault::WatchNeverEnds => break,
        };
        let Some(event) = event else { break };
        let mut told = Vec::new();
        match (fault, event) {
            (Fault::NoResync, BackendEvent::Resync(all)) => {
                told.extend(
                    all.into_iter()
                        .map(|facts| BackendEvent::Changed(Box::new(facts))),
                );
            }
            (Fault::ResyncForgets, BackendEvent::Resync(all)) => {
                let up = all.into_iter().filter(|facts| facts.power != PowerState::Off);
                told.push(BackendEvent::Resync(up.collect()));
            }
            (Fault::WatchEndsEarly, event @ BackendEvent::Resync(_)) => {
                let _ = out.send(event).await;
                break;
            }
            (Fault::NoTopology, BackendEvent::Topology(_)) | (Fault::LosesGone, BackendEvent::Gone(_)) => {}
            (Fault::LosesPaused, BackendEvent::Changed(facts)) if facts.power == PowerState::Paused => {}
            (Fault::LosesEvents, BackendEvent::Changed(facts)) => {
                let off = facts.power == PowerState::Off;
                let was = before.insert(facts.id, VmFacts::clone(&facts));
                if !off || was.is_none() {
                    told.push(BackendEvent::Changed(facts));
                }
            }
            (Fault::LosesChanges, BackendEvent::Resync(all)) => {
                before.extend(all.iter().map(|facts| (facts.id, facts.clone())));
                told.push(BackendEvent::Resync(all));
            }
            (Fault::LosesChanges, BackendEvent::Changed(facts)) => {
                let was = before.insert(facts.id, VmFacts::clone(&facts));
                if was.is_none_or(|was| was.power != facts.power) {
                    told.push(BackendEvent::Changed(facts));
                }
            }
            (Fault::OldAfterNew, BackendEvent::Changed(facts)) => {
                let old = before.insert(facts.id, VmFacts::clone(&facts));
                told.push(BackendEvent::Changed(facts));
                told.extend(old.map(|old| BackendEvent::Changed(Box::new(old))));
            }
            (Fault::EventsAreThin, BackendEvent::Changed(mut facts)) => {
                facts.nics.clear();
                told.push(BackendEvent::Changed(facts));
            }
            (_, event) => told.push(event),
        }
        for event in told {
            if out.send(event).await.is_err() && fault != Fault::WatchNeverEnds {
                listening.abort();
                return;
            }
        }
    }
    listening.abort();
}
