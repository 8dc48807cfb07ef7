//! What there is to prove: every rule, error and example of the catalogues, every code and every choice, each with an
//! id that stays the same.
//!
//! | id | what |
//! |---|---|
//! | `guest.create#rule-2` | the second rule of the operation |
//! | `pve.operate#error-6000` | an error of the operation's own table |
//! | `guest.get#example-0` | a documented example |
//! | `code:41203` | a code of the dialect that no single operation lists |
//! | `choice:name-taken` | a decision where the sources differ |

use std::collections::BTreeMap;

use babelvisor_schemas::{Dialect, contract};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The catalogue of a dialect, the parts that schemas do not need.
#[derive(Debug, Deserialize)]
struct Catalogue {
    operations: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    id: String,
    #[serde(default)]
    rules: Vec<String>,
    #[serde(default)]
    errors: Vec<Value>,
    #[serde(default)]
    examples: Vec<Example>,
}

/// A documented example.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) request: Option<ExampleRequest>,
    pub(crate) response: Option<ExampleAnswer>,
}

/// The request of an example.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ExampleRequest {
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) query: Option<Map<String, Value>>,
    pub(crate) body: Option<Value>,
}

/// The answer of an example.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ExampleAnswer {
    pub(crate) status: Option<u16>,
    pub(crate) body: Option<Value>,
}

/// One thing to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its id.
    pub id: String,
    /// What it says.
    pub text: String,
    /// Whether it concerns something that is built: then it must be proved or named untestable.
    pub built: bool,
}

const fn files(dialect: Dialect) -> (&'static str, &'static str) {
    macro_rules! pair {
        ($folder:literal) => {
            (
                include_str!(concat!("../../../schemas/", $folder, "/catalog.json")),
                include_str!(concat!("../../../schemas/", $folder, "/companions.json")),
            )
        };
    }
    match dialect {
        Dialect::GuestRest => pair!("guest-rest"),
        Dialect::V1Compute => pair!("v1-compute"),
        Dialect::Zstack => pair!("zstack"),
        Dialect::PveOpen => pair!("pve-open"),
        Dialect::KvmTaskFeed => pair!("kvm-task-feed"),
    }
}

fn rows(dialect: Dialect) -> Result<Vec<Row>, String> {
    let (catalogue, companions) = files(dialect);
    let mut all = Vec::new();
    for (file, text) in [("catalog.json", catalogue), ("companions.json", companions)] {
        let read: Catalogue =
            serde_json::from_str(text).map_err(|error| format!("{dialect}/{file}: {error}"))?;
        all.extend(read.operations);
    }
    Ok(all)
}

/// The examples of a dialect by operation.
///
/// # Errors
/// A catalogue that cannot be read.
pub(crate) fn examples(dialect: Dialect) -> Result<BTreeMap<String, Vec<Example>>, String> {
    Ok(rows(dialect)?
        .into_iter()
        .map(|row| (row.id, row.examples))
        .collect())
}

/// Everything that is to be proved of a dialect, in the order of the catalogue; codes and choices last.
///
/// # Errors
/// A catalogue that cannot be read.
pub fn claims(dialect: Dialect) -> Result<Vec<Claim>, String> {
    let contract = contract(dialect);
    let mut claims = Vec::new();
    let mut any_built = false;
    for row in rows(dialect)? {
        let built = contract
            .operation(&row.id)
            .is_some_and(|operation| operation.built);
        any_built |= built;
        let mut claim = |kind: &str, number: String, text: String| {
            claims.push(Claim {
                id: format!("{}#{kind}-{number}", row.id),
                text,
                built,
            });
        };
        for (place, rule) in row.rules.iter().enumerate() {
            claim("rule", (place + 1).to_string(), rule.clone());
        }
        let mut numbered: BTreeMap<String, usize> = BTreeMap::new();
        for error in &row.errors {
            let code = error_code(error);
            let times = numbered.entry(code.clone()).or_default();
            *times += 1;
            let number = if *times == 1 {
                code
            } else {
                format!("{code}-{times}")
            };
            claim("error", number, error_text(error));
        }
        for (place, example) in row.examples.iter().enumerate() {
            claim("example", place.to_string(), example.name.clone());
        }
    }
    for code in contract.errors().rows().filter(|row| row.operations.is_empty()) {
        claims.push(Claim {
            id: format!("code:{}", code.code),
            text: code.meaning.clone(),
            built: any_built,
        });
    }
    for choice in contract.choices() {
        claims.push(Claim {
            id: format!("choice:{}", choice.id),
            text: format!("{} {}", choice.question, choice.choice),
            built: any_built,
        });
    }
    Ok(claims)
}

fn error_code(error: &Value) -> String {
    let code = ["code", "status", "error"].iter().find_map(|key| error.get(key));
    match code {
        Some(code) => slug(&super::path::written(code)),
        None => slug(&error_text(error)),
    }
}

fn error_text(error: &Value) -> String {
    error
        .get("meaning")
        .and_then(Value::as_str)
        .map_or_else(|| super::path::written(error), str::to_owned)
}

/// A code as it may stand in an id.
fn slug(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_') {
                letter
            } else {
                '-'
            }
        })
        .take(48)
        .collect();
    clean.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_claim_has_an_id_of_its_own() {
        for dialect in Dialect::ALL {
            let claims = claims(dialect).unwrap();
            let ids: BTreeSet<_> = claims.iter().map(|claim| &claim.id).collect();
            assert_eq!(ids.len(), claims.len(), "{dialect}");
            assert!(!claims.is_empty(), "{dialect}");
        }
    }

    #[test]
    fn the_ids_are_those_that_scenarios_write() {
        let all: Vec<String> = [Dialect::GuestRest, Dialect::PveOpen]
            .into_iter()
            .flat_map(|dialect| claims(dialect).unwrap())
            .map(|claim| claim.id)
            .collect();
        for id in [
            "guest.create#rule-2",
            "guest.get#example-0",
            "guest.delete#rule-1",
            "code:41203",
            "pve.operate#error-6000",
            "choice:name-taken",
        ] {
            assert!(all.iter().any(|known| known == id), "{id}");
        }
    }
}
