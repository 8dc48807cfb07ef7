//! `CloneVmInstance`: one machine for each name, each by a job of its own. The call has the first one's address;
//! it has ended when all have, and tells of each whether it was made.

use std::sync::Arc;

use babelvisor_core::Error;
use babelvisor_core::error::ErrorKind;
use babelvisor_core::layers::{CloneRequest, SubmitOptions};
use babelvisor_core::model::{Caller, Job, JobId, Vm};
use serde_json::{Map, Value, json};

use super::create::starts;
use crate::decode::Call;
use crate::error::Fault;
use crate::operations::{Started, Told};
use crate::{Zstack, encode};

/// In a job's note: the ids of the other jobs of its call.
const OTHERS: &str = "others";
/// More copies than one call is meant for.
const MOST: usize = 50;

/// `CloneVmInstance`.
pub(super) async fn clone(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let names: Vec<&str> = call.texts("names");
    if names.is_empty() || names.len() > MOST || names.iter().any(|name| name.is_empty()) {
        let text = format!("invalid field[names], expected 1 to {MOST} names");
        return Err(Error::invalid("names", text));
    }
    let requests: Vec<CloneRequest> = names
        .into_iter()
        .map(|name| {
            Ok(CloneRequest {
                name: name.to_owned(),
                description: vm.record.remark.clone(),
                data_disks: call.flag("full").unwrap_or(false),
                start: starts(call)?,
                ..CloneRequest::default()
            })
        })
        .collect::<Result<_, Error>>()?;
    let others: Vec<JobId> = requests.iter().skip(1).map(|_| JobId::random()).collect();
    let mut options = call.options.clone();
    let listed: Vec<String> = others.iter().map(JobId::simple).collect();
    let mut note = options.note.take().unwrap_or_else(|| json!({}));
    if let Some(members) = note.as_object_mut() {
        members.insert(OTHERS.to_owned(), json!(listed));
    }
    options.note = Some(note);
    let mut requests = requests.into_iter();
    let first = requests
        .next()
        .ok_or_else(|| Error::internal("a copy was lost on its way"))?;
    let (_, job) = zstack.core.clone_vm(&call.caller, vm.id, first, options).await?;
    for (request, id) in requests.zip(others) {
        // Its job stands beside the first one's; a refusal is told with its place in the list.
        let options = SubmitOptions {
            job: Some(id),
            ..SubmitOptions::QUEUE
        };
        let made = zstack.core.clone_vm(&call.caller, vm.id, request, options).await;
        if let Err(error) = made {
            let options = SubmitOptions {
                job: Some(id),
                ..SubmitOptions::QUEUE
            };
            zstack.core.done(&call.caller, Err(error), options).await?;
        }
    }
    Ok(Started::Job(Box::new(job)))
}

/// What became of all copies.
pub(super) async fn told(zstack: &Zstack, caller: &Caller, job: &Job) -> Result<Told, Error> {
    let note = job.note.as_ref().and_then(|note| note.get(OTHERS)?.as_array());
    let others = note
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_str()?.parse().ok());
    let mut entries = vec![entry(zstack, caller, job).await?];
    let mut made = 1;
    for id in others {
        use babelvisor_core::model::{JobState, Polled};
        let polled = zstack.core.poll(Some(caller), id).await?;
        let failed = |error: &Error| json!({ "error": Fault::of(&job.operation, error).object() });
        match polled {
            Some(Polled::Job(other)) => match (other.state, &other.error) {
                (JobState::Queued | JobState::Running, _) => return Ok(Told::NotYet),
                (JobState::Succeeded, _) => {
                    made += 1;
                    entries.push(entry(zstack, caller, &other).await?);
                }
                (_, Some(error)) => entries.push(failed(error)),
                (_, None) => entries.push(failed(&Error::new(ErrorKind::Conflict, "it was cancelled"))),
            },
            Some(Polled::Call(other)) => entries.extend(other.error.as_ref().map(failed)),
            None => {
                let text = "it was not begun: the gateway went down before";
                entries.push(failed(&Error::new(ErrorKind::BackendUnavailable, text)));
            }
        }
    }
    let result = json!({ "result": { "numberOfClonedVm": made, "inventories": entries } });
    encode::json_of(&result).map(Told::Result)
}

async fn entry(zstack: &Zstack, caller: &Caller, job: &Job) -> Result<Value, Error> {
    let mut members = Map::new();
    let vm: Option<Arc<Vm>> = match job.command.vm() {
        Some(id) => zstack.core.vm(caller, id).await.ok(),
        None => None,
    };
    if let Some(vm) = vm {
        let Value::Object(inventory) = zstack.vm_value(&vm)? else {
            return Err(Error::internal("a machine is shown as no object"));
        };
        members.extend(inventory);
    }
    Ok(Value::Object(members))
}
