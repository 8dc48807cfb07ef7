//! Declared ⇔ implemented: what is declared works, what is not is refused before it has an effect.

use std::sync::Arc;

use babelvisor_core::backend::VmRef;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmId};
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, ErrorKind, Result};

use super::{Check, RUN, VM, Want};
use crate::kit::bench::{Bench, Kit, refer};
use crate::kit::verdict::{Verdict, ensure, fail, words};

const WORKS: &str = "a capability that is declared works, and is not refused as unsupported";
const REFUSED: &str = "a capability that is not declared is refused as unsupported, without an effect";

/// A check for each capability, by what is declared.
pub(super) fn checks(kit: &Kit) -> Vec<Check> {
    let mut checks = Vec::new();
    for (capability, support) in kit.capabilities.iter() {
        let usable = support.usable();
        let word = if usable { "declared" } else { "undeclared" };
        let mut needs = Vec::new();
        if usable {
            needs.push(capability);
            needs.extend(around(capability));
        }
        needs.sort();
        needs.dedup();
        checks.push(Check {
            name: format!("{word}::{}", capability.as_ref()),
            rule: if usable { WORKS } else { REFUSED },
            needs,
            wants: if usable { wants(capability) } else { &[] },
            run: Box::new(move |bench| {
                if usable {
                    Box::pin(works(bench, capability))
                } else {
                    Box::pin(is_refused(bench, capability))
                }
            }),
        });
    }
    checks
}

/// What else it takes to use a capability on something that is made for it and removed.
const fn around(capability: Capability) -> &'static [Capability] {
    use Capability as C;
    match capability {
        C::VmList | C::TopologyList => &[],
        C::PowerSave
        | C::PowerRestore
        | C::ConfigCpu
        | C::ConfigMemory
        | C::ConfigBoot
        | C::ConfigAutostart
        | C::ConfigVideo
        | C::DiskAttach
        | C::DiskDetach
        | C::DiskQos
        | C::NicAttach
        | C::NicDetach
        | C::NicUpdate
        | C::NicQos
        | C::MediaChange
        | C::SnapshotCreate
        | C::SnapshotMemory
        | C::SnapshotRevert
        | C::SnapshotDelete
        | C::VmMigrate
        | C::VolumeResize
        | C::VolumeUpload
        | C::GuestPassword
        | C::ConsoleScreenshot => RUN,
        C::VmCreate | C::VmDelete | C::ConsolePassword => VM,
        C::PowerStart
        | C::PowerForceOff
        | C::PowerReboot
        | C::PowerReset
        | C::PowerSuspend
        | C::PowerShutdown
        | C::ConsoleEndpoint
        | C::GuestAddresses => RUN,
        C::PowerResume => &[
            C::VmList,
            C::VmCreate,
            C::VmDelete,
            C::PowerStart,
            C::PowerForceOff,
            C::PowerSuspend,
        ],
        C::VolumeCreate | C::VolumeCopy | C::VolumeLayer | C::GuestSetup => &[C::VolumeDelete],
        C::VolumeDelete => &[C::VolumeCreate],
    }
}

const fn wants(capability: Capability) -> &'static [Want] {
    use Capability as C;
    match capability {
        C::VolumeCopy | C::VolumeLayer => &[Want::Image],
        C::PowerShutdown => &[Want::Listener],
        C::GuestAddresses => &[Want::Booted],
        C::VmList
        | C::VmCreate
        | C::VmDelete
        | C::PowerStart
        | C::PowerForceOff
        | C::PowerReboot
        | C::PowerReset
        | C::PowerSuspend
        | C::PowerResume
        | C::VolumeCreate
        | C::VolumeDelete
        | C::GuestSetup
        | C::ConsoleEndpoint
        | C::ConsolePassword
        | C::TopologyList
        | C::PowerSave
        | C::PowerRestore
        | C::ConfigCpu
        | C::ConfigMemory
        | C::ConfigBoot
        | C::ConfigAutostart
        | C::ConfigVideo
        | C::DiskAttach
        | C::DiskDetach
        | C::DiskQos
        | C::NicAttach
        | C::NicDetach
        | C::NicUpdate
        | C::NicQos
        | C::MediaChange
        | C::SnapshotCreate
        | C::SnapshotMemory
        | C::SnapshotRevert
        | C::SnapshotDelete
        | C::VmMigrate
        | C::VolumeResize
        | C::VolumeUpload
        | C::GuestPassword
        | C::ConsoleScreenshot => &[],
    }
}

