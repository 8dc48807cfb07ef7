//! What a mutant does wrong with devices, settings, snapshots, saved memory and volumes of VMs that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use babelvisor_core::backend::{Backend as _, CallContext, MigrationTarget, VmRef};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    Disk, DiskAttachment, DiskLimits, MediumKind, PoolVolume, PowerState, SnapshotFacts, SnapshotSpec,
    VmChange, VmFacts, VmId, VmSpec,
};
use babelvisor_core::{Error, ErrorKind, Result};

use crate::fault::Fault;
use crate::mutant::Mutant;

/// What faults leave behind.
#[derive(Default)]
pub(crate) struct Traces {
    /// VMs that had a volume plugged in twice.
    doubled: BTreeSet<VmId>,
    /// Disks that were plugged in while their VM ran.
    hot: Vec<(VmId, PoolVolume)>,
    /// Snapshots of VMs that are gone.
    outlived: BTreeMap<VmId, Vec<SnapshotFacts>>,
    /// VMs that were saved once.
    saved: BTreeSet<VmId>,
    /// The snapshot that was taken last, of each VM.
    last: BTreeMap<VmId, String>,
}

impl Mutant {
    fn traces(&self) -> std::sync::MutexGuard<'_, Traces> {
        self.hardware.lock().unwrap()
    }

    fn facts(&self, vm: &VmRef) -> Option<VmFacts> {
        self.control.vm(vm.id)
    }

    fn runs(&self, vm: &VmRef) -> bool {
        self.facts(vm)
            .is_some_and(|facts| facts.power == PowerState::Running)
    }

    /// What a VM is said to be.
    pub(crate) fn hardware_said(&self, mut facts: VmFacts) -> VmFacts {
        match self.fault {
            Some(Fault::QosIsHidden) => {
                for disk in &mut facts.disks {
                    disk.limits = DiskLimits::default();
                }
            }
            Some(Fault::AttachTwiceIsTwo) if self.traces().doubled.contains(&facts.id) => {
                let last = facts.disks.last().cloned();
                facts.disks.extend(last);
            }
            Some(Fault::SavedIsKept | Fault::SavedOutlivesVm) if facts.power == PowerState::Off => {
                facts.saved |= self.traces().saved.contains(&facts.id);
            }
            _ => {}
        }
        facts
    }

    /// A definition without what is forgotten.
    pub(crate) fn forget_wishes(&self, fault: Fault, spec: &mut VmSpec) {
        match fault {
            Fault::DefineForgetsReserves => (spec.max_vcpus, spec.max_memory) = (0, 0),
            Fault::DefineForgetsBoot => spec.boot.clear(),
            Fault::DefineForgetsMedia => {
                for medium in &mut spec.media {
                    medium.source = None;
                }
            }
            Fault::DefineForgetsAttached => spec.attached.clear(),
            Fault::DefineTakesAnothers => {
                for disk in &mut spec.attached {
                    disk.shareable = true;
                }
            }
            Fault::DefineForgetsModels => {
                for nic in &mut spec.nics {
                    nic.model = None;
                }
            }
            Fault::DefineForgetsBuses => {
                for volume in &mut spec.volumes {
                    volume.bus = None;
                }
            }
            Fault::DefineForgetsHost => spec.host = None,
            _ => {}
        }
    }

    pub(crate) async fn remember_before_undefine(&self, call: &CallContext, vm: &VmRef) {
        if self.is(Fault::SnapshotsOutliveVm)
            && let Ok(all) = self.inner.snapshots(call, vm).await
        {
            self.traces().outlived.insert(vm.id, all);
        }
    }

    pub(crate) async fn power_with_hardware(
        &self,
        fault: Fault,
        call: &CallContext,
        vm: &VmRef,
        action: PowerAction,
    ) -> Result<()> {
        let runs = self.runs(vm);
        match (fault, action) {
            (Fault::SaveIsForceOff, PowerAction::Save) => {
                return self.inner.power(call, vm, PowerAction::ForceOff).await;
            }
            (Fault::RestoreIsNothing, PowerAction::Restore) => return Ok(()),
            (Fault::SaveOffIsSuccess, PowerAction::Save) if !runs => return Ok(()),
            (Fault::SavedIsKept | Fault::SavedOutlivesVm, PowerAction::Save) => {
                self.traces().saved.insert(vm.id);
            }
            (Fault::HotAttachIsForgotten, PowerAction::ForceOff) => {
                let hot = std::mem::take(&mut self.traces().hot);
                let (mine, others): (Vec<_>, Vec<_>) = hot.into_iter().partition(|(of, _)| *of == vm.id);
                self.traces().hot.extend(others);
                let disks = self.facts(vm).map(|facts| facts.disks).unwrap_or_default();
                let plugged =
                    |disk: &&Disk| mine.iter().any(|(_, place)| disk.volume.as_ref() == Some(place));
                for disk in disks.iter().filter(plugged) {
                    let target = disk.target.clone();
                    self.inner
                        .change(call, vm, &VmChange::DetachDisk { target })
                        .await?;
                }
            }
            _ => {}
        }
        self.inner.power(call, vm, action).await
    }

    /// Makes a change, with the fault.
    pub(crate) async fn change_wrongly(
        &self,
        call: &CallContext,
        vm: &VmRef,
        change: &VmChange,
    ) -> Result<()> {
        let Some(fault) = self.fault else {
            return self.inner.change(call, vm, change).await;
        };
        let facts = self.facts(vm);
        let runs = self.runs(vm);
        let mut change = change.clone();
        match (fault, &mut change) {
            (Fault::ChangeIsLost, VmChange::Cpu { .. })
            | (Fault::AutostartStaysOn, VmChange::Autostart { on: false })
            | (Fault::EjectIsNothing, VmChange::EjectMedium { .. })
            | (Fault::PasswordStays, VmChange::ConsolePassword { password: None }) => return Ok(()),
            (Fault::HotMemoryIsNothing, VmChange::Memory { .. })
            | (Fault::HotVideoIsSuccess, VmChange::Video { .. })
            | (Fault::HotDetachIsNothing, VmChange::DetachDisk { .. })
            | (Fault::HotNicDetachIsNothing, VmChange::DetachNic { .. })
            | (Fault::HotPasswordStays, VmChange::ConsolePassword { password: None })
                if runs =>
            {
                return Ok(());
            }
            (Fault::AbsentChangeIsSuccess, _) if facts.is_none() => return Ok(()),
            (
                Fault::ChangeIsHalf,
                VmChange::Cpu {
                    current,
                    max,
                    topology,
                },
            ) => {
                let before = facts.as_ref().map_or(*max, |facts| facts.cpu.max);
                (*max, *topology) = (before.max(*current), None);
            }
            (Fault::TopologyIsForgotten, VmChange::Cpu { topology, .. }) => *topology = None,
            (Fault::MemoryHasNoReserve, VmChange::Memory { current, max }) => *max = *current,
            (Fault::BootOrderIsCut, VmChange::BootOrder { order }) => order.truncate(1),
            (Fault::OneVideoOnly, VmChange::Video { adapters }) => adapters.truncate(1),
            (
                Fault::AttachTwiceIsRefused
                | Fault::AttachTwiceIsTwo
                | Fault::AttachIsWritable
                | Fault::HotAttachIsForgotten
                | Fault::AttachTakesAnothers,
                VmChange::AttachDisk(disk),
            ) => self.attach_wrongly(fault, vm, disk)?,
            (Fault::DetachAbsentIsNotFound, VmChange::DetachDisk { target }) => {
                let known = facts.iter().flat_map(|facts| &facts.disks);
                if !known.clone().any(|disk| disk.target == *target) {
                    return Err(Error::not_found("disk", target.as_str()));
                }
            }
            (Fault::DetachTakesTheVolume, VmChange::DetachDisk { target }) => {
                let disks = facts.into_iter().flat_map(|facts| facts.disks);
                let target = target.clone();
                self.inner.change(call, vm, &change).await?;
                for place in disks
                    .filter(|disk| disk.target == target)
                    .filter_map(|disk| disk.volume)
                {
                    self.inner.delete_volume(call, &place.pool, &place.name).await?;
                }
                return Ok(());
            }
            (Fault::QosIsMerged, VmChange::DiskQos { limits, .. }) => {
                let old = facts.and_then(|facts| facts.disks.first().map(|disk| disk.limits));
                let old = old.unwrap_or_default();
                limits.total_bytes = limits.total_bytes.max(old.total_bytes);
                limits.read_bytes = limits.read_bytes.max(old.read_bytes);
            }
            (Fault::NicTwiceIsRefused, VmChange::AttachNic(nic)) => {
                let macs = facts.iter().flat_map(|facts| &facts.nics).map(|nic| &nic.mac);
                if macs.into_iter().any(|mac| Some(mac) == nic.mac.as_ref()) {
                    return Err(Error::new(ErrorKind::AlreadyExists, "the address is taken"));
                }
            }
            (Fault::NicIgnoresModel, VmChange::AttachNic(nic)) => nic.model = None,
            (Fault::NicDetachTakesAnother, VmChange::DetachNic { mac }) => {
                let first = facts.and_then(|facts| facts.nics.into_iter().next());
                if let Some(first) = first {
                    *mac = first.mac;
                }
            }
            (Fault::NicUpdateForgets, VmChange::UpdateNic { to, .. }) => {
                to.model.get_or_insert_with(|| "virtio".to_owned());
            }
            (Fault::NicUpdateTwiceIsRefused, VmChange::UpdateNic { mac, .. }) => {
                let known = facts.iter().flat_map(|facts| &facts.nics);
                if !known.clone().any(|nic| nic.mac == *mac) {
                    return Err(Error::not_found("nic", mac.as_str()));
                }
            }
            (Fault::NicQosIsOneWay, VmChange::NicQos { outbound, .. }) => *outbound = None,
            (
                Fault::InsertMakesNoDrive,
                VmChange::InsertMedium {
                    kind: MediumKind::Cdrom,
                    ..
                },
            ) if facts.is_some_and(|facts| facts.removable.is_empty()) => {
                return Err(Error::illegal_state("vm", vm.id, "it has no drive"));
            }
            (Fault::ChangeLockOutlivesCut, _) => {
                if self.locked.swap(true, Ordering::SeqCst) {
                    return Err(Error::new(ErrorKind::Busy, "another change is under way"));
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.locked.store(false, Ordering::SeqCst);
            }
            (Fault::LateChange, _) if call.left().is_zero() => {
                let _ = self.inner.change(&Self::unhurried(call), vm, &change).await;
            }
            _ => {}
        }
        match (self.inner.change(call, vm, &change).await, fault) {
            (Err(error), Fault::ImpossibleIsSuccess) if error.kind == ErrorKind::InvalidInput => Ok(()),
            (Err(error), Fault::HotMaximumIsSuccess | Fault::OffTakesPassword)
                if error.kind == ErrorKind::IllegalState =>
            {
                Ok(())
            }
            (Err(error), Fault::GhostMediumIsSuccess) if error.kind == ErrorKind::NotFound => Ok(()),
            (answer, _) => answer,
        }
    }

    fn attach_wrongly(&self, fault: Fault, vm: &VmRef, disk: &mut DiskAttachment) -> Result<()> {
        let disks = self.facts(vm).map(|facts| facts.disks).unwrap_or_default();
        let has = disks
            .iter()
            .any(|known| known.volume.as_ref() == Some(&disk.volume));
        match fault {
            Fault::AttachTwiceIsRefused if has => {
                return Err(Error::new(ErrorKind::AlreadyExists, "it is plugged in already"));
            }
            Fault::AttachTwiceIsTwo if has => {
                self.traces().doubled.insert(vm.id);
            }
            Fault::AttachIsWritable => disk.readonly = false,
            Fault::AttachTakesAnothers => disk.shareable = true,
            Fault::HotAttachIsForgotten if self.runs(vm) => {
                self.traces().hot.push((vm.id, disk.volume.clone()));
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) async fn snapshot_wrongly(
        &self,
        call: &CallContext,
        vm: &VmRef,
        snapshot: &SnapshotSpec,
    ) -> Result<SnapshotFacts> {
        let mut spec = snapshot.clone();
        match self.fault {
            Some(Fault::SnapshotTwiceIsTwo) if call.begun.is_some() => {
                spec.name = format!("{}-{}", spec.name, VmId::random().simple());
            }
            Some(Fault::SnapshotTwiceIsRefused) if call.begun.is_some() => {
                return Err(Error::new(ErrorKind::AlreadyExists, "it is there already"));
            }
            Some(Fault::NoMemoryIsSuccess) if !self.runs(vm) => spec.memory = false,
            Some(Fault::RevertForgetsPlace) => {
                let last = self.traces().last.insert(vm.id, spec.name.clone());
                if let Some(last) = last {
                    self.inner.revert_snapshot(call, vm, &last).await?;
                }
            }
            _ => {}
        }
        let mut made = self.inner.create_snapshot(call, vm, &spec).await?;
        made.name.clone_from(&snapshot.name);
        Ok(made)
    }

    pub(crate) async fn revert_wrongly(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        if self.is(Fault::RevertIsNothing) {
            return Ok(());
        }
        self.inner.revert_snapshot(call, vm, name).await?;
        if self.is(Fault::RevertLosesMemory) {
            self.inner.power(call, vm, PowerAction::ForceOff).await?;
        }
        Ok(())
    }

    pub(crate) async fn delete_snapshot_wrongly(
        &self,
        call: &CallContext,
        vm: &VmRef,
        name: &str,
    ) -> Result<()> {
        let all = self.inner.snapshots(call, vm).await.unwrap_or_default();
        if self.is(Fault::SnapshotDeleteAbsentIsNotFound) && !all.iter().any(|known| known.name == name) {
            return Err(Error::not_found("snapshot", name));
        }
        if self.is(Fault::SnapshotDeleteTakesChildren) {
            for child in all.iter().filter(|known| known.parent.as_deref() == Some(name)) {
                self.inner.delete_snapshot(call, vm, &child.name).await?;
            }
        }
        self.inner.delete_snapshot(call, vm, name).await
    }

    pub(crate) async fn snapshots_wrongly(
        &self,
        call: &CallContext,
        vm: &VmRef,
    ) -> Result<Vec<SnapshotFacts>> {
        let mut all = self.inner.snapshots(call, vm).await?;
        match self.fault {
            Some(Fault::SnapshotsAreOrphans) => {
                for snapshot in &mut all {
                    snapshot.parent = None;
                }
            }
            Some(Fault::SnapshotsBackwards) => all.reverse(),
            Some(Fault::SnapshotsOutliveVm) => {
                let outlived = self.traces().outlived.get(&vm.id).cloned();
                all.extend(outlived.unwrap_or_default());
            }
            _ => {}
        }
        Ok(all)
    }

    pub(crate) async fn migrate_wrongly(
        &self,
        call: &CallContext,
        vm: &VmRef,
        to: &MigrationTarget,
    ) -> Result<()> {
        let here = self.facts(vm).is_some_and(|facts| facts.host == to.host);
        match self.fault {
            Some(Fault::MoveIsNothing) => return Ok(()),
            Some(Fault::MoveToItselfIsRefused) if here => {
                return Err(Error::invalid("host", "it is there already"));
            }
            _ => {}
        }
        self.inner.migrate(call, vm, to).await?;
        if self.is(Fault::MovePauses) && !here {
            self.inner.power(call, vm, PowerAction::Suspend).await?;
        }
        Ok(())
    }
}
