//! The conformance suite against the real binary on the memory backend, with every kind of site that a scenario needs:
//! all scenarios of the built dialects pass somewhere, and none fails anywhere.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use babelvisor_conformance::runner::{self, Library, Options, Outcome, Report, Site, html, junit, summary};
use babelvisor_conformance::testbed::Gateway;
use babelvisor_schemas::{Dialect, contract};
use common::ledger::{self, Cell, file_name, turned_grey};
use common::setup::{Setup, Which};
use common::{binary, gateway};
use serde_json::{Value, json};

/// The environment variable that names a directory for the reports.
const REPORTS: &str = "BABELVISOR_CONFORMANCE_REPORTS";

const BUILT: [Dialect; 2] = [Dialect::GuestRest, Dialect::PveOpen];

/// Image, package and what a site adds to them.
const CATALOGUE: &str = r#"
[jobs]
lease_ms = 1000

[[image]]
name = "tiny"
number = 1
backend = "one"
native = "default/tiny.qcow2"
format = "qcow2"
os = "Debian"
family = "BZ"

[[flavor]]
name = "small"
id = "asmallflav"
vcpus = 1
memory_mib = 1024
family = "BZ"
billing = "both"
"#;

/// A gateway on the memory backend; `backend` is what its section adds, `more` whole sections.
fn site(backend: &str, more: &str) -> Gateway {
    let config = format!(
        "[[backend]]\nid = \"one\"\nkind = \"memory\"\nstate_file = \"{{state}}/hypervisor.json\"\nimages = [{{ name = \"tiny.qcow2\", size = 67108864 }}]\n{backend}\n{CATALOGUE}\n{more}"
    );
    gateway().config(&config).start().unwrap()
}

/// Runs what fits `filter` against a gateway that is described by `facts`.
async fn run(label: &str, gateway: &Gateway, dialect: Dialect, filter: &[&str], facts: Value) -> Report {
    let mut site = Site::default();
    site.vars.extend(facts.as_object().unwrap().clone());
    let options = Options {
        site,
        filters: filter.iter().map(|&text| text.to_owned()).collect(),
        label: label.to_owned(),
        ..Options::new(format!("http://{}", gateway.address()))
    };
    let report = runner::run(Library::built_in(dialect).unwrap(), options, |_| {})
        .await
        .unwrap();
    keep(&report);
    assert!(report.passed(), "{}\n{}", summary(&report, false), gateway.log());
    report
}

/// Writes the report where the environment names a directory.
fn keep(report: &Report) {
    let Some(directory) = std::env::var_os(REPORTS) else {
        return;
    };
    let name = file_name(report);
    let directory = PathBuf::from(directory);
    std::fs::create_dir_all(&directory).unwrap();
    for (kind, text) in [
        ("json", report.json()),
        ("xml", junit(report)),
        ("html", html(report)),
    ] {
        std::fs::write(directory.join(format!("{name}.{kind}")), text).unwrap();
    }
}

async fn default_site() -> Vec<Report> {
    let gateway = site(
        "",
        r#"
[lease_terms]
enforce = true
every_seconds = 1
keep_seconds = 2

[[image]]
name = "other"
number = 2
backend = "one"
native = "default/tiny.qcow2"
format = "qcow2"
os = "Debian"
family = "XX"

[[flavor]]
name = "whale"
id = "zwhaleflav"
vcpus = 1
memory_mib = 67108864
family = "BZ"
billing = "both"

[pve-open]
authentication = "off"
"#,
    );
    let facts = json!({"names_replaced": true, "leases_enforced": true, "pages_required": true, "four_gib_free": true,
                       "other_family_image": "2", "huge_package": "zwhaleflav"});
    let mut all = Vec::new();
    for dialect in BUILT {
        all.push(run("memory", &gateway, dialect, &[], facts.clone()).await);
    }
    all
}

async fn slow_site() -> Vec<Report> {
    let gateway = site(
        r#"delays = { "power.start" = 3000, "power.shutdown" = 3000, "vm.create" = 3000 }"#,
        "[pve-open]\nauthentication = \"off\"\n",
    );
    vec![
        run(
            "memory, slow",
            &gateway,
            Dialect::PveOpen,
            &["slow/"],
            json!({"slow": true}),
        )
        .await,
    ]
}

async fn faulty_site() -> Vec<Report> {
    let gateway = site(
        r#"faults = [{ on = "define", kind = "no_resources" }]"#,
        "[pve-open]\nauthentication = \"off\"\n",
    );
    vec![
        run(
            "memory, failing",
            &gateway,
            Dialect::PveOpen,
            &["faulty/"],
            json!({"creation_fails": true}),
        )
        .await,
    ]
}

