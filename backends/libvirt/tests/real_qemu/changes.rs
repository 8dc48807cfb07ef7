//! Changes of a running guest and of one that is off.

use babelvisor_core::model::{
    Bandwidth, BootDevice, DiskAttachment, DiskLimits, MediumKind, NicSpec, VideoAdapter, VmChange,
};

use super::*;

async fn change(lv: &LibvirtBackend, vm: VmId, change: &VmChange) {
    // Twice: what is so already is no error.
    for _ in 0..2 {
        lv.change(&call(60), &vm_ref(vm), change)
            .await
            .unwrap_or_else(|e| panic!("{change:?}: {e}"));
    }
}

async fn refused(lv: &LibvirtBackend, vm: VmId, change: &VmChange) -> babelvisor_core::Error {
    lv.change(&call(30), &vm_ref(vm), change).await.unwrap_err()
}

fn attachment(name: &str) -> DiskAttachment {
    DiskAttachment {
        volume: storage::place(name),
        format: VolumeFormat::Qcow2,
        bus: None,
        readonly: false,
        shareable: false,
    }
}

/// The definition on disk, apart from what runs.
fn stored(name: &str) -> String {
    libvirtd().virsh(&["dumpxml", "--inactive", name]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_guest_takes_new_hardware_and_lets_it_go() {
    let lv = Arc::new(on_qemu());
    let mut watched = Watched::start(&lv);
    let vm = VmId::random();
    let root = layer(&format!("{vm}-0.qcow2"));
    let data = blank(POOL, &format!("{vm}-data.qcow2"), 1 << 26);
    let disk = lv.create_volume(&call(60), &root).await.unwrap();
    lv.create_volume(&call(60), &data).await.unwrap();
    let iso = VolumeSpec {
        format: VolumeFormat::Raw,
        ..blank(POOL, &format!("{vm}.iso"), 1 << 20)
    };
    let other_iso = VolumeSpec {
        name: format!("{vm}-other.iso"),
        ..iso.clone()
    };
    let iso = lv.create_volume(&call(60), &iso).await.unwrap();
    let other_iso = lv.create_volume(&call(60), &other_iso).await.unwrap();
    let mut plan = spec("plugged", vec![root.clone()], nic());
    plan.max_vcpus = 2;
    plan.console_password = Some(call(1).keyring.seal(&Secret::new("old-pw")).unwrap());
    let job = call(60);
    plan.console_password = Some(job.keyring.seal(&Secret::new("old-pw")).unwrap());
    lv.define(&job, vm, &plan, &[disk], None).await.unwrap();
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    watched
        .vm("the agent is connected", 120, vm, |f| {
            f.agent == AgentState::Connected
        })
        .await;
    let inside = |line: &'static str| {
        tokio::task::spawn_blocking(move || guest::run_inside(libvirtd(), "plugged", line))
    };

    // A disk: seen inside, limited, made larger, and given back.
    change(&lv, vm, &VmChange::AttachDisk(attachment(&data.name))).await;
    eventually("the new disk inside", 30, async || {
        inside("test -b /dev/vdb && cat /sys/block/vdb/size")
            .await
            .unwrap()
            .ok()
    })
    .await;
    assert!(stored("plugged").contains(&data.name));
    let grown = lv
        .resize_volume(&call(30), &storage::place(&data.name), Some(&vm_ref(vm)), 1 << 27)
        .await
        .unwrap();
    assert_eq!(grown.capacity, 1 << 27);
    eventually("the new size inside", 30, async || {
        let sectors = inside("cat /sys/block/vdb/size").await.unwrap().ok()?;
        (sectors.trim() == "262144").then_some(())
    })
    .await;
    let limits = DiskLimits {
        total_bytes: 1 << 20,
        read_iops: 100,
        ..DiskLimits::default()
    };
    change(
        &lv,
        vm,
        &VmChange::DiskQos {
            target: "vdb".into(),
            limits,
        },
    )
    .await;
    for xml in [
        stored("plugged"),
        libvirtd().virsh(&["dumpxml", "plugged"]).unwrap(),
    ] {
        assert!(
            xml.contains("<total_bytes_sec>1048576</total_bytes_sec>"),
            "{xml}"
        );
        assert!(xml.contains("<read_iops_sec>100</read_iops_sec>"), "{xml}");
    }
    change(
        &lv,
        vm,
        &VmChange::DiskQos {
            target: "vdb".into(),
            limits: DiskLimits::default(),
        },
    )
    .await;
    assert!(!stored("plugged").contains("<iotune>"));
    change(&lv, vm, &VmChange::DetachDisk { target: "vdb".into() }).await;
    assert!(!stored("plugged").contains(&data.name));
    assert_eq!(facts(&lv, vm).await.disks.len(), 1);
    assert!(inside("test ! -b /dev/vdb").await.unwrap().is_ok());

    // An interface.
    let mac = "52:54:00:77:00:01";
    let wanted = NicSpec {
        source: NicSource::User,
        mac: Some(mac.to_uppercase()),
        model: None,
    };
    change(&lv, vm, &VmChange::AttachNic(wanted.clone())).await;
    eventually("the new interface inside", 30, async || {
        inside("cat /sys/class/net/*/address")
            .await
            .unwrap()
            .ok()?
            .contains(mac)
            .then_some(())
    })
    .await;
    let other_model = NicSpec {
        model: Some("e1000".into()),
        ..wanted.clone()
    };
    let error = refused(
        &lv,
        vm,
        &VmChange::UpdateNic {
            mac: mac.into(),
            to: other_model,
        },
    )
    .await;
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
    change(&lv, vm, &VmChange::DetachNic { mac: mac.into() }).await;
    assert_eq!(facts(&lv, vm).await.nics.len(), 1);
    assert!(!stored("plugged").contains(mac));

    // A medium, in a drive that is plugged in for it.
    let insert = VmChange::InsertMedium {
        kind: MediumKind::Cdrom,
        target: None,
        source: iso.native.clone(),
    };
    change(&lv, vm, &insert).await;
    let now = facts(&lv, vm).await;
    assert_eq!(now.removable[0].source.as_deref(), Some(iso.native.as_str()));
    change(
        &lv,
        vm,
        &VmChange::EjectMedium {
            kind: MediumKind::Cdrom,
            target: None,
        },
    )
    .await;
    assert!(facts(&lv, vm).await.removable.iter().all(|m| m.source.is_none()));
    assert!(!stored("plugged").contains(&iso.native));
    // Into the same drive again, and from one medium to another.
    change(&lv, vm, &insert).await;
    let other = VmChange::InsertMedium {
        kind: MediumKind::Cdrom,
        target: None,
        source: format!("{POOL}/{}", other_iso.name),
    };
    change(&lv, vm, &other).await;
    let now = facts(&lv, vm).await;
    assert_eq!(now.removable.len(), 1);
    assert_eq!(
        now.removable[0].source.as_deref(),
        Some(other_iso.native.as_str())
    );

    // vCPUs and memory, within what it was started with.
    change(
        &lv,
        vm,
        &VmChange::Cpu {
            current: 2,
            max: 2,
            topology: None,
        },
    )
    .await;
    assert_eq!(facts(&lv, vm).await.cpu.current, 2);
    eventually("the new vCPU inside", 30, async || {
        let cpus = inside("ls -d /sys/devices/system/cpu/cpu1").await.unwrap();
        cpus.ok()
    })
    .await;
    let fewer = refused(
        &lv,
        vm,
        &VmChange::Cpu {
            current: 1,
            max: 2,
            topology: None,
        },
    )
    .await;
    assert_eq!(fewer.kind, ErrorKind::Unsupported, "{fewer}");
    let more = refused(
        &lv,
        vm,
        &VmChange::Cpu {
            current: 3,
            max: 4,
            topology: None,
        },
    )
    .await;
    assert_eq!(more.kind, ErrorKind::IllegalState, "{more}");
    change(
        &lv,
        vm,
        &VmChange::Memory {
            current: 160 << 20,
            max: 192 << 20,
        },
    )
    .await;
    assert!(facts(&lv, vm).await.memory.current.abs_diff(160 << 20) < 1 << 20);

    // Passwords.
    let job = call(60);
    let sealed = |text: &str| job.keyring.seal(&Secret::new(text)).unwrap();
    let console = VmChange::ConsolePassword {
        password: Some(sealed("new-pw")),
    };
    lv.change(&job, &vm_ref(vm), &console).await.unwrap();
    let read = lv.console_password(&call(20), &vm_ref(vm)).await.unwrap();
    assert_eq!(read.unwrap().expose(), "new-pw");
    change(&lv, vm, &VmChange::ConsolePassword { password: None }).await;
    assert!(
        lv.console_password(&call(20), &vm_ref(vm))
            .await
            .unwrap()
            .is_none()
    );
    let before = inside("grep ^root: /etc/shadow").await.unwrap().unwrap();
    let login = VmChange::GuestPassword {
        user: "root".into(),
        password: sealed("Blu3-whale"),
    };
    lv.change(&job, &vm_ref(vm), &login).await.unwrap();
    assert_ne!(inside("grep ^root: /etc/shadow").await.unwrap().unwrap(), before);

    let picture = lv.screenshot(&call(30), &vm_ref(vm)).await.unwrap();
    assert!(picture.media_type.starts_with("image/"), "{}", picture.media_type);
    assert!(picture.bytes.len() > 100);

    // What takes effect at the next start, or with the host.
    change(
        &lv,
        vm,
        &VmChange::BootOrder {
            order: vec![BootDevice::Network, BootDevice::Disk],
        },
    )
    .await;
    change(&lv, vm, &VmChange::Autostart { on: true }).await;
    assert!(facts(&lv, vm).await.autostart);
    change(&lv, vm, &VmChange::Autostart { on: false }).await;
    lv.power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    assert_eq!(facts(&lv, vm).await.boot, [BootDevice::Network, BootDevice::Disk]);
    let off = lv.screenshot(&call(30), &vm_ref(vm)).await.unwrap_err();
    assert_eq!(off.kind, ErrorKind::IllegalState);
    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    for name in [&root.name, &data.name, &iso.name, &other_iso.name] {
        lv.delete_volume(&call(30), POOL, name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_that_is_off_is_changed_in_its_definition() {
    let lv = on_qemu();
    let vm = VmId::random();
    let data = blank(POOL, &format!("{vm}-data.qcow2"), 1 << 26);
    lv.create_volume(&call(60), &data).await.unwrap();
    let image = VolumeSpec {
        format: VolumeFormat::Raw,
        ..blank(POOL, &format!("{vm}.img"), 1_474_560)
    };
    let image = lv.create_volume(&call(60), &image).await.unwrap();
    let mut plan = spec("still", vec![], nic());
    plan.nics[0].mac = Some("52:54:00:77:00:10".into());
    lv.define(&call(60), vm, &plan, &[], None).await.unwrap();

    let mut scsi = attachment(&data.name);
    scsi.bus = Some("scsi".into());
    change(&lv, vm, &VmChange::AttachDisk(scsi)).await;
    assert_eq!(facts(&lv, vm).await.disks[0].bus, "scsi");
    let detach = VmChange::DetachDisk { target: "sda".into() };
    change(&lv, vm, &detach).await;
    change(&lv, vm, &VmChange::AttachDisk(attachment(&data.name))).await;
    change(
        &lv,
        vm,
        &VmChange::Cpu {
            current: 2,
            max: 4,
            topology: Some((2, 2, 1)),
        },
    )
    .await;
    change(
        &lv,
        vm,
        &VmChange::Memory {
            current: 128 << 20,
            max: 256 << 20,
        },
    )
    .await;
    let adapter = VideoAdapter {
        model: "virtio".into(),
        memory: None,
        heads: Some(2),
    };
    change(
        &lv,
        vm,
        &VmChange::Video {
            adapters: vec![adapter],
        },
    )
    .await;
    for (kind, drive) in [(MediumKind::Cdrom, "cdrom"), (MediumKind::Floppy, "floppy")] {
        let insert = VmChange::InsertMedium {
            kind,
            target: None,
            source: image.native.clone(),
        };
        change(&lv, vm, &insert).await;
        let now = facts(&lv, vm).await;
        let found = now.removable.iter().find(|m| m.kind == drive).unwrap();
        assert_eq!(found.source.as_deref(), Some(image.native.as_str()));
    }
    let to = NicSpec {
        source: NicSource::User,
        mac: Some("52:54:00:77:00:11".into()),
        model: Some("e1000".into()),
    };
    change(
        &lv,
        vm,
        &VmChange::UpdateNic {
            mac: "52:54:00:77:00:10".into(),
            to,
        },
    )
    .await;
    let now = facts(&lv, vm).await;
    assert_eq!(
        (now.cpu.current, now.cpu.max, now.cpu.topology),
        (2, 4, Some((2, 2, 1)))
    );
    assert_eq!((now.memory.current, now.memory.max), (128 << 20, 256 << 20));
    assert_eq!(
        (now.video.clone(), now.disks[0].bus.as_str()),
        (vec!["virtio".to_owned()], "virtio")
    );
    assert_eq!(
        (
            now.nics[0].mac.as_str(),
            now.nics[0].model.as_str(),
            now.nics[0].source.as_str()
        ),
        ("52:54:00:77:00:11", "e1000", "user")
    );

    // It starts like that.
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    let video = refused(
        &lv,
        vm,
        &VmChange::Video {
            adapters: vec![VideoAdapter {
                model: "vga".into(),
                memory: None,
                heads: None,
            }],
        },
    )
    .await;
    assert_eq!(video.kind, ErrorKind::IllegalState, "{video}");
    // Without a driver nothing inside lets the memory go: said, and not remembered.
    let deaf = VmChange::Memory {
        current: 64 << 20,
        max: 256 << 20,
    };
    let hasty = CallContext {
        deadline: Instant::now() + Duration::from_secs(6),
        ..call(0)
    };
    let error = lv.change(&hasty, &vm_ref(vm), &deaf).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert!(!stored("still").contains(">65536<"));
    let kept = VmChange::DetachDisk {
        target: now.disks[0].target.clone(),
    };
    let hasty = CallContext {
        deadline: Instant::now() + Duration::from_secs(12),
        ..call(0)
    };
    let error = lv.change(&hasty, &vm_ref(vm), &kept).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Timeout, "{error}");
    assert!(stored("still").contains(&data.name));
    lv.power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();

    change(&lv, vm, &kept).await;
    change(
        &lv,
        vm,
        &VmChange::DetachNic {
            mac: "52:54:00:77:00:11".into(),
        },
    )
    .await;
    let now = facts(&lv, vm).await;
    assert!(now.disks.is_empty() && now.nics.is_empty());
    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    for name in [&data.name, &image.name] {
        lv.delete_volume(&call(30), POOL, name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_changed_says_why() {
    let lv = on_qemu();
    let (vm, other) = (VmId::random(), VmId::random());
    let data = blank(POOL, &format!("{vm}-data.qcow2"), 1 << 26);
    lv.create_volume(&call(60), &data).await.unwrap();
    let mut plan = spec("stubborn", vec![], nic());
    plan.nics[0].mac = Some("52:54:00:77:00:20".into());
    lv.define(&call(60), vm, &plan, &[], None).await.unwrap();
    lv.define(
        &call(60),
        other,
        &spec("other", vec![], NicSource::User),
        &[],
        None,
    )
    .await
    .unwrap();

    change(&lv, other, &VmChange::AttachDisk(attachment(&data.name))).await;
    let taken = refused(&lv, vm, &VmChange::AttachDisk(attachment(&data.name))).await;
    assert_eq!(taken.kind, ErrorKind::Conflict, "{taken}");
    change(&lv, other, &VmChange::DetachDisk { target: "vda".into() }).await;
    let mut shared = attachment(&data.name);
    (shared.shareable, shared.format) = (true, VolumeFormat::Raw);
    change(&lv, other, &VmChange::AttachDisk(shared.clone())).await;
    change(&lv, vm, &VmChange::AttachDisk(shared)).await;

    let cases: Vec<(VmChange, ErrorKind)> = vec![
        (
            VmChange::AttachDisk(attachment("no-such-volume")),
            ErrorKind::NotFound,
        ),
        (
            VmChange::AttachDisk(DiskAttachment {
                bus: Some("carrier-pigeon".into()),
                ..attachment(&data.name)
            }),
            ErrorKind::InvalidInput,
        ),
        (VmChange::BootOrder { order: vec![] }, ErrorKind::InvalidInput),
        (VmChange::Video { adapters: vec![] }, ErrorKind::InvalidInput),
        (
            VmChange::Video {
                adapters: vec![VideoAdapter {
                    model: "no-such-card".into(),
                    memory: None,
                    heads: None,
                }],
            },
            ErrorKind::Unsupported,
        ),
        (
            VmChange::AttachNic(NicSpec {
                source: NicSource::Network("no-such-network".into()),
                mac: Some("52:54:00:77:00:21".into()),
                model: None,
            }),
            ErrorKind::NotFound,
        ),
        (
            VmChange::UpdateNic {
                mac: "52:54:00:77:00:99".into(),
                to: NicSpec::default(),
            },
            ErrorKind::NotFound,
        ),
        (
            VmChange::InsertMedium {
                kind: MediumKind::Cdrom,
                target: None,
                source: "default/none.iso".into(),
            },
            ErrorKind::NotFound,
        ),
        (
            VmChange::DiskQos {
                target: "vda".into(),
                limits: DiskLimits {
                    total_bytes: 1,
                    read_bytes: 1,
                    ..DiskLimits::default()
                },
            },
            ErrorKind::InvalidInput,
        ),
        (
            VmChange::DiskQos {
                target: "vdz".into(),
                limits: DiskLimits::default(),
            },
            ErrorKind::NotFound,
        ),
    ];
    for (wanted, kind) in cases {
        // A volume that is attached already is not looked at for its bus.
        if matches!(&wanted, VmChange::AttachDisk(disk) if disk.bus.is_some()) {
            change(&lv, vm, &VmChange::DetachDisk { target: "vda".into() }).await;
            change(&lv, other, &VmChange::DetachDisk { target: "vda".into() }).await;
        }
        let error = refused(&lv, vm, &wanted).await;
        assert_eq!(error.kind, kind, "{wanted:?}: {error}");
        if matches!(wanted, VmChange::Video { .. }) {
            assert_eq!(facts(&lv, vm).await.video, ["vga"]);
        }
        if matches!(&wanted, VmChange::AttachDisk(disk) if disk.bus.is_some()) {
            change(&lv, vm, &VmChange::AttachDisk(attachment(&data.name))).await;
        }
    }

    // Limits of interfaces depend on the host's kernel: set and read, or refused with its reason and no trace.
    let limit = Some(Bandwidth {
        average: 1 << 20,
        peak: 0,
        burst: 0,
    });
    let qos = VmChange::NicQos {
        mac: "52:54:00:77:00:20".into(),
        inbound: limit,
        outbound: limit,
    };
    match lv.change(&call(60), &vm_ref(vm), &qos).await {
        Ok(()) => {
            assert!(stored("stubborn").contains("average='1024'"));
            let free = VmChange::NicQos {
                mac: "52:54:00:77:00:20".into(),
                inbound: None,
                outbound: None,
            };
            change(&lv, vm, &free).await;
        }
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
            println!("this host refuses: {error}");
        }
    }
    assert!(!stored("stubborn").contains("<bandwidth>"));
    let networks = libvirtd().virsh(&["net-list", "--all", "--name"]).unwrap();
    assert!(!networks.contains("probe"), "{networks}");
    for vm in [vm, other] {
        lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    }
    lv.delete_volume(&call(30), POOL, &data.name).await.unwrap();
}
