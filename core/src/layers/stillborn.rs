//! Calls that are polled like jobs and are none. Some dialects answer every asynchronous call with "accepted",
//! also one that is bad or has no session (stillborn: it fails the poll), and one that changes only the registry
//! and is done at once. Their ends are records of their own, with a time to live: the engine never sees them.
//!
//! Stillborn calls cost their sender nothing, so they are counted against its address: the oldest make room.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::{Core, SubmitOptions, authorise};
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::jobs::{delivery_of_call, job_id_taken};
use crate::model::{
    Caller, EndedCall, Hook, Job, JobId, MOST_NOTE, MOST_RESULT, Polled, Timestamp, check_size,
};
use crate::query;
use crate::store::{Expect, Record, RecordKind, Store, Write};

/// How long a stillborn call is remembered.
const STILLBORN: Duration = Duration::from_secs(600);
/// How long the end of a call that was done at once is remembered: as long as ZStack keeps finished jobs.
const DONE: Duration = Duration::from_secs(3 * 3600);
/// Most stillborn calls that one address has at a time on one gateway.
pub const MOST_PER_SOURCE: usize = 100;
/// Most stillborn calls on one gateway.
pub const MOST_STILLBORN: usize = 10_000;
/// How many records one transaction removes.
const REMOVED_AT_ONCE: usize = 500;

/// Where a call that could not be accepted came from.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    /// The peer's address.
    pub source: IpAddr,
    /// Who asked; none while nobody has signed in.
    pub caller: Option<&'a Caller>,
    /// The dialect's name.
    pub dialect: &'static str,
    /// The operation's id.
    pub operation: &'a str,
}

impl Core {
    /// The digest of a request for [`SubmitOptions::digest`]: the same for the same account, operation and body,
    /// whatever the order of the body's members. It is made under the gateway's key, because bodies hold passwords.
    pub fn digest(&self, caller: &Caller, operation: &str, body: &Value) -> String {
        let who = match &caller.account {
            Some(account) => format!("account {account}"),
            None => format!("tenant {}", caller.tenant),
        };
        let text = format!("{}\n{who}\n{operation}\n{}", caller.dialect, sorted(body));
        self.keyring.fingerprint(&text)
    }

    /// What this request made before, if the client chose its id: the VM may meanwhile be in a state, or gone, as a
    /// result of it. To be asked before anything else is judged, with a digest.
    ///
    /// # Errors
    /// `Conflict` if the id belongs to another request or caller.
    pub async fn known(&self, caller: &Caller, options: &SubmitOptions) -> Result<Option<Polled>> {
        self.known_as(caller, None, options).await
    }

    /// As [`Core::known`] for a change that only a job can make.
    pub(super) async fn known_job(
        &self,
        caller: &Caller,
        command: Option<&Command>,
        options: &SubmitOptions,
    ) -> Result<Option<Job>> {
        match self.known_as(caller, command, options).await? {
            Some(Polled::Job(job)) => Ok(Some(*job)),
            Some(Polled::Call(call)) => Err(job_id_taken(call.id)),
            None => Ok(None),
        }
    }

