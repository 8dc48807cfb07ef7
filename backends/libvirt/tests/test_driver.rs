//! The backend on libvirt's test driver inside this process: the whole life of a VM, without a daemon.
//!
//! All tests share the one state of `test:///default`, so each uses names of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::time::{Duration, Instant};

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::{Backend, BackendEvent};
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{NicSource, PowerState, VmId, VolumeFormat, VolumeSource, VolumeSpec};
use babelvisor_core::secret::Secret;
use babelvisor_libvirt::{LibvirtBackend, LibvirtConfig};
use support::{again, backend, blank, call, eventually, facts, power_of, spec, vm_ref};
use virt::connect::Connect;
use virt::storage_vol::StorageVol;

const POOL: &str = "default-pool";

fn on_test_driver() -> LibvirtBackend {
    backend(LibvirtConfig::new("test:///default"))
}

#[tokio::test]
async fn a_vm_lives_from_its_volume_to_its_removal() {
    let lv = on_test_driver();
    let vm = VmId::random();
    let job = call(20);
    let root = blank(POOL, &format!("{vm}-0.qcow2"), 5 << 30);
    let volume = lv.create_volume(&job, &root).await.unwrap();
    assert_eq!((volume.capacity, volume.format), (5 << 30, VolumeFormat::Qcow2));

    let plan = spec("life", vec![root.clone()], NicSource::Network("default".into()));
    let made = lv
        .define(&job, vm, &plan, std::slice::from_ref(&volume), None)
        .await
        .unwrap();
    assert_eq!(
        (made.id, made.power, made.name.as_str()),
        (vm, PowerState::Off, "life")
    );
    assert_eq!(made.made_by, job.job);
    assert_eq!(made.memory.max, 192 << 20);
    assert_eq!((made.disks[0].capacity, made.disks[0].root), (5 << 30, true));
    assert_eq!(made.disks[0].volume.as_ref().unwrap().name, root.name);
    assert_eq!(made.nics[0].source, "default");

    for (action, state) in [
        (PowerAction::Start, PowerState::Running),
        (PowerAction::Start, PowerState::Running),
        (PowerAction::Suspend, PowerState::Paused),
        (PowerAction::Suspend, PowerState::Paused),
        (PowerAction::Resume, PowerState::Running),
        (PowerAction::Resume, PowerState::Running),
        (PowerAction::Reboot, PowerState::Running),
        (PowerAction::Reset, PowerState::Running),
        (PowerAction::Shutdown, PowerState::Off),
        (PowerAction::Shutdown, PowerState::Off),
        (PowerAction::Start, PowerState::Running),
        (PowerAction::ForceOff, PowerState::Off),
        (PowerAction::ForceOff, PowerState::Off),
    ] {
        lv.power(&call(20), &vm_ref(vm), action)
            .await
            .unwrap_or_else(|e| panic!("{action:?}: {e}"));
        assert_eq!(power_of(&lv, vm).await, state, "after {action:?}");
    }

    lv.undefine(&call(20), &vm_ref(vm)).await.unwrap();
    lv.undefine(&call(20), &vm_ref(vm)).await.unwrap();
    assert!(lv.get(&call(20), &vm_ref(vm)).await.unwrap().is_none());
    lv.delete_volume(&call(20), POOL, &root.name).await.unwrap();
    lv.delete_volume(&call(20), POOL, &root.name).await.unwrap();
}

#[tokio::test]
async fn a_second_try_of_the_same_job_finds_its_own_objects() {
    let lv = on_test_driver();
    let vm = VmId::random();
    let job = call(20);
    let root = blank(POOL, &format!("{vm}-0.qcow2"), 1 << 30);
    let first = lv.create_volume(&job, &root).await.unwrap();
    let second = lv.create_volume(&again(&job, 20), &root).await.unwrap();
    assert_eq!(first.native, second.native);
    let foreign = lv.create_volume(&call(20), &root).await.unwrap_err();
    assert_eq!(foreign.kind, ErrorKind::AlreadyExists);

    let plan = spec(
        "second-try",
        vec![root.clone()],
        NicSource::Network("default".into()),
    );
    lv.define(&job, vm, &plan, std::slice::from_ref(&first), None)
        .await
        .unwrap();
    lv.define(&again(&job, 20), vm, &plan, std::slice::from_ref(&first), None)
        .await
        .unwrap();
    let other_job = lv
        .define(&call(20), vm, &plan, std::slice::from_ref(&first), None)
        .await
        .unwrap_err();
    assert_eq!(other_job.kind, ErrorKind::AlreadyExists);
    let same_name = lv
        .define(
            &call(20),
            VmId::random(),
            &plan,
            std::slice::from_ref(&first),
            None,
        )
        .await
        .unwrap_err();
    assert_eq!(
        (same_name.kind, same_name.field.as_deref()),
        (ErrorKind::AlreadyExists, Some("name"))
    );

    lv.undefine(&call(20), &vm_ref(vm)).await.unwrap();
    lv.delete_volume(&call(20), POOL, &root.name).await.unwrap();
}

