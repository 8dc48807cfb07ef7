//! What a libvirt connection can do, driver by driver.

use babelvisor_core::capability::{Capability, CapabilitySet, Support};

use crate::quirks::Driver;

/// Why the test driver takes no content.
const NO_UPLOAD: &str = "libvirt's test driver keeps no volume contents and refuses uploads";

/// A verdict for every capability on connections of this driver.
pub fn of(driver: Driver) -> CapabilitySet {
    CapabilitySet::build(|capability| match driver {
        Driver::Qemu => qemu(capability),
        Driver::Test => test(capability),
        Driver::Other => other(capability),
    })
}

/// Why it takes no devices while it runs.
const COLD: &str = "libvirt's test driver cannot plug; the definition is edited, while the vm is off only";

fn qemu(capability: Capability) -> Support {
    match capability {
        Capability::VmList
        | Capability::VmCreate
        | Capability::VmDelete
        | Capability::PowerStart
        | Capability::PowerShutdown
        | Capability::PowerForceOff
        | Capability::PowerReboot
        | Capability::PowerReset
        | Capability::PowerSuspend
        | Capability::PowerResume
        | Capability::PowerSave
        | Capability::PowerRestore
        | Capability::ConfigCpu
        | Capability::ConfigMemory
        | Capability::ConfigBoot
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
        | Capability::SnapshotCreate
        | Capability::SnapshotMemory
        | Capability::SnapshotRevert
        | Capability::SnapshotDelete
        | Capability::VmMigrate
        | Capability::VolumeCreate
        | Capability::VolumeCopy
        | Capability::VolumeLayer
        | Capability::VolumeDelete
        | Capability::VolumeResize
        | Capability::VolumeUpload
        | Capability::GuestAddresses
        | Capability::GuestPassword
        | Capability::ConsoleEndpoint
        | Capability::ConsolePassword
        | Capability::ConsoleScreenshot
        | Capability::TopologyList => Support::Native,
        Capability::GuestSetup => Support::Emulated(
            "a cloud-init NoCloud seed is uploaded as a volume and put into an optical drive".into(),
        ),
    }
}

fn test(capability: Capability) -> Support {
    match capability {
        Capability::GuestSetup | Capability::VolumeUpload => Support::Impossible(NO_UPLOAD.into()),
        Capability::VolumeResize => {
            Support::Impossible("libvirt's test driver keeps the size that a volume was made with".into())
        }
        Capability::VmMigrate => {
            Support::Impossible("libvirt's test driver has no other host to move a domain to".into())
        }
        Capability::ConsoleEndpoint => {
            Support::Impossible("displays of libvirt's test driver listen on no port".into())
        }
        Capability::ConsolePassword => Support::Emulated(
            "libvirt's test driver cannot change a running domain's graphics; the definition is changed"
                .into(),
        ),
        Capability::DiskAttach
        | Capability::DiskDetach
        | Capability::NicAttach
        | Capability::NicDetach
        | Capability::NicUpdate
        | Capability::MediaChange => Support::Emulated(COLD.into()),
        Capability::VmList
        | Capability::VmCreate
        | Capability::VmDelete
        | Capability::PowerStart
        | Capability::PowerShutdown
        | Capability::PowerForceOff
        | Capability::PowerReboot
        | Capability::PowerReset
        | Capability::PowerSuspend
        | Capability::PowerResume
        | Capability::PowerSave
        | Capability::PowerRestore
        | Capability::ConfigCpu
        | Capability::ConfigMemory
        | Capability::ConfigBoot
        | Capability::ConfigAutostart
        | Capability::ConfigVideo
        | Capability::DiskQos
        | Capability::NicQos
        | Capability::SnapshotCreate
        | Capability::SnapshotMemory
        | Capability::SnapshotRevert
        | Capability::SnapshotDelete
        | Capability::VolumeCreate
        | Capability::VolumeCopy
        | Capability::VolumeLayer
        | Capability::VolumeDelete
        | Capability::GuestAddresses
        | Capability::GuestPassword
        | Capability::ConsoleScreenshot
        | Capability::TopologyList => Support::Native,
    }
}

fn other(capability: Capability) -> Support {
    match capability {
        Capability::VmList
        | Capability::TopologyList
        | Capability::PowerStart
        | Capability::PowerShutdown
        | Capability::PowerForceOff
        | Capability::PowerReboot
        | Capability::PowerReset
        | Capability::PowerSuspend
        | Capability::PowerResume
        | Capability::ConsoleEndpoint
        | Capability::GuestAddresses => Support::Native,
        Capability::VmCreate
        | Capability::VmDelete
        | Capability::VolumeCreate
        | Capability::VolumeCopy
        | Capability::VolumeLayer
        | Capability::VolumeDelete
        | Capability::GuestSetup
        | Capability::ConsolePassword
        | Capability::PowerSave
        | Capability::PowerRestore
        | Capability::ConfigCpu
        | Capability::ConfigMemory
        | Capability::ConfigBoot
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
        | Capability::SnapshotCreate
        | Capability::SnapshotMemory
        | Capability::SnapshotRevert
        | Capability::SnapshotDelete
        | Capability::VmMigrate
        | Capability::VolumeResize
        | Capability::VolumeUpload
        | Capability::GuestPassword
        | Capability::ConsoleScreenshot => Support::NotYet(
            "only libvirt's QEMU and test drivers are verified for changes of this kind".into(),
        ),
    }
}
