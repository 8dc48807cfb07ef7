//! Every canonical change. A command is serialisable and versioned, because a job stores it and another
//! gateway, perhaps of another release, may run it; it names all its subjects, because those are locked.

mod parts;

use serde::{Deserialize, Serialize};

pub use parts::{
    ChangeVm, CreateVm, DeleteVm, ImageAction, ImageJob, MigrateVm, Power, SnapshotAction, SnapshotJob,
    TrashVm, VolumeAction, VolumeJob,
};

use crate::capability::Capability;
use crate::model::{Activity, ChangeKind, ImageId, VmId, VolumeId, VolumeSource, VolumeSpec};

/// The version of [`Command`]'s stored form. Commands of a version that a gateway does not know stay queued
/// for one that does.
pub const COMMAND_VERSION: u16 = 1;

/// What a job locks: `vm:<uuid>`, `volume:<uuid>`, `image:<uuid>`. Ordered, so that locks are taken in one order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(String);

impl Subject {
    /// The lock of a VM.
    pub fn vm(id: VmId) -> Self {
        Self(format!("vm:{id}"))
    }

    /// The lock of a volume.
    pub fn volume(id: VolumeId) -> Self {
        Self(format!("volume:{id}"))
    }

    /// The lock of an image.
    pub fn image(id: ImageId) -> Self {
        Self(format!("image:{id}"))
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
    /// Move a VM to the trash, stopping it first if need be.
    TrashVm(TrashVm),
    /// Change the power state.
    Power(Power),
    /// Change hardware or settings.
    ChangeVm(Box<ChangeVm>),
    /// Make, revert to or remove a snapshot.
    Snapshot(SnapshotJob),
    /// Make, resize or remove a volume.
    Volume(VolumeJob),
    /// Make or remove an image.
    Image(ImageJob),
    /// Move a running VM to another host.
    MigrateVm(MigrateVm),
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
    /// Write memory to disk and stop.
    Save,
    /// Go on from saved memory.
    Restore,
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
            Self::Save => &[Capability::PowerSave],
            Self::Restore => &[Capability::PowerRestore],
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
            Self::Save => Activity::Saving,
            Self::Restore => Activity::Restoring,
        }
    }
}

impl Command {
    /// The VM that is changed or made, if the command is about one.
    pub fn vm(&self) -> Option<VmId> {
        match self {
            Self::CreateVm(create) => Some(create.vm),
            Self::DeleteVm(delete) => Some(delete.vm),
            Self::TrashVm(trash) => Some(trash.vm),
            Self::Power(power) => Some(power.vm),
            Self::ChangeVm(change) => Some(change.vm),
            Self::Snapshot(job) => Some(job.vm),
            Self::Volume(job) => job.vm,
            Self::Image(job) => job.vm,
            Self::MigrateVm(migrate) => Some(migrate.vm),
        }
    }

    /// Everything that must be locked, sorted.
    pub fn subjects(&self) -> Vec<Subject> {
        let mut subjects: Vec<Subject> = self.vm().map(Subject::vm).into_iter().collect();
        match self {
            Self::CreateVm(create) => subjects.extend(create.from.map(Subject::vm)),
            Self::ChangeVm(change) => subjects.extend(change.volume.map(Subject::volume)),
            Self::Volume(job) => subjects.push(Subject::volume(job.volume)),
            Self::Image(job) => {
                subjects.push(Subject::image(job.image));
                subjects.extend(job.volume.map(Subject::volume));
            }
            Self::DeleteVm(_)
            | Self::TrashVm(_)
            | Self::Power(_)
            | Self::Snapshot(_)
            | Self::MigrateVm(_) => {}
        }
        subjects.sort();
        subjects.dedup();
        subjects
    }

    /// How it shows while it is unfinished, on every VM that it concerns.
    pub fn activities(&self) -> Vec<(VmId, Activity)> {
        let mut shown = Vec::with_capacity(2);
        match self {
            Self::CreateVm(create) => {
                let made = if create.importing {
                    Activity::Importing
                } else {
                    Activity::Creating
                };
                shown.push((create.vm, made));
                shown.extend(create.from.map(|source| (source, Activity::Cloning)));
            }
            Self::DeleteVm(DeleteVm { vm, .. }) | Self::TrashVm(TrashVm { vm }) => {
                shown.push((*vm, Activity::Deleting));
            }
            Self::Power(power) => shown.push((power.vm, power.action.activity())),
            Self::ChangeVm(change) => shown.push((change.vm, Activity::Reconfiguring)),
            Self::Snapshot(job) => shown.push((job.vm, Activity::Snapshotting)),
            Self::Volume(job) => shown.extend(job.vm.map(|vm| (vm, Activity::Reconfiguring))),
            Self::Image(job) => shown.extend(job.vm.map(|vm| (vm, Activity::Exporting))),
            Self::MigrateVm(migrate) => shown.push((migrate.vm, Activity::Migrating)),
        }
        shown
    }

