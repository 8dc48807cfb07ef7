//! What an agent can be asked for, with the reason wherever that is less than the word says.

use babelvisor_core::capability::{Capability, CapabilitySet, Support};

/// What every backend of this kind declares: agents do not say what they can do.
pub fn declared() -> CapabilitySet {
    CapabilitySet::build(support)
}

fn support(capability: Capability) -> Support {
    let emulated = |reason: &str| Support::Emulated(reason.to_owned());
    let not_yet = |reason: &str| Support::NotYet(reason.to_owned());
    let impossible = |reason: &str| Support::Impossible(reason.to_owned());
    match capability {
        Capability::VmList
        | Capability::TopologyList
        | Capability::VmDelete
        | Capability::PowerStart
        | Capability::PowerForceOff
        | Capability::SnapshotRevert
        | Capability::SnapshotDelete
        | Capability::GuestAddresses => Support::Native,
        Capability::PowerReset => emulated("the agent cuts the power and starts the machine again"),
        Capability::ConfigCpu | Capability::ConfigMemory => emulated(
            "while the machine is off: the agent changes the stored definition only, and makes its disks 512 \
             bytes larger each time",
        ),
        Capability::SnapshotCreate => emulated(
            "while the machine is off: the snapshot of a running one would hold its memory, and reports do not say so",
        ),
        Capability::VmCreate => not_yet(
            "the agent makes disks, definition and first start in one task, which steps of their own cannot ask for yet",
        ),
        Capability::VolumeResize => not_yet("growing disks in a change task is not built"),
        Capability::GuestSetup => not_yet("giving addresses through the agent (task 8) is not built"),
        Capability::VolumeUpload => not_yet("downloads by the agent (task 40) are not built"),
        Capability::PowerShutdown | Capability::PowerReboot => {
            impossible("the agent has no soft stop: its stop cuts the power")
        }
        Capability::PowerSuspend
        | Capability::PowerResume
        | Capability::PowerSave
        | Capability::PowerRestore => impossible("the agent knows start, stop and reboot only"),
        Capability::ConfigBoot
        | Capability::ConfigAutostart
        | Capability::ConfigVideo
        | Capability::DiskAttach
        | Capability::DiskDetach
        | Capability::DiskQos
        | Capability::NicAttach
        | Capability::NicDetach
        | Capability::NicUpdate
        | Capability::NicQos
        | Capability::MediaChange
        | Capability::SnapshotMemory
        | Capability::VmMigrate
        | Capability::VolumeCreate
        | Capability::VolumeCopy
        | Capability::VolumeLayer
        | Capability::VolumeDelete
        | Capability::GuestPassword
        | Capability::ConsoleEndpoint
        | Capability::ConsolePassword
        | Capability::ConsoleScreenshot => impossible("the agent has no task for it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_less_than_native_says_why() {
        for (capability, support) in declared().iter() {
            let reason = support.reason().unwrap_or("native");
            assert!(!reason.is_empty(), "{}", capability.as_ref());
        }
    }
}
