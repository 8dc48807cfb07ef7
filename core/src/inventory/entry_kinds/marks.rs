//! What is attached to something else: affinity groups to VMs, tags to anything, API keys to accounts.

use std::sync::Arc;

use imbl::OrdMap;

use super::{check_name, check_text};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::entries::{note, unnote};
use crate::inventory::{Entry, Snapshot};
use crate::model::{
    AffinityGroup, AffinityGroupId, ApiKey, ApiKeyId, Caller, Tag, TagId, TenantId, Timestamp,
};
use crate::registry::Registry;
use crate::store::{RecordKind, Write};

impl Entry for AffinityGroup {
    kept!(AffinityGroup, AffinityGroupId, entries.affinity_groups);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        check_text("description", &self.description)
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        let index = &mut next.entries.groups_of;
        if let Some(old) = old {
            for vm in &old.members {
                unnote(index, vm, &old.id);
            }
        }
        if let Some(new) = new {
            for vm in &new.members {
                note(index, *vm, new.id);
            }
        }
    }
}

impl Entry for Tag {
    kept!(Tag, TagId, entries.tags);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        if self.text.is_empty() {
            return Err(Error::invalid("text", "a tag must not be empty"));
        }
        check_text("text", &self.text)
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        let index = &mut next.entries.tags_of;
        if let Some(old) = old {
            unnote(index, &old.resource, &old.id);
        }
        if let Some(new) = new {
            note(index, new.resource.clone(), new.id);
        }
    }
}

impl Entry for ApiKey {
    kept!(ApiKey, ApiKeyId, entries.api_keys);

    fn tenant(&self) -> Option<&TenantId> {
        Some(&self.tenant)
    }

    /// The account's own alone: who sees a key can act as its account.
    fn seen_by(&self, caller: &Caller) -> bool {
        caller.account == Some(self.account)
    }

    async fn admit(&mut self, registry: &Registry) -> Result<Vec<Write>> {
        Ok(vec![
            registry
                .holder(&format!("api-key:{}", self.hash), &self.id)
                .await?,
        ])
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        Ok(())
    }

    fn check_edit(&self, _: &Self) -> Result<()> {
        Err(Error::new(ErrorKind::Forbidden, "an API key is never changed").about(ApiKeyId::NOUN, self.id))
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        if let Some(old) = old {
            next.entries.key_of_hash.remove(&old.hash);
        }
        if let Some(new) = new {
            next.entries.key_of_hash.insert(new.hash.clone(), new.id);
        }
    }
}
