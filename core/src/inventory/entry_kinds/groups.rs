//! Groups of VMs: a tree of bounded depth for each tenant.

use std::sync::Arc;

use imbl::OrdMap;

use super::check_name;
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::{Entry, Snapshot};
use crate::model::{GroupId, TenantId, Timestamp, VmGroup};
use crate::store::RecordKind;

impl Entry for VmGroup {
    kept!(VmGroup, GroupId, entries.vm_groups);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    // Two gateways that move groups in the same moment may together pass a rule that each of them kept; reads
    // of the tree bound their depth for that reason.
    fn check(&self, now: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        let above = ancestors(self, now)?;
        if above + height(self.id, now, Self::LEVELS) > Self::LEVELS {
            let text = format!("groups are nested at most {} levels deep", Self::LEVELS);
            return Err(Error::invalid("parent", text));
        }
        let siblings = now.entries.vm_groups.values();
        let mut siblings =
            siblings.filter(|other| other.parent == self.parent && other.tenant == self.tenant);
        if siblings.any(|other| other.id != self.id && other.name == self.name) {
            let text = format!("a group named {} exists there already", self.name);
            return Err(Error::new(ErrorKind::AlreadyExists, text).about(GroupId::NOUN, &self.name));
        }
        Ok(())
    }

    fn check_removal(&self, now: &Snapshot) -> Result<()> {
        let mut groups = now.entries.vm_groups.values();
        if groups.any(|group| group.parent == Some(self.id)) {
            return Err(Error::illegal_state(
                GroupId::NOUN,
                self.id,
                "the group has groups below it: remove those first",
            ));
        }
        if now.vms.values().any(|vm| vm.record.group == Some(self.id)) {
            return Err(Error::illegal_state(
                GroupId::NOUN,
                self.id,
                "the group has vms: move them to another one first",
            ));
        }
        Ok(())
    }
}

/// How many groups are above `group`.
fn ancestors(group: &VmGroup, now: &Snapshot) -> Result<usize> {
    let mut above = 0;
    let mut parent = group.parent;
    while let Some(id) = parent {
        let found = now.entries.vm_groups.get(&id);
        let found = found.filter(|found| found.tenant == group.tenant);
        let found = found.ok_or_else(|| Error::not_found(GroupId::NOUN, id))?;
        if id == group.id {
            return Err(Error::invalid("parent", "a group cannot be below itself"));
        }
        above += 1;
        if above > VmGroup::LEVELS {
            break;
        }
        parent = found.parent;
    }
    Ok(above)
}

/// How many levels the tree from `root` down has, itself included; not followed beyond `most` levels.
fn height(root: GroupId, now: &Snapshot, most: usize) -> usize {
    if most == 0 {
        return 1;
    }
    let groups = now.entries.vm_groups.values();
    let below = groups.filter(|group| group.parent == Some(root));
    1 + below
        .map(|group| height(group.id, now, most - 1))
        .max()
        .unwrap_or(0)
}
