//! Web hooks: telling an address that a client named of its call's end.
//!
//! What is due is a record, written in the same store call as the end: no end is forgotten, however the gateway
//! goes down. One gateway at a time, under a named lease, posts it until it is answered with 2xx or the tries are
//! used up; every failed try is written down. An address may be told twice, if the gateway dies between the answer
//! and its record.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::stored_call;
use crate::model::{EndedCall, Hook, Job, JobId, Polled, Timestamp};
use crate::store::{Change, Expect, Record, RecordKind, Write};

/// How hooks are delivered.
#[derive(Debug, Clone)]
pub struct HookSettings {
    /// How often an address is tried in all.
    pub tries: u32,
    /// How long after a failed try the next one comes.
    pub pause: Duration,
    /// How long a gateway that died keeps others from delivering in its place.
    pub lease: Duration,
    /// How many addresses are told at once.
    pub at_once: usize,
}

impl Default for HookSettings {
    fn default() -> Self {
        Self {
            // ZStack 3.0, RestServer: 15 retries, 2 seconds apart.
            tries: 15,
            pause: Duration::from_secs(2),
            lease: Duration::from_secs(10),
            at_once: 32,
        }
    }
}

/// What is posted.
#[derive(Clone)]
pub struct HookMessage {
    /// Header fields in order; `Host`, `Content-Length`, `Connection` and `User-Agent` are added.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

/// How a dialect says an end to a web hook. A dialect that sets [`Job::hook`] must have one.
#[async_trait]
pub trait HookEncoder: Send + Sync {
    /// The dialect, as in [`crate::model::Caller::dialect`].
    fn dialect(&self) -> &'static str;

    /// The message for an ended job or call. What it changed is in the inventory.
    ///
    /// # Errors
    /// Counts as a failed try.
    async fn encode(&self, ended: &Polled) -> Result<HookMessage>;
}

/// A hook that is due.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Delivery {
    job: JobId,
    dialect: String,
    hook: Hook,
    tries: u32,
    due: Timestamp,
}

/// What an ending job writes for its hook.
pub(crate) fn delivery_of_job(job: &Job) -> Result<Option<Write>> {
    let hook = job.hook.as_ref();
    hook.map(|hook| first(job.id, &job.dialect, hook)).transpose()
}

/// What an ended call writes for its hook.
pub(crate) fn delivery_of_call(call: &EndedCall) -> Result<Option<Write>> {
    let hook = call.hook.as_ref();
    hook.map(|hook| first(call.id, &call.dialect, hook)).transpose()
}

fn first(job: JobId, dialect: &str, hook: &Hook) -> Result<Write> {
    let delivery = Delivery {
        job,
        dialect: dialect.to_owned(),
        hook: hook.clone(),
        tries: 0,
        due: Timestamp::now(),
    };
    // The same end may be written twice, when the answer to the first call was lost.
    write(&job.simple(), Expect::Any, Some(&delivery))
}

fn write(key: &str, expect: Expect, delivery: Option<&Delivery>) -> Result<Write> {
    let encode = |delivery: &Delivery| {
        serde_json::to_vec(delivery)
            .map_err(|error| Error::internal(format!("a web hook cannot be encoded: {error}")))
    };
    Ok(Write {
        kind: RecordKind::Hook,
        key: key.to_owned(),
        expect,
        value: delivery.map(encode).transpose()?.map(Into::into),
    })
}

fn decode(record: &Record) -> Result<Delivery> {
    serde_json::from_slice(&record.value).map_err(|error| {
        let text = format!(
            "the stored web hook {} cannot be read by this release: {error}",
            record.key
        );
        Error::internal(text)
    })
}

/// Delivers one dialect's hooks until dropped.
pub async fn deliver(engine: Arc<Engine>, encoder: Arc<dyn HookEncoder>, settings: HookSettings) {
    loop {
        let deliverer = Deliverer {
            engine: engine.clone(),
            encoder: encoder.clone(),
            settings: settings.clone(),
            due: HashMap::new(),
            under_way: HashSet::new(),
            held_until: None,
        };
        let Err(error) = deliverer.run().await;
        tracing::warn!(dialect = encoder.dialect(), %error, "web hooks cannot be delivered, trying again");
        tokio::time::sleep(settings.pause).await;
    }
}

struct Deliverer {
    engine: Arc<Engine>,
    encoder: Arc<dyn HookEncoder>,
    settings: HookSettings,
    /// When each known hook is due, by record key. Only a plan: what counts is the record.
    due: HashMap<String, Timestamp>,
    under_way: HashSet<String>,
    /// Until when this gateway is the one that delivers.
    held_until: Option<Instant>,
}

/// What became of one try: when the next one is due, if there is one.
type Tried = (String, Option<Timestamp>);