    /// A short name for logs, metrics and kill points.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateVm(create) => match create.from {
                Some(_) => "clone",
                None => "create",
            },
            Self::DeleteVm(_) => "delete",
            Self::TrashVm(_) => "trash",
            Self::Power(power) => match power.action {
                PowerAction::Start => "start",
                PowerAction::Shutdown => "shutdown",
                PowerAction::ForceOff => "force_off",
                PowerAction::Reboot => "reboot",
                PowerAction::Reset => "reset",
                PowerAction::ForceReboot => "force_reboot",
                PowerAction::Suspend => "suspend",
                PowerAction::Resume => "resume",
                PowerAction::Save => "save",
                PowerAction::Restore => "restore",
            },
            Self::ChangeVm(_) => "change",
            Self::Snapshot(job) => match job.action {
                SnapshotAction::Create(_) => "snapshot",
                SnapshotAction::Revert { .. } => "revert",
                SnapshotAction::Delete { .. } => "delete_snapshot",
            },
            Self::Volume(job) => match job.action {
                VolumeAction::Create(_) => "create_volume",
                VolumeAction::Resize { .. } => "resize_volume",
                VolumeAction::Delete { .. } => "delete_volume",
            },
            Self::Image(job) => match job.action {
                ImageAction::Copy { .. } => "copy_image",
                ImageAction::Fetch { .. } => "fetch_image",
                ImageAction::Delete { .. } => "delete_image",
            },
            Self::MigrateVm(_) => "migrate",
        }
    }

    /// Whether it is one idempotent backend call, so that no step needs a journal entry of its own: it is
    /// accepted, claimed and locked in one store call and finished in a second.
    pub fn one_step(&self) -> bool {
        match self {
            Self::CreateVm(_)
            | Self::DeleteVm(_)
            | Self::TrashVm(_)
            | Self::Snapshot(_)
            | Self::Volume(_)
            | Self::Image(_)
            | Self::MigrateVm(_) => false,
            Self::ChangeVm(change) => change.changes.len() == 1,
            Self::Power(power) => match power.action {
                PowerAction::Start
                | PowerAction::Shutdown
                | PowerAction::ForceOff
                | PowerAction::Reboot
                | PowerAction::Reset
                | PowerAction::Suspend
                | PowerAction::Resume
                | PowerAction::Save
                | PowerAction::Restore => true,
                PowerAction::ForceReboot => false,
            },
        }
    }

    /// Whether a request to stop breaks its backend call off in the middle: moving a VM and fetching an image take
    /// long, and leave everything as it was when they are given up.
    pub fn breaks_off(&self) -> bool {
        match self {
            Self::MigrateVm(_) => true,
            Self::Image(job) => matches!(job.action, ImageAction::Fetch { .. }),
            Self::CreateVm(_)
            | Self::DeleteVm(_)
            | Self::TrashVm(_)
            | Self::Power(_)
            | Self::ChangeVm(_)
            | Self::Snapshot(_)
            | Self::Volume(_) => false,
        }
    }

    /// What a backend must be able to do for it.
    pub fn needs(&self) -> Vec<Capability> {
        match self {
            Self::CreateVm(create) => needs_of_create(create),
            Self::DeleteVm(delete) => {
                let mut needs = vec![Capability::VmDelete, Capability::PowerForceOff];
                if delete.volumes {
                    needs.push(Capability::VolumeDelete);
                }
                needs
            }
            Self::TrashVm(_) => vec![Capability::PowerForceOff],
            Self::Power(power) => power.action.needs().to_vec(),
            Self::ChangeVm(change) => change.changes.iter().map(|change| change.needs()).collect(),
            Self::Snapshot(job) => match &job.action {
                SnapshotAction::Create(spec) if spec.memory => {
                    vec![Capability::SnapshotCreate, Capability::SnapshotMemory]
                }
                SnapshotAction::Create(_) => vec![Capability::SnapshotCreate],
                SnapshotAction::Revert { .. } => vec![Capability::SnapshotRevert],
                SnapshotAction::Delete { .. } => vec![Capability::SnapshotDelete],
            },
            Self::Volume(job) => match &job.action {
                VolumeAction::Create(spec) => vec![needs_of_volume(spec)],
                VolumeAction::Resize { .. } => vec![Capability::VolumeResize],
                VolumeAction::Delete { .. } => vec![Capability::VolumeDelete],
            },
            Self::Image(job) => match &job.action {
                ImageAction::Copy { volume } => vec![needs_of_volume(volume)],
                ImageAction::Fetch { .. } => vec![Capability::VolumeUpload],
                ImageAction::Delete { .. } => vec![Capability::VolumeDelete],
            },
            Self::MigrateVm(_) => vec![Capability::VmMigrate],
        }
    }
}

fn needs_of_volume(volume: &VolumeSpec) -> Capability {
    match volume.source {
        VolumeSource::Blank => Capability::VolumeCreate,
        VolumeSource::Copy { .. } => Capability::VolumeCopy,
        VolumeSource::Layer { .. } => Capability::VolumeLayer,
    }
}

fn needs_of_create(create: &CreateVm) -> Vec<Capability> {
    let mut needs = vec![Capability::VmCreate];
    needs.extend(create.spec.volumes.iter().map(needs_of_volume));
    if !create.spec.attached.is_empty() {
        needs.push(ChangeKind::AttachDisk.needs());
    }
    if create.spec.media.iter().any(|medium| medium.source.is_some()) {
        needs.push(Capability::MediaChange);
    }
    if create.spec.guest.is_some() {
        needs.push(Capability::GuestSetup);
    }
    if create.start {
        needs.push(Capability::PowerStart);
    }
    needs
}

/// What to do when an earlier job holds a subject. The dialect chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBusy {
    /// Wait in line.
    Queue,
    /// Answer `Busy`.
    Refuse,
}
