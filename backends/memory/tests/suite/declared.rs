//! Declared ⇔ implemented.

use babelvisor_core::backend::{Backend as _, VmRef};
use babelvisor_core::capability::{Capability, CapabilitySet, Support};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    Bandwidth, BootDevice, DiskAttachment, DiskLimits, MediumKind, NicSource, NicSpec, PoolVolume,
    PowerState, SnapshotSpec, VideoAdapter, VmChange, VmId,
};
use babelvisor_core::secret::Secret;
use babelvisor_core::{ErrorKind, Result};
use babelvisor_memory::MemoryConfig;

use crate::bench::{Bench, GIB, blank, copy, layer, small, spec};

/// Uses one capability on a fresh hypervisor, as it is meant to be used.
async fn exercise(bench: &Bench, capability: Capability) -> Result<()> {
    let (backend, call) = (&bench.backend, bench.call());
    let foreign = babelvisor_memory::ForeignVm {
        networks: vec!["default".to_owned()],
        ..babelvisor_memory::ForeignVm::named("theirs")
    };
    let id = bench.control.spawn_foreign_vm(foreign).unwrap();
    let vm = crate::bench::refer(&bench.control.vm(id).unwrap());
    let put = |power| bench.control.power_from_outside(id, power).unwrap();
    match capability {
        Capability::VmList => backend.list(&call).await.map(drop),
        Capability::VmCreate => {
            let defined = backend
                .define(&call, VmId::random(), &spec("web"), &[], None)
                .await;
            defined.map(drop)
        }
        Capability::VmDelete => {
            put(PowerState::Off);
            backend.undefine(&call, &vm).await
        }
        Capability::PowerStart => {
            put(PowerState::Off);
            backend.power(&call, &vm, PowerAction::Start).await
        }
        Capability::PowerShutdown => backend.power(&call, &vm, PowerAction::Shutdown).await,
        Capability::PowerForceOff => backend.power(&call, &vm, PowerAction::ForceOff).await,
        Capability::PowerReboot => backend.power(&call, &vm, PowerAction::Reboot).await,
        Capability::PowerReset => backend.power(&call, &vm, PowerAction::Reset).await,
        Capability::PowerSuspend => backend.power(&call, &vm, PowerAction::Suspend).await,
        Capability::PowerResume => {
            put(PowerState::Paused);
            backend.power(&call, &vm, PowerAction::Resume).await
        }
        Capability::PowerSave => backend.power(&call, &vm, PowerAction::Save).await,
        Capability::PowerRestore => {
            backend.power(&call, &vm, PowerAction::Save).await.unwrap();
            backend.power(&call, &vm, PowerAction::Restore).await
        }
        Capability::ConfigCpu
        | Capability::ConfigMemory
        | Capability::ConfigBoot
        | Capability::ConfigAutostart
        | Capability::ConfigVideo
        | Capability::DiskAttach
        | Capability::DiskDetach
        | Capability::DiskQos
        | Capability::NicAttach
        | Capability::NicDetach
        | Capability::NicUpdate
        | Capability::NicQos
        | Capability::MediaChange
        | Capability::GuestPassword => {
            if capability == Capability::ConfigVideo || capability == Capability::MediaChange {
                put(PowerState::Off);
            }
            let change = change(bench, &vm, capability).await;
            assert_eq!(change.needs(), capability);
            backend.change(&call, &vm, &change).await
        }
        Capability::SnapshotCreate | Capability::SnapshotMemory => {
            let memory = capability == Capability::SnapshotMemory;
            backend
                .create_snapshot(&call, &vm, &snapshot("before", memory))
                .await
                .map(drop)
        }
        Capability::SnapshotRevert => {
            backend
                .create_snapshot(&call, &vm, &snapshot("before", false))
                .await
                .unwrap();
            backend.revert_snapshot(&call, &vm, "before").await
        }
        Capability::SnapshotDelete => backend.delete_snapshot(&call, &vm, "before").await,
        Capability::VmMigrate => {
            let there = babelvisor_core::backend::MigrationTarget {
                host: bench.control.vm(id).unwrap().host,
                address: None,
            };
            backend.migrate(&call, &vm, &there).await
        }
        Capability::VolumeResize => {
            let place = babelvisor_core::model::PoolVolume {
                pool: "default".to_owned(),
                name: "debian".to_owned(),
            };
            backend
                .resize_volume(&call, &place, None, 20 * GIB)
                .await
                .map(drop)
        }
        Capability::VolumeUpload => {
            let bytes: &[u8] = b"sixteen bytes is";
            let spec = blank("uploaded", bytes.len() as u64);
            let filled = backend.upload_volume(&call, &spec, Box::pin(bytes)).await;
            filled.map(drop)
        }
        Capability::ConsoleScreenshot => backend.screenshot(&call, &vm).await.map(drop),
        Capability::VolumeCreate => backend.create_volume(&call, &blank("a", GIB)).await.map(drop),
        Capability::VolumeCopy => backend.create_volume(&call, &copy("a", 2 * GIB)).await.map(drop),
        Capability::VolumeLayer => backend.create_volume(&call, &layer("a", 2 * GIB)).await.map(drop),
        Capability::VolumeDelete => backend.delete_volume(&call, "default", "debian").await,
        Capability::GuestSetup => {
            let setup = bench.setup("made-up 8");
            backend
                .create_seed(&call, id, "default", "s", &setup)
                .await
                .map(drop)
        }
        Capability::GuestAddresses => {
            let facts = backend.get(&call, &vm).await?.unwrap();
            if facts.nics[0].addresses.is_empty() {
                return Err(babelvisor_core::Error::unsupported("no address"));
            }
            Ok(())
        }
        Capability::ConsoleEndpoint => backend.console(&call, &vm).await.map(drop),
        Capability::ConsolePassword => {
            let password = Secret::new("made-up 9");
            backend.set_console_password(&call, &vm, &password).await?;
            assert_eq!(backend.console_password(&call, &vm).await?, Some(password));
            Ok(())
        }
        Capability::TopologyList => backend.topology(&call).await.map(drop),
    }
}

