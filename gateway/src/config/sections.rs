//! The sections of the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use babelvisor_core::jobs::{EngineSettings, HookSettings};
use babelvisor_core::layers::Policy;
use babelvisor_core::layers::lapse::LapseSettings;
use babelvisor_core::model::BackendId;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::catalogue::{FlavorEntry, ImageEntry};
use super::outbound::OutboundSection;
use super::trash::TrashSection;
use super::{ConfigError, default_state_dir};
use crate::cli::AccelName;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "snake_case")]
pub(crate) struct Config {
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) listen: Vec<Listen>,
    pub(crate) admin: AdminSection,
    pub(crate) store: StoreSection,
    pub(crate) secrets: SecretsSection,
    pub(crate) jobs: JobsSection,
    pub(crate) placement: PlacementSection,
    pub(crate) lease_terms: LeaseSection,
    pub(crate) trash: TrashSection,
    outbound: OutboundSection,
    pub(crate) log: LogSection,
    /// Whose VMs are that were not made through the gateway.
    pub(crate) adopted_tenant: String,
    pub(crate) backend: Vec<BackendEntry>,
    pub(crate) image: Vec<ImageEntry>,
    pub(crate) flavor: Vec<FlavorEntry>,
    #[serde(rename = "guest-rest")]
    pub(crate) guest_rest: babelvisor_guest_rest::Settings,
    #[serde(rename = "pve-open")]
    pub(crate) pve_open: babelvisor_pve_open::Settings,
    pub(crate) zstack: babelvisor_zstack::Settings,
    #[serde(rename = "v1-compute")]
    pub(crate) v1_compute: babelvisor_v1_compute::Settings,
    #[serde(rename = "kvm-task-feed")]
    pub(crate) kvm_task_feed: babelvisor_kvm_task_feed::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: None,
            listen: vec![Listen::all_dialects(SocketAddr::from(([127, 0, 0, 1], 8080)))],
            admin: AdminSection::default(),
            store: StoreSection::default(),
            secrets: SecretsSection::default(),
            jobs: JobsSection::default(),
            placement: PlacementSection::default(),
            lease_terms: LeaseSection::default(),
            trash: TrashSection::default(),
            outbound: OutboundSection::default(),
            log: LogSection::default(),
            adopted_tenant: "default".to_owned(),
            backend: Vec::new(),
            image: Vec::new(),
            flavor: Vec::new(),
            guest_rest: Default::default(),
            pve_open: Default::default(),
            zstack: Default::default(),
            v1_compute: Default::default(),
            kvm_task_feed: Default::default(),
        }
    }
}

/// A dialect, as it is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DialectName {
    GuestRest,
    V1Compute,
    Zstack,
    PveOpen,
    KvmTaskFeed,
}

impl DialectName {
    pub(crate) const ALL: [Self; 5] = [
        Self::GuestRest,
        Self::V1Compute,
        Self::Zstack,
        Self::PveOpen,
        Self::KvmTaskFeed,
    ];

    /// Whether whoever reaches the port may do everything: the original has no sign-in, or it is switched off.
    fn open(self, config: &Config) -> bool {
        match self {
            Self::GuestRest => config.guest_rest.credential.is_none(),
            Self::KvmTaskFeed => true,
            Self::PveOpen => config.pve_open.authentication == babelvisor_pve_open::Switch::Off,
            Self::V1Compute => config.v1_compute.is_open(),
            Self::Zstack => false,
        }
    }
}

/// `[[listen]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    #[serde(default = "all_dialects")]
    pub(crate) dialects: Vec<DialectName>,
    pub(crate) tls: Option<Tls>,
    /// Says in words that dialects without a sign-in may be reached from the network here.
    #[serde(default)]
    open_to_network: bool,
}

fn all_dialects() -> Vec<DialectName> {
    DialectName::ALL.to_vec()
}

