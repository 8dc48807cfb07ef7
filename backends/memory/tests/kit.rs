//! The backend kit on the simulated hypervisor: quick, slow, and unable.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

use std::process::ExitCode;
use std::sync::Arc;

use babelvisor_conformance::kit::harness::{self, Suite};
use babelvisor_conformance::kit::{Bounds, KitConfig, KitImage};
use babelvisor_core::Result;
use babelvisor_core::backend::Backend;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{BackendId, NicSource, VolumeFormat};
use babelvisor_memory::{
    Delay, HostsConfig, ImageConfig, MemoryBackend, MemoryConfig, Method, PoolConfig, Target,
};

/// Two hosts with ten foreign VMs, and a pool with an image in it.
fn world() -> MemoryConfig {
    MemoryConfig {
        vms: 10,
        pools: vec![PoolConfig {
            name: "default".to_owned(),
            capacity: 1 << 40,
        }],
        images: vec![ImageConfig {
            name: "debian".to_owned(),
            size: 2 << 30,
            pool: None,
            format: VolumeFormat::Qcow2,
        }],
        hosts: HostsConfig {
            count: 2,
            ..HostsConfig::default()
        },
        ..MemoryConfig::default()
    }
}

fn config() -> KitConfig {
    KitConfig {
        pool: Some("default".to_owned()),
        image: Some(KitImage {
            native: "default/debian".to_owned(),
            format: VolumeFormat::Qcow2,
        }),
        nic: Some(NicSource::Network("default".to_owned())),
        uefi: true,
        bounds: Bounds {
            event: 2_000,
            settle: 50,
            check: 30_000,
            ..Bounds::default()
        },
        reproduce: "cargo test -p babelvisor-memory --test kit -- --exact memory::{check}".to_owned(),
        ..KitConfig::default()
    }
}

fn suite(name: &str, world: MemoryConfig) -> Suite {
    let backend: Arc<dyn Backend> = MemoryBackend::new(BackendId::new("mem"), world);
    Suite::new(name, backend, config())
}

/// Every call takes its time, boots and shutdowns among them: calls can be cut off in the middle.
fn slow() -> MemoryConfig {
    let mut world = world();
    let methods = [
        Method::CreateVolume,
        Method::DeleteVolume,
        Method::CreateSeed,
        Method::Define,
        Method::Undefine,
        Method::Power,
        Method::Change,
        Method::Volume,
        Method::ResizeVolume,
        Method::UploadVolume,
        Method::CreateSnapshot,
        Method::RevertSnapshot,
        Method::DeleteSnapshot,
        Method::Snapshots,
        Method::Migrate,
        Method::Screenshot,
    ];
    for method in methods {
        world
            .delays
            .insert(Target::from(method), Delay::Between { min: 0, max: 20 });
    }
    world
}

/// Without `capabilities`.
fn without(capabilities: &[Capability]) -> MemoryConfig {
    let mut world = world();
    for capability in capabilities {
        world
            .lacks
            .insert((*capability).into(), "this board cannot".to_owned());
    }
    world
}

fn main() -> ExitCode {
    harness::main(|| -> Result<_> {
        let suites = vec![
            suite("memory", world()),
            suite("slow", slow()),
            suite(
                "no-guest-help",
                without(&[
                    Capability::GuestSetup,
                    Capability::GuestAddresses,
                    Capability::PowerReset,
                    Capability::PowerSuspend,
                    Capability::VolumeLayer,
                    Capability::ConsolePassword,
                    Capability::TopologyList,
                ]),
            ),
            suite(
                "no-changes",
                without(&[
                    Capability::ConfigCpu,
                    Capability::ConfigMemory,
                    Capability::ConfigBoot,
                    Capability::ConfigAutostart,
                    Capability::ConfigVideo,
                    Capability::DiskAttach,
                    Capability::DiskDetach,
                    Capability::DiskQos,
                    Capability::NicAttach,
                    Capability::NicDetach,
                    Capability::NicUpdate,
                    Capability::NicQos,
                    Capability::MediaChange,
                    Capability::SnapshotCreate,
                    Capability::SnapshotMemory,
                    Capability::SnapshotRevert,
                    Capability::SnapshotDelete,
                    Capability::PowerSave,
                    Capability::PowerRestore,
                    Capability::VmMigrate,
                    Capability::VolumeResize,
                    Capability::VolumeUpload,
                    Capability::GuestPassword,
                    Capability::ConsoleScreenshot,
                ]),
            ),
            suite(
                "read-only",
                without(&[
                    Capability::VmCreate,
                    Capability::VmDelete,
                    Capability::VolumeCreate,
                    Capability::VolumeCopy,
                    Capability::VolumeDelete,
                    Capability::PowerForceOff,
                ]),
            ),
        ];
        Ok((suites, ()))
    })
}
