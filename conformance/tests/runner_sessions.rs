//! Sessions and jobs of the runner against a target that the test plays: callers are signed in once, what only began is
//! followed to its end, and what clients of the originals send goes out as they send it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use babelvisor_conformance::runner::{Library, Options, Outcome, Report, Site, html, junit, run, summary};
use babelvisor_schemas::Dialect;
use serde_json::json;
use support::{Fake, folder_of, library_of};

const DEFAULT: &str = r#"
desc: the owner of everything here
needs: { site: [account, account_key] }
setup:
  - request:
      method: PUT
      path: /zstack/v1/accounts/login
      body: { logInByAccount: { accountName: "${site.account}", password: "${sha512:site.account_key}" } }
    expect: { status: 200 }
    save: { session_token: "$.inventory.uuid", account_uuid: "$.inventory.accountUuid" }
headers: { Authorization: "OAuth ${session_token}" }
cleanup:
  - request: { method: DELETE, path: "/zstack/v1/accounts/sessions/${session_token}" }
    expect: { status: 200 }
"#;

const QUERY: &str = r#"
desc: zones
covers: ["QueryZone#rule-1"]
steps:
  - request: { method: GET, path: /zstack/v1/zones }
    expect: { status: 200, schema: answer }
  - request: { method: GET, path: "/zstack/v1/zones/${session.account_uuid}" }
  - as: nobody
    request: { method: GET, path: /zstack/v1/zones, query: { q: "name is null" } }
"#;

const TOKEN: &str = "00d038b699b74e76a01705918d48d939";
const ACCOUNT: &str = "36c27e8ff05c4780bf6d2fa65700f22e";
const VM: &str = "5e2f112ee1ef3467933e1006b639b023";

fn signed_in() -> (u16, String) {
    let session = json!({"uuid": TOKEN, "accountUuid": ACCOUNT, "userUuid": ACCOUNT,
                         "expiredDate": "Jan 1, 2017 11:31:06 AM", "createDate": "Jan 1, 2017 9:31:06 AM"});
    (200, json!({"inventory": session}).to_string())
}

fn zones(method: &str, path: &str) -> (u16, String) {
    match (method, path) {
        ("PUT", _) => signed_in(),
        ("DELETE", _) => (200, "{}".to_owned()),
        _ => (200, json!({"inventories": []}).to_string()),
    }
}

async fn played(dialect: Dialect, fake: &Fake, site: Site, files: &[(&str, &str)]) -> Report {
    let options = Options {
        site,
        ..Options::new(fake.url())
    };
    run(library_of(dialect, files), options, |_| {}).await.unwrap()
}

fn site() -> Site {
    Site::parse("site.yaml", "vars: { account: admin, account_key: Reef-lamp-7 }").unwrap()
}

#[tokio::test]
async fn all_scenarios_share_one_session_which_ends_with_the_run() {
    let fake = Fake::start(|method, path, _| zones(method, path)).await;
    let files = [
        ("sessions/default.yaml", DEFAULT),
        ("one.yaml", QUERY),
        ("two.yaml", QUERY),
    ];
    let report = played(Dialect::Zstack, &fake, site(), &files).await;
    assert!(report.passed(), "{}", summary(&report, false));
    let heads = fake.heads();
    let count = |text: &str| heads.iter().filter(|head| head.contains(text)).count();
    assert_eq!(count("/accounts/login"), 1);
    assert_eq!(count("DELETE /zstack/v1/accounts/sessions/"), 1);
    assert!(heads.last().unwrap().starts_with("DELETE"), "{heads:?}");
    // Two of each scenario's three steps, and the end.
    assert_eq!(count(&format!("authorization: OAuth {TOKEN}")), 5, "{heads:?}");
    assert_eq!(
        count(&format!("/zones/{ACCOUNT}")),
        2,
        "what the sign-in kept is known"
    );
    let ended = report
        .scenarios
        .iter()
        .find(|one| one.name == "sessions/default")
        .unwrap();
    assert_eq!((ended.outcome, ended.steps.len()), (Outcome::Passed, 2));
    for text in [
        report.json(),
        junit(&report),
        html(&report),
        summary(&report, true),
    ] {
        assert!(
            !text.contains(TOKEN) && !text.contains("Reef-lamp-7"),
            "a secret reached a report"
        );
    }
}

#[tokio::test]
async fn what_needs_an_account_that_the_site_lacks_is_skipped_and_says_so() {
    let fake = Fake::start(|method, path, _| zones(method, path)).await;
    let free = QUERY
        .replace("desc: zones", "desc: zones\nas: nobody")
        .replace("/${session.account_uuid}", "");
    let files = [
        ("sessions/default.yaml", DEFAULT),
        ("one.yaml", QUERY),
        ("free.yaml", &free),
    ];
    let report = played(Dialect::Zstack, &fake, Site::default(), &files).await;
    let outcome = |name: &str| {
        let one = report.scenarios.iter().find(|one| one.name == name).unwrap();
        (one.outcome, one.reason.clone())
    };
    assert_eq!(
        outcome("one"),
        (
            Outcome::Skipped,
            Some("the site does not say `account`".to_owned())
        )
    );
    assert_eq!(outcome("free"), (Outcome::Passed, None));
    assert!(!fake.seen().iter().any(|line| line.contains("login")));
}