impl Deliverer {
    async fn run(mut self) -> Result<std::convert::Infallible> {
        let mut changes = self.engine.around.store.changes().await?;
        let mut tries: JoinSet<Tried> = JoinSet::new();
        let mut renewal = tokio::time::interval(self.settings.lease / 3);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let next = self.begin_due(&mut tries);
            tokio::select! {
                _ = renewal.tick() => self.hold().await?,
                Some(tried) = tries.join_next() => match tried {
                    Ok((key, next)) => self.tried(key, next),
                    Err(error) => return Err(Error::internal(format!("a try panicked: {error}"))),
                },
                () = tokio::time::sleep(next) => {}
                change = next_hook(&mut changes) => match change? {
                    Heard::Hook(record) => self.plan(&record),
                    Heard::Gap => self.load().await?,
                },
            }
        }
    }

    fn holds(&self) -> bool {
        self.held_until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes or keeps the lease. Whoever has just got it looks for what its predecessor left.
    async fn hold(&mut self) -> Result<()> {
        let held = self.holds();
        let asked = Instant::now();
        let around = &self.engine.around;
        let name = format!("hooks-{}", self.encoder.dialect());
        let lease = self.settings.lease;
        let mine = around.store.lease(&name, self.engine.worker(), lease).await?;
        self.held_until = mine.then(|| asked + lease);
        if mine && !held {
            self.load().await?;
        }
        Ok(())
    }

    async fn load(&mut self) -> Result<()> {
        self.due.clear();
        for record in self.engine.around.store.load(RecordKind::Hook).await? {
            self.plan(&record);
        }
        Ok(())
    }

    fn plan(&mut self, record: &Record) {
        match decode(record) {
            Ok(delivery) if delivery.dialect == self.encoder.dialect() => {
                self.due.insert(record.key.clone(), delivery.due);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a web hook is left where it is"),
        }
    }

    fn tried(&mut self, key: String, next: Option<Timestamp>) {
        self.under_way.remove(&key);
        match next {
            Some(due) => self.due.insert(key, due),
            None => self.due.remove(&key),
        };
    }

    /// Begins the tries whose time has come; returns how long it is until the next.
    fn begin_due(&mut self, tries: &mut JoinSet<Tried>) -> Duration {
        let idle = self.settings.lease;
        if !self.holds() {
            return idle;
        }
        let now = Timestamp::now();
        let free = self.settings.at_once.saturating_sub(self.under_way.len());
        let waiting = self.due.iter().filter(|(key, _)| !self.under_way.contains(*key));
        let mut ready: Vec<(Timestamp, String)> = waiting.map(|(key, due)| (*due, key.clone())).collect();
        ready.sort();
        let mut next = idle;
        for (place, (due, key)) in ready.into_iter().enumerate() {
            if due > now {
                next = Duration::try_from(due.duration_since(now))
                    .unwrap_or(idle)
                    .min(idle);
                break;
            }
            if place >= free {
                // One that ends makes room, and wakes us.
                break;
            }
            self.under_way.insert(key.clone());
            let one = Try {
                engine: self.engine.clone(),
                encoder: self.encoder.clone(),
                settings: self.settings.clone(),
            };
            tries.spawn(async move {
                let next = one.run(&key).await;
                (key, next)
            });
        }
        next
    }
}

/// What of a change concerns the deliverer.
enum Heard {
    Hook(Record),
    Gap,
}

async fn next_hook(changes: &mut mpsc::Receiver<Change>) -> Result<Heard> {
    loop {
        match changes.recv().await {
            Some(Change::Record {
                kind: RecordKind::Hook,
                record: Some(record),
                ..
            }) => return Ok(Heard::Hook(record)),
            Some(Change::Gap) => return Ok(Heard::Gap),
            Some(Change::Record { .. } | Change::Job(_)) => {}
            None => return Err(Error::internal("the store's changes ended")),
        }
    }
}

/// One try at one hook.
struct Try {
    engine: Arc<Engine>,
    encoder: Arc<dyn HookEncoder>,
    settings: HookSettings,
}

impl Try {
    /// Posts the hook if it is still due, and writes down what became of it. Returns when to try again.
    async fn run(&self, key: &str) -> Option<Timestamp> {
        match self.post_and_note(key).await {
            Ok(next) => next,
            // Somebody else has the lease by now.
            Err(error) if error.kind == ErrorKind::Conflict => None,
            Err(error) => {
                tracing::warn!(job = key, %error, "the state of a web hook cannot be stored");
                self.after_pause()
            }
        }
    }

    async fn post_and_note(&self, key: &str) -> Result<Option<Timestamp>> {
        let store = &self.engine.around.store;
        let Some(record) = store.get(RecordKind::Hook, key).await? else {
            return Ok(None);
        };
        let mut delivery = decode(&record)?;
        let expect = Expect::Version(record.version);
        let outcome = self.post(&delivery).await;
        delivery.tries += 1;
        let (job, tries) = (delivery.job, delivery.tries);
        let word = match outcome {
            Ok(()) => "delivered",
            Err(error) if delivery.tries >= self.settings.tries => {
                tracing::warn!(%job, tries, %error, "a web hook is given up");
                "given_up"
            }
            Err(error) => {
                tracing::debug!(%job, tries, %error, "a web hook is tried again");
                let due = self.after_pause();
                delivery.due = due.unwrap_or(delivery.due);
                store.commit(vec![write(key, expect, Some(&delivery))?]).await?;
                return Ok(due);
            }
        };
        store.commit(vec![write(key, expect, None)?]).await?;
        let dialect = self.encoder.dialect();
        metrics::counter!("gateway_hooks_total", "dialect" => dialect, "outcome" => word).increment(1);
        Ok(None)
    }

    async fn post(&self, delivery: &Delivery) -> Result<()> {
        let ended = self.ended(delivery.job).await?;
        let HookMessage { headers, body } = self.encoder.encode(&ended).await?;
        let status = self
            .engine
            .outbound()
            .post(&delivery.hook, &headers, body)
            .await?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::BackendUnavailable,
            format!("the address answers {status}"),
        ))
    }

    async fn ended(&self, id: JobId) -> Result<Polled> {
        let store = &self.engine.around.store;
        if let Some(job) = store
            .job(id)
            .await?
            .filter(|job| job.state.ended() && job.hook.is_some())
        {
            let job = self.engine.caught_up(job).await?;
            return Ok(Polled::Job(Box::new(job)));
        }
        let call = stored_call(store.as_ref(), id).await?;
        let call = call.ok_or_else(|| Error::not_found(JobId::NOUN, id))?;
        Ok(Polled::Call(Box::new(call.0)))
    }

    fn after_pause(&self) -> Option<Timestamp> {
        Timestamp::now().checked_add(self.settings.pause).ok()
    }
}
