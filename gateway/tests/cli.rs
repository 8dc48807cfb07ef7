//! The command line as people meet it: answers on standard output, complaints on standard error that say what to
//! do, and nothing secret on either.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::binary;
use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    run_in(Path::new("."), arguments)
}

fn run_in(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .env("XDG_STATE_HOME", dir)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// What `check-config` says to this file, which must not be accepted.
fn refused(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateway.toml"), text).unwrap();
    let output = run_in(dir.path(), &["check-config", "--config", "gateway.toml"]);
    assert!(!output.status.success(), "accepted: {text}");
    assert!(output.stdout.is_empty(), "complaints go to standard error");
    said(&output)
}

#[test]
fn help_teaches_the_first_steps() {
    let output = run(&["--help"]);
    let text = said(&output);
    assert!(output.status.success());
    for word in [
        "babelvisor serve",
        "curl http://",
        "account add",
        "check-config",
        "coverage",
    ] {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
    for command in ["serve", "check-config", "account", "coverage", "version"] {
        let output = run(&[command, "--help"]);
        assert!(output.status.success(), "{command}");
    }
}

#[test]
fn the_version_is_the_same_everywhere_and_names_the_release() {
    let (word, flag) = (run(&["version"]), run(&["--version"]));
    assert_eq!(word.stdout, flag.stdout);
    let text = said(&word);
    assert!(
        text.starts_with(concat!("babelvisor ", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
}

#[test]
fn coverage_needs_nothing_and_has_the_form_that_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let output = run_in(dir.path(), &["coverage", "--format", "json"]);
    assert!(output.status.success());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "it leaves nothing behind"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let operations = report["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 264);
    for row in operations {
        let mut keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["backends", "built", "dialect", "id", "method", "origin", "path"]
        );
        assert!(row["built"].is_boolean());
        let backends = row["backends"].as_object().unwrap();
        assert!(
            backends.contains_key("libvirt") && backends.contains_key("memory"),
            "{row}"
        );
        for (name, cell) in backends {
            let support = cell["support"].as_str().unwrap();
            assert!(
                ["native", "emulated", "not yet", "impossible"].contains(&support),
                "{row}"
            );
            // Whatever is not done natively says why.
            assert_eq!(cell["reason"].is_null(), support == "native", "{name} of {row}");
            match &cell["verified"] {
                Value::Null => {}
                Value::Array(runs) => {
                    assert!(!runs.is_empty() && row["built"] == true, "{row}");
                    for run in runs {
                        for key in ["setup", "run", "commit", "date"] {
                            assert!(run[key].is_string(), "{key} of {row}");
                        }
                    }
                }
                other => panic!("verified is {other} in {row}"),
            }
            let ledger = &cell["ledger"];
            assert_eq!(ledger["declared"], true, "{row}");
            assert_eq!(ledger["decoded"], row["built"], "{row}");
            assert_eq!(ledger["implemented"], row["built"], "{row}");
            let usable = row["built"] == true && ["native", "emulated"].contains(&support);
            assert_eq!(ledger["supported"], usable, "{row}");
            assert_eq!(ledger["verified"], cell["verified"].is_array(), "{row}");
        }
    }
    let of = |id: &str| operations.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(of("guest.list")["backends"]["libvirt"]["support"], "native");
    // No backend takes part in it.
    assert_eq!(of("pve.packAge")["backends"]["libvirt"]["support"], "emulated");
}

#[test]
fn a_wrong_key_or_word_is_named_with_file_line_and_a_hint() {
    let cases = [
        ("[store]\nkidn = \"redis\"\n", ":2:", "did you mean `kind`"),
        ("[sotre]\n", ":1:", "did you mean `store`"),
        ("[pve-open]\ntenent = \"x\"\n", ":2:", "did you mean `tenant`"),
        (
            "[[backend]]\nid = \"a\"\nkind = \"memory\"\n\n[[backend]]\nid = \"b\"\nkind = \"memory\"\nhost = 3\n",
            ":8:",
            "did you mean `hosts`",
        ),
        (
            "[[backend]]\nid = \"a\"\nkind = \"memroy\"\n",
            ":3:",
            "did you mean `memory`",
        ),
        ("[jobs]\nworkers = \"many\"\n", ":2:", "expected"),
        ("[jobs\n", ":1:", "expected"),
    ];
    for (text, line, hint) in cases {
        let said = refused(text);
        assert!(said.contains(&format!("gateway.toml{line}")), "{text} → {said}");
        assert!(said.contains(hint), "{text} → {said}");
    }
}

#[test]
fn what_no_type_can_say_is_checked_too() {
    let cases = [
        ("listen = []\n", "[[listen]]"),
        (
            "[[listen]]\naddress = \"127.0.0.1:1\"\ndialects = []\n",
            "dialects is empty",
        ),
        ("[admin]\naddress = \"0.0.0.0:9080\"\n", "open_to_network"),
        ("[store]\nkind = \"redis\"\n", "redis://host:port/0"),
        ("[store]\nurl = \"redis://h/0\"\n", "kind = \"redis\""),
        ("[jobs]\nlease_ms = 99999999999\n", "lease_ms"),
        ("[jobs]\ndeadline_seconds = 99999999999\n", "deadline_seconds"),
        ("[log]\nfilter = \"!!!=x=y\"\n", "log: filter"),
        ("adopted_tenant = \"\"\n", "adopted_tenant"),
        (
            "[[image]]\nname = \"x\"\nnative = \"p/v\"\nformat = \"raw\"\nbackend = \"nowhere\"\n",
            "no [[backend]] with id nowhere",
        ),
    ];
    for (text, part) in cases {
        let said = refused(text);
        assert!(said.contains(part), "{text} → {said}");
    }
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    let said = refused("[store]\nkind = \"redis\"\nurl = \"reddis://user:hunter22@host/0\"\n");
    assert!(!said.contains("hunter22"), "{said}");
}

#[test]
fn flags_override_the_file_and_are_checked_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = "state_dir = \"from-file\"\n[admin]\naddress = \"127.0.0.1:7001\"\n[[backend]]\nid = \"sim\"\nkind = \"memory\"\n";
    std::fs::write(dir.path().join("gateway.toml"), text).unwrap();
    let check = |flags: &[&str]| {
        let arguments: Vec<&str> = ["check-config", "--config", "gateway.toml"]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        run_in(dir.path(), &arguments)
    };
    let plain = said(&check(&[]));
    for word in ["from-file", "127.0.0.1:7001", "sim (memory)"] {
        assert!(plain.contains(word), "{plain}");
    }
    let flags = [
        "--state-dir",
        "other",
        "--admin",
        "127.0.0.1:7002",
        "--listen",
        "127.0.0.1:7003",
    ];
    let overridden = said(&check(
        &[flags.as_slice(), &["--libvirt", "test:///default"]].concat(),
    ));
    for word in [
        "in other",
        "127.0.0.1:7002",
        "127.0.0.1:7003",
        "libvirt-1 (libvirt)",
    ] {
        assert!(overridden.contains(word), "{overridden}");
    }
    assert!(!overridden.contains("sim"), "{overridden}");
    assert!(
        !check(&["--listen", "0.0.0.0:7003"]).status.success(),
        "open to the network by flag"
    );
    assert!(!dir.path().join("from-file").exists(), "a check starts nothing");
}

#[test]
fn an_account_is_made_once_and_its_secret_shown_only_when_it_was_made_up() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret.txt"), "made-up-secret\n").unwrap();
    let add = |arguments: &[&str]| {
        let fixed = ["account", "add", "--state-dir", "state"];
        run_in(dir.path(), &[fixed.as_slice(), arguments].concat())
    };
    let given = add(&["anna", "--secret-file", "secret.txt"]);
    assert!(given.status.success(), "{}", said(&given));
    assert!(!said(&given).contains("made-up-secret"));
    let again = add(&["anna"]);
    assert!(!again.status.success());
    assert!(said(&again).contains("exists already"), "{}", said(&again));
    assert!(!said(&again).contains("secret, shown"), "{}", said(&again));
    let made = said(&add(&["berta"]));
    assert!(made.contains("shown this once"), "{made}");
    std::fs::write(dir.path().join("empty.txt"), "\n").unwrap();
    let empty = add(&["carl", "--secret-file", "empty.txt"]);
    assert!(
        !empty.status.success() && said(&empty).contains("empty"),
        "{}",
        said(&empty)
    );
}

#[test]
fn an_account_beside_a_running_gateway_is_told_what_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    let _running =
        babelvisor_core::store::embedded::EmbeddedStore::open(&dir.path().join("state/store.redb")).unwrap();
    let output = run_in(dir.path(), &["account", "add", "anna", "--state-dir", "state"]);
    assert!(!output.status.success());
    let text = said(&output);
    assert!(
        text.contains("in use by another process") && text.contains("stop"),
        "{text}"
    );
}
