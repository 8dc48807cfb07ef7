//! The way out of every failure: a row of the contract's table, its texts, and the tail that the original puts
//! behind (or, for one code, in front of) the text.
//!
//! A five-digit branch goes into `state.sub`, its three-digit trunk into `state` and the HTTP status. Only `sub`
//! has room for details; all of them go into the header `Babelvisor-Detail` in English as well.

use babelvisor_core::frontend::Reply;
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas as schemas;
use babelvisor_schemas::{Dialect, ErrorTable, Problem, TransportFault, Violation, contract, header_text};
use bytes::Bytes;
use serde::Serialize;

use crate::encode::CONTENT_TYPE;

/// What every operation ends in.
pub(crate) type Outcome = Result<Reply, Fault>;

/// The header that says in English what went wrong; the envelope has no English room for it.
const DETAIL: &str = "babelvisor-detail";

/// One refusal.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    outcome: schemas::Outcome,
    /// In front of the branch's text.
    before: String,
    /// Behind the branch's text.
    after: String,
    /// English, for the log and the header; no secrets.
    detail: String,
}

/// The envelope. Its fields stand in the order in which the document prints them.
#[derive(Serialize)]
struct State<'a> {
    code: &'a str,
    #[serde(rename = "en-us")]
    en: &'a str,
    #[serde(rename = "zh-cn")]
    zh: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<Sub<'a>>,
}

#[derive(Serialize)]
struct Sub<'a> {
    code: &'a str,
    #[serde(rename = "zh-cn")]
    zh: String,
}

fn table() -> &'static ErrorTable {
    contract(Dialect::GuestRest).errors()
}

impl Fault {
    fn new(outcome: &schemas::Outcome, detail: impl Into<String>) -> Self {
        Self {
            outcome: outcome.clone(),
            before: String::new(),
            after: String::new(),
            detail: detail.into(),
        }
    }

    /// A canonical kind of failure without a field.
    pub(crate) fn of_kind(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self::new(table().for_kind(kind_of(kind)), detail)
    }

    /// A failure of transport: the original's framework answers these.
    pub(crate) fn transport(fault: TransportFault, detail: impl Into<String>) -> Self {
        Self::new(table().for_fault(fault), detail)
    }

    /// No guest has this uuid. The original always names its key column, whatever was looked up.
    pub(crate) fn no_guest(uuid: &str) -> Self {
        let mut fault = Self::of_kind(ErrorKind::NotFound, format!("guest {uuid} does not exist"));
        ": id".clone_into(&mut fault.after);
        fault
    }

    /// No image has this number.
    pub(crate) fn no_template(number: i64) -> Self {
        let detail = format!("there is no image number {number} to make a guest from");
        let outcome = table().for_code("40450");
        let outcome = outcome
            .as_ref()
            .unwrap_or(table().for_kind(schemas::ErrorKind::NotFound));
        let mut fault = Self::new(outcome, detail);
        fault.after = format!(": {number}");
        fault
    }

    /// Another guest has this name.
    pub(crate) fn name_taken(name: &str) -> Self {
        let mut fault = Self::of_kind(
            ErrorKind::AlreadyExists,
            format!("a guest named {name} exists already"),
        );
        fault.after = format!(": {name}");
        fault
    }

    /// A field whose value is of the right type and cannot be taken all the same.
    pub(crate) fn out_of_range(field: &str, expected: &str, received: &str) -> Self {
        Self::problem(Problem::OutOfRange, field, expected, received)
    }

    /// What the contract's schema objects to.
    pub(crate) fn violation(violation: &Violation) -> Self {
        let field = if violation.field.is_empty() {
            "body"
        } else {
            &violation.field
        };
        Self::problem(violation.problem, field, &violation.expected, &violation.received)
    }

    fn problem(problem: Problem, field: &str, expected: &str, received: &str) -> Self {
        let outcome = table().for_problem(problem);
        let mut fault = Self::new(
            outcome,
            format!("{field}: expected {expected}, received {received}"),
        );
        match outcome.row.code.as_str() {
            "41201" => field.clone_into(&mut fault.after),
            "41202" => fault.after = format!("，预期类型 {expected}，收到 {received}，源自字段 {field}"),
            "41203" => {
                field.clone_into(&mut fault.before);
                fault.after = format!("，预期取值范围 {expected}，收到 {received}");
            }
            // 41209 names nothing.
            _ => {}
        }
        fault
    }

    /// The code that the client gets, for tests and logs.
    fn code(&self) -> &str {
        &self.outcome.row.code
    }

    /// Says in the log what was refused; a fault of ours as an error.
    pub(crate) fn log(&self, request_id: &str) {
        let (code, detail) = (self.code(), &self.detail);
        if self.outcome.status == 500 {
            tracing::error!(request = request_id, code, detail, "request failed");
        } else {
            tracing::debug!(request = request_id, code, detail, "request refused");
        }
    }

