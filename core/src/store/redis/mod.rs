//! The store on a Redis server, shared by many gateways.
//!
//! Whatever must be atomic is one Lua script (`lua/`). A gateway that dies leaves its stream entries pending;
//! another takes them over with XAUTOCLAIM when the lease ends.
//!
//! # Keys, format 1
//!
//! All begin with the configured prefix, `bv:1:` by default; the number in it is the format, so that an
//! incompatible one can live beside it.
//!
//! | key | type | content |
//! |---|---|---|
//! | `meta` | hash | `format`: another one is refused |
//! | `rec:<kind>` | hash | key → `version:JSON` |
//! | `counters` | hash | name → last number handed out |
//! | `job:<id>` | hash | `body` and `command` as JSON; `queue`, `subjects` (by line); what changes: `state epoch worker started ended progress cancel_requested error left_behind result`; while unfinished its place in a stream: `stream entry` |
//! | `number` | integer | jobs submitted so far |
//! | `jobs`, `open` | sorted set | all jobs, unfinished jobs, by submission number |
//! | `ended` | sorted set | ended jobs by their end in µs since 1970: what a purge walks |
//! | `journal:<id>` | list | JSON of the entries; erased when the job ends |
//! | `line:<subject>` | list | unfinished jobs on the subject, first come first |
//! | `ready:<backend>:<version>` | stream, group `gateways` | jobs that may be claimed |
//! | `direct:<backend>:<version>` | stream, group `gateways` | jobs that their submitter claimed at once; never read by `>`: an entry becomes pending by XCLAIM FORCE, so that it is recovered like any other |
//! | `bell:<backend>:<version>` | list, at most 64 | a token per job that became ready: BLPOP wakes one gateway. Only a hint: what counts is the stream |
//! | `sweep:<backend>:<version>` | string, 100 ms | somebody looked for dead workers' jobs just now |
//! | `lease:<name>` | string with expiry | holder of a named lease |
//! | `event`, `changes` | integer, stream of about 65,536 | what changed: `kind` (a record kind or `job`) and `key`; ids count up by one, so that a reader notices what was trimmed |
//!
//! The version in a queue's name is the command version: a release reads the queues that it understands, and
//! leaves the others to newer ones.
//!
//! **Lease.** A pending entry's idle time is set at claim and renewal (`XCLAIM … IDLE`) such that it reaches
//! one day exactly when the lease ends. So no lease needs a clock of its own, clocks of gateways do not
//! matter, and one constant XAUTOCLAIM threshold is right for leases of any length (up to a day). The entry is
//! read inside the claim script (XREADGROUP without BLOCK), because a gateway that died between a blocking
//! read and the claim would leave an entry whose idle time means nothing; hence the bell.
//!
//! A removed record begins again at version 1 when it is written anew.

mod claims;
mod codec;
mod link;
mod scripts;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::ScriptInvocation;
use tokio::sync::mpsc;

use self::claims::Claims;
use self::codec::{Answer, Fields, encode, join_job, push_writes, queue, record, split_job};
use self::link::{Again, Link};
use self::scripts::Scripts;
use self::watch::Watch;
use super::feed::Feed;
use super::rules::{busy, check_distinct, lost_claim, record_conflict, unavailable, unreadable};
use super::{
    Admission, Change, Claim, Claimed, JobEnd, JobFilter, JournalEntry, Record, RecordKind, Store, Submitted,
    WorkerId, Write,
};
use crate::command::{COMMAND_VERSION, WhenBusy};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BackendId, Job, JobId, JobState, Timestamp};

/// The default key prefix.
pub const DEFAULT_PREFIX: &str = "bv:1:";

/// How soon a healthy server answers.
const HEALTH: Duration = Duration::from_secs(2);
/// Jobs fetched in one round trip.
const PAGE: usize = 500;
/// Jobs purged in one script.
const PURGE: u64 = 500;

