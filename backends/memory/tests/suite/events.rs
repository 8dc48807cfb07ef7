//! What watchers are told.

use std::time::Duration;

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::{Backend as _, BackendEvent};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmId};
use babelvisor_core::secret::Secret;
use babelvisor_memory::ForeignVm;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::bench::{Bench, GIB, blank};

/// A watcher; topology is set aside unless asked for.
struct Watcher {
    events: mpsc::Receiver<BackendEvent>,
}

impl Watcher {
    fn on(bench: &Bench, room: usize) -> Self {
        let (out, events) = mpsc::channel(room);
        let backend = bench.backend.clone();
        tokio::spawn(async move { backend.watch(out).await });
        Self { events }
    }

    async fn any(&mut self) -> BackendEvent {
        timeout(Duration::from_secs(10), self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn next(&mut self) -> BackendEvent {
        loop {
            match self.any().await {
                BackendEvent::Topology(_) => {}
                other => return other,
            }
        }
    }

    async fn resync(&mut self) -> usize {
        match self.next().await {
            BackendEvent::Resync(all) => all.len(),
            other => panic!("a resync, not {other:?}"),
        }
    }

    async fn changed(&mut self) -> (VmId, PowerState) {
        match self.next().await {
            BackendEvent::Changed(facts) => (facts.id, facts.power),
            other => panic!("a change, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn everything_comes_first_then_each_change_in_order() {
    let bench = Bench::small();
    let old = bench.running("old").await;
    let mut watcher = Watcher::on(&bench, 64);
    assert!(matches!(watcher.any().await, BackendEvent::Topology(_)));
    match watcher.any().await {
        BackendEvent::Resync(all) => assert_eq!(all, bench.control.vms()),
        other => panic!("the resync, not {other:?}"),
    }

    let new = bench.defined("new").await;
    assert_eq!(watcher.changed().await, (new.id, PowerState::Off));
    bench.power(&new, PowerAction::Start).await.unwrap();
    assert_eq!(watcher.changed().await, (new.id, PowerState::Running));
    bench.power(&new, PowerAction::Shutdown).await.unwrap();
    assert_eq!(watcher.changed().await, (new.id, PowerState::ShuttingDown));
    assert_eq!(watcher.changed().await, (new.id, PowerState::Off));
    bench.backend.undefine(&bench.call(), &new).await.unwrap();
    assert!(matches!(watcher.next().await, BackendEvent::Gone(id) if id == new.id));
    bench.power(&old, PowerAction::Suspend).await.unwrap();
    assert_eq!(watcher.changed().await, (old.id, PowerState::Paused));
}

#[tokio::test]
async fn what_is_already_so_is_no_event() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    let mut watcher = Watcher::on(&bench, 64);
    watcher.resync().await;
    bench.power(&vm, PowerAction::Start).await.unwrap();
    for _ in 0..3 {
        bench
            .backend
            .set_console_password(&bench.call(), &vm, &Secret::new("made-up 7"))
            .await
            .unwrap();
    }
    bench.power(&vm, PowerAction::ForceOff).await.unwrap();
    match watcher.next().await {
        BackendEvent::Changed(facts) => assert!(facts.graphics[0].has_password),
        other => panic!("the password's change, not {other:?}"),
    }
    assert_eq!(watcher.changed().await, (vm.id, PowerState::Off));
}

#[tokio::test]
async fn outside_changes_are_told() {
    let bench = Bench::small();
    let mut watcher = Watcher::on(&bench, 64);
    assert_eq!(watcher.resync().await, 0);
    let id = bench
        .control
        .spawn_foreign_vm(ForeignVm::named("theirs"))
        .unwrap();
    assert_eq!(watcher.changed().await, (id, PowerState::Running));
    bench.control.power_from_outside(id, PowerState::Crashed).unwrap();
    assert_eq!(watcher.changed().await, (id, PowerState::Crashed));
    bench.control.remove_from_outside(id).unwrap();
    assert!(matches!(watcher.next().await, BackendEvent::Gone(gone) if gone == id));
}

#[tokio::test]
async fn free_space_is_told_when_it_changes() {
    let bench = Bench::small();
    let mut watcher = Watcher::on(&bench, 64);
    let space = async |watcher: &mut Watcher| loop {
        if let BackendEvent::Topology(topology) = watcher.any().await {
            return topology.pools[0].available;
        }
    };
    assert_eq!(space(&mut watcher).await, 98 * GIB);
    bench
        .backend
        .create_volume(&bench.call(), &blank("a", GIB))
        .await
        .unwrap();
    assert_eq!(space(&mut watcher).await, 97 * GIB);
}

#[tokio::test]
async fn a_lost_connection_is_told_and_mended_by_a_resync() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    let mut watcher = Watcher::on(&bench, 64);
    watcher.resync().await;
    bench.control.disconnect();
    match watcher.next().await {
        BackendEvent::Down(error) => assert_eq!(error.kind, ErrorKind::BackendUnavailable),
        other => panic!("the loss, not {other:?}"),
    }
    bench.control.power_from_outside(vm.id, PowerState::Off).unwrap();
    bench.control.reconnect();
    match watcher.next().await {
        BackendEvent::Resync(all) => assert_eq!(all[0].power, PowerState::Off),
        other => panic!("a resync, not {other:?}"),
    }
    bench.power(&vm, PowerAction::Start).await.unwrap();
    assert_eq!(watcher.changed().await, (vm.id, PowerState::Running));
}

#[tokio::test]
async fn a_loss_that_is_over_at_once_is_told_all_the_same() {
    let bench = Bench::small();
    let mut watcher = Watcher::on(&bench, 64);
    watcher.resync().await;
    bench.control.disconnect();
    bench.control.reconnect();
    assert!(matches!(watcher.next().await, BackendEvent::Down(_)));
    watcher.resync().await;
}

#[tokio::test]
async fn who_begins_while_it_is_down_learns_so() {
    let bench = Bench::small();
    bench.control.disconnect();
    let mut watcher = Watcher::on(&bench, 64);
    assert!(matches!(watcher.any().await, BackendEvent::Down(_)));
    bench.control.reconnect();
    watcher.resync().await;
}

#[tokio::test]
async fn dropped_events_are_not_told_but_the_next_ones_are() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    let mut watcher = Watcher::on(&bench, 64);
    watcher.resync().await;
    bench.control.drop_events(1);
    bench.power(&vm, PowerAction::Suspend).await.unwrap();
    bench.power(&vm, PowerAction::Resume).await.unwrap();
    assert_eq!(watcher.changed().await, (vm.id, PowerState::Running));
}

#[tokio::test]
async fn who_lags_too_far_behind_gets_everything_anew() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    let mut watcher = Watcher::on(&bench, 1);
    watcher.resync().await;
    for _ in 0..5_000 {
        bench.power(&vm, PowerAction::Suspend).await.unwrap();
        bench.power(&vm, PowerAction::Resume).await.unwrap();
    }
    bench.power(&vm, PowerAction::ForceOff).await.unwrap();
    loop {
        match watcher.next().await {
            BackendEvent::Resync(all) => {
                assert_eq!(all[0].power, PowerState::Off);
                break;
            }
            BackendEvent::Changed(_) => {}
            other => panic!("changes, then a resync, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn watching_ends_with_its_receiver() {
    let bench = Bench::small();
    for down in [false, true] {
        if down {
            bench.control.disconnect();
        }
        let (out, mut events) = mpsc::channel(8);
        let backend = bench.backend.clone();
        let watching = tokio::spawn(async move { backend.watch(out).await });
        events.recv().await.unwrap();
        drop(events);
        timeout(Duration::from_secs(10), watching).await.unwrap().unwrap();
    }
}
