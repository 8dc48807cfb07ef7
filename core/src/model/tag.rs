//! Tags: short texts on resources of any kind.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ResourceId, TagId, TenantId, Timestamp};

/// What a tag is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TagResource {
    /// The canonical noun of the resource's id: `vm`, `volume`, `image` …
    pub kind: String,
    /// The resource's id.
    pub id: Uuid,
}

impl TagResource {
    /// The resource with this id.
    pub fn of<I: ResourceId>(id: I) -> Self {
        Self {
            kind: I::NOUN.to_owned(),
            id: id.uuid(),
        }
    }
}

/// A short text on a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The tag's id.
    pub id: TagId,
    /// What it is on.
    pub resource: TagResource,
    /// The text; of a system tag `name::value`.
    pub text: String,
    /// Whether the text has a meaning for the dialect that made it, rather than for people only.
    #[serde(default)]
    pub system: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Whom it belongs to; none is everybody.
    #[serde(default)]
    pub tenant: Option<TenantId>,
}

impl Tag {
    /// A tag with a random id, made now.
    pub fn new(
        resource: TagResource,
        text: impl Into<String>,
        system: bool,
        tenant: Option<TenantId>,
    ) -> Self {
        Self {
            id: TagId::random(),
            resource,
            text: text.into(),
            system,
            created: Timestamp::now(),
            tenant,
        }
    }
}
