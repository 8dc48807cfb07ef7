//! What is documented of a built operation is proved by a scenario or named untestable; the rest stands in a baseline
//! that only shrinks.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use babelvisor_conformance::runner::{Coverage, Library, PREDICATES, claims};
use babelvisor_schemas::{Dialect, contract};

/// The most that each baseline may hold. Lower a number when claims are proved; never raise one.
const MOST: [(Dialect, usize); 5] = [
    (Dialect::GuestRest, 0),
    (Dialect::V1Compute, 96),
    (Dialect::Zstack, 33),
    (Dialect::PveOpen, 0),
    (Dialect::KvmTaskFeed, 88),
];

fn coverage(dialect: Dialect) -> Coverage {
    Coverage::of(&Library::built_in(dialect).unwrap()).unwrap()
}

fn path(dialect: Dialect) -> PathBuf {
    let name = format!("baselines/{}.txt", dialect.name());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn everything_documented_of_built_operations_is_proved_or_named_untestable() {
    for dialect in Dialect::ALL {
        let coverage = coverage(dialect);
        assert!(coverage.open.is_empty(), "{dialect}: {:?}", coverage.open);
        assert!(coverage.wrong.is_empty(), "{dialect}: {:?}", coverage.wrong);
    }
}

#[test]
fn the_baselines_are_exactly_what_is_left() {
    for dialect in Dialect::ALL {
        let kept = std::fs::read_to_string(path(dialect)).unwrap();
        assert_eq!(
            kept,
            coverage(dialect).baseline_text(),
            "{dialect}: write `babelvisor conformance list --dialect {dialect} --baseline` there"
        );
    }
}

#[test]
fn no_built_operation_stands_in_a_baseline() {
    for dialect in Dialect::ALL {
        for line in lines(&std::fs::read_to_string(path(dialect)).unwrap()) {
            let operation = line.split('#').next().unwrap();
            let built = contract(dialect)
                .operation(operation)
                .is_some_and(|operation| operation.built);
            assert!(!built, "{dialect}: {line} is built");
        }
    }
}

#[test]
fn baselines_only_shrink() {
    for (dialect, most) in MOST {
        let now = lines(&std::fs::read_to_string(path(dialect)).unwrap());
        assert!(
            now.len() <= most,
            "{dialect}: {} lines, at most {most}",
            now.len()
        );
        // A tree without history, or before the file was tracked, has only the count to go by.
        let name = format!("HEAD:./baselines/{}.txt", dialect.name());
        let show = Command::new("git")
            .args(["show", &name])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        if let Ok(before) =
            show.map(|out| (out.status.success(), lines(&String::from_utf8_lossy(&out.stdout))))
            && before.0
        {
            let grown: Vec<_> = now.difference(&before.1).collect();
            assert!(grown.is_empty(), "{dialect} grew by {grown:?}");
        }
    }
}

#[test]
fn claims_of_built_operations_are_marked() {
    let all = claims(Dialect::GuestRest).unwrap();
    assert!(
        all.iter()
            .any(|claim| claim.built && claim.id.starts_with("guest.create#"))
    );
    assert!(
        claims(Dialect::KvmTaskFeed)
            .unwrap()
            .iter()
            .all(|claim| !claim.built)
    );
}

#[test]
fn the_page_names_every_predicate() {
    let page = include_str!("../../docs/conformance.md");
    for (name, _) in PREDICATES {
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/conformance.md lacks {name}"
        );
    }
}
