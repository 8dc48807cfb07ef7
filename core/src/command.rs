//! Every canonical change. A command is serialisable and versioned, because a job stores it and another
//! gateway, perhaps of another release, may run it; it names all its subjects, because those are locked.

use serde::{Deserialize, Serialize};

use crate::capability::Capability;
use crate::model::{Activity, JobId, VmId, VmSpec, VolumeSource};

/// The version of [`Command`]'s stored form. Commands of a version that a gateway does not know stay queued
/// for one that does.
pub const COMMAND_VERSION: u16 = 1;

/// What a job locks: `vm:<uuid>`, later `volume:<uuid>`. Ordered, so that locks are taken in one order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(String);

impl Subject {
    /// The lock of a VM.
    pub fn vm(id: VmId) -> Self {
        Self(format!("vm:{id}"))
    }

    /// The subject's key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A canonical change that runs as a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Make a VM: volumes, seed, definition, and a start if asked for.
    CreateVm(Box<CreateVm>),
    /// Remove a VM, stopping it first if need be.
    DeleteVm(DeleteVm),
    /// Change the power state.
    Power(Power),
}

/// Makes a VM. The caller's record of the VM is stored together with the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateVm {
    /// The id that the VM will have (libvirt: its domain UUID).
    pub vm: VmId,
    /// What it shall be.
    pub spec: VmSpec,
    /// Whether to start it once defined.
    pub start: bool,
}

/// Removes a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeleteVm {
    /// The VM.
    pub vm: VmId,
    /// Whether its volumes go, too.
    pub volumes: bool,
}

/// Changes a VM's power state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The VM.
    pub vm: VmId,
    /// What to do.
    pub action: PowerAction,
}

/// A change of power state.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::EnumIter, strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PowerAction {
    /// Power on; wakes a VM whose guest suspended itself.
    Start,
    /// Ask the guest to power off and wait until it did.
    Shutdown,
    /// Cut the power.
    ForceOff,
    /// Ask the guest to reboot; done when it was asked.
    Reboot,
    /// Press the reset button.
    Reset,
    /// Cut the power, then power on: a reboot that does not ask the guest.
    ForceReboot,
    /// Stop the vCPUs.
    Suspend,
    /// Continue the vCPUs.
    Resume,
}

impl PowerAction {
    /// What a backend must be able to do for it.
    pub const fn needs(self) -> &'static [Capability] {
        match self {
            Self::Start => &[Capability::PowerStart],
            Self::Shutdown => &[Capability::PowerShutdown],
            Self::ForceOff => &[Capability::PowerForceOff],
            Self::Reboot => &[Capability::PowerReboot],
            Self::Reset => &[Capability::PowerReset],
            Self::ForceReboot => &[Capability::PowerForceOff, Capability::PowerStart],
            Self::Suspend => &[Capability::PowerSuspend],
            Self::Resume => &[Capability::PowerResume],
        }
    }

    /// How it shows while it is unfinished.
    pub const fn activity(self) -> Activity {
        match self {
            Self::Start => Activity::Starting,
            Self::Shutdown | Self::ForceOff => Activity::Stopping,
            Self::Reboot | Self::Reset | Self::ForceReboot => Activity::Rebooting,
            Self::Suspend => Activity::Suspending,
            Self::Resume => Activity::Resuming,
        }
    }
}

impl Command {
    /// The VM that is changed.
    pub fn vm(&self) -> VmId {
        match self {
            Self::CreateVm(create) => create.vm,
            Self::DeleteVm(delete) => delete.vm,
            Self::Power(power) => power.vm,
        }
    }

    /// Everything that must be locked, sorted.
    pub fn subjects(&self) -> Vec<Subject> {
        vec![Subject::vm(self.vm())]
    }

    /// How it shows on the VM while it is unfinished.
    pub fn activity(&self) -> Activity {
        match self {
            Self::CreateVm(_) => Activity::Creating,
            Self::DeleteVm(_) => Activity::Deleting,
            Self::Power(power) => power.action.activity(),
        }
    }

    /// A short name for logs, metrics and kill points.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateVm(_) => "create",
            Self::DeleteVm(_) => "delete",
            Self::Power(power) => match power.action {
                PowerAction::Start => "start",
                PowerAction::Shutdown => "shutdown",
                PowerAction::ForceOff => "force_off",
                PowerAction::Reboot => "reboot",
                PowerAction::Reset => "reset",
                PowerAction::ForceReboot => "force_reboot",
                PowerAction::Suspend => "suspend",
                PowerAction::Resume => "resume",
            },
        }
    }

    /// Whether it is one idempotent backend call, so that no step needs a journal entry of its own: it is
    /// accepted, claimed and locked in one store call and finished in a second.
    pub fn one_step(&self) -> bool {
        match self {
            Self::CreateVm(_) | Self::DeleteVm(_) => false,
            Self::Power(power) => match power.action {
                PowerAction::Start
                | PowerAction::Shutdown
                | PowerAction::ForceOff
                | PowerAction::Reboot
                | PowerAction::Reset
                | PowerAction::Suspend
                | PowerAction::Resume => true,
                PowerAction::ForceReboot => false,
            },
        }
    }

    /// What a backend must be able to do for it.
    pub fn needs(&self) -> Vec<Capability> {
        match self {
            Self::CreateVm(create) => {
                let mut needs = vec![Capability::VmCreate];
                needs.extend(create.spec.volumes.iter().map(|volume| match volume.source {
                    VolumeSource::Blank => Capability::VolumeCreate,
                    VolumeSource::Copy { .. } => Capability::VolumeCopy,
                    VolumeSource::Layer { .. } => Capability::VolumeLayer,
                }));
                if create.spec.guest.is_some() {
                    needs.push(Capability::GuestSetup);
                }
                if create.start {
                    needs.push(Capability::PowerStart);
                }
                needs
            }
            Self::DeleteVm(delete) => {
                let mut needs = vec![Capability::VmDelete, Capability::PowerForceOff];
                if delete.volumes {
                    needs.push(Capability::VolumeDelete);
                }
                needs
            }
            Self::Power(power) => power.action.needs().to_vec(),
        }
    }
}

/// What to do when an earlier job holds a subject. The dialect chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBusy {
    /// Wait in line.
    Queue,
    /// Answer `Busy`.
    Refuse,
}

/// The job behind an accepted command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub job: JobId,
    /// The VM it changes.
    pub vm: VmId,
}
