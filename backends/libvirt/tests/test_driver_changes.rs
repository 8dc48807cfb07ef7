//! Changes, saved memory, snapshots and pictures on libvirt's test driver, as far as it goes; beyond that its refusals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::Backend;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    Bandwidth, BootDevice, DiskAttachment, DiskLimits, MediumKind, NicSource, NicSpec, PoolVolume,
    PowerState, SnapshotSpec, VideoAdapter, VmChange, VmId, VmSpec, VolumeSpec,
};
use babelvisor_core::secret::Secret;
use babelvisor_libvirt::{LibvirtBackend, LibvirtConfig};
use support::{backend, blank, call, facts, power_of, spec, vm_ref};

const POOL: &str = "default-pool";

fn on_test_driver() -> LibvirtBackend {
    backend(LibvirtConfig::new("test:///default"))
}

fn network() -> NicSource {
    NicSource::Network("default".into())
}

/// A VM with one disk, off.
async fn defined(lv: &LibvirtBackend, name: &str, edit: impl FnOnce(&mut VmSpec)) -> (VmId, VolumeSpec) {
    let vm = VmId::random();
    let root = blank(POOL, &format!("{vm}-0.qcow2"), 1 << 30);
    let disk = lv.create_volume(&call(20), &root).await.unwrap();
    let mut plan = spec(name, vec![root.clone()], network());
    plan.nics[0].mac = Some("52:54:00:88:00:01".into());
    edit(&mut plan);
    lv.define(&call(20), vm, &plan, &[disk], None).await.unwrap();
    (vm, root)
}