/// The store on a Redis server. Dropping it ends its background task.
pub struct RedisStore {
    link: Link,
    prefix: String,
    scripts: Scripts,
    feed: Arc<Feed>,
    watch: tokio::task::JoinHandle<()>,
    claims: Claims,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisStore({})", self.prefix)
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl RedisStore {
    /// Connects to `redis://[user:password@]host[:port][/database]` and keeps all keys under `prefix`
    /// ([`DEFAULT_PREFIX`]). Needs Redis 6.2; warns when it would forget its data.
    ///
    /// # Errors
    /// `InvalidInput` (field `store.url`) for an address that cannot be used, a cluster, an old version or an
    /// evicting `maxmemory-policy`; `BackendUnavailable` if the server cannot be reached; `Internal` for keys
    /// of another format.
    pub async fn connect(url: &str, prefix: &str) -> Result<Self> {
        let link = Link::open(url, prefix).await?;
        let feed = Arc::new(Feed::default());
        let watch = Watch::begin(link.clone(), prefix.to_owned(), Arc::clone(&feed)).await?;
        Ok(Self {
            link,
            prefix: prefix.to_owned(),
            scripts: Scripts::new(),
            feed,
            watch: tokio::spawn(watch.run()),
            claims: Claims::default(),
        })
    }

    fn key(&self, name: impl std::fmt::Display) -> String {
        format!("{}{name}", self.prefix)
    }

    fn invoke<'s>(&self, script: &'s redis::Script) -> ScriptInvocation<'s> {
        script.arg(self.prefix.as_str())
    }

    async fn run(&self, invocation: &ScriptInvocation<'_>, again: Again) -> Result<Answer> {
        Answer::read(self.link.script(invocation, again).await?)
    }

    /// Runs a script on behalf of a claim.
    async fn run_for(&self, claim: &Claim, invocation: &ScriptInvocation<'_>) -> Result<()> {
        let mut answer = self.run(invocation, Again::Harmless).await?;
        match answer.word.as_str() {
            "ok" => Ok(()),
            "lost" => Err(lost_claim(claim)),
            "conflict" => Err(conflict(&mut answer)?),
            _ => Err(answer.unexpected()),
        }
    }

    fn invoke_for<'s>(&self, script: &'s redis::Script, claim: &Claim) -> ScriptInvocation<'s> {
        let mut invocation = self.invoke(script);
        invocation
            .arg(claim.job.to_string())
            .arg(claim.epoch)
            .arg(&claim.worker.0);
        invocation
    }

    /// What a submit stored whose answer was lost: known by its worker and the very time of submission.
    async fn stored_by_lost_call(
        &self,
        job: &Job,
        claim_for: Option<&(WorkerId, Duration)>,
    ) -> Result<Option<Submitted>> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("HGETALL")
            .arg(self.key(format_args!("job:{}", job.id)));
        let (fields,): (Fields,) = self.link.query(&pipeline).await?;
        let stored = join_job(job.id, &fields)?.filter(|stored| stored.submitted == job.submitted);
        Ok(match (stored, claim_for) {
            (Some(stored), _) if stored.state == JobState::Queued => Some(Submitted::Queued),
            (Some(stored), Some((worker, _)))
                if stored.state == JobState::Running
                    && stored.epoch == 1
                    && fields.get("worker") == Some(&worker.0) =>
            {
                Some(Submitted::Claimed(Claim {
                    job: job.id,
                    epoch: stored.epoch,
                    worker: worker.clone(),
                }))
            }
            _ => None,
        })
    }

    async fn fetch(&self, ids: &[String]) -> Result<Vec<Job>> {
        let mut jobs = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            let mut pipeline = redis::pipe();
            for id in page {
                pipeline.cmd("HGETALL").arg(self.key(format_args!("job:{id}")));
            }
            let hashes: Vec<Fields> = self.link.query(&pipeline).await?;
            for (id, fields) in page.iter().zip(hashes) {
                match join_job(parse_id(id)?, &fields) {
                    Ok(job) => jobs.extend(job),
                    // Its fields cannot be shown, and it must not hide the others.
                    Err(_) => tracing::warn!(job = id, "left out of a list: stored by a newer release"),
                }
            }
        }
        Ok(jobs)
    }
}

fn conflict(answer: &mut Answer) -> Result<Error> {
    let kind: String = answer.next()?;
    let key: String = answer.next()?;
    match kind.parse() {
        Ok(kind) => Ok(record_conflict(kind, &key)),
        Err(_) => Err(answer.unexpected()),
    }
}

fn parse_id(text: &str) -> Result<JobId> {
    text.parse().map_err(|_| unreadable("job id", text))
}

