//! What the writer keeps in memory: the lines of unfinished jobs, who may be claimed, and leases.
//!
//! All of it but the leases follows from the file and is built from it at open and after a failed write.
//! Leases need no file: only this process can hold one, and it takes them with it when it dies.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::rules::{JobHead, lost_claim};
use super::super::{Claim, WorkerId};
use crate::command::Subject;
use crate::error::Result;
use crate::model::{BackendId, JobId};

struct Holder {
    worker: WorkerId,
    until: Instant,
}

struct Entry {
    number: u64,
    backend: BackendId,
    subjects: Vec<Subject>,
    epoch: u64,
    /// Whether this release can run it; what it cannot run keeps its place in line.
    known: bool,
    holder: Option<Holder>,
}

/// The unfinished jobs.
#[derive(Default)]
pub(super) struct Board {
    jobs: HashMap<JobId, Entry>,
    lines: HashMap<Subject, VecDeque<JobId>>,
    /// First in all their lines and not leased, by number.
    ready: HashMap<BackendId, BTreeSet<(u64, JobId)>>,
    /// Running leases by their end.
    leases: BTreeSet<(Instant, JobId)>,
    named: HashMap<String, Holder>,
    next_number: u64,
}

impl Board {
    /// An empty board whose next job gets `next_number`.
    pub(super) fn new(next_number: u64) -> Self {
        Self {
            next_number,
            ..Self::default()
        }
    }

    /// Keeps the leases of `earlier` whose epochs the file confirms.
    pub(super) fn inherit(&mut self, earlier: Self) {
        for (id, old) in earlier.jobs {
            if let Some(holder) = old.holder
                && self.jobs.get(&id).is_some_and(|entry| entry.epoch == old.epoch)
            {
                self.set_holder(id, holder);
            }
        }
        self.named = earlier.named;
    }

    /// The number for the next job.
    pub(super) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// Puts a job at the end of its lines; numbers must come in rising order.
    pub(super) fn enter(&mut self, head: &JobHead, number: u64) {
        for subject in &head.subjects {
            let line = self.lines.entry(subject.clone()).or_default();
            if line.back() != Some(&head.id) {
                line.push_back(head.id);
            }
        }
        self.jobs.insert(
            head.id,
            Entry {
                number,
                backend: head.backend.clone(),
                subjects: head.subjects.clone(),
                epoch: head.epoch,
                known: head.known_version(),
                holder: None,
            },
        );
        self.make_ready(head.id);
    }