async fn gone(lv: &LibvirtBackend, vm: VmId, volumes: &[&str]) {
    lv.power(&call(20), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    lv.undefine(&call(20), &vm_ref(vm)).await.unwrap();
    for name in volumes {
        lv.delete_volume(&call(20), POOL, name).await.unwrap();
    }
}

async fn change(lv: &LibvirtBackend, vm: VmId, change: &VmChange) {
    for _ in 0..2 {
        lv.change(&call(20), &vm_ref(vm), change)
            .await
            .unwrap_or_else(|e| panic!("{change:?}: {e}"));
    }
}

#[tokio::test]
async fn memory_is_saved_and_restored() {
    let lv = on_test_driver();
    let (vm, root) = defined(&lv, "saves", |_| {}).await;
    let power = async |action| lv.power(&call(20), &vm_ref(vm), action).await;
    assert_eq!(
        power(PowerAction::Save).await.unwrap_err().kind,
        ErrorKind::IllegalState
    );
    assert_eq!(
        power(PowerAction::Restore).await.unwrap_err().kind,
        ErrorKind::IllegalState
    );
    power(PowerAction::Start).await.unwrap();
    for _ in 0..2 {
        power(PowerAction::Save).await.unwrap();
        let now = facts(&lv, vm).await;
        assert_eq!((now.power, now.saved), (PowerState::Off, true));
    }
    for _ in 0..2 {
        power(PowerAction::Restore).await.unwrap();
        let now = facts(&lv, vm).await;
        assert_eq!((now.power, now.saved), (PowerState::Running, false));
    }
    power(PowerAction::Save).await.unwrap();
    lv.undefine(&call(20), &vm_ref(vm)).await.unwrap();
    assert!(lv.get(&call(20), &vm_ref(vm)).await.unwrap().is_none());
    lv.delete_volume(&call(20), POOL, &root.name).await.unwrap();
}

#[tokio::test]
async fn sizes_change_while_it_runs_and_while_it_is_off() {
    let lv = on_test_driver();
    let (vm, root) = defined(&lv, "sizes", |plan| {
        plan.max_vcpus = 4;
        plan.max_memory = 512 << 20;
    })
    .await;
    let made = facts(&lv, vm).await;
    assert_eq!((made.cpu.current, made.cpu.max), (1, 4));
    assert_eq!((made.memory.current, made.memory.max), (192 << 20, 512 << 20));
    lv.power(&call(20), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    change(
        &lv,
        vm,
        &VmChange::Cpu {
            current: 3,
            max: 4,
            topology: None,
        },
    )
    .await;
    change(
        &lv,
        vm,
        &VmChange::Memory {
            current: 256 << 20,
            max: 512 << 20,
        },
    )
    .await;
    let now = facts(&lv, vm).await;
    assert_eq!((now.cpu.current, now.memory.current), (3, 256 << 20));
    let limits = DiskLimits {
        write_bytes: 1 << 20,
        ..DiskLimits::default()
    };
    let target = now.disks[0].target.clone();
    change(
        &lv,
        vm,
        &VmChange::DiskQos {
            target: target.clone(),
            limits,
        },
    )
    .await;
    change(
        &lv,
        vm,
        &VmChange::DiskQos {
            target,
            limits: DiskLimits::default(),
        },
    )
    .await;
    let bandwidth = Some(Bandwidth {
        average: 1 << 20,
        peak: 2 << 20,
        burst: 0,
    });
    let mac = now.nics[0].mac.clone();
    let limit = VmChange::NicQos {
        mac: mac.clone(),
        inbound: bandwidth,
        outbound: None,
    };
    change(&lv, vm, &limit).await;
    assert!(
        facts(&lv, vm)
            .await
            .definition
            .unwrap()
            .contains("average='1024'")
    );
    change(
        &lv,
        vm,
        &VmChange::NicQos {
            mac,
            inbound: None,
            outbound: None,
        },
    )
    .await;
    assert!(!facts(&lv, vm).await.definition.unwrap().contains("<inbound"));
    change(
        &lv,
        vm,
        &VmChange::BootOrder {
            order: vec![BootDevice::Network],
        },
    )
    .await;
    change(&lv, vm, &VmChange::Autostart { on: true }).await;
    assert!(facts(&lv, vm).await.autostart);
    lv.power(&call(20), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    let off = facts(&lv, vm).await;
    assert_eq!((off.cpu.current, off.memory.current), (3, 256 << 20));
    assert_eq!(off.boot, [BootDevice::Network]);
    change(
        &lv,
        vm,
        &VmChange::Cpu {
            current: 2,
            max: 2,
            topology: Some((1, 2, 1)),
        },
    )
    .await;
    let off = facts(&lv, vm).await;
    assert_eq!((off.cpu.max, off.cpu.topology), (2, Some((1, 2, 1))));
    gone(&lv, vm, &[&root.name]).await;
}

#[tokio::test]
async fn devices_change_while_it_is_off_and_running_ones_are_refused() {
    let lv = on_test_driver();
    let (vm, root) = defined(&lv, "devices", |_| {}).await;
    let data = blank(POOL, &format!("{vm}-data.qcow2"), 1 << 30);
    lv.create_volume(&call(20), &data).await.unwrap();
    let attach = VmChange::AttachDisk(DiskAttachment {
        volume: PoolVolume {
            pool: POOL.into(),
            name: data.name.clone(),
        },
        format: data.format,
        bus: None,
        readonly: false,
        shareable: false,
    });
    let nic = NicSpec {
        source: network(),
        mac: Some("52:54:00:88:00:02".into()),
        model: None,
    };
    let insert = VmChange::InsertMedium {
        kind: MediumKind::Cdrom,
        target: None,
        source: format!("{POOL}/{}", root.name),
    };
    lv.power(&call(20), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    for wanted in [&attach, &VmChange::AttachNic(nic.clone()), &insert] {
        let refused = lv.change(&call(20), &vm_ref(vm), wanted).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unsupported, "{refused}");
        assert!(refused.detail.contains("power it off"), "{refused}");
    }
    let detach = VmChange::DetachDisk { target: "vda".into() };
    let refused = lv.change(&call(20), &vm_ref(vm), &detach).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unsupported, "{refused}");
    lv.power(&call(20), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();

    change(&lv, vm, &attach).await;
    change(&lv, vm, &VmChange::AttachNic(nic.clone())).await;
    change(&lv, vm, &insert).await;
    let to = NicSpec {
        mac: Some("52:54:00:88:00:03".into()),
        ..nic
    };
    change(
        &lv,
        vm,
        &VmChange::UpdateNic {
            mac: "52:54:00:88:00:02".into(),
            to,
        },
    )
    .await;
    let adapters = vec![VideoAdapter {
        model: "vga".into(),
        memory: None,
        heads: None,
    }];
    change(&lv, vm, &VmChange::Video { adapters }).await;
    let now = facts(&lv, vm).await;
    assert_eq!(now.disks[1].volume.as_ref().unwrap().name, data.name);
    assert_eq!(now.nics[1].mac, "52:54:00:88:00:03");
    assert!(now.removable[0].source.is_some());
    assert_eq!(now.video, ["vga"]);

    change(
        &lv,
        vm,
        &VmChange::DetachDisk {
            target: now.disks[1].target.clone(),
        },
    )
    .await;
    change(
        &lv,
        vm,
        &VmChange::DetachNic {
            mac: "52:54:00:88:00:03".into(),
        },
    )
    .await;
    change(
        &lv,
        vm,
        &VmChange::EjectMedium {
            kind: MediumKind::Cdrom,
            target: None,
        },
    )
    .await;
    let now = facts(&lv, vm).await;
    assert_eq!((now.disks.len(), now.nics.len()), (1, 1));
    assert_eq!(now.removable[0].source, None);
    gone(&lv, vm, &[&root.name, &data.name]).await;
}

#[tokio::test]
async fn snapshots_are_a_tree() {
    let lv = on_test_driver();
    let (vm, root) = defined(&lv, "snapshots", |_| {}).await;
    let of = |name: &str, memory: bool| SnapshotSpec {
        name: name.into(),
        title: name.into(),
        memory,
        disks: None,
    };
    let make = async |name: &str, memory: bool| {
        lv.create_snapshot(&call(20), &vm_ref(vm), &of(name, memory))
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    assert!(!make("off", false).await.memory);
    lv.power(&call(20), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    assert!(make("warm", true).await.memory);
    assert!(!make("crash", false).await.memory);
    let revert = async |name: &str| lv.revert_snapshot(&call(20), &vm_ref(vm), name).await;
    revert("crash").await.unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Off);
    revert("warm").await.unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Running);
    revert("off").await.unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Off);
    lv.delete_snapshot(&call(20), &vm_ref(vm), "warm").await.unwrap();
    lv.delete_snapshot(&call(20), &vm_ref(vm), "warm").await.unwrap();
    let all = lv.snapshots(&call(20), &vm_ref(vm)).await.unwrap();
    let tree: Vec<_> = all
        .iter()
        .map(|s| (s.name.as_str(), s.parent.as_deref()))
        .collect();
    assert_eq!(tree, [("off", None), ("crash", Some("off"))]);
    assert_eq!(revert("warm").await.unwrap_err().kind, ErrorKind::NotFound);
    gone(&lv, vm, &[&root.name]).await;
}

#[tokio::test]
async fn a_picture_and_a_password() {
    let lv = on_test_driver();
    let (vm, root) = defined(&lv, "picture", |_| {}).await;
    let off = lv.screenshot(&call(20), &vm_ref(vm)).await.unwrap_err();
    assert_eq!(off.kind, ErrorKind::IllegalState, "{off}");
    lv.power(&call(20), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    let picture = lv.screenshot(&call(20), &vm_ref(vm)).await.unwrap();
    assert_eq!(picture.media_type, "image/png");
    assert!(picture.bytes.starts_with(b"\x89PNG"));
    let job = call(20);
    let password = job.keyring.seal(&Secret::new("Qu1et-river")).unwrap();
    let set = VmChange::GuestPassword {
        user: "root".into(),
        password,
    };
    lv.change(&job, &vm_ref(vm), &set).await.unwrap();
    gone(&lv, vm, &[&root.name]).await;
}

#[tokio::test]
async fn what_it_cannot_do_has_its_reason() {
    let lv = on_test_driver();
    let known = lv.capabilities();
    for capability in [
        Capability::VolumeResize,
        Capability::VolumeUpload,
        Capability::VmMigrate,
    ] {
        let verdict = known.get(capability);
        assert_eq!(verdict.word(), "impossible", "{capability:?}");
        assert!(verdict.reason().unwrap().contains("test driver"));
    }
    for (capability, verdict) in known.iter() {
        assert_ne!(verdict.word(), "not_yet", "{capability:?}");
    }
}
