//! Entries in the store: reading and writing one record of any kind, each change by compare-and-set.
//!
//! A removed entry leaves a tombstone under its id. With it the record's version goes on counting, so that late
//! news of the entry is known to be old, and whoever asks for the id again is refused.

use serde::{Deserialize, Serialize};

use super::{Registry, decode, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Entry;
use crate::model::{ResourceId as _, Timestamp};
use crate::store::{Expect, Record, Write};

/// How often a change is tried while others change the same record.
const TRIES: usize = 16;

/// What is left of a removed entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tombstone {
    removed: Timestamp,
}

fn key<T: Entry>(id: T::Id) -> String {
    id.uuid().simple().to_string()
}

fn noun<T: Entry>() -> &'static str {
    <T::Id as crate::model::ResourceId>::NOUN
}

/// The entry in a record; none if it was removed.
///
/// # Errors
/// `Internal` if this release cannot read it.
pub(crate) fn read_entry<T: Entry>(record: &Record) -> Result<Option<T>> {
    match decode::<T>(record) {
        Ok(entry) => Ok(Some(entry)),
        Err(_) if decode::<Tombstone>(record).is_ok() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The write of an entry, for a transaction that writes more than it (a job's end, for instance). Of a new
/// entry, [`Registry::new_entry`] makes the writes.
///
/// # Errors
/// `Internal` if it cannot be encoded.
pub fn entry_write<T: Entry>(entry: &T, expect: Expect) -> Result<Write> {
    Ok(Write {
        kind: T::KIND,
        key: key::<T>(entry.id()),
        expect,
        value: Some(encode(entry)?),
    })
}

/// The write that removes an entry for good.
///
/// # Errors
/// `Internal` if it cannot be encoded.
pub fn entry_removal<T: Entry>(id: T::Id, expect: Expect) -> Result<Write> {
    let removed = Timestamp::now();
    Ok(Write {
        kind: T::KIND,
        key: key::<T>(id),
        expect,
        value: Some(encode(&Tombstone { removed })?),
    })
}

impl Registry {
    /// An entry with its version; none if there never was one or it was removed. One whose thing is gone
    /// ([`Entry::gone`]) is returned.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn entry<T: Entry>(&self, id: T::Id) -> Result<Option<(T, u64)>> {
        let found = self.store.get(T::KIND, &key::<T>(id)).await?;
        let Some(record) = found else { return Ok(None) };
        Ok(read_entry(&record)?.map(|entry| (entry, record.version)))
    }

    /// Completes a new entry with what is given out once, and makes the writes that store it: its own first. The
    /// transaction fails with `Conflict` if its id is or was in use, or what was given out is taken meanwhile.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn new_entry<T: Entry>(&self, entry: &mut T) -> Result<Vec<Write>> {
        let given_out = entry.admit(self).await?;
        let mut writes = vec![entry_write(entry, Expect::Absent)?];
        writes.extend(given_out);
        Ok(writes)
    }

    /// Stores a new entry. Returns it as stored, with its version.
    ///
    /// # Errors
    /// `AlreadyExists` if its id is or was in use; those of the store.
    pub async fn add_entry<T: Entry>(&self, entry: T) -> Result<(T, u64)> {
        let id = entry.id();
        for _ in 0..TRIES {
            let mut entry = entry.clone();
            let writes = self.new_entry(&mut entry).await?;
            match self.store.commit(writes).await {
                Ok(versions) => return Ok((entry, versions.first().copied().unwrap_or(1))),
                Err(error) if error.kind == ErrorKind::Conflict => {
                    // Otherwise somebody took what was given out to it: it gets something else.
                    if self.store.get(T::KIND, &key::<T>(id)).await?.is_some() {
                        let text = format!("{} {id} exists already, or existed once", noun::<T>());
                        return Err(Error::new(ErrorKind::AlreadyExists, text).about(noun::<T>(), id));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(contended::<T>(id))
    }

    /// Changes an entry by compare-and-set: reads, lets `change` edit, writes, and begins again when somebody
    /// else wrote in between. Returns the entry as written, with its version; what `change` leaves as it is, is
    /// not written.
    ///
    /// # Errors
    /// `NotFound`; whatever `change` refuses; those of the store.
    pub async fn edit_entry<T: Entry>(
        &self,
        id: T::Id,
        change: impl Fn(&mut T) -> Result<()> + Send + Sync,
    ) -> Result<(T, u64)> {
        for _ in 0..TRIES {
            let Some((old, version)) = self.entry::<T>(id).await? else {
                return Err(Error::not_found(noun::<T>(), id));
            };
            let mut entry = old.clone();
            change(&mut entry)?;
            if entry.id() != id {
                return Err(Error::internal(format!(
                    "a change of {} {id} changed its id",
                    noun::<T>()
                )));
            }
            if entry == old {
                return Ok((entry, version));
            }
            entry.touch(Timestamp::now());
            let write = entry_write(&entry, Expect::Version(version))?;
            match self.store.commit(vec![write]).await {
                Ok(versions) => return Ok((entry, versions.first().copied().unwrap_or(version + 1))),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended::<T>(id))
    }

    /// Removes an entry for good, together with what `besides` writes, if `may` allows it as it then is. Returns
    /// the versions of the tombstone and of the writes besides, in this order.
    ///
    /// # Errors
    /// `NotFound`; whatever `may` refuses; those of the store.
    pub async fn remove_entry<T: Entry>(
        &self,
        id: T::Id,
        besides: &[Write],
        may: impl Fn(&T) -> Result<()> + Send + Sync,
    ) -> Result<Vec<u64>> {
        for _ in 0..TRIES {
            let found = self.entry::<T>(id).await?;
            let Some((entry, version)) = found else {
                return Err(Error::not_found(noun::<T>(), id));
            };
            may(&entry)?;
            let mut writes = vec![entry_removal::<T>(id, Expect::Version(version))?];
            writes.extend_from_slice(besides);
            match self.store.commit(writes).await {
                Ok(versions) => return Ok(versions),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended::<T>(id))
    }
}

fn contended<T: Entry>(id: T::Id) -> Error {
    let text = format!("{} {id} is changed by too many at once, try again", noun::<T>());
    Error::new(ErrorKind::Conflict, text).about(noun::<T>(), id)
}
