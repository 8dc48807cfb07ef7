//! The tables of the README and of the coverage page are those that the binary prints: a claim that no longer
//! holds fails here.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

use std::process::Command;

fn between_marks(page: &str) -> &str {
    let (_, rest) = page.split_once("<!-- coverage:begin -->").unwrap();
    let (shown, _) = rest.split_once("<!-- coverage:end -->").unwrap();
    shown.trim()
}

fn printed() -> String {
    let printed = Command::new(env!("CARGO_BIN_EXE_babelvisor"))
        .args(["coverage", "--format", "markdown"])
        .output()
        .unwrap();
    assert!(printed.status.success());
    String::from_utf8(printed.stdout).unwrap()
}

#[test]
fn the_coverage_page_is_what_the_binary_prints() {
    let page = include_str!("../../docs/coverage.md");
    assert_eq!(between_marks(page), printed().trim(), "run scripts/readme.sh");
}

#[test]
fn the_readmes_table_is_the_first_of_them() {
    let readme = include_str!("../../README.md");
    let printed = printed();
    let (first, _) = printed.split_once("\n\n").unwrap();
    assert_eq!(between_marks(readme), first.trim(), "run scripts/readme.sh");
}