    /// The first job that stands in the way of these subjects.
    pub(super) fn front<'s>(&self, subjects: &'s [Subject]) -> Option<(&'s Subject, JobId)> {
        subjects
            .iter()
            .find_map(|subject| Some((subject, *self.lines.get(subject)?.front()?)))
    }

    /// Whether the job may be claimed now.
    pub(super) fn is_ready(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|entry| {
            self.ready
                .get(&entry.backend)
                .is_some_and(|ready| ready.contains(&(entry.number, id)))
        })
    }

    /// The job that waits longest of those that may be claimed.
    pub(super) fn next(&self, backends: &[BackendId]) -> Option<JobId> {
        backends
            .iter()
            .filter_map(|backend| self.ready.get(backend)?.first())
            .min()
            .map(|(_, id)| *id)
    }

    /// Claims a job for `worker`.
    pub(super) fn hold(&mut self, id: JobId, worker: &WorkerId, lease: Duration) -> Option<Claim> {
        let entry = self.jobs.get_mut(&id)?;
        entry.epoch += 1;
        let epoch = entry.epoch;
        self.set_holder(
            id,
            Holder {
                worker: worker.clone(),
                until: Instant::now() + lease,
            },
        );
        Some(Claim {
            job: id,
            epoch,
            worker: worker.clone(),
        })
    }

    /// Whether the claim is the latest of its job.
    pub(super) fn check(&self, claim: &Claim) -> Result<()> {
        let valid = self.jobs.get(&claim.job).is_some_and(|entry| {
            entry.epoch == claim.epoch
                && entry
                    .holder
                    .as_ref()
                    .is_some_and(|holder| holder.worker == claim.worker)
        });
        if valid { Ok(()) } else { Err(lost_claim(claim)) }
    }

    /// Extends a lease, also one that has run out while nobody else claimed the job.
    pub(super) fn renew(&mut self, claim: &Claim, lease: Duration) -> Result<()> {
        self.check(claim)?;
        self.set_holder(
            claim.job,
            Holder {
                worker: claim.worker.clone(),
                until: Instant::now() + lease,
            },
        );
        Ok(())
    }

    /// Makes a claim's job claimable again at once, because the claim did not reach its worker.
    pub(super) fn release(&mut self, claim: &Claim) {
        if self.check(claim).is_ok() {
            self.clear_holder(claim.job);
            self.make_ready(claim.job);
        }
    }

    /// Makes the jobs claimable whose leases have run out. The holder stays named: until somebody claims the
    /// job, its work is still valid.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((until, id)) = self.leases.first().copied() {
            if until > now {
                break;
            }
            self.leases.pop_first();
            self.make_ready(id);
        }
    }

    /// When the next lease runs out.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.leases.first().map(|(until, _)| *until)
    }

    /// Takes a job out of all lines and makes the next ones ready.
    pub(super) fn leave(&mut self, id: JobId) {
        self.clear_holder(id);
        let Some(entry) = self.jobs.remove(&id) else {
            return;
        };
        if let Some(ready) = self.ready.get_mut(&entry.backend) {
            ready.remove(&(entry.number, id));
        }
        for subject in &entry.subjects {
            let Some(line) = self.lines.get_mut(subject) else {
                continue;
            };
            line.retain(|other| *other != id);
            match line.front().copied() {
                Some(front) => self.make_ready(front),
                None => {
                    self.lines.remove(subject);
                }
            }
        }
    }

    /// Leaves a job in its place but hands it to nobody.
    pub(super) fn set_unknown(&mut self, id: JobId) {
        if let Some(entry) = self.jobs.get_mut(&id) {
            entry.known = false;
            if let Some(ready) = self.ready.get_mut(&entry.backend) {
                ready.remove(&(entry.number, id));
            }
        }
    }

    /// Takes or extends a named lease.
    pub(super) fn lease(&mut self, name: &str, holder: &WorkerId, ttl: Duration) -> bool {
        let now = Instant::now();
        let taken = self
            .named
            .get(name)
            .is_some_and(|lease| lease.worker != *holder && lease.until > now);
        if !taken {
            self.named.insert(
                name.to_owned(),
                Holder {
                    worker: holder.clone(),
                    until: now + ttl,
                },
            );
        }
        !taken
    }

    fn make_ready(&mut self, id: JobId) {
        let Some(entry) = self.jobs.get(&id) else {
            return;
        };
        let leased = entry
            .holder
            .as_ref()
            .is_some_and(|holder| self.leases.contains(&(holder.until, id)));
        let first = entry
            .subjects
            .iter()
            .all(|subject| self.lines.get(subject).and_then(VecDeque::front) == Some(&id));
        if entry.known && !leased && first {
            self.ready
                .entry(entry.backend.clone())
                .or_default()
                .insert((entry.number, id));
        }
    }

    fn set_holder(&mut self, id: JobId, holder: Holder) {
        self.clear_holder(id);
        if let Some(entry) = self.jobs.get_mut(&id) {
            if let Some(ready) = self.ready.get_mut(&entry.backend) {
                ready.remove(&(entry.number, id));
            }
            self.leases.insert((holder.until, id));
            entry.holder = Some(holder);
        }
    }

    fn clear_holder(&mut self, id: JobId) {
        if let Some(holder) = self.jobs.get_mut(&id).and_then(|entry| entry.holder.take()) {
            self.leases.remove(&(holder.until, id));
        }
    }
}
