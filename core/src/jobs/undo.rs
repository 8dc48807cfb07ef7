//! Undo: what takes back the effect of a step. Stored as data before the step's call, so that any gateway
//! can do it after any crash.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::context::JobContext;
use super::killpoint;
use crate::backend::VmRef;
use crate::command::PowerAction;
use crate::error::{Error, ErrorKind, Result};
use crate::model::VmId;
use crate::store::JournalEntry;

/// How long undoing may take in all before what is left is named and given up.
const TIME: Duration = Duration::from_secs(120);

/// One undo. Each is idempotent: what is not there is undone already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub(super) enum Undo {
    /// Remove a volume that the job made.
    DeleteVolume {
        /// Pool on the backend.
        pool: String,
        /// Name in the pool.
        name: String,
    },
    /// Remove a definition that the job made.
    Undefine {
        /// The VM.
        vm: VmId,
    },
    /// Remove a snapshot that the job made.
    DeleteSnapshot {
        /// The VM.
        vm: VmId,
        /// The backend's name of it.
        name: String,
    },
    /// Switch off a VM that the job started.
    ForceOff {
        /// The VM.
        vm: VmId,
    },
}

impl Undo {
    fn describe(&self) -> String {
        match self {
            Self::DeleteVolume { pool, name } => format!("volume {name} in pool {pool}"),
            Self::Undefine { vm } => format!("the definition of vm {vm}"),
            Self::DeleteSnapshot { vm, name } => format!("snapshot {name} of vm {vm}"),
            Self::ForceOff { vm } => format!("vm {vm} switched on"),
        }
    }

    /// `certain` says that the step had been done; otherwise it was cut off, and what is there now may be
    /// somebody else's, whom the call would have met.
    async fn run(&self, context: &JobContext, certain: bool) -> Result<()> {
        let call = context.plain_call();
        let native = |vm: &VmId| context.vm_ref(*vm);
        match self {
            Self::DeleteVolume { pool, name } => context.backend.delete_volume(&call, pool, name).await,
            Self::Undefine { vm } => {
                let vm = native(vm);
                if !certain && !made_here(context, &vm).await? {
                    return Ok(());
                }
                context.backend.undefine(&call, &vm).await
            }
            Self::DeleteSnapshot { vm, name } => {
                context.backend.delete_snapshot(&call, &native(vm), name).await
            }
            Self::ForceOff { vm } => match context
                .backend
                .power(&call, &native(vm), PowerAction::ForceOff)
                .await
            {
                Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            },
        }
    }
}

/// Whether this job made the VM, as far as its backend can say: what it makes carries the job.
async fn made_here(context: &JobContext, vm: &VmRef) -> Result<bool> {
    let facts = context.backend.get(&context.plain_call(), vm).await?;
    Ok(facts.is_some_and(|facts| facts.made_by == Some(context.job.id)))
}

/// Undoes every begun step, last first. Returns what could not be removed, in words.
///
/// A step that failed with `AlreadyExists` met somebody else's object: the journal has it as undone already.
/// Volumes are told apart by their names, which carry the VM's id; a VM by the job that is written into it.
///
/// # Errors
/// Only those that stop the job without an end: a lost claim or store.
pub(super) async fn undo(context: &mut JobContext, error: &Error, cancelled: bool) -> Result<Vec<String>> {
    if context.undoing.is_none() {
        let entry = JournalEntry::Undoing {
            error: error.clone(),
            cancelled,
        };
        context.journal(&entry).await?;
        context.undoing = Some((error.clone(), cancelled));
    }
    context.extend_for_undo(TIME);
    let mut steps: Vec<_> = context
        .steps
        .iter()
        .filter(|(_, trace)| !trace.undone)
        .filter_map(|(name, trace)| {
            Some((
                trace.order,
                name.clone(),
                trace.undo.clone()?,
                trace.output.is_some(),
            ))
        })
        .collect();
    steps.sort_by_key(|(order, ..)| std::cmp::Reverse(*order));
    let mut left_behind = Vec::new();
    for (_, step, undo, certain) in steps {
        context.may_go_on()?;
        let command = context.job.command.name();
        let place = format!("undo-{step}");
        killpoint::pass(command, &place, "begin");
        match with_patience(context, &undo, certain).await {
            Ok(()) => {
                killpoint::pass(command, &place, "called");
                context.journal(&JournalEntry::Undone { step }).await?;
            }
            Err(error) if context.signals.must_leave() => return Err(error),
            Err(error) => {
                tracing::error!(job = %context.job.id, step, %error, "undo failed, left behind for a person");
                left_behind.push(format!("{}: {}", undo.describe(), error.detail));
            }
        }
    }
    Ok(left_behind)
}

async fn with_patience(context: &JobContext, undo: &Undo, certain: bool) -> Result<()> {
    let mut pause = Duration::from_millis(200);
    loop {
        context.may_go_on()?;
        context.hold().await?;
        match undo.run(context, certain).await {
            Err(error)
                if error.retryable() && pause < Duration::from_secs(30) && context.has_time_for(pause) =>
            {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
}
