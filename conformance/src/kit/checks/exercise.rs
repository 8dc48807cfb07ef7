//! How each capability is used as it is meant to be used, once. Where the capability is not declared, the same is
//! asked of a VM or volume that does not exist, if none can be made: the capability is looked at first.

use babelvisor_core::backend::{MigrationTarget, VmRef};
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{
    Bandwidth, BootDevice, DiskAttachment, DiskLimits, HostId, MediumKind, PoolVolume, SnapshotSpec,
    VideoAdapter, VmChange, VmFacts, VmId, VolumeFormat, VolumeSource, VolumeSpec,
};
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, Result};

use crate::kit::bench::{Bench, refer};
use crate::kit::config::GuestHabit;
use crate::kit::verdict::{During as _, Verdict, ensure, fail, words};

/// Makes a change that needs `capability`.
pub(super) async fn change(bench: &Bench, capability: Capability, vm: &VmRef) -> Verdict<Result<()>> {
    let before = if bench.has(Capability::VmList) {
        bench.find(vm).await?
    } else {
        None
    };
    let change = change_for(bench, capability, before.as_ref()).await?;
    ensure!(
        change.needs() == capability,
        "the kit uses {} as if it were {}",
        change.needs().as_ref(),
        capability.as_ref()
    );
    let done = bench.change(vm, &change).await;
    if done.is_err()
        && let Some(before) = &before
    {
        bench.unchanged(vm, before, capability.as_ref()).await?;
    }
    Ok(done)
}

