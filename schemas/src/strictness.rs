//! Fields that a request carries and that do not do all that the client may expect: documented ones whose
//! disposition says so, and ones that the document does not have. One place finds them for every dialect, counts
//! them, tells the client in a header, or refuses the request, as the site wants it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::Contract;
use crate::dialect::Dialect;
use crate::disposition::{Disposition, FieldDisposition};
use crate::normalise;
use crate::operation::{Layer, Operation, Part};
use crate::validate::{Problem, Violation};

/// The response header with one sentence per field.
pub const WARNING_HEADER: &str = "babelvisor-warning";

/// Counts fields that fell short. Labels: dialect, operation, field, disposition.
const COUNTER: &str = "gateway_field_ignored_total";
/// The label of fields that the document does not have: their names are the client's, and have no end.
const UNDOCUMENTED: &str = "undocumented";
/// Why a field without a disposition is ignored.
const NOT_IN_THE_DOCUMENT: &str = "it is not in the document";
/// The longest name of a client's own field that is repeated to it.
const LONGEST_NAME: usize = 64;
/// The longest header value.
const LONGEST_HEADER: usize = 512;
/// How many fields of one request are looked at; nobody reads more warnings.
const MOST: usize = 32;

/// How a dialect takes fields that would be ignored. Whatever is chosen, they are counted and logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strictness {
    /// Nobody is told but the operator.
    Observe,
    /// The client is told in a header.
    #[default]
    Warn,
    /// A request with a field that would be ignored is refused, and names it. Fields that are emulated or
    /// recorded are still taken, with the header.
    Enforce,
}

/// One field that falls short.
#[derive(Debug)]
struct Shortfall<'c> {
    /// `body.nonce`.
    path: String,
    /// None for a field that the document does not have.
    fate: Option<&'c FieldDisposition>,
}

/// The fields of one request that fall short.
#[derive(Debug)]
pub struct Remarks<'c> {
    dialect: Dialect,
    operation: &'c str,
    strictness: Strictness,
    backend: Option<&'static str>,
    found: Vec<Shortfall<'c>>,
}

impl<'c> Remarks<'c> {
    /// Looks through the parts of a request as they came. Parts that are no objects have no fields.
    pub fn of(
        contract: &'c Contract,
        operation: &'c Operation,
        strictness: Strictness,
        parts: &[(Part, &Value)],
    ) -> Self {
        let mut found = Vec::new();
        let fates = contract.dispositions().get(&operation.id);
        for (part, value) in parts {
            let Some(location) = part.location() else { continue };
            let rules = operation.rules(*part);
            // The key that names the operation is no field, also where the document has no field inside it.
            let action = operation.action_key().filter(|_| *part == Part::Body);
            if rules.rewrite() {
                // Other spellings of a documented name are no strangers.
                let document = operation.schema(*part, Layer::Document);
                let value = normalise::rewrite((*value).clone(), document, &rules);
                walk(fates, location.name(), &value, action, &mut found);
            } else {
                walk(fates, location.name(), value, action, &mut found);
            }
        }
        Self {
            dialect: contract.dialect(),
            operation: &operation.id,
            strictness,
            backend: None,
            found,
        }
    }

    /// Takes a field (`body.lease_term`) out: this site does all that the document says about it.
    pub fn settle(&mut self, field: &str) {
        self.found.retain(|shortfall| shortfall.path != field);
    }

    /// Says which kind of backend does the work: some fields do more on one than on another.
    pub const fn on(&mut self, backend: &'static str) {
        self.backend = Some(backend);
    }

    /// Why the request is refused before anything is done: the first field that would be ignored, where the site
    /// enforces. Counts and logs all of them then.
    pub fn refusal(&self) -> Option<Violation> {
        if self.strictness != Strictness::Enforce {
            return None;
        }
        let ignored = |shortfall: &&Shortfall<'_>| self.judged(shortfall).0 == Disposition::Ignored;
        let first = self.found.iter().find(ignored)?;
        self.found.iter().filter(ignored).for_each(|one| self.count(one));
        let field = short_name(&first.path);
        let (problem, expected) = match first.fate {
            None => (Problem::Unknown, "no such field".to_owned()),
            Some(_) => (
                Problem::NotAllowed,
                format!("no such field, because it is ignored ({})", self.judged(first).1),
            ),
        };
        Some(Violation {
            pointer: format!("/{field}"),
            field,
            problem,
            keyword: "strictness".to_owned(),
            expected,
            received: "a value".to_owned(),
        })
    }

