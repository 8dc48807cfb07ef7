//! ZStack and v1-compute: dialects whose callers sign in. On the memory backend everything is run, with sites that are slow,
//! that fail and that lack what a backend may lack; on libvirt what its drivers can do.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

use babelvisor_conformance::runner::{Library, summary};
use babelvisor_conformance::testbed::Gateway;
use babelvisor_schemas::{Dialect, contract};
use serde_json::{Value, json};

use crate::common::ledger;
use crate::common::setup::{Setup, Which};
use crate::common::{ACCOUNTS, gateway};
use crate::suite::{complete, everything, run, run_able};

/// What every site says about itself.
fn facts(more: Value) -> Value {
    let mut facts = json!({"tenant": "default", "other_tenant": "elsewhere", "image": "tiny", "disc": "installer",
                           "flavor": "small", "large_flavor": "large"});
    let known = facts.as_object_mut().unwrap();
    for (fact, (name, secret, _)) in ["account", "member", "viewer", "stranger"]
        .into_iter()
        .zip(ACCOUNTS)
    {
        known.insert(fact.to_owned(), name.into());
        known.insert(format!("{fact}_key"), secret.into());
    }
    known.extend(more.as_object().unwrap().clone());
    facts
}

fn start(setup: &Setup, change: impl Fn(String) -> String) -> Gateway {
    let builder = gateway().config(&change(setup.rich_config()));
    let builder = ACCOUNTS
        .iter()
        .fold(builder, |builder, (name, secret, arguments)| {
            builder.account(name, secret, arguments)
        });
    builder.start().unwrap()
}

/// The memory backend with further settings of its section. Images may be fetched from this machine.
fn memory(more: &str) -> Gateway {
    start(&Setup::Memory, |config| {
        let config = config.replacen("kind = \"memory\"", &format!("kind = \"memory\"\n{more}"), 1);
        fetching(config)
    })
}

/// A configuration that lets images be fetched from this machine.
fn fetching(config: String) -> String {
    format!("{config}\n[outbound]\nimage.allow = [\"127.0.0.1/32\"]\n")
}

/// Where images are fetched from: whatever is asked for is 64 KiB. It answers until the process ends.
fn image_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match connection.read(&mut byte) {
                    Ok(1) => head.extend(byte),
                    Ok(_) | Err(_) => break,
                }
            }
            let mut answer =
                b"HTTP/1.1 200 OK\r\ncontent-length: 65536\r\nconnection: close\r\n\r\n".to_vec();
            answer.resize(answer.len() + 65536, b'x');
            // A client that hangs up early wants no more.
            let _ = connection.write_all(&answer);
        }
    });
    format!("http://{address}/image.raw")
}

/// Sites by the folder of the scenarios that are written for them, with what the site's backend is told and says.
fn sites() -> BTreeMap<&'static str, (&'static str, Value)> {
    let slow = r#"delays = { "power.start" = 2000, "power.shutdown" = 2000, "vm.create" = 2000, "volume.copy" = 2000, "vm.migrate" = 2000 }"#;
    let faulty = r#"faults = [{ on = "define", kind = "no_resources", times = 1000 }]"#;
    let lacking = r#"lacks = { "nic.qos" = "this kernel has no traffic control", "power.save" = "no room for memory", "vm.migrate" = "one host", "snapshot.memory" = "no room for memory", "console.screenshot" = "no screen" }"#;
    BTreeMap::from([
        ("slow/", (slow, json!({"slow": true}))),
        ("faulty/", (faulty, json!({"creation_fails": true}))),
        ("lacking/", (lacking, json!({"lacking": true}))),
    ])
}

async fn on_memory(dialect: Dialect) {
    if nothing_yet(dialect) {
        return;
    }
    let gateway = memory("");
    let mut more = json!({"two_hosts": true, "two_networks": true, "two_pools": true, "guest_addresses": true, "traffic_control": true, "agents_answer": true});
    more["image_url"] = image_server().into();
    let mut reports = vec![run("memory", &gateway, dialect, &[], facts(more)).await];
    let library = Library::built_in(dialect).unwrap();
    for (folder, (backend, more)) in sites() {
        if library.names().any(|(name, _)| name.starts_with(folder)) {
            let gateway = memory(backend);
            let label = format!("memory, {}", folder.trim_end_matches('/'));
            reports.push(run(&label, &gateway, dialect, &[folder], facts(more)).await);
        }
    }
    complete(dialect, &reports);
    ledger::settle(&Setup::Memory, dialect, &reports);
}

async fn on_libvirt(which: Which, dialect: Dialect) {
    if nothing_yet(dialect) {
        return;
    }
    let setup = Setup::start(which);
    let gateway = start(&setup, fetching);
    let before = leftovers(&setup, &gateway);
    let short = which == Which::Qemu && !everything();
    let mut more = host(&setup);
    more["image_url"] = image_server().into();
    let report = run_able(setup.name(), &gateway, dialect, facts(more), short).await;
    assert!(report.totals.passed > 0, "{}", summary(&report, false));
    assert_eq!(
        leftovers(&setup, &gateway),
        before,
        "what the scenarios made is gone\n{}",
        gateway.log()
    );
    if !short {
        ledger::settle(&setup, dialect, &[report]);
    }
}

/// What the host of a set-up has besides libvirt.
fn host(setup: &Setup) -> Value {
    let mut more = serde_json::Map::new();
    if let Setup::Qemu(libvirtd) = setup {
        if libvirtd.has_network() {
            more.insert("guest_addresses".to_owned(), true.into());
        }
        // libvirt limits interfaces with these; not every kernel has them.
        let queue = |word| libvirtd.exec(&["tc", "qdisc", word, "dev", "lo", "root", "sfq"]);
        if queue("add").is_ok() {
            queue("del").unwrap();
            more.insert("traffic_control".to_owned(), true.into());
        }
    }
    more.into()
}

/// What is on the hypervisor, past the gateway.
fn leftovers(setup: &Setup, gateway: &Gateway) -> (Vec<String>, Vec<String>) {
    (
        setup.domains(gateway.state_dir()),
        setup.volumes(gateway.state_dir()),
    )
}

/// Whether nothing of the dialect is built.
fn nothing_yet(dialect: Dialect) -> bool {
    contract(dialect)
        .operations()
        .iter()
        .all(|operation| !operation.built)
}

#[tokio::test(flavor = "multi_thread")]
async fn zstack_passes_on_the_memory_backend() {
    on_memory(Dialect::Zstack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zstack_passes_on_libvirts_test_driver() {
    on_libvirt(Which::TestUnix, Dialect::Zstack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zstack_passes_on_qemu() {
    on_libvirt(Which::Qemu, Dialect::Zstack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v1_compute_passes_on_the_memory_backend() {
    on_memory(Dialect::V1Compute).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v1_compute_passes_on_libvirts_test_driver() {
    on_libvirt(Which::TestUnix, Dialect::V1Compute).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn v1_compute_passes_on_qemu() {
    on_libvirt(Which::Qemu, Dialect::V1Compute).await;
}
