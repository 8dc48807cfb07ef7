//! What the kit has to be told about a backend: everything that its capabilities do not say.

use std::collections::BTreeMap;
use std::time::Duration;

use babelvisor_core::model::{NicSource, VolumeFormat};
use serde::{Deserialize, Serialize};

/// Settings of one run. Every field has a default that suits a backend without real guests; sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KitConfig {
    /// The pool that volumes are made in; the first active one if left out.
    pub pool: Option<String>,
    /// An image to copy and to layer over; checks that need one are skipped without.
    pub image: Option<KitImage>,
    /// What interfaces are plugged into: `"user"`, `{ network = "default" }` or `{ bridge = "br0" }`; the first active
    /// network if left out, and the hypervisor's own where there is none.
    pub nic: Option<NicSource>,
    /// vCPUs of the VMs that are made.
    pub vcpus: u32,
    /// Their memory.
    pub memory: u64,
    /// Size of the blank volumes that are made.
    pub volume: u64,
    /// Sizes are rounded up to a multiple of this; 1 where every size can be had.
    pub granularity: u64,
    /// Layouts that blank volumes can have.
    pub formats: Vec<VolumeFormat>,
    /// What a guest needs to hear the power button.
    pub guest: GuestHabit,
    /// Whether VMs with UEFI can be made.
    pub uefi: bool,
    /// Whether pools reserve the whole size of a volume, so that a full one refuses.
    pub pool_reserves: bool,
    /// Whether the backend has room for the id of the job that made a volume. Without it a job's second try takes
    /// every volume of its name for its own.
    pub volumes_carry_jobs: bool,
    /// Whether running VMs take and lose devices. Where they do not, such changes must be refused whole.
    pub hot_plug: bool,
    /// Whether the throughput of the interfaces that are made can be limited here.
    pub nic_limits: bool,
    /// Whether nobody else changes VMs during the run: then all others must be as they were.
    pub exclusive: bool,
    /// How often each repeatable call is repeated.
    pub repeats: usize,
    /// How many VMs are changed at the same time.
    pub together: usize,
    /// How many checks run at the same time.
    pub parallel: usize,
    /// How long things may take.
    pub bounds: Bounds,
    /// Divergences that are known: a check's name with the reason. Such a check must fail; one that holds is to be
    /// taken off this list.
    pub known: BTreeMap<String, String>,
    /// Only checks whose name contains this.
    pub filter: Option<String>,
    /// How one check is run alone: `{check}` stands for its name.
    pub reproduce: String,
}

/// An image on the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KitImage {
    /// The backend's own key of it.
    pub native: String,
    /// Its layout.
    pub format: VolumeFormat,
}

/// What a guest needs to hear the power button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestHabit {
    /// Nothing: guests are simulated and obey as soon as they run, without any disk.
    Obeys,
    /// The configured image, booted; a VM without it never reacts.
    NeedsImage,
    /// No guest here reacts.
    Deaf,
}

/// How long things may take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// The deadline that calls are given.
    pub call: u64,
    /// How much later than its deadline a call may return.
    pub grace: u64,
    /// From a change to its event.
    pub event: u64,
    /// How long the kit listens for events that must not come.
    pub settle: u64,
    /// From the start of a guest to its readiness: agent, addresses, power button.
    pub boot: u64,
    /// One whole check.
    pub check: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            call: 20_000,
            grace: 2_000,
            event: 5_000,
            settle: 100,
            boot: 60_000,
            check: 120_000,
        }
    }
}

impl Default for KitConfig {
    fn default() -> Self {
        Self {
            pool: None,
            image: None,
            nic: None,
            vcpus: 1,
            memory: 64 << 20,
            volume: 16 << 20,
            granularity: 1,
            formats: vec![VolumeFormat::Raw, VolumeFormat::Qcow2],
            guest: GuestHabit::Obeys,
            uefi: false,
            pool_reserves: true,
            volumes_carry_jobs: true,
            hot_plug: true,
            nic_limits: true,
            exclusive: true,
            repeats: 10,
            together: 16,
            parallel: 4,
            bounds: Bounds::default(),
            known: BTreeMap::new(),
            filter: None,
            reproduce: "run the kit with filter = \"{check}\"".to_owned(),
        }
    }
}

impl KitConfig {
    pub(crate) const fn call_time(&self) -> Duration {
        Duration::from_millis(self.bounds.call)
    }

    pub(crate) const fn event_time(&self) -> Duration {
        Duration::from_millis(self.bounds.event)
    }

    pub(crate) const fn settle_time(&self) -> Duration {
        Duration::from_millis(self.bounds.settle)
    }

    /// Whether a volume of `got` bytes is what `wanted` bytes become on this backend.
    pub(crate) fn fits(&self, wanted: u64, got: u64) -> bool {
        got >= wanted && got - wanted < self.granularity.max(1)
    }

    /// How the check `name` is run alone.
    pub(crate) fn reproduce(&self, name: &str) -> String {
        self.reproduce.replace("{check}", name)
    }
}