async fn works(bench: Arc<Bench>, capability: Capability) -> Verdict {
    match exercise(&bench, capability).await? {
        Ok(()) => Ok(()),
        Err(error) => fail(format!(
            "{} is declared, but using it was answered with {}",
            capability.as_ref(),
            words(&error)
        )),
    }
}

async fn is_refused(bench: Arc<Bench>, capability: Capability) -> Verdict {
    if capability == Capability::GuestAddresses {
        return no_addresses(&bench).await;
    }
    match exercise(&bench, capability).await? {
        Err(error) if error.kind == ErrorKind::Unsupported => Ok(()),
        Err(error) => fail(format!(
            "{} is not declared, but using it was answered with {}, not with Unsupported",
            capability.as_ref(),
            words(&error)
        )),
        Ok(()) => fail(format!("{} is not declared, but works", capability.as_ref())),
    }
}

/// Addresses are no call: without the capability there are none.
async fn no_addresses(bench: &Bench) -> Verdict {
    if !RUN.iter().all(|need| bench.has(*need)) {
        return Ok(());
    }
    let vm = bench.running().await?;
    let facts = bench.get(&vm).await?;
    ensure!(
        facts.nics.iter().all(|nic| nic.addresses.is_empty()),
        "guest.addresses is not declared, but a running guest has some"
    );
    Ok(())
}

/// A VM to use a capability on: a real one where one can be made and removed, else one that does not exist.
async fn subject(bench: &Bench, capability: Capability) -> Verdict<VmRef> {
    use Capability as C;
    let can = around(capability)
        .iter()
        .all(|need| *need == capability || bench.has(*need));
    let removable = VM.iter().all(|need| bench.has(*need));
    if !can || !removable {
        return Ok(bench.nobody());
    }
    match capability {
        C::PowerStart | C::ConsolePassword | C::VmDelete => bench.off().await,
        C::PowerShutdown if bench.has(capability) => bench.listening().await,
        // A VM that could not be switched off again is not started.
        _ if !bench.has(C::PowerForceOff) => Ok(bench.nobody()),
        C::PowerResume => {
            let vm = bench.running().await?;
            match bench.power(&vm, PowerAction::Suspend).await {
                Ok(()) => Ok(vm),
                Err(error) => fail(format!("suspending a VM was answered with {}", words(&error))),
            }
        }
        _ => bench.running().await,
    }
}

