//! Groups of VMs: a tree for each tenant, for people who have many VMs.

use serde::{Deserialize, Serialize};

use super::{GroupId, TenantId, Timestamp};

/// A node in a tenant's tree of VMs. Which VMs are in it is written in their own records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmGroup {
    /// The group's id.
    pub id: GroupId,
    /// Display name, unique under its parent.
    pub name: String,
    /// The group above; none is a root.
    #[serde(default)]
    pub parent: Option<GroupId>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub changed: Timestamp,
    /// Whom it belongs to; none is everybody.
    #[serde(default)]
    pub tenant: Option<TenantId>,
}

impl VmGroup {
    /// How deep the tree may be: a root is level 1.
    pub const LEVELS: usize = 5;

    /// A group with a random id, made now.
    pub fn new(name: impl Into<String>, parent: Option<GroupId>, tenant: Option<TenantId>) -> Self {
        let created = Timestamp::now();
        Self {
            id: GroupId::random(),
            name: name.into(),
            parent,
            created,
            changed: created,
            tenant,
        }
    }
}
