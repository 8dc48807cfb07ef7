//! From what went wrong to the code and both texts of the dialect; all of them are rows of the contract's error
//! table. The HTTP status is 200 but for a route that does not exist.

use babelvisor_core::frontend::Refusal;
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas as schemas;
use babelvisor_schemas::{Dialect, JsonFault, Outcome, Problem, TransportFault, Violation, contract};

/// Sent if a code of the table were not a number: "Manager server error".
const MANAGER_ERROR: i64 = 10000;

/// The codes that calls choose themselves; all others follow from the kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// A parameter is missing or malformed.
    Parameter,
    /// No such user, or a wrong password.
    NoUser,
    /// No such user, in the result of a batch.
    NoSuchUser,
    /// The object does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// Not legal in the present state.
    WrongState,
    /// The backend cannot do this.
    Unsupported,
    /// The machine is not in the cloning action.
    NotCloning,
    /// The machine is not exporting.
    NotExporting,
    /// The image of an import cannot be read.
    ImportFailed,
}

impl Code {
    /// The code as the contract writes it.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Parameter => "10001",
            Self::NoUser => "10183",
            Self::NoSuchUser => "11000",
            Self::NotFound => "22001",
            Self::Exists => "22002",
            Self::WrongState => "22003",
            Self::Unsupported => "22005",
            Self::NotCloning => "22102",
            Self::NotExporting => "22151",
            Self::ImportFailed => "22211",
        }
    }

    /// All of them.
    #[cfg(test)]
    const ALL: [Self; 10] = [
        Self::Parameter,
        Self::NoUser,
        Self::NoSuchUser,
        Self::NotFound,
        Self::Exists,
        Self::WrongState,
        Self::Unsupported,
        Self::NotCloning,
        Self::NotExporting,
        Self::ImportFailed,
    ];
}

/// A failure in the dialect's words.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    outcome: Outcome,
    /// What the client is told about the case: `desc`, and what stands in the texts for `%s`.
    detail: String,
    /// Which of our own places refused.
    place: &'static str,
    /// What only the log is told.
    cause: Option<String>,
}

impl Fault {
    fn of(outcome: &Outcome, place: &'static str, detail: impl Into<String>) -> Self {
        Self {
            outcome: outcome.clone(),
            detail: detail.into(),
            place,
            cause: None,
        }
    }

    /// A code with nothing more to say.
    pub(crate) fn code(code: Code) -> Self {
        Self::saying(code, "")
    }

    /// A code that says what it is about.
    pub(crate) fn saying(code: Code, detail: impl Into<String>) -> Self {
        let errors = contract(Dialect::V1Compute).errors();
        let outcome = errors.for_code(code.text());
        let outcome = outcome.unwrap_or_else(|| errors.for_kind(schemas::ErrorKind::Internal).clone());
        Self::of(&outcome, "call", detail)
    }

    /// 10001, naming the parameter.
    pub(crate) fn parameter(detail: impl Into<String>) -> Self {
        Self {
            place: "decode",
            ..Self::saying(Code::Parameter, detail)
        }
    }

    /// 22001: `noun` (machine, group …) `id` does not exist, or not for this caller.
    pub(crate) fn unknown(noun: &str, id: &str) -> Self {
        Self::saying(Code::NotFound, format!("{noun} {} does not exist", printable(id)))
    }

    /// What a schema complains about first.
    pub(crate) fn violation(violations: &[Violation]) -> Self {
        let errors = contract(Dialect::V1Compute).errors();
        let Some(first) = violations.first() else {
            return Self::parameter("the request");
        };
        let field = if first.field.is_empty() {
            "the body"
        } else {
            first.field.as_str()
        };
        let detail = match first.problem {
            Problem::Missing => format!("{field} is missing"),
            Problem::Unknown => format!("{field} is not known here"),
            Problem::WrongType
            | Problem::OutOfRange
            | Problem::Length
            | Problem::Pattern
            | Problem::NotAllowed
            | Problem::Other => format!(
                "{field}: expected {}, received {}",
                first.expected, first.received
            ),
        };
        Self::of(errors.for_problem(first.problem), "decode", detail)
    }

    /// A body that cannot be read.
    pub(crate) fn body(fault: &JsonFault) -> Self {
        let kind = match fault {
            JsonFault::TooLarge { .. } => TransportFault::BodyTooLarge,
            _ => TransportFault::MalformedBody,
        };
        Self::of(
            contract(Dialect::V1Compute).errors().for_fault(kind),
            "decode",
            fault.to_string(),
        )
    }

    /// What the server refuses on its own.
    pub(crate) fn refusal(refusal: &Refusal, method: &str, path: &str, request: &str) -> Self {
        let errors = contract(Dialect::V1Compute).errors();
        let fault = |fault, detail: String| Self::of(errors.for_fault(fault), "server", detail);
        match refusal {
            Refusal::UnknownPath => fault(TransportFault::UnknownPath, format!("there is no path {path}")),
            Refusal::WrongMethod { allowed } => fault(
                TransportFault::WrongMethod,
                format!("{path} is not for {method}, use {}", allowed.join(", ")),
            ),
            Refusal::NotBuilt { operation } => fault(TransportFault::NotBuilt, (*operation).to_owned()),
            Refusal::BodyTooLarge { limit } => fault(
                TransportFault::BodyTooLarge,
                format!("the body has more than {limit} bytes"),
            ),
            Refusal::BadRequest(why) => fault(TransportFault::MalformedBody, why.clone()),
            Refusal::Overloaded => fault(
                TransportFault::Overloaded,
                "too many requests are under way, try again later".to_owned(),
            ),
            Refusal::Timeout => Self::of(
                errors.for_kind(schemas::ErrorKind::Timeout),
                "server",
                "the request was not received or finished in time",
            ),
            Refusal::Internal => Self::of(
                errors.for_kind(schemas::ErrorKind::Internal),
                "server",
                format!("fault of the gateway in request {request}"),
            ),
        }
    }