fn snapshot(name: &str, memory: bool) -> SnapshotSpec {
    SnapshotSpec {
        name: name.to_owned(),
        title: name.to_owned(),
        memory,
        disks: None,
    }
}

/// A change that needs `capability` and can be made of any guest.
async fn change(bench: &Bench, vm: &VmRef, capability: Capability) -> VmChange {
    let facts = bench.control.vm(vm.id).unwrap();
    let mac = facts.nics[0].mac.clone();
    let nic = |mac: &str| NicSpec {
        source: NicSource::User,
        mac: Some(mac.to_owned()),
        model: None,
    };
    match capability {
        Capability::ConfigCpu => VmChange::Cpu {
            current: 1,
            max: facts.cpu.max,
            topology: None,
        },
        Capability::ConfigMemory => VmChange::Memory {
            current: facts.memory.max / 2,
            max: facts.memory.max,
        },
        Capability::ConfigBoot => VmChange::BootOrder {
            order: vec![BootDevice::Network],
        },
        Capability::ConfigAutostart => VmChange::Autostart { on: true },
        Capability::ConfigVideo => VmChange::Video {
            adapters: vec![VideoAdapter {
                model: "vga".to_owned(),
                memory: None,
                heads: None,
            }],
        },
        Capability::DiskAttach => {
            let made = bench
                .backend
                .create_volume(&bench.call(), &blank("data", GIB))
                .await;
            VmChange::AttachDisk(DiskAttachment {
                volume: PoolVolume {
                    pool: "default".to_owned(),
                    name: "data".to_owned(),
                },
                format: made.unwrap().format,
                bus: None,
                readonly: false,
                shareable: false,
            })
        }
        Capability::DiskDetach => VmChange::DetachDisk {
            target: "vdz".to_owned(),
        },
        Capability::DiskQos => VmChange::DiskQos {
            target: facts.disks[0].target.clone(),
            limits: DiskLimits {
                total_bytes: 1 << 20,
                ..DiskLimits::default()
            },
        },
        Capability::NicAttach => VmChange::AttachNic(nic("52:54:00:00:00:09")),
        Capability::NicDetach => VmChange::DetachNic { mac },
        Capability::NicUpdate => VmChange::UpdateNic {
            to: nic("52:54:00:00:00:0a"),
            mac,
        },
        Capability::NicQos => VmChange::NicQos {
            mac,
            inbound: Some(Bandwidth::default()),
            outbound: None,
        },
        Capability::MediaChange => VmChange::InsertMedium {
            kind: MediumKind::Cdrom,
            target: None,
            source: "default/debian".to_owned(),
        },
        Capability::GuestPassword => VmChange::GuestPassword {
            user: "root".to_owned(),
            password: bench.call().keyring.seal(&Secret::new("made-up 10")).unwrap(),
        },
        other => panic!("{other:?} is no change"),
    }
}

fn every(bench: &Bench) -> Vec<(Capability, Support)> {
    let declared = bench.backend.capabilities();
    declared
        .iter()
        .map(|(capability, support)| (capability, support.clone()))
        .collect()
}

#[tokio::test]
async fn every_capability_is_declared_and_works() {
    let all = every(&Bench::small());
    assert_eq!(all.len(), CapabilitySet::COUNT);
    for (capability, support) in all {
        assert_eq!(support, Support::Native, "{capability:?}");
        exercise(&Bench::small(), capability)
            .await
            .unwrap_or_else(|error| panic!("{capability:?}: {error}"));
    }
}

#[tokio::test]
async fn what_is_taken_away_is_declared_so_and_refused() {
    for (capability, _) in every(&Bench::small()) {
        let mut config = small();
        config
            .lacks
            .insert(capability.into(), "this board cannot".to_owned());
        let bench = Bench::new(config);
        let support = bench.backend.capabilities().get(capability).clone();
        assert_eq!(support, Support::Impossible("this board cannot".to_owned()));
        let error = exercise(&bench, capability).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{capability:?}: {error}");
        assert!(!error.detail.contains("has no "), "{capability:?}: {error}");
    }
}

#[tokio::test]
async fn a_config_that_cannot_be_meant_is_a_hypervisor_that_is_down() {
    let bench = Bench::new(MemoryConfig {
        networks: vec!["a/b".to_owned()],
        ..MemoryConfig::default()
    });
    let error = bench.backend.list(&bench.call()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BackendUnavailable);
    bench.control.reconnect();
    assert!(bench.backend.list(&bench.call()).await.is_err());
}
