//! Claiming: the script that takes a job, and the bell that wakes those who wait for one.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::super::rules::unreadable;
use super::super::{Claim, Claimed, WorkerId};
use super::codec::{Fields, join_job, queues};
use super::link::{Again, ask};
use super::{RedisStore, millis, parse_id};
use crate::error::Result;
use crate::model::{BackendId, Timestamp};

/// How long a waiting claim sleeps at most before it looks for ended leases, which ring no bell.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Idle connections kept for waiting claims.
const SPARE: usize = 8;

/// What waiting claims need.
#[derive(Default)]
pub(super) struct Claims {
    /// Queues that this process has served, for tidying.
    served: Mutex<BTreeSet<String>>,
    /// Idle connections; each is used by one claim at a time, because it blocks.
    spare: Mutex<Vec<MultiplexedConnection>>,
}

// A panic while one of these is locked leaves it whole: each is changed by one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RedisStore {
    /// Claims a job, waiting up to `wait` for one.
    pub(super) async fn claim_within(
        &self,
        worker: &WorkerId,
        backends: &[BackendId],
        lease: Duration,
        wait: Duration,
    ) -> Result<Option<Claimed>> {
        let until = Instant::now() + wait;
        let mut queues: Vec<String> = backends.iter().flat_map(queues).collect();
        lock(&self.claims.served).extend(queues.iter().cloned());
        loop {
            if let Some(claimed) = self.claim_now(worker, &queues, lease).await? {
                return Ok(Some(claimed));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || queues.is_empty() {
                return Ok(None);
            }
            // No backend is always asked last.
            queues.rotate_left(1);
            self.wait_for_bell(&queues, left.min(LOOK_AGAIN)).await;
        }
    }

    async fn claim_now(
        &self,
        worker: &WorkerId,
        queues: &[String],
        lease: Duration,
    ) -> Result<Option<Claimed>> {
        let mut invocation = self.invoke(&self.scripts.claim);
        invocation
            .arg(&worker.0)
            .arg(millis(lease))
            .arg(Timestamp::now().to_string())
            .arg(queues);
        // A claim whose answer is lost is recovered when its lease ends, like that of a worker that died.
        let mut answer = self.run(&invocation, Again::Harmless).await?;
        match answer.word.as_str() {
            "none" => Ok(None),
            "claimed" => {
                let id = parse_id(&answer.next::<String>()?)?;
                let fields: Fields = answer.next()?;
                let entries: Vec<String> = answer.next()?;
                let job =
                    join_job(id, &fields)?.ok_or_else(|| unreadable(&format!("job {id}"), "it is empty"))?;
                let journal = entries
                    .iter()
                    .map(|entry| serde_json::from_str(entry))
                    .collect::<Result<_, _>>()
                    .map_err(|error| unreadable(&format!("journal of job {id}"), error))?;
                let claim = Claim {
                    job: id,
                    epoch: job.epoch,
                    worker: worker.clone(),
                };
                Ok(Some(Claimed { claim, job, journal }))
            }
            _ => Err(answer.unexpected()),
        }
    }

    /// Waits until a job may have become ready, `most` at longest. Trouble only shortens the wait: the claim
    /// that follows will meet it, too, and report it.
    async fn wait_for_bell(&self, queues: &[String], most: Duration) {
        let spare = lock(&self.claims.spare).pop();
        let connection = match spare {
            Some(connection) => Ok(connection),
            None => self.link.blocking(LOOK_AGAIN).await,
        };
        let Ok(mut connection) = connection else {
            return tokio::time::sleep(most).await;
        };
        let mut command = redis::cmd("BLPOP");
        for queue in queues {
            command.arg(self.key(format_args!("bell:{queue}")));
        }
        // Zero would block for ever.
        command.arg(most.as_secs_f64().max(0.001));
        // Dropped half-way, the connection is closed rather than kept: it would still be blocked.
        match ask::<Value>(&mut connection, &command).await {
            Ok(_) => {
                let mut spare = lock(&self.claims.spare);
                if spare.len() < SPARE {
                    spare.push(connection);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "waiting for a job was cut off");
                tokio::time::sleep(most.min(Duration::from_millis(100))).await;
            }
        }
    }

    /// Forgets the consumers of gateways that ended long ago.
    pub(super) async fn tidy(&self) -> Result<()> {
        let served: Vec<String> = lock(&self.claims.served).iter().cloned().collect();
        let mut invocation = self.invoke(&self.scripts.tidy);
        invocation.arg(served);
        self.run(&invocation, Again::Harmless).await.map(|_| ())
    }
}
