//! Wiring: from a checked configuration to the parts, in the order in which they need each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::backend::Backend;
use babelvisor_core::frontend::Frontend;
use babelvisor_core::inventory::{Inventory, Upkeep};
use babelvisor_core::jobs::{self, Engine, HookEncoder};
use babelvisor_core::layers::{Core, forget_calls, lapse, retention};
use babelvisor_core::mailbox::Mailbox;
use babelvisor_core::model::{BackendId, TenantId};
use babelvisor_core::registry::Registry;
use babelvisor_core::secret::Keyring;
use babelvisor_core::store::Store;
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_core::store::redis::RedisStore;
use babelvisor_core::{Error, Result};
use babelvisor_schemas::Dialect;
use babelvisor_server::{Listener, Mount, TlsFiles};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{BackendEntry, BackendKind, Config, DialectName, Listen, StoreKind};

/// The running parts behind the listeners.
pub(crate) struct Parts {
    pub(crate) core: Arc<Core>,
    /// The tasks of agents: what backends put in, the task feed hands out.
    pub(crate) mailbox: Arc<Mailbox>,
    /// Ends everything when dropped.
    pub(crate) _tasks: JoinSet<()>,
}

/// Opens the configured store.
///
/// # Errors
/// Those of the store: in use, unreachable, of a newer format.
pub(crate) async fn store(config: &Config) -> Result<Arc<dyn Store>> {
    match config.store.kind {
        StoreKind::Embedded => {
            let dir = config.state_dir();
            let path = config
                .store
                .path
                .clone()
                .unwrap_or_else(|| dir.join("store.redb"));
            if let Some(parent) = path.parent() {
                make_private_dir(parent)?;
            }
            Ok(Arc::new(EmbeddedStore::open(&path)?))
        }
        StoreKind::Redis => {
            let url = config.store.url.as_deref().unwrap_or_default();
            let prefix = config
                .store
                .prefix
                .as_deref()
                .unwrap_or(babelvisor_core::store::redis::DEFAULT_PREFIX);
            Ok(Arc::new(RedisStore::connect(url, prefix).await?))
        }
    }
}

/// A directory that only its owner can read: it holds the store and the key.
fn make_private_dir(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| Error::internal(format!("directory {}: {error}", path.display())))
}

/// Starts everything behind the listeners.
///
/// # Errors
/// Those of the store and key file; backends that are down are no error, they heal.
pub(crate) async fn parts(config: &Config) -> Result<Parts> {
    let store = store(config).await?;
    let key_file = config
        .secrets
        .key_file
        .clone()
        .unwrap_or_else(|| config.state_dir().join("secret.key"));
    if let Some(parent) = key_file.parent() {
        make_private_dir(parent)?;
    }
    let keyring = Arc::new(Keyring::load_or_create(&key_file)?);
    let mailbox = Mailbox::new(store.clone());
    let registry = Registry::new(store);
    let inventory = Arc::new(Inventory::default());
    let backends = config
        .backend
        .iter()
        .map(|entry| backend(entry, Some(&mailbox)))
        .collect::<Result<HashMap<_, _>>>()?;

    let ids = config.backend_ids();
    let (mut images, mut flavors) = (HashSet::new(), HashSet::new());
    for image in &config.image {
        images.insert(registry.seed_image(image.seed(&ids)).await?.id);
    }
    for flavor in &config.flavor {
        flavors.insert(registry.seed_flavor(flavor.seed()).await?.id);
    }
    registry.release_seeds(&images, &flavors).await?;

    let engine = Engine::new(
        registry.clone(),
        inventory.clone(),
        keyring.clone(),
        backends.clone(),
        config.engine(),
    );
    let (job_changes, heard) = mpsc::unbounded_channel();
    let upkeep = Upkeep {
        inventory: inventory.clone(),
        registry: registry.clone(),
        backends: backends.clone(),
        adopted_tenant: TenantId::new(&config.adopted_tenant),
        keyring: keyring.clone(),
        jobs: job_changes,
    };
    let mut tasks = upkeep.start().await?;
    let mut engine_tasks = engine.start(heard);
    tasks.spawn(async move { while engine_tasks.join_next().await.is_some() {} });
    let core = Core::new(inventory, registry, engine, backends, keyring, config.policy());
    if let Some(settings) = config.lapse() {
        tasks.spawn(lapse::enforce(core.clone(), settings));
    }
    tasks.spawn(retention::look_after(core.clone(), config.trash.settings()));
    tasks.spawn(crate::serve::tidy_store(core.clone(), config.jobs.keep_hours));
    tasks.spawn(forget_calls(core.clone(), Duration::from_secs(600)));
    for name in config.dialects() {
        if let Some(encoder) = hook_encoder(config, &core, name) {
            tasks.spawn(jobs::deliver(core.engine().clone(), encoder, config.hooks()));
        }
    }
    Ok(Parts {
        core,
        mailbox,
        _tasks: tasks,
    })
}

