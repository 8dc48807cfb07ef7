//! The wire form: whatever comes in, an answer is a whole envelope with the dialect's own types, and nothing of it
//! sends a client elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::frontend::{Refusal, Request};
use babelvisor_schemas::{Dialect, contract};
use babelvisor_v1_compute::{Settings, Strictness, V1Compute};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Answer, Site, open, read, send};

#[track_caller]
fn whole(answer: &Answer) {
    let body = answer.body.as_object().expect("an envelope");
    let members: Vec<&str> = body.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["scode", "desc", "message", "message_cn", "stack", "data"]
    );
    assert!(
        body["scode"].is_i64() && body["scode"] != 11057,
        "{}",
        answer.body
    );
    for text in ["desc", "message", "message_cn"] {
        assert!(body[text].is_string(), "{text}: {}", answer.body);
        assert!(
            !body[text].as_str().unwrap().contains("%s"),
            "{text}: {}",
            answer.body
        );
    }
    assert_eq!(body["stack"].is_null(), answer.scode() == 0, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn every_refusal_of_the_server_is_a_whole_envelope() {
    let site = Site::open().await;
    for (refusal, status, scode) in [
        (Refusal::UnknownPath, 404, 22006),
        (
            Refusal::WrongMethod {
                allowed: vec!["POST".to_owned()],
            },
            404,
            22006,
        ),
        (
            Refusal::NotBuilt {
                operation: "ticket.submit",
            },
            200,
            22006,
        ),
        (Refusal::BodyTooLarge { limit: 1024 }, 200, 10001),
        (
            Refusal::BadRequest("the path is not UTF-8".to_owned()),
            200,
            10001,
        ),
        (Refusal::Timeout, 200, 22010),
        (Refusal::Overloaded, 200, 10000),
        (Refusal::Internal, 200, 10000),
    ] {
        let answer = read(site.frontend.refuse(refusal.clone(), &Request::default()));
        whole(&answer);
        assert_eq!((answer.status, answer.scode()), (status, scode), "{refusal:?}");
    }
}

#[tokio::test]
async fn what_is_not_built_is_refused_by_its_own_name_and_unknown_routes_otherwise() {
    let site = Site::open().await;
    let mut seen = 0;
    for operation in contract(Dialect::V1Compute).operations() {
        let other = if operation.method == "GET" { "POST" } else { "GET" };
        let answer = site.send(other, operation.path.as_str(), &[], b"").await;
        whole(&answer);
        assert_eq!((answer.status, answer.scode()), (404, 22006), "{}", operation.id);
        assert_eq!(
            answer.header("allow"),
            Some(operation.method.as_str()),
            "{}",
            operation.id
        );
        if !operation.built {
            let answer = site
                .send(&operation.method, operation.path.as_str(), &[], b"")
                .await;
            whole(&answer);
            assert_eq!((answer.status, answer.scode()), (200, 22006));
            assert_eq!(answer.desc(), operation.id);
            seen += 1;
        }
    }
    assert!(seen > 0, "when all is built this test has half its point left");
    let unknown = site.get("/v1/compute/desktop/pool/exclusive/start").await;
    assert_eq!(unknown.status, 404, "a client falls back on this");
}

#[tokio::test]
async fn every_operation_takes_an_empty_call_without_falling_over() {
    let site = Site::open().await;
    for operation in contract(Dialect::V1Compute).operations() {
        for body in ["", "{}", "null", " \n", "{\"compute_uuid\":null,\"vms\":null}"] {
            let answer = site
                .send(&operation.method, operation.path.as_str(), &[], body.as_bytes())
                .await;
            whole(&answer);
            assert_ne!(answer.scode(), 10000, "{}: {}", operation.id, answer.body);
        }
    }
    assert!(site.all().is_empty(), "nothing was made of nothing");
}

#[tokio::test]
async fn a_field_that_is_ignored_is_told_or_refused_as_the_site_says() {
    let site = Site::open().await;
    let body = json!({"cap": 7, "colour": "red"}).to_string();
    let target = "/v1/compute/repository/list";
    for (strictness, warned, refused) in [
        (Strictness::Observe, false, false),
        (Strictness::Warn, true, false),
        (Strictness::Enforce, false, true),
    ] {
        let frontend = V1Compute::new(site.core.clone(), Settings { strictness, ..open() });
        let answer = send(&*frontend, "POST", target, &[], body.as_bytes()).await;
        whole(&answer);
        assert_eq!(
            answer.header("babelvisor-warning").is_some(),
            warned,
            "{strictness:?}"
        );
        assert_eq!(
            answer.scode() == 10001,
            refused,
            "{strictness:?}: {}",
            answer.body
        );
    }
    // What clients always send without meaning anything by it is no field that is ignored.
    let quiet = site
        .get("/v1/pool/internal/list?filter_redundancy&filter_media&page_size=1")
        .await;
    assert_eq!(quiet.header("babelvisor-warning"), None);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        Just(json!("0b7dc2f4-9d0b-4c9e-8a37-51e60b7dc2f4")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((field(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "cluster_uuid",
            "tenant",
            "compute_uuid",
            "vms",
            "objects",
            "group_uuid",
            "group_name",
            "uuid",
            "type",
            "volume_name",
            "capacity",
            "pool_uuid",
            "meta",
            "cloud_init_data",
            "infos",
            "image",
            "user",
            "Password",
            "page_num",
            "page_size",
            "vdc_agent_list",
            "object_group",
            "count",
        ])
        .prop_map(str::to_owned),
        "[a-z_]{1,8}",
    ]
}

#[test]
fn no_body_and_no_query_brings_an_operation_down() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let site = runtime.block_on(Site::open());
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((method, path) in prop::sample::select(operations()), body in any_json(), query in "[a-z_=&%0-9]{0,40}")| {
        let target = format!("{path}?{query}");
        let answer = runtime.block_on(site.send(method, &target, &[], body.to_string().as_bytes()));
        whole(&answer);
        prop_assert_ne!(answer.scode(), 10000, "{} {}: {}", method, path, answer.body);
    });
    assert!(site.all().is_empty(), "nothing sensible was asked for");
}

fn operations() -> Vec<(&'static str, &'static str)> {
    contract(Dialect::V1Compute)
        .operations()
        .iter()
        .map(|operation| (operation.method.as_str(), operation.path.as_str()))
        .collect()
}
