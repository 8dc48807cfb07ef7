//! The mailbox of agents: hosts that cannot be called, but call in. They post reports, which are kept, and fetch tasks,
//! which wait here until they do.
//!
//! All of it lives in the store, so any gateway answers any agent, and a restart loses nothing that an agent was
//! told or has told. The rules that hold whoever asks:
//!
//! - a task is handed out at most once: it is marked in one store write, and only what that write marked is in the answer;
//! - ids are unique over all kinds of tasks and all hosts, because agents file tasks by id alone;
//! - a child is handed out only after its father was reported done, and fails with it;
//! - a task that nobody fetches within its age, or of which no end is reported in time, ends as such.
//!
//! The mailbox knows no dialect: a task's kind is a number and its fields are whatever its agent understands.

mod post;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::model::Timestamp;
use crate::store::{Change, Expect, RecordKind, Store, Write};

pub use task::{Father, NewTask, Task, TaskReport, TaskState};

/// How long to wait before asking a store again that could not be asked.
const AGAIN: Duration = Duration::from_millis(500);

/// The newest report of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When it came in, by the gateway's clock.
    pub received: Timestamp,
    /// Its entries, normalised by the dialect that took it.
    pub body: Value,
}

/// Reports and tasks of all agents.
pub struct Mailbox {
    store: Arc<dyn Store>,
    changed: watch::Sender<u64>,
    listener: JoinHandle<()>,
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Mailbox {
    /// The mailbox in `store`; starts a task that listens to the store's changes, so it needs a runtime.
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        let changed = watch::Sender::new(0);
        let listener = tokio::spawn(listen(store.clone(), changed.clone()));
        Arc::new(Self {
            store,
            changed,
            listener,
        })
    }

    /// Hears when any report or task has changed, on this gateway or another.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Keeps the newest report of `kind` from the host `serial`. What is kept is known after a restart.
    ///
    /// # Errors
    /// Those of the store; the report is then lost, because agents do not repeat one.
    pub async fn keep_report(&self, serial: &str, kind: &str, body: Value) -> Result<()> {
        let report = Report {
            received: Timestamp::now(),
            body,
        };
        let write = Write {
            kind: RecordKind::AgentReport,
            key: format!("{serial}/{kind}"),
            expect: Expect::Any,
            value: Some(encode(&report)?),
        };
        self.store.commit(vec![write]).await.map(|_| ())
    }

    /// The newest reports of the host `serial`, by kind.
    ///
    /// # Errors
    /// Those of the store; `Internal` for a record that cannot be read.
    pub async fn reports(&self, serial: &str) -> Result<BTreeMap<String, Report>> {
        let mut reports = BTreeMap::new();
        for record in self.store.load(RecordKind::AgentReport).await? {
            if let Some((owner, kind)) = record.key.rsplit_once('/')
                && owner == serial
            {
                reports.insert(kind.to_owned(), decode(&record.value)?);
            }
        }
        Ok(reports)
    }

    /// Tells those who wait without waiting for the store's own feed.
    fn tell(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Follows the store's changes for as long as the mailbox lives.
async fn listen(store: Arc<dyn Store>, changed: watch::Sender<u64>) {
    let tell = || changed.send_modify(|count| *count = count.wrapping_add(1));
    loop {
        match store.changes().await {
            Ok(mut feed) => {
                // What changed before the feed began is looked at now.
                tell();
                while let Some(change) = feed.recv().await {
                    match change {
                        Change::Record {
                            kind: RecordKind::AgentReport | RecordKind::AgentTask,
                            ..
                        }
                        | Change::Gap => tell(),
                        Change::Record { .. } | Change::Job(_) => {}
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "changes of the mailbox cannot be followed, trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn encode<T: Serialize>(value: &T) -> Result<bytes::Bytes> {
    let text = serde_json::to_vec(value)
        .map_err(|error| Error::internal(format!("a mailbox record cannot be written: {error}")))?;
    Ok(text.into())
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::internal(format!("a mailbox record cannot be read: {error}")))
}