    /// The answer.
    pub(crate) fn reply(&self) -> Reply {
        let row = &*self.outcome.row;
        let trunk = self.outcome.parent.as_deref().unwrap_or(row);
        let sub = self.outcome.parent.as_ref().map(|_| Sub {
            code: &row.code,
            zh: format!(
                "{}{}{}",
                self.before,
                row.zh.as_deref().unwrap_or_default(),
                self.after
            ),
        });
        let body = envelope(trunk, sub);
        let mut headers = vec![("content-type", CONTENT_TYPE.to_owned())];
        // What went wrong inside is for the log alone.
        if self.outcome.status != 500 {
            headers.push((DETAIL, header_text(&self.detail)));
        }
        Reply {
            status: self.outcome.status,
            headers,
            body: body.into(),
            operation: None,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let fault = Self::of_kind(error.kind, error.to_string());
        match error.kind {
            ErrorKind::NotFound => Self {
                after: ": id".to_owned(),
                ..fault
            },
            ErrorKind::InvalidInput => {
                let field = error
                    .field
                    .as_deref()
                    .map(field_of)
                    .unwrap_or_default()
                    .to_owned();
                Self {
                    before: field,
                    after: format!("，{}", error.detail),
                    ..fault
                }
            }
            ErrorKind::AlreadyExists
            | ErrorKind::IllegalState
            | ErrorKind::Busy
            | ErrorKind::Unsupported
            | ErrorKind::NotImplemented
            | ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::NoResources
            | ErrorKind::QuotaExceeded
            | ErrorKind::BackendUnavailable
            | ErrorKind::Timeout
            | ErrorKind::Conflict => Self {
                after: format!(": {}", error.detail),
                ..fault
            },
            ErrorKind::Internal => fault,
        }
    }
}

/// The dialect's word for a canonical field.
fn field_of(canonical: &str) -> &str {
    match canonical {
        "vcpus" => "cpu",
        "image" => "os_template_id",
        other => other,
    }
}

/// The canonical kinds as the contract spells them.
const fn kind_of(kind: ErrorKind) -> schemas::ErrorKind {
    match kind {
        ErrorKind::NotFound => schemas::ErrorKind::NotFound,
        ErrorKind::AlreadyExists => schemas::ErrorKind::AlreadyExists,
        ErrorKind::InvalidInput => schemas::ErrorKind::InvalidInput,
        ErrorKind::IllegalState => schemas::ErrorKind::IllegalState,
        ErrorKind::Busy => schemas::ErrorKind::Busy,
        ErrorKind::Unsupported => schemas::ErrorKind::Unsupported,
        ErrorKind::NotImplemented => schemas::ErrorKind::NotImplemented,
        ErrorKind::Unauthenticated => schemas::ErrorKind::Unauthenticated,
        ErrorKind::Forbidden => schemas::ErrorKind::Forbidden,
        ErrorKind::NoResources => schemas::ErrorKind::NoResources,
        ErrorKind::QuotaExceeded => schemas::ErrorKind::QuotaExceeded,
        ErrorKind::BackendUnavailable => schemas::ErrorKind::BackendUnavailable,
        ErrorKind::Timeout => schemas::ErrorKind::Timeout,
        ErrorKind::Conflict => schemas::ErrorKind::Conflict,
        ErrorKind::Internal => schemas::ErrorKind::Internal,
    }
}

/// The state of a good answer, as JSON: `{"code":"200",…}`.
pub(crate) fn success_state(contract: &schemas::Contract) -> Bytes {
    state_json(contract.errors().success(), None).into()
}

fn state_json(trunk: &schemas::ErrorRow, sub: Option<Sub<'_>>) -> Vec<u8> {
    let state = State {
        code: &trunk.code,
        en: trunk.en.as_deref().unwrap_or_default(),
        zh: trunk.zh.as_deref().unwrap_or_default(),
        sub,
    };
    // Text alone always encodes.
    serde_json::to_vec(&state).unwrap_or_default()
}

fn envelope(trunk: &schemas::ErrorRow, sub: Option<Sub<'_>>) -> Vec<u8> {
    [b"{\"state\":".as_slice(), &state_json(trunk, sub), b"}"].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use strum::IntoEnumIterator as _;

    use super::*;

    fn state(fault: &Fault) -> Value {
        let reply = fault.reply();
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(
            body["state"]["code"],
            reply.status.to_string(),
            "the http status equals state.code"
        );
        body["state"].clone()
    }

    #[test]
    fn every_kind_has_a_row_and_a_whole_envelope() {
        for kind in ErrorKind::iter() {
            let state = state(&Fault::from(Error::new(kind, "why")));
            assert!(
                state["en-us"].as_str().is_some_and(|text| !text.is_empty()),
                "{kind:?}: {state}"
            );
            assert!(
                state["zh-cn"].as_str().is_some_and(|text| !text.is_empty()),
                "{kind:?}: {state}"
            );
        }
    }

    #[test]
    fn tails_stand_where_the_original_puts_them() {
        let text = |fault: Fault| state(&fault)["sub"]["zh-cn"].as_str().unwrap().to_owned();
        assert_eq!(text(Fault::no_guest("x")), "目标不存在: id");
        assert_eq!(text(Fault::no_template(7)), "目标操作系统模板未找到: 7");
        assert_eq!(text(Fault::name_taken("web")), "目标已存在: web");
        assert_eq!(
            text(Fault::problem(Problem::Missing, "cpu", "a value", "nothing")),
            "缺少参数cpu"
        );
        let wrong = text(Fault::problem(
            Problem::WrongType,
            "cpu",
            "integer",
            "string of length 1",
        ));
        assert_eq!(
            wrong,
            "参数类型未达预期，预期类型 integer，收到 string of length 1，源自字段 cpu"
        );
        let range = text(Fault::problem(
            Problem::Length,
            "uuid",
            "a length of at least 36",
            "string of length 5",
        ));
        assert!(
            range.starts_with("uuid参数值超出合理范围，预期取值范围 "),
            "{range}"
        );
        assert_eq!(
            text(Fault::problem(Problem::Pattern, "page", "digits", "text")),
            "正则匹配失败"
        );
    }

    #[test]
    fn what_happened_inside_stays_inside() {
        let reply = Fault::from(Error::internal("the disk of the store is full")).reply();
        assert!(!String::from_utf8_lossy(&reply.body).contains("disk"));
        assert!(reply.headers.iter().all(|(name, _)| *name != DETAIL));
    }
}
