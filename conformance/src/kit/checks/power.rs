//! Power: every legal change arrives, every repeated one is none, every illegal one is refused by the core's table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::{BackendEvent, CallContext, VmRef};
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::PowerState;
use babelvisor_core::state::{Verdict as Legality, verdict_on};

use super::{Check, RUN, Want};
use crate::kit::bench::{Bench, plain};
use crate::kit::verdict::{During as _, Verdict, ensure, fail, refused};
use crate::kit::watcher::Watcher;

const SUSPEND: &[Capability] = &[Capability::PowerSuspend];
const RESUME: &[Capability] = &[Capability::PowerResume];
const REBOOT: &[Capability] = &[Capability::PowerReboot];
const RESET: &[Capability] = &[Capability::PowerReset];
const SHUTDOWN: &[Capability] = &[Capability::PowerShutdown];

/// The actions that reach a backend; a forced reboot is made of two of them.
const ACTIONS: [PowerAction; 9] = [
    PowerAction::Start,
    PowerAction::Shutdown,
    PowerAction::ForceOff,
    PowerAction::Reboot,
    PowerAction::Reset,
    PowerAction::Suspend,
    PowerAction::Resume,
    PowerAction::Save,
    PowerAction::Restore,
];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "power::started_ten_times_runs_once",
            "start returns when the VM runs; starting a running VM is success and does nothing to it",
            &[RUN],
            started,
        ),
        Check::new(
            "power::forced_off_ten_times_is_off",
            "force off returns when the VM is off; it works on paused VMs, and on those that are off",
            &[RUN],
            forced_off,
        ),
        Check::new(
            "power::suspended_and_resumed_ten_times",
            "suspend and resume return when the state is reached, and are success when it is so already",
            &[RUN, SUSPEND, RESUME],
            suspended,
        ),
        Check::new(
            "power::reboot_leaves_it_running",
            "reboot returns when the guest was asked; the VM stays, or comes back, running",
            &[RUN, REBOOT],
            rebooted,
        ),
        Check::new(
            "power::reset_leaves_it_running",
            "reset returns when the button was pressed; the VM runs on",
            &[RUN, RESET],
            reset,
        ),
        Check::new(
            "power::shutdown_ends_a_guest_that_listens",
            "shutdown returns when the guest is off; on a VM that is off it is success",
            &[RUN, SHUTDOWN],
            shut_down,
        )
        .wants(&[Want::Listener]),
        Check::new(
            "power::shutdown_of_a_deaf_guest_is_a_timeout",
            "a guest that does not react in time is a Timeout at the deadline, and runs on",
            &[RUN, SHUTDOWN],
            deaf,
        )
        .wants(&[Want::Deaf]),
        Check::new(
            "power::what_is_illegal_while_off",
            "what the core's table calls illegal is IllegalState and changes nothing; what it calls done is success",
            &[RUN],
            while_off,
        ),
        Check::new(
            "power::what_is_illegal_while_paused",
            "what the core's table calls illegal is IllegalState and changes nothing; what it calls done is success",
            &[RUN, SUSPEND],
            while_paused,
        ),
        Check::new(
            "power::a_vm_keeps_what_it_is",
            "power changes leave name, sizes, disks and interfaces as they are",
            &[RUN],
            keeps,
        ),
    ]
}

/// Does the same thing several times.
async fn repeat(bench: &Bench, vm: &VmRef, action: PowerAction, reaches: PowerState) -> Verdict {
    let word = action.as_ref().replace('_', " ");
    for time in 1..=bench.config.repeats {
        bench
            .power(vm, action)
            .await
            .during(&format!("{word} for the {time}. time"))?;
        bench.expect_state(vm, reaches, &word).await?;
    }
    Ok(())
}

async fn started(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let mut watcher = Watcher::ready(&bench).await?;
    repeat(&bench, &vm, PowerAction::Start, PowerState::Running).await?;
    watcher.state(vm.id, PowerState::Running).await?;
    let first = bench.get(&vm).await?;
    bench
        .power(&vm, PowerAction::Start)
        .await
        .during("starting a running VM")?;
    watcher
        .quiet(|event| match event {
            BackendEvent::Changed(facts)
                if facts.id == vm.id && plain(facts.power) != PowerState::Running =>
            {
                Some(format!("starting a running VM made it {}", facts.power.as_ref()))
            }
            BackendEvent::Changed(_)
            | BackendEvent::Gone(_)
            | BackendEvent::Resync(_)
            | BackendEvent::Topology(_)
            | BackendEvent::Down(_) => None,
        })
        .await?;
    let now = bench.get(&vm).await?;
    ensure!(
        first.graphics == now.graphics,
        "starting a running VM changed its display: it was started anew"
    );
    Ok(())
}

