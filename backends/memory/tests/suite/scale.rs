//! Many guests, many callers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use babelvisor_core::backend::Backend as _;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{JobId, PowerState, VmId};
use babelvisor_memory::{Delay, MemoryConfig, Method};

use crate::bench::{Bench, GIB, blank, refer, spec};

#[tokio::test]
async fn ten_thousand_guests_are_there_at_once_and_always_the_same() {
    let config = MemoryConfig {
        vms: 10_000,
        ..MemoryConfig::default()
    };
    let begun = Instant::now();
    let bench = Bench::new(config.clone());
    let all = bench.backend.list(&bench.call()).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(all.len(), 10_000);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(all, Bench::new(config).control.vms());

    let macs: BTreeSet<_> = all.iter().map(|vm| vm.nics[0].mac.as_str()).collect();
    let names: BTreeSet<_> = all.iter().map(|vm| vm.name.as_str()).collect();
    let addresses: BTreeSet<_> = all.iter().flat_map(|vm| &vm.nics[0].addresses).collect();
    assert_eq!(
        (macs.len(), names.len(), addresses.len()),
        (10_000, 10_000, 7_500)
    );
    let ports: BTreeSet<_> = all.iter().filter_map(|vm| vm.graphics[0].port).collect();
    assert_eq!(ports.len(), 7_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_callers_make_run_and_remove_a_vm_each() {
    let bench = std::sync::Arc::new(Bench::new(MemoryConfig::default()));
    bench
        .control
        .set_delay(Method::Power, Delay::Between { min: 0, max: 5 });
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let bench = std::sync::Arc::clone(&bench);
        tasks.spawn(async move {
            let call = bench.call();
            let mut wanted = spec(&format!("vm-{number}"));
            wanted.volumes = vec![blank(&format!("disk-{number}"), GIB)];
            let disk = bench
                .backend
                .create_volume(&call, &wanted.volumes[0])
                .await
                .unwrap();
            let facts = bench
                .backend
                .define(&call, VmId::random(), &wanted, &[disk], None)
                .await
                .unwrap();
            let vm = refer(&facts);
            for action in [
                PowerAction::Start,
                PowerAction::Suspend,
                PowerAction::Resume,
                PowerAction::Shutdown,
            ] {
                bench.backend.power(&call, &vm, action).await.unwrap();
            }
            bench.backend.undefine(&call, &vm).await.unwrap();
            bench
                .backend
                .delete_volume(&call, "default", &format!("disk-{number}"))
                .await
                .unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(
        (bench.control.vms(), bench.control.volumes()),
        (Vec::new(), Vec::new())
    );
    let topology = bench.backend.topology(&bench.call()).await.unwrap();
    assert_eq!(topology.hosts[0].memory_free, Some(topology.hosts[0].memory));
    assert_eq!(topology.pools[0].available, topology.pools[0].capacity);
    assert_eq!(bench.control.call_log().len(), 100 * 8 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_callers_of_one_job_make_one_vm_and_start_it_once() {
    let bench = std::sync::Arc::new(Bench::new(MemoryConfig::default()));
    bench.control.set_delay(Method::Power, Delay::Fixed(20));
    let (job, id) = (JobId::random(), VmId::random());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let bench = std::sync::Arc::clone(&bench);
        tasks.spawn(async move {
            let call = bench.call_of(job, Duration::from_secs(20));
            bench
                .backend
                .create_volume(&call, &blank("disk", GIB))
                .await
                .unwrap();
            let facts = bench
                .backend
                .define(&call, id, &spec("web"), &[], None)
                .await
                .unwrap();
            bench
                .backend
                .power(&call, &refer(&facts), PowerAction::Start)
                .await
                .unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let vms = bench.control.vms();
    assert_eq!((vms.len(), vms[0].power), (1, PowerState::Running));
    assert_eq!((bench.control.volumes().len(), bench.control.boots(id)), (1, 1));
}
