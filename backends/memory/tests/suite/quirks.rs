//! Delays, faults, lost connections, the call log.

use std::time::{Duration, Instant};

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::Backend as _;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{JobId, PowerState};
use babelvisor_memory::{Delay, Fault, Method};

use crate::bench::{Bench, GIB, blank, copy, kind};

#[tokio::test]
async fn a_capabilitys_delay_beats_its_methods() {
    let bench = Bench::small();
    bench.control.set_delay(Method::CreateVolume, Delay::Fixed(5_000));
    bench
        .control
        .set_delay(Capability::VolumeCopy, Delay::Between { min: 30, max: 60 });
    let begun = Instant::now();
    bench
        .backend
        .create_volume(&bench.call(), &copy("a", 2 * GIB))
        .await
        .unwrap();
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(30) && took < Duration::from_secs(5),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_call_that_is_too_slow_times_out_without_effect() {
    let bench = Bench::small();
    bench
        .control
        .set_delay(Method::CreateVolume, Delay::Fixed(60_000));
    let short = bench.call_of(JobId::random(), Duration::from_millis(20));
    let begun = Instant::now();
    let slow = bench.backend.create_volume(&short, &blank("a", GIB)).await;
    assert_eq!(kind(slow), ErrorKind::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.control.volumes().len(), 1);
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_a_timeout_at_once() {
    let bench = Bench::small();
    let late = bench.call_of(JobId::random(), Duration::ZERO);
    let refused = bench.backend.create_volume(&late, &blank("a", GIB)).await;
    assert_eq!(kind(refused), ErrorKind::Timeout);
    assert_eq!(bench.control.volumes().len(), 1);
}

#[tokio::test]
async fn faults_hit_as_often_as_told_and_before_or_after_the_effect() {
    let bench = Bench::small();
    let call = bench.call();
    bench
        .control
        .inject_fault(Fault::new(Capability::VolumeCreate, ErrorKind::BackendUnavailable).times(2));
    bench
        .control
        .inject_fault(Fault::new(Method::CreateVolume, ErrorKind::Timeout).after());
    for _ in 0..2 {
        let failed = bench.backend.create_volume(&call, &blank("a", GIB)).await;
        assert_eq!(kind(failed), ErrorKind::BackendUnavailable);
        assert_eq!(bench.control.volumes().len(), 1);
    }
    let lost = bench.backend.create_volume(&call, &blank("a", GIB)).await;
    assert_eq!(kind(lost), ErrorKind::Timeout);
    assert_eq!(bench.control.volumes().len(), 2, "done, though nobody was told");
    bench
        .backend
        .create_volume(&call, &blank("a", GIB))
        .await
        .unwrap();
    assert_eq!(bench.control.volumes().len(), 2);
}

#[tokio::test]
async fn a_fault_can_be_for_one_vm() {
    let bench = Bench::small();
    let (one, two) = (bench.defined("one").await, bench.defined("two").await);
    bench.control.inject_fault(
        Fault::new(Method::Power, ErrorKind::Internal)
            .after()
            .for_vm(two.id),
    );
    bench.power(&one, PowerAction::Start).await.unwrap();
    assert_eq!(
        kind(bench.power(&two, PowerAction::Start).await),
        ErrorKind::Internal
    );
    assert_eq!(bench.state(&two), PowerState::Running);
    bench
        .control
        .inject_fault(Fault::new(Method::Power, ErrorKind::Internal).times(9));
    bench.control.clear_faults();
    bench.power(&two, PowerAction::ForceOff).await.unwrap();
}

#[tokio::test]
async fn faults_and_delays_of_the_config_count_too() {
    let mut config = crate::bench::small();
    config.faults = vec![Fault::new(Method::List, ErrorKind::BackendUnavailable)];
    config.delays.insert(Method::List.into(), Delay::Fixed(20));
    let bench = Bench::new(config);
    let begun = Instant::now();
    assert_eq!(
        kind(bench.backend.list(&bench.call()).await),
        ErrorKind::BackendUnavailable
    );
    assert!(begun.elapsed() >= Duration::from_millis(20));
    bench.backend.list(&bench.call()).await.unwrap();
}

#[tokio::test]
async fn nothing_gets_through_a_cut_connection() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    bench.control.set_ignores_acpi(vm.id, true).unwrap();
    bench.control.set_delay(Method::List, Delay::Fixed(10_000));
    let (backend, call) = (bench.backend.clone(), bench.call());
    let listing = tokio::spawn(async move { backend.list(&call).await });
    let (backend, call, stopped) = (bench.backend.clone(), bench.call(), vm.clone());
    let stopping = tokio::spawn(async move { backend.power(&call, &stopped, PowerAction::Shutdown).await });
    tokio::task::yield_now().await;
    bench.control.disconnect();
    assert_eq!(kind(listing.await.unwrap()), ErrorKind::BackendUnavailable);
    assert_eq!(kind(stopping.await.unwrap()), ErrorKind::BackendUnavailable);
    assert_eq!(
        kind(bench.power(&vm, PowerAction::ForceOff).await),
        ErrorKind::BackendUnavailable
    );
    assert_eq!(bench.state(&vm), PowerState::Running);
    bench.control.reconnect();
    bench.power(&vm, PowerAction::ForceOff).await.unwrap();
}

#[tokio::test]
async fn every_call_is_logged() {
    let bench = Bench::small();
    let vm = bench.defined("web").await;
    bench.control.clear_call_log();
    let call = bench.call();
    bench.backend.power(&call, &vm, PowerAction::Start).await.unwrap();
    bench
        .backend
        .create_volume(&call, &blank("a", GIB))
        .await
        .unwrap();
    bench.control.vms();
    let log = bench.control.call_log();
    assert_eq!(log.len(), 2);
    assert_eq!(
        (log[0].method, log[0].capability, log[0].vm, log[0].job),
        (Method::Power, Capability::PowerStart, Some(vm.id), call.job)
    );
    assert_eq!(
        (log[1].method, log[1].volume.as_deref()),
        (Method::CreateVolume, Some("default/a"))
    );
}
