//! From what went wrong to this dialect's words. The REST layer complains in plain text; everything else is an
//! error object under 503. Codes, statuses and descriptions are the contract's; `details` is the text of the case.
//!
//! Calls and jobs fail with the core's [`Error`]; which code that is may depend on the operation, so it is decided
//! here and not where the error arose: a job's error is put into words when it is polled.

use babelvisor_core::frontend::{Refusal, Request};
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas as schemas;
use babelvisor_schemas::{Dialect, Outcome, Problem, TransportFault, Violation, contract};
use serde_json::{Map, Value, json};

use crate::{decode, query};

/// A failure in the dialect's words.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) outcome: Outcome,
    /// This case in words.
    pub(crate) details: String,
    /// What it came from.
    cause: Option<Box<Fault>>,
    /// What only the log is told.
    hidden: Option<String>,
}

/// Codes that operations choose themselves.
const WRONG_LOGIN: &str = "ID.1000";
const CANNOT_START: &str = "VM.1001";
const REIMAGE_FAILED: &str = "VM.1014";
const REIMAGE_STATE: &str = "VM.1015";

impl Fault {
    /// A failure of transport: plain text where the contract says so.
    pub(crate) fn transport(fault: TransportFault, details: impl Into<String>) -> Self {
        let outcome = contract(Dialect::Zstack).errors().for_fault(fault).clone();
        Self::with(outcome, details)
    }

    /// 400 in plain text.
    pub(crate) fn bad_request(details: impl Into<String>) -> Self {
        Self::transport(TransportFault::MalformedBody, details)
    }

    /// 404 in plain text, for a job that is unknown or gone.
    pub(crate) fn expired_job() -> Self {
        Self::transport(TransportFault::UnknownPath, "the job has been expired")
    }

    /// `error` as the operation `id` says it.
    pub(crate) fn of(id: &str, error: &Error) -> Self {
        let errors = contract(Dialect::Zstack).errors();
        let by_kind = || errors.for_kind(kind(error.kind)).clone();
        let chosen = |code: &str| errors.for_code(code).unwrap_or_else(by_kind);
        match (error.kind, id) {
            // The original's REST layer reads query strings, before any operation sees them.
            (ErrorKind::InvalidInput, _) if error.field.as_deref() == Some(query::QUERY_STRING) => {
                Self::bad_request(error.detail.clone())
            }
            (ErrorKind::Unauthenticated, "LogInByAccount") => {
                Self::with(chosen(WRONG_LOGIN), "wrong account name or password")
            }
            (ErrorKind::Unauthenticated, _) => Self::with(by_kind(), "Session expired"),
            (ErrorKind::IllegalState, "StartVmInstance") => {
                let cause = Self::with(by_kind(), words(error));
                let mut fault = Self::with(chosen(CANNOT_START), words(error));
                fault.cause = Some(Box::new(cause));
                fault
            }
            (ErrorKind::IllegalState, "ReimageVmInstance") => Self::with(chosen(REIMAGE_STATE), words(error)),
            (ErrorKind::Unsupported | ErrorKind::NoResources, "ReimageVmInstance") => {
                Self::with(chosen(REIMAGE_FAILED), words(error))
            }
            (ErrorKind::Internal, _) => {
                // What broke inside is for the log; the client learns that it was not its own doing.
                let mut fault = Self::with(by_kind(), "a fault of the gateway; its log says more");
                fault.hidden = Some(error.to_string());
                fault
            }
            _ => Self::with(by_kind(), words(error)),
        }
    }

    /// What the server refuses on its own.
    pub(crate) fn refusal(refusal: &Refusal, request: &Request, named: Option<&str>) -> Self {
        let errors = contract(Dialect::Zstack).errors();
        let (method, path) = (&request.method, &request.path);
        match refusal {
            Refusal::UnknownPath => {
                Self::transport(TransportFault::UnknownPath, format!("no api mapping to {path}"))
            }
            Refusal::WrongMethod { allowed } => {
                let allowed = allowed.join(", ");
                let text = format!("the method[{method}] is not allowed for the URL[{path}], use {allowed}");
                Self::transport(TransportFault::WrongMethod, text)
            }
            Refusal::NotBuilt { operation } => {
                let name = named.unwrap_or(operation);
                let text = format!("the operation {name} is not implemented yet");
                Self::transport(TransportFault::NotBuilt, text)
            }
            Refusal::BodyTooLarge { limit } => {
                let text = format!("the body has more than {limit} bytes");
                Self::transport(TransportFault::BodyTooLarge, text)
            }
            Refusal::BadRequest(reason) => Self::bad_request(reason.clone()),
            Refusal::Timeout => Self::with(
                errors.for_kind(schemas::ErrorKind::Timeout).clone(),
                "the request was not received or finished in time",
            ),
            Refusal::Overloaded => Self::transport(
                TransportFault::Overloaded,
                "too many requests are under way; try again later",
            ),
            // The one fault that the REST layer tells in plain text although it is ours.
            Refusal::Internal => {
                let text = format!("the request {} met a fault of the gateway", request.request_id);
                let by_kind = || errors.for_kind(schemas::ErrorKind::Internal).clone();
                Self::with(errors.for_code("500").unwrap_or_else(by_kind), text)
            }
        }
    }

