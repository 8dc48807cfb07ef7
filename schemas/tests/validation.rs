//! What requests may and may not be, per dialect, and how complaints are worded.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use babelvisor_schemas::{Dialect, Layer, LeniencyKind, Operation, Part, Problem, Violation, contract};
use proptest::prelude::*;
use serde_json::{Value, json};

fn operation(dialect: Dialect, id: &str) -> &'static Operation {
    contract(dialect).operation(id).unwrap()
}

fn create() -> Value {
    json!({"cpu": 4, "memory": 4, "os_template_id": 1, "quantity": 1, "name": "", "password": "made-up", "lease_term": 100})
}

fn refused(operation: &Operation, part: Part, value: &Value) -> Vec<Violation> {
    operation.validate(part, Layer::Accept, value).unwrap_err()
}

fn first(operation: &Operation, part: Part, value: &Value) -> (String, Problem) {
    let violation = refused(operation, part, value).remove(0);
    (violation.field, violation.problem)
}

#[test]
fn guest_create_takes_what_the_test_of_the_original_sends() {
    let create_op = operation(Dialect::GuestRest, "guest.create");
    assert_eq!(create_op.validate(Part::Body, Layer::Accept, &create()), Ok(()));
    let without =
        json!({"cpu": 1, "memory": 1, "os_template_id": 1, "quantity": 1, "lease_term": -5, "extra": [1]});
    assert_eq!(create_op.validate(Part::Body, Layer::Accept, &without), Ok(()));
}

#[test]
fn guest_create_names_the_first_bad_field_in_its_own_order() {
    let op = operation(Dialect::GuestRest, "guest.create");
    assert_eq!(
        first(op, Part::Body, &json!({})),
        ("cpu".to_owned(), Problem::Missing)
    );
    assert_eq!(
        first(op, Part::Body, &json!({"quantity": "x", "cpu": 1})),
        ("memory".to_owned(), Problem::Missing)
    );
    let all: Vec<String> = refused(op, Part::Body, &json!({}))
        .into_iter()
        .map(|v| v.field)
        .collect();
    assert_eq!(all, ["cpu", "memory", "os_template_id", "quantity", "lease_term"]);
}

#[test]
fn guest_numbers_must_be_plain_integers_in_range() {
    let op = operation(Dialect::GuestRest, "guest.create");
    for (value, problem) in [
        (json!("4"), Problem::WrongType),
        (json!(4.0), Problem::WrongType),
        (json!(true), Problem::WrongType),
        (json!(null), Problem::WrongType),
        (json!([4]), Problem::WrongType),
        (json!(u64::MAX), Problem::WrongType),
        (json!(1e300), Problem::WrongType),
        (json!(0), Problem::OutOfRange),
        (json!(-4), Problem::OutOfRange),
        (json!(1_000_000_000_000_000_000_i64), Problem::OutOfRange),
    ] {
        let mut body = create();
        body["cpu"] = value.clone();
        assert_eq!(
            first(op, Part::Body, &body),
            ("cpu".to_owned(), problem),
            "{value}"
        );
    }
}

#[test]
fn a_body_that_is_no_object_is_a_wrong_type() {
    let op = operation(Dialect::GuestRest, "guest.create");
    for body in [json!(null), json!([]), json!("text"), json!(4)] {
        assert_eq!(
            first(op, Part::Body, &body),
            (String::new(), Problem::WrongType),
            "{body}"
        );
    }
}