/// `tls = { certificate = …, key = … }`: PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Listen {
    fn fault(&self) -> Option<String> {
        let empty = self.dialects.is_empty();
        empty.then(|| {
            format!(
                "listener {}: dialects is empty, nothing would be answered",
                self.address
            )
        })
    }

    /// All dialects at one address, plain HTTP.
    pub(crate) fn all_dialects(address: SocketAddr) -> Self {
        Self {
            address,
            dialects: all_dialects(),
            tls: None,
            open_to_network: false,
        }
    }
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminSection {
    pub(crate) address: SocketAddr,
    pub(crate) open_to_network: bool,
    pub(crate) host_names: Vec<String>,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9080)),
            open_to_network: false,
            host_names: Vec::new(),
        }
    }
}

/// `[store]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreSection {
    pub(crate) kind: StoreKind,
    /// Embedded: the file; `store.redb` in the state directory without.
    pub(crate) path: Option<PathBuf>,
    /// Redis: `redis://[user:password@]host:port/db`.
    pub(crate) url: Option<String>,
    /// Redis: what every key begins with.
    pub(crate) prefix: Option<String>,
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreKind {
    /// A file of this process.
    #[default]
    Embedded,
    /// Redis, shared by many gateways.
    Redis,
}

/// `[secrets]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SecretsSection {
    /// Key file; `secret.key` in the state directory without. Gateways on one Redis share one key file.
    pub(crate) key_file: Option<PathBuf>,
}

/// `[jobs]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JobsSection {
    lease_ms: u64,
    workers: usize,
    drain_ms: u64,
    deadline_seconds: u64,
    /// How long ended jobs are kept.
    pub(crate) keep_hours: u64,
}

impl Default for JobsSection {
    fn default() -> Self {
        Self {
            lease_ms: 10_000,
            workers: 64,
            drain_ms: 20_000,
            deadline_seconds: 600,
            keep_hours: 72,
        }
    }
}

/// `[placement]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PlacementSection {
    pool: Option<String>,
    network: Option<String>,
    layered_disks: bool,
    guest_setup: bool,
}

impl Default for PlacementSection {
    fn default() -> Self {
        Self {
            pool: None,
            network: None,
            layered_disks: false,
            guest_setup: true,
        }
    }
}

/// `[lease_terms]`: what becomes of a VM whose `lease_term` has run out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LeaseSection {
    pub(crate) enforce: bool,
    every_seconds: u64,
    keep_seconds: u64,
}

impl Default for LeaseSection {
    fn default() -> Self {
        Self {
            enforce: false,
            every_seconds: 60,
            keep_seconds: 7 * 24 * 3600,
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    /// `human` or `json`; without, human on a terminal and JSON otherwise.
    pub(crate) format: Option<LogFormat>,
    /// As in `RUST_LOG`, which wins: `info`, `warn,audit=info`.
    pub(crate) filter: Option<String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Human,
    Json,
}

/// `[[backend]]`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BackendEntry {
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) kind: BackendKind,
}

/// A backend's kind with its own settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum BackendKind {
    Libvirt(babelvisor_libvirt::LibvirtConfig),
    Memory(Box<babelvisor_memory::MemoryConfig>),
    #[serde(rename = "kvm-agent")]
    KvmAgent(babelvisor_kvm_agent::KvmAgentConfig),
}

impl BackendEntry {
    /// A libvirt host with defaults.
    pub(crate) fn libvirt(id: &str, uri: &str, accel: Option<AccelName>) -> Self {
        let mut config = babelvisor_libvirt::LibvirtConfig::new(uri);
        config.accel = match accel {
            None | Some(AccelName::Auto) => babelvisor_libvirt::Accel::Auto,
            Some(AccelName::Kvm) => babelvisor_libvirt::Accel::Kvm,
            Some(AccelName::Tcg) => babelvisor_libvirt::Accel::Tcg,
        };
        Self {
            id: id.to_owned(),
            kind: BackendKind::Libvirt(config),
        }
    }

    fn fault(&self) -> Option<String> {
        let word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if self.id.is_empty() || self.id.len() > 32 || !self.id.chars().all(word) {
            return Some(format!("backend id {:?}: 1 to 32 of a-z, 0-9 and -", self.id));
        }
        let checked = match &self.kind {
            BackendKind::Libvirt(config) => config.check(),
            BackendKind::Memory(config) => config.check(),
            BackendKind::KvmAgent(config) => config.check(),
        };
        checked.err().map(|error| format!("backend {}: {error}", self.id))
    }
}

