//! Declared ⇔ implemented: what is declared works, what is not is refused before it has an effect.

use std::sync::Arc;

use babelvisor_core::backend::VmRef;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::PowerState;
use babelvisor_core::{ErrorKind, Result};

use super::{Check, RUN, VM, Want, exercise};
use crate::kit::bench::{Bench, Kit};
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
        C::VmCreate
        | C::VmDelete
        | C::ConsolePassword
        | C::ConfigCpu
        | C::ConfigMemory
        | C::ConfigBoot
        | C::ConfigAutostart
        | C::ConfigVideo
        | C::NicAttach
        | C::NicDetach
        | C::NicUpdate
        | C::NicQos => VM,
        C::DiskAttach | C::DiskDetach | C::DiskQos | C::MediaChange | C::SnapshotCreate => DISK,
        C::SnapshotRevert | C::SnapshotDelete => SNAPSHOT,
        C::SnapshotMemory => MEMORY,
        C::VolumeResize => &[C::VolumeCreate, C::VolumeDelete],
        C::VolumeUpload => &[C::VolumeDelete],
        C::PowerStart
        | C::PowerForceOff
        | C::PowerReboot
        | C::PowerReset
        | C::PowerSuspend
        | C::PowerShutdown
        | C::ConsoleEndpoint
        | C::GuestAddresses
        | C::PowerSave
        | C::VmMigrate
        | C::GuestPassword
        | C::ConsoleScreenshot => RUN,
        C::PowerRestore => &[
            C::VmList,
            C::VmCreate,
            C::VmDelete,
            C::PowerStart,
            C::PowerForceOff,
            C::PowerSave,
        ],
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

/// A VM with a disk.
const DISK: &[Capability] = &[
    Capability::VmList,
    Capability::VmCreate,
    Capability::VmDelete,
    Capability::VolumeCreate,
    Capability::VolumeDelete,
];
/// A VM with a disk and a snapshot.
const SNAPSHOT: &[Capability] = &[
    Capability::VmList,
    Capability::VmCreate,
    Capability::VmDelete,
    Capability::VolumeCreate,
    Capability::VolumeDelete,
    Capability::SnapshotCreate,
];
/// A running VM with a disk.
const MEMORY: &[Capability] = &[
    Capability::VmList,
    Capability::VmCreate,
    Capability::VmDelete,
    Capability::PowerStart,
    Capability::PowerForceOff,
    Capability::VolumeCreate,
    Capability::VolumeDelete,
];

const fn wants(capability: Capability) -> &'static [Want] {
    use Capability as C;
    match capability {
        C::VolumeCopy | C::VolumeLayer => &[Want::Image],
        C::PowerShutdown | C::GuestPassword => &[Want::Listener],
        C::NicQos => &[Want::NicLimits],
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
        | C::MediaChange
        | C::SnapshotCreate
        | C::SnapshotMemory
        | C::SnapshotRevert
        | C::SnapshotDelete
        | C::VmMigrate
        | C::VolumeResize
        | C::VolumeUpload
        | C::ConsoleScreenshot => &[],
    }
}

async fn works(bench: Arc<Bench>, capability: Capability) -> Verdict {
    match use_once(&bench, capability).await? {
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
    match use_once(&bench, capability).await? {
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
        C::ConfigCpu
        | C::ConfigMemory
        | C::ConfigBoot
        | C::ConfigAutostart
        | C::ConfigVideo
        | C::NicAttach
        | C::NicDetach
        | C::NicUpdate
        | C::NicQos => bench.off().await,
        C::DiskAttach
        | C::DiskDetach
        | C::DiskQos
        | C::MediaChange
        | C::SnapshotCreate
        | C::SnapshotRevert
        | C::SnapshotDelete => bench.equipped().await,
        C::PowerShutdown | C::GuestPassword if bench.has(capability) => bench.listening().await,
        // A VM that could not be switched off again is not started.
        _ if !bench.has(C::PowerForceOff) => Ok(bench.nobody()),
        C::PowerResume => {
            let vm = bench.running().await?;
            match bench.power(&vm, PowerAction::Suspend).await {
                Ok(()) => Ok(vm),
                Err(error) => fail(format!("suspending a VM was answered with {}", words(&error))),
            }
        }
        C::SnapshotMemory => {
            let vm = bench.equipped().await?;
            bench.bring(&vm, PowerState::Running).await?;
            Ok(vm)
        }
        C::PowerRestore => {
            let vm = bench.running().await?;
            match bench.power(&vm, PowerAction::Save).await {
                Ok(()) => Ok(vm),
                Err(error) => fail(format!("saving a VM was answered with {}", words(&error))),
            }
        }
        _ => bench.running().await,
    }
}

/// Uses a capability as it is meant to be used, once.
async fn use_once(bench: &Bench, capability: Capability) -> Verdict<Result<()>> {
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
        C::PowerSave => PowerAction::Save,
        C::PowerRestore => PowerAction::Restore,
        C::ConfigCpu
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
        | C::GuestPassword => {
            let vm = subject(bench, capability).await?;
            return exercise::change(bench, capability, &vm).await;
        }
        C::SnapshotCreate | C::SnapshotMemory | C::SnapshotRevert | C::SnapshotDelete => {
            let vm = subject(bench, capability).await?;
            return exercise::snapshot(bench, capability, &vm).await;
        }
        C::VmMigrate => {
            let vm = subject(bench, capability).await?;
            return exercise::migrate(bench, &vm).await;
        }
        C::ConsoleScreenshot => {
            let vm = subject(bench, capability).await?;
            return Ok(backend.screenshot(&bench.call(), &vm).await.map(drop));
        }
        C::VolumeResize => return exercise::resize(bench).await,
        C::VolumeUpload => return exercise::upload(bench).await,
        C::VmList => return Ok(backend.list(&call).await.map(drop)),
        C::TopologyList => return Ok(backend.topology(&call).await.map(drop)),
        C::VmCreate => return exercise::define(bench).await,
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
        C::VolumeCreate => return exercise::volume(bench, bench.blank()?).await,
        C::VolumeCopy | C::VolumeLayer if bench.config.image.is_none() => {
            return exercise::foreign_image(bench, capability).await;
        }
        C::VolumeCopy => return exercise::volume(bench, bench.copy()?).await,
        C::VolumeLayer => return exercise::volume(bench, bench.layer()?).await,
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
        C::GuestSetup => return exercise::seed(bench).await,
        C::GuestAddresses => return exercise::addresses(bench).await,
        C::ConsoleEndpoint => {
            let vm = subject(bench, capability).await?;
            return Ok(backend.console(&bench.call(), &vm).await.map(drop));
        }
        C::ConsolePassword => {
            let vm = subject(bench, capability).await?;
            return exercise::password(bench, &vm).await;
        }
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
