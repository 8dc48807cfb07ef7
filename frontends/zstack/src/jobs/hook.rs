//! How an end is said to a web hook: a POST with the job's uuid, whether it succeeded, and the body that the poll
//! would answer (the original's `RestServer.java`).

use async_trait::async_trait;
use babelvisor_core::jobs::{HookEncoder, HookMessage};
use babelvisor_core::model::{Caller, Job, JobId, Polled, Role, TenantId};
use babelvisor_core::{Error, ErrorKind};
use bytes::Bytes;
use serde_json::{Value, json};

use super::ended;
use crate::Zstack;
use crate::encode;
use crate::error::Fault;
use crate::operations::Told;

/// Under which name a call's note has the job's uuid as the client wrote it.
const UUID: &str = "uuid";

/// What must be remembered of the uuid that a client gave its job: nothing if our own id says it as well.
pub(super) fn note(id: Option<JobId>, named: &str) -> Option<Value> {
    let same = id.is_some_and(|id| id.simple() == named);
    (!same).then(|| json!({ UUID: named }))
}

#[async_trait]
impl HookEncoder for Zstack {
    fn dialect(&self) -> &'static str {
        self.contract.dialect().name()
    }

    async fn encode(&self, polled: &Polled) -> Result<HookMessage, Error> {
        let (id, note, outcome) = match polled {
            Polled::Call(call) => (call.id, &call.note, ended((**call).clone())),
            Polled::Job(job) => {
                let told = self.told(&self.whoever_asked(job), job).await;
                let body = match told {
                    Ok(Told::Result(body)) => Ok(body),
                    Ok(Told::NotYet) => {
                        return Err(Error::new(ErrorKind::Busy, "the call has not come to its end"));
                    }
                    Err(fault) => Err(fault),
                };
                (job.id, &job.note, body)
            }
        };
        let named = note.as_ref().and_then(|note| note.get(UUID)?.as_str());
        let named = named.map_or_else(|| id.simple(), str::to_owned);
        Ok(message(named, outcome))
    }
}

impl Zstack {
    /// The caller of a job, as far as its result concerns: what it was told to look at it may see.
    fn whoever_asked(&self, job: &Job) -> Caller {
        Caller {
            account: None,
            tenant: TenantId::clone(&job.tenant),
            role: Role::Admin,
            vm_quota: None,
            dialect: self.contract.dialect().name(),
            operation: job.operation.clone(),
            request_id: format!("hook-{}", job.id.simple()),
        }
    }
}

fn message(uuid: String, outcome: Result<Bytes, Fault>) -> HookMessage {
    let succeeded = outcome.is_ok();
    let body = outcome.unwrap_or_else(|fault| encode::failure(&fault).body);
    let headers = [
        ("X-Job-UUID", uuid),
        ("X-Job-Success", succeeded.to_string()),
        ("Content-Type", "application/json".to_owned()),
    ];
    HookMessage {
        headers: headers.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_and_an_error_are_told_with_the_job_they_belong_to() {
        let header = |message: &HookMessage, name: &str| {
            let found = message.headers.iter().find(|(field, _)| field == name);
            found.map(|(_, value)| value.clone()).unwrap()
        };
        let good = message("a1".to_owned(), Ok(encode::nothing()));
        assert_eq!(header(&good, "X-Job-UUID"), "a1");
        assert_eq!(header(&good, "X-Job-Success"), "true");
        assert_eq!(good.body, "{}");
        let error = Error::not_found("vm", "x");
        let bad = message("a1".to_owned(), Err(Fault::of("StartVmInstance", &error)));
        assert_eq!(header(&bad, "X-Job-Success"), "false");
        let body: Value = serde_json::from_slice(&bad.body).unwrap();
        assert!(body["error"]["code"].is_string(), "{body}");
    }

    #[test]
    fn only_a_uuid_that_we_cannot_say_ourselves_is_noted() {
        let digits = "d0345d3ddcae485f8170572b15a2b581";
        assert_eq!(note(super::super::id(digits), digits), None);
        let letters = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
        let noted = note(super::super::id(letters), letters).unwrap();
        assert_eq!(noted, json!({"uuid": letters}));
    }
}