#[tokio::test]
async fn a_sign_in_that_fails_fails_what_needs_it_and_is_told_once() {
    let refused = json!({"error": {"code": "ID.1000", "description": "x", "details": "wrong"}}).to_string();
    let fake = Fake::start(move |_, _, _| (503, refused.clone())).await;
    let files = [
        ("sessions/default.yaml", DEFAULT),
        ("one.yaml", QUERY),
        ("two.yaml", QUERY),
    ];
    let report = played(Dialect::Zstack, &fake, site(), &files).await;
    assert_eq!((report.totals.failed, report.totals.passed), (3, 0));
    let one = &report.scenarios[0];
    assert_eq!(
        one.reason.as_deref(),
        Some("sessions/default could not be signed in; see there")
    );
    assert_eq!(fake.seen().len(), 1);
    assert!(summary(&report, false).contains("expected 200, received 503"));
}

#[tokio::test]
async fn a_session_that_is_no_file_is_refused() {
    let wrong = QUERY.replace("as: nobody", "as: somebody");
    let folder = folder_of(Dialect::Zstack, &[("one.yaml", &wrong)]);
    let error = Library::read(folder.path(), Dialect::Zstack).unwrap_err();
    assert!(
        error.to_string().contains("there is no session `somebody`"),
        "{error}"
    );
    let nested = DEFAULT.replace(
        "  - request: { method: DELETE",
        "  - as: default\n    request: { method: DELETE",
    );
    let folder = folder_of(
        Dialect::Zstack,
        &[("sessions/default.yaml", &nested), ("one.yaml", QUERY)],
    );
    let error = Library::read(folder.path(), Dialect::Zstack).unwrap_err();
    assert!(error.to_string().contains("done without one"), "{error}");
}

const STOP: &str = r#"
desc: a machine stops
covers: ["StopVmInstance#rule-1"]
steps:
  - job:
      method: PUT
      path: /zstack/v1/vm-instances/5e2f112ee1ef3467933e1006b639b023/actions
      headers: { X-Job-UUID: "${fresh_hex}" }
      body: { stopVmInstance: { type: cold } }
      every: 1ms
      within: 300ms
    expect: { status: 200, schema: answer, body: { inventory: { state: Stopped } } }
"#;

fn stopped() -> String {
    json!({"inventory": {"uuid": VM, "name": "web", "state": "Stopped", "type": "UserVm"}}).to_string()
}

/// A target whose work goes on for two polls and then ends in `end`; `location` has `{host}` in it.
async fn working(location: &'static str, end: (u16, String)) -> (Fake, Arc<AtomicUsize>) {
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let host = Arc::new(std::sync::OnceLock::<String>::new());
    let known = Arc::clone(&host);
    let fake = Fake::start(move |method, _, _| {
        if method == "PUT" {
            let location = location.replace("{host}", known.get().unwrap());
            return (202, json!({"location": location}).to_string());
        }
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => (202, String::new()),
            _ => end.clone(),
        }
    })
    .await;
    host.set(fake.url()).unwrap();
    (fake, polls)
}

#[tokio::test]
async fn a_job_is_followed_to_its_end_and_judged_as_the_operation_that_began_it() {
    let (fake, polls) = working(
        "{host}/zstack/v1/api-jobs/d0345d3ddcae485f8170572b15a2b581",
        (200, stopped()),
    )
    .await;
    let report = played(Dialect::Zstack, &fake, Site::default(), &[("stop.yaml", STOP)]).await;
    assert!(report.passed(), "{}", summary(&report, false));
    assert_eq!(polls.load(Ordering::SeqCst), 3);
    assert_eq!(report.operations["StopVmInstance"].good, 1);
    assert_eq!(report.operations["GetApiJob"].good, 1);
    let first = &fake.heads()[0];
    let job = first
        .lines()
        .find_map(|line| line.strip_prefix("x-job-uuid: "))
        .unwrap();
    assert_eq!(job.len(), 32, "{first}");
}

