//! `dispositions.json`: what happens to each documented request field.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The fate of a documented field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// It does what the document says.
    Honoured,
    /// Its effect is brought about by other means.
    Emulated,
    /// It is kept and shown again, nothing follows from it.
    Recorded,
    /// It has no effect; a warning says so.
    Ignored,
    /// The request is refused.
    Rejected,
}

impl Disposition {
    /// The word used in the data and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Disposition::Honoured => "honoured",
            Disposition::Emulated => "emulated",
            Disposition::Recorded => "recorded",
            Disposition::Ignored => "ignored",
            Disposition::Rejected => "rejected",
        }
    }

    /// Whether a client should be told: it is taken, and does not do all that the document says.
    pub const fn falls_short(self) -> bool {
        match self {
            Disposition::Honoured | Disposition::Rejected => false,
            Disposition::Emulated | Disposition::Recorded | Disposition::Ignored => true,
        }
    }
}

/// A disposition with its reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldDisposition {
    /// What happens.
    pub disposition: Disposition,
    /// Why, or under which condition.
    pub reason: Option<String>,
    /// Where it differs: kind of backend (`memory`, `libvirt`) → what happens there. Never `ignored` or
    /// `rejected`: that must be known before a backend is chosen.
    #[serde(default)]
    pub backends: BTreeMap<String, BackendDisposition>,
}

/// What happens to a field on one kind of backend.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendDisposition {
    /// What happens there.
    pub disposition: Disposition,
    /// Why it differs.
    pub reason: String,
}

impl FieldDisposition {
    /// What happens on a backend of that kind, and why. Without a kind: on most.
    pub fn on(&self, backend: Option<&str>) -> (Disposition, &str) {
        match backend.and_then(|kind| self.backends.get(kind)) {
            Some(here) => (here.disposition, &here.reason),
            None => (self.disposition, self.reason.as_deref().unwrap_or_default()),
        }
    }
}

/// The file: operation id → `<location>.<field>` → disposition.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Dispositions {
    pub(crate) operations: BTreeMap<String, BTreeMap<String, FieldDisposition>>,
}
