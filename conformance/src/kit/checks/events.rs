//! Event fidelity: whoever only listens knows what whoever asks knows, soon, and never goes back in time.

use std::sync::Arc;

use babelvisor_core::backend::BackendEvent;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmId};
use tokio::task::JoinSet;

use super::{Check, RUN, VM};
use crate::kit::bench::{Bench, lasting, plain, refer};
use crate::kit::verdict::{During as _, Stop, Verdict, ensure, fail};
use crate::kit::watcher::Watcher;

const TOPOLOGY: &[Capability] = &[Capability::TopologyList];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "events::everything_comes_first",
            "the first event about VMs tells all of them, as list does",
            &[VM],
            everything_first,
        ),
        Check::new(
            "events::each_change_is_told",
            "a VM that is defined, started, forced off and undefined is told of at each step, and never told backwards",
            &[RUN],
            each_change,
        ),
        Check::new(
            "events::suspend_and_resume_are_told",
            "a VM that is suspended and resumed is told of at each step",
            &[RUN, &[Capability::PowerSuspend, Capability::PowerResume]],
            suspend,
        ),
        Check::new(
            "events::what_is_told_is_what_is",
            "an event carries the VM as get reports it",
            &[RUN],
            told_is_true,
        ),
        Check::new(
            "events::a_burst_loses_nothing",
            "after many changes at once, what was told last of each VM is what list reports",
            &[RUN],
            burst,
        ),
        Check::new(
            "events::two_listeners_hear_the_same",
            "a second listener gets everything first and all changes, and takes none from the first",
            &[VM],
            two_listeners,
        ),
        Check::new(
            "events::topology_is_told",
            "hosts, pools and networks are told as topology reports them, before the VMs that are placed on them",
            &[TOPOLOGY],
            topology,
        ),
        Check::new(
            "events::watch_ends_with_its_listener",
            "watch returns when nobody listens any more",
            &[&[Capability::VmList]],
            hang_up,
        ),
    ]
}

async fn everything_first(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let mut watcher = Watcher::start(&bench);
    let first = watcher
        .until("all VMs", |event| !matches!(event, BackendEvent::Topology(_)))
        .await?;
    let BackendEvent::Resync(told) = first else {
        return fail(format!("the first event is not everything, but {}", name(&first)));
    };
    let listed = bench.list().await?;
    let mine =
        |all: &[babelvisor_core::model::VmFacts]| all.iter().find(|facts| facts.id == vm.id).map(lasting);
    let Some(of_mine) = mine(&told) else {
        return fail("the first event lacks a VM that was there before");
    };
    ensure!(
        Some(of_mine) == mine(&listed),
        "the first event tells something else of a VM than list"
    );
    // Other checks come and go meanwhile; who was there before the run is told and listed alike.
    for was in &bench.before {
        let (in_told, in_listed) = (
            told.iter().any(|facts| facts.id == was.id),
            listed.iter().any(|facts| facts.id == was.id),
        );
        ensure!(
            in_told == in_listed,
            "the first event and list disagree about vm {}",
            was.id
        );
    }
    Ok(())
}

fn name(event: &BackendEvent) -> &'static str {
    match event {
        BackendEvent::Resync(_) => "everything",
        BackendEvent::Changed(_) => "a change of a VM",
        BackendEvent::Gone(_) => "the end of a VM",
        BackendEvent::Topology(_) => "the topology",
        BackendEvent::Down(_) => "a loss of the connection",
    }
}

async fn each_change(bench: Arc<Bench>) -> Verdict {
    let mut watcher = Watcher::ready(&bench).await?;
    let vm = bench.off().await?;
    watcher.state(vm.id, PowerState::Off).await?;
    for (action, state) in [
        (PowerAction::Start, PowerState::Running),
        (PowerAction::ForceOff, PowerState::Off),
        (PowerAction::Start, PowerState::Running),
        (PowerAction::ForceOff, PowerState::Off),
    ] {
        bench
            .power(&vm, action)
            .await
            .during(&action.as_ref().replace('_', " "))?;
        watcher.state(vm.id, state).await?;
    }
    bench
        .backend
        .undefine(&bench.call(), &vm)
        .await
        .during("undefining a VM")?;
    watcher.gone(vm.id).await
}

async fn suspend(bench: Arc<Bench>) -> Verdict {
    let mut watcher = Watcher::ready(&bench).await?;
    let vm = bench.running().await?;
    watcher.state(vm.id, PowerState::Running).await?;
    for (action, state) in [
        (PowerAction::Suspend, PowerState::Paused),
        (PowerAction::Resume, PowerState::Running),
    ] {
        bench.power(&vm, action).await.during(action.as_ref())?;
        watcher.state(vm.id, state).await?;
    }
    Ok(())
}

