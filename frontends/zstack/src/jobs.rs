//! Asynchronous calls: accepted with the address of a job, and told at that address how they ended.
//!
//! What cannot be accepted is told there, too (a stale session, a field that is missing), because that is where
//! this dialect's clients look for errors: such a call leaves an end without a job behind, for ten minutes. So does
//! a call that needs no hypervisor.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use babelvisor_core::command::WhenBusy;
use babelvisor_core::frontend::{Reply, Request, Routed};
use babelvisor_core::layers::{Origin, SubmitOptions};
use babelvisor_core::model::{Caller, EndedCall, Hook, Job, JobId, JobState, Polled, Role};
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas::{Operation, WARNING_HEADER};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::Zstack;
use crate::decode::{self, Call, Content};
use crate::encode;
use crate::error::Fault;
use crate::operations::{self, Begin, How, Started, Told};
use crate::schema;
use crate::session;

/// Where jobs are polled.
const PATH: &str = "/zstack/v1/api-jobs";
/// In a job's note: its uuid as the client wrote it.
const NAMED: &str = "uuid";
/// Length of a job's uuid.
const LENGTH: usize = 32;

/// The id of the job that a client names by `text`: 32 characters, mostly a uuid's digits.
pub(crate) fn id(text: &str) -> Option<JobId> {
    if text.len() != LENGTH || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    Some(JobId(decode::uuid(text).unwrap_or_else(|| {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes())
    })))
}

/// The job's uuid that the client chose, as it wrote it.
///
/// # Errors
/// A fault of the REST layer for anything that is not 32 letters and digits.
pub(crate) fn chosen(request: &Request) -> Result<Option<&str>, Fault> {
    match request.header("x-job-uuid") {
        None => Ok(None),
        Some(text) if id(text).is_some() => Ok(Some(text)),
        Some(_) => Err(Fault::bad_request(format!(
            "Invalid header[X-Job-UUID], it must be a UUID of {LENGTH} letters and digits without hyphens"
        ))),
    }
}

/// Where the job `text` is polled, at the address under which the client knows us.
pub(crate) fn location(request: &Request, text: &str) -> Bytes {
    let address = format!("{}://{}{PATH}/{text}", request.scheme, request.host);
    json!({ "location": address }).to_string().into()
}

impl Zstack {
    /// Takes an asynchronous call: 202 with the address of its job, whatever becomes of it. Only what the REST layer
    /// refuses is answered at once.
    pub(crate) async fn accept(
        &self,
        operation: &'static Operation,
        begin: Begin,
        routed: Routed,
        request: Request,
        body: Map<String, Value>,
    ) -> Result<Reply, Fault> {
        let token = session::token(&request)?;
        let named = chosen(&request)?.map_or_else(|| JobId::random().simple(), str::to_owned);
        let content = decode::content(self.contract, operation, self.settings.strictness, &request, body)?;
        let mut reply = encode::reply(202, location(&request, &named));
        let warning = content.remarks.tell().map(|text| (WARNING_HEADER, text));
        reply.headers.extend(warning);
        let mut options = SubmitOptions {
            when_busy: WhenBusy::Queue,
            accept_blindly: operation.accepts_blindly,
            job: id(&named),
            digest: None,
            hook: request
                .header("x-web-hook")
                .map(|url| Hook { url: url.to_owned() }),
            // Only a name that is no uuid cannot be told from the job's id.
            note: decode::uuid(&named).is_none().then(|| json!({ NAMED: named })),
        };
        if let Some(hook) = &options.hook {
            let checked = self.core.check_hook(hook).await;
            checked.map_err(|error| {
                Fault::bad_request(format!("Invalid header[X-Web-Hook], {}", error.detail))
            })?;
        }
        let caller = match self.caller(token, &operation.id, &request).await {
            Ok(caller) => caller,
            Err(error) => {
                // Whoever has not signed in does not make the gateway post anything anywhere.
                options.hook = None;
                self.fails(operation, &request, None, error, options).await?;
                return Ok(reply);
            }
        };
        options.digest = Some(self.digest(&caller, operation, &request, &content));
        match self.core.known(&caller, &options).await {
            Ok(Some(_)) => return Ok(reply),
            Ok(None) => {}
            Err(error) => return Err(unusable(operation, &error)),
        }
        let (outcome, call) = self
            .start(operation, begin, caller, options, routed, content)
            .await;
        match outcome {
            Ok(Started::Job(job)) => {
                tracing::debug!(operation = operation.id, job = %job.id, "a job is begun");
            }
            Ok(Started::Done(result)) => {
                let ended = self.core.done(&call.caller, Ok(result), call.options).await;
                ended.map_err(|error| unusable(operation, &error))?;
            }
            Err(error) => {
                let Call { caller, options, .. } = call;
                self.fails(operation, &request, Some(&caller), error, options)
                    .await?;
            }
        }
        Ok(reply)
    }

