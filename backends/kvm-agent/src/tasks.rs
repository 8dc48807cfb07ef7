//! Carrying something out through the mailbox: each call of a job makes one task, and a call that was cut off finds
//! its own again.

use babelvisor_core::backend::CallContext;
use babelvisor_core::mailbox::{Mailbox, NewTask};
use babelvisor_core::{Error, Result};
use serde_json::{Map, Value};

use crate::config::KvmAgentConfig;
use crate::error;
use crate::quirks::TaskKind;

/// The task that an earlier try of this call has put in, or was about to.
///
/// # Errors
/// `Internal` for a handle that is none of ours; those of the store.
pub(crate) async fn earlier(
    mailbox: &Mailbox,
    serial: &str,
    call: &CallContext,
    kind: TaskKind,
    fields: &Map<String, Value>,
) -> Result<Option<u64>> {
    if let Some(handle) = &call.handle {
        let id = handle
            .parse()
            .map_err(|_| Error::internal(format!("{handle:?} is no task's handle")))?;
        return Ok(Some(id));
    }
    let (Some(job), Some(begun)) = (call.job, call.begun) else {
        return Ok(None);
    };
    // An earlier try of this process: its handle is in the journal, but has not come back from there.
    let tasks = mailbox.tasks(serial).await?;
    let own = tasks.into_iter().rev().find(|task| {
        task.job == Some(job) && task.kind == kind.number() && task.fields == *fields && task.created >= begun
    });
    Ok(own.map(|task| task.id))
}

/// Puts the task in, unless it is there, and waits for its end.
///
/// # Errors
/// `Timeout` when the agent did not fetch it or report its end in time; the agent's own words; those of the store.
pub(crate) async fn carry_out(
    mailbox: &Mailbox,
    config: &KvmAgentConfig,
    call: &CallContext,
    earlier: Option<u64>,
    kind: TaskKind,
    fields: Map<String, Value>,
) -> Result<()> {
    let id = match earlier {
        Some(id) => id,
        None => {
            let id = mailbox.reserve().await?;
            // Before the task can be fetched: whoever goes on after a crash finds it, or knows that it never was.
            call.keep_handle(&id.to_string()).await?;
            id
        }
    };
    let task = NewTask {
        serial: config.serial.clone(),
        kind: kind.number(),
        turn: kind.turn(),
        fields,
        father: None,
        job: call.job,
        age: std::time::Duration::from_millis(config.age_ms),
        finish: std::time::Duration::from_millis(config.finish_ms),
    };
    mailbox.put(id, task).await?;
    let report = |percent| call.report(percent);
    let ended = mailbox.wait(&config.serial, id, call.deadline, report).await?;
    ended.outcome().map_err(error::of_agent)
}