/// Whole milliseconds, at least one.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[async_trait]
impl Store for RedisStore {
    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("HGETALL")
            .arg(self.key(format_args!("rec:{}", kind.as_ref())));
        let (rows,): (HashMap<String, Vec<u8>>,) = self.link.query(&pipeline).await?;
        rows.iter()
            .map(|(key, stored)| record(kind, key, stored))
            .collect()
    }

    async fn get(&self, kind: RecordKind, key: &str) -> Result<Option<Record>> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("HGET")
            .arg(self.key(format_args!("rec:{}", kind.as_ref())))
            .arg(key);
        let (stored,): (Option<Vec<u8>>,) = self.link.query(&pipeline).await?;
        stored.map(|stored| record(kind, key, &stored)).transpose()
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>> {
        check_distinct(&writes)?;
        let mut invocation = self.invoke(&self.scripts.commit);
        push_writes(&mut invocation, &writes);
        let mut answer = self.run(&invocation, Again::Never).await?;
        match answer.word.as_str() {
            "ok" => answer.next(),
            "conflict" => Err(conflict(&mut answer)?),
            _ => Err(answer.unexpected()),
        }
    }

    async fn allocate(&self, counter: &str, count: u64) -> Result<u64> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("HINCRBY")
            .arg(self.key("counters"))
            .arg(counter)
            .arg(count);
        // Asked twice, some numbers are skipped: they must be unique, not dense.
        let (last,): (u64,) = self.link.query(&pipeline).await?;
        Ok(last.saturating_sub(count) + 1)
    }

    async fn submit(&self, job: &Job, writes: Vec<Write>, admission: Admission) -> Result<Submitted> {
        check_distinct(&writes)?;
        let (body, command) = split_job(job)?;
        let mut subjects: Vec<&str> = job.subjects.iter().map(|subject| subject.as_str()).collect();
        subjects.dedup();
        let claim_for = admission
            .claim_for
            .filter(|_| job.command_version <= COMMAND_VERSION);
        let (worker, lease) = match &claim_for {
            Some((worker, lease)) => (worker.0.as_str(), millis(*lease)),
            None => ("", 0),
        };
        let mut invocation = self.invoke(&self.scripts.submit);
        invocation
            .arg(job.id.to_string())
            .arg(body)
            .arg(command)
            .arg(queue(&job.backend, job.command_version))
            .arg(subjects.join("\n"))
            .arg(u8::from(admission.when_busy == WhenBusy::Refuse))
            .arg(worker)
            .arg(lease)
            .arg(Timestamp::now().to_string());
        push_writes(&mut invocation, &writes);
        let mut answer = match self.run(&invocation, Again::Never).await {
            Err(error) if error.kind == ErrorKind::BackendUnavailable => {
                let answer = self.run(&invocation, Again::Harmless).await?;
                if answer.word == "known"
                    && let Some(submitted) = self.stored_by_lost_call(job, claim_for.as_ref()).await?
                {
                    return Ok(submitted);
                }
                answer
            }
            other => other?,
        };
        match answer.word.as_str() {
            "queued" => Ok(Submitted::Queued),
            "claimed" => match claim_for {
                Some((worker, _)) => Ok(Submitted::Claimed(Claim {
                    job: job.id,
                    epoch: answer.next()?,
                    worker,
                })),
                None => Err(answer.unexpected()),
            },
            "known" => match self.job(job.id).await? {
                Some(known) => Ok(Submitted::Known(Box::new(known))),
                None => Err(unavailable(format!(
                    "job {} was purged while it was looked up; retry",
                    job.id
                ))),
            },
            "busy" => {
                let subject: String = answer.next()?;
                Err(busy(&subject, answer.next::<String>()?))
            }
            "conflict" => Err(conflict(&mut answer)?),
            _ => Err(answer.unexpected()),
        }
    }

    async fn claim(
        &self,
        worker: &WorkerId,
        backends: &[BackendId],
        lease: Duration,
        wait: Duration,
    ) -> Result<Option<Claimed>> {
        self.claim_within(worker, backends, lease, wait).await
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<()> {
        let mut invocation = self.invoke_for(&self.scripts.renew, claim);
        invocation.arg(millis(lease));
        self.run_for(claim, &invocation).await
    }

    async fn journal(&self, claim: &Claim, entry: &JournalEntry) -> Result<()> {
        let mut invocation = self.invoke_for(&self.scripts.journal, claim);
        invocation.arg(encode(entry)?);
        self.run_for(claim, &invocation).await
    }

    async fn progress(&self, claim: &Claim, percent: u8) -> Result<()> {
        let mut invocation = self.invoke_for(&self.scripts.progress, claim);
        invocation.arg(percent.min(100));
        self.run_for(claim, &invocation).await
    }

    async fn finish(&self, claim: &Claim, end: &JobEnd, writes: Vec<Write>) -> Result<()> {
        check_distinct(&writes)?;
        if !end.state.ended() {
            return Err(Error::internal(format!(
                "job {} cannot end as {:?}",
                claim.job, end.state
            )));
        }
        let ended = Timestamp::now();
        let mut invocation = self.invoke_for(&self.scripts.finish, claim);
        invocation
            .arg(end.state.as_ref())
            .arg(end.error.as_ref().map(encode).transpose()?.unwrap_or_default())
            .arg(encode(&end.left_behind)?)
            .arg(end.command.as_ref().map(encode).transpose()?.unwrap_or_default())
            .arg(end.result.as_ref().map(encode).transpose()?.unwrap_or_default())
            .arg(ended.to_string())
            .arg(ended.as_microsecond());
        push_writes(&mut invocation, &writes);
        self.run_for(claim, &invocation).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(self.key(format_args!("job:{id}")));
        let (fields,): (Fields,) = self.link.query(&pipeline).await?;
        join_job(id, &fields)
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        let last = i64::try_from(filter.limit).unwrap_or(0) - 1;
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("ZREVRANGE")
            .arg(self.key(if filter.unfinished { "open" } else { "jobs" }))
            .arg(0)
            .arg(last);
        let (ids,): (Vec<String>,) = self.link.query(&pipeline).await?;
        let mut jobs = self.fetch(&ids).await?;
        // Between the list and the jobs some may have ended.
        jobs.retain(|job| !filter.unfinished || matches!(job.state, JobState::Queued | JobState::Running));
        Ok(jobs)
    }

    async fn cancel(&self, id: JobId) -> Result<()> {
        let now = Timestamp::now();
        let mut invocation = self.invoke(&self.scripts.cancel);
        invocation
            .arg(id.to_string())
            .arg(now.to_string())
            .arg(now.as_microsecond());
        let answer = self.run(&invocation, Again::Harmless).await?;
        match answer.word.as_str() {
            "ok" => Ok(()),
            "missing" => Err(Error::not_found(JobId::NOUN, id)),
            _ => Err(answer.unexpected()),
        }
    }

    async fn end_queued(&self, id: JobId, end: &JobEnd, writes: Vec<Write>) -> Result<bool> {
        check_distinct(&writes)?;
        if !end.state.ended() {
            return Err(Error::internal(format!("job {id} cannot end as {:?}", end.state)));
        }
        let ended = Timestamp::now();
        let mut invocation = self.invoke(&self.scripts.end_queued);
        invocation
            .arg(id.to_string())
            .arg(end.state.as_ref())
            .arg(end.error.as_ref().map(encode).transpose()?.unwrap_or_default())
            .arg(encode(&end.left_behind)?)
            .arg(end.command.as_ref().map(encode).transpose()?.unwrap_or_default())
            .arg(end.result.as_ref().map(encode).transpose()?.unwrap_or_default())
            .arg(ended.to_string())
            .arg(ended.as_microsecond());
        push_writes(&mut invocation, &writes);
        let mut answer = self.run(&invocation, Again::Harmless).await?;
        match answer.word.as_str() {
            "ended" => Ok(true),
            "other" => Ok(false),
            "missing" => Err(Error::not_found(JobId::NOUN, id)),
            "conflict" => Err(conflict(&mut answer)?),
            _ => Err(answer.unexpected()),
        }
    }

    async fn purge(&self, before: Timestamp) -> Result<u64> {
        let mut total = 0;
        loop {
            let mut invocation = self.invoke(&self.scripts.purge);
            invocation.arg(before.as_microsecond()).arg(PURGE);
            let gone: u64 = self.run(&invocation, Again::Harmless).await?.next()?;
            total += gone;
            if gone < PURGE {
                break;
            }
        }
        self.tidy().await?;
        Ok(total)
    }

    async fn lease(&self, name: &str, holder: &WorkerId, ttl: Duration) -> Result<bool> {
        let mut invocation = self.invoke(&self.scripts.lease);
        invocation.arg(name).arg(&holder.0).arg(millis(ttl));
        let taken: u8 = self.run(&invocation, Again::Harmless).await?.next()?;
        Ok(taken == 1)
    }

    async fn changes(&self) -> Result<mpsc::Receiver<Change>> {
        Ok(self.feed.subscribe())
    }

    async fn health(&self) -> Result<String> {
        let info = tokio::time::timeout(HEALTH, self.link.info("server"))
            .await
            .map_err(|_| unavailable(format!("redis did not answer within {HEALTH:?}")))??;
        let version: Option<String> = info.get("redis_version");
        Ok(format!("redis {}", version.unwrap_or_default()))
    }
}
