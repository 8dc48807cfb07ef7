//! Entries as frontends see them: listed, read, added, changed and removed by the same rules whatever they are.
//!
//! A viewer changes nothing. What belongs to another tenant does not exist. What belongs to everybody is changed
//! by administrators only. A change is stored before it is seen, and the one who made it sees it at once.

use std::sync::Arc;

use super::{Core, authorise};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::{Entry, Heard};
use crate::model::{Caller, ResourceId, Role, Tag, TagId, TagResource};
use crate::registry::entry_removal;
use crate::store::Expect;

impl Core {
    /// An entry that the caller may see. An id that the inventory does not know is looked up in the registry
    /// once, because another gateway may have made it a moment ago.
    ///
    /// # Errors
    /// `NotFound` when it does not exist, is gone, or belongs to somebody else; those of the store.
    pub async fn entry<T: Entry>(&self, caller: &Caller, id: T::Id) -> Result<Arc<T>> {
        let known = self.now().entry::<T>(id).cloned();
        let entry = match known {
            Some(entry) => entry,
            None => {
                let found = self.registry.entry::<T>(id).await?;
                let (entry, version) = found.ok_or_else(|| unknown::<T>(id))?;
                self.inventory.entries(vec![Heard::written(entry, version)]);
                let now = self.now();
                now.entry::<T>(id).cloned().ok_or_else(|| unknown::<T>(id))?
            }
        };
        if entry.seen_by(caller) {
            Ok(entry)
        } else {
            Err(unknown::<T>(id))
        }
    }

    /// As [`Core::entry`], but only if the inventory knows it: for places that cannot wait.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn known_entry<T: Entry>(&self, caller: &Caller, id: T::Id) -> Result<Arc<T>> {
        let known = self.now().entry::<T>(id).cloned();
        known
            .filter(|entry| entry.seen_by(caller))
            .ok_or_else(|| unknown::<T>(id))
    }

    /// All entries of a kind that the caller may see, in the order of their ids.
    pub fn entries<T: Entry>(&self, caller: &Caller) -> Vec<Arc<T>> {
        let now = self.now();
        let seen = T::all(&now).values().filter(|entry| entry.seen_by(caller));
        seen.cloned().collect()
    }

    /// Stores a new entry and returns it as stored, with what was given out to it.
    ///
    /// # Errors
    /// `Forbidden` for a viewer, and for whoever adds for everybody or another tenant and is no administrator;
    /// `AlreadyExists` if the id is or was in use; what the kind's own rules refuse; those of the store.
    pub async fn add_entry<T: Entry>(&self, caller: &Caller, entry: T) -> Result<Arc<T>> {
        authorise::may_change(caller)?;
        let id = entry.id();
        own(caller, &entry)?;
        entry.check(&self.now())?;
        asked::<T>(caller, id, "add");
        let added = answered(caller, self.registry.add_entry(entry).await)?;
        Ok(self.take_in(added))
    }

    /// Changes an entry and returns it as stored. `change` may be called several times, each time with the entry
    /// as it then is.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, whatever `change` or the kind's own rules refuse; those of the store.
    pub async fn edit_entry<T: Entry>(
        &self,
        caller: &Caller,
        id: T::Id,
        change: impl Fn(&mut T) -> Result<()> + Send + Sync,
    ) -> Result<Arc<T>> {
        authorise::may_change(caller)?;
        let known = self.entry::<T>(caller, id).await?;
        own(caller, known.as_ref())?;
        asked::<T>(caller, id, "change");
        let edited = self.registry.edit_entry::<T>(id, |entry| {
            if entry.gone() || !entry.seen_by(caller) {
                return Err(unknown::<T>(id));
            }
            own(caller, entry)?;
            let old = entry.clone();
            change(entry)?;
            own(caller, entry)?;
            old.check_edit(entry)?;
            entry.check(&self.now())
        });
        let edited = answered(caller, edited.await)?;
        Ok(self.take_in(edited))
    }

    /// Removes an entry for good, and the tags on it. Its id is never given out again.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, what the kind's own rules refuse; those of the store.
    pub async fn remove_entry<T: Entry>(&self, caller: &Caller, id: T::Id) -> Result<()> {
        authorise::may_change(caller)?;
        let known = self.entry::<T>(caller, id).await?;
        own(caller, known.as_ref())?;
        asked::<T>(caller, id, "remove");
        let now = self.now();
        let tags: Vec<TagId> = now.tags_of(&TagResource::of(id)).map(|tag| tag.id).collect();
        let writes: Vec<_> = tags
            .iter()
            .map(|tag| entry_removal::<Tag>(*tag, Expect::Any))
            .collect::<Result<_>>()?;
        let removed = self.registry.remove_entry::<T>(id, &writes, |entry| {
            if entry.gone() || !entry.seen_by(caller) {
                return Err(unknown::<T>(id));
            }
            own(caller, entry)?;
            entry.check_removal(&self.now())
        });
        let versions = answered(caller, removed.await)?;
        let mut versions = versions.into_iter();
        if let Some(version) = versions.next() {
            self.inventory.entries(vec![Heard::<T>::removed(id, version)]);
        }
        let tags = tags.into_iter().zip(versions);
        let tags = tags.map(|(tag, version)| Heard::<Tag>::removed(tag, version));
        self.inventory.entries(tags.collect());
        Ok(())
    }

    /// Makes what was just stored visible here, ahead of the store's own feed.
    fn take_in<T: Entry>(&self, (entry, version): (T, u64)) -> Arc<T> {
        let id = entry.id();
        self.inventory
            .entries(vec![Heard::written(entry.clone(), version)]);
        // Somebody may have changed or removed it since: the newest is the truth, ours is what was done.
        let now = self.now();
        now.entry::<T>(id).cloned().unwrap_or_else(|| Arc::new(entry))
    }
}

fn unknown<T: Entry>(id: T::Id) -> Error {
    Error::not_found(<T::Id as ResourceId>::NOUN, id)
}

/// Whether an entry that the caller sees is his to change.
fn own<T: Entry>(caller: &Caller, entry: &T) -> Result<()> {
    let refused = |why: &str| {
        let noun = <T::Id as ResourceId>::NOUN;
        Err(Error::new(ErrorKind::Forbidden, format!("{noun} {} {why}", entry.id())).about(noun, entry.id()))
    };
    match (caller.role, entry.tenant()) {
        (Role::Admin, _) => Ok(()),
        (Role::User | Role::Viewer, Some(owner)) if *owner == caller.tenant => Ok(()),
        (Role::User | Role::Viewer, Some(_)) => refused("belongs to another tenant"),
        (Role::User | Role::Viewer, None) => {
            refused("belongs to everybody: only an administrator may change it")
        }
    }
}

fn asked<T: Entry>(caller: &Caller, id: T::Id, doing: &str) {
    tracing::info!(
        target: "audit",
        request = caller.request_id,
        account = caller.account.map(|id| id.to_string()),
        tenant = %caller.tenant,
        dialect = caller.dialect,
        operation = caller.operation,
        command = doing,
        kind = T::KIND.as_ref(),
        %id,
        "asked"
    );
}

fn answered<R>(caller: &Caller, done: Result<R>) -> Result<R> {
    match &done {
        Ok(_) => tracing::info!(target: "audit", request = caller.request_id, "stored"),
        Err(error) => tracing::info!(target: "audit", request = caller.request_id, %error, "refused"),
    }
    done
}