/// Uses a capability as it is meant to be used, once.
async fn exercise(bench: &Bench, capability: Capability) -> Verdict<Result<()>> {
    use Capability as C;
    let call = bench.call();
    let backend = &bench.backend;
    let action = match capability {
        C::PowerStart => PowerAction::Start,
        C::PowerShutdown => PowerAction::Shutdown,
        C::PowerForceOff => PowerAction::ForceOff,
        C::PowerReboot => PowerAction::Reboot,
        C::PowerReset => PowerAction::Reset,
        C::PowerSuspend => PowerAction::Suspend,
        C::PowerResume => PowerAction::Resume,
        C::PowerSave
        | C::PowerRestore
        | C::ConfigCpu
        | C::ConfigMemory
        | C::ConfigBoot
        | C::ConfigAutostart
        | C::ConfigVideo
        | C::DiskAttach
        | C::DiskDetach
        | C::DiskQos
        | C::NicAttach
        | C::NicDetach
        | C::NicUpdate
        | C::NicQos
        | C::MediaChange
        | C::SnapshotCreate
        | C::SnapshotMemory
        | C::SnapshotRevert
        | C::SnapshotDelete
        | C::VmMigrate
        | C::VolumeResize
        | C::VolumeUpload
        | C::GuestPassword
        | C::ConsoleScreenshot => return Ok(Err(babelvisor_core::Error::unsupported("not exercised yet"))),
        C::VmList => return Ok(backend.list(&call).await.map(drop)),
        C::TopologyList => return Ok(backend.topology(&call).await.map(drop)),
        C::VmCreate => return define(bench).await,
        C::VmDelete => {
            let vm = subject(bench, capability).await?;
            let done = backend.undefine(&bench.call(), &vm).await;
            if done.is_ok() {
                ensure!(
                    bench.find(&vm).await?.is_none(),
                    "a VM is still there after it was undefined"
                );
            }
            return Ok(done);
        }
        C::VolumeCreate => return volume(bench, bench.blank()?).await,
        C::VolumeCopy | C::VolumeLayer if bench.config.image.is_none() => {
            return foreign_image(bench, capability).await;
        }
        C::VolumeCopy => return volume(bench, bench.copy()?).await,
        C::VolumeLayer => return volume(bench, bench.layer()?).await,
        C::VolumeDelete => {
            let pool = bench.pool.clone().unwrap_or_else(|| "default".to_owned());
            if !bench.has(capability) {
                return Ok(backend.delete_volume(&call, &pool, &bench.name("nothing")).await);
            }
            let spec = bench.blank()?;
            return Ok(match bench.create_volume(&call, &spec).await {
                Ok(_) => bench.delete_volume(&spec).await,
                Err(error) => Err(error),
            });
        }
        C::GuestSetup => return seed(bench).await,
        C::GuestAddresses => return addresses(bench).await,
        C::ConsoleEndpoint => {
            let vm = subject(bench, capability).await?;
            return Ok(backend.console(&bench.call(), &vm).await.map(drop));
        }
        C::ConsolePassword => return password(bench).await,
    };
    let vm = subject(bench, capability).await?;
    let real = bench.has(Capability::VmList) && bench.find(&vm).await?.is_some();
    let before = if real {
        bench.state(&vm).await?
    } else {
        PowerState::NoState
    };
    let done = bench.power(&vm, action).await;
    if done.is_err() && real {
        bench.expect_state(&vm, before, "a refused change").await?;
    }
    Ok(done)
}

async fn define(bench: &Bench) -> Verdict<Result<()>> {
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

async fn volume(bench: &Bench, spec: babelvisor_core::model::VolumeSpec) -> Verdict<Result<()>> {
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
async fn foreign_image(bench: &Bench, capability: Capability) -> Verdict<Result<()>> {
    use babelvisor_core::model::{VolumeFormat, VolumeSource};
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

async fn seed(bench: &Bench) -> Verdict<Result<()>> {
    let spec = babelvisor_core::model::VolumeSpec {
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

async fn addresses(bench: &Bench) -> Verdict<Result<()>> {
    let vm = match bench.config.guest {
        crate::kit::config::GuestHabit::Obeys => bench.running().await?,
        crate::kit::config::GuestHabit::NeedsImage | crate::kit::config::GuestHabit::Deaf => {
            bench.booted().await?
        }
    };
    bench
        .until("the guest's first interface has an address", &vm, |facts| {
            facts.nics.first().is_some_and(|nic| !nic.addresses.is_empty())
        })
        .await?;
    Ok(Ok(()))
}

async fn password(bench: &Bench) -> Verdict<Result<()>> {
    let vm = subject(bench, Capability::ConsolePassword).await?;
    let password = Secret::new("Made-up2");
    let set = bench
        .backend
        .set_console_password(&bench.call(), &vm, &password)
        .await;
    let read = bench.backend.console_password(&bench.call(), &vm).await;
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
