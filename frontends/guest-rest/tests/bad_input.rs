//! Requests that no client should send, generated from the contract's schemas: fields that are almost right, fields
//! that are not, broken bytes, odd paths and queries. Whatever comes, the answer is an envelope with a code of the
//! table, never a fault of ours; and what is refused has changed nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::frontend::{Request, Routed};
use babelvisor_guest_rest::Settings;
use babelvisor_memory::MemoryConfig;
use babelvisor_schemas::{Dialect, Layer, Operation, Part, contract};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use support::{Answer, NOBODY, Site, eventually, read, wish};

/// A path parameter before it is known which guests there are.
#[derive(Debug, Clone)]
enum PathText {
    /// The uuids of these guests, by place, joined by commas.
    Guests(Vec<usize>),
    Text(String),
}

#[derive(Debug, Clone)]
struct Case {
    operation: &'static Operation,
    path: PathText,
    query: String,
    json: bool,
    body: Vec<u8>,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9-]{0,12}",
        any::<String>(),
        Just("x".repeat(5000)),
        Just("\u{202e}<!--\u{1}'\";\r\n".to_owned()),
        Just("a\u{fffe}b".to_owned()),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((text(), inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A value that fits a field's schema, or nearly so.
fn near(schema: &Value) -> BoxedStrategy<Value> {
    let bound = |name: &str| schema[name].as_i64();
    if schema["type"] == "integer" {
        let (least, most) = (
            bound("minimum").unwrap_or(-9),
            bound("maximum").unwrap_or(i64::MAX),
        );
        let edges = [
            least,
            least.saturating_sub(1),
            most,
            most.saturating_add(1),
            0,
            -1,
        ];
        let fit = (least..least.saturating_add(6)).prop_map(Value::from);
        return prop_oneof![3 => fit, 1 => proptest::sample::select(edges.to_vec()).prop_map(Value::from)]
            .boxed();
    }
    if let Some(options) = schema["enum"].as_array() {
        return proptest::sample::select(options.clone()).boxed();
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let bare = pattern.trim_start_matches('^').trim_end_matches('$');
        let fit = proptest::string::string_regex(bare).expect("a pattern of the contract");
        return fit.prop_map(Value::from).boxed();
    }
    prop_oneof![
        "[a-zA-Z0-9-]{0,9}".prop_map(Value::from),
        text().prop_map(Value::from)
    ]
    .boxed()
}

/// An object of the schema's fields, each fit, odd or absent, with strangers among them.
fn object(schema: &Value) -> BoxedStrategy<Map<String, Value>> {
    let fields = schema["properties"].as_object().cloned().unwrap_or_default();
    let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = fields
        .into_iter()
        .map(|(name, field)| {
            prop_oneof![6 => near(&field).prop_map(Some), 1 => anything().prop_map(Some), 1 => Just(None)]
                .prop_map(move |value| value.map(|value| (name.clone(), value)))
                .boxed()
        })
        .collect();
    let strangers = vec(("[a-z_]{1,8}", anything()), 0..2);
    (fields, strangers)
        .prop_map(|(fields, strangers)| {
            strangers
                .into_iter()
                .chain(fields.into_iter().flatten())
                .collect()
        })
        .boxed()
}

/// The body as bytes: whole, cut short, bent at one place, or with a key twice.
fn bytes(schema: &Value) -> BoxedStrategy<Vec<u8>> {
    // One field of a good body at a time goes wrong as well, so that every rule is met alone.
    let mut fields: Vec<String> = schema["properties"]
        .as_object()
        .map(|fields| fields.keys().cloned().collect())
        .unwrap_or_default();
    fields.push("stranger".to_owned());
    let spoilt = (proptest::sample::select(fields), anything()).prop_map(|(field, value)| {
        let mut body = wish();
        body[field] = value;
        body.to_string()
    });
    let generated = object(schema).prop_map(|body| Value::Object(body).to_string());
    let whole = prop_oneof![3 => generated, 3 => spoilt, 1 => anything().prop_map(|value| value.to_string())];
    prop_oneof![
        6 => whole.clone().prop_map(String::into_bytes),
        1 => (whole.clone(), any::<prop::sample::Index>()).prop_map(|(body, at)| {
            let body = body.into_bytes();
            body[..at.index(body.len() + 1)].to_vec()
        }),
        1 => (whole, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(body, at, byte)| {
            let mut body = body.into_bytes();
            let at = at.index(body.len());
            body[at] = byte;
            body
        }),
        1 => Just(br#"{"cpu":1,"cpu":1,"remark":"a","remark":"b"}"#.to_vec()),
        1 => vec(any::<u8>(), 0..40),
    ]
    .boxed()
}

fn query(schema: &Value) -> BoxedStrategy<String> {
    let pairs = object(schema).prop_map(|fields| {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect();
        pairs.join("&")
    });
    let filter = "filter=([a-z_]{0,9}:(eq|LIKE|in|notin|gt|x)?:?[a-z0-9,%:]{0,6};?){0,4}";
    let filter = proptest::string::string_regex(filter).expect("a pattern");
    prop_oneof![3 => pairs, 2 => filter, 1 => "[ -~]{0,60}", 1 => any::<String>()].boxed()
}

fn path() -> impl Strategy<Value = PathText> {
    prop_oneof![
        3 => vec(0_usize..6, 1..4).prop_map(PathText::Guests),
        1 => Just(PathText::Text(NOBODY.to_owned())),
        1 => "[0-9a-f-]{36}".prop_map(PathText::Text),
        1 => "\\w{36}(,\\w{36}){0,2}".prop_map(PathText::Text),
        1 => text().prop_map(PathText::Text),
    ]
}

fn cases() -> BoxedStrategy<Case> {
    let operations = contract(Dialect::GuestRest)
        .operations()
        .iter()
        .filter(|operation| operation.built);
    let weighted = operations.map(|operation| {
        let schema = |part| operation.schema(part, Layer::Accept);
        let case = (
            path(),
            query(schema(Part::Query)),
            any::<bool>(),
            bytes(schema(Part::Body)),
        )
            .prop_map(move |(path, query, json, body)| Case {
                operation,
                path,
                query,
                json,
                body,
            });
        // Creation has the most rules.
        (if operation.id == "guest.create" { 8 } else { 1 }, case.boxed())
    });
    let weighted = weighted.collect::<Vec<_>>();
    proptest::strategy::Union::new_weighted(weighted).boxed()
}

/// Sends a case past the router: its path parameters are worse than any that the server lets through.
async fn sent(site: &Site, case: &Case) -> Answer {
    let path = match &case.path {
        PathText::Text(text) => text.clone(),
        PathText::Guests(places) => {
            let guests: Vec<String> = site
                .core
                .now()
                .by_number
                .values()
                .map(|vm| vm.id.to_string())
                .collect();
            let pick = |place: &usize| {
                guests
                    .get(place % guests.len().max(1))
                    .map_or(NOBODY, String::as_str)
            };
            places.iter().map(pick).collect::<Vec<_>>().join(",")
        }
    };
    let request = Request {
        method: case.operation.method.clone(),
        query: case.query.clone(),
        headers: if case.json {
            vec![("content-type".to_owned(), "application/json".to_owned())]
        } else {
            Vec::new()
        },
        body: case.body.clone().into(),
        scheme: "http",
        host: "gw.example".to_owned(),
        request_id: "trace-1".to_owned(),
        ..Request::default()
    };
    let params = case
        .operation
        .path
        .param_names()
        .map(|name| (param(name), path.clone()))
        .collect();
    let routed = Routed {
        operations: vec![case.operation.id.as_str()],
        params,
    };
    read(site.frontend.answer(routed, request).await, Some(case.operation))
}

fn param(name: &str) -> &'static str {
    match name {
        "uuid" => "uuid",
        "uuids" => "uuids",
        other => panic!("an unknown path parameter {other}"),
    }
}

/// What must be the same after a refusal: guests with their records, and jobs.
async fn world(site: &Site) -> (Vec<(u64, u64)>, usize) {
    let now = site.core.now();
    let mut guests: Vec<_> = now
        .vms
        .values()
        .map(|vm| (vm.record.number, vm.record_version))
        .collect();
    guests.sort_unstable();
    (guests, site.jobs().await.len())
}

async fn at_rest(site: &Site) {
    eventually("all jobs have ended", || {
        site.core
            .now()
            .vms
            .values()
            .all(|vm| vm.activity.is_none())
            .then_some(())
    })
    .await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while site.jobs().await.iter().any(|job| !job.state.ended()) {
        assert!(Instant::now() < deadline, "a job does not end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    site.control.clear_call_log();
}

#[test]
fn whatever_comes_is_answered_in_the_envelope_and_what_is_refused_changes_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let config = MemoryConfig {
        vms: 6,
        ..MemoryConfig::default()
    };
    let site = Arc::new(runtime.block_on(Site::with(Settings::default(), config)));
    runtime.block_on(eventually("all are adopted", || {
        (site.core.now().by_number.len() == 6).then_some(())
    }));
    let (accepted, refused) = (Cell::new(0), Cell::new(0));

    let config = Config {
        cases: 600,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&cases(), |case| {
        runtime.block_on(async {
            at_rest(&site).await;
            let before = world(&site).await;
            let answer = sent(&site, &case).await;
            prop_assert!(answer.status < 500 || answer.status == 503, "{}", answer.body);
            if answer.status == 200 {
                accepted.set(accepted.get() + 1);
            } else {
                refused.set(refused.get() + 1);
                prop_assert_eq!(
                    world(&site).await,
                    before,
                    "a refusal changed the registry: {}",
                    answer.body
                );
                prop_assert_eq!(
                    site.changes(),
                    Vec::new(),
                    "a refusal reached the hypervisor: {}",
                    answer.body
                );
            }
            Ok(())
        })
    });
    let (accepted, refused) = (accepted.get(), refused.get());
    ran.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        accepted > 50 && refused > 150,
        "both ways are met: {accepted} accepted, {refused} refused"
    );
}

#[test]
fn every_rule_of_creation_is_met_by_what_is_generated() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let site = runtime.block_on(Site::new());
    let mut codes = std::collections::BTreeSet::new();
    let create = support::operation("guest.create");
    let spoil = [
        "cpu",
        "memory",
        "os_template_id",
        "quantity",
        "name",
        "password",
        "lease_term",
    ];
    for field in spoil {
        for value in [
            json!(null),
            json!(true),
            json!("text"),
            json!(-1),
            json!(1e3),
            json!(i64::MAX),
            json!("\u{1}"),
        ] {
            let mut body = wish();
            body[field] = value;
            let body = body.to_string().into_bytes();
            let path = PathText::Text(String::new());
            let case = Case {
                operation: create,
                path,
                query: String::new(),
                json: true,
                body,
            };
            codes.insert(runtime.block_on(sent(&site, &case)).code());
        }
    }
    for code in ["200", "412/41202", "412/41203", "404/40450"] {
        assert!(codes.contains(code), "{codes:?}");
    }
}
