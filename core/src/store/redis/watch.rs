//! The change feed: one task per process reads the capped stream and fans it out.
//!
//! The stream says only what changed; the task fetches the values, many in one round trip. So no secret stays
//! in the stream after it was erased from its record, and a reader that lags sees the newest state at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::super::feed::Feed;
use super::super::{Change, RecordKind};
use super::codec::{Fields, join_job, record, unexpected};
use super::link::{Link, ask};
use crate::error::Result;
use crate::model::JobId;

const BLOCK: Duration = Duration::from_secs(5);
const BATCH: usize = 512;
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Changed {
    Record(RecordKind, String),
    Job(JobId),
}

pub(super) struct Watch {
    link: Link,
    prefix: String,
    feed: Arc<Feed>,
    /// The number of the last entry that was read.
    last: u64,
}

impl Watch {
    /// Begins after the newest entry there is.
    pub(super) async fn begin(link: Link, prefix: String, feed: Arc<Feed>) -> Result<Self> {
        let mut watch = Self {
            link,
            prefix,
            feed,
            last: 0,
        };
        watch.last = watch.newest().await?;
        Ok(watch)
    }

    /// Begins with the oldest entry there is.
    #[cfg(test)]
    pub(super) fn from_start(link: Link, prefix: String, feed: Arc<Feed>) -> Self {
        Self {
            link,
            prefix,
            feed,
            last: 0,
        }
    }

    /// Reads until the task is ended.
    pub(super) async fn run(mut self) {
        let mut pause = PAUSE;
        loop {
            let Err(error) = self.follow(&mut pause).await;
            tracing::warn!(%error, "the change feed was cut off; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // Where to go on is asked for before the gap is announced: what changes in between is seen twice
            // rather than never. After a failover the numbers may have gone back.
            while let Err(error) = self.resume().await {
                tracing::debug!(%error, "the change feed is still cut off");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn resume(&mut self) -> Result<()> {
        self.last = self.newest().await?;
        self.feed.publish(&[Change::Gap]);
        Ok(())
    }

    async fn follow(&mut self, pause: &mut Duration) -> Result<std::convert::Infallible> {
        let mut connection = self.link.blocking(BLOCK).await?;
        loop {
            let changed = self.read(&mut connection).await?;
            let changes = self.fetch(changed).await?;
            self.feed.publish(&changes);
            *pause = PAUSE;
        }
    }

    /// The newest entry's number.
    async fn newest(&self) -> Result<u64> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg(format!("{}event", self.prefix));
        let (number,): (Option<u64>,) = self.link.query(&pipeline).await?;
        Ok(number.unwrap_or(0))
    }

    /// What changed since the last call, each key once, in the order of its last change: values are fetched as
    /// they are now, and a job's end must not be told before what it means for the records.
    async fn read(&mut self, connection: &mut MultiplexedConnection) -> Result<Vec<Changed>> {
        let mut command = redis::cmd("XREAD");
        command
            .arg("BLOCK")
            .arg(BLOCK.as_millis() as u64)
            .arg("COUNT")
            .arg(BATCH)
            .arg("STREAMS")
            .arg(format!("{}changes", self.prefix))
            .arg(format!("{}-0", self.last));
        let reply: Option<redis::streams::StreamReadReply> = ask(connection, &command).await?;
        let mut changed = Vec::new();
        for entry in reply
            .into_iter()
            .flat_map(|reply| reply.keys)
            .flat_map(|key| key.ids)
        {
            let number: u64 = entry
                .id
                .split('-')
                .next()
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| unexpected("the id of a change"))?;
            if number != self.last + 1 {
                tracing::warn!(
                    from = self.last,
                    to = number,
                    "changes were trimmed before they were read"
                );
                self.feed.publish(&[Change::Gap]);
            }
            self.last = number;
            let text = |field: &str| match entry.map.get(field) {
                Some(Value::BulkString(bytes)) => String::from_utf8(bytes.clone()).ok(),
                _ => None,
            };
            let (Some(kind), Some(key)) = (text("kind"), text("key")) else {
                continue;
            };
            let what = if kind == "job" {
                key.parse().ok().map(Changed::Job)
            } else {
                // A newer release may have kinds of its own.
                kind.parse().ok().map(|kind| Changed::Record(kind, key))
            };
            changed.extend(what);
        }
        let mut seen = HashSet::new();
        changed.reverse();
        changed.retain(|what| seen.insert(what.clone()));
        changed.reverse();
        Ok(changed)
    }

    async fn fetch(&self, changed: Vec<Changed>) -> Result<Vec<Change>> {
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for what in &changed {
            match what {
                Changed::Record(kind, key) => pipeline
                    .cmd("HGET")
                    .arg(format!("{}rec:{}", self.prefix, kind.as_ref()))
                    .arg(key),
                Changed::Job(id) => pipeline.cmd("HGETALL").arg(format!("{}job:{id}", self.prefix)),
            };
        }
        let values: Vec<Value> = self.link.query(&pipeline).await?;
        let mut changes = Vec::with_capacity(changed.len());
        for (what, value) in changed.into_iter().zip(values) {
            match read_change(what, value) {
                Ok(change) => changes.extend(change),
                Err(error) => tracing::warn!(%error, "a change is left out of the feed"),
            }
        }
        Ok(changes)
    }
}

fn read_change(what: Changed, value: Value) -> Result<Option<Change>> {
    let bad = |error: redis::ParsingError| unexpected(&error.to_string());
    match what {
        Changed::Record(kind, key) => {
            let stored: Option<Vec<u8>> = redis::from_redis_value(value).map_err(bad)?;
            let record = stored.map(|stored| record(kind, &key, &stored)).transpose()?;
            Ok(Some(Change::Record { kind, key, record }))
        }
        Changed::Job(id) => {
            let fields: Fields = redis::from_redis_value(value).map_err(bad)?;
            Ok(join_job(id, &fields)?.map(|job| Change::Job(Box::new(job))))
        }
    }
}
