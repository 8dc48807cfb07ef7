//! From what went wrong to the code, the status and the text of the dialect. Texts are the contract's; only
//! the two codes that leave room for it (1003, 1007) say more after a colon.

use babelvisor_core::frontend::Refusal;
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas as schemas;
use babelvisor_schemas::{Dialect, JsonFault, Outcome, Problem, TransportFault, Violation, contract};

/// The codes that calls choose themselves; all others follow from the kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// No permission.
    NoPermission,
    /// Any other business error; the text says which.
    Business,
    /// Another change is under way.
    InProgress,
    /// A parameter is missing or malformed.
    Parameter,
    /// The machine does not exist.
    NoMachine,
    /// The account was not verified by name.
    NotVerified,
    /// The machine is starting.
    Starting,
    /// The machine is stopping.
    Stopping,
    /// No capacity.
    NoCapacity,
    /// Not paid for: the machine's term is over.
    WalletTooLow,
    /// Creation has to wait.
    CreationWaits,
    /// A machine that is off is not rebooted.
    RebootOff,
    /// A machine that cannot be used is not rebooted.
    RebootUnusable,
    /// A machine between two states is not rebooted.
    RebootNotRunning,
    /// Package and image are of different types.
    TypesDiffer,
}

impl Code {
    /// The code as the contract writes it.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::NoPermission => "1001",
            Self::Business => "1003",
            Self::InProgress => "1005",
            Self::Parameter => "1007",
            Self::NoMachine => "1021",
            Self::NotVerified => "1037",
            Self::Starting => "6000",
            Self::Stopping => "6001",
            Self::NoCapacity => "6002",
            Self::WalletTooLow => "6003",
            Self::CreationWaits => "6005",
            Self::RebootOff => "7002",
            Self::RebootUnusable => "7003",
            Self::RebootNotRunning => "7004",
            Self::TypesDiffer => "7005",
        }
    }
}

/// A failure in the dialect's words.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// Status, code and text.
    pub(crate) outcome: Outcome,
    /// What the client is told besides the text.
    pub(crate) detail: Option<String>,
    /// What only the log is told.
    cause: Option<String>,
}

impl Fault {
    /// A documented code with its own text.
    pub(crate) fn code(code: Code) -> Self {
        let errors = contract(Dialect::PveOpen).errors();
        let outcome = errors.for_code(code.text());
        let outcome = outcome.unwrap_or_else(|| errors.for_kind(schemas::ErrorKind::Internal).clone());
        Self {
            outcome,
            detail: None,
            cause: None,
        }
    }

