//! The wire form: answers fit the contract's schemas and the document's printed examples; unknown addresses
//! are refused in the envelope.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::frontend::{Refusal, Request};
use babelvisor_core::model::Role;
use babelvisor_schemas::{Dialect, Layer, Part, contract};
use serde_json::{Value, json};
use support::{Answer, KEY, Site, USER, operation};

/// One good answer of every operation, in the order in which they can be had.
async fn tour(site: &Site) -> Vec<(&'static str, Answer)> {
    site.account(USER, "home", Role::User).await;
    let mut answers = vec![
        (
            "pve.getToken",
            site.post("/v1/auth/getToken", &json!({"uuid": USER, "secret": KEY}))
                .await,
        ),
        ("pve.image", site.get("/v1/pve/open/image").await),
        ("pve.packAge", site.get("/v1/pve/open/packAge/0").await),
        (
            "pve.createRent",
            site.post("/v1/pve/open/createRent", &site.rent(3, 1)).await,
        ),
    ];
    let id = site.all()[0].record.short_id.clone();
    site.settled(&id).await;
    answers.push((
        "pve.createquantity",
        site.post("/v1/pve/open/createquantity", &site.by_use()).await,
    ));
    answers.push((
        "pve.operate",
        site.get(&format!("/v1/pve/open/operate/{id}?type=1")).await,
    ));
    site.until_status(&id, "2").await;
    site.settled(&id).await;
    answers.push(("pve.one", site.get(&format!("/v1/pve/open/one/{id}")).await));
    answers.push((
        "pve.mypage",
        site.get("/v1/pve/open/mypage?page=1&pageSize=25").await,
    ));
    answers.push(("pve.reboot", site.get(&format!("/v1/pve/open/reboot/{id}")).await));
    site.settled(&id).await;
    answers.push((
        "pve.delete",
        site.delete(&format!("/v1/pve/open/delete/{id}")).await,
    ));
    answers
}

#[tokio::test]
async fn every_good_answer_fits_its_schema_and_the_envelope() {
    let site = Site::open().await;
    let answers = tour(&site).await;
    let built = contract(Dialect::PveOpen)
        .operations()
        .iter()
        .filter(|operation| operation.built)
        .count();
    assert_eq!(answers.len(), built, "every operation has its turn");
    for (id, answer) in answers {
        assert_eq!(answer.status, 200);
        operation(id)
            .validate(Part::Answer, Layer::Document, &answer.body)
            .unwrap_or_else(|faults| panic!("{id}: {faults:?}\n{}", answer.body));
        let members: Vec<&String> = answer.body.as_object().unwrap().keys().collect();
        assert_eq!(members, ["code", "data", "msg", "success", "traceId"], "{id}");
        assert_eq!(answer.body["msg"], "success");
        assert_eq!(answer.body["success"], true);
        assert_eq!(answer.body["traceId"], "trace-1");
        assert!(
            answer.headers.contains(&("cache-control", "no-store".to_owned())),
            "{id}"
        );
        assert!(
            answer
                .headers
                .contains(&("content-type", "application/json; charset=utf-8".to_owned())),
            "{id}"
        );
    }
}

#[tokio::test]
async fn machines_that_were_found_fit_the_schema_too() {
    let site = Site::open().await;
    let id = site.foreign("guest").await;
    for (operation_id, target) in [
        ("pve.one", format!("/v1/pve/open/one/{id}")),
        ("pve.mypage", "/v1/pve/open/mypage?page=1&pageSize=25".to_owned()),
    ] {
        let answer = site.get(&target).await;
        operation(operation_id)
            .validate(Part::Answer, Layer::Document, &answer.body)
            .unwrap_or_else(|faults| panic!("{operation_id}: {faults:?}\n{}", answer.body));
    }
}

#[tokio::test]
async fn every_field_of_the_printed_examples_is_there_with_its_type() {
    let catalog: Value =
        serde_json::from_str(include_str!("../../../schemas/pve-open/catalog.json")).unwrap();
    let site = Site::open().await;
    let answers = tour(&site).await;
    let mut compared = 0;
    for documented in catalog["operations"].as_array().unwrap() {
        let id = documented["id"].as_str().unwrap();
        let (_, answer) = answers.iter().find(|(known, _)| *known == id).expect("answered");
        for example in documented["examples"].as_array().unwrap() {
            same_shape(id, &example["response"]["body"], &answer.body);
            compared += 1;
        }
    }
    assert!(compared >= 9, "{compared} examples");
}

