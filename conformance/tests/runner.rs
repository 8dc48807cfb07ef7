//! The runner against a target that the test plays: what does not hold is found, named and reported without secrets,
//! and what was made is removed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use babelvisor_conformance::runner::{
    DifferenceKind, Library, Options, Outcome, Report, RunError, ScenarioReport, Site, Target, html, junit,
    run, summary,
};
use babelvisor_schemas::Dialect;
use serde_json::{Value, json};
use support::{Fake, folder, played, read_wrong};

/// A good answer of the dialect with these members beside `state`.
fn good(more: Value) -> (u16, String) {
    let mut body = json!({"state": {"code": "200", "en-us": "OK", "zh-cn": "成功"}});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    (200, body.to_string())
}

fn guest() -> Value {
    json!({"id": 1, "uuid": "01ee4d15-7165-4859-b8d4-d2c3c0ea22c3", "name": "web", "password": "Reef-lamp-7",
           "remark": "", "os_template_id": 1, "create_time": 1, "status": 1, "on_host": "h", "cpu": 1, "memory": 1,
           "ip": "", "network": "n", "manage_network": "m", "vnc_port": 0, "vnc_password": "abcd1234", "xml": "<x/>"})
}

fn only(report: &Report) -> &ScenarioReport {
    assert_eq!(report.scenarios.len(), 1);
    &report.scenarios[0]
}

/// Everything that did not hold, in words.
fn complaints(report: &Report) -> String {
    summary(report, false)
}