    /// Counts and logs the fields of a request that was done. The value of [`WARNING_HEADER`] for its answer, if
    /// there is anything to say and the site wants clients to hear it.
    pub fn tell(&self) -> Option<String> {
        let mut sentences = Vec::new();
        for shortfall in &self.found {
            let (disposition, reason) = self.judged(shortfall);
            if !disposition.falls_short() {
                continue;
            }
            self.count(shortfall);
            let name = short_name(&shortfall.path);
            sentences.push(format!("{name} is {}: {reason}", disposition.name()));
        }
        let told = match self.strictness {
            Strictness::Observe => false,
            Strictness::Warn | Strictness::Enforce => !sentences.is_empty(),
        };
        told.then(|| header_text(&sentences.join("; ")))
    }

    fn judged(&self, shortfall: &Shortfall<'c>) -> (Disposition, &'c str) {
        shortfall
            .fate
            .map_or((Disposition::Ignored, NOT_IN_THE_DOCUMENT), |fate| {
                fate.on(self.backend)
            })
    }

    fn count(&self, shortfall: &Shortfall<'_>) {
        let disposition = self.judged(shortfall).0.name();
        let (dialect, operation) = (self.dialect.name(), self.operation);
        let label = match shortfall.fate {
            Some(_) => shortfall.path.clone(),
            None => UNDOCUMENTED.to_owned(),
        };
        metrics::counter!(
            COUNTER, "dialect" => dialect, "operation" => operation.to_owned(), "field" => label,
            "disposition" => disposition
        )
        .increment(1);
        let field = short_name(&shortfall.path);
        tracing::debug!(
            dialect,
            operation,
            field,
            disposition,
            "a field does not do all that its client may expect"
        );
    }
}

type Fates = BTreeMap<String, FieldDisposition>;

/// Collects what falls short below `path`; what stands inside the member `opened` is looked at, the member itself is not.
fn walk<'c>(
    fates: Option<&'c Fates>,
    path: &str,
    value: &Value,
    opened: Option<&str>,
    found: &mut Vec<Shortfall<'c>>,
) {
    for (name, member) in value.as_object().into_iter().flatten() {
        if found.len() >= MOST {
            return;
        }
        let path = format!("{path}.{name}");
        let fate = fates.and_then(|fates| fates.get(&path));
        // Null is the documented way to leave a field out.
        if fate.is_some() && member.is_null() {
            continue;
        }
        let members = opened == Some(name.as_str()) || leads_on(fates, &path, '.');
        let items = leads_on(fates, &path, '[');
        let short = fate.is_some_and(|fate| {
            let anywhere = fate.backends.values().any(|here| here.disposition.falls_short());
            fate.disposition.falls_short() || anywhere
        });
        if short || (fate.is_none() && !members && !items) {
            // Items of a list fall short alike; once is enough.
            if found.iter().all(|known| known.path != path) {
                found.push(Shortfall { path, fate });
            }
        } else if members {
            walk(fates, &path, member, None, found);
        } else if items {
            let path = format!("{path}[]");
            for item in member.as_array().into_iter().flatten() {
                walk(fates, &path, item, None, found);
            }
        }
    }
}

/// Whether documented fields stand below `path`, behind this separator.
fn leads_on(fates: Option<&Fates>, path: &str, separator: char) -> bool {
    let prefix = format!("{path}{separator}");
    let next = fates.and_then(|fates| fates.range(prefix.clone()..).next());
    next.is_some_and(|(field, _)| field.starts_with(&prefix))
}

/// The name as the client wrote it, without its location, cut where it is absurdly long.
fn short_name(path: &str) -> String {
    let name = path.split_once('.').map_or(path, |(_, name)| name);
    name.chars().take(LONGEST_NAME).collect()
}

