//! Every example that the documents print fits its own tables, or stands in `defects.json` with the reason.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use babelvisor_schemas::{Dialect, Layer, Operation, Part, Violation, contract};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Catalog {
    operations: Vec<CatalogOperation>,
}

#[derive(Deserialize)]
struct CatalogOperation {
    id: String,
    examples: Vec<Example>,
}

#[derive(Deserialize)]
struct Example {
    name: String,
    request: Option<Half>,
    response: Option<Half>,
}

#[derive(Deserialize)]
struct Half {
    path: Option<String>,
    query: Option<Value>,
    body: Option<Value>,
}

#[derive(Deserialize)]
struct Defects {
    defects: Vec<Defect>,
}

#[derive(Deserialize)]
struct Defect {
    operation: String,
    example: String,
    part: String,
    #[serde(default)]
    accepted: bool,
    reason: String,
}

/// One printed value with the place where it stands.
struct Printed {
    operation: &'static Operation,
    example: String,
    part: Part,
    value: Value,
}

impl Printed {
    fn key(&self) -> (String, String, String) {
        let part = match self.part {
            Part::Query => "query",
            Part::Body => "body",
            Part::Answer => "answer",
            Part::Path | Part::Headers => "other",
        };
        (self.operation.id.clone(), self.example.clone(), part.to_owned())
    }
}

fn read<T: for<'de> Deserialize<'de>>(dialect: Dialect, file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(dialect.name())
        .join(file);
    serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap()
}

fn printed(dialect: Dialect, parts: &[Part]) -> Vec<Printed> {
    let mut all = Vec::new();
    for row in read::<Catalog>(dialect, "catalog.json").operations {
        let operation = contract(dialect).operation(&row.id).unwrap();
        for (number, example) in row.examples.into_iter().enumerate() {
            let name = format!("{} #{number}", example.name);
            let mut push = |part: Part, value: Option<Value>| {
                if let (true, Some(value)) = (parts.contains(&part), value) {
                    all.push(Printed {
                        operation,
                        example: name.clone(),
                        part,
                        value,
                    });
                }
            };
            if let Some(request) = example.request {
                push(Part::Query, request.query);
                push(Part::Body, request.body);
            }
            if let Some(response) = example.response {
                push(Part::Answer, response.body);
            }
        }
    }
    all
}

fn words(violations: &[Violation]) -> String {
    violations
        .iter()
        .map(Violation::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Examples against the document layer, with the listed defects taken out on both sides.
fn check(dialect: Dialect, parts: &[Part]) {
    let defects = read::<Defects>(dialect, "defects.json").defects;
    let mut listed: BTreeMap<(String, String, String), String> = defects
        .into_iter()
        .map(|defect| {
            assert!(
                !defect.reason.trim().is_empty(),
                "{}: a defect needs a reason",
                defect.operation
            );
            ((defect.operation, defect.example, defect.part), defect.reason)
        })
        .collect();
    let mut wrong = Vec::new();
    for example in printed(dialect, parts) {
        let verdict = example
            .operation
            .validate(example.part, Layer::Document, &example.value);
        match (verdict, listed.remove(&example.key())) {
            (Ok(()), None) | (Err(_), Some(_)) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{:?} is listed as a defect and fits", example.key())),
            (Err(violations), None) => wrong.push(format!("{:?}: {}", example.key(), words(&violations))),
        }
    }
    wrong.extend(
        listed
            .keys()
            .map(|key| format!("{key:?} is listed as a defect and does not exist")),
    );
    assert!(
        wrong.is_empty(),
        "{dialect}, {} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn guest_rest_requests_and_answers_fit_the_document() {
    check(Dialect::GuestRest, &[Part::Query, Part::Body, Part::Answer]);
}

#[test]
fn pve_open_requests_and_answers_fit_the_document() {
    check(Dialect::PveOpen, &[Part::Query, Part::Body, Part::Answer]);
}

#[test]
fn v1_compute_requests_fit_the_document() {
    check(Dialect::V1Compute, &[Part::Query, Part::Body]);
}

#[test]
fn zstack_requests_fit_the_document() {
    check(Dialect::Zstack, &[Part::Query, Part::Body]);
}

#[test]
fn feed_reports_fit_the_document() {
    check(Dialect::KvmTaskFeed, &[Part::Query, Part::Body]);
}

#[test]
fn what_the_document_takes_the_gateway_takes() {
    for dialect in Dialect::ALL {
        for example in printed(dialect, &[Part::Query, Part::Body]) {
            if example
                .operation
                .validate(example.part, Layer::Document, &example.value)
                .is_ok()
            {
                let verdict = example
                    .operation
                    .validate(example.part, Layer::Accept, &example.value);
                assert_eq!(verdict, Ok(()), "{:?}", example.key());
            }
        }
    }
}

/// A defect of printing must not lock out a client that copies the example, unless the entry says so.
#[test]
fn printed_requests_are_taken_unless_the_defect_says_otherwise() {
    for dialect in Dialect::ALL {
        let defects = read::<Defects>(dialect, "defects.json").defects;
        for example in printed(dialect, &[Part::Query, Part::Body]) {
            let verdict = example
                .operation
                .validate(example.part, Layer::Accept, &example.value);
            let defect = defects
                .iter()
                .find(|d| (d.operation.clone(), d.example.clone(), d.part.clone()) == example.key());
            let refused = defect.is_some_and(|defect| !defect.accepted);
            assert_eq!(verdict.is_err(), refused, "{:?}: {:?}", example.key(), verdict);
        }
    }
}

#[test]
fn every_printed_path_leads_to_its_operation() {
    use babelvisor_schemas::Route;
    for dialect in Dialect::ALL {
        for row in read::<Catalog>(dialect, "catalog.json").operations {
            let operation = contract(dialect).operation(&row.id).unwrap();
            for example in row.examples {
                let Some(path) = example.request.and_then(|request| request.path) else {
                    continue;
                };
                let path = path.split('?').next().unwrap();
                let ids: Vec<String> = match contract(dialect).route(&operation.method, path) {
                    Route::Found { operation, .. } => vec![operation.id.clone()],
                    Route::Candidates(candidates) => candidates.operations().map(|o| o.id.clone()).collect(),
                    Route::WrongMethod { .. } | Route::UnknownPath => Vec::new(),
                };
                assert!(
                    ids.contains(&row.id),
                    "{dialect} {} {path} leads to {ids:?}, not {}",
                    operation.method,
                    row.id
                );
            }
        }
    }
}