impl Config {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.faults().into_iter().next() {
            Some(fault) => Err(ConfigError::new(fault)),
            None => Ok(()),
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for listen in &self.listen {
            let open = listen.dialects.iter().find(|dialect| dialect.open(self));
            if let Some(open) = open
                && !listen.address.ip().is_loopback()
                && !listen.open_to_network
            {
                faults.push(format!(
                    "listener {}: dialect {open:?} has no sign-in, so whoever reaches this address controls every \
                     machine; listen on loopback, or say open_to_network = true in this [[listen]]",
                    listen.address
                ));
            }
        }
        faults.extend(self.zstack.zone().err());
        faults.extend(self.kvm_task_feed.zone().err());
        faults.extend(twice(
            "serial number",
            self.agents().into_iter().map(|agent| agent.serial),
        ));
        if !self.admin.address.ip().is_loopback() && !self.admin.open_to_network {
            faults.push(format!(
                "admin address {} is not loopback; say open_to_network = true in [admin] if that is meant",
                self.admin.address
            ));
        }
        if self.listen.is_empty() {
            faults.push("listen: at least one [[listen]] is needed, or leave all of them out".to_owned());
        }
        for listen in &self.listen {
            faults.extend(listen.fault());
        }
        if let (StoreKind::Redis, url) = (self.store.kind, self.store.url.as_deref().unwrap_or_default())
            && !["redis://", "rediss://", "unix://", "redis+unix://"]
                .iter()
                .any(|scheme| url.starts_with(scheme))
        {
            // The address itself may hold a password and is not repeated.
            faults.push("store: kind = \"redis\" needs url = \"redis://host:port/0\"".to_owned());
        }
        if self.store.kind == StoreKind::Embedded && self.store.url.is_some() {
            faults.push("store: url is for kind = \"redis\"; say that, or remove it".to_owned());
        }
        if let Some(Err(error)) = self.log.filter.as_deref().map(EnvFilter::try_new) {
            faults.push(format!("log: filter: {error}"));
        }
        let ids: Vec<&str> = self.backend.iter().map(|backend| backend.id.as_str()).collect();
        for (place, backend) in self.backend.iter().enumerate() {
            faults.extend(backend.fault());
            if ids.iter().take(place).any(|earlier| *earlier == backend.id) {
                faults.push(format!("backend {}: the id is used twice", backend.id));
            }
        }
        faults.extend(self.outbound.fault());
        faults.extend(self.image.iter().filter_map(|image| image.fault(&ids)));
        faults.extend(self.flavor.iter().filter_map(FlavorEntry::fault));
        faults.extend(twice("image name", self.image.iter().map(ImageEntry::name)));
        faults.extend(twice(
            "image number",
            self.image.iter().filter_map(ImageEntry::number),
        ));
        faults.extend(twice("flavor name", self.flavor.iter().map(FlavorEntry::name)));
        faults.extend(twice("flavor id", self.flavor.iter().filter_map(FlavorEntry::id)));
        // A lease of more than a day is none, and a deadline of more than a year is a slip.
        let jobs = &self.jobs;
        if !(200..=86_400_000).contains(&jobs.lease_ms)
            || !(1..=100_000).contains(&jobs.workers)
            || !(1..=31_536_000).contains(&jobs.deadline_seconds)
        {
            faults.push(
                "jobs: lease_ms is 200 to 86400000, workers 1 to 100000, deadline_seconds 1 to 31536000"
                    .to_owned(),
            );
        }
        if self.adopted_tenant.is_empty() {
            faults.push("adopted_tenant: a tenant has a name".to_owned());
        }
        if self.lease_terms.every_seconds == 0 {
            faults.push("lease_terms: every_seconds is at least 1".to_owned());
        }
        if self.trash.every_seconds == 0 {
            faults.push("trash: every_seconds is at least 1".to_owned());
        }
        faults
    }