/// A change for a VM like that, or for one that nobody knows.
async fn change_for(bench: &Bench, capability: Capability, facts: Option<&VmFacts>) -> Verdict<VmChange> {
    let nic = facts.and_then(|facts| facts.nics.first());
    let disk = facts.and_then(|facts| facts.disks.first());
    let mac = nic.map_or_else(|| bench.mac(), |nic| nic.mac.clone());
    let target = disk.map_or_else(|| "vda".to_owned(), |disk| disk.target.clone());
    Ok(match capability {
        Capability::ConfigCpu => VmChange::Cpu {
            current: 1,
            max: 2,
            topology: None,
        },
        Capability::ConfigMemory => VmChange::Memory {
            current: bench.config.memory,
            max: bench.config.memory * 2,
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
        Capability::DiskAttach => match facts {
            Some(_) => VmChange::AttachDisk(bench.loose().await?.attachment()),
            None => VmChange::AttachDisk(DiskAttachment {
                volume: nowhere(bench),
                format: VolumeFormat::Raw,
                bus: None,
                readonly: false,
                shareable: false,
            }),
        },
        Capability::DiskDetach => VmChange::DetachDisk { target },
        Capability::DiskQos => VmChange::DiskQos {
            target,
            limits: DiskLimits {
                total_bytes: 1 << 20,
                ..DiskLimits::default()
            },
        },
        Capability::NicAttach => VmChange::AttachNic(bench.nic_spec(&bench.mac(), None)),
        Capability::NicDetach => VmChange::DetachNic { mac },
        Capability::NicUpdate => VmChange::UpdateNic {
            mac,
            to: bench.nic_spec(&bench.mac(), None),
        },
        Capability::NicQos => VmChange::NicQos {
            mac,
            inbound: Some(Bandwidth {
                average: 1 << 20,
                ..Bandwidth::default()
            }),
            outbound: None,
        },
        Capability::MediaChange => VmChange::InsertMedium {
            kind: MediumKind::Cdrom,
            target: None,
            source: match facts {
                Some(_) => bench.loose().await?.volume.native,
                None => bench.name("no-medium"),
            },
        },
        Capability::GuestPassword => VmChange::GuestPassword {
            user: "root".to_owned(),
            password: bench
                .keyring
                .seal(&Secret::new("Made-up 8"))
                .during("sealing a password")?,
        },
        other => return fail(format!("{} is no change", other.as_ref())),
    })
}

/// A volume that was never made.
fn nowhere(bench: &Bench) -> PoolVolume {
    PoolVolume {
        pool: bench.pool.clone().unwrap_or_else(|| "default".to_owned()),
        name: bench.name("nothing"),
    }
}

/// Takes a snapshot, or does to one what `capability` says.
pub(super) async fn snapshot(bench: &Bench, capability: Capability, vm: &VmRef) -> Verdict<Result<()>> {
    let (backend, call, name) = (&bench.backend, bench.call(), "kit-once");
    let spec = SnapshotSpec {
        name: name.to_owned(),
        title: name.to_owned(),
        memory: capability == Capability::SnapshotMemory,
        disks: None,
    };
    let there = bench.has(Capability::VmList) && bench.find(vm).await?.is_some();
    match capability {
        Capability::SnapshotRevert | Capability::SnapshotDelete => {
            if there {
                backend
                    .create_snapshot(&call, vm, &spec)
                    .await
                    .during("taking a snapshot")?;
            }
            Ok(match capability {
                Capability::SnapshotRevert => backend.revert_snapshot(&bench.call(), vm, name).await,
                _ => backend.delete_snapshot(&bench.call(), vm, name).await,
            })
        }
        _ => {
            let done = backend.create_snapshot(&call, vm, &spec).await;
            if there && bench.has(Capability::SnapshotCreate) {
                let all = backend
                    .snapshots(&bench.call(), vm)
                    .await
                    .during("listing snapshots")?;
                ensure!(
                    done.is_ok() == all.iter().any(|snapshot| snapshot.name == name),
                    "a snapshot that was refused is there, or one that was taken is not"
                );
            }
            Ok(done.map(drop))
        }
    }
}

/// Moves a VM to where it is; one that is nowhere, anywhere.
pub(super) async fn migrate(bench: &Bench, vm: &VmRef) -> Verdict<Result<()>> {
    let facts = if bench.has(Capability::VmList) {
        bench.find(vm).await?
    } else {
        None
    };
    let to = MigrationTarget {
        host: facts.map_or_else(HostId::random, |facts| facts.host),
        address: None,
    };
    Ok(bench.backend.migrate(&bench.call(), vm, &to).await)
}

/// Makes a volume larger.
pub(super) async fn resize(bench: &Bench) -> Verdict<Result<()>> {
    let made = bench.has(Capability::VolumeCreate) && bench.has(Capability::VolumeDelete);
    let place = if made {
        bench.loose().await?.place()
    } else {
        nowhere(bench)
    };
    let size = bench.config.volume * 2;
    let done = bench
        .backend
        .resize_volume(&bench.call(), &place, None, size)
        .await;
    Ok(done.map(drop))
}

/// Fills a volume.
pub(super) async fn upload(bench: &Bench) -> Verdict<Result<()>> {
    const BYTES: [u8; 4096] = [0xa5; 4096];
    let spec = VolumeSpec {
        pool: nowhere(bench).pool,
        name: bench.name("upload"),
        capacity: 4096,
        format: VolumeFormat::Raw,
        source: VolumeSource::Blank,
        bus: None,
    };
    bench.owns_volume(&spec.pool, &spec.name);
    let stream = Box::pin(std::io::Cursor::new(BYTES));
    let done = bench.backend.upload_volume(&bench.call(), &spec, stream).await;
    if bench.has(Capability::VolumeCreate) && bench.has(Capability::VolumeDelete) {
        ensure!(
            done.is_ok() == bench.name_is_taken(&spec).await?,
            "an upload that was refused is there, or one that was taken is not"
        );
    }
    Ok(done.map(drop))
}

pub(super) async fn define(bench: &Bench) -> Verdict<Result<()>> {
    let vm = VmId::random();
    let spec = bench.spec(bench.name("vm"), Vec::new());
    let done = bench.define(&bench.call(), vm, &spec, &[], None).await;
    if bench.has(Capability::VmList) {
        let there = bench.list().await?.into_iter().find(|facts| facts.id == vm);
        ensure!(
            done.is_ok() == there.is_some(),
            "defining a VM was answered with {}, but afterwards it is {}",
            done.as_ref().err().map_or_else(|| "success".to_owned(), words),
            if there.is_some() { "there" } else { "not there" }
        );
        if let (Ok(made), Some(there)) = (&done, &there) {
            ensure!(
                refer(made) == refer(there),
                "define and list name the VM differently"
            );
        }
    }
    Ok(done.map(drop))
}

pub(super) async fn volume(bench: &Bench, spec: VolumeSpec) -> Verdict<Result<()>> {
    let done = bench.create_volume(&bench.call(), &spec).await;
    if bench.has(Capability::VolumeCreate) && bench.has(Capability::VolumeDelete) {
        let there = bench.name_is_taken(&spec).await?;
        ensure!(
            done.is_ok() == there,
            "making a volume was answered with {}, but afterwards its name is {}",
            done.as_ref().err().map_or_else(|| "success".to_owned(), words),
            if there { "taken" } else { "free" }
        );
    }
    Ok(done.map(drop))
}

/// Without an image of ours, an undeclared copy is asked of one that does not exist: the capability is looked at first.
pub(super) async fn foreign_image(bench: &Bench, capability: Capability) -> Verdict<Result<()>> {
    let (image, format) = (bench.name("no-image"), VolumeFormat::Qcow2);
    let mut spec = bench.blank()?;
    spec.format = format;
    spec.source = if capability == Capability::VolumeCopy {
        VolumeSource::Copy { image, format }
    } else {
        VolumeSource::Layer { image, format }
    };
    volume(bench, spec).await
}

pub(super) async fn seed(bench: &Bench) -> Verdict<Result<()>> {
    let spec = VolumeSpec {
        name: bench.name("seed"),
        ..bench.blank()?
    };
    bench.owns_volume(&spec.pool, &spec.name);
    let setup = bench.setup("Made-up 1")?;
    let done = bench
        .backend
        .create_seed(&bench.call(), VmId::random(), &spec.pool, &spec.name, &setup)
        .await;
    if bench.has(Capability::VolumeCreate) && bench.has(Capability::VolumeDelete) {
        ensure!(
            done.is_ok() == bench.name_is_taken(&spec).await?,
            "a seed that was refused is there, or one that was made is not"
        );
    }
    Ok(done.map(drop))
}

pub(super) async fn addresses(bench: &Bench) -> Verdict<Result<()>> {
    let vm = match bench.config.guest {
        GuestHabit::Obeys => bench.running().await?,
        GuestHabit::NeedsImage | GuestHabit::Deaf => bench.booted().await?,
    };
    bench
        .until("the guest's first interface has an address", &vm, |facts| {
            facts.nics.first().is_some_and(|nic| !nic.addresses.is_empty())
        })
        .await?;
    Ok(Ok(()))
}

pub(super) async fn password(bench: &Bench, vm: &VmRef) -> Verdict<Result<()>> {
    let password = Secret::new("Made-up2");
    let set = bench
        .backend
        .set_console_password(&bench.call(), vm, &password)
        .await;
    let read = bench.backend.console_password(&bench.call(), vm).await;
    Ok(match (set, read) {
        (Ok(()), Ok(Some(read))) if read == password => Ok(()),
        (Ok(()), Ok(_)) => Err(Error::internal(
            "the password that was set is not the one that is read",
        )),
        (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(error),
        (Err(_), Ok(_)) if !bench.has(Capability::ConsolePassword) => {
            return fail("setting the password is refused as undeclared, but it can be read");
        }
        (Err(error), Ok(_)) => Err(error),
    })
}
