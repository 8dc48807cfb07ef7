//! What several tests of the libvirt backend need.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::{Backend, CallContext, VmRef};
use babelvisor_core::model::{
    BackendId, Firmware, JobId, NicSource, NicSpec, PowerState, Timestamp, VmFacts, VmId, VmSpec,
    VolumeFormat, VolumeSource, VolumeSpec,
};
use babelvisor_core::secret::Keyring;
use babelvisor_libvirt::{LibvirtBackend, LibvirtConfig};

pub fn backend(config: LibvirtConfig) -> LibvirtBackend {
    LibvirtBackend::start(BackendId::new("lv"), config).unwrap()
}

/// A call of a job that was never tried before.
pub fn call(seconds: u64) -> CallContext {
    CallContext {
        job: Some(JobId::random()),
        ..CallContext::plain(
            Instant::now() + Duration::from_secs(seconds),
            Arc::new(Keyring::ephemeral()),
        )
    }
}

/// The same job, tried again after it was cut off.
pub fn again(call: &CallContext, seconds: u64) -> CallContext {
    CallContext {
        begun: Some(Timestamp::now()),
        deadline: Instant::now() + Duration::from_secs(seconds),
        ..call.clone()
    }
}

pub fn blank(pool: &str, name: &str, capacity: u64) -> VolumeSpec {
    VolumeSpec {
        pool: pool.into(),
        name: name.into(),
        capacity,
        format: VolumeFormat::Qcow2,
        source: VolumeSource::Blank,
        bus: None,
    }
}

/// A small VM with these volumes and one interface.
pub fn spec(name: &str, volumes: Vec<VolumeSpec>, nic: NicSource) -> VmSpec {
    VmSpec {
        name: name.into(),
        title: format!("{name} <for> \"a\" test & more"),
        vcpus: 1,
        memory: 192 << 20,
        firmware: Firmware::Bios,
        volumes,
        nics: vec![NicSpec {
            source: nic,
            mac: None,
            model: None,
        }],
        console_password: None,
        guest: None,
        ..VmSpec::default()
    }
}

pub fn vm_ref(vm: VmId) -> VmRef {
    VmRef {
        id: vm,
        native: vm.to_string(),
    }
}

pub async fn facts(backend: &LibvirtBackend, vm: VmId) -> VmFacts {
    backend
        .get(&call(20), &vm_ref(vm))
        .await
        .unwrap()
        .expect("the VM exists")
}

pub async fn power_of(backend: &LibvirtBackend, vm: VmId) -> PowerState {
    facts(backend, vm).await.power
}

/// Polls until `check` gives something; fails with `what` at the deadline.
pub async fn eventually<T, F, Fut>(what: &str, seconds: u64, mut check: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
