//! The connections to Redis: time limits, retries, and what is checked before the first use.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};

use super::super::rules::unavailable;
use crate::error::{Error, Result};

/// A command that takes longer has failed: no command or script of ours works for more than milliseconds.
const RESPONSE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(2);
/// How often an idempotent call is tried, and for how long at most a new try begins.
const TRIES: u32 = 4;
const TRYING: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(50);

/// The key layout that this release reads and writes.
pub(super) const FORMAT: u64 = 1;

/// Whether a call may be sent again when it is not known what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Twice is as good as once.
    Harmless,
    /// The caller must decide.
    Never,
}

/// Connections to one server.
#[derive(Clone)]
pub(super) struct Link {
    client: Client,
    commands: ConnectionManager,
}

impl Link {
    /// Connects and checks the server.
    pub(super) async fn open(url: &str, prefix: &str) -> Result<Self> {
        // The address may hold a password: it is not repeated in errors.
        let client = Client::open(url).map_err(|error| {
            Error::invalid(
                "store.url",
                format!("not a usable Redis address: {}", error.category()),
            )
        })?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE))
            .set_connection_timeout(Some(CONNECT))
            .set_number_of_retries(2)
            .set_min_delay(PAUSE)
            .set_max_delay(Duration::from_millis(500));
        let commands = ConnectionManager::new_with_config(client.clone(), config)
            .await
            .map_err(fault)?;
        let link = Self { client, commands };
        link.check_server().await?;
        link.check_format(prefix).await?;
        Ok(link)
    }

    /// A connection of its own for reads that block up to `block`.
    pub(super) async fn blocking(&self, block: Duration) -> Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(block + RESPONSE));
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(fault)
    }

    /// Runs a script.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        invocation: &redis::ScriptInvocation<'_>,
        again: Again,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut tries = 1;
        loop {
            match invocation.invoke_async(&mut self.commands.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) if tries < TRIES && begun.elapsed() < TRYING && worth_another(&error, again) => {}
                Err(error) => return Err(fault(error)),
            }
            tokio::time::sleep(PAUSE * tries).await;
            tries += 1;
        }
    }

    /// Runs commands that may be repeated.
    pub(super) async fn query<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T> {
        let begun = Instant::now();
        let mut tries = 1;
        loop {
            match pipeline.query_async(&mut self.commands.clone()).await {
                Ok(value) => return Ok(value),
                Err(error)
                    if tries < TRIES
                        && begun.elapsed() < TRYING
                        && worth_another(&error, Again::Harmless) => {}
                Err(error) => return Err(fault(error)),
            }
            tokio::time::sleep(PAUSE * tries).await;
            tries += 1;
        }
    }

    /// What the server says of itself.
    pub(super) async fn info(&self, section: &str) -> Result<redis::InfoDict> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").arg(section);
        let (info,): (redis::InfoDict,) = self.query(&pipeline).await?;
        Ok(info)
    }

    async fn check_server(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::invalid("store.url", what.to_owned()));
        let version: String = self
            .info("server")
            .await?
            .get("redis_version")
            .unwrap_or_default();
        if !recent(&version) {
            return refuse(&format!(
                "this Redis is version {version}; streams as used here need 6.2 or newer"
            ));
        }
        let clustered: Option<u8> = self.info("cluster").await?.get("cluster_enabled");
        if clustered == Some(1) {
            return refuse("this Redis is a cluster, which is not supported; use a single server");
        }
        let policy: Option<String> = self.info("memory").await?.get("maxmemory_policy");
        if let Some(policy) = policy
            && policy != "noeviction"
        {
            return refuse(&format!(
                "this Redis drops keys when memory is short (maxmemory-policy {policy}), jobs and records among \
                 them; set maxmemory-policy noeviction"
            ));
        }
        let append_only: Option<u8> = self.info("persistence").await?.get("aof_enabled");
        if append_only != Some(1) {
            tracing::warn!(
                "this Redis has appendonly no: jobs and records that were acknowledged are lost when it stops \
                 hard; set appendonly yes"
            );
        }
        self.note_fsync().await;
        Ok(())
    }

    /// Says what a power cut may cost. A server that keeps its settings to itself is not asked again.
    async fn note_fsync(&self) {
        let mut pipeline = redis::pipe();
        pipeline.cmd("CONFIG").arg("GET").arg("appendfsync");
        if let Ok((settings,)) = self.query::<(HashMap<String, String>,)>(&pipeline).await
            && let Some(policy) = settings.get("appendfsync")
            && policy != "always"
        {
            tracing::info!(
                appendfsync = policy,
                "a power cut of the Redis host can lose the last moments of acknowledged work; appendfsync \
                 always prevents it and makes every change wait for the disk"
            );
        }
    }

    async fn check_format(&self, prefix: &str) -> Result<()> {
        let key = format!("{prefix}meta");
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("HSETNX")
            .arg(&key)
            .arg("format")
            .arg(FORMAT)
            .ignore()
            .cmd("HGET")
            .arg(&key)
            .arg("format");
        let (format,): (u64,) = self.query(&pipeline).await?;
        if format == FORMAT {
            Ok(())
        } else {
            Err(Error::internal(format!(
                "the store under the key prefix {prefix} has format {format}, this release reads format \
                 {FORMAT}: start the release that wrote it, or use another prefix"
            )))
        }
    }
}

/// Whether the version is 6.2 or newer.
fn recent(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 2)
}

fn worth_another(error: &RedisError, again: Again) -> bool {
    match error.kind() {
        // The server refused before it did anything.
        ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain) => true,
        ErrorKind::Io => again == Again::Harmless,
        _ => false,
    }
}

/// The core's error for one of Redis's.
pub(super) fn fault(error: RedisError) -> Error {
    match error.kind() {
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            Error::internal(format!("store: redis: {error}"))
        }
        ErrorKind::Server(ServerErrorKind::ResponseError)
            if error.code().is_none_or(|code| code == "ERR") =>
        {
            Error::internal(format!("store: redis: {error}"))
        }
        _ => unavailable(format!("redis: {error}")),
    }
}

/// Runs one command on a connection of its own.
pub(super) async fn ask<T: FromRedisValue>(
    connection: &mut impl ConnectionLike,
    command: &redis::Cmd,
) -> Result<T> {
    command.query_async(connection).await.map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::recent;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(recent("6.2.0") && recent("7.0.15") && recent("10.1"));
        assert!(!recent("6.0.16") && !recent("5.9") && !recent(""));
    }
}