async fn half_down_site() -> Vec<Report> {
    let gateway = site(
        "",
        r#"
[[backend]]
id = "two"
kind = "libvirt"
uri = "qemu+unix:///system?socket={state}/nobody-listens-here"

[[image]]
name = "far"
number = 7
backend = "two"
native = "default/far.qcow2"
format = "qcow2"
os = "Debian"

[pve-open]
authentication = "off"
"#,
    );
    let facts = json!({"image_out_of_reach": "7", "template_out_of_reach": 7});
    vec![
        run(
            "memory, half down",
            &gateway,
            Dialect::PveOpen,
            &["create-waits"],
            facts.clone(),
        )
        .await,
        run(
            "memory, half down",
            &gateway,
            Dialect::GuestRest,
            &["create-out-of-reach"],
            facts,
        )
        .await,
    ]
}

async fn guarded_site() -> Vec<Report> {
    let mut gateway = site(
        "",
        r#"
[guest-rest]
credential = { header = "x-gateway-key", sha256 = "81fa61727c3efc0b2f26cd59385ae036f4d9e2aa00b9a240f8e490c4a6471db7" }
name_conflict = "refuse"

[pve-open]
require_verified_identity = true
"#,
    );
    // The embedded store is one process's at a time.
    gateway.kill9();
    for (name, tenant, more) in [
        ("A10000001", "office", &[][..]),
        ("A10000002", "office", &["--role", "viewer"][..]),
        ("A10000003", "elsewhere", &[][..]),
        ("A10000004", "office", &["--unverified"][..]),
    ] {
        let key = gateway.state_dir().join(format!("{name}.key"));
        std::fs::write(&key, format!("made-up-key-of-{name}\n")).unwrap();
        let done = Command::new(binary())
            .args(["account", "add", name, "--tenant", tenant, "--secret-file"])
            .arg(&key)
            .arg("--state-dir")
            .arg(gateway.state_dir())
            .args(more)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    gateway.restart().unwrap();
    let key = |name: &str| format!("made-up-key-of-{name}");
    let facts = json!({"account": "A10000001", "account_key": key("A10000001"),
                       "viewer": "A10000002", "viewer_key": key("A10000002"),
                       "stranger": "A10000003", "stranger_key": key("A10000003"),
                       "unverified": "A10000004", "unverified_key": key("A10000004"),
                       "credential_header": "x-gateway-key", "credential": "Kelp-forest-4", "names_refused": true});
    let accounts = run(
        "memory, guarded",
        &gateway,
        Dialect::PveOpen,
        &["accounts/"],
        facts.clone(),
    )
    .await;
    let report = run(
        "memory, guarded",
        &gateway,
        Dialect::GuestRest,
        &["guarded/"],
        facts,
    )
    .await;
    for text in [
        report.json(),
        junit(&report),
        html(&report),
        summary(&report, true),
    ] {
        assert!(!text.contains("Kelp-forest-4"), "a secret reached a report");
    }
    vec![accounts, report]
}

async fn looking_only_site() -> Vec<Report> {
    let gateway = site("vms = 3", "[guest-rest]\nrole = \"viewer\"\n");
    vec![
        run(
            "memory, looking only",
            &gateway,
            Dialect::GuestRest,
            &["guarded/"],
            json!({"callers_only_look": true}),
        )
        .await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_passes_somewhere_and_none_fails_anywhere() {
    let sites = tokio::join!(
        default_site(),
        slow_site(),
        faulty_site(),
        half_down_site(),
        guarded_site(),
        looking_only_site()
    );
    let (a, b, c, d, e, f) = sites;
    let reports: Vec<Report> = [a, b, c, d, e, f].into_iter().flatten().collect();
    for dialect in BUILT {
        let of = || reports.iter().filter(|report| report.dialect == dialect.name());
        let passed: BTreeSet<&str> = of()
            .flat_map(|report| &report.scenarios)
            .filter(|one| one.outcome == Outcome::Passed)
            .map(|one| one.name.as_str())
            .collect();
        let library = Library::built_in(dialect).unwrap();
        let never: Vec<_> = library
            .names()
            .map(|(name, _)| name)
            .filter(|name| !passed.contains(name))
            .collect();
        assert!(never.is_empty(), "{dialect}: skipped on every site: {never:?}");
        for operation in contract(dialect)
            .operations()
            .iter()
            .filter(|operation| operation.built)
        {
            let lines = of().filter_map(|report| report.operations.get(&operation.id));
            let (calls, good) = lines.fold((0, 0), |sum, line| (sum.0 + line.calls, sum.1 + line.good));
            assert!(good > 0, "{} has done nothing well", operation.id);
            assert!(calls > good, "{} has refused nothing", operation.id);
        }
    }
    ledger::settle(&Setup::Memory, &reports);
}

#[test]
fn an_operation_that_turns_grey_is_named_and_what_was_not_run_is_left_alone() {
    let seen = |setup: &str, run: &str| json!({"libvirt": [{"setup": setup, "run": run}]});
    let tracked = json!({"guest-rest": {
        "good": seen("qemu-tcg", "conformance"),
        "grey": seen("qemu-tcg", "conformance"),
        "another test's": seen("qemu-tcg", "life"),
        "elsewhere": seen("test+unix", "conformance"),
    }});
    let pair = |id: &str| ("guest-rest".to_owned(), id.to_owned());
    let verified = BTreeSet::from([pair("good"), pair("new")]);
    let grey = |run, setup| turned_grey(&tracked, run, setup, &verified);
    assert_eq!(grey("conformance", ("libvirt", "qemu-tcg")), ["guest-rest grey"]);
    assert_eq!(
        grey("life", ("libvirt", "qemu-tcg")),
        ["guest-rest another test's"]
    );
    assert!(grey("conformance", ("memory", "state-file")).is_empty());

    let cell = |good, failed| Cell {
        good,
        failed,
        report: None,
    };
    assert!(cell(1, false).verified());
    assert!(!cell(0, false).verified(), "called, and never answered well");
    assert!(
        !cell(1, true).verified(),
        "answered well in a scenario that failed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_ends_with_0_1_or_2_and_writes_its_reports() {
    let gateway = site("", "[pve-open]\nauthentication = \"off\"\n");
    let reports = tempfile::tempdir().unwrap();
    let command = |arguments: &[&str]| {
        let out = Command::new(binary())
            .args(["conformance", "run"])
            .args(arguments)
            .output()
            .unwrap();
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr),
        )
    };
    let target = format!("http://{}", gateway.address());
    let admin = format!("http://{}", gateway.admin());
    let directory = reports.path().to_string_lossy().into_owned();
    let good = [
        "--target",
        &target,
        "--dialect",
        "guest-rest",
        "--filter",
        "get",
        "--admin",
        &admin,
        "--report-dir",
        &directory,
    ];
    let (code, text) = command(&good);
    assert_eq!(code, Some(0), "{text}");
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(reports.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["totals"]["failed"], 0);
    assert!(
        report["operations"]["guest.get"]["passed"]
            .as_array()
            .unwrap()
            .contains(&json!("get"))
    );
    assert!(
        std::fs::read_to_string(reports.path().join("junit.xml"))
            .unwrap()
            .contains("<testcase")
    );
    let page = std::fs::read_to_string(reports.path().join("report.html")).unwrap();
    assert!(page.contains("guest-rest") && !page.contains("<script"));

    // Without the capability the scenario is skipped, and says why.
    let (code, text) = command(&[
        "--target",
        &target,
        "--dialect",
        "guest-rest",
        "--filter",
        "get",
        "--capabilities",
        "vm.list,power.start",
    ]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("skipped get: the target lacks vm.create"), "{text}");

    // A gateway that asks for what the scenario does not send fails it.
    let closed = site("", "[pve-open]\nauthentication = \"on\"\n");
    let closed_target = format!("http://{}", closed.address());
    let (code, text) = command(&[
        "--target",
        &closed_target,
        "--dialect",
        "pve-open",
        "--filter",
        "catalogue",
    ]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("$.code: other value: expected 0, received 401"),
        "{text}"
    );

    for nothing in [
        &["--target", "http://127.0.0.1:1", "--dialect", "guest-rest"][..],
        &[
            "--target",
            &target,
            "--dialect",
            "guest-rest",
            "--filter",
            "no such scenario",
        ][..],
        &["--target", &target, "--dialect", "esperanto"][..],
        &[
            "--target",
            &target,
            "--dialect",
            "guest-rest",
            "--capabilities",
            "power.fly",
        ][..],
    ] {
        let (code, text) = command(nothing);
        assert_eq!(code, Some(2), "{nothing:?}: {text}");
    }
}

/// The same scenarios on a real hypervisor's interface: what the memory backend lets through must not be its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_scenarios_pass_on_libvirts_test_driver() {
    on_libvirt(Which::TestUnix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenarios_pass_on_qemu() {
    on_libvirt(Which::Qemu).await;
}

async fn on_libvirt(which: Which) {
    let setup = Setup::start(which);
    let gateway = gateway().config(&setup.config()).start().unwrap();
    let before = setup.domains(gateway.state_dir());
    let mut reports = Vec::new();
    for dialect in BUILT {
        let facts = json!({"names_replaced": true, "pages_required": true});
        let report = run(setup.name(), &gateway, dialect, &[], facts).await;
        assert!(
            report.totals.passed > report.totals.skipped,
            "{}",
            summary(&report, false)
        );
        reports.push(report);
    }
    assert_eq!(
        setup.domains(gateway.state_dir()),
        before,
        "what the scenarios made is gone"
    );
    ledger::settle(&setup, &reports);
}
