//! Which of the trait's methods serves which capability, as one exhaustive table: a capability that the core
//! adds does not compile here until somebody has built it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use babelvisor_core::Error;
use babelvisor_core::capability::{Capability, CapabilitySet, Support};
use serde::{Deserialize, Serialize};

/// A method of the backend trait, by its name there.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::AsRefStr,
    strum::EnumString,
    strum::EnumIter,
)]
#[strum(serialize_all = "snake_case")]
pub enum Method {
    /// All VMs.
    List,
    /// One VM.
    Get,
    /// Hosts, pools, networks.
    Topology,
    /// Make a volume.
    CreateVolume,
    /// Remove a volume.
    DeleteVolume,
    /// Prepare first-boot set-up.
    CreateSeed,
    /// Define a VM.
    Define,
    /// Remove a definition.
    Undefine,
    /// Change the power state.
    Power,
    /// Where the console is.
    Console,
    /// Read the console password.
    ConsolePassword,
    /// Set the console password.
    SetConsolePassword,
    /// Change hardware or settings.
    Change,
    /// Look at a volume.
    Volume,
    /// Make a volume larger.
    ResizeVolume,
    /// Fill a new volume.
    UploadVolume,
    /// Make a snapshot.
    CreateSnapshot,
    /// Go back to a snapshot.
    RevertSnapshot,
    /// Remove a snapshot.
    DeleteSnapshot,
    /// All snapshots of a VM.
    Snapshots,
    /// Move a running VM.
    Migrate,
    /// A picture of the screen.
    Screenshot,
}

/// The methods that serve `capability`.
pub(crate) const fn served_by(capability: Capability) -> &'static [Method] {
    use Capability as C;
    match capability {
        C::VmList | C::GuestAddresses => &[Method::List, Method::Get],
        C::VmCreate => &[Method::Define],
        C::VmDelete => &[Method::Undefine],
        C::PowerStart
        | C::PowerShutdown
        | C::PowerForceOff
        | C::PowerReboot
        | C::PowerReset
        | C::PowerSuspend
        | C::PowerResume
        | C::PowerSave
        | C::PowerRestore => &[Method::Power],
        C::VolumeCreate => &[Method::CreateVolume, Method::Volume],
        C::VolumeCopy | C::VolumeLayer => &[Method::CreateVolume],
        C::VolumeDelete => &[Method::DeleteVolume],
        C::GuestSetup => &[Method::CreateSeed],
        C::ConsoleEndpoint => &[Method::Console],
        C::ConsolePassword => &[
            Method::ConsolePassword,
            Method::SetConsolePassword,
            Method::Change,
        ],
        C::TopologyList => &[Method::Topology],
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
        | C::GuestPassword => &[Method::Change],
        C::SnapshotCreate => &[Method::CreateSnapshot, Method::Snapshots],
        C::SnapshotMemory => &[Method::CreateSnapshot],
        C::SnapshotRevert => &[Method::RevertSnapshot],
        C::SnapshotDelete => &[Method::DeleteSnapshot],
        C::VmMigrate => &[Method::Migrate],
        C::VolumeResize => &[Method::ResizeVolume],
        C::VolumeUpload => &[Method::UploadVolume],
        C::ConsoleScreenshot => &[Method::Screenshot],
    }
}

/// Everything is native, except what the configuration takes away with a reason.
pub(crate) fn declared(lacks: &BTreeMap<Target, String>) -> CapabilitySet {
    CapabilitySet::build(|capability| {
        let taken = lacks.iter().find(|(target, _)| match target {
            Target::Capability(lacked) => *lacked == capability,
            Target::Method(method) => served_by(capability).contains(method),
        });
        taken.map_or(Support::Native, |(_, reason)| Support::Impossible(reason.clone()))
    })
}

/// What a delay or a fault is aimed at: a method (`power`, `create_volume`) or, narrower, a capability
/// (`power.start`, `volume.copy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// Every call of a method.
    Method(Method),
    /// The calls that use a capability.
    Capability(Capability),
}

impl Target {
    /// Whether a call of `method` that uses `capability` is meant.
    pub(crate) fn meets(self, method: Method, capability: Capability) -> bool {
        match self {
            Self::Method(aimed) => aimed == method,
            Self::Capability(aimed) => aimed == capability,
        }
    }
}

impl From<Method> for Target {
    fn from(method: Method) -> Self {
        Self::Method(method)
    }
}

impl From<Capability> for Target {
    fn from(capability: Capability) -> Self {
        Self::Capability(capability)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method(method) => method.as_ref(),
            Self::Capability(capability) => capability.as_ref(),
        })
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl FromStr for Target {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Method::from_str(text)
            .map(Self::Method)
            .or_else(|_| Capability::from_str(text).map(Self::Capability))
            .map_err(|_| {
                Error::invalid(
                    "target",
                    format!("{text:?} is neither a method (create_volume) nor a capability (power.start)"),
                )
            })
    }
}

impl TryFrom<String> for Target {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn every_method_serves_a_capability() {
        for method in Method::iter() {
            assert!(
                Capability::iter().any(|capability| served_by(capability).contains(&method)),
                "{method:?}"
            );
        }
    }

    #[test]
    fn targets_are_spelt_as_in_the_trait_and_in_the_tables() {
        for method in Method::iter() {
            assert_eq!(method.as_ref().parse::<Target>().unwrap(), Target::from(method));
        }
        for capability in Capability::iter() {
            assert_eq!(
                capability.as_ref().parse::<Target>().unwrap(),
                Target::from(capability)
            );
        }
        assert!("power.levitate".parse::<Target>().is_err());
    }

    #[test]
    fn what_is_taken_away_says_why() {
        let lacks = BTreeMap::from([(
            Target::from(Capability::PowerReset),
            "this board has no reset button".to_owned(),
        )]);
        let declared = declared(&lacks);
        assert_eq!(
            declared.get(Capability::PowerReset).reason(),
            Some("this board has no reset button")
        );
        assert!(declared.get(Capability::PowerStart).usable());
    }
}