    async fn start(
        &self,
        operation: &'static Operation,
        begin: Begin,
        caller: Caller,
        options: SubmitOptions,
        path: Routed,
        content: Content,
    ) -> (Result<Started, Error>, Call) {
        let refusal = content.refusal.clone();
        let call = Call::new(operation, caller, options, path, content);
        let outcome = match refusal {
            Some(error) => Err(error),
            None => begin(self, &call).await,
        };
        (outcome, call)
    }

    /// Leaves a failure behind, to be told at the poll.
    async fn fails(
        &self,
        operation: &Operation,
        request: &Request,
        caller: Option<&Caller>,
        error: Error,
        options: SubmitOptions,
    ) -> Result<(), Fault> {
        let origin = Origin {
            source: source(request),
            caller,
            dialect: self.contract.dialect().name(),
            operation: &operation.id,
        };
        Fault::of(&operation.id, &error).log(Some(&operation.id), &request.request_id);
        let kept = self.core.stillborn(&origin, error, options).await;
        kept.map(|_| ()).map_err(|error| unusable(operation, &error))
    }

    /// What makes a second request with the same job uuid the same call.
    fn digest(&self, caller: &Caller, operation: &Operation, request: &Request, content: &Content) -> String {
        let sent = json!({
            "path": request.path,
            "query": content.query,
            "body": content.body,
            "systemTags": content.system_tags,
            "userTags": content.user_tags,
        });
        self.core.digest(caller, &operation.id, &sent)
    }

    /// `GetApiJob`: 202 while it runs, then what it came to.
    pub(crate) async fn poll(&self, routed: &Routed, request: &Request) -> Result<Reply, Fault> {
        let token = session::token(request)?;
        let named = routed.param("uuid");
        let id = id(named).ok_or_else(Fault::expired_job)?;
        let caller = self.caller(token, "GetApiJob", request).await;
        let found = self.core.poll(caller.as_ref().ok(), id).await;
        let found = found.map_err(|error| Fault::of("GetApiJob", &error))?;
        let running = || encode::reply(202, location(request, named));
        let ours = |dialect: &str| dialect == self.contract.dialect().name();
        match (found, caller) {
            (Some(Polled::Call(call)), _) if ours(&call.dialect) => {
                let body = ended(*call)?;
                Ok(encode::reply(200, body))
            }
            (Some(Polled::Job(job)), Ok(caller)) if ours(&job.dialect) => {
                match self.told(&caller, &job).await? {
                    Told::Result(body) => {
                        let body = match (wants_schema(request), self.contract.operation(&job.operation)) {
                            (true, Some(operation)) => schema::described(operation, body),
                            (true, None) | (false, _) => body,
                        };
                        Ok(encode::reply(200, body))
                    }
                    Told::NotYet => Ok(running()),
                }
            }
            (_, Err(error)) => Err(Fault::of("GetApiJob", &error)),
            (_, Ok(_)) => Err(Fault::expired_job()),
        }
    }