    /// The body names no action that its address has.
    pub(crate) fn no_action(path: &str) -> Self {
        Self::bad_request(format!(
            "the body doesn't contain action mapping to the URL[{path}]"
        ))
    }

    fn with(outcome: Outcome, details: impl Into<String>) -> Self {
        Self {
            outcome,
            details: details.into(),
            cause: None,
            hidden: None,
        }
    }

    /// The error object; absent members are left out.
    pub(crate) fn object(&self) -> Value {
        let row = &self.outcome.row;
        let mut members = Map::new();
        members.insert("code".to_owned(), json!(row.code));
        let description = row.en.as_deref().unwrap_or(&row.meaning);
        members.insert("description".to_owned(), json!(description));
        members.insert("details".to_owned(), json!(self.details));
        if let Some(cause) = &self.cause {
            members.insert("cause".to_owned(), cause.object());
        }
        Value::Object(members)
    }

    /// Tells the log what the client is not told. Never a value of a request.
    pub(crate) fn log(&self, operation: Option<&str>, request: &str) {
        let (code, hidden) = (self.outcome.row.code.as_str(), self.hidden.as_deref());
        if hidden.is_some() {
            tracing::warn!(operation, request, code, cause = hidden, "call failed");
        } else {
            tracing::debug!(operation, request, code, "call refused");
        }
    }
}

/// What a schema complains about first: a type that does not fit is a fault of the REST layer, all else is an
/// error of the call.
pub(crate) fn violated(id: &str, violations: &[Violation]) -> Result<Error, Fault> {
    let Some(first) = violations.first() else {
        return Ok(Error::invalid("body", "the request does not fit its schema"));
    };
    let message = decode::message(id);
    let field = if first.field.is_empty() {
        "body"
    } else {
        first.field.as_str()
    };
    match first.problem {
        Problem::WrongType => Err(Fault::bad_request(format!(
            "field[{field}] of message[{message}] expects {}, but got {}",
            first.expected, first.received
        ))),
        Problem::Missing => Ok(mandatory(id, field)),
        Problem::Unknown => Ok(Error::invalid(
            field,
            format!("field[{field}] of message[{message}] is not known"),
        )),
        Problem::OutOfRange | Problem::Length | Problem::Pattern | Problem::NotAllowed | Problem::Other => {
            Ok(Error::invalid(
                field,
                format!(
                    "invalid value of field[{field}] of message[{message}], expected {}, but got {}",
                    first.expected, first.received
                ),
            ))
        }
    }
}

/// A field that must be there and is not.
pub(crate) fn mandatory(id: &str, field: &str) -> Error {
    let message = decode::message(id);
    Error::invalid(
        field,
        format!("field[{field}] of message[{message}] is mandatory, can not be null"),
    )
}

/// A resource that a request names and that does not exist, or not for this caller.
pub(crate) fn no_resource(field: &str, noun: &str, id: &str) -> Error {
    let mut error = Error::not_found(noun, id);
    error.field = Some(field.to_owned());
    error
}

/// The text of a case.
fn words(error: &Error) -> String {
    match (error.kind, &error.subject) {
        (ErrorKind::NotFound, Some(subject)) => {
            let field = error.field.as_deref().unwrap_or("uuid");
            let id = uuid::Uuid::parse_str(&subject.id)
                .map_or_else(|_| subject.id.clone(), |id| id.simple().to_string());
            let class = class(&subject.noun);
            format!("invalid field[{field}], resource[uuid:{id}, type:{class}] not found")
        }
        // Said by us already in the original's form.
        (ErrorKind::InvalidInput, _) if error.detail.contains("field[") => error.detail.clone(),
        (ErrorKind::InvalidInput, _) => match &error.field {
            Some(field) => format!("invalid field[{field}], {}", error.detail),
            None => error.detail.clone(),
        },
        _ => error.detail.clone(),
    }
}

/// The original's name of a noun.
fn class(noun: &str) -> &str {
    const CLASSES: [(&str, &str); 15] = [
        ("vm", "VmInstanceVO"),
        ("volume", "VolumeVO"),
        ("snapshot", "VolumeSnapshotVO"),
        ("image", "ImageVO"),
        ("nic", "VmNicVO"),
        ("network", "L3NetworkVO"),
        ("host", "HostVO"),
        ("cluster", "ClusterVO"),
        ("zone", "ZoneVO"),
        ("pool", "PrimaryStorageVO"),
        ("flavor", "InstanceOfferingVO"),
        ("disk offering", "DiskOfferingVO"),
        ("affinity group", "AffinityGroupVO"),
        ("account", "AccountVO"),
        ("job", "LongJobVO"),
    ];
    CLASSES
        .iter()
        .find(|(known, _)| *known == noun)
        .map_or(noun, |(_, class)| class)
}