#[tokio::test]
async fn a_job_that_ends_badly_elsewhere_or_never_fails_the_step() {
    const HERE: &str = "{host}/zstack/v1/api-jobs/d0345d3ddcae485f8170572b15a2b581";
    let failure = json!({"error": {"code": "VM.1010", "description": "x", "details": "y"}}).to_string();
    let cases = [
        (HERE, (503, failure), "expected a good answer, received a failure"),
        (HERE, (202, String::new()), "the work did not end within 300ms"),
        (
            HERE,
            (200, json!({"inventory": {"state": 4}}).to_string()),
            "answer answer: /inventory/",
        ),
        (
            HERE,
            (200, json!({"location": "x"}).to_string()),
            "and is none that says so with 202",
        ),
        (
            "http://localhost:8989/v1/api-jobs/d034",
            (200, stopped()),
            "does not lead to http://127.0.0.1:",
        ),
    ];
    for (location, end, wanted) in cases {
        let (fake, _) = working(location, end).await;
        let report = played(Dialect::Zstack, &fake, Site::default(), &[("stop.yaml", STOP)]).await;
        let text = summary(&report, false);
        assert!(
            report.totals.failed == 1 && text.contains(wanted),
            "{wanted}: {text}"
        );
    }
    let fake = Fake::start(|_, _, _| (200, stopped())).await;
    let report = played(Dialect::Zstack, &fake, Site::default(), &[("stop.yaml", STOP)]).await;
    let text = summary(&report, false);
    assert!(text.contains("no work began"), "{text}");
}

#[tokio::test]
async fn work_that_only_began_is_neither_a_good_answer_nor_a_failure() {
    let fake = Fake::start(|_, _, _| {
        (
            202,
            json!({"location": "http://x/zstack/v1/api-jobs/y"}).to_string(),
        )
    })
    .await;
    let plain = STOP
        .replace("job:", "request:")
        .replace("      every: 1ms\n      within: 300ms\n", "");
    let report = played(Dialect::Zstack, &fake, Site::default(), &[("stop.yaml", &plain)]).await;
    let text = summary(&report, false);
    assert!(
        text.contains("received word that the work began; see `job`"),
        "{text}"
    );
    assert_eq!(report.operations["StopVmInstance"].good, 0);
}

#[tokio::test]
async fn plain_text_is_right_where_the_dialect_tells_failures_so_and_nowhere_else() {
    let scenario = "desc: nobody\ncovers: [\"QueryZone#rule-1\"]\nsteps:\n  - request: { method: GET, path: /zstack/v1/zones }\n";
    for (status, text, good) in [
        (400, "missing header 'Authorization'".to_owned(), true),
        (503, "out of order".to_owned(), false),
        (
            400,
            json!({"error": {"code": "SYS.1000", "description": "x"}}).to_string(),
            false,
        ),
    ] {
        let fake = Fake::start(move |_, _, _| (status, text.clone())).await;
        let report = played(Dialect::Zstack, &fake, Site::default(), &[("one.yaml", scenario)]).await;
        assert_eq!(report.passed(), good, "{}", summary(&report, false));
    }
}

const PACKER: &str = r#"
desc: what a client of v1-compute sends goes out as it sends it
covers: ["compute.list#rule-1"]
steps:
  - request:
      method: POST
      path: /v1/authentication/login
      headers: { content-type: "" }
      body: { User: "${site.account}", Tenant: system, Password: "${md5:site.account_key}" }
    unchecked: { answer: "the target that the test plays tells the token and nothing else" }
    expect: { status: 200, schema: answer, body: { scode: 0, data: { token: { $len: { $gt: 4 } } } } }
    save: { token: "$.data.token" }
  - request:
      method: GET
      path: /v1/tenant/list
      headers: { Apikey: "${token}" }
      query: { filter_name: null, page_num: 0, tenant: null }
    expect: { status: 200, schema: error, body: { scode: 10001 } }
"#;

#[tokio::test]
async fn capital_keys_bare_names_and_bodies_without_a_type_go_out_as_they_stand() {
    let body = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = Arc::clone(&body);
    let output = |scode: i64, data: serde_json::Value| {
        let output = json!({"scode": scode, "desc": "", "message": "m", "message_cn": "c", "stack": null, "data": data});
        (200, output.to_string())
    };
    let fake = Fake::start(move |method, _, text| {
        if method == "POST" {
            text.clone_into(&mut seen.lock().unwrap());
            return output(0, json!({"token": "made-up-token"}));
        }
        output(10001, json!({}))
    })
    .await;
    let report = played(Dialect::V1Compute, &fake, site(), &[("packer.yaml", PACKER)]).await;
    assert!(report.passed(), "{}", summary(&report, false));
    let heads = fake.heads();
    assert!(!heads[0].to_lowercase().contains("content-type"), "{}", heads[0]);
    assert!(
        heads[1].starts_with("GET /v1/tenant/list?filter_name&page_num=0&tenant HTTP"),
        "{}",
        heads[1]
    );
    assert!(
        heads[1].to_lowercase().contains("apikey: made-up-token"),
        "{}",
        heads[1]
    );
    let sent: serde_json::Value = serde_json::from_str(&body.lock().unwrap()).unwrap();
    assert_eq!(sent["User"], "admin");
    assert_eq!(sent["Password"].as_str().unwrap().len(), 32);
    assert_eq!(report.operations["auth.login"].good, 1);
    assert_eq!(report.operations["tenant.list"].good, 0);
}
