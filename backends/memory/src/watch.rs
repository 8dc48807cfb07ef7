//! Tells the gateway what changes: everything at first and after every gap, then each change in order.

use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::Error;
use babelvisor_core::backend::BackendEvent;
use babelvisor_core::model::{Topology, VmFacts};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::backend::Hypervisor;
use crate::world::Event;

/// Changes of free memory and space within this time are told as one.
const TOPOLOGY_PACE: Duration = Duration::from_millis(50);

/// The receiver has gone away.
struct Closed;

/// Sends events until `out` closes.
pub(crate) async fn watch(hypervisor: &Hypervisor, out: mpsc::Sender<BackendEvent>) {
    while one_connection(hypervisor, &out).await.is_ok() {}
}

/// Waits for the connection, tells everything, then follows the changes until the connection is lost or
/// changes were missed.
async fn one_connection(hypervisor: &Hypervisor, out: &mpsc::Sender<BackendEvent>) -> Result<(), Closed> {
    // Listened for before the look, so that no loss falls between the two.
    let lost = hypervisor.lost();
    tokio::pin!(lost);
    if let Some(reason) = hypervisor.down() {
        return outage(hypervisor, out, reason).await;
    }
    let (mut events, all, mut told) = {
        let world = hypervisor.world();
        let (events, all) = world.observe();
        (events, all, world.topology())
    };
    // Before the guests: whoever hears that the hypervisor is up may place something on it at once.
    tell(out, BackendEvent::Topology(told.clone())).await?;
    tell(
        out,
        BackendEvent::Resync(all.iter().map(|facts| VmFacts::clone(facts)).collect()),
    )
    .await?;
    drop(all);

    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = out.closed() => return Err(Closed),
            reason = &mut lost => return outage(hypervisor, out, reason).await,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                told = tell_topology(hypervisor, out, told).await?;
            }
            event = events.recv() => match event {
                Ok(Event::Changed(facts)) => tell(out, BackendEvent::Changed(Box::new(owned(facts)))).await?,
                Ok(Event::Gone(id)) => tell(out, BackendEvent::Gone(id)).await?,
                Ok(Event::Topology) => due = due.or_else(|| Some(Instant::now() + TOPOLOGY_PACE)),
                // A gap: the next connection tells everything again.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
            },
        }
    }
}

/// Tells of the loss, once, and waits until the connection is back.
async fn outage(
    hypervisor: &Hypervisor,
    out: &mpsc::Sender<BackendEvent>,
    reason: Error,
) -> Result<(), Closed> {
    tell(out, BackendEvent::Down(reason)).await?;
    tokio::select! {
        () = out.closed() => Err(Closed),
        () = hypervisor.found() => Ok(()),
    }
}

/// Tells the topology if it is not what was told last; hands back what is known now.
async fn tell_topology(
    hypervisor: &Hypervisor,
    out: &mpsc::Sender<BackendEvent>,
    told: Topology,
) -> Result<Topology, Closed> {
    let now = hypervisor.world().topology();
    if now != told {
        tell(out, BackendEvent::Topology(now.clone())).await?;
    }
    Ok(now)
}

async fn tell(out: &mpsc::Sender<BackendEvent>, event: BackendEvent) -> Result<(), Closed> {
    out.send(event).await.map_err(|_| Closed)
}

fn owned(facts: Arc<VmFacts>) -> VmFacts {
    Arc::unwrap_or_clone(facts)
}
