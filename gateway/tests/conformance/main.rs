//! The conformance suite against the real binary: all scenarios of the built dialects pass on some site, and none fails on
//! any. Sites stand on the memory backend, on libvirt's test driver and on QEMU.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod command_line;
mod rentals;
mod signed_in;
mod suite;

use std::collections::BTreeSet;

use common::ledger::{Cell, turned_grey};
use serde_json::json;

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
