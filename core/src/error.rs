//! The one error of the core. It says what happened, to what, and whether trying again can help; it knows
//! no status codes: each dialect maps the kind outwards by its own table, each backend maps inwards in one
//! function.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What went wrong, as every dialect's error table must be able to say it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumIter,
    strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The named object does not exist (for this caller).
    NotFound,
    /// An object of that name or id exists already.
    AlreadyExists,
    /// A value is missing, of the wrong type or out of range.
    InvalidInput,
    /// The object's power state or activity does not allow this now.
    IllegalState,
    /// Another change holds the object.
    Busy,
    /// The backend cannot do this; the detail carries the reason.
    Unsupported,
    /// The operation is documented but not built yet.
    NotImplemented,
    /// No, wrong or stale credentials.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// No host, pool or address has room.
    NoResources,
    /// The tenant's quota is used up.
    QuotaExceeded,
    /// The hypervisor or its manager cannot be reached.
    BackendUnavailable,
    /// The work did not end within its deadline.
    Timeout,
    /// Somebody else changed the same record at the same time.
    Conflict,
    /// A fault of ours.
    Internal,
}

impl ErrorKind {
    /// Whether the same request can succeed later without being changed.
    pub const fn retryable(self) -> bool {
        match self {
            Self::Busy | Self::BackendUnavailable | Self::Timeout | Self::Conflict | Self::NoResources => {
                true
            }
            Self::NotFound
            | Self::AlreadyExists
            | Self::InvalidInput
            | Self::IllegalState
            | Self::Unsupported
            | Self::NotImplemented
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::QuotaExceeded
            | Self::Internal => false,
        }
    }
}

/// What an error is about, for instance `vm 3f1c…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The canonical noun: `vm`, `volume`, `image`, `host` …
    pub noun: String,
    /// The id or name by which the caller or the core knows it.
    pub id: String,
}

/// An error of the core: kind, subject, field, detail. Serialisable, because a failed job stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// What it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The canonical field that is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// This case in words: lower case, no final dot, no secrets.
    pub detail: String,
}

/// Result with the core's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with `detail` in words.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            subject: None,
            field: None,
            detail: detail.into(),
        }
    }

    /// `noun` `id` does not exist.
    pub fn not_found(noun: &str, id: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("{noun} {id} does not exist")).about(noun, id)
    }

    /// `field` has a value that cannot be taken.
    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field.to_owned()),
            ..Self::new(ErrorKind::InvalidInput, detail)
        }
    }

    /// The power state or activity of `noun` `id` forbids it.
    pub fn illegal_state(noun: &str, id: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::IllegalState, detail).about(noun, id)
    }

    /// The backend cannot do it, for `reason`.
    pub fn unsupported(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, reason)
    }

    /// A fault of ours.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, detail)
    }

    /// Says what the error is about.
    #[must_use]
    pub fn about(mut self, noun: &str, id: impl fmt::Display) -> Self {
        self.subject = Some(Subject {
            noun: noun.to_owned(),
            id: id.to_string(),
        });
        self
    }

    /// Whether trying again without a change can help.
    pub const fn retryable(&self) -> bool {
        self.kind.retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        if let Some(field) = &self.field {
            write!(f, " (field {field})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
