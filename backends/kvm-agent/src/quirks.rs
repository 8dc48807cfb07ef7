//! The tasks that the published agent understands, and how it takes them otherwise than the document says.
//!
//! - It starts a child at once: fathers are kept in the mailbox, which hands a child out only afterwards.
//! - It files tasks by id alone: ids of the mailbox are unique over all kinds.
//! - `boot_type` makes it fail on start: it is never sent.
//! - Stop is cutting the power, reboot is that and a start, and both fail for a machine that is off: they are asked
//!   for only where the newest report says that it runs.
//! - All sizes are bytes; `cpu` and `mem` of a change are always sent, with the present value for what stays.

use serde_json::{Map, Value};

/// A kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
pub(crate) enum TaskKind {
    Change,
    Delete,
    Snapshot,
    Revert,
    DropSnapshot,
    Power,
}

impl TaskKind {
    /// Its number.
    pub(crate) const fn number(self) -> u16 {
        match self {
            Self::Change => 2,
            Self::Delete => 3,
            Self::Snapshot => 4,
            Self::Revert => 5,
            Self::DropSnapshot => 7,
            Self::Power => 20,
        }
    }

    /// Its turn in an answer: the original lists creations (0), deletions, changes, snapshot tasks, control, downloads (5)
    /// and addresses (6).
    pub(crate) const fn turn(self) -> u8 {
        match self {
            Self::Delete => 1,
            Self::Change => 2,
            Self::Snapshot | Self::Revert | Self::DropSnapshot => 3,
            Self::Power => 4,
        }
    }
}

/// The fields of a task about the machine `name`.
pub(crate) fn about(name: &str, more: &[(&str, Value)]) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("vm_name".to_owned(), name.into());
    for (field, value) in more {
        fields.insert((*field).to_owned(), value.clone());
    }
    fields
}
