//! Names for new VMs: on the backend, in the guest, and for nameless ones.

use crate::inventory::Snapshot;
use crate::model::{BackendId, VmId};
use crate::secret::random_text;

/// The display name where it is legal and free on the backend, else a slug of it with six of the id.
pub(in crate::layers) fn backend_name(now: &Snapshot, backend: &BackendId, name: &str, vm: VmId) -> String {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let fits =
        !name.is_empty() && name.len() <= 64 && name.chars().all(legal) && !name.starts_with(['-', '.']);
    let taken = now.vms.values().any(|other| {
        other.record.backend == *backend
            && (other.facts.as_ref().is_some_and(|facts| facts.name == name)
                || other.record.display_name.as_deref() == Some(name))
    });
    if fits && !taken {
        return name.to_owned();
    }
    distinct_name(name, vm)
}

/// A name for the backend that nobody else has: a slug of the display name with six of the id.
pub(crate) fn distinct_name(name: &str, vm: VmId) -> String {
    let slug: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    let tail: String = vm.simple().chars().take(6).collect();
    if slug.is_empty() {
        format!("vm-{tail}")
    } else {
        format!("{slug}-{tail}")
    }
}

/// A legal DNS label for the guest.
pub(super) fn host_name(name: &str, vm: VmId) -> String {
    let label: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    let label = label.trim_matches('-');
    if label.is_empty() {
        format!("vm-{}", vm.simple().chars().take(6).collect::<String>())
    } else {
        label.to_owned()
    }
}

/// A random name of `length` letters and digits, for dialects that name nameless VMs.
pub fn random_name(length: usize) -> String {
    random_text(length)
}
