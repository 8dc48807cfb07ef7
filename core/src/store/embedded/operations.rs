//! The store's operations inside a write transaction. Each one looks first and writes last: one that is
//! refused has touched nothing, so that others can share its transaction.

use std::time::Duration;

use redb::ReadableTable as _;
use uuid::Uuid;

use super::super::rules::{JobHead, busy, check_distinct, lost_claim, record_conflict, unreadable};
use super::super::{
    Admission, Change, Claim, Claimed, Expect, JobEnd, JournalEntry, Submitted, WorkerId, Write,
};
use super::board::Board;
use super::tables::{Done, Fault, Tables, parse_job, record};
use crate::command::WhenBusy;
use crate::error::{Error, Result};
use crate::model::{BackendId, Job, JobId, JobState, Timestamp};

/// The requests that share one transaction.
pub(super) struct Batch<'b, 't> {
    pub(super) tables: Tables<'t>,
    pub(super) board: &'b mut Board,
    /// What subscribers hear once the transaction is on disk.
    pub(super) changes: Vec<Change>,
}

impl Batch<'_, '_> {
    pub(super) fn commit(&mut self, writes: Vec<Write>) -> Done<Vec<u64>> {
        let versions = self.check_writes(&writes)?;
        self.write_records(writes, &versions)?;
        Ok(versions)
    }

    pub(super) fn allocate(&mut self, counter: &str, count: u64) -> Done<u64> {
        let first = self.tables.counters.get(counter)?.map_or(1, |row| row.value());
        let next = first
            .checked_add(count)
            .ok_or_else(|| Error::internal(format!("counter {counter} is used up")))?;
        self.tables.counters.insert(counter, next)?;
        Ok(first)
    }

    pub(super) fn submit(
        &mut self,
        mut job: Job,
        writes: Vec<Write>,
        admission: &Admission,
    ) -> Done<Submitted> {
        if let Some((_, json)) = self.tables.job(job.id)? {
            return Ok(Submitted::Known(Box::new(parse_job(job.id, &json)?)));
        }
        if admission.when_busy == WhenBusy::Refuse
            && let Some((subject, front)) = self.board.front(&job.subjects)
        {
            return Err(busy(subject.as_str(), front).into());
        }
        let versions = self.check_writes(&writes)?;
        // Whatever could be refused from here on would leave the board changed: encode once before.
        encode(&job)?;

        let number = self.board.take_number();
        self.board.enter(
            &JobHead {
                id: job.id,
                command_version: job.command_version,
                backend: job.backend.clone(),
                subjects: job.subjects.clone(),
                state: job.state,
                epoch: job.epoch,
            },
            number,
        );
        let claim = match &admission.claim_for {
            Some((worker, lease)) if self.board.is_ready(job.id) => self.board.hold(job.id, worker, *lease),
            _ => None,
        };
        if let Some(claim) = &claim {
            start(&mut job, claim);
        }
        let key = job.id.0.as_u128();
        self.tables.order.insert(number, key)?;
        self.tables.open.insert(number, key)?;
        self.put_job(number, job)?;
        self.write_records(writes, &versions)?;
        Ok(claim.map_or(Submitted::Queued, Submitted::Claimed))
    }

    /// The next claim for a worker of `backends`, if there is one.
    pub(super) fn claim(
        &mut self,
        worker: &WorkerId,
        backends: &[BackendId],
        lease: Duration,
    ) -> Done<Option<Claimed>> {
        while let Some(id) = self.board.next(backends) {
            let Some((number, json)) = self.tables.job(id)? else {
                self.board.leave(id);
                continue;
            };
            let (mut job, journal) = match self.read_claimable(id, &json) {
                Ok(read) => read,
                Err(Fault::Refused(error)) => {
                    tracing::error!(job = %id, %error, "a job stays where it is: this release cannot run it");
                    self.board.set_unknown(id);
                    continue;
                }
                Err(storage) => return Err(storage),
            };
            let Some(claim) = self.board.hold(id, worker, lease) else {
                continue;
            };
            start(&mut job, &claim);
            self.put_job(number, job.clone())?;
            return Ok(Some(Claimed { claim, job, journal }));
        }
        Ok(None)
    }

