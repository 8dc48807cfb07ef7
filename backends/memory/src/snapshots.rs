//! Snapshots of guests: a tree of what each guest was. Going back restores hardware and, where memory was kept,
//! the power state.

use std::sync::Arc;

use babelvisor_core::model::{PowerState, SnapshotFacts, SnapshotSpec, Timestamp, VmFacts, VmId};
use babelvisor_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::convert::definition;
use crate::world::{Guest, World, is_up};

/// What a snapshot keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) snapshot: SnapshotFacts,
    /// The guest as it was.
    pub(crate) facts: VmFacts,
}

/// A guest's snapshots, parents before children.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshots {
    pub(crate) kept: Vec<Kept>,
    /// The one that the guest's present state is based on.
    pub(crate) current: Option<String>,
}

impl World {
    /// Makes a snapshot, or hands over the one of that name.
    pub(crate) fn create_snapshot(&mut self, vm: VmId, spec: &SnapshotSpec) -> Result<SnapshotFacts> {
        let guest = self.snapshotted(vm)?;
        let known = guest
            .snapshots
            .kept
            .iter()
            .find(|kept| kept.snapshot.name == spec.name);
        if let Some(known) = known {
            return Ok(known.snapshot.clone());
        }
        let facts = &guest.facts;
        if spec.memory && !is_up(facts.power) {
            return Err(Error::illegal_state(
                "vm",
                vm,
                "a vm that is off has no memory to keep",
            ));
        }
        let targets = spec.disks.iter().flatten();
        for target in targets {
            if !facts.disks.iter().any(|disk| disk.target == *target) {
                return Err(Error::not_found("disk", target));
            }
        }
        let snapshot = SnapshotFacts {
            name: spec.name.clone(),
            parent: guest.snapshots.current.clone(),
            created: Some(Timestamp::now()),
            size: if spec.memory { facts.memory.current } else { 0 },
            memory: spec.memory,
        };
        let facts = VmFacts::clone(facts);
        guest.snapshots.current = Some(spec.name.clone());
        guest.snapshots.kept.push(Kept {
            snapshot: snapshot.clone(),
            facts,
        });
        self.keep_guest(vm);
        Ok(snapshot)
    }

    /// Goes back to a snapshot.
    pub(crate) fn revert_snapshot(&mut self, vm: VmId, name: &str) -> Result<()> {
        let guest = self.snapshotted(vm)?;
        let kept = guest
            .snapshots
            .kept
            .iter()
            .find(|kept| kept.snapshot.name == name);
        let kept = kept.cloned().ok_or_else(|| Error::not_found("snapshot", name))?;
        self.set_power(vm, PowerState::Off);
        let guest = self.snapshotted(vm)?;
        guest.snapshots.current = Some(name.to_owned());
        let facts = Arc::make_mut(&mut guest.facts);
        facts.cpu = kept.facts.cpu;
        facts.memory = kept.facts.memory;
        facts.boot = kept.facts.boot;
        facts.video = kept.facts.video;
        facts.definition = Some(definition(facts, guest.title.as_deref()));
        if kept.snapshot.memory {
            self.set_power(vm, kept.facts.power);
        }
        self.commit(vm);
        Ok(())
    }

    /// Removes a snapshot; those based on it are then based on what it was based on.
    pub(crate) fn delete_snapshot(&mut self, vm: VmId, name: &str) -> Result<()> {
        let Ok(guest) = self.snapshotted(vm) else {
            return Ok(());
        };
        let snapshots = &mut guest.snapshots;
        let Some(place) = snapshots.kept.iter().position(|kept| kept.snapshot.name == name) else {
            return Ok(());
        };
        let gone = snapshots.kept.remove(place).snapshot;
        for kept in &mut snapshots.kept {
            if kept.snapshot.parent.as_deref() == Some(name) {
                kept.snapshot.parent.clone_from(&gone.parent);
            }
        }
        if snapshots.current.as_deref() == Some(name) {
            snapshots.current = gone.parent;
        }
        self.keep_guest(vm);
        Ok(())
    }

    /// All snapshots of a guest.
    pub(crate) fn snapshots(&mut self, vm: VmId) -> Result<Vec<SnapshotFacts>> {
        let kept = self.snapshotted(vm)?.snapshots.kept.iter();
        Ok(kept.map(|kept| kept.snapshot.clone()).collect())
    }

    fn snapshotted(&mut self, vm: VmId) -> Result<&mut Guest> {
        self.guests.get_mut(&vm).ok_or_else(|| Error::not_found("vm", vm))
    }
}