async fn told_is_true(bench: Arc<Bench>) -> Verdict {
    let mut watcher = Watcher::ready(&bench).await?;
    let vm = bench.off().await?;
    for (action, state) in [
        (None, PowerState::Off),
        (Some(PowerAction::Start), PowerState::Running),
        (Some(PowerAction::ForceOff), PowerState::Off),
    ] {
        if let Some(action) = action {
            bench
                .power(&vm, action)
                .await
                .during(&action.as_ref().replace('_', " "))?;
        }
        watcher.state(vm.id, state).await?;
        let read = lasting(&bench.get(&vm).await?);
        let told = watcher.view.get(&vm.id).and_then(Option::as_ref).map(lasting);
        ensure!(
            told.as_ref() == Some(&read),
            "of a VM that is {} the last event tells something else than get: {}",
            state.as_ref(),
            told.map_or_else(String::new, |told| difference(&told, &read))
        );
    }
    Ok(())
}

/// Which facts differ, by name.
fn difference(told: &babelvisor_core::model::VmFacts, read: &babelvisor_core::model::VmFacts) -> String {
    let fields = |facts| match serde_json::to_value(facts) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (told, read) = (fields(told), fields(read));
    let differing: Vec<String> = told
        .iter()
        .filter(|(name, value)| read.get(*name) != Some(*value))
        .map(|(name, value)| format!("{name} {value} instead of {}", read.get(name).unwrap_or_default()))
        .collect();
    differing.join(", ")
}

async fn burst(bench: Arc<Bench>) -> Verdict {
    let mut watcher = Watcher::ready(&bench).await?;
    let mut lives = JoinSet::new();
    for number in 0..bench.config.together.div_ceil(2) {
        let bench = Arc::clone(&bench);
        lives.spawn(async move {
            let vm = bench.off().await?;
            for action in [PowerAction::Start, PowerAction::ForceOff] {
                bench
                    .power(&vm, action)
                    .await
                    .during(&action.as_ref().replace('_', " "))?;
            }
            let stays = number % 2 == 0;
            if !stays {
                bench
                    .backend
                    .undefine(&bench.call(), &vm)
                    .await
                    .during("undefining a VM")?;
            }
            Ok::<(VmId, bool), Stop>((vm.id, stays))
        });
    }
    let mut ids = Vec::new();
    while let Some(life) = lives.join_next().await {
        match life {
            Ok(life) => ids.push(life?),
            Err(error) => return fail(format!("the backend panicked: {error}")),
        }
    }
    let listed = bench.list().await?;
    let agrees = |view: &std::collections::BTreeMap<VmId, Option<babelvisor_core::model::VmFacts>>| {
        ids.iter().all(|(id, stays)| match view.get(id) {
            // Made and gone before anybody looked: a listener need not hear of it at all.
            None => !stays,
            Some(None) => !stays,
            Some(Some(told)) => listed
                .iter()
                .any(|facts| facts.id == *id && lasting(facts) == lasting(told)),
        })
    };
    watcher
        .view_until("what list reports of all VMs of a burst", agrees)
        .await?;
    watcher.quiet(|_| None).await?;
    ensure!(
        agrees(&watcher.view),
        "after a burst was told to its end, something older was told"
    );
    for (id, stays) in &ids {
        let told = watcher.view.get(id).and_then(Option::as_ref);
        ensure!(
            !stays || told.is_some_and(|facts| plain(facts.power) == PowerState::Off),
            "a VM of a burst is off, and was not told to be"
        );
    }
    Ok(())
}

async fn two_listeners(bench: Arc<Bench>) -> Verdict {
    let mut first = Watcher::ready(&bench).await?;
    let mut second = Watcher::ready(&bench).await?;
    let vm = bench.off().await?;
    for watcher in [&mut first, &mut second] {
        watcher.state(vm.id, PowerState::Off).await?;
    }
    let facts = bench.get(&vm).await?;
    bench
        .backend
        .undefine(&bench.call(), &refer(&facts))
        .await
        .during("undefining a VM")?;
    for watcher in [&mut first, &mut second] {
        watcher.gone(vm.id).await?;
    }
    Ok(())
}

async fn topology(bench: Arc<Bench>) -> Verdict {
    let mut watcher = Watcher::start(&bench);
    let event = watcher.until("anything", |_| true).await?;
    let BackendEvent::Topology(told) = event else {
        return fail(format!("before the topology is told, {} is", name(&event)));
    };
    let read = bench
        .backend
        .topology(&bench.call())
        .await
        .during("reading the topology")?;
    let ids = |topology: &babelvisor_core::model::Topology| {
        (
            topology.hosts.iter().map(|host| host.id).collect::<Vec<_>>(),
            topology.pools.iter().map(|pool| pool.id).collect::<Vec<_>>(),
            topology
                .networks
                .iter()
                .map(|network| network.id)
                .collect::<Vec<_>>(),
        )
    };
    ensure!(
        ids(&told) == ids(&read),
        "the topology that is told is not the one that is read"
    );
    Ok(())
}

async fn hang_up(bench: Arc<Bench>) -> Verdict {
    Watcher::ready(&bench).await?.hang_up().await
}