async fn forced_off(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    repeat(&bench, &vm, PowerAction::ForceOff, PowerState::Off).await?;
    if bench.has(Capability::PowerSuspend) {
        bench
            .power(&vm, PowerAction::Start)
            .await
            .during("starting a VM again")?;
        bench
            .power(&vm, PowerAction::Suspend)
            .await
            .during("suspending a VM")?;
        bench
            .power(&vm, PowerAction::ForceOff)
            .await
            .during("forcing a paused VM off")?;
        bench.expect_state(&vm, PowerState::Off, "force off").await?;
    }
    Ok(())
}

async fn suspended(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    for _ in 0..2 {
        repeat(&bench, &vm, PowerAction::Suspend, PowerState::Paused).await?;
        repeat(&bench, &vm, PowerAction::Resume, PowerState::Running).await?;
    }
    Ok(())
}

/// A guest that is asked again and again is running afterwards, if not at once.
async fn comes_back(bench: &Bench, action: PowerAction) -> Verdict {
    let vm = bench.running().await?;
    let word = action.as_ref();
    for time in 1..=bench.config.repeats {
        bench
            .power(&vm, action)
            .await
            .during(&format!("{word} for the {time}. time"))?;
    }
    bench
        .until(&format!("the VM runs after {word}"), &vm, |facts| {
            plain(facts.power) == PowerState::Running
        })
        .await?;
    Ok(())
}

async fn rebooted(bench: Arc<Bench>) -> Verdict {
    comes_back(&bench, PowerAction::Reboot).await
}

async fn reset(bench: Arc<Bench>) -> Verdict {
    comes_back(&bench, PowerAction::Reset).await
}

async fn shut_down(bench: Arc<Bench>) -> Verdict {
    let vm = bench.listening().await?;
    let call = CallContext {
        deadline: Instant::now() + Duration::from_millis(bench.config.bounds.boot),
        ..bench.call()
    };
    bench
        .backend
        .power(&call, &vm, PowerAction::Shutdown)
        .await
        .during("shutting a guest down that listens")?;
    bench.expect_state(&vm, PowerState::Off, "shutdown").await?;
    repeat(&bench, &vm, PowerAction::Shutdown, PowerState::Off).await
}

async fn deaf(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    let time = Duration::from_millis(1500);
    let begun = Instant::now();
    let call = CallContext {
        deadline: begun + time,
        ..bench.call()
    };
    let answer = bench.backend.power(&call, &vm, PowerAction::Shutdown).await;
    refused(answer, &[ErrorKind::Timeout], "shutting a deaf guest down")?;
    let took = begun.elapsed();
    let bound = time + Duration::from_millis(bench.config.bounds.grace);
    ensure!(
        took <= bound,
        "the call returned {took:?} after it began, its deadline was {time:?}"
    );
    bench
        .expect_state(&vm, PowerState::Running, "a shutdown that the guest did not hear")
        .await
}

/// Walks the core's table for one state, leaving out what changes it.
async fn walk(bench: &Bench, vm: &VmRef, state: PowerState) -> Verdict {
    for action in ACTIONS {
        if !action.needs().iter().all(|need| bench.has(*need)) {
            continue;
        }
        let what = format!(
            "{} of a VM that is {}",
            action.as_ref().replace('_', " "),
            state.as_ref()
        );
        match verdict_on(action, state, false) {
            Legality::Legal => continue,
            Legality::AlreadySo => bench.power(vm, action).await.during(&what)?,
            Legality::Illegal => {
                let error = refused(bench.power(vm, action).await, &[ErrorKind::IllegalState], &what)?;
                ensure!(!error.detail.is_empty(), "{what} is refused without a word");
            }
        }
        bench.expect_state(vm, state, &what).await?;
    }
    Ok(())
}

async fn while_off(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    walk(&bench, &vm, PowerState::Off).await
}

async fn while_paused(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    bench
        .power(&vm, PowerAction::Suspend)
        .await
        .during("suspending a VM")?;
    walk(&bench, &vm, PowerState::Paused).await
}

async fn keeps(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let before = bench.get(&vm).await?;
    for action in [PowerAction::Start, PowerAction::ForceOff] {
        bench
            .power(&vm, action)
            .await
            .during(&action.as_ref().replace('_', " "))?;
        let now = bench.get(&vm).await?;
        if now.memory.max != before.memory.max {
            return fail(format!(
                "memory was {} bytes and is {} after {}",
                before.memory.max,
                now.memory.max,
                action.as_ref()
            ));
        }
        let macs = |facts: &babelvisor_core::model::VmFacts| {
            facts.nics.iter().map(|nic| nic.mac.clone()).collect::<Vec<_>>()
        };
        ensure!(
            (
                &now.id,
                &now.native,
                &now.name,
                &now.cpu,
                &now.disks,
                &now.made_by,
                macs(&now)
            ) == (
                &before.id,
                &before.native,
                &before.name,
                &before.cpu,
                &before.disks,
                &before.made_by,
                macs(&before)
            ),
            "{} changed what the VM is",
            action.as_ref()
        );
    }
    Ok(())
}
