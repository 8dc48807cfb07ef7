//! Power: every action against every state, transitions that take time, guests that do not listen.

use std::time::{Duration, Instant};

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::Backend as _;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{JobId, PowerState};
use babelvisor_core::state::{Verdict, verdict};
use babelvisor_memory::Delay;

use crate::bench::{Bench, kind};

const ACTIONS: [PowerAction; 7] = [
    PowerAction::Start,
    PowerAction::Shutdown,
    PowerAction::ForceOff,
    PowerAction::Reboot,
    PowerAction::Reset,
    PowerAction::Suspend,
    PowerAction::Resume,
];

const STATES: [PowerState; 8] = [
    PowerState::NoState,
    PowerState::Running,
    PowerState::Blocked,
    PowerState::Paused,
    PowerState::ShuttingDown,
    PowerState::Off,
    PowerState::Crashed,
    PowerState::Suspended,
];

fn leads_to(action: PowerAction, from: PowerState) -> PowerState {
    match action {
        PowerAction::Start | PowerAction::Resume | PowerAction::Restore => PowerState::Running,
        PowerAction::Shutdown | PowerAction::ForceOff | PowerAction::Save => PowerState::Off,
        PowerAction::Suspend => PowerState::Paused,
        PowerAction::Reboot | PowerAction::Reset | PowerAction::ForceReboot => from,
    }
}