    /// Whether it is this code.
    pub(crate) fn is(&self, code: Code) -> bool {
        self.outcome.row.code == code.text()
    }

    /// The code on the wire.
    pub(crate) fn scode(&self) -> i64 {
        self.outcome.row.code.parse().unwrap_or(MANAGER_ERROR)
    }

    /// The HTTP status.
    pub(crate) const fn status(&self) -> u16 {
        self.outcome.status
    }

    /// The case, in English; the code's text where there is nothing more to say.
    pub(crate) fn desc(&self) -> &str {
        if self.detail.is_empty() {
            &self.outcome.row.meaning
        } else {
            &self.detail
        }
    }

    /// The code's English text.
    pub(crate) fn message(&self) -> String {
        self.filled(self.outcome.row.en.as_deref())
    }

    /// The code's Chinese text.
    pub(crate) fn message_cn(&self) -> String {
        self.filled(self.outcome.row.zh.as_deref())
    }

    fn filled(&self, text: Option<&str>) -> String {
        text.unwrap_or(&self.outcome.row.meaning)
            .replace("%s", self.desc())
    }

    /// Our own places that the failure came through; no file, host or process of ours.
    pub(crate) fn stack(&self, operation: &str) -> Vec<String> {
        let code = &self.outcome.row.code;
        let mut stack = vec![format!("module:v1-compute,code:{code},func:{}", self.place)];
        if !operation.is_empty() {
            stack.push(format!("module:v1-compute,code:{code},func:{operation}"));
        }
        stack
    }

    /// Tells the log what the client is not told. Neither form ever carries a value of a request. Only faults of
    /// ours warn: anybody may send a thousand stale tokens.
    pub(crate) fn log(&self, operation: Option<&str>, request: &str) {
        let code = self.outcome.row.code.as_str();
        let cause = self.cause.as_deref();
        match code {
            "10000" => tracing::warn!(operation, request, code, cause, "call failed"),
            _ => tracing::debug!(operation, request, code, cause, "call refused"),
        }
    }
}

/// A client's text without what has no place in a message.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(128)
        .collect()
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let outcome = contract(Dialect::V1Compute).errors().for_kind(kind(error.kind));
        let ours = error.kind == ErrorKind::Internal;
        let told = if ours {
            "fault of the gateway, its log says more".to_owned()
        } else {
            error.to_string()
        };
        Self {
            cause: Some(error.to_string()),
            ..Self::of(outcome, "core", told)
        }
    }
}

const fn kind(kind: ErrorKind) -> schemas::ErrorKind {
    use schemas::ErrorKind as Table;
    match kind {
        ErrorKind::NotFound => Table::NotFound,
        ErrorKind::AlreadyExists => Table::AlreadyExists,
        ErrorKind::InvalidInput => Table::InvalidInput,
        ErrorKind::IllegalState => Table::IllegalState,
        ErrorKind::Busy => Table::Busy,
        ErrorKind::Unsupported => Table::Unsupported,
        ErrorKind::NotImplemented => Table::NotImplemented,
        ErrorKind::Unauthenticated => Table::Unauthenticated,
        ErrorKind::Forbidden => Table::Forbidden,
        ErrorKind::NoResources => Table::NoResources,
        ErrorKind::QuotaExceeded => Table::QuotaExceeded,
        ErrorKind::BackendUnavailable => Table::BackendUnavailable,
        ErrorKind::Timeout => Table::Timeout,
        ErrorKind::Conflict => Table::Conflict,
        ErrorKind::Internal => Table::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_calls_choose_is_a_row_of_the_table() {
        let errors = contract(Dialect::V1Compute).errors();
        for code in Code::ALL {
            assert!(errors.row(code.text()).is_some(), "{code:?}");
            assert!(Fault::code(code).is(code), "{code:?}");
        }
    }

    #[test]
    fn no_failure_sends_a_client_to_another_server_or_claims_success() {
        let errors = contract(Dialect::V1Compute).errors();
        for row in errors.rows().filter(|row| row.code == "11057") {
            assert!(row.never_sent);
        }
        for code in Code::ALL {
            let scode = Fault::code(code).scode();
            assert!(scode != 0 && scode != 11057, "{code:?}");
        }
    }

    #[test]
    fn our_own_fault_is_not_told_in_detail() {
        let fault = Fault::from(Error::internal("row 7 of /var/lib/store is torn"));
        let told = format!(
            "{} {} {:?}",
            fault.desc(),
            fault.message(),
            fault.stack("compute.list")
        );
        assert!(!told.contains("/var/lib"), "{told}");
        assert_eq!(fault.scode(), 10000);
        let theirs = Fault::from(Error::not_found("vm", "x"));
        assert_eq!(theirs.scode(), 22001);
        assert!(theirs.message().contains("vm"), "{}", theirs.message());
    }

    #[test]
    fn the_stack_names_the_place_and_the_operation() {
        let fault = Fault::parameter("tenant is missing");
        assert_eq!(
            fault.stack("compute.list"),
            [
                "module:v1-compute,code:10001,func:decode",
                "module:v1-compute,code:10001,func:compute.list"
            ]
        );
        assert_eq!(fault.message(), "Parse parameter error: tenant is missing");
    }
}
