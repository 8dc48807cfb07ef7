//! Snapshots as a tree: with memory, of the disks alone, gone back to, and removed.

use babelvisor_core::model::{MediumKind, MediumSpec, SnapshotSpec};

use super::*;

fn of(name: &str, memory: bool) -> SnapshotSpec {
    SnapshotSpec {
        name: name.into(),
        title: format!("the <{name}> one"),
        memory,
        disks: None,
    }
}

async fn names(lv: &LibvirtBackend, vm: VmId) -> Vec<(String, Option<String>, bool)> {
    let all = lv.snapshots(&call(30), &vm_ref(vm)).await.unwrap();
    all.into_iter().map(|s| (s.name, s.parent, s.memory)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_goes_back_to_what_it_was() {
    let lv = Arc::new(on_qemu());
    let mut watched = Watched::start(&lv);
    let vm = VmId::random();
    let root = layer(&format!("{vm}-0.qcow2"));
    let disk = lv.create_volume(&call(60), &root).await.unwrap();
    let iso = VolumeSpec {
        format: VolumeFormat::Raw,
        ..blank(POOL, &format!("{vm}.iso"), 1 << 20)
    };
    let iso = lv.create_volume(&call(60), &iso).await.unwrap();
    let mut plan = spec("snapped", vec![root.clone()], nic());
    // What is only read has no part in it.
    plan.media = vec![MediumSpec {
        kind: MediumKind::Cdrom,
        source: Some(iso.native.clone()),
    }];
    lv.define(&call(60), vm, &plan, &[disk], None).await.unwrap();
    let cold = lv
        .create_snapshot(&call(60), &vm_ref(vm), &of("cold", false))
        .await
        .unwrap();
    assert!(!cold.memory && cold.parent.is_none() && cold.created.is_some());
    let no_memory = lv
        .create_snapshot(&call(60), &vm_ref(vm), &of("none", true))
        .await
        .unwrap_err();
    assert_eq!(no_memory.kind, ErrorKind::IllegalState, "{no_memory}");

    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    watched
        .vm("the agent is connected", 120, vm, |f| {
            f.agent == AgentState::Connected
        })
        .await;
    let inside = |line: &'static str| {
        tokio::task::spawn_blocking(move || guest::run_inside(libvirtd(), "snapped", line))
    };
    inside("echo first > /run/mark").await.unwrap().unwrap();
    for _ in 0..2 {
        let warm = lv
            .create_snapshot(&call(90), &vm_ref(vm), &of("warm", true))
            .await
            .unwrap();
        assert_eq!((warm.memory, warm.parent.as_deref()), (true, Some("cold")));
    }
    let crash = lv
        .create_snapshot(&call(90), &vm_ref(vm), &of("crash", false))
        .await
        .unwrap();
    assert_eq!((crash.memory, crash.parent.as_deref()), (false, Some("warm")));
    inside("echo second > /run/mark").await.unwrap().unwrap();

    lv.revert_snapshot(&call(90), &vm_ref(vm), "warm").await.unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Running);
    let mark = eventually("the agent after going back", 60, async || {
        inside("cat /run/mark").await.unwrap().ok()
    })
    .await;
    assert_eq!(mark.trim(), "first");
    // A second child of the same parent.
    lv.create_snapshot(&call(90), &vm_ref(vm), &of("warm-2", true))
        .await
        .unwrap();
    let tree = names(&lv, vm).await;
    let parent_of = |name: &str| tree.iter().find(|s| s.0 == name).unwrap().1.clone();
    assert_eq!(parent_of("warm-2").as_deref(), Some("warm"));
    assert_eq!(tree.len(), 4);

    // The disks alone: as after a power cut.
    lv.revert_snapshot(&call(90), &vm_ref(vm), "crash").await.unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Off);
    lv.revert_snapshot(&call(90), &vm_ref(vm), "warm").await.unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Running);
    lv.revert_snapshot(&call(90), &vm_ref(vm), "cold").await.unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Off);

    for _ in 0..2 {
        lv.delete_snapshot(&call(60), &vm_ref(vm), "warm").await.unwrap();
    }
    let tree = names(&lv, vm).await;
    let parents: Vec<_> = tree
        .iter()
        .map(|(name, parent, _)| (name.as_str(), parent.as_deref()))
        .collect();
    assert_eq!(
        parents,
        [("cold", None), ("crash", Some("cold")), ("warm-2", Some("cold"))]
    );
    let missing = lv
        .revert_snapshot(&call(60), &vm_ref(vm), "warm")
        .await
        .unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing}");
    assert_eq!(missing.subject.unwrap().id, "warm");

    // Removed with its snapshots.
    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    lv.delete_volume(&call(30), POOL, &iso.name).await.unwrap();
    lv.delete_volume(&call(30), POOL, &root.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_gone_back_to_is_refused() {
    let lv = on_qemu();
    let vm = VmId::random();
    let good = blank(POOL, &format!("{vm}-0.qcow2"), 1 << 26);
    let raw = VolumeSpec {
        format: VolumeFormat::Raw,
        ..blank(POOL, &format!("{vm}-1.raw"), 1 << 26)
    };
    let disks = [
        lv.create_volume(&call(60), &good).await.unwrap(),
        lv.create_volume(&call(60), &raw).await.unwrap(),
    ];
    let plan = spec("unsnapped", vec![good.clone(), raw.clone()], NicSource::User);
    lv.define(&call(60), vm, &plan, &disks, None).await.unwrap();
    let refused = lv
        .create_snapshot(&call(60), &vm_ref(vm), &of("s", false))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unsupported, "{refused}");
    assert!(refused.detail.contains("vdb is raw"), "{refused}");
    let alone = SnapshotSpec {
        disks: Some(vec!["vda".into()]),
        ..of("alone", false)
    };
    let refused = lv
        .create_snapshot(&call(60), &vm_ref(vm), &alone)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unsupported, "{refused}");
    assert!(refused.detail.contains("vdb"), "{refused}");
    let nowhere = SnapshotSpec {
        disks: Some(vec!["vdz".into()]),
        ..of("nowhere", false)
    };
    let refused = lv
        .create_snapshot(&call(60), &vm_ref(vm), &nowhere)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound, "{refused}");
    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    for name in [&good.name, &raw.name] {
        lv.delete_volume(&call(30), POOL, name).await.unwrap();
    }
}
