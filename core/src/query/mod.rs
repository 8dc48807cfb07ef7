//! Every canonical read of jobs and VMs that is not a plain walk over a [`Snapshot`](crate::inventory::Snapshot):
//! which VMs a caller may see, and how a list is cut.

mod volumes;

use std::sync::Arc;

pub use volumes::VolumeView;

use crate::inventory::Snapshot;
use crate::model::{Caller, Flavor, Image, Role, TenantId, Vm};

/// The tenant to whose objects a caller is limited; none for an administrator.
pub fn scope(caller: &Caller) -> Option<&TenantId> {
    match caller.role {
        Role::Admin => None,
        Role::User | Role::Viewer => Some(&caller.tenant),
    }
}

/// Whether a caller may see a VM. What it may not see does not exist for it.
pub fn may_see(caller: &Caller, vm: &Vm) -> bool {
    scope(caller).is_none_or(|tenant| vm.record.tenant == *tenant)
}

/// Whether a caller may make something new from an image: it is offered to him and usable now.
pub fn may_use_image(caller: &Caller, image: &Image) -> bool {
    image.usable() && image.seen_by(scope(caller))
}

/// Whether a caller may make something new with a flavor: it is offered to him and enabled.
pub fn may_use_flavor(caller: &Caller, flavor: &Flavor) -> bool {
    flavor.enabled && flavor.seen_by(scope(caller))
}

/// One page of the VMs that a caller sees, in the order of their numbers, and how many there are in all.
pub fn page(now: &Snapshot, caller: &Caller, offset: usize, limit: usize) -> (Vec<Arc<Vm>>, usize) {
    let visible = now.visible(scope(caller));
    let total = visible.len();
    (
        visible.values().skip(offset).take(limit).cloned().collect(),
        total,
    )
}