    /// 1003, saying what it is.
    pub(crate) fn business(detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..Self::code(Code::Business)
        }
    }

    /// 1007, naming the parameter.
    pub(crate) fn parameter(detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..Self::code(Code::Parameter)
        }
    }

    /// What a schema complains about first.
    pub(crate) fn violation(violations: &[Violation]) -> Self {
        let errors = contract(Dialect::PveOpen).errors();
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
        Self {
            outcome: errors.for_problem(first.problem).clone(),
            detail: Some(detail),
            cause: None,
        }
    }

    /// A body that cannot be read.
    pub(crate) fn body(fault: &JsonFault) -> Self {
        let fault_kind = match fault {
            JsonFault::TooLarge { .. } => TransportFault::BodyTooLarge,
            _ => TransportFault::MalformedBody,
        };
        let errors = contract(Dialect::PveOpen).errors();
        Self {
            outcome: errors.for_fault(fault_kind).clone(),
            detail: Some(fault.to_string()),
            cause: None,
        }
    }

    /// What the server refuses on its own.
    pub(crate) fn refusal(refusal: &Refusal) -> Self {
        let errors = contract(Dialect::PveOpen).errors();
        let fault = |fault| errors.for_fault(fault).clone();
        let (outcome, detail) = match refusal {
            Refusal::UnknownPath => (fault(TransportFault::UnknownPath), None),
            Refusal::WrongMethod { .. } => (fault(TransportFault::WrongMethod), None),
            Refusal::NotBuilt { .. } => (fault(TransportFault::NotBuilt), None),
            Refusal::BodyTooLarge { limit } => (
                fault(TransportFault::BodyTooLarge),
                Some(format!("the body has more than {limit} bytes")),
            ),
            Refusal::BadRequest(why) => (fault(TransportFault::MalformedBody), Some(why.clone())),
            Refusal::Overloaded => (fault(TransportFault::Overloaded), None),
            Refusal::Timeout => (errors.for_kind(schemas::ErrorKind::Timeout).clone(), None),
            Refusal::Internal => (errors.for_kind(schemas::ErrorKind::Internal).clone(), None),
        };
        Self {
            outcome,
            detail,
            cause: None,
        }
    }

    /// Whether it is this code.
    #[cfg(test)]
    pub(crate) fn is(&self, code: Code) -> bool {
        self.outcome.row.code == code.text()
    }

    /// The text on the wire.
    pub(crate) fn message(&self) -> String {
        let row = &self.outcome.row;
        let text = row.zh.as_deref().or(row.en.as_deref()).unwrap_or(&row.meaning);
        match &self.detail {
            Some(detail) => format!("{text}: {detail}"),
            None => text.to_owned(),
        }
    }

    /// Tells the log what the client is not told. Neither form ever carries a value of a request. Only faults
    /// of ours warn: anybody may send a thousand stale tokens.
    pub(crate) fn log(&self, operation: Option<&str>, request: &str) {
        let code = self.outcome.row.code.as_str();
        let cause = self.cause.as_deref();
        match code {
            "500" | "503" => tracing::warn!(operation, request, code, cause, "call failed"),
            _ => tracing::debug!(operation, request, code, cause, "call refused"),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let outcome = contract(Dialect::PveOpen)
            .errors()
            .for_kind(kind(error.kind))
            .clone();
        let code = outcome.row.code.as_str();
        // The two codes whose text may go on; anything about our inside stays in the log.
        let told = code == Code::Business.text() || code == Code::Parameter.text();
        Self {
            detail: told.then(|| error.to_string()),
            cause: (!told).then(|| error.to_string()),
            outcome,
        }
    }
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

    const CHOSEN: [Code; 15] = [
        Code::NoPermission,
        Code::Business,
        Code::InProgress,
        Code::Parameter,
        Code::NoMachine,
        Code::NotVerified,
        Code::Starting,
        Code::Stopping,
        Code::NoCapacity,
        Code::WalletTooLow,
        Code::CreationWaits,
        Code::RebootOff,
        Code::RebootUnusable,
        Code::RebootNotRunning,
        Code::TypesDiffer,
    ];

    #[test]
    fn every_code_that_calls_choose_is_in_the_contract() {
        for code in CHOSEN {
            assert!(Fault::code(code).is(code), "{code:?}");
        }
    }

    #[test]
    fn the_comma_of_each_text_is_the_documents_own() {
        assert_eq!(
            Fault::code(Code::NoCapacity).message(),
            "资源不足, 请重新选择配置"
        );
        assert_eq!(
            Fault::code(Code::RebootUnusable).message(),
            "虚拟机不可用，不能重启"
        );
        assert_eq!(
            Fault::code(Code::RebootNotRunning).message(),
            "主机未运行，不能重启"
        );
    }

    #[test]
    fn faults_of_ours_keep_their_cause_to_the_log() {
        let fault = Fault::from(Error::internal("the disk of the store is full"));
        assert_eq!(fault.message(), "系统错误");
        let fault = Fault::from(Error::unsupported(
            "backend a cannot do power.reboot: not yet: no agent",
        ));
        assert_eq!(
            fault.message(),
            "自定义业务异常: backend a cannot do power.reboot: not yet: no agent"
        );
    }
}
