//! The page `docs/error-atlas.md` is what the binary prints, and what it says of the built dialects is what their
//! frontends send: every kind of failure, every failure of transport and every kind of broken schema is provoked,
//! and the answer is held to the line of the page.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod site;

use std::collections::BTreeSet;
use std::process::Command;

use babelvisor_core::ErrorKind;
use babelvisor_core::frontend::{Refusal, Request};
use babelvisor_schemas::{Dialect, Layer, Part, Problem, Strictness, TransportFault, contract};
use serde_json::{Value, json};
use site::calls::Call;
use site::{Answer, Site, built};
use strum::IntoEnumIterator as _;

const PAGE: &str = include_str!("../../docs/error-atlas.md");
const BUILT: [Dialect; 2] = [Dialect::GuestRest, Dialect::PveOpen];

/// A line of the page, taken apart.
#[derive(Debug)]
struct Line {
    status: u16,
    /// The code; a trunk and its branch where there are two.
    codes: Vec<String>,
    en: Vec<String>,
    zh: Vec<String>,
}

/// What the page says about a failure in a dialect.
fn line(dialect: Dialect, failure: &str) -> Line {
    let head = format!("\n## {dialect}\n");
    let (_, chapter) = PAGE.split_once(&head).expect("a chapter of the dialect");
    let chapter = chapter.split("\n## ").next().unwrap();
    let start = format!("| `{failure}` | ");
    let row = chapter
        .lines()
        .find_map(|row| row.strip_prefix(&start))
        .unwrap_or_else(|| panic!("{dialect} has no line for {failure}"));
    let cells: Vec<&str> = row.split(" | ").collect();
    let several = |cell: &str| -> Vec<String> {
        let texts = cell.split(" / ").filter(|text| *text != "–");
        texts.map(str::to_owned).collect()
    };
    Line {
        status: cells[0].parse().unwrap(),
        codes: several(cells[1]),
        en: several(cells[2]),
        zh: several(cells[3]),
    }
}

/// Holds an answer to what the page says about the failure.
#[track_caller]
fn holds(dialect: Dialect, failure: &str, answer: &Answer) {
    let line = line(dialect, failure);
    let what = format!("{dialect} {failure}: {} against {line:?}", answer.body);
    assert_eq!(answer.status, line.status, "{what}");
    let said = |place: &str| answer.body.pointer(place).and_then(Value::as_str);
    match dialect {
        Dialect::GuestRest => {
            assert_eq!(said("/state/code"), Some(line.codes[0].as_str()), "{what}");
            assert_eq!(said("/state/en-us"), Some(line.en[0].as_str()), "{what}");
            assert_eq!(said("/state/zh-cn"), Some(line.zh[0].as_str()), "{what}");
            assert_eq!(
                said("/state/sub/code"),
                line.codes.get(1).map(String::as_str),
                "{what}"
            );
            match line.zh.get(1) {
                // The branch's text stands between what the original puts before and behind it.
                Some(text) => assert!(said("/state/sub/zh-cn").unwrap().contains(text), "{what}"),
                None => assert_eq!(answer.body["state"].get("sub"), None, "{what}"),
            }
        }
        Dialect::PveOpen => {
            assert_eq!(answer.code(), line.codes[0], "{what}");
            let (msg, text) = (said("/msg").unwrap(), &line.zh[0]);
            let told = msg.strip_prefix(text.as_str()).is_some_and(|rest| {
                rest.is_empty()
                    || ["1003", "1007"].contains(&line.codes[0].as_str()) && rest.starts_with(": ")
            });
            assert!(told, "{what}");
            assert_eq!(answer.body["data"], Value::Null, "{what}");
        }
        Dialect::V1Compute | Dialect::Zstack | Dialect::KvmTaskFeed => panic!("{dialect} is not built"),
    }
    assert_eq!(
        contract(dialect).errors().validate_body(&answer.body),
        Ok(()),
        "{what}"
    );
}

