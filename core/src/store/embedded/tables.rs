//! The tables of the file and what can be read of them. The layout is described in the module head of
//! [`super`].

use std::path::Path;

use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _, ReadableTable as _, Table,
    TableDefinition, TableHandle as _, WriteTransaction,
};
use uuid::Uuid;

use super::super::rules::{unavailable, unreadable};
use super::super::{JobFilter, Record, RecordKind};
use crate::error::{Error, Result};
use crate::model::{Job, JobId};

/// The layout that this release reads and writes.
pub(super) const FORMAT: u64 = 1;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const RECORDS: TableDefinition<(&str, &str), (u64, &[u8])> = TableDefinition::new("records");
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
const JOBS: TableDefinition<u128, (u64, &[u8])> = TableDefinition::new("jobs");
const ORDER: TableDefinition<u64, u128> = TableDefinition::new("job_order");
const OPEN: TableDefinition<u64, u128> = TableDefinition::new("job_open");
const ENDED: TableDefinition<(i128, u128), u64> = TableDefinition::new("job_ended");
const JOURNAL: TableDefinition<(u128, u32), &[u8]> = TableDefinition::new("journal");

/// Why an operation did not happen.
pub(super) enum Fault {
    /// By the rules; nothing was touched, and others in the same transaction are not concerned.
    Refused(Error),
    /// The file failed; the whole transaction is void.
    Storage(redb::Error),
}

pub(super) type Done<T> = std::result::Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

macro_rules! storage_faults {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Fault {
            fn from(error: $kind) -> Self {
                Self::Storage(error.into())
            }
        }
    )*};
}

storage_faults!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError
);

impl Fault {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Storage(error) => unavailable(error),
        }
    }
}

/// The tables within one write transaction.
pub(super) struct Tables<'t> {
    pub(super) records: Table<'t, (&'static str, &'static str), (u64, &'static [u8])>,
    pub(super) counters: Table<'t, &'static str, u64>,
    pub(super) jobs: Table<'t, u128, (u64, &'static [u8])>,
    /// Every job by its number in the order of submission.
    pub(super) order: Table<'t, u64, u128>,
    /// Unfinished jobs by the same number: their order in all lines.
    pub(super) open: Table<'t, u64, u128>,
    pub(super) ended: Table<'t, (i128, u128), u64>,
    pub(super) journal: Table<'t, (u128, u32), &'static [u8]>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Done<Self> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            counters: transaction.open_table(COUNTERS)?,
            jobs: transaction.open_table(JOBS)?,
            order: transaction.open_table(ORDER)?,
            open: transaction.open_table(OPEN)?,
            ended: transaction.open_table(ENDED)?,
            journal: transaction.open_table(JOURNAL)?,
        })
    }

    /// A job's number and stored JSON.
    pub(super) fn job(&self, id: JobId) -> Done<Option<(u64, Vec<u8>)>> {
        Ok(self.jobs.get(id.0.as_u128())?.map(|row| {
            let (number, json) = row.value();
            (number, json.to_vec())
        }))
    }
}

/// Makes the tables of a new file, or checks that this release can read an old one.
pub(super) fn prepare(database: &Database, path: &Path) -> Result<()> {
    let shown = path.display();
    let run = || -> Done<()> {
        let transaction = database.begin_write()?;
        let foreign = transaction
            .list_tables()?
            .any(|table| table.name() != META.name());
        {
            let mut meta = transaction.open_table(META)?;
            let format = meta.get("format")?.map(|row| row.value());
            match format {
                Some(FORMAT) => {}
                Some(newer) if newer > FORMAT => {
                    return Err(Fault::Refused(Error::internal(format!(
                        "store file {shown} has format {newer}, which a newer release wrote; this release reads \
                         up to format {FORMAT}: start the newer release again or use another file"
                    ))));
                }
                Some(older) => {
                    return Err(Fault::Refused(Error::internal(format!(
                        "store file {shown} has the unknown format {older}"
                    ))));
                }
                None if foreign => {
                    return Err(Fault::Refused(Error::internal(format!(
                        "store file {shown} is a database of another program"
                    ))));
                }
                None => {
                    meta.insert("format", FORMAT)?;
                }
            }
        }
        drop(Tables::open(&transaction)?);
        transaction.commit()?;
        Ok(())
    };
    run().map_err(Fault::into_error)
}

/// All records of a kind.
pub(super) fn load(read: &ReadTransaction, kind: RecordKind) -> Done<Vec<Record>> {
    let table = read.open_table(RECORDS)?;
    let mut records = Vec::new();
    for row in table.range((kind.as_ref(), "")..)? {
        let (key, value) = row?;
        let (of, key) = key.value();
        if of != kind.as_ref() {
            break;
        }
        records.push(record(kind, key, value.value()));
    }
    Ok(records)
}

/// One record.
pub(super) fn get(read: &ReadTransaction, kind: RecordKind, key: &str) -> Done<Option<Record>> {
    let row = read.open_table(RECORDS)?.get((kind.as_ref(), key))?;
    Ok(row.map(|row| record(kind, key, row.value())))
}

pub(super) fn record(kind: RecordKind, key: &str, (version, value): (u64, &[u8])) -> Record {
    Record {
        kind,
        key: key.to_owned(),
        version,
        value: Bytes::copy_from_slice(value),
    }
}

/// One job.
pub(super) fn job(read: &ReadTransaction, id: JobId) -> Done<Option<Job>> {
    let row = read.open_table(JOBS)?.get(id.0.as_u128())?;
    row.map(|row| parse_job(id, row.value().1)).transpose()
}

/// Jobs, newest first. One that this release cannot read is left out: its fields cannot be shown, and it
/// must not hide the others.
pub(super) fn jobs(read: &ReadTransaction, filter: &JobFilter) -> Done<Vec<Job>> {
    let order: ReadOnlyTable<u64, u128> = read.open_table(if filter.unfinished { OPEN } else { ORDER })?;
    let table = read.open_table(JOBS)?;
    let limit = if filter.limit == 0 {
        usize::MAX
    } else {
        filter.limit
    };
    let mut jobs = Vec::new();
    for row in order.range(0..)?.rev() {
        if jobs.len() == limit {
            break;
        }
        let id = JobId(Uuid::from_u128(row?.1.value()));
        if let Some(row) = table.get(id.0.as_u128())? {
            match parse_job(id, row.value().1) {
                Ok(job) => jobs.push(job),
                Err(_) => tracing::warn!(job = %id, "left out of a list: stored by a newer release"),
            }
        }
    }
    Ok(jobs)
}

pub(super) fn parse_job(id: JobId, json: &[u8]) -> Done<Job> {
    serde_json::from_slice(json).map_err(|error| unreadable(&format!("job {id}"), error).into())
}

/// Whether the file answers.
pub(super) fn probe(database: &Database) -> Done<()> {
    database.begin_read()?.open_table(META)?.get("format")?;
    Ok(())
}
