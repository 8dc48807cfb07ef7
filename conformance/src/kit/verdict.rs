//! How a check says that a rule does not hold.

use babelvisor_core::{Error, ErrorKind};

/// Why a check ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The rule does not hold.
    Failed(String),
    /// It cannot be looked at here.
    Skipped(String),
}

/// What a check, or a part of it, comes to.
pub(crate) type Verdict<T = ()> = Result<T, Stop>;

/// Ends the check as failed.
pub(crate) fn fail<T>(text: impl Into<String>) -> Verdict<T> {
    Err(Stop::Failed(text.into()))
}

/// Fails with the formatted text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return $crate::kit::verdict::fail(format!($($text)+));
        }
    };
}
pub(crate) use ensure;

/// An error in words.
pub(crate) fn words(error: &Error) -> String {
    format!("{}: {error}", error.kind.as_ref())
}

/// Says what the backend was asked to do when it answered with an error.
pub(crate) trait During<T> {
    /// Fails with `what` and the error.
    fn during(self, what: &str) -> Verdict<T>;
}

impl<T> During<T> for Result<T, Error> {
    fn during(self, what: &str) -> Verdict<T> {
        self.map_err(|error| Stop::Failed(format!("{what} failed with {}", words(&error))))
    }
}

/// The call must be refused with one of `kinds`.
pub(crate) fn refused<T>(result: Result<T, Error>, kinds: &[ErrorKind], what: &str) -> Verdict<Error> {
    let expected = || {
        kinds
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<&str>>()
            .join(" or ")
    };
    match result {
        Err(error) if kinds.contains(&error.kind) => Ok(error),
        Err(error) => fail(format!(
            "{what} was answered with {}, not with {}",
            words(&error),
            expected()
        )),
        Ok(_) => fail(format!(
            "{what} was answered with success, not with {}",
            expected()
        )),
    }
}
