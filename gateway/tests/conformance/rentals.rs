//! Guest REST and pve-open, on every kind of site that a scenario of theirs needs.

use std::process::Command;

use babelvisor_conformance::runner::{Report, html, junit, summary};
use babelvisor_conformance::testbed::Gateway;
use babelvisor_schemas::Dialect;
use serde_json::json;

use crate::common::ledger;
use crate::common::setup::{Setup, Which};
use crate::common::{binary, gateway};
use crate::suite::{complete, run};

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
pub fn site(backend: &str, more: &str) -> Gateway {
    let config = format!(
        "[[backend]]\nid = \"one\"\nkind = \"memory\"\nstate_file = \"{{state}}/hypervisor.json\"\nimages = [{{ name = \"tiny.qcow2\", size = 67108864 }}]\n{backend}\n{CATALOGUE}\n{more}"
    );
    gateway().config(&config).start().unwrap()
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
        complete(dialect, &reports);
        ledger::settle(&Setup::Memory, dialect, &reports);
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
    for dialect in BUILT {
        ledger::settle(&setup, dialect, &reports);
    }
}