/// The backend of a `[[backend]]` entry; `mailbox` is where agents report to and fetch their tasks.
///
/// # Errors
/// Settings that make no sense; a backend that is down is none, it heals. `Unsupported` for one that is reached through
/// the mailbox of a gateway, where there is none.
pub(crate) fn backend(
    entry: &BackendEntry,
    mailbox: Option<&Arc<Mailbox>>,
) -> Result<(BackendId, Arc<dyn Backend>)> {
    let id = BackendId::new(&entry.id);
    let backend: Arc<dyn Backend> = match &entry.kind {
        BackendKind::Libvirt(config) => Arc::new(babelvisor_libvirt::LibvirtBackend::start(
            id.clone(),
            config.clone(),
        )?),
        BackendKind::Memory(config) => babelvisor_memory::MemoryBackend::new(id.clone(), (**config).clone()),
        BackendKind::KvmAgent(config) => {
            let mailbox = mailbox.ok_or_else(|| {
                Error::unsupported(format!(
                    "backend {id} is reached when its agent calls a running gateway, not from here"
                ))
            })?;
            babelvisor_kvm_agent::KvmAgentBackend::new(id.clone(), config.clone(), mailbox.clone())?
        }
    };
    Ok((id, backend))
}

/// A `[[listen]]` entry with its dialects mounted.
pub(crate) fn listener(config: &Config, parts: &Parts, listen: &Listen) -> Listener {
    Listener {
        addresses: vec![listen.address],
        tls: listen.tls.as_ref().map(|tls| TlsFiles {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
        }),
        mounts: listen
            .dialects
            .iter()
            .map(|name| mount(config, parts, *name))
            .collect(),
    }
}

/// The dialects that are mounted anywhere, each once.
pub(crate) fn dialects(listeners: &[Listener]) -> Vec<Arc<dyn Frontend>> {
    let mut all: Vec<Arc<dyn Frontend>> = Vec::new();
    for mount in listeners.iter().flat_map(|listener| &listener.mounts) {
        if !all.iter().any(|one| one.dialect() == mount.frontend.dialect()) {
            all.push(mount.frontend.clone());
        }
    }
    all
}

/// How a dialect says ends to the web hooks that its clients name, if they can name any.
fn hook_encoder(config: &Config, core: &Arc<Core>, name: DialectName) -> Option<Arc<dyn HookEncoder>> {
    match name {
        DialectName::Zstack => Some(babelvisor_zstack::Zstack::hooks(
            core.clone(),
            config.zstack.clone(),
        )),
        DialectName::GuestRest | DialectName::PveOpen | DialectName::V1Compute | DialectName::KvmTaskFeed => {
            None
        }
    }
}

fn mount(config: &Config, parts: &Parts, name: DialectName) -> Mount {
    let core = &parts.core;
    let (dialect, frontend): (Dialect, Arc<dyn Frontend>) = match name {
        DialectName::GuestRest => {
            let mut settings = config.guest_rest.clone();
            settings.leases_enforced |= config.lease_terms.enforce;
            (
                Dialect::GuestRest,
                babelvisor_guest_rest::GuestRest::new(core.clone(), settings),
            )
        }
        DialectName::PveOpen => {
            let settings = config.pve_open.clone();
            (
                Dialect::PveOpen,
                babelvisor_pve_open::PveOpen::new(core.clone(), settings),
            )
        }
        DialectName::V1Compute => {
            let settings = config.v1_compute.clone();
            (
                Dialect::V1Compute,
                babelvisor_v1_compute::V1Compute::new(core.clone(), settings),
            )
        }
        DialectName::Zstack => {
            let settings = config.zstack.clone();
            (
                Dialect::Zstack,
                babelvisor_zstack::Zstack::new(core.clone(), settings),
            )
        }
        DialectName::KvmTaskFeed => (
            Dialect::KvmTaskFeed,
            babelvisor_kvm_task_feed::KvmTaskFeed::new(
                parts.mailbox.clone(),
                &config.kvm_task_feed,
                config.agents(),
            ),
        ),
    };
    Mount::from_contract(dialect, frontend)
}