/// Everything in `printed` is in `ours`, with the same JSON type. The rented machine of the tour lacks nothing
/// but an address of its guest, which no lease reports.
fn same_shape(place: &str, printed: &Value, ours: &Value) {
    match (printed, ours) {
        (Value::Object(printed), Value::Object(ours)) => {
            for (name, value) in printed {
                let place = format!("{place}.{name}");
                same_shape(
                    &place,
                    value,
                    ours.get(name).unwrap_or_else(|| panic!("{place} is missing")),
                );
            }
        }
        (Value::Array(printed), Value::Array(ours)) => {
            same_shape(
                place,
                printed.first().expect("an entry"),
                ours.first().expect("an entry"),
            );
        }
        (Value::Number(printed), Value::Number(ours)) => {
            assert!(
                printed.is_f64() || ours.is_i64() || ours.is_u64(),
                "{place}: an integer"
            );
        }
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) | (Value::Null, _) => {}
        (Value::String(_), Value::Null) if place.ends_with(".ipV4") => {}
        (printed, ours) => panic!("{place}: printed {printed}, ours {ours}"),
    }
}

#[tokio::test]
async fn paths_are_exact_except_for_the_two_small_spellings() {
    let site = Site::open().await;
    site.get("/v1/pve/open/package/0").await.good();
    site.post("/v1/pve/open/createrent", &site.rent(1, 1))
        .await
        .good();
    for (method, target) in [
        ("GET", "/v1/pve/open/Image"),
        ("GET", "/v1/pve/open/image/"),
        ("GET", "/v1/pve/open/PACKAGE/0"),
        ("POST", "/v1/pve/open/createQuantity"),
        ("GET", "/v1/pve/open/one"),
        ("GET", "/v1/pve/open/one/"),
        ("GET", "/v2/pve/open/image"),
    ] {
        let answer = site.send(method, target, &[], b"").await;
        assert_eq!((answer.status, answer.code()), (404, 503), "{method} {target}");
        assert_eq!(answer.msg(), "接口异常");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let site = Site::open().await;
    for (method, target, allowed) in [
        ("POST", "/v1/pve/open/operate/QzyHraLXEr", "GET"),
        ("GET", "/v1/pve/open/delete/QzyHraLXEr", "DELETE"),
        ("GET", "/v1/auth/getToken", "POST"),
    ] {
        let answer = site.send(method, target, &[], b"").await;
        assert_eq!((answer.status, answer.code()), (405, 503), "{method} {target}");
        assert!(
            answer.headers.contains(&("allow", allowed.to_owned())),
            "{:?}",
            answer.headers
        );
    }
}

#[tokio::test]
async fn every_refusal_of_the_server_is_in_the_envelope() {
    let site = Site::open().await;
    let schema = jsonschema::validator_for(contract(Dialect::PveOpen).errors().body_schema()).unwrap();
    for (refusal, status, code) in [
        (Refusal::UnknownPath, 404, 503),
        (
            Refusal::WrongMethod {
                allowed: vec!["GET".to_owned()],
            },
            405,
            503,
        ),
        (
            Refusal::NotBuilt {
                operation: "pve.checkToken",
            },
            200,
            503,
        ),
        (Refusal::BodyTooLarge { limit: 1024 }, 200, 1007),
        (Refusal::BadRequest("the path is not UTF-8".to_owned()), 200, 1007),
        (Refusal::Timeout, 200, 503),
        (Refusal::Overloaded, 200, 503),
        (Refusal::Internal, 200, 500),
    ] {
        let answer = support::read(site.frontend.refuse(refusal.clone(), &Request::default()));
        assert_eq!((answer.status, answer.code()), (status, code), "{refusal:?}");
        assert!(schema.is_valid(&answer.body), "{refusal:?}: {}", answer.body);
        assert_eq!(answer.body["success"], false);
    }
    let check = site
        .post("/v1/auth/checkToken", &json!({"uuid": USER, "token": "x"}))
        .await;
    assert_eq!(check.code(), 503, "known, and not built");
}