    async fn known_as(
        &self,
        caller: &Caller,
        command: Option<&Command>,
        options: &SubmitOptions,
    ) -> Result<Option<Polled>> {
        let Some(id) = options.job else { return Ok(None) };
        let digest = options.digest.as_deref();
        let store = self.registry.store();
        if let Some(job) = store.job(id).await? {
            let same = job.is_same_request(&caller.tenant, digest, command);
            return same
                .then(|| Some(Polled::Job(Box::new(job))))
                .ok_or_else(|| job_id_taken(id));
        }
        match stored_call(store.as_ref(), id).await? {
            // Whoever had not signed in took nobody's id.
            Some((call, _)) if call.tenant.is_some() => {
                let same = is_same_call(&call, caller, digest);
                same.then(|| Some(Polled::Call(Box::new(call))))
                    .ok_or_else(|| job_id_taken(id))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Refuses a web hook that would not be posted.
    ///
    /// # Errors
    /// `InvalidInput` (field `hook`) with the reason: an address that is no URL, that the site does not allow, or
    /// that cannot be reached by https here.
    pub async fn check_hook(&self, hook: &Hook) -> Result<()> {
        self.engine.outbound().check_hook(hook).await
    }

    /// Remembers a call that could not be accepted, for a dialect that says so at the poll only. Returns the id to
    /// poll, which is `options.job` where the client chose one.
    ///
    /// # Errors
    /// `Conflict` if the id belongs to another request; those of the store.
    pub async fn stillborn(
        &self,
        origin: &Origin<'_>,
        error: Error,
        options: SubmitOptions,
    ) -> Result<JobId> {
        let id = options.job.unwrap_or_else(JobId::random);
        if let Some(job) = self.registry.store().job(id).await? {
            // Of the same request twice at the same moment, one comes too late: its job is the other's.
            let digest = options.digest.as_deref();
            let same = origin
                .caller
                .is_some_and(|caller| job.is_same_request(&caller.tenant, digest, None));
            return same.then_some(id).ok_or_else(|| job_id_taken(id));
        }
        let source = share_of(origin.source);
        let mut call = self
            .ended(id, origin.dialect, origin.operation, options, STILLBORN)
            .await?;
        call.tenant = origin.caller.map(|caller| caller.tenant.clone());
        call.error = Some(error);
        call.source = Some(source.clone());
        let shares = self.stillborn.of(self.registry.store().as_ref()).await?;
        let gone = shares.enter(&source, id);
        let removals = gone.into_iter().map(|old| call_write(old, Expect::Any, None));
        match self.remember(&call, Expect::Absent, removals.collect()).await {
            Err(error) if error.kind == ErrorKind::Conflict => self.meets(call, origin.caller).await,
            outcome => outcome.map(|()| id),
        }
    }

    /// Another call is remembered under the id of `call`.
    async fn meets(&self, call: EndedCall, caller: Option<&Caller>) -> Result<JobId> {
        let id = call.id;
        match (stored_call(self.registry.store().as_ref(), id).await?, caller) {
            (Some((old, version)), Some(_)) if old.tenant.is_none() => {
                let outcome = self.remember(&call, Expect::Version(version), Vec::new()).await;
                outcome.map(|()| id)
            }
            (Some((old, _)), Some(caller)) if is_same_call(&old, caller, call.digest.as_deref()) => Ok(id),
            (Some((old, _)), None) if old.tenant.is_none() => Ok(id),
            (Some(_) | None, _) => Err(job_id_taken(id)),
        }
    }

    /// Remembers the end of a call that was done at once, or failed at once, to be polled like a job's. The same
    /// request a second time is answered with what the first one got.
    ///
    /// # Errors
    /// `Forbidden`; `Conflict` if the client chose an id that belongs to another request; `Internal` for a result of
    /// more than [`MOST_RESULT`] bytes; those of the store.
    pub async fn done(
        &self,
        caller: &Caller,
        outcome: Result<Value>,
        options: SubmitOptions,
    ) -> Result<EndedCall> {
        authorise::may_change(caller)?;
        let id = options.job.unwrap_or_else(JobId::random);
        let store = self.registry.store();
        if options.job.is_some() && store.job(id).await?.is_some() {
            return Err(job_id_taken(id));
        }
        let mut call = self
            .ended(id, caller.dialect, &caller.operation, options, DONE)
            .await?;
        call.tenant = Some(caller.tenant.clone());
        match outcome {
            Ok(result) => {
                check_size("the call's result", &result, MOST_RESULT)?;
                call.result = Some(result);
            }
            Err(error) => call.error = Some(error),
        }
        match self.remember(&call, Expect::Absent, Vec::new()).await {
            Err(error) if error.kind == ErrorKind::Conflict => {}
            outcome => return outcome.map(|()| call),
        }
        match stored_call(store.as_ref(), id).await? {
            Some((old, version)) if old.tenant.is_none() => {
                self.stillborn.forget(id);
                self.remember(&call, Expect::Version(version), Vec::new()).await?;
                Ok(call)
            }
            Some((old, _)) if is_same_call(&old, caller, call.digest.as_deref()) => Ok(old),
            Some(_) | None => Err(job_id_taken(id)),
        }
    }

    /// A call that ended now, as far as its request says.
    async fn ended(
        &self,
        id: JobId,
        dialect: &str,
        operation: &str,
        options: SubmitOptions,
        keep: Duration,
    ) -> Result<EndedCall> {
        let SubmitOptions {
            digest, hook, note, ..
        } = options;
        if let Some(note) = &note {
            check_size("the call's note", note, MOST_NOTE)?;
        }
        let hook = match hook {
            None => None,
            Some(hook) => match self.check_hook(&hook).await {
                Ok(()) => Some(hook),
                Err(error) => {
                    // What was to be reported has happened already.
                    tracing::info!(job = %id, %error, "a web hook is not called");
                    None
                }
            },
        };
        let created = Timestamp::now();
        let expires = created
            .checked_add(keep)
            .map_err(|_| Error::internal("the end of the call's time is beyond the calendar"))?;
        Ok(EndedCall {
            id,
            tenant: None,
            dialect: dialect.to_owned(),
            operation: operation.to_owned(),
            result: None,
            error: None,
            digest,
            hook,
            note,
            created,
            expires,
            source: None,
        })
    }

    /// Stores a call with its web hook.
    async fn remember(&self, call: &EndedCall, expect: Expect, mut writes: Vec<Write>) -> Result<()> {
        let value = serde_json::to_vec(call)
            .map_err(|error| Error::internal(format!("an ended call cannot be encoded: {error}")))?;
        writes.retain(|write| write.key != call.id.simple());
        writes.push(call_write(call.id, expect, Some(value)));
        writes.extend(delivery_of_call(call)?);
        self.registry.store().commit(writes).await.map(|_| ())
    }

    /// What is known under an id that somebody polls: a job or a call of its tenant, or one of somebody who had not
    /// signed in. Whoever sees an end here finds what it changed in [`Core::now`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn poll(&self, caller: Option<&Caller>, id: JobId) -> Result<Option<Polled>> {
        let sees = |tenant: &crate::model::TenantId| {
            caller.is_some_and(|caller| query::scope(caller).is_none_or(|own| own == tenant))
        };
        let store = self.registry.store();
        if let Some(job) = store.job(id).await?.filter(|job| sees(&job.tenant)) {
            let job = self.engine.caught_up(job).await?;
            return Ok(Some(Polled::Job(Box::new(job))));
        }
        let call = stored_call(store.as_ref(), id).await?.map(|(call, _)| call);
        let now = Timestamp::now();
        let call = call.filter(|call| call.expires > now && call.tenant.as_ref().is_none_or(sees));
        Ok(call.map(|call| Polled::Call(Box::new(call))))
    }
}

/// Forgets calls whose time is over, until dropped. One gateway does it at a time.
pub async fn forget_calls(core: Arc<Core>, every: Duration) {
    let mut tick = tokio::time::interval(every);
    loop {
        tick.tick().await;
        let store = core.registry.store();
        let done = match store.lease("ended-calls", core.engine.worker(), every * 3).await {
            Ok(true) => forget_calls_at(store.as_ref(), Timestamp::now())
                .await
                .map(|_| ()),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "ends of calls could not be forgotten");
        }
    }
}

/// Removes the calls that expired before `now`; returns how many.
pub(crate) async fn forget_calls_at(store: &dyn Store, now: Timestamp) -> Result<usize> {
    let mut old = Vec::new();
    for record in store.load(RecordKind::EndedCall).await? {
        if decode(&record)?.expires <= now {
            old.push(Write {
                kind: RecordKind::EndedCall,
                key: record.key,
                // Somebody may have removed it to make room.
                expect: Expect::Any,
                value: None,
            });
        }
    }
    for some in old.chunks(REMOVED_AT_ONCE) {
        store.commit(some.to_vec()).await?;
    }
    Ok(old.len())
}

/// A stored call with its record's version.
pub(crate) async fn stored_call(store: &dyn Store, id: JobId) -> Result<Option<(EndedCall, u64)>> {
    let record = store.get(RecordKind::EndedCall, &id.simple()).await?;
    record
        .map(|record| Ok((decode(&record)?, record.version)))
        .transpose()
}

fn decode(record: &Record) -> Result<EndedCall> {
    serde_json::from_slice(&record.value).map_err(|error| {
        Error::internal(format!(
            "the stored call {} cannot be read by this release: {error}",
            record.key
        ))
    })
}

fn call_write(id: JobId, expect: Expect, value: Option<Vec<u8>>) -> Write {
    Write {
        kind: RecordKind::EndedCall,
        key: id.simple(),
        expect,
        value: value.map(Into::into),
    }
}

fn is_same_call(call: &EndedCall, caller: &Caller, digest: Option<&str>) -> bool {
    call.tenant.as_ref() == Some(&caller.tenant) && call.digest.as_deref() == digest
}

/// JSON with the members of all objects in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&String, &Value)> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members = members
                .into_iter()
                .map(|(name, value)| (name.clone(), sorted(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Against what an address counts: itself, or the /64 that one IPv6 subscriber has.
fn share_of(source: IpAddr) -> String {
    match source.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// The stillborn calls that this gateway knows of, oldest first, by source.
#[derive(Debug, Default)]
pub(super) struct Shares {
    calls: Mutex<Ledger>,
    loaded: OnceCell<()>,
}

/// Every call has a number, in the order in which they came.
#[derive(Debug, Default)]
struct Ledger {
    next: u64,
    calls: BTreeMap<u64, (String, JobId)>,
    by_source: HashMap<String, VecDeque<u64>>,
}

impl Shares {
    /// The shares, filled from the store at first: a restart gives nobody a second share.
    async fn of(&self, store: &dyn Store) -> Result<&Self> {
        let load = async || -> Result<()> {
            let mut old = Vec::new();
            for record in store.load(RecordKind::EndedCall).await? {
                let call = decode(&record)?;
                old.extend(call.source.map(|source| (call.created, source, call.id)));
            }
            old.sort();
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, source, id) in old {
                calls.enter(&source, id, usize::MAX, usize::MAX);
            }
            Ok(())
        };
        self.loaded.get_or_try_init(load).await?;
        Ok(self)
    }

    /// Counts one more call of `source`; returns those that make room.
    fn enter(&self, source: &str, id: JobId) -> Vec<JobId> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.enter(source, id, MOST_PER_SOURCE, MOST_STILLBORN)
    }

    fn forget(&self, id: JobId) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.forget(id);
    }
}

impl Ledger {
    fn enter(&mut self, source: &str, id: JobId, most_of_source: usize, most: usize) -> Vec<JobId> {
        let mut gone = Vec::new();
        let number = self.next;
        self.next += 1;
        self.calls.insert(number, (source.to_owned(), id));
        let own = self.by_source.entry(source.to_owned()).or_default();
        own.push_back(number);
        while own.len() > most_of_source
            && let Some(oldest) = own.pop_front()
        {
            gone.extend(self.calls.remove(&oldest).map(|(_, id)| id));
        }
        while self.calls.len() > most
            && let Some((&oldest, _)) = self.calls.first_key_value()
        {
            gone.extend(self.remove(oldest));
        }
        gone
    }

    fn forget(&mut self, id: JobId) {
        let found = self.calls.iter().find(|(_, (_, other))| *other == id);
        if let Some((&number, _)) = found {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) -> Option<JobId> {
        let (source, id) = self.calls.remove(&number)?;
        if let Some(own) = self.by_source.get_mut(&source) {
            own.retain(|other| *other != number);
            if own.is_empty() {
                self.by_source.remove(&source);
            }
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_source_that_has_its_share_loses_its_own_oldest() {
        let mut ledger = Ledger::default();
        let ids: Vec<JobId> = (0..4).map(|_| JobId::random()).collect();
        assert!(ledger.enter("a", ids[0], 2, 9).is_empty());
        assert!(ledger.enter("b", ids[1], 2, 9).is_empty());
        assert!(ledger.enter("a", ids[2], 2, 9).is_empty());
        assert_eq!(ledger.enter("a", ids[3], 2, 9), [ids[0]]);
    }

    #[test]
    fn many_sources_together_lose_the_oldest_of_all() {
        let mut ledger = Ledger::default();
        let ids: Vec<JobId> = (0..4).map(|_| JobId::random()).collect();
        for (source, id) in ["a", "b", "c"].iter().zip(&ids) {
            assert!(ledger.enter(source, *id, 9, 3).is_empty());
        }
        assert_eq!(ledger.enter("d", ids[3], 9, 3), [ids[0]]);
        assert!(!ledger.by_source.contains_key("a"));
        ledger.forget(ids[2]);
        assert_eq!(ledger.calls.len(), 2);
        assert!(!ledger.by_source.contains_key("c"));
    }

    #[test]
    fn an_ipv6_subscriber_has_one_share() {
        let share = |text: &str| share_of(text.parse().unwrap());
        assert_eq!(share("2001:db8:1:2:3::4"), share("2001:db8:1:2:ffff::1"));
        assert_ne!(share("2001:db8:1:2::4"), share("2001:db8:1:3::4"));
        assert_eq!(share("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let one = json!({"b": [{"y": 1, "x": 2}], "a": null});
        let other = json!({"a": null, "b": [{"x": 2, "y": 1}]});
        assert_eq!(sorted(&one).to_string(), sorted(&other).to_string());
        assert_ne!(
            sorted(&one).to_string(),
            sorted(&json!({"b": [], "a": null})).to_string()
        );
    }
}
