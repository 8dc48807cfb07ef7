//! What each kind of entry says of itself: where it is kept, its indexes, and the rules that a client's changes
//! must keep.

use super::entries::Kind;
use crate::error::{Error, Result};
use crate::model::{
    AffinityGroup, ApiKey, DiskOffering, Flavor, Image, SnapshotRecord, Tag, VmGroup, VolumeRecord,
};

/// The four members that are the same for every kind.
macro_rules! kept {
    ($kind:ident, $id:ty, $($map:ident).+) => {
        const KIND: RecordKind = RecordKind::$kind;
        type Id = $id;

        fn id(&self) -> $id {
            self.id
        }

        fn all(now: &Snapshot) -> &OrdMap<$id, Arc<Self>> {
            &now.$($map).+
        }

        fn all_mut(next: &mut Snapshot) -> &mut OrdMap<$id, Arc<Self>> {
            &mut next.$($map).+
        }
    };
}

mod catalogue;
mod groups;
mod marks;
mod storage;

/// Every kind of entry.
pub(super) const KINDS: [Kind; 9] = [
    Kind::of::<Image>(),
    Kind::of::<Flavor>(),
    Kind::of::<DiskOffering>(),
    Kind::of::<AffinityGroup>(),
    Kind::of::<Tag>(),
    Kind::of::<VmGroup>(),
    Kind::of::<ApiKey>(),
    Kind::of::<VolumeRecord>(),
    Kind::of::<SnapshotRecord>(),
];

/// The longest name or description of an entry, in characters.
const LONGEST_NAME: usize = 255;
/// The longest free text.
const LONGEST_TEXT: usize = 4096;

/// A display name.
fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("name", "the name must not be empty"));
    }
    check_label(name)
}

/// A display name that may be absent.
fn check_label(name: &str) -> Result<()> {
    if name.chars().count() > LONGEST_NAME {
        let text = format!("a name has at most {LONGEST_NAME} characters");
        return Err(Error::invalid("name", text));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(
            "name",
            "a name must not contain control characters",
        ));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<()> {
    if text.chars().count() > LONGEST_TEXT {
        let why = format!("{field} has at most {LONGEST_TEXT} characters");
        return Err(Error::invalid(field, why));
    }
    if text.contains('\0') {
        return Err(Error::invalid(field, format!("{field} must not contain NUL")));
    }
    Ok(())
}
