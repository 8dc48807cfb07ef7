//! The checks, a file for each group, and how they are registered from what the backend declares.

mod adoption;
mod changes;
mod console;
mod declared;
mod define;
mod disks;
mod errors;
mod events;
mod exercise;
mod guest;
mod media;
mod moves;
mod nics;
mod power;
mod saved;
mod settings;
mod snapshots;
mod together;
mod topology;
mod undefine;
mod volume_sizes;
mod volumes;
mod wishes;

use std::pin::Pin;
use std::sync::Arc;

use babelvisor_core::capability::Capability;

use super::bench::{Bench, Kit};
use super::config::GuestHabit;
use super::verdict::Verdict;

type Running = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// One rule, and how it is looked at.
pub(crate) struct Check {
    /// `group::rule`.
    pub(crate) name: String,
    /// The rule as a sentence.
    pub(crate) rule: &'static str,
    /// The capabilities that it uses; all must be declared.
    pub(crate) needs: Vec<Capability>,
    /// What else must be so, by configuration.
    wants: &'static [Want],
    /// Looks at it.
    pub(crate) run: Box<dyn Fn(Arc<Bench>) -> Running + Send + Sync>,
}

/// What a check needs that no capability says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// An image.
    Image,
    /// A guest that hears the power button.
    Listener,
    /// A VM without disks that does not.
    Deaf,
    /// A guest that gets an address.
    Booted,
    /// Pools that reserve.
    ReservingPool,
    /// Volumes that carry the id of their job.
    MarkedVolumes,
    /// UEFI.
    Uefi,
    /// Interfaces whose throughput can be limited.
    NicLimits,
}

impl Want {
    /// Why it is not so, if it is not.
    fn missing(self, kit: &Kit) -> Option<&'static str> {
        let config = &kit.config;
        let (met, reason) = match self {
            Self::Image => (
                config.image.is_some(),
                "no image is configured (image = { native, format })",
            ),
            Self::Listener => (
                match config.guest {
                    GuestHabit::Obeys => true,
                    GuestHabit::NeedsImage => config.image.is_some(),
                    GuestHabit::Deaf => false,
                },
                "no guest here hears the power button (guest, image)",
            ),
            Self::Deaf => (
                config.guest != GuestHabit::Obeys,
                "every guest here hears the power button (guest = \"obeys\")",
            ),
            Self::Booted => (
                config.guest == GuestHabit::Obeys || config.image.is_some(),
                "no guest here boots (guest, image)",
            ),
            Self::ReservingPool => (
                config.pool_reserves,
                "the pool gives out more than it has (pool_reserves = false)",
            ),
            Self::MarkedVolumes => (
                config.volumes_carry_jobs,
                "volumes have no room for the id of their job (volumes_carry_jobs = false)",
            ),
            Self::NicLimits => (
                config.nic_limits,
                "interfaces cannot be limited here (nic_limits = false)",
            ),
            Self::Uefi => (config.uefi, "VMs with UEFI are not expected here (uefi = false)"),
        };
        (!met).then_some(reason)
    }
}

impl Check {
    fn new<F>(name: &str, rule: &'static str, needs: &[&[Capability]], run: fn(Arc<Bench>) -> F) -> Self
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        let mut all: Vec<Capability> = needs.concat();
        all.sort();
        all.dedup();
        Self {
            name: name.to_owned(),
            rule,
            needs: all,
            wants: &[],
            run: Box::new(move |bench| Box::pin(run(bench))),
        }
    }

    /// What must be so besides.
    const fn wants(mut self, wants: &'static [Want]) -> Self {
        self.wants = wants;
        self
    }

    /// Why it is not looked at on this backend, if so.
    pub(crate) fn skipped(&self, kit: &Kit) -> Option<String> {
        let lacking = self.needs.iter().find(|need| !kit.has(**need));
        if let Some(lacking) = lacking {
            let support = kit.capabilities.get(*lacking);
            return Some(format!(
                "it needs {}, which is {}: {}",
                lacking.as_ref(),
                support.word(),
                support.reason().unwrap_or_default()
            ));
        }
        let missing = self.wants.iter().find_map(|want| want.missing(kit));
        missing.map(ToOwned::to_owned)
    }
}

/// What a VM that is made and removed takes.
const VM: &[Capability] = &[Capability::VmList, Capability::VmCreate, Capability::VmDelete];
/// What it takes to have one running, and to get it off again.
const RUN: &[Capability] = &[
    Capability::VmList,
    Capability::VmCreate,
    Capability::VmDelete,
    Capability::PowerStart,
    Capability::PowerForceOff,
];
/// What an empty volume that is made and removed takes.
const VOLUME: &[Capability] = &[Capability::VolumeCreate, Capability::VolumeDelete];

/// Every check, in the order of reports.
pub(crate) fn all(kit: &Kit) -> Vec<Check> {
    let mut all = declared::checks(kit);
    all.extend(volumes::checks());
    all.extend(volume_sizes::checks());
    all.extend(define::checks());
    all.extend(wishes::checks());
    all.extend(undefine::checks());
    all.extend(power::checks());
    all.extend(saved::checks());
    all.extend(settings::checks());
    all.extend(disks::checks());
    all.extend(nics::checks());
    all.extend(media::checks());
    all.extend(changes::checks());
    all.extend(snapshots::checks());
    all.extend(moves::checks());
    all.extend(console::checks());
    all.extend(guest::checks());
    all.extend(topology::checks());
    all.extend(events::checks());
    all.extend(adoption::checks());
    all.extend(together::checks());
    all.extend(errors::checks());
    all
}
