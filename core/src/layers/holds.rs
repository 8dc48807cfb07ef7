//! Creations that have begun but are not in the inventory yet. Two of them at once would both find the quota
//! unused and the name free; here each sees the other. One gateway's creations only: several gateways on one
//! store may together pass a quota by as many creations as they take in the same moment, and a name that two of
//! them choose is settled when the VM is defined.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Inventory;
use crate::model::{Caller, TenantId, VmId};

#[derive(Debug)]
struct Held {
    vm: VmId,
    tenant: TenantId,
    name: String,
}

/// The creations under way.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<Vec<Held>>);

/// One creation under way, until dropped.
pub(super) struct Hold<'h> {
    holds: &'h Holds,
    vm: VmId,
    /// Whether another creation under way asks for the same name.
    pub(super) name_is_contested: bool,
}

impl Holds {
    /// Begins a creation.
    ///
    /// # Errors
    /// `QuotaExceeded`.
    pub(super) fn begin(
        &self,
        inventory: &Inventory,
        caller: &Caller,
        vm: VmId,
        name: &str,
    ) -> Result<Hold<'_>> {
        let mut held = self.lock();
        if let Some(quota) = caller.vm_quota {
            // Asked for under the lock: whatever has left the list since is in there.
            let now = inventory.now();
            let visible = now.by_tenant.get(&caller.tenant).map_or(0, |vms| vms.len());
            let begun = held.iter();
            let begun = begun.filter(|held| held.tenant == caller.tenant && !now.vms.contains_key(&held.vm));
            let has = visible + begun.count();
            if has >= quota as usize {
                return Err(Error::new(
                    ErrorKind::QuotaExceeded,
                    format!("tenant {} has {has} of {quota} vms", caller.tenant),
                ));
            }
        }
        let name_is_contested = held.iter().any(|held| held.name == name);
        held.push(Held {
            vm,
            tenant: caller.tenant.clone(),
            name: name.to_owned(),
        });
        Ok(Hold {
            holds: self,
            vm,
            name_is_contested,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.holds.lock().retain(|held| held.vm != self.vm);
    }
}