#[test]
fn guest_paths_and_queries_follow_the_rules_of_the_original() {
    let get = operation(Dialect::GuestRest, "guest.get");
    assert_eq!(
        first(get, Part::Path, &json!({"uuid": "short"})),
        ("uuid".to_owned(), Problem::Length)
    );
    let boot = operation(Dialect::GuestRest, "guest.boot");
    let uuid = "01ee4d15-7165-4859-b8d4-d2c3c0ea22c3";
    for (uuids, good) in [
        (uuid.to_owned(), true),
        (format!("{uuid},{uuid}"), true),
        (format!("{uuid},"), false),
        (format!("{uuid}, {uuid}"), false),
        ("x".to_owned(), false),
    ] {
        let verdict = boot.validate(Part::Path, Layer::Accept, &json!({ "uuids": uuids }));
        assert_eq!(verdict.is_ok(), good, "{uuids}");
    }
    let list = operation(Dialect::GuestRest, "guest.list");
    for (name, value, problem) in [
        ("page", "0", Problem::Pattern),
        ("page", "-1", Problem::Pattern),
        ("limit", "123456789012345678", Problem::Pattern),
        ("order", "ASC", Problem::NotAllowed),
        ("order_by", "1;drop", Problem::NotAllowed),
    ] {
        assert_eq!(
            first(list, Part::Query, &json!({ name: value })),
            (name.to_owned(), problem),
            "{name}={value}"
        );
    }
    let good = json!({"page": "2", "limit": "0", "order": "desc", "filter": "name:like:a", "unheard": "of"});
    assert_eq!(list.validate(Part::Query, Layer::Accept, &good), Ok(()));
    assert_eq!(
        first(list, Part::Query, &json!({"page": ["1", "2"]})),
        ("page".to_owned(), Problem::WrongType),
        "a repeated parameter"
    );
}

#[test]
fn no_complaint_shows_what_was_sent() {
    let op = operation(Dialect::GuestRest, "guest.create");
    let secret = "made-up-secret";
    let mut body = create();
    body["password"] = json!({ secret: secret });
    body["cpu"] = json!(secret);
    for violation in refused(op, Part::Body, &body) {
        assert!(
            !format!("{violation:?} {violation}").contains(secret),
            "{violation:?}"
        );
    }
}

#[test]
fn complaints_are_bounded() {
    let op = operation(Dialect::GuestRest, "guest.create");
    let many: Value = Value::Object((0..500).map(|n| (format!("field{n}"), json!(n))).collect());
    let violations = op.validate(Part::Body, Layer::Document, &many).unwrap_err();
    assert_eq!(violations.len(), Violation::MOST);
}

#[test]
fn pve_open_takes_numbers_as_text_and_text_as_numbers() {
    let rent = operation(Dialect::PveOpen, "pve.createRent");
    let body = json!({"packageId": "Pi8tcH1NSd", "imageId": 8989, "periodNumber": "3", "periodType": "1", "more": 1});
    let (normal, verdict) = rent.normalise(Part::Body, body.clone());
    assert_eq!(verdict, Ok(()));
    assert_eq!(normal["imageId"], json!("8989"));
    assert_eq!(
        (&normal["periodNumber"], &normal["periodType"]),
        (&json!(3), &json!(1))
    );
    assert!(rent.validate(Part::Body, Layer::Document, &body).is_err());
    for (field, value, problem) in [
        ("periodType", json!("9"), Problem::NotAllowed),
        ("periodNumber", json!("0"), Problem::OutOfRange),
        ("periodNumber", json!("three"), Problem::Pattern),
        ("packageId", json!(null), Problem::WrongType),
        ("packageId", json!(""), Problem::Length),
    ] {
        let mut bad = body.clone();
        bad[field] = value;
        assert_eq!(first(rent, Part::Body, &bad), (field.to_owned(), problem));
    }
}

#[test]
fn pve_open_tokens_are_asked_for_in_both_forms() {
    let token = operation(Dialect::PveOpen, "pve.getToken");
    let newest = json!({"uuid": "A1", "secret": "made-up"});
    let oldest = json!({"uuid": "A1", "secret": "made-up", "nonce": "x1", "timeMap": "1695639270000"});
    for body in [newest, oldest] {
        assert_eq!(token.validate(Part::Body, Layer::Accept, &body), Ok(()));
    }
    for data in [
        json!("made-up-token"),
        json!({"token": "made-up", "effectiveTime": 1_800_000}),
    ] {
        let answer = json!({"code": 0, "data": data, "msg": "success", "success": true, "traceId": "t"});
        assert_eq!(token.validate(Part::Answer, Layer::Document, &answer), Ok(()));
    }
}

