//! The README's tables are those that the binary prints: a claim that no longer holds fails here.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

use std::process::Command;

#[test]
fn the_readmes_coverage_tables_are_what_the_binary_prints() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("<!-- coverage:begin -->").unwrap();
    let (shown, _) = rest.split_once("<!-- coverage:end -->").unwrap();
    let printed = Command::new(env!("CARGO_BIN_EXE_babelvisor"))
        .args(["coverage", "--format", "markdown"])
        .output()
        .unwrap();
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(shown.trim(), printed.trim(), "run scripts/readme.sh");
}
