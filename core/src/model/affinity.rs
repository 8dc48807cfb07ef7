//! Affinity groups: VMs that shall be placed with regard to each other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{AffinityGroupId, TenantId, Timestamp, VmId};

/// How the VMs of a group shall be placed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::EnumIter, strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum AffinityPolicy {
    /// On different hosts as far as there are enough.
    AntiAffinitySoft,
    /// On different hosts, or not at all.
    AntiAffinityHard,
    /// On one host as far as it has room.
    AffinitySoft,
    /// On one host, or not at all.
    AffinityHard,
}

/// VMs that shall be placed with regard to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityGroup {
    /// The group's id.
    pub id: AffinityGroupId,
    /// Display name.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// How its VMs shall be placed.
    pub policy: AffinityPolicy,
    /// Whether placement regards it.
    #[serde(default = "super::yes")]
    pub enabled: bool,
    /// Its VMs; some may be gone meanwhile.
    #[serde(default)]
    pub members: BTreeSet<VmId>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub changed: Timestamp,
    /// Whom it belongs to; none is everybody.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// The version of the placement rule, as clients see it.
    #[serde(default)]
    pub version: String,
}

impl AffinityGroup {
    /// An enabled group without members, with a random id, made now.
    pub fn new(name: impl Into<String>, policy: AffinityPolicy, tenant: Option<TenantId>) -> Self {
        let created = Timestamp::now();
        Self {
            id: AffinityGroupId::random(),
            name: name.into(),
            description: String::new(),
            policy,
            enabled: true,
            members: BTreeSet::new(),
            created,
            changed: created,
            tenant,
            version: "1.0".to_owned(),
        }
    }
}