    pub(super) fn journal(&mut self, claim: &Claim, entry: &JournalEntry) -> Done<()> {
        self.board.check(claim)?;
        let json = encode(entry)?;
        let key = claim.job.0.as_u128();
        let last = self
            .tables
            .journal
            .range((key, 0)..=(key, u32::MAX))?
            .next_back()
            .transpose()?
            .map(|(key, _)| key.value().1);
        let next = last.map_or(0, |last| last.saturating_add(1));
        self.tables.journal.insert((key, next), json.as_slice())?;
        Ok(())
    }

    pub(super) fn progress(&mut self, claim: &Claim, percent: u8) -> Done<()> {
        self.board.check(claim)?;
        let (number, mut job) = self.held_job(claim)?;
        job.progress = percent.min(100);
        self.put_job(number, job)
    }

    pub(super) fn finish(&mut self, claim: &Claim, end: JobEnd, writes: Vec<Write>) -> Done<()> {
        if !end.state.ended() {
            return Err(Error::internal(format!("job {} cannot end as {:?}", claim.job, end.state)).into());
        }
        let (number, job) = self.held_job(claim)?;
        // The answer to the same call was lost: its work is done.
        if job.state.ended() && job.epoch == claim.epoch {
            return Ok(());
        }
        self.board.check(claim)?;
        let versions = self.check_writes(&writes)?;

        // Whoever hears that the job has ended has heard before what that means for the records.
        self.write_records(writes, &versions)?;
        self.put_end(number, job, end)
    }

