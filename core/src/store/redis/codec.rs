//! How jobs and records are spelled in hashes.
//!
//! A job is its JSON as submitted (`body`, without the command), its `command`, and the fields that change.
//! The JSON is never rewritten inside Lua, whose numbers cannot hold what JSON can.

use std::collections::HashMap;

use bytes::Bytes;
use redis::{FromRedisValue, ScriptInvocation, Value};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::super::rules::unreadable;
use super::super::{Expect, Record, RecordKind, Write};
use crate::command::COMMAND_VERSION;
use crate::error::{Error, Result};
use crate::model::{BackendId, Job, JobId};

/// A job's hash.
pub(super) type Fields = HashMap<String, String>;

pub(super) fn encode<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::internal(format!("a stored value cannot be encoded: {error}")))
}

/// A job's `body` and `command`.
pub(super) fn split_job(job: &Job) -> Result<(String, String)> {
    let mut body: Map<String, Json> = match serde_json::to_value(job) {
        Ok(Json::Object(body)) => body,
        Ok(_) | Err(_) => return Err(Error::internal(format!("job {} cannot be encoded", job.id))),
    };
    body.remove("command");
    Ok((encode(&body)?, encode(&job.command)?))
}

/// The job that a hash holds; `None` for the empty hash of a missing one.
pub(super) fn join_job(id: JobId, fields: &Fields) -> Result<Option<Job>> {
    if fields.is_empty() {
        return Ok(None);
    }
    let bad = |error: serde_json::Error| unreadable(&format!("job {id}"), error);
    let body = fields.get("body").map_or("{}", String::as_str);
    let mut job: Map<String, Json> = serde_json::from_str(body).map_err(bad)?;
    for (field, json) in fields {
        match field.as_str() {
            "command" | "error" | "left_behind" | "result" | "epoch" | "progress" => {
                job.insert(field.clone(), serde_json::from_str(json).map_err(bad)?);
            }
            "state" | "started" | "ended" => {
                job.insert(field.clone(), json.clone().into());
            }
            "cancel_requested" => {
                job.insert(field.clone(), true.into());
            }
            _ => {}
        }
    }
    serde_json::from_value(job.into()).map(Some).map_err(bad)
}

/// The name of the queue that a job of this backend and command version stands in.
pub(super) fn queue(backend: &BackendId, version: u16) -> String {
    format!("{backend}:{version}")
}

/// The queues that this release may serve for a backend.
pub(super) fn queues(backend: &BackendId) -> impl Iterator<Item = String> {
    (1..=COMMAND_VERSION).map(move |version| queue(backend, version))
}

/// Appends writes to a script's arguments, five each.
pub(super) fn push_writes(invocation: &mut ScriptInvocation<'_>, writes: &[Write]) {
    for write in writes {
        let expect = match write.expect {
            Expect::Any => "any".to_owned(),
            Expect::Absent => "absent".to_owned(),
            Expect::Version(version) => version.to_string(),
        };
        invocation
            .arg(write.kind.as_ref())
            .arg(&write.key)
            .arg(expect)
            .arg(u8::from(write.value.is_some()))
            .arg(write.value.as_deref().unwrap_or_default());
    }
}

/// A record from its field, which is `version:JSON`.
pub(super) fn record(kind: RecordKind, key: &str, stored: &[u8]) -> Result<Record> {
    let colon = stored.iter().position(|byte| *byte == b':');
    let parsed = colon.and_then(|colon| {
        let (version, value) = stored.split_at_checked(colon)?;
        let version = std::str::from_utf8(version).ok()?.parse().ok()?;
        Some((version, value.get(1..)?))
    });
    let (version, value) =
        parsed.ok_or_else(|| unreadable(&format!("{} {key}", kind.as_ref()), "it has no version"))?;
    Ok(Record {
        kind,
        key: key.to_owned(),
        version,
        value: Bytes::copy_from_slice(value),
    })
}

/// A script's answer: a word and what follows it.
pub(super) struct Answer {
    pub(super) word: String,
    rest: std::vec::IntoIter<Value>,
}

impl Answer {
    pub(super) fn read(value: Value) -> Result<Self> {
        let Value::Array(values) = value else {
            return Err(unexpected("not an array"));
        };
        let mut rest = values.into_iter();
        let word = take(&mut rest)?;
        Ok(Self { word, rest })
    }

    /// The next value.
    pub(super) fn next<T: FromRedisValue>(&mut self) -> Result<T> {
        take(&mut self.rest)
    }

    /// A word that no script of this release gives.
    pub(super) fn unexpected(&self) -> Error {
        unexpected(&self.word)
    }
}

fn take<T: FromRedisValue>(values: &mut std::vec::IntoIter<Value>) -> Result<T> {
    let value = values.next().ok_or_else(|| unexpected("too short"))?;
    redis::from_redis_value(value).map_err(|error| unexpected(&error.to_string()))
}

pub(super) fn unexpected(what: &str) -> Error {
    Error::internal(format!("store: redis gave an answer that makes no sense: {what}"))
}
