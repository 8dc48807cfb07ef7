//! How strict a dialect is: the same field that would be ignored is counted, told, or refused, in every built
//! operation of both built dialects; and what is refused was not begun.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod site;

use babelvisor_schemas::{Dialect, Operation, Strictness, WARNING_HEADER};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use site::calls::{Call, good, prepare};
use site::{Answer, Site, built};

/// A name that no document has.
const STRANGER: &str = "favouriteColour";

/// The operation's good call with a stranger in its body, or in its query where it has none.
fn with_a_stranger(operation: &Operation) -> Call {
    let mut call = good(&operation.id);
    match &mut call.body {
        Some(body) => body[STRANGER] = json!("red"),
        None => add_to_the_query(&mut call),
    }
    call
}

fn add_to_the_query(call: &mut Call) {
    let separator = if call.target.contains('?') { '&' } else { '?' };
    call.target = format!("{}{separator}{STRANGER}=red", call.target);
}

/// The refusal in the dialect's own form, naming the field.
#[track_caller]
fn refused_by_name(operation: &Operation, field: &str, answer: &Answer) {
    let place = &operation.id;
    let text = match operation.dialect {
        Dialect::GuestRest => {
            assert_eq!(
                (answer.status, answer.code()),
                (412, "41203".to_owned()),
                "{place}"
            );
            &answer.body["state"]["sub"]["zh-cn"]
        }
        _ => {
            assert_eq!(
                (answer.status, answer.code()),
                (200, "1007".to_owned()),
                "{place}"
            );
            &answer.body["msg"]
        }
    };
    assert!(text.as_str().unwrap().contains(field), "{place}: {}", answer.body);
}