#[tokio::test]
async fn every_action_in_every_state_follows_the_table() {
    for state in STATES {
        for action in ACTIONS {
            let bench = Bench::small();
            let vm = bench.defined("web").await;
            bench.control.power_from_outside(vm.id, state).unwrap();
            // A guest that only its owner can end: shutting down, by nobody's request.
            let waits = action == PowerAction::Shutdown && state == PowerState::ShuttingDown;
            if waits {
                let control = bench.control.clone();
                tokio::spawn(async move { control.power_from_outside(vm.id, PowerState::Off) });
            }
            let vm = bench
                .control
                .vm(vm.id)
                .map(|facts| crate::bench::refer(&facts))
                .unwrap();
            let result = bench.power(&vm, action).await;
            match verdict(action, state) {
                Verdict::Legal => {
                    result.unwrap();
                    assert_eq!(
                        bench.state(&vm),
                        leads_to(action, state),
                        "{action:?} in {state:?}"
                    );
                }
                Verdict::AlreadySo => {
                    result.unwrap();
                    assert_eq!(bench.state(&vm), state, "{action:?} in {state:?}");
                }
                Verdict::Illegal => {
                    assert_eq!(kind(result), ErrorKind::IllegalState, "{action:?} in {state:?}");
                    assert_eq!(bench.state(&vm), state, "{action:?} in {state:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn repeatable_actions_ten_times_are_once() {
    let bench = Bench::small();
    let vm = bench.defined("web").await;
    for action in [
        PowerAction::Start,
        PowerAction::Suspend,
        PowerAction::Resume,
        PowerAction::Shutdown,
        PowerAction::Start,
        PowerAction::ForceOff,
    ] {
        for _ in 0..10 {
            bench.power(&vm, action).await.unwrap();
        }
        assert_eq!(bench.state(&vm), leads_to(action, PowerState::NoState));
    }
    assert_eq!(bench.control.boots(vm.id), 2);
}

#[tokio::test]
async fn a_reboot_and_a_reset_boot_again() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    bench.power(&vm, PowerAction::Reboot).await.unwrap();
    bench.power(&vm, PowerAction::Reset).await.unwrap();
    assert_eq!(bench.control.boots(vm.id), 3);
    bench.control.set_ignores_acpi(vm.id, true).unwrap();
    bench.power(&vm, PowerAction::Reboot).await.unwrap();
    assert_eq!(bench.control.boots(vm.id), 3, "asked, but not heard");
    bench.power(&vm, PowerAction::Reset).await.unwrap();
    assert_eq!(bench.control.boots(vm.id), 4);
}

#[tokio::test]
async fn a_forced_reboot_is_not_for_backends() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    let refused = bench.power(&vm, PowerAction::ForceReboot).await;
    assert_eq!(kind(refused), ErrorKind::Unsupported);
    assert_eq!(bench.control.boots(vm.id), 1);
}

#[tokio::test]
async fn a_boot_takes_its_time() {
    let bench = Bench::small();
    bench.control.set_delay(Capability::PowerStart, Delay::Fixed(80));
    let vm = bench.defined("web").await;
    let begun = Instant::now();
    bench.power(&vm, PowerAction::Start).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(80));
    assert_eq!(bench.state(&vm), PowerState::Running);
}

#[tokio::test]
async fn a_boot_goes_on_when_the_caller_gives_up_and_is_joined_by_the_next() {
    let bench = Bench::small();
    bench.control.set_delay(Capability::PowerStart, Delay::Fixed(200));
    let vm = bench.defined("web").await;
    let short = bench.call_of(JobId::random(), Duration::from_millis(20));
    let given_up = bench.backend.power(&short, &vm, PowerAction::Start).await;
    assert_eq!(kind(given_up), ErrorKind::Timeout);
    assert_eq!(bench.state(&vm), PowerState::Off);
    assert_eq!(
        kind(bench.backend.undefine(&bench.call(), &vm).await),
        ErrorKind::IllegalState
    );
    bench.power(&vm, PowerAction::Start).await.unwrap();
    assert_eq!(bench.state(&vm), PowerState::Running);
    assert_eq!(bench.control.boots(vm.id), 1);
}

#[tokio::test]
async fn force_off_ends_a_boot() {
    let bench = Bench::small();
    bench
        .control
        .set_delay(Capability::PowerStart, Delay::Fixed(10_000));
    let vm = bench.defined("web").await;
    let (backend, call, started) = (bench.backend.clone(), bench.call(), vm.clone());
    let start = tokio::spawn(async move { backend.power(&call, &started, PowerAction::Start).await });
    let begun = |bench: &Bench| {
        let log = bench.control.call_log();
        log.iter().any(|call| call.capability == Capability::PowerStart)
    };
    while !begun(&bench) {
        tokio::task::yield_now().await;
    }
    bench.power(&vm, PowerAction::ForceOff).await.unwrap();
    assert_eq!(kind(start.await.unwrap()), ErrorKind::IllegalState);
    assert_eq!(bench.state(&vm), PowerState::Off);
    assert_eq!(bench.control.boots(vm.id), 0);
}

#[tokio::test]
async fn a_shutdown_passes_through_shutting_down() {
    let bench = Bench::small();
    bench
        .control
        .set_delay(Capability::PowerShutdown, Delay::Fixed(100));
    let vm = bench.running("web").await;
    let (backend, call, stopped) = (bench.backend.clone(), bench.call(), vm.clone());
    let stop = tokio::spawn(async move { backend.power(&call, &stopped, PowerAction::Shutdown).await });
    bench.until(&vm, PowerState::ShuttingDown).await;
    assert!(!stop.is_finished());
    // A second request joins the first.
    bench.power(&vm, PowerAction::Shutdown).await.unwrap();
    stop.await.unwrap().unwrap();
    assert_eq!(bench.state(&vm), PowerState::Off);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_a_shutdown() {
    let bench = Bench::small();
    bench
        .control
        .set_delay(Capability::PowerShutdown, Delay::Fixed(50));
    let vm = bench.running("web").await;
    let (backend, call, stopped) = (bench.backend.clone(), bench.call(), vm.clone());
    let stop = tokio::spawn(async move { backend.power(&call, &stopped, PowerAction::Shutdown).await });
    bench.until(&vm, PowerState::ShuttingDown).await;
    stop.abort();
    bench.until(&vm, PowerState::Off).await;
}

#[tokio::test]
async fn a_guest_without_ears_times_out_and_stays_up() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    bench.control.set_ignores_acpi(vm.id, true).unwrap();
    let begun = Instant::now();
    let short = bench.call_of(JobId::random(), Duration::from_millis(60));
    let error = bench
        .backend
        .power(&short, &vm, PowerAction::Shutdown)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(begun.elapsed() >= Duration::from_millis(60));
    assert_eq!(error.subject.unwrap().id, vm.id.to_string());
    assert_eq!(bench.state(&vm), PowerState::Running);
    bench.power(&vm, PowerAction::ForceOff).await.unwrap();
}

#[tokio::test]
async fn a_vm_that_goes_away_while_waited_for_is_not_found() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    bench.control.set_ignores_acpi(vm.id, true).unwrap();
    let (backend, call, stopped) = (bench.backend.clone(), bench.call(), vm.clone());
    let stop = tokio::spawn(async move { backend.power(&call, &stopped, PowerAction::Shutdown).await });
    tokio::task::yield_now().await;
    bench.control.remove_from_outside(vm.id).unwrap();
    assert_eq!(kind(stop.await.unwrap()), ErrorKind::NotFound);
}