/// The contract's name of a kind. The contract knows nothing of the core, so that it can be used without it.
pub(crate) const fn kind(kind: ErrorKind) -> schemas::ErrorKind {
    use schemas::ErrorKind as Out;
    match kind {
        ErrorKind::NotFound => Out::NotFound,
        ErrorKind::AlreadyExists => Out::AlreadyExists,
        ErrorKind::InvalidInput => Out::InvalidInput,
        ErrorKind::IllegalState => Out::IllegalState,
        ErrorKind::Busy => Out::Busy,
        ErrorKind::Unsupported => Out::Unsupported,
        ErrorKind::NotImplemented => Out::NotImplemented,
        ErrorKind::Unauthenticated => Out::Unauthenticated,
        ErrorKind::Forbidden => Out::Forbidden,
        ErrorKind::NoResources => Out::NoResources,
        ErrorKind::QuotaExceeded => Out::QuotaExceeded,
        ErrorKind::BackendUnavailable => Out::BackendUnavailable,
        ErrorKind::Timeout => Out::Timeout,
        ErrorKind::Conflict => Out::Conflict,
        ErrorKind::Internal => Out::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_may_not_be_started_says_so_as_the_cause() {
        let error = Error::illegal_state("vm", "1", "cannot start a vm whose power state is paused");
        let object = Fault::of("StartVmInstance", &error).object();
        assert_eq!(object["code"], "VM.1001");
        assert_eq!(object["cause"]["code"], "VM.1010");
        assert_eq!(Fault::of("StopVmInstance", &error).object()["code"], "VM.1010");
    }

    #[test]
    fn what_is_not_found_is_told_in_the_originals_form() {
        let id = "8c7a2f0e-4b8d-4a0c-b5c5-e1f3d2a19b07";
        let fault = Fault::of("StopVmInstance", &Error::not_found("vm", id));
        assert_eq!(
            fault.details,
            "invalid field[uuid], resource[uuid:8c7a2f0e4b8d4a0cb5c5e1f3d2a19b07, type:VmInstanceVO] not found"
        );
        let fault = Fault::of("CreateVmInstance", &no_resource("imageUuid", "image", "nonsense"));
        assert_eq!(
            fault.details,
            "invalid field[imageUuid], resource[uuid:nonsense, type:ImageVO] not found"
        );
        assert_eq!(fault.outcome.row.code, "SYS.1003");
    }

    #[test]
    fn a_wrong_login_and_a_stale_session_are_two_errors() {
        let error = Error::new(ErrorKind::Unauthenticated, "no");
        let login = Fault::of("LogInByAccount", &error).object();
        assert_eq!(
            (login["code"].as_str(), login["details"].as_str()),
            (Some("ID.1000"), Some("wrong account name or password"))
        );
        let stale = Fault::of("QueryZone", &error).object();
        assert_eq!(
            (stale["code"].as_str(), stale["details"].as_str()),
            (Some("ID.1001"), Some("Session expired"))
        );
    }

    #[test]
    fn faults_of_ours_keep_their_cause_to_the_log() {
        let fault = Fault::of("QueryZone", &Error::internal("the disk of the store is full"));
        assert!(!fault.object().to_string().contains("disk"));
        assert_eq!(fault.object()["code"], "SYS.1000");
    }

    #[test]
    fn every_code_that_calls_choose_is_in_the_contract() {
        let errors = contract(Dialect::Zstack).errors();
        for code in [WRONG_LOGIN, CANNOT_START, REIMAGE_FAILED, REIMAGE_STATE] {
            assert!(errors.for_code(code).is_some(), "{code}");
        }
    }

    #[test]
    fn every_error_object_fits_the_contract() {
        use strum_like::kinds;
        let errors = contract(Dialect::Zstack).errors();
        for kind in kinds() {
            for id in [
                "StartVmInstance",
                "LogInByAccount",
                "QueryZone",
                "ReimageVmInstance",
            ] {
                let fault = Fault::of(id, &Error::new(kind, "a case"));
                let body = json!({ "error": fault.object() });
                assert_eq!(errors.validate_body(&body), Ok(()), "{kind:?} {id}");
                assert_eq!(fault.outcome.status, 503);
            }
        }
    }

    mod strum_like {
        use babelvisor_core::ErrorKind;

        /// All kinds; the match keeps the list whole.
        pub(super) fn kinds() -> Vec<ErrorKind> {
            vec![
                ErrorKind::NotFound,
                ErrorKind::AlreadyExists,
                ErrorKind::InvalidInput,
                ErrorKind::IllegalState,
                ErrorKind::Busy,
                ErrorKind::Unsupported,
                ErrorKind::NotImplemented,
                ErrorKind::Unauthenticated,
                ErrorKind::Forbidden,
                ErrorKind::NoResources,
                ErrorKind::QuotaExceeded,
                ErrorKind::BackendUnavailable,
                ErrorKind::Timeout,
                ErrorKind::Conflict,
                ErrorKind::Internal,
            ]
        }
    }
}
