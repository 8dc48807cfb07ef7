//! `leniencies.json`: what is taken beyond the document, each with the source that shows that clients need it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::operation::Part;

/// The kinds of leniency that the code knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeniencyKind {
    /// `null` for an optional member is the same as leaving it out.
    NullsAsAbsent,
    /// A number may be written as text (`"4"`).
    NumbersAsText,
    /// Text may be written as a number (`8989`).
    TextAsNumbers,
    /// Empty text for an optional value is the same as leaving it out.
    EmptyTextAsAbsent,
    /// Names of members are compared without letter case.
    CapitalKeys,
    /// Blanks around names of members are cut off.
    BlanksInKeys,
    /// Other names for members or parameters (`aliases`: other name → documented name).
    KeyAliases,
    /// A body is read as JSON whatever its Content-Type. For the frontend: no schema shows it.
    MissingContentType,
    /// An empty body counts as `{}`.
    EmptyBodyAsObject,
    /// Members and parameters that the document does not have are ignored.
    UnknownFields,
}

/// One leniency.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leniency {
    /// Short name, unique in its dialect.
    pub id: String,
    /// What is let through.
    pub kind: LeniencyKind,
    /// The parts of a call that it concerns.
    pub parts: Vec<Part>,
    /// The operations that it concerns; empty means all.
    #[serde(default)]
    pub operations: Vec<String>,
    /// Other name → documented name, for [`LeniencyKind::KeyAliases`].
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// For [`LeniencyKind::NumbersAsText`]: a per cent sign may follow.
    #[serde(default)]
    pub percent: bool,
    /// Why it is let through.
    pub reason: String,
    /// The document or program that shows it.
    pub source: String,
}

impl Leniency {
    /// Whether it holds for this part of this operation.
    pub fn concerns(&self, part: Part, operation: &str) -> bool {
        self.parts.contains(&part)
            && (self.operations.is_empty() || self.operations.iter().any(|id| id == operation))
    }
}

/// `leniencies.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Leniencies {
    pub(crate) leniencies: Vec<Leniency>,
}

/// The leniencies of one part of one operation, ready to be asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) nulls: bool,
    pub(crate) numbers_as_text: bool,
    pub(crate) percent: bool,
    pub(crate) text_as_numbers: bool,
    pub(crate) empty_text: bool,
    pub(crate) capital_keys: bool,
    pub(crate) blanks_in_keys: bool,
    pub(crate) empty_body: bool,
    pub(crate) unknown_fields: bool,
    pub(crate) aliases: Vec<(String, String)>,
}

impl Rules {
    /// Collects what concerns `part` of `operation`.
    pub(crate) fn collect(leniencies: &[Leniency], part: Part, operation: &str) -> Rules {
        let mut rules = Rules::default();
        for leniency in leniencies
            .iter()
            .filter(|leniency| leniency.concerns(part, operation))
        {
            match leniency.kind {
                LeniencyKind::NullsAsAbsent => rules.nulls = true,
                LeniencyKind::NumbersAsText => {
                    rules.numbers_as_text = true;
                    rules.percent |= leniency.percent;
                }
                LeniencyKind::TextAsNumbers => rules.text_as_numbers = true,
                LeniencyKind::EmptyTextAsAbsent => rules.empty_text = true,
                LeniencyKind::CapitalKeys => rules.capital_keys = true,
                LeniencyKind::BlanksInKeys => rules.blanks_in_keys = true,
                LeniencyKind::KeyAliases => {
                    rules.aliases.extend(
                        leniency
                            .aliases
                            .iter()
                            .map(|(from, to)| (from.clone(), to.clone())),
                    );
                }
                LeniencyKind::EmptyBodyAsObject => rules.empty_body = true,
                LeniencyKind::UnknownFields => rules.unknown_fields = true,
                LeniencyKind::MissingContentType => {}
            }
        }
        rules
    }

    /// Whether any of them rewrites values; where none does, values are validated without a copy.
    pub(crate) fn rewrite(&self) -> bool {
        self.nulls
            || self.numbers_as_text
            || self.text_as_numbers
            || self.empty_text
            || self.capital_keys
            || self.blanks_in_keys
            || self.empty_body
            || !self.aliases.is_empty()
    }
}