fn call(method: &'static str, target: &str, body: Option<Value>) -> Call {
    Call {
        method,
        target: target.to_owned(),
        body,
    }
}

#[test]
fn the_page_is_what_the_binary_prints() {
    let printed = Command::new(env!("CARGO_BIN_EXE_babelvisor"))
        .arg("atlas")
        .output()
        .unwrap();
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(
        PAGE.trim(),
        printed.trim(),
        "write it anew: babelvisor atlas > docs/error-atlas.md"
    );
}

#[tokio::test]
async fn every_kind_of_failure_answers_as_the_page_says() {
    let site = Site::new().await;
    let changes = [
        (
            Dialect::GuestRest,
            call("PATCH", "/api/guest/{web}", Some(json!({"remark": "shop"}))),
        ),
        (
            Dialect::PveOpen,
            call("GET", "/v1/pve/open/operate/{cold}?type=1", None),
        ),
    ];
    for kind in ErrorKind::iter() {
        for (dialect, change) in &changes {
            site.store.fail(Some(kind));
            let answer = site.call(*dialect, change).await;
            site.store.fail(None);
            holds(*dialect, &format!("{kind:?}"), &answer);
        }
    }
    assert!(site.jobs(false).await.is_empty(), "what was refused was not done");
}

#[tokio::test]
async fn every_failure_of_transport_answers_as_the_page_says() {
    let site = Site::new().await;
    for dialect in BUILT {
        for fault in TransportFault::ALL {
            let refusal = match fault {
                TransportFault::UnknownPath => Refusal::UnknownPath,
                TransportFault::WrongMethod => Refusal::WrongMethod {
                    allowed: vec!["GET".to_owned()],
                },
                TransportFault::MalformedBody => Refusal::BadRequest("the path is not UTF-8".to_owned()),
                TransportFault::BodyTooLarge => Refusal::BodyTooLarge { limit: 1024 },
                TransportFault::NotBuilt => Refusal::NotBuilt { operation: "later" },
                TransportFault::Overloaded => Refusal::Overloaded,
            };
            let reply = site.frontend(dialect).refuse(refusal, &Request::default());
            holds(dialect, fault.name(), &site::read(reply));
        }
    }
    for (dialect, failure, method, target) in [
        (Dialect::GuestRest, "unknown_path", "GET", "/api/nowhere"),
        (Dialect::GuestRest, "wrong_method", "DELETE", "/api/guests"),
        (Dialect::GuestRest, "malformed_body", "POST", "/api/guest"),
        (Dialect::PveOpen, "unknown_path", "GET", "/v1/pve/open/nowhere"),
        (Dialect::PveOpen, "wrong_method", "PUT", "/v1/pve/open/image"),
        (
            Dialect::PveOpen,
            "malformed_body",
            "POST",
            "/v1/pve/open/createquantity",
        ),
        (Dialect::PveOpen, "not_built", "POST", "/v1/auth/checkToken"),
    ] {
        let answer = site.send(dialect, method, target, b"{").await;
        holds(dialect, failure, &answer);
    }
}