#[tokio::test]
async fn volumes_are_copied_from_and_layered_over_an_image() {
    let lv = on_test_driver();
    let base = blank(POOL, &format!("{}-image.qcow2", VmId::random()), 2 << 30);
    let image = lv.create_volume(&call(20), &base).await.unwrap();
    for (key, suffix) in [
        (image.native.clone(), "path"),
        (format!("{POOL}/{}", image.name), "pool"),
    ] {
        for copy in [true, false] {
            let source = if copy {
                VolumeSource::Copy {
                    image: key.clone(),
                    format: VolumeFormat::Qcow2,
                }
            } else {
                VolumeSource::Layer {
                    image: key.clone(),
                    format: VolumeFormat::Qcow2,
                }
            };
            let name = format!("{}-{suffix}-{copy}.qcow2", VmId::random());
            let wanted = VolumeSpec {
                source,
                ..blank(POOL, &name, 2 << 30)
            };
            let made = lv.create_volume(&call(20), &wanted).await.unwrap();
            assert_eq!(made.capacity, 2 << 30);
            lv.delete_volume(&call(20), POOL, &name).await.unwrap();
        }
    }
    let absent = VolumeSource::Copy {
        image: format!("{POOL}/no-such-image"),
        format: VolumeFormat::Qcow2,
    };
    let refused = lv
        .create_volume(
            &call(20),
            &VolumeSpec {
                source: absent,
                ..blank(POOL, "never.qcow2", 1)
            },
        )
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound);
    lv.delete_volume(&call(20), POOL, &base.name).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_says_so_and_names_the_object() {
    let lv = on_test_driver();
    let ghost = VmId::random();
    let missing = lv
        .power(&call(20), &vm_ref(ghost), PowerAction::Start)
        .await
        .unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound);
    assert_eq!(missing.subject.unwrap().id, ghost.to_string());

    let pool = lv
        .create_volume(&call(20), &blank("no-such-pool", "v", 1))
        .await
        .unwrap_err();
    assert_eq!(pool.kind, ErrorKind::NotFound);
    for name in ["../etc/passwd", "a/b", "", ".hidden", "nul\0"] {
        let refused = lv
            .create_volume(&call(20), &blank(POOL, name, 1))
            .await
            .unwrap_err();
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (ErrorKind::InvalidInput, Some("name")),
            "{name:?}"
        );
    }
    for name in ["a/b", "", " x", "nul\0", "new\nline"] {
        let plan = spec(name, vec![], NicSource::User);
        let refused = lv
            .define(&call(20), VmId::random(), &plan, &[], None)
            .await
            .unwrap_err();
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (ErrorKind::InvalidInput, Some("name")),
            "{name:?}"
        );
    }
    let vm = VmId::random();
    let plan = spec("refusals", vec![], NicSource::Network("default".into()));
    lv.define(&call(20), vm, &plan, &[], None).await.unwrap();
    for action in [
        PowerAction::Suspend,
        PowerAction::Resume,
        PowerAction::Reboot,
        PowerAction::Reset,
    ] {
        let refused = lv.power(&call(20), &vm_ref(vm), action).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::IllegalState, "{action:?}: {refused}");
    }
    let console = lv.console(&call(20), &vm_ref(vm)).await.unwrap_err();
    assert_eq!(console.kind, ErrorKind::IllegalState);
    lv.power(&call(20), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    let running = lv.undefine(&call(20), &vm_ref(vm)).await.unwrap_err();
    assert_eq!(running.kind, ErrorKind::IllegalState);
    lv.power(&call(20), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    lv.undefine(&call(20), &vm_ref(vm)).await.unwrap();
}

#[tokio::test]
async fn xml_in_names_stays_text() {
    let lv = on_test_driver();
    let vm = VmId::random();
    let hostile = "x'\"><domain>&amp;]]>";
    let mut plan = spec(hostile, vec![], NicSource::Network("default".into()));
    plan.title = "</title><memory>1</memory>".into();
    let made = lv.define(&call(20), vm, &plan, &[], None).await.unwrap();
    assert_eq!((made.name.as_str(), made.memory.max), (hostile, 192 << 20));
    lv.undefine(&call(20), &vm_ref(vm)).await.unwrap();
    plan.title = "bell \u{7}".into();
    let refused = lv.define(&call(20), vm, &plan, &[], None).await.unwrap_err();
    assert_eq!(
        (refused.kind, refused.field.as_deref()),
        (ErrorKind::InvalidInput, Some("title"))
    );
}

#[tokio::test]
async fn the_console_password_is_kept_out_of_the_facts() {
    let lv = on_test_driver();
    let vm = VmId::random();
    let plan = spec("password", vec![], NicSource::Network("default".into()));
    lv.define(&call(20), vm, &plan, &[], None).await.unwrap();
    assert_eq!(lv.console_password(&call(20), &vm_ref(vm)).await.unwrap(), None);
    lv.set_console_password(&call(20), &vm_ref(vm), &Secret::new("hush8888-cut"))
        .await
        .unwrap();
    let read = lv
        .console_password(&call(20), &vm_ref(vm))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read.expose(), "hush8888");
    let seen = facts(&lv, vm).await;
    assert!(seen.graphics[0].has_password);
    assert!(!format!("{seen:?}").contains("hush"));
    lv.undefine(&call(20), &vm_ref(vm)).await.unwrap();
}

