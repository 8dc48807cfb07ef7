//! A hypervisor on the bench: its backend, its control, and calls as a job makes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::{Backend as _, CallContext, VmRef};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    BackendId, Firmware, GuestSetup, JobId, NicSource, NicSpec, PowerState, VmFacts, VmId, VmSpec,
    VolumeFormat, VolumeSource, VolumeSpec,
};
use babelvisor_core::secret::{Keyring, Secret};
use babelvisor_core::{ErrorKind, Result};
use babelvisor_memory::{Control, ImageConfig, MemoryBackend, MemoryConfig, PoolConfig};

pub(crate) const GIB: u64 = 1 << 30;

pub(crate) struct Bench {
    pub(crate) backend: Arc<MemoryBackend>,
    pub(crate) control: Control,
    pub(crate) keyring: Arc<Keyring>,
}

/// A pool of 100 GiB with an image of 2 GiB in it.
pub(crate) fn small() -> MemoryConfig {
    MemoryConfig {
        pools: vec![PoolConfig {
            name: "default".to_owned(),
            capacity: 100 * GIB,
        }],
        images: vec![ImageConfig {
            name: "debian".to_owned(),
            size: 2 * GIB,
            pool: None,
            format: VolumeFormat::Qcow2,
        }],
        ..MemoryConfig::default()
    }
}

impl Bench {
    pub(crate) fn new(config: MemoryConfig) -> Self {
        Self::with_keys(config, Arc::new(Keyring::ephemeral()))
    }

    pub(crate) fn with_keys(config: MemoryConfig, keyring: Arc<Keyring>) -> Self {
        let backend = MemoryBackend::new(BackendId::new("mem"), config);
        let control = backend.control();
        Self {
            backend,
            control,
            keyring,
        }
    }

    pub(crate) fn small() -> Self {
        Self::new(small())
    }

    /// A call of a new job with 20 seconds.
    pub(crate) fn call(&self) -> CallContext {
        self.call_of(JobId::random(), Duration::from_secs(20))
    }

    pub(crate) fn call_of(&self, job: JobId, time: Duration) -> CallContext {
        CallContext {
            job: Some(job),
            ..CallContext::plain(Instant::now() + time, Arc::clone(&self.keyring))
        }
    }

    /// A defined VM, off, on network `default`.
    pub(crate) async fn defined(&self, name: &str) -> VmRef {
        let facts = self
            .backend
            .define(&self.call(), VmId::random(), &spec(name), &[], None)
            .await
            .unwrap();
        refer(&facts)
    }

    pub(crate) async fn running(&self, name: &str) -> VmRef {
        let vm = self.defined(name).await;
        self.power(&vm, PowerAction::Start).await.unwrap();
        vm
    }

    pub(crate) async fn power(&self, vm: &VmRef, action: PowerAction) -> Result<()> {
        self.backend.power(&self.call(), vm, action).await
    }

    pub(crate) fn state(&self, vm: &VmRef) -> PowerState {
        self.control.vm(vm.id).unwrap().power
    }

    /// Polls until the VM is in `state`; fails the test after ten seconds.
    pub(crate) async fn until(&self, vm: &VmRef, state: PowerState) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.state(vm) != state {
            assert!(Instant::now() < deadline, "{:?} is not {state:?}", self.state(vm));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn setup(&self, password: &str) -> GuestSetup {
        GuestSetup {
            hostname: "web".to_owned(),
            admin_user: "admin".to_owned(),
            admin_password: Some(self.keyring.seal(&Secret::new(password)).unwrap()),
            ssh_keys: vec!["ssh-ed25519 AAAA test".to_owned()],
            ..GuestSetup::default()
        }
    }
}

pub(crate) fn refer(facts: &VmFacts) -> VmRef {
    VmRef {
        id: facts.id,
        native: facts.native.clone(),
    }
}

pub(crate) fn spec(name: &str) -> VmSpec {
    VmSpec {
        name: name.to_owned(),
        title: format!("The {name}"),
        vcpus: 2,
        memory: 4 * GIB,
        firmware: Firmware::Bios,
        volumes: Vec::new(),
        nics: vec![NicSpec {
            source: NicSource::Network("default".to_owned()),
            mac: None,
            model: None,
        }],
        console_password: None,
        guest: None,
        ..VmSpec::default()
    }
}

pub(crate) fn blank(name: &str, capacity: u64) -> VolumeSpec {
    VolumeSpec {
        pool: "default".to_owned(),
        name: name.to_owned(),
        capacity,
        format: VolumeFormat::Qcow2,
        source: VolumeSource::Blank,
        bus: None,
    }
}

pub(crate) fn layer(name: &str, capacity: u64) -> VolumeSpec {
    VolumeSpec {
        source: VolumeSource::Layer {
            image: "default/debian".to_owned(),
            format: VolumeFormat::Qcow2,
        },
        ..blank(name, capacity)
    }
}

pub(crate) fn copy(name: &str, capacity: u64) -> VolumeSpec {
    VolumeSpec {
        source: VolumeSource::Copy {
            image: "debian".to_owned(),
            format: VolumeFormat::Qcow2,
        },
        ..blank(name, capacity)
    }
}

/// The kind of the error that `result` must be.
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind
}
