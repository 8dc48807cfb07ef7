//! Disk offerings: named sizes to create data volumes with.

use serde::{Deserialize, Serialize};

use super::{DiskOfferingId, TenantId, Timestamp};

/// A named size of data volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOffering {
    /// The offering's id.
    pub id: DiskOfferingId,
    /// Display name.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Size of the volume in bytes.
    pub disk_size: u64,
    /// Whether new volumes may be made with it.
    #[serde(default = "super::yes")]
    pub enabled: bool,
    /// Where a list shows it; greater comes first.
    #[serde(default)]
    pub sort_key: i64,
    /// The strategy that the client named for choosing a pool; kept unchanged.
    #[serde(default)]
    pub allocator: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub changed: Timestamp,
    /// Whom it belongs to; none is everybody.
    #[serde(default)]
    pub tenant: Option<TenantId>,
}

impl DiskOffering {
    /// An enabled offering of `disk_size` bytes, with a random id, made now.
    pub fn new(name: impl Into<String>, disk_size: u64, tenant: Option<TenantId>) -> Self {
        let created = Timestamp::now();
        Self {
            id: DiskOfferingId::random(),
            name: name.into(),
            description: String::new(),
            disk_size,
            enabled: true,
            sort_key: 0,
            allocator: String::new(),
            created,
            changed: created,
            tenant,
        }
    }
}