#[tokio::test]
async fn changes_made_by_others_arrive_as_events() {
    let lv = std::sync::Arc::new(on_test_driver());
    let (out, mut events) = tokio::sync::mpsc::channel(1024);
    let watching = tokio::spawn({
        let lv = lv.clone();
        async move { lv.watch(out).await }
    });
    let mut next = async |what: &str, mut wanted: Box<dyn FnMut(&BackendEvent) -> bool + Send>| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let event = tokio::time::timeout_at(deadline.into(), events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("no event: {what}")).unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    next(
        "the topology",
        Box::new(|e| matches!(e, BackendEvent::Topology(t) if t.pools.iter().any(|p| p.name == POOL))),
    )
    .await;
    let first = next("all VMs", Box::new(|e| matches!(e, BackendEvent::Resync(_)))).await;
    let BackendEvent::Resync(all) = first else {
        unreachable!()
    };
    assert!(
        all.iter()
            .any(|vm| vm.name == "test" && vm.power == PowerState::Running)
    );

    let vm = VmId::random();
    let xml = format!(
        "<domain type='test'><name>foreign</name><uuid>{vm}</uuid><memory unit='MiB'>64</memory>\
         <os><type>hvm</type></os></domain>"
    );
    let domain = tokio::task::spawn_blocking(move || {
        let other = Connect::open(Some("test:///default")).unwrap();
        let domain = other.define_domain_xml(&xml).unwrap();
        domain.create().unwrap();
        domain
    })
    .await
    .unwrap();
    next(
        "the new VM runs",
        Box::new(
            move |e| matches!(e, BackendEvent::Changed(f) if f.id == vm && f.power == PowerState::Running),
        ),
    )
    .await;
    domain.destroy().unwrap();
    next(
        "it is off",
        Box::new(move |e| matches!(e, BackendEvent::Changed(f) if f.id == vm && f.power == PowerState::Off)),
    )
    .await;
    domain.undefine().unwrap();
    next(
        "it is gone",
        Box::new(move |e| matches!(e, BackendEvent::Gone(id) if *id == vm)),
    )
    .await;
    drop(events);
    tokio::time::timeout(Duration::from_secs(5), watching)
        .await
        .expect("the watch ends with its receiver")
        .unwrap();
}

#[tokio::test]
async fn what_makes_no_event_is_seen_at_the_next_reconciliation() {
    let lv = std::sync::Arc::new(backend(LibvirtConfig {
        reconcile_seconds: 1,
        ..LibvirtConfig::new("test:///default")
    }));
    let (out, mut events) = tokio::sync::mpsc::channel(1024);
    tokio::spawn({
        let lv = lv.clone();
        async move { lv.watch(out).await }
    });
    // A pool that fills up tells nobody.
    let name = format!("{}-full.img", VmId::random());
    let xml = format!(
        "<volume><name>{name}</name><capacity unit='GiB'>7</capacity><allocation unit='GiB'>7</allocation></volume>"
    );
    let mut empty = None;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let event = tokio::time::timeout_at(deadline.into(), events.recv()).await;
        let BackendEvent::Topology(topology) = event.expect("in time").unwrap() else {
            continue;
        };
        let free = topology.pools.iter().find(|p| p.name == POOL).unwrap().available;
        match empty {
            None => {
                empty = Some(free);
                let xml = xml.clone();
                lv.host()
                    .slow(deadline, move |c| {
                        StorageVol::create_xml(&c.lookup_storage_pool_by_name(POOL)?, &xml, 0)?;
                        Ok(())
                    })
                    .await
                    .unwrap();
            }
            Some(before) if free == before - (7 << 30) => break,
            Some(_) => {}
        }
    }
    lv.delete_volume(&call(20), POOL, &name).await.unwrap();
}

#[tokio::test]
async fn the_capabilities_are_the_test_drivers() {
    let lv = on_test_driver();
    let known = lv.capabilities();
    assert_eq!(known.get(Capability::GuestSetup).word(), "impossible");
    assert!(
        known
            .get(Capability::GuestSetup)
            .reason()
            .unwrap()
            .contains("upload")
    );
    assert_eq!(known.get(Capability::ConsolePassword).word(), "emulated");
    let topology = lv.topology(&call(20)).await.unwrap();
    assert_eq!(topology.hosts.len(), 1);
    assert!(topology.hosts[0].memory > 1 << 20 && topology.hosts[0].cpus > 0);
    assert!(topology.networks.iter().any(|n| n.name == "default" && n.active));
}

#[tokio::test]
async fn a_host_that_is_not_there_is_reported_within_the_grace_period() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("qemu+unix:///system?socket={}/none", dir.path().display());
    let lv = backend(LibvirtConfig::new(uri));
    let begun = Instant::now();
    let error = lv.list(&call(30)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BackendUnavailable);
    assert!(error.detail.contains("none"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let _ = eventually("a reason", 5, async || {
        (!lv.host().status().is_up()).then_some(())
    })
    .await;
}