/// A counter's lines of this metric for an operation.
fn counted(printed: &str, operation: &Operation) -> Vec<String> {
    printed
        .lines()
        .filter(|line| line.starts_with("gateway_field_ignored_total{"))
        .filter(|line| line.contains(&format!("operation=\"{}\"", operation.id)))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn at_every_level_a_stranger_is_counted_under_a_name_of_ours() {
    for level in [Strictness::Observe, Strictness::Warn, Strictness::Enforce] {
        for operation in built() {
            let site = Site::with(level).await;
            prepare(&site, &operation.id).await;
            let recorder = PrometheusBuilder::new().build_recorder();
            let printed = recorder.handle();
            let guard = metrics::set_default_local_recorder(&recorder);
            site.call(operation.dialect, &with_a_stranger(operation)).await;
            drop(guard);
            let lines = counted(&printed.render(), operation);
            let line = lines
                .iter()
                .find(|line| line.contains("field=\"undocumented\""))
                .unwrap_or_else(|| panic!("{level:?} {}: {lines:?}", operation.id));
            assert!(
                line.contains(&format!("dialect=\"{}\"", operation.dialect)),
                "{line}"
            );
            assert!(
                line.contains("disposition=\"ignored\"") && line.ends_with(" 1"),
                "{line}"
            );
            assert!(
                !lines.iter().any(|line| line.contains(STRANGER)),
                "a client's word is no label: {lines:?}"
            );
            site.settled().await;
        }
    }
}

#[tokio::test]
async fn observing_says_nothing_to_the_client() {
    for operation in built() {
        let site = Site::with(Strictness::Observe).await;
        prepare(&site, &operation.id).await;
        let answer = site.call(operation.dialect, &with_a_stranger(operation)).await;
        assert!(answer.is_good(), "{}: {}", operation.id, answer.body);
        assert_eq!(answer.header(WARNING_HEADER), None, "{}", operation.id);
    }
}

#[tokio::test]
async fn warning_names_the_field_and_does_the_work() {
    for operation in built() {
        let site = Site::with(Strictness::Warn).await;
        prepare(&site, &operation.id).await;
        let answer = site.call(operation.dialect, &with_a_stranger(operation)).await;
        assert!(answer.is_good(), "{}: {}", operation.id, answer.body);
        let warning = answer.header(WARNING_HEADER).unwrap_or_default();
        let expected = format!("{STRANGER} is ignored: it is not in the document");
        assert!(warning.contains(&expected), "{}: {warning}", operation.id);
    }
}

#[tokio::test]
async fn enforcing_refuses_the_field_by_its_name_before_anything_is_done() {
    let site = Site::with(Strictness::Enforce).await;
    prepare(&site, "pve.getToken").await;
    for operation in built() {
        let answer = site.call(operation.dialect, &with_a_stranger(operation)).await;
        refused_by_name(operation, STRANGER, &answer);
        // In the query as well, also where the operation has a body.
        let mut call = good(&operation.id);
        add_to_the_query(&mut call);
        refused_by_name(operation, STRANGER, &site.call(operation.dialect, &call).await);
    }
    assert!(site.jobs(false).await.is_empty(), "a refused call left a job");
    assert_eq!(
        site.core.now().vms.len(),
        site::MACHINES.len(),
        "a refused call left a machine"
    );
    assert!(site.control.call_log().iter().all(|call| {
        use babelvisor_memory::Method;
        matches!(
            call.method,
            Method::List | Method::Get | Method::Topology | Method::Console | Method::ConsolePassword
        )
    }));
}

#[tokio::test]
async fn enforcing_lets_through_what_is_emulated_or_recorded_and_still_says_so() {
    for operation in built() {
        let site = Site::with(Strictness::Enforce).await;
        prepare(&site, &operation.id).await;
        let answer = site.call(operation.dialect, &good(&operation.id)).await;
        assert!(answer.is_good(), "{}: {}", operation.id, answer.body);
        let warning = answer.header(WARNING_HEADER).unwrap_or_default();
        let expected: &[&str] = match operation.id.as_str() {
            "guest.create" => &["password is emulated: ", "lease_term is recorded: "],
            "pve.createRent" => &["periodNumber is emulated: ", "periodType is emulated: "],
            _ => &[],
        };
        assert!(
            expected.iter().all(|sentence| warning.contains(sentence)),
            "{}: {warning}",
            operation.id
        );
        assert_eq!(warning.is_empty(), expected.is_empty(), "{warning}");
    }
}

#[tokio::test]
async fn a_documented_field_that_is_ignored_is_treated_like_a_stranger() {
    let operation = built().find(|operation| operation.id == "pve.getToken").unwrap();
    let mut first_edition = good("pve.getToken");
    first_edition.body.as_mut().unwrap()["nonce"] = json!("1");
    let at = async |level| {
        let site = Site::with(level).await;
        prepare(&site, &operation.id).await;
        site.call(operation.dialect, &first_edition).await
    };
    let observed = at(Strictness::Observe).await;
    assert!(observed.is_good() && observed.header(WARNING_HEADER).is_none());
    let warned = at(Strictness::Warn).await;
    assert!(
        warned
            .header(WARNING_HEADER)
            .unwrap()
            .starts_with("nonce is ignored: ")
    );
    refused_by_name(operation, "nonce", &at(Strictness::Enforce).await);
}

#[test]
fn the_level_is_a_key_of_each_dialects_section() {
    let guest =
        |text: &str| serde_json::from_value::<babelvisor_guest_rest::Settings>(json!({"strictness": text}));
    let pve =
        |text: &str| serde_json::from_value::<babelvisor_pve_open::Settings>(json!({"strictness": text}));
    for (text, level) in [
        ("observe", Strictness::Observe),
        ("warn", Strictness::Warn),
        ("enforce", Strictness::Enforce),
    ] {
        assert_eq!(guest(text).unwrap().strictness, level);
        assert_eq!(pve(text).unwrap().strictness, level);
    }
    assert!(guest("strict").is_err() && pve("strict").is_err());
    let unset = serde_json::from_value::<babelvisor_guest_rest::Settings>(Value::Object(Default::default()));
    assert_eq!(unset.unwrap().strictness, Strictness::Warn);
    assert_eq!(
        babelvisor_pve_open::Settings::default().strictness,
        Strictness::Warn
    );
}
