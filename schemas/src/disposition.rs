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
}

/// A disposition with its reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldDisposition {
    /// What happens.
    pub disposition: Disposition,
    /// Why, or under which condition.
    pub reason: Option<String>,
}

/// The file: operation id → `<location>.<field>` → disposition.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Dispositions {
    pub(crate) operations: BTreeMap<String, BTreeMap<String, FieldDisposition>>,
}