const GET: &str = "
desc: one guest
covers: [\"guest.get#rule-1\"]
steps:
  - request: { method: GET, path: /api/guest/01ee4d15-7165-4859-b8d4-d2c3c0ea22c3 }
    expect: { status: 200, body: { data: { name: web, cpu: 1, extra: { $absent: true }, gone: here } } }
";

#[tokio::test]
async fn a_good_answer_passes_and_each_kind_of_difference_is_named() {
    let fake = Fake::start(|_, _, _| {
        let mut guest = guest();
        guest["cpu"] = json!("1");
        guest["name"] = json!("other");
        guest["extra"] = json!(1);
        good(json!({"data": guest}))
    })
    .await;
    let report = played(&fake, &[("get.yaml", GET)]).await;
    let step = &only(&report).steps[0];
    let found: Vec<_> = step
        .differences
        .iter()
        .map(|one| (one.path.as_str(), one.kind))
        .collect();
    assert_eq!(
        found,
        [
            ("$.data.name", DifferenceKind::OtherValue),
            ("$.data.cpu", DifferenceKind::OtherType),
            ("$.data.extra", DifferenceKind::Extra),
            ("$.data.gone", DifferenceKind::Missing),
        ]
    );
    assert_eq!(step.operation.as_deref(), Some("guest.get"));
    assert!(
        step.problems.iter().any(|one| one.contains("/data/cpu")),
        "the contract sees it, too: {step:?}"
    );
    assert_eq!(report.totals.failed, 1);
    assert!(!report.passed());

    let fake = Fake::start(|_, _, _| {
        let mut guest = guest();
        guest["gone"] = json!("here");
        good(json!({"data": guest}))
    })
    .await;
    let report = played(&fake, &[("get.yaml", GET)]).await;
    assert!(report.passed(), "{}", complaints(&report));
    assert_eq!(report.operations["guest.get"].good, 1);
}

#[tokio::test]
async fn answers_that_the_document_does_not_have_fail_without_any_expectation() {
    let scenario = GET.split("    expect").next().unwrap();
    let cases: [(u16, String, &str); 5] = [
        (200, "<html/>".to_owned(), "not JSON"),
        (200, good(json!({"data": {"id": 1}})).1, "/data/uuid is missing"),
        (200, json!({"state": {"code": "404", "en-us": "x", "zh-cn": "y"}}).to_string(), "differs from state.code"),
        (418, json!({"state": {"code": "418", "en-us": "x", "zh-cn": "y"}}).to_string(), "no code 418"),
        (500, json!({"state": {"code": "500", "en-us": "x", "zh-cn": "y", "sub": {"code": "50050", "zh-cn": "z"}}}).to_string(),
         "50050 must not be sent"),
    ];
    for (status, body, wanted) in cases {
        let fake = Fake::start(move |_, _, _| (status, body.clone())).await;
        let report = played(&fake, &[("get.yaml", scenario)]).await;
        assert!(
            complaints(&report).contains(wanted),
            "{wanted}: {}",
            complaints(&report)
        );
    }
}

#[tokio::test]
async fn what_was_made_is_removed_also_when_a_step_fails() {
    let scenario = "
desc: made and removed
covers: [\"guest.get#rule-1\"]
setup:
  - request: { method: POST, path: /api/guest, body: { cpu: 1, memory: 1, os_template_id: 1, quantity: 1, lease_term: 1 } }
    save: { made: \"$.data[0].uuid\" }
steps:
  - request: { method: GET, path: \"/api/guest/${made}\" }
    expect: { status: 201 }
  - request: { method: GET, path: /api/guests }
cleanup:
  - request: { method: DELETE, path: \"/api/guests/${never_made}\" }
  - request: { method: DELETE, path: \"/api/guests/${made}\" }
";
    let fake = Fake::start(|method, _, _| match method {
        "POST" => good(json!({"data": [guest()]})),
        "GET" => good(json!({"data": guest()})),
        _ => good(json!({})),
    })
    .await;
    let report = played(&fake, &[("made.yaml", scenario)]).await;
    assert_eq!(only(&report).outcome, Outcome::Failed);
    let seen = fake.seen();
    assert_eq!(
        seen,
        [
            "POST /api/guest",
            "GET /api/guest/01ee4d15-7165-4859-b8d4-d2c3c0ea22c3",
            "DELETE /api/guests/01ee4d15-7165-4859-b8d4-d2c3c0ea22c3",
        ],
        "the step after the failed one is not run; what was never made is not removed"
    );
}

#[tokio::test]
async fn what_cannot_be_removed_fails_the_scenario() {
    let scenario = format!(
        "{}cleanup:\n  - request: {{ method: DELETE, path: /api/guests/01ee4d15-7165-4859-b8d4-d2c3c0ea22c3 }}\n    \
         expect: {{ status: 200 }}\n",
        GET.split("    expect").next().unwrap()
    );
    let fake = Fake::start(|method, _, _| match method {
        "DELETE" => {
            let refused = json!({"state": {"code": "503", "en-us": "x", "zh-cn": "y"}});
            (503, refused.to_string())
        }
        _ => good(json!({"data": guest()})),
    })
    .await;
    let report = played(&fake, &[("kept.yaml", &scenario)]).await;
    assert_eq!(only(&report).outcome, Outcome::Failed);
    let text = complaints(&report);
    assert!(
        text.contains("(cleanup): DELETE") && text.contains("expected 200, received 503"),
        "{text}"
    );
}

#[tokio::test]
async fn a_request_is_what_its_step_says_of_it() {
    let fake = Fake::start(|_, _, _| good(json!({"data": guest()}))).await;
    let lie = GET.replace("    expect", "    broken: true\n    expect");
    let report = played(&fake, &[("lie.yaml", &lie)]).await;
    let text = complaints(&report);
    assert!(
        text.contains("the step says `broken`, but the contract takes the request"),
        "{text}"
    );

    let silent = "
desc: a request that the contract does not take
covers: [\"guest.create#rule-1\"]
steps:
  - request: { method: POST, path: /api/guest, body: { cpu: \"1\" } }
";
    let report = played(&fake, &[("silent.yaml", silent)]).await;
    let text = complaints(&report);
    assert!(
        text.contains("request body: /cpu") && text.contains("/memory is missing"),
        "{text}"
    );
}

#[tokio::test]
async fn a_poll_ends_at_its_deadline_and_says_what_was_missing() {
    let scenario = "
desc: it never runs
covers: [\"guest.get#rule-1\"]
steps:
  - poll:
      request: { method: GET, path: /api/guest/01ee4d15-7165-4859-b8d4-d2c3c0ea22c3 }
      until: { body: { data: { status: 5 } } }
      within: 300ms
      every: 20ms
";
    let fake = Fake::start(|_, _, _| good(json!({"data": guest()}))).await;
    let report = played(&fake, &[("poll.yaml", scenario)]).await;
    let text = complaints(&report);
    assert!(
        text.contains("within 300ms") && text.contains("$.data.status: other value: expected 5, received 1"),
        "{text}"
    );
    assert!(fake.seen().len() > 2);

    // `while` ends as soon as the condition does not hold any more.
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let fake = Fake::start(move |_, _, _| {
        let mut guest = guest();
        guest["status"] = json!(if counter.fetch_add(1, Ordering::SeqCst) < 3 {
            0
        } else {
            1
        });
        good(json!({"data": guest}))
    })
    .await;
    let scenario = scenario.replace(
        "until: { body: { data: { status: 5 } } }",
        "while: { body: { data: { status: 0 } } }",
    );
    let report = played(&fake, &[("poll.yaml", &scenario)]).await;
    assert!(report.passed(), "{}", complaints(&report));
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn bytes_go_out_as_they_are_and_their_answer_is_judged() {
    let scenario = "
desc: bytes
covers: [\"guest.get#rule-1\"]
steps:
  - raw: { bytes: \"GET /api/guest/x HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n\" }
    expect: { status: 200, body: { data: { name: web } } }
";
    let fake = Fake::start(|_, _, _| good(json!({"data": guest()}))).await;
    let report = played(&fake, &[("raw.yaml", scenario)]).await;
    assert!(report.passed(), "{}", complaints(&report));
    assert_eq!(fake.seen(), ["GET /api/guest/x"]);
    let report = played(&fake, &[("raw.yaml", &scenario.replace("200", "201"))]).await;
    let text = complaints(&report);
    assert!(
        text.contains("status: other value: expected 201, received 200"),
        "{text}"
    );
}

#[tokio::test]
async fn a_documented_example_is_compared_by_shape() {
    let scenario = "
desc: as printed
covers: []
steps:
  - example: { operation: guest.get, same: [\"$.state\"] }
";
    let mut printed = guest();
    let fake = Fake::start({
        let printed = printed.clone();
        move |_, _, _| good(json!({"data": printed}))
    })
    .await;
    let report = played(&fake, &[("example.yaml", scenario)]).await;
    assert!(report.passed(), "{}", complaints(&report));
    assert_eq!(only(&report).covers, ["guest.get#example-0"]);

    let members = printed.as_object_mut().unwrap();
    members.remove("remark");
    members.insert("colour".to_owned(), json!("blue"));
    members.insert("ip".to_owned(), json!(null));
    let fake = Fake::start(move |_, _, _| good(json!({"data": printed}))).await;
    let report = played(&fake, &[("example.yaml", scenario)]).await;
    let mut kinds: Vec<_> = only(&report).steps[0]
        .differences
        .iter()
        .map(|one| (one.path.as_str(), one.kind.word()))
        .collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            ("$.data.colour", "extra"),
            ("$.data.ip", "other type"),
            ("$.data.remark", "missing")
        ]
    );
}

#[tokio::test]
async fn no_report_shows_a_secret_and_all_are_escaped() {
    let scenario = "
desc: \"<b>bold & brave</b>\"
covers: [\"guest.create#rule-1\"]
vars: { password: Hidden-anemone-3 }
steps:
  - request: { method: POST, path: \"/api/guest?hint=${password}\", body: { cpu: 1, memory: 1, os_template_id: 1, quantity: 1, lease_term: 1, password: \"${password}\" } }
    expect: { body: { data: [{ name: Hidden-anemone-3, password: other, remark: x }] } }
";
    let fake = Fake::start(|_, _, _| {
        let mut guest = guest();
        guest["remark"] = json!("</pre><script>alert(1)</script>\u{1}");
        guest["xml"] = json!("<graphics passwd='abcd1234'/>");
        good(json!({"data": [guest]}))
    })
    .await;
    let report = played(&fake, &[("secret.yaml", scenario)]).await;
    assert_eq!(report.totals.failed, 1);
    let page = html(&report);
    for text in [
        report.json(),
        junit(&report),
        page.clone(),
        summary(&report, false),
        summary(&report, true),
    ] {
        for secret in ["Hidden-anemone-3", "Reef-lamp-7", "abcd1234"] {
            // The scenario's own file is not secret; its values must still not be copied around.
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(!page.contains("<script") && !page.contains("<b>bold"), "{page}");
    assert!(page.contains("&lt;script&gt;") && page.contains("&lt;b&gt;bold &amp; brave"));
    assert!(
        !page.contains("http-equiv=\"refresh\"") && !page.contains("src="),
        "one page, nothing from elsewhere"
    );
    let xml = junit(&report);
    assert!(!xml.contains('\u{1}') && !xml.contains("<b>"), "{xml}");
}

#[tokio::test]
async fn a_scenario_is_skipped_for_a_reason() {
    let fake = Fake::start(|_, _, _| good(json!({"data": guest()}))).await;
    let needs = GET.replace("steps:", "needs: { power: [suspend] }\nsteps:");
    let narrowed = GET.replace(
        "steps:",
        "targets: [original]\ndivergence: the gateway sends more\nsteps:",
    );
    let place = GET.replace("steps:", "needs: { site: [far_away] }\nsteps:");
    let files = [
        ("a.yaml", needs.as_str()),
        ("b.yaml", narrowed.as_str()),
        ("c.yaml", place.as_str()),
    ];
    let directory = folder(&files);
    let library = Library::read(directory.path(), Dialect::GuestRest).unwrap();
    let mut options = Options::new(fake.url());
    options.site.only(["power.start".to_owned()]).unwrap();
    let report = run(library, options, |_| {}).await.unwrap();
    let reasons: Vec<_> = report
        .scenarios
        .iter()
        .map(|one| one.reason.clone().unwrap())
        .collect();
    assert_eq!(reasons[0], "the target lacks power.suspend");
    assert!(reasons[1].contains("the gateway sends more"));
    assert_eq!(reasons[2], "the site does not say `far_away`");
    assert!(fake.seen().is_empty() && report.passed());

    // Against the original, the narrowed one is run.
    let library = Library::read(directory.path(), Dialect::GuestRest).unwrap();
    let options = Options {
        kind: Target::Original,
        site: Site::default(),
        ..Options::new(fake.url())
    };
    let report = run(library, options, |_| {}).await.unwrap();
    assert_eq!(report.scenarios[1].outcome, Outcome::Failed);
}

#[tokio::test]
async fn exclusive_scenarios_run_alone_and_the_others_beside_each_other() {
    let (now, most, with_alone) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let fake = Fake::start_slow(Duration::from_millis(150), {
        let (now, most, with_alone) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&with_alone));
        move |path, begins| {
            if begins {
                let at_once = now.fetch_add(1, Ordering::SeqCst) + 1;
                let which = if path.contains("limit=7") {
                    &with_alone
                } else {
                    &most
                };
                which.fetch_max(at_once, Ordering::SeqCst);
            } else {
                now.fetch_sub(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let beside = "
desc: beside others
covers: [\"guest.list#rule-1\"]
steps:
  - request: { method: GET, path: \"/api/guests?limit=1\" }
    unchecked: { answer: the target of this test answers nothing }
";
    let alone = beside
        .replace("limit=1", "limit=7")
        .replace("steps:", "exclusive: true\nsteps:");
    let files = [
        ("a.yaml", beside),
        ("b.yaml", alone.as_str()),
        ("c.yaml", beside),
        ("d.yaml", alone.as_str()),
        ("e.yaml", beside),
    ];
    let report = played(&fake, &files).await;
    assert!(report.passed(), "{}", complaints(&report));
    assert_eq!(with_alone.load(Ordering::SeqCst), 1);
    assert!(most.load(Ordering::SeqCst) > 1, "nothing ran in parallel");
    let names: Vec<_> = report.scenarios.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_target_that_is_none_is_no_report() {
    let library = || Library::read(folder(&[("get.yaml", GET)]).path(), Dialect::GuestRest).unwrap();
    for target in ["http://127.0.0.1:1", "ftp://127.0.0.1", "127.0.0.1:80"] {
        let error = run(library(), Options::new(target), |_| {}).await.unwrap_err();
        assert!(matches!(error, RunError::Target(_)), "{target}: {error}");
    }
    let options = Options {
        filters: vec!["nothing like it".to_owned()],
        ..Options::new("http://127.0.0.1:1")
    };
    assert!(matches!(
        run(library(), options, |_| {}).await.unwrap_err(),
        RunError::Nothing(_)
    ));
}

#[test]
fn a_file_that_says_what_the_format_does_not_have_is_refused_with_file_and_line() {
    let cases = [
        (GET.replace("covers:", "cover:"), "wrong.yaml:3"),
        (GET.replace("    expect:", "    expects:"), "wrong.yaml:6"),
        (GET.replace("method: GET", "methods: GET"), "wrong.yaml:5"),
        (
            GET.replace("$absent: true", "$nothing: true"),
            "wrong.yaml:5: `$nothing` is no predicate",
        ),
        (
            GET.replace("steps:", "targets: [original]\nsteps:"),
            "needs the reason in `divergence`",
        ),
        (
            GET.replace("steps:", "divergence: why\nsteps:"),
            "narrowed `targets` only",
        ),
        (
            GET.replace("steps:", "needs: { power: [fly] }\nsteps:"),
            "`power.fly` is no capability",
        ),
        (
            GET.replace("steps:", "fixtures: [nobody]\nsteps:"),
            "no fixture `nobody`",
        ),
        (GET.replace("desc: one guest", "desc: \"\""), "`desc` is empty"),
        (
            GET.replace("covers: [\"guest.get#rule-1\"]", "covers: []"),
            "`covers` names no",
        ),
        (
            GET.replace("  - request: {", "  - raw: { bytes: x }\n    request: {"),
            "a step has one of",
        ),
        (
            GET.replace("    expect", "    save: { a: data }\n    expect"),
            "is no JSON path",
        ),
        (
            GET.replace("    expect", "    unchecked: { answer: \"\" }\n    expect"),
            "needs the reason",
        ),
        (
            GET.replace("    expect", "    for_each: { a: [1], b: [2] }\n    expect"),
            "names one variable",
        ),
        (format!("{GET}{}", "desc: again\n"), "wrong.yaml:"),
    ];
    for (text, wanted) in cases {
        let error = read_wrong(&[("wrong.yaml", &text)]);
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    let poll = GET
        .replace("  - request: {", "  - poll: { within: 5, request: {")
        .replace("c3 }\n", "c3 } }\n");
    assert!(read_wrong(&[("wrong.yaml", &poll)]).contains("wrong.yaml:5"));
}
