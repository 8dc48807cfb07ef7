//! The backend kit on a private libvirtd: on QEMU with real guests, and on libvirt's test driver over real RPC.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_conformance::kit::harness::{self, Suite};
use babelvisor_conformance::kit::{Bounds, GuestHabit, KitConfig, KitImage};
use babelvisor_conformance::testbed::Libvirtd;
use babelvisor_conformance::testbed::guest::{self, Kernel};
use babelvisor_core::Result;
use babelvisor_core::backend::{Backend, CallContext};
use babelvisor_core::model::{BackendId, NicSource, VolumeFormat, VolumeSource, VolumeSpec};
use babelvisor_core::secret::Keyring;
use babelvisor_libvirt::{Accel, LibvirtBackend, LibvirtConfig};

fn start(id: &str, config: LibvirtConfig) -> Arc<dyn Backend> {
    Arc::new(LibvirtBackend::start(BackendId::new(id), config).unwrap())
}

fn common(suite: &str) -> KitConfig {
    KitConfig {
        // Pools are directories: they give out more than they have, and volumes have no room for a job's id.
        pool_reserves: false,
        volumes_carry_jobs: false,
        known: known(),
        reproduce: format!("cargo test -p babelvisor-libvirt --test kit -- --exact {suite}::{{check}}"),
        ..KitConfig::default()
    }
}

/// Whether the kernel has what libvirt limits interfaces with.
fn limits_interfaces(libvirtd: &Libvirtd) -> bool {
    let qdisc = |action: &str| libvirtd.exec(&["tc", "qdisc", action, "dev", "lo", "root", "sfq"]);
    qdisc("add").and_then(|_| qdisc("del")).is_ok()
}

/// What is known to be otherwise, and why.
fn known() -> std::collections::BTreeMap<String, String> {
    let reason =
        "QEMU keeps asking for the password that a display was started with; it is gone at the next start";
    [("console::the_password_is_removed".to_owned(), reason.to_owned())].into()
}

/// Real guests: they boot in seconds under translation, and only what boots hears the power button.
fn qemu(libvirtd: &Libvirtd) -> Suite {
    let image = guest::image(&libvirtd.pool_dir(), Kernel::Cloud).unwrap();
    let backend = start(
        "qemu",
        LibvirtConfig {
            accel: Accel::Tcg,
            ..LibvirtConfig::new(libvirtd.uri_qemu())
        },
    );
    let config = KitConfig {
        pool: Some("default".to_owned()),
        image: Some(KitImage {
            native: image.display().to_string(),
            format: VolumeFormat::Qcow2,
        }),
        nic: Some(if libvirtd.has_network() {
            NicSource::Network("default".to_owned())
        } else {
            NicSource::User
        }),
        guest: GuestHabit::NeedsImage,
        uefi: true,
        nic_limits: limits_interfaces(libvirtd),
        bounds: Bounds {
            call: 60_000,
            grace: 10_000,
            event: 20_000,
            boot: 120_000,
            ..Bounds::default()
        },
        ..common("qemu")
    };
    Suite::new("qemu", backend, config)
}

/// No guests, and a state that answers in microseconds.
async fn test_driver(libvirtd: &Libvirtd) -> Result<Suite> {
    let pool = "default-pool";
    let backend = start("test", LibvirtConfig::new(libvirtd.uri_test()));
    let call = CallContext::plain(
        Instant::now() + Duration::from_secs(30),
        Arc::new(Keyring::ephemeral()),
    );
    let image = VolumeSpec {
        pool: pool.to_owned(),
        name: "image.qcow2".to_owned(),
        capacity: 1 << 30,
        format: VolumeFormat::Qcow2,
        source: VolumeSource::Blank,
        bus: None,
    };
    backend.create_volume(&call, &image).await?;
    let config = KitConfig {
        pool: Some(pool.to_owned()),
        image: Some(KitImage {
            native: format!("{pool}/{}", image.name),
            format: image.format,
        }),
        nic: Some(NicSource::Network("default".to_owned())),
        hot_plug: false,
        ..common("test-driver")
    };
    Ok(Suite::new("test-driver", backend, config))
}

fn main() -> ExitCode {
    // Not shared: it ends with this function.
    let libvirtd = Libvirtd::start().unwrap_or_else(|error| panic!("no libvirtd: {error}"));
    harness::main(|| {
        let handle = tokio::runtime::Handle::current();
        let test_driver = tokio::task::block_in_place(|| handle.block_on(test_driver(&libvirtd)))?;
        Ok((vec![test_driver, qemu(&libvirtd)], &libvirtd))
    })
}