    /// The body that a poll of an end answers, and whether it is one of success.
    ///
    /// # Errors
    /// `Busy` while something that belongs to it still runs.
    pub(crate) async fn end(&self, ended_as: &Polled) -> Result<(bool, Bytes), Error> {
        let failed = |fault: Fault| (false, json!({ "error": fault.object() }).to_string().into());
        match ended_as {
            Polled::Call(call) => Ok(ended((**call).clone()).map_or_else(failed, |body| (true, body))),
            Polled::Job(job) => {
                let caller = self.owner(job);
                match self.told(&caller, job).await {
                    Ok(Told::Result(body)) => Ok((true, body)),
                    Ok(Told::NotYet) => Err(Error::new(ErrorKind::Busy, "the call has not ended yet")),
                    Err(fault) => Ok(failed(fault)),
                }
            }
        }
    }

    /// Whoever may see what a job did: its tenant.
    fn owner(&self, job: &Job) -> Caller {
        Caller {
            account: None,
            tenant: job.tenant.clone(),
            role: Role::Viewer,
            vm_quota: None,
            dialect: self.contract.dialect().name(),
            operation: job.operation.clone(),
            request_id: String::new(),
        }
    }

    /// How a job stands, in its operation's words.
    async fn told(&self, caller: &Caller, job: &Job) -> Result<Told, Fault> {
        let id = job.operation.as_str();
        match (job.state, operations::row(id).map(|row| row.how)) {
            (JobState::Queued | JobState::Running, _) => Ok(Told::NotYet),
            (_, Some(How::Async(_, tell))) if job.state == JobState::Succeeded => {
                let told = tell(self, caller, job).await;
                told.map_err(|error| Fault::of(id, &error))
            }
            (JobState::Succeeded, _) => Ok(Told::Result(encode::nothing())),
            (JobState::Failed | JobState::Cancelled, _) => {
                let unnamed = || Error::new(ErrorKind::Conflict, "the job was cancelled");
                let error = job.error.clone().unwrap_or_else(unnamed);
                Err(Fault::of(id, &error))
            }
        }
    }
}

/// Whether the request wants to know the class of each object of the answer.
pub(crate) fn wants_schema(request: &Request) -> bool {
    let header = request.header("x-json-schema");
    header.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// A job's uuid as the client wrote it.
pub(crate) fn uuid_of(ended_as: &Polled) -> String {
    let (id, note) = match ended_as {
        Polled::Job(job) => (job.id, &job.note),
        Polled::Call(call) => (call.id, &call.note),
    };
    let named = note.as_ref().and_then(|note| note.get(NAMED)?.as_str());
    named.map_or_else(|| id.simple(), str::to_owned)
}

/// The end of a call without a job.
fn ended(call: EndedCall) -> Result<Bytes, Fault> {
    match (call.error, call.result) {
        (Some(error), _) => Err(Fault::of(&call.operation, &error)),
        (None, Some(result)) => Ok(result.to_string().into()),
        (None, None) => Ok(encode::nothing()),
    }
}

/// The call cannot even leave its end behind: mostly because its job uuid is another call's.
fn unusable(operation: &Operation, error: &Error) -> Fault {
    match error.kind {
        ErrorKind::Conflict | ErrorKind::AlreadyExists => {
            Fault::bad_request("Invalid header[X-Job-UUID], another call has this job UUID")
        }
        _ => Fault::of(&operation.id, error),
    }
}

/// The address that a request came from.
fn source(request: &Request) -> IpAddr {
    let peer = request.peer.as_str();
    let address = peer.parse::<SocketAddr>().map(|peer| peer.ip());
    address
        .or_else(|_| peer.parse())
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_by_32_letters_and_digits() {
        let digits = "d0345d3ddcae485f8170572b15a2b581";
        assert_eq!(id(digits).unwrap().simple(), digits);
        let letters = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
        assert_eq!(id(letters), id(letters));
        assert_ne!(id(letters), id("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzy"));
        for wrong in [
            "",
            "d0345d3d-dcae-485f-8170-572b15a2b581",
            "d0345d3ddcae485f8170572b15a2b58",
            "d0345d3ddcae485f8170572b15a2b58/",
        ] {
            assert_eq!(id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_location_is_where_the_client_is_already() {
        let request = Request {
            scheme: "http",
            host: "cloud.example:8080".to_owned(),
            ..Request::default()
        };
        assert_eq!(
            location(&request, "abc"),
            r#"{"location":"http://cloud.example:8080/zstack/v1/api-jobs/abc"}"#
        );
    }
}