#[test]
fn pve_open_machines_may_have_holes_but_not_wrong_types() {
    let one = operation(Dialect::PveOpen, "pve.one");
    let mut answer = json!({"code": 0, "msg": "success", "data": {
        "id": "QzyHraLXEr", "name": "m", "gpuConfiguration": null, "gpuNumber": 0, "memory": 8, "cpu": 8,
        "rigidDisk": 256, "operatingSystem": "Debian", "hostAccount": null, "hostPw": null, "address": null,
        "port": null, "mac": null, "ipV4": null, "ipv4": null, "pveMachineType": "0", "status": "2",
        "createTime": 1695639270000_i64, "expirationTime": null}});
    assert_eq!(one.validate(Part::Answer, Layer::Document, &answer), Ok(()));
    answer["data"]["status"] = json!(2);
    assert!(one.validate(Part::Answer, Layer::Document, &answer).is_err());
    answer["data"]["status"] = json!("2");
    answer["data"].as_object_mut().unwrap().remove("name");
    assert_eq!(
        one.validate(Part::Answer, Layer::Document, &answer).unwrap_err()[0].pointer,
        "/data/name"
    );
}

#[test]
fn guest_answers_are_held_to_all_seventeen_fields() {
    let get = operation(Dialect::GuestRest, "guest.get");
    let state = json!({"code": "200", "zh-cn": "成功", "en-us": "OK"});
    let verdict = get.validate(
        Part::Answer,
        Layer::Document,
        &json!({"state": state, "data": {}}),
    );
    let missing = verdict.unwrap_err();
    assert_eq!(missing.len(), 17);
    assert!(
        missing
            .iter()
            .all(|violation| violation.problem == Problem::Missing)
    );
    let number = json!({"state": {"code": 200, "zh-cn": "成功", "en-us": "OK"}});
    let boot = operation(Dialect::GuestRest, "guest.boot");
    assert_eq!(
        boot.validate(Part::Answer, Layer::Document, &number).unwrap_err()[0].pointer,
        "/state/code"
    );
}

#[test]
fn v1_compute_reads_what_the_go_client_writes() {
    let start = operation(Dialect::V1Compute, "compute.start");
    let body =
        json!({"Cluster_UUID": "c", "Tenant": "t", "compute_uuid": "u", "compute_name": null, "made_up": 1});
    let (normal, verdict) = start.normalise(Part::Body, body);
    assert_eq!(verdict, Ok(()));
    assert_eq!(
        (&normal["cluster_uuid"], &normal["tenant"]),
        (&json!("c"), &json!("t"))
    );
    assert!(normal.get("compute_name").is_none());
    let list = operation(Dialect::V1Compute, "compute.list");
    let (normal, verdict) = list.normalise(
        Part::Query,
        json!({"filter_state": "", "page_number": "0", "page_size": "0", "tenant": ""}),
    );
    assert_eq!(verdict, Ok(()));
    assert_eq!(normal["page_num"], json!("0"));
    assert!(normal.get("filter_state").is_none());
}

#[test]
fn two_spellings_of_one_key_keep_the_documented_one() {
    let start = operation(Dialect::V1Compute, "compute.start");
    let (normal, _) = start.normalise(Part::Body, json!({"Tenant": "other", "tenant": "right"}));
    assert_eq!(normal["tenant"], json!("right"));
}

#[test]
fn zstack_wants_the_action_key() {
    let stop = operation(Dialect::Zstack, "StopVmInstance");
    assert_eq!(
        stop.validate(Part::Body, Layer::Accept, &json!({"stopVmInstance": {}})),
        Ok(())
    );
    assert_eq!(
        first(stop, Part::Body, &json!({})),
        ("stopVmInstance".to_owned(), Problem::Missing)
    );
    let login = operation(Dialect::Zstack, "LogInByAccount");
    let (normal, verdict) = login.normalise(
        Part::Body,
        json!({"logInByAccount": {"accountName": "a", "password": "made-up"}}),
    );
    assert_eq!(verdict, Ok(()));
    assert!(normal.get("loginByAccount").is_some());
}

