//! Declared ⇔ implemented.

use babelvisor_core::backend::Backend as _;
use babelvisor_core::capability::{Capability, CapabilitySet, Support};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmId};
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