/// Text that may stand in a header: printable ASCII, at most 512 characters.
pub fn header_text(text: &str) -> String {
    let safe = |letter: char| {
        if letter == ' ' || letter.is_ascii_graphic() {
            letter
        } else {
            '?'
        }
    };
    text.chars().take(LONGEST_HEADER).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract;

    fn remarks(dialect: Dialect, id: &str, strictness: Strictness, body: &Value) -> Remarks<'static> {
        let contract = contract(dialect);
        let operation = contract.operation(id).unwrap();
        Remarks::of(contract, operation, strictness, &[(Part::Body, body)])
    }

    #[test]
    fn an_honoured_field_is_no_matter() {
        let body = json!({"packageId": "a", "imageId": "1"});
        let remarks = remarks(Dialect::PveOpen, "pve.createquantity", Strictness::Enforce, &body);
        assert_eq!(remarks.refusal(), None);
        assert_eq!(remarks.tell(), None);
    }

    #[test]
    fn each_level_treats_a_stranger_in_its_own_way() {
        let body = json!({"packageId": "a", "imageId": "1", "colour": "red"});
        let at = |level| remarks(Dialect::PveOpen, "pve.createquantity", level, &body);
        let observed = at(Strictness::Observe);
        assert_eq!((observed.refusal(), observed.tell()), (None, None));
        let warned = at(Strictness::Warn);
        assert_eq!(warned.refusal(), None);
        assert_eq!(
            warned.tell().unwrap(),
            "colour is ignored: it is not in the document"
        );
        let refused = at(Strictness::Enforce).refusal().unwrap();
        assert_eq!(
            (refused.field.as_str(), refused.problem),
            ("colour", Problem::Unknown)
        );
    }

    #[test]
    fn a_recorded_field_is_told_and_never_refused_and_can_be_settled() {
        let body = json!({"lease_term": 100});
        let mut remarks = remarks(Dialect::GuestRest, "guest.create", Strictness::Enforce, &body);
        assert_eq!(remarks.refusal(), None);
        assert!(remarks.tell().unwrap().starts_with("lease_term is recorded: "));
        remarks.settle("body.lease_term");
        assert_eq!(remarks.tell(), None);
    }

    #[test]
    fn null_leaves_a_documented_field_out() {
        let body = json!({"uuid": "a", "secret": "b", "nonce": null});
        let remarks = remarks(Dialect::PveOpen, "pve.getToken", Strictness::Enforce, &body);
        assert_eq!(remarks.refusal(), None);
    }

    #[test]
    fn fields_below_others_are_found_by_their_full_names() {
        let fate = |disposition| FieldDisposition {
            disposition,
            reason: Some("why".to_owned()),
            backends: BTreeMap::new(),
        };
        let fates = Fates::from([
            ("body.vm.name".to_owned(), fate(Disposition::Honoured)),
            ("body.vm.tag".to_owned(), fate(Disposition::Ignored)),
            ("body.disks[].size".to_owned(), fate(Disposition::Honoured)),
            ("body.disks[].mode".to_owned(), fate(Disposition::Recorded)),
        ]);
        let body = json!({
            "vm": {"name": "a", "tag": "b", "more": 1}, "disks": [{"size": 1, "mode": "x", "less": 2}], "other": {},
        });
        let mut found = Vec::new();
        walk(Some(&fates), "body", &body, None, &mut found);
        let paths: Vec<&str> = found.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "body.vm.tag",
                "body.vm.more",
                "body.disks[].mode",
                "body.disks[].less",
                "body.other"
            ]
        );
    }

    #[test]
    fn a_thousand_strangers_are_not_all_repeated() {
        let members = (0..1000).map(|number| (format!("x{number}\n"), json!(1)));
        let body = Value::Object(members.collect());
        let remarks = remarks(Dialect::PveOpen, "pve.getToken", Strictness::Warn, &body);
        let told = remarks.tell().unwrap();
        assert!(told.len() <= LONGEST_HEADER);
        assert!(
            told.chars()
                .all(|letter| letter == ' ' || letter.is_ascii_graphic())
        );
    }
}
