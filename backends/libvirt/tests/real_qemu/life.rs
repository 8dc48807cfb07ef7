//! Definitions with everything that a spec can ask for, and memory that is saved and restored.

use babelvisor_core::model::{
    BootDevice, DiskAttachment, GraphicsKind, MediumKind, MediumSpec, NicSpec, StaticAddress, VideoAdapter,
    VmChange, VmSpec,
};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_is_honoured_in_every_field() {
    let lv = on_qemu();
    let vm = VmId::random();
    let job = call(60);
    let root = VolumeSpec {
        bus: Some("sata".into()),
        ..blank(POOL, &format!("{vm}-0.qcow2"), 1 << 30)
    };
    let data = blank(POOL, &format!("{vm}-data.qcow2"), 2 << 30);
    let disk = lv.create_volume(&job, &root).await.unwrap();
    lv.create_volume(&job, &data).await.unwrap();
    let iso = lv
        .create_volume(
            &job,
            &VolumeSpec {
                format: VolumeFormat::Raw,
                ..blank(POOL, &format!("{vm}.iso"), 1 << 20)
            },
        )
        .await
        .unwrap();
    let mut plan = spec("whole", vec![root.clone()], nic());
    plan.vcpus = 2;
    plan.max_vcpus = 4;
    plan.topology = Some((1, 2, 2));
    plan.cpu_model = Some("qemu64".into());
    plan.max_memory = 256 << 20;
    plan.boot = vec![BootDevice::Cdrom, BootDevice::Disk, BootDevice::Network];
    plan.attached = vec![DiskAttachment {
        volume: storage::place(&data.name),
        format: VolumeFormat::Qcow2,
        bus: Some("scsi".into()),
        readonly: false,
        shareable: false,
    }];
    plan.media = vec![
        MediumSpec {
            kind: MediumKind::Cdrom,
            source: Some(iso.native.clone()),
        },
        MediumSpec {
            kind: MediumKind::Floppy,
            source: None,
        },
    ];
    plan.graphics = vec![GraphicsKind::Vnc];
    plan.video = vec![
        VideoAdapter {
            model: "vga".into(),
            memory: Some(32 << 20),
            heads: None,
        },
        VideoAdapter {
            model: "virtio".into(),
            memory: None,
            heads: Some(2),
        },
    ];
    plan.nics.push(NicSpec {
        source: NicSource::User,
        mac: Some("52:54:00:0A:0b:0c".into()),
        model: Some("e1000".into()),
    });
    let made = lv.define(&job, vm, &plan, &[disk], None).await.unwrap();
    assert_eq!(
        (made.cpu.current, made.cpu.max, made.cpu.topology),
        (2, 4, Some((1, 2, 2)))
    );
    assert_eq!(made.cpu.model.as_deref(), Some("qemu64"));
    assert_eq!((made.memory.current, made.memory.max), (192 << 20, 256 << 20));
    assert_eq!(made.boot, plan.boot);
    let disks: Vec<_> = made.disks.iter().map(|d| (d.bus.as_str(), d.capacity)).collect();
    assert_eq!(disks, [("sata", 1 << 30), ("scsi", 2 << 30)]);
    let drives: Vec<_> = made
        .removable
        .iter()
        .map(|m| (m.kind.as_str(), m.source.clone()))
        .collect();
    assert_eq!(drives, [("cdrom", Some(iso.native.clone())), ("floppy", None)]);
    assert_eq!(made.video, ["vga", "virtio"]);
    assert_eq!(
        (made.nics[1].mac.as_str(), made.nics[1].model.as_str()),
        ("52:54:00:0a:0b:0c", "e1000")
    );
    // It can really be started like that.
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();

    // The volume is in use now: nobody else gets it.
    let mut second = spec("greedy", vec![], NicSource::User);
    second.attached = plan.attached.clone();
    let refused = lv
        .define(&call(30), VmId::random(), &second, &[], None)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert!(refused.detail.contains("whole"), "{refused}");

    lv.power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    for name in [&root.name, &data.name, &iso.name] {
        lv.delete_volume(&call(30), POOL, name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_spec_contradicts_is_refused_by_its_field() {
    let lv = on_qemu();
    let base = spec("refused", vec![], NicSource::User);
    type Edit = fn(&mut VmSpec);
    let cases: [(&str, Edit); 6] = [
        ("max_vcpus", |s| {
            s.vcpus = 4;
            s.max_vcpus = 2;
        }),
        ("max_memory", |s| s.max_memory = 1 << 20),
        ("topology", |s| s.topology = Some((2, 2, 2))),
        ("cpu_model", |s| s.cpu_model = Some("abacus".into())),
        ("vcpus", |s| s.vcpus = 0),
        ("memory", |s| s.memory = 0),
    ];
    for (field, change) in cases {
        let mut plan = base.clone();
        change(&mut plan);
        let vm = VmId::random();
        let refused = lv.define(&call(30), vm, &plan, &[], None).await.unwrap_err();
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (ErrorKind::InvalidInput, Some(field)),
            "{refused}"
        );
        assert!(lv.get(&call(20), &vm_ref(vm)).await.unwrap().is_none());
    }
    let mut plan = base;
    plan.nics[0].source = NicSource::Network("no-such-network".into());
    let refused = lv
        .define(&call(30), VmId::random(), &plan, &[], None)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_saved_and_goes_on_where_it_was() {
    let lv = Arc::new(on_qemu());
    let mut watched = Watched::start(&lv);
    let vm = VmId::random();
    let root = layer(&format!("{vm}-0.qcow2"));
    let disk = lv.create_volume(&call(60), &root).await.unwrap();
    let plan = spec("saved", vec![root.clone()], nic());
    lv.define(&call(60), vm, &plan, &[disk], None).await.unwrap();
    let restored = lv
        .power(&call(30), &vm_ref(vm), PowerAction::Restore)
        .await
        .unwrap_err();
    assert_eq!(restored.kind, ErrorKind::IllegalState, "{restored}");
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    watched
        .vm("the agent is connected", 120, vm, |f| {
            f.agent == AgentState::Connected
        })
        .await;
    let inside = |line: &'static str| {
        tokio::task::spawn_blocking(move || guest::run_inside(libvirtd(), "saved", line))
    };
    inside("echo before > /run/mark").await.unwrap().unwrap();

    for _ in 0..2 {
        lv.power(&call(90), &vm_ref(vm), PowerAction::Save).await.unwrap();
        let now = facts(&lv, vm).await;
        assert_eq!((now.power, now.saved), (PowerState::Off, true));
    }
    // Saved memory was made with the hardware as it is.
    let change = VmChange::Cpu {
        current: 2,
        max: 2,
        topology: None,
    };
    let refused = lv.change(&call(30), &vm_ref(vm), &change).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::IllegalState, "{refused}");
    for _ in 0..2 {
        lv.power(&call(90), &vm_ref(vm), PowerAction::Restore)
            .await
            .unwrap();
        let now = facts(&lv, vm).await;
        assert_eq!((now.power, now.saved), (PowerState::Running, false));
    }
    let mark = eventually("the agent after the restore", 60, async || {
        inside("cat /run/mark").await.unwrap().ok()
    })
    .await;
    assert_eq!(mark.trim(), "before");

    // A start goes on from saved memory, too, and a VM with saved memory can be removed.
    lv.power(&call(90), &vm_ref(vm), PowerAction::Suspend)
        .await
        .unwrap();
    lv.power(&call(90), &vm_ref(vm), PowerAction::Save).await.unwrap();
    lv.power(&call(90), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Running);
    lv.power(&call(90), &vm_ref(vm), PowerAction::Save).await.unwrap();
    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    assert!(lv.get(&call(20), &vm_ref(vm)).await.unwrap().is_none());
    lv.delete_volume(&call(30), POOL, &root.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seed_knows_the_interfaces_that_the_vm_is_given() {
    let lv = on_qemu();
    let vm = VmId::random();
    let job = call(60);
    let mut plan = spec("addressed", vec![], nic());
    plan.nics.push(NicSpec {
        source: NicSource::User,
        mac: Some("52:54:00:99:00:02".into()),
        model: None,
    });
    let setup = GuestSetup {
        hostname: "addressed".into(),
        user_data: Some(job.keyring.seal(&Secret::new("#!/bin/sh\ntrue\n")).unwrap()),
        addresses: vec![StaticAddress {
            nic: 0,
            address: "10.9.8.7".parse().unwrap(),
            prefix: 24,
            gateway: Some("10.9.8.1".parse().unwrap()),
        }],
        ..GuestSetup::default()
    };
    plan.guest = Some(setup.clone());
    let name = format!("{vm}-seed.img");
    let seed = lv.create_seed(&job, vm, POOL, &name, &setup).await.unwrap();
    let made = lv.define(&job, vm, &plan, &[], Some(&seed)).await.unwrap();
    let content = std::fs::read(libvirtd().pool_dir().join(&name)).unwrap();
    let content = String::from_utf8_lossy(&content);
    for text in [
        made.nics[0].mac.as_str(),
        "52:54:00:99:00:02",
        "10.9.8.7/24",
        "10.9.8.1",
        "#cloud-config-archive",
        "#!/bin/sh",
    ] {
        assert!(content.contains(text), "{text} is not in the seed");
    }
    // A medium that is asked for goes elsewhere: the seed stays where it is, unless it is named.
    let eject = VmChange::EjectMedium {
        kind: MediumKind::Cdrom,
        target: None,
    };
    lv.change(&call(30), &vm_ref(vm), &eject).await.unwrap();
    let kept = facts(&lv, vm).await;
    assert_eq!(kept.removable[0].source.as_deref(), Some(seed.native.as_str()));
    let named = VmChange::EjectMedium {
        kind: MediumKind::Cdrom,
        target: Some(kept.removable[0].target.clone()),
    };
    lv.change(&call(30), &vm_ref(vm), &named).await.unwrap();
    assert_eq!(facts(&lv, vm).await.removable[0].source, None);
    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    lv.delete_volume(&call(30), POOL, &name).await.unwrap();
}
