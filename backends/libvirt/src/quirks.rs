//! Where libvirt's drivers differ from each other, as data.

use virt_sys as sys;

/// The drivers that the gateway tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// QEMU and KVM: what everything is built and verified for.
    Qemu,
    /// libvirt's test driver: a hypervisor in memory, without guests.
    Test,
    /// Any other (Xen, LXC, ESX …): not verified.
    Other,
}

impl Driver {
    /// From `virConnectGetType`.
    pub fn from_type(name: &str) -> Driver {
        match name.to_ascii_uppercase().as_str() {
            "QEMU" => Driver::Qemu,
            "TEST" => Driver::Test,
            _ => Driver::Other,
        }
    }

    /// A guess from the URI, until a connection can be asked.
    pub fn from_uri(uri: &str) -> Driver {
        let scheme = uri.split(':').next().unwrap_or_default();
        match scheme.split('+').next().unwrap_or_default() {
            "qemu" => Driver::Qemu,
            "test" => Driver::Test,
            _ => Driver::Other,
        }
    }

    /// What this driver does differently.
    pub const fn quirks(self) -> Quirks {
        match self {
            Driver::Qemu | Driver::Other => Quirks {
                undefine_flags: sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                    | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    | sys::VIR_DOMAIN_UNDEFINE_NVRAM
                    | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA,
                internal_error_is_state: false,
                live_password: true,
                bulk_state: true,
            },
            Driver::Test => Quirks {
                // NVRAM and checkpoints are refused as unsupported flags.
                undefine_flags: sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                    | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA,
                internal_error_is_state: true,
                live_password: false,
                bulk_state: true,
            },
        }
    }
}

/// What one driver does differently from the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// Flags for `virDomainUndefineFlags`.
    pub undefine_flags: u32,
    /// Answers 1 (INTERNAL_ERROR) where others say 55 (OPERATION_INVALID) for a wrong power state.
    pub internal_error_is_state: bool,
    /// A running domain's graphics password can be changed.
    pub live_password: bool,
    /// `virConnectGetAllDomainStats` gives the state of all domains in one call.
    pub bulk_state: bool,
}
