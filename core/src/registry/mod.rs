//! The registry: what the gateway itself remembers because no backend does. Typed records over the store's
//! plain ones, and the ids that are given out once and never again.

pub mod accounts;
mod entries;
mod seeds;
mod sessions;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use entries::read_entry;
pub use entries::{entry_removal, entry_write};
pub use seeds::{FlavorSeed, ImageSeed};
pub use sessions::{MakeToken, Session, SessionOptions, TokenForm};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Planned, TenantId, Timestamp, VmFacts, VmId, VmOrigin, VmRecord};
use crate::secret::random_text;
use crate::store::{Expect, Record, RecordKind, Store, Write};

/// Typed access to the store's records.
#[derive(Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
}

impl Registry {
    /// A registry on `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// All VM records with their versions, those of gone VMs left out.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn vms(&self) -> Result<Vec<(VmRecord, u64)>> {
        let mut records = self.all_vms().await?;
        records.retain(|(vm, _)| vm.gone_at.is_none());
        Ok(records)
    }

    /// All VM records with their versions, those of gone VMs too. One that this release cannot read is left
    /// out: it must not hide the others.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn all_vms(&self) -> Result<Vec<(VmRecord, u64)>> {
        let records = self.store.load(RecordKind::Vm).await?;
        let parsed = records
            .iter()
            .filter_map(|record| match decode::<VmRecord>(record) {
                Ok(vm) => Some((vm, record.version)),
                Err(error) => {
                    tracing::error!(%error, "a record is left out");
                    None
                }
            });
        Ok(parsed.collect())
    }

    /// A VM's record with its version, also of one that is gone.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn vm(&self, id: VmId) -> Result<Option<(VmRecord, u64)>> {
        let found = self.store.get(RecordKind::Vm, &id.simple()).await?;
        found
            .map(|record| Ok((decode(&record)?, record.version)))
            .transpose()
    }

    /// The VM that was given this ten-character alias, also one that is gone: for an alias that the inventory
    /// does not know because another gateway gave it out a moment ago.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn vm_by_short_id(&self, short_id: &str) -> Result<Option<VmId>> {
        let found = self
            .store
            .get(RecordKind::Alias, &format!("vm-short:{short_id}"))
            .await?;
        found.as_ref().map(decode).transpose()
    }

    /// Changes a VM's record by compare-and-set: reads, lets `change` edit, writes, and begins again when
    /// somebody else wrote in between. Returns the record as written.
    ///
    /// # Errors
    /// `NotFound` without a record; whatever `change` refuses; those of the store.
    pub async fn edit_vm(
        &self,
        id: VmId,
        change: impl Fn(&mut VmRecord) -> Result<()> + Send + Sync,
    ) -> Result<(VmRecord, u64)> {
        for _ in 0..16 {
            let Some((mut record, version)) = self.vm(id).await? else {
                return Err(Error::not_found("vm", id));
            };
            change(&mut record)?;
            match self
                .store
                .commit(vec![vm_write(&record, Expect::Version(version))?])
                .await
            {
                Ok(versions) => return Ok((record, versions.first().copied().unwrap_or(version + 1))),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "the vm's record is changed by too many at once, try again",
        )
        .about("vm", id))
    }

    /// Numbers and short ids for `count` new VMs, with the writes that reserve the short ids.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn new_aliases(&self, count: usize) -> Result<Vec<(u64, String)>> {
        let first = self.store.allocate("vm-number", count as u64).await?;
        Ok((first..)
            .take(count)
            .map(|number| (number, random_text(10)))
            .collect())
    }

    /// A new VM's record, not yet stored.
    pub fn new_vm(
        id: VmId,
        (number, short_id): (u64, String),
        backend: crate::model::BackendId,
        tenant: TenantId,
        origin: VmOrigin,
        planned: Option<Planned>,
    ) -> VmRecord {
        VmRecord {
            id,
            backend,
            tenant,
            number,
            short_id,
            first_seen: Timestamp::now(),
            origin,
            display_name: None,
            remark: String::new(),
            tags: Default::default(),
            hostname: None,
            ssh_keys: Vec::new(),
            os: None,
            group: None,
            settings: Default::default(),
            image: None,
            flavor: None,
            admin_user: None,
            admin_password: None,
            console_password: None,
            lease_term: None,
            expires_at: None,
            volumes: Vec::new(),
            lapsed_at: None,
            trashed_at: None,
            definition: None,
            fault: None,
            planned,
            gone_at: None,
        }
    }

    /// Records for VMs that were found on a backend. A VM that already has one (another gateway was quicker, a
    /// job is making it, or it was thought gone) gets that one as it stands: whoever asked sees `gone_at` and
    /// decides.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn adopt(&self, found: &[Arc<VmFacts>], tenant: &TenantId) -> Result<Vec<(VmRecord, u64)>> {
        let aliases = self.new_aliases(found.len()).await?;
        let mut adopted = Vec::with_capacity(found.len());
        // Many VMs per transaction, because ten thousand are adopted at a first start.
        for batch in found.iter().zip(aliases).collect::<Vec<_>>().chunks(256) {
            let records: Vec<VmRecord> = batch
                .iter()
                .map(|(facts, alias)| {
                    let backend = facts.backend.clone();
                    let origin = VmOrigin::Adopted;
                    Self::new_vm(facts.id, alias.clone(), backend, tenant.clone(), origin, None)
                })
                .collect();
            match self.store.commit(new_vm_writes(&records)?).await {
                Ok(versions) => {
                    // Two writes a record: the record itself and its alias.
                    let of_records = versions.into_iter().step_by(2);
                    adopted.extend(records.into_iter().zip(of_records));
                }
                Err(error) if error.kind == ErrorKind::Conflict => {
                    for record in records {
                        adopted.push(self.adopt_one(record).await?);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(adopted)
    }

    async fn adopt_one(&self, fresh: VmRecord) -> Result<(VmRecord, u64)> {
        match self
            .store
            .commit(new_vm_writes(std::slice::from_ref(&fresh))?)
            .await
        {
            Ok(versions) => Ok((fresh, versions.first().copied().unwrap_or(1))),
            Err(error) if error.kind == ErrorKind::Conflict => {
                // Without a record it was the alias that somebody has: as good as impossible, and the next
                // look at the backend tries another one.
                self.vm(fresh.id).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// The write of a VM's record.
///
/// # Errors
/// `Internal` if it cannot be encoded.
pub fn vm_write(record: &VmRecord, expect: Expect) -> Result<Write> {
    Ok(Write {
        kind: RecordKind::Vm,
        key: record.id.simple(),
        expect,
        value: Some(encode(record)?),
    })
}

/// The writes that store new VM records and reserve their aliases: two for each record, in this order.
///
/// # Errors
/// `Internal` if a record cannot be encoded.
pub fn new_vm_writes(records: &[VmRecord]) -> Result<Vec<Write>> {
    let mut writes = Vec::with_capacity(records.len() * 2);
    for record in records {
        writes.push(vm_write(record, Expect::Absent)?);
        writes.push(Write {
            kind: RecordKind::Alias,
            key: format!("vm-short:{}", record.short_id),
            expect: Expect::Absent,
            value: Some(encode(&record.id)?),
        });
    }
    Ok(writes)
}

/// JSON for the store.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::internal(format!("encoding a record: {error}")))
}

/// JSON from the store.
pub(crate) fn decode<T: DeserializeOwned>(record: &Record) -> Result<T> {
    serde_json::from_slice(&record.value).map_err(|error| {
        Error::internal(format!(
            "record {} {} cannot be read: {error}",
            record.kind.as_ref(),
            record.key
        ))
    })
}