/// A request that breaks its schema in that way; none where no schema of the dialect can be broken so.
fn broken(dialect: Dialect, problem: Problem) -> Option<Call> {
    let wish = |changes: Value| {
        let mut body = json!({
            "cpu": 1, "memory": 1, "os_template_id": 1, "quantity": 1, "name": "", "password": "",
            "lease_term": 100,
        });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        call("POST", "/api/guest", Some(body))
    };
    let rent = |changes: Value| {
        let mut body = json!({"packageId": "SmallRents", "imageId": "1", "periodNumber": 1, "periodType": 1});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        call("POST", "/v1/pve/open/createRent", Some(body))
    };
    Some(match (dialect, problem) {
        (Dialect::GuestRest, Problem::Missing) => call("POST", "/api/guest", Some(json!({}))),
        (Dialect::GuestRest, Problem::WrongType) => wish(json!({"cpu": "four"})),
        (Dialect::GuestRest, Problem::OutOfRange) => wish(json!({"cpu": 0})),
        (Dialect::GuestRest, Problem::Length) => call("GET", "/api/guest/short", None),
        (Dialect::GuestRest, Problem::Pattern) => call("GET", "/api/guests?page_size=x", None),
        (Dialect::GuestRest, Problem::NotAllowed) => call("GET", "/api/guests?order=up", None),
        (Dialect::GuestRest, Problem::Unknown) => wish(json!({"colour": "red"})),
        (Dialect::PveOpen, Problem::Missing) => call("POST", "/v1/pve/open/createquantity", Some(json!({}))),
        (Dialect::PveOpen, Problem::WrongType) => rent(json!({"packageId": true})),
        (Dialect::PveOpen, Problem::OutOfRange) => rent(json!({"periodNumber": 0})),
        (Dialect::PveOpen, Problem::Length) => call(
            "POST",
            "/v1/auth/getToken",
            Some(json!({"uuid": "", "secret": "made-up"})),
        ),
        (Dialect::PveOpen, Problem::Pattern) => call("GET", "/v1/pve/open/mypage?page=x&pageSize=1", None),
        (Dialect::PveOpen, Problem::NotAllowed) => call("GET", "/v1/pve/open/operate/{cold}?type=7", None),
        (Dialect::PveOpen, Problem::Unknown) => rent(json!({"colour": "red"})),
        _ => return None,
    })
}

#[tokio::test]
async fn every_broken_schema_answers_as_the_page_says() {
    // The only level that refuses fields which the document does not have.
    let site = Site::with(Strictness::Enforce).await;
    for dialect in BUILT {
        for problem in Problem::ALL {
            let failure = format!("schema: {}", problem.name());
            match broken(dialect, problem) {
                Some(call) => holds(dialect, &failure, &site.call(dialect, &call).await),
                None => assert_eq!(problem, Problem::Other, "{dialect} has no call for {failure}"),
            }
        }
    }
    assert!(site.jobs(false).await.is_empty());
}

#[test]
fn no_schema_of_a_built_operation_can_fail_in_a_way_without_a_name() {
    // Keywords that either judge nothing or fail as one of the named problems.
    let named = BTreeSet::from([
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "anyOf",
        "enum",
        "const",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "default",
        "description",
        "plainInteger",
        "$schema",
    ]);
    for operation in built() {
        for part in Part::ALL {
            if part != Part::Answer {
                keywords(operation.schema(part, Layer::Accept), &mut |keyword| {
                    assert!(
                        named.contains(keyword),
                        "{} {part:?} uses {keyword}: provoke `{}`",
                        operation.id,
                        Problem::Other.name()
                    );
                });
            }
        }
    }
}

/// Every keyword of a schema.
fn keywords(schema: &Value, see: &mut impl FnMut(&str)) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        see(keyword);
        match (keyword.as_str(), value) {
            ("properties", Value::Object(members)) => {
                members.values().for_each(|member| keywords(member, see));
            }
            ("anyOf", Value::Array(forms)) => forms.iter().for_each(|form| keywords(form, see)),
            ("items" | "additionalProperties", nested) => keywords(nested, see),
            _ => {}
        }
    }
}

#[test]
fn a_code_that_is_called_unreachable_is_the_way_out_of_nothing() {
    for dialect in Dialect::ALL {
        let errors = contract(dialect).errors();
        for row in errors.rows().filter(|row| row.unreachable.is_some()) {
            assert!(
                BUILT.contains(&dialect) || site::SIGNED_IN.contains(&dialect),
                "{dialect} is not built: nothing of it can be reached"
            );
            let code = row.code.as_str();
            for kind in babelvisor_schemas::ErrorKind::ALL {
                assert_ne!(errors.for_kind(*kind).row.code, code, "{dialect}");
            }
        }
    }
}