    pub(super) fn cancel(&mut self, id: JobId) -> Done<()> {
        let Some((number, json)) = self.tables.job(id)? else {
            return Err(Error::not_found(JobId::NOUN, id).into());
        };
        let head: JobHead =
            serde_json::from_slice(&json).map_err(|error| unreadable(&format!("job {id}"), error))?;
        if head.state.ended() {
            return Ok(());
        }
        // Only single fields change, so that a job of a newer release keeps what this one cannot read.
        let mut fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&json).map_err(|error| unreadable(&format!("job {id}"), error))?;
        fields.insert("cancel_requested".to_owned(), true.into());
        if head.state == JobState::Queued {
            let ended = Timestamp::now();
            fields.insert("state".to_owned(), JobState::Cancelled.as_ref().into());
            fields.insert("ended".to_owned(), ended.to_string().into());
            self.leave(number, id, ended)?;
        }
        let json = encode(&fields)?;
        self.tables
            .jobs
            .insert(id.0.as_u128(), (number, json.as_slice()))?;
        if let Ok(job) = parse_job(id, &json) {
            self.changes.push(Change::Job(Box::new(job)));
        }
        Ok(())
    }

    pub(super) fn end_queued(&mut self, id: JobId, end: JobEnd, writes: Vec<Write>) -> Done<bool> {
        if !end.state.ended() {
            return Err(Error::internal(format!("job {id} cannot end as {:?}", end.state)).into());
        }
        let Some((number, json)) = self.tables.job(id)? else {
            return Err(Error::not_found(JobId::NOUN, id).into());
        };
        let mut job = parse_job(id, &json)?;
        if job.state != JobState::Queued {
            return Ok(false);
        }
        let versions = self.check_writes(&writes)?;
        job.cancel_requested |= end.state == JobState::Cancelled;
        self.write_records(writes, &versions)?;
        self.put_end(number, job, end)?;
        Ok(true)
    }

    pub(super) fn purge(&mut self, before: Timestamp) -> Done<u64> {
        let mut old = Vec::new();
        for row in self.tables.ended.range(..(before.as_nanosecond(), 0))? {
            let (key, number) = row?;
            old.push((key.value(), number.value()));
        }
        for (key, number) in &old {
            self.tables.ended.remove(key)?;
            self.tables.order.remove(number)?;
            self.tables.jobs.remove(key.1)?;
        }
        Ok(old.len() as u64)
    }

    /// Checks all preconditions and returns the versions that the records will have.
    fn check_writes(&self, writes: &[Write]) -> Done<Vec<u64>> {
        check_distinct(writes)?;
        let mut versions = Vec::with_capacity(writes.len());
        for write in writes {
            let version = self
                .tables
                .records
                .get((write.kind.as_ref(), write.key.as_str()))?
                .map(|row| row.value().0);
            let holds = match write.expect {
                Expect::Any => true,
                Expect::Absent => version.is_none(),
                Expect::Version(expected) => version == Some(expected),
            };
            if !holds {
                return Err(record_conflict(write.kind, &write.key).into());
            }
            versions.push(match write.value {
                Some(_) => version.unwrap_or(0) + 1,
                None => 0,
            });
        }
        Ok(versions)
    }

    fn write_records(&mut self, writes: Vec<Write>, versions: &[u64]) -> Done<()> {
        for (write, version) in writes.into_iter().zip(versions) {
            let Write { kind, key, value, .. } = write;
            let at = (kind.as_ref(), key.as_str());
            let record = match &value {
                Some(value) => {
                    self.tables.records.insert(at, (*version, value.as_ref()))?;
                    Some(record(kind, &key, (*version, value)))
                }
                None => {
                    self.tables.records.remove(at)?;
                    None
                }
            };
            self.changes.push(Change::Record { kind, key, record });
        }
        Ok(())
    }

    fn held_job(&self, claim: &Claim) -> Done<(u64, Job)> {
        let (number, json) = self.tables.job(claim.job)?.ok_or_else(|| lost_claim(claim))?;
        Ok((number, parse_job(claim.job, &json)?))
    }

    fn put_job(&mut self, number: u64, job: Job) -> Done<()> {
        let json = encode(&job)?;
        self.tables
            .jobs
            .insert(job.id.0.as_u128(), (number, json.as_slice()))?;
        self.changes.push(Change::Job(Box::new(job)));
        Ok(())
    }

    fn put_end(&mut self, number: u64, mut job: Job, end: JobEnd) -> Done<()> {
        job.state = end.state;
        job.error = end.error;
        job.left_behind = end.left_behind;
        job.result = end.result;
        if let Some(command) = end.command {
            job.command = command;
        }
        if end.state == JobState::Succeeded {
            job.progress = 100;
        }
        let ended = Timestamp::now();
        job.ended = Some(ended);
        self.leave(number, job.id, ended)?;
        self.put_job(number, job)
    }

    /// Takes a job out of everything that concerns unfinished ones only.
    fn leave(&mut self, number: u64, id: JobId, ended: Timestamp) -> Done<()> {
        let key = id.0.as_u128();
        self.board.leave(id);
        self.tables.open.remove(number)?;
        self.tables.ended.insert((ended.as_nanosecond(), key), number)?;
        self.tables
            .journal
            .retain_in((key, 0)..=(key, u32::MAX), |_, _| false)?;
        Ok(())
    }

    fn read_claimable(&self, id: JobId, json: &[u8]) -> Done<(Job, Vec<JournalEntry>)> {
        let job = parse_job(id, json)?;
        let key = id.0.as_u128();
        let mut entries = Vec::new();
        for row in self.tables.journal.range((key, 0)..=(key, u32::MAX))? {
            let entry = serde_json::from_slice(row?.1.value())
                .map_err(|error| unreadable(&format!("journal of job {id}"), error))?;
            entries.push(entry);
        }
        Ok((job, entries))
    }
}

/// The board as the file says it is.
pub(super) fn rebuild(tables: &Tables<'_>) -> Done<Board> {
    let last = tables.order.last()?.map(|(number, _)| number.value());
    let mut board = Board::new(last.map_or(1, |last| last + 1));
    for row in tables.open.range(0..)? {
        let (number, key) = row?;
        let id = JobId(Uuid::from_u128(key.value()));
        let Some((_, json)) = tables.job(id)? else {
            tracing::error!(job = %id, "an unfinished job is listed but not stored");
            continue;
        };
        match serde_json::from_slice::<JobHead>(&json) {
            Ok(head) => board.enter(&head, number.value()),
            Err(error) => return Err(unreadable(&format!("job {id}"), error).into()),
        }
    }
    Ok(board)
}

/// Notes in the job that somebody works on it.
fn start(job: &mut Job, claim: &Claim) {
    job.state = JobState::Running;
    job.epoch = claim.epoch;
    job.started.get_or_insert_with(Timestamp::now);
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::internal(format!("a stored value cannot be encoded: {error}")))
}