    /// The state directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(default_state_dir)
    }

    /// The dialects that some listener answers.
    pub(crate) fn dialects(&self) -> impl Iterator<Item = DialectName> {
        let listens = |name: &DialectName| self.listen.iter().any(|listen| listen.dialects.contains(name));
        DialectName::ALL.into_iter().filter(listens)
    }

    /// The ids of all backends.
    pub(crate) fn backend_ids(&self) -> Vec<BackendId> {
        self.backend
            .iter()
            .map(|backend| BackendId::new(&backend.id))
            .collect()
    }

    /// The agents that the task feed serves: those of the backends that they are.
    pub(crate) fn agents(&self) -> Vec<babelvisor_kvm_task_feed::Agent> {
        let agents = self.backend.iter().filter_map(|entry| match &entry.kind {
            BackendKind::KvmAgent(config) => Some(config),
            BackendKind::Libvirt(_) | BackendKind::Memory(_) => None,
        });
        agents
            .map(|config| babelvisor_kvm_task_feed::Agent {
                serial: config.serial.clone(),
                source: config.source,
                credential: config
                    .credential
                    .as_ref()
                    .map(|secret| babelvisor_kvm_task_feed::Credential {
                        header: secret.header.clone(),
                        sha256: secret.sha256.clone(),
                    }),
            })
            .collect()
    }

    /// The engine's settings.
    pub(crate) fn engine(&self) -> EngineSettings {
        EngineSettings {
            lease: Duration::from_millis(self.jobs.lease_ms),
            workers: self.jobs.workers,
            drain: Duration::from_millis(self.jobs.drain_ms),
            outbound: self.outbound.client(),
        }
    }

    /// How web hooks are delivered.
    pub(crate) fn hooks(&self) -> HookSettings {
        self.outbound.hooks(Duration::from_millis(self.jobs.lease_ms))
    }

    /// The layers' policy.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            job_deadline: Duration::from_secs(self.jobs.deadline_seconds),
            pool: self.placement.pool.clone(),
            network: self.placement.network.clone(),
            layered_disks: self.placement.layered_disks,
            guest_setup: self.placement.guest_setup,
        }
    }

    /// The clocks of lease enforcement; none while it is off.
    pub(crate) fn lapse(&self) -> Option<LapseSettings> {
        self.lease_terms.enforce.then(|| LapseSettings {
            every: Duration::from_secs(self.lease_terms.every_seconds),
            keep: Duration::from_secs(self.lease_terms.keep_seconds),
        })
    }

    /// What `check-config` prints: what would be started, without secrets.
    pub(crate) fn summary(&self) -> String {
        let mut lines = vec!["the configuration is good".to_owned()];
        for listen in &self.listen {
            let scheme = if listen.tls.is_some() { "https" } else { "http" };
            lines.push(format!(
                "  {scheme}://{} answers {:?}",
                listen.address, listen.dialects
            ));
        }
        lines.push(format!("  admin on http://{}", self.admin.address));
        lines.push(format!(
            "  store {:?}, state in {}",
            self.store.kind,
            self.state_dir().display()
        ));
        for backend in &self.backend {
            let kind = match &backend.kind {
                BackendKind::Libvirt(_) => "libvirt",
                BackendKind::Memory(_) => "memory",
                BackendKind::KvmAgent(_) => "kvm-agent",
            };
            lines.push(format!("  backend {} ({kind})", backend.id));
        }
        lines.push(format!(
            "  {} images, {} flavors",
            self.image.len(),
            self.flavor.len()
        ));
        lines.join("\n")
    }
}

/// The first value that occurs twice, in words.
fn twice<T: std::fmt::Display + PartialEq>(what: &str, values: impl Iterator<Item = T>) -> Option<String> {
    let values: Vec<T> = values.collect();
    let repeated = values
        .iter()
        .enumerate()
        .find(|(place, value)| values.iter().take(*place).any(|other| other == *value));
    repeated.map(|(_, value)| format!("{what} {value} is used twice"))
}