#[test]
fn the_feed_reads_percentages_blanks_and_empty_text() {
    let report = operation(Dialect::KvmTaskFeed, "report.vm.status");
    let body = json!({"req": "vm.status", "sn": "CAS1", "body": [
        {"name ": "a", "status": "5", "cpu_idle": "93.00", "mem_usage": " 49.25% ", "disk": [], "net": []}]});
    let (normal, verdict) = report.normalise(Part::Body, body);
    assert_eq!(verdict, Ok(()));
    let entry = &normal["body"][0];
    assert_eq!((&entry["name"], &entry["status"]), (&json!("a"), &json!(5)));
    assert_eq!(
        (&entry["cpu_idle"], &entry["mem_usage"]),
        (&json!(93), &json!(49.25))
    );
    assert_eq!(
        first(report, Part::Body, &json!({"req": "vm.status", "body": []})),
        ("sn".to_owned(), Problem::Missing)
    );
}

#[test]
fn a_complaint_about_a_lenient_field_speaks_of_the_documented_form() {
    let start = operation(Dialect::V1Compute, "compute.start");
    let violation = refused(
        start,
        Part::Body,
        &json!({"cluster_uuid": "c", "tenant": {"deep": 1}}),
    )
    .remove(0);
    assert_eq!(
        (violation.pointer.as_str(), violation.problem),
        ("/tenant", Problem::WrongType)
    );
    assert_eq!(violation.expected, "string");
    let report = operation(Dialect::KvmTaskFeed, "report.vm.status");
    let body = json!({"req": "vm.status", "sn": "CAS1", "body": [{"name": "a", "cpu_idle": "a lot"}]});
    let violation = refused(report, Part::Body, &body).remove(0);
    assert_eq!(
        (violation.pointer.as_str(), violation.problem),
        ("/body/0/cpu_idle", Problem::Pattern)
    );
}

#[test]
fn an_empty_poll_is_an_empty_object() {
    let poll = operation(Dialect::KvmTaskFeed, "feed.task");
    assert_eq!(poll.normalise(Part::Body, Value::Null), (json!({}), Ok(())));
    assert!(contract(Dialect::KvmTaskFeed).lenient(LeniencyKind::EmptyBodyAsObject, Part::Body, "feed.task"));
    assert!(!contract(Dialect::KvmTaskFeed).lenient(
        LeniencyKind::EmptyBodyAsObject,
        Part::Body,
        "feed.report"
    ));
}

fn small_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-5_i64..400).prop_map(Value::from),
        Just(json!(4.0)),
        Just(json!(1.0e18)),
        "[a-z0-9 %]{0,8}".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::vec(("[a-z ]{1,6}", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Objects that have some of the documented names of an operation.
fn near(operation: &'static Operation, part: Part) -> impl Strategy<Value = Value> {
    let names: Vec<String> = operation
        .schema(part, Layer::Document)
        .get("properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default();
    let names = if names.is_empty() {
        vec!["made_up".to_owned()]
    } else {
        names
    };
    prop::collection::vec((prop::sample::select(names), small_json()), 0..6)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn any_operation() -> impl Strategy<Value = (&'static Operation, Part)> {
    let all: Vec<&'static Operation> = babelvisor_schemas::all_operations().collect();
    (
        prop::sample::select(all),
        prop::sample::select(vec![Part::Path, Part::Query, Part::Headers, Part::Body]),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn accept_is_a_superset_of_document(
        (operation, part, value) in any_operation()
            .prop_flat_map(|(operation, part)| (Just(operation), Just(part), near(operation, part)))
    ) {
        if operation.validate(part, Layer::Document, &value).is_ok() {
            let verdict = operation.validate(part, Layer::Accept, &value);
            prop_assert!(verdict.is_ok(), "{} {:?} {}: {:?}", operation.id, part, value, verdict);
        }
    }

    #[test]
    fn rewriting_twice_is_rewriting_once(
        (operation, part, value) in any_operation()
            .prop_flat_map(|(operation, part)| (Just(operation), Just(part), near(operation, part)))
    ) {
        let (once, verdict) = operation.normalise(part, value);
        let (twice, again) = operation.normalise(part, once.clone());
        prop_assert_eq!((once, verdict), (twice, again));
    }
}
