//! The coverage report: every operation of every dialect, whether it is built, what each backend makes of it,
//! and which run verified that. Needs no configuration, gateway or hypervisor.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use babelvisor_core::capability::{Capability, CapabilitySet, Support};
use babelvisor_schemas::{Operation, Origin, all_operations};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What runs have verified, as the test run wrote it.
const EVIDENCE: &str = include_str!("../../conformance/evidence.json");

/// One verification.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Evidence {
    /// Which set-up of the backend: `state-file`, `test+unix`, `qemu-tcg`.
    setup: String,
    /// The test that ran.
    run: String,
    /// The commit that it ran on.
    commit: String,
    /// The day.
    date: String,
    /// The report that shows it, by its file name, where the run leaves one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    report: Option<String>,
}

/// dialect → operation → backend → verifications.
type Book = BTreeMap<String, BTreeMap<String, BTreeMap<String, Vec<Evidence>>>>;

struct Cell {
    support: &'static str,
    reason: Option<String>,
    verified: Option<Vec<Evidence>>,
}

impl Cell {
    /// The set-ups on which some run has verified it, each once.
    fn setups(&self) -> Option<String> {
        let runs = self.verified.as_ref()?;
        let setups: BTreeSet<&str> = runs.iter().map(|run| run.setup.as_str()).collect();
        Some(setups.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// How far the operation has come with this backend. Each stage needs the one before; only the last is a
    /// matter of runs.
    fn ledger(&self, operation: &Operation) -> Value {
        json!({
            // The dialect's own document has it; companions are ours.
            "declared": operation.origin == Origin::Documented,
            // Contracts have one mark for both: a frontend that decodes without a core behind it is not built.
            "decoded": operation.built,
            "implemented": operation.built,
            "supported": operation.built && matches!(self.support, "native" | "emulated"),
            "verified": self.verified.is_some(),
        })
    }
}

/// The backends by folder with what they declare at their fullest set-up.
fn backends() -> [(&'static str, CapabilitySet); 2] {
    [
        ("libvirt", babelvisor_libvirt::declared()),
        ("memory", babelvisor_memory::declared()),
    ]
}

fn cell(operation: &Operation, name: &str, declared: &CapabilitySet, book: &Book) -> Cell {
    let verified = book
        .get(operation.dialect.name())
        .and_then(|operations| operations.get(&operation.id))
        .and_then(|backends| backends.get(name))
        .filter(|runs| !runs.is_empty())
        .cloned();
    if !operation.built {
        let reason = Some("the operation is not built yet".to_owned());
        return Cell {
            support: "not yet",
            reason,
            verified: None,
        };
    }
    if operation.capabilities.is_empty() {
        // No backend takes part, so none of them does it natively.
        return Cell {
            support: "emulated",
            reason: Some("the gateway answers it from its own records".to_owned()),
            verified,
        };
    }
    // The weakest of what it needs decides.
    let mut weakest: &Support = &Support::Native;
    for capability in operation
        .capabilities
        .iter()
        .filter_map(|name| Capability::from_str(name).ok())
    {
        let support = declared.get(capability);
        if rank(support) > rank(weakest) {
            weakest = support;
        }
    }
    Cell {
        support: weakest.word(),
        reason: weakest.reason().map(str::to_owned),
        verified,
    }
}

const fn rank(support: &Support) -> u8 {
    match support {
        Support::Native => 0,
        Support::Emulated(_) => 1,
        Support::NotYet(_) => 2,
        Support::Impossible(_) => 3,
    }
}

fn origin(operation: &Operation) -> &'static str {
    match operation.origin {
        Origin::Documented => "documented",
        Origin::Companion => "companion",
    }
}

fn book() -> Book {
    // A damaged file verifies nothing; a test holds that it can be read.
    serde_json::from_str(EVIDENCE).unwrap_or_default()
}

/// The documented operations as JSON, the companions beside them.
pub(crate) fn json() -> Value {
    let book = book();
    let backends = backends();
    let row = |operation: &Operation| {
        let cells: serde_json::Map<String, Value> = backends
            .iter()
            .map(|(name, declared)| {
                let cell = cell(operation, name, declared, &book);
                let value = json!({
                    "support": cell.support,
                    "reason": cell.reason,
                    "verified": cell.verified,
                    "ledger": cell.ledger(operation),
                });
                ((*name).to_owned(), value)
            })
            .collect();
        json!({
            "dialect": operation.dialect.name(),
            "id": operation.id,
            "method": operation.method,
            "path": operation.path.as_str(),
            "origin": origin(operation),
            "built": operation.built,
            "backends": cells,
        })
    };
    let of = |wanted: &str| -> Vec<Value> {
        all_operations()
            .filter(|operation| origin(operation) == wanted)
            .map(row)
            .collect()
    };
    json!({ "operations": of("documented"), "companions": of("companion") })
}

/// The report for a terminal: counts, then a line for every built operation.
pub(crate) fn text() -> String {
    let book = book();
    let backends = backends();
    let mut lines = vec![summary()];
    for operation in all_operations().filter(|operation| operation.built) {
        let cells: Vec<String> = backends
            .iter()
            .map(|(name, declared)| {
                let cell = cell(operation, name, declared, &book);
                let verified = cell.setups().map_or("not verified".to_owned(), |setups| {
                    format!("verified on {setups}")
                });
                format!("{name}: {} ({verified})", cell.support)
            })
            .collect();
        let path = operation.path.as_str();
        lines.push(format!(
            "{:<11} {:<22} {:<6} {path}",
            operation.dialect.name(),
            operation.id,
            operation.method
        ));
        lines.push(format!("            {}", cells.join("; ")));
    }
    lines.join("\n")
}

/// The table of the README: dialects, then built operations.
pub(crate) fn markdown() -> String {
    let book = book();
    let backends = backends();
    let mut lines = vec![
        "| dialect | documented | built | companions built | verified on memory | verified on libvirt |"
            .to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let of =
        |dialect: &'static str| all_operations().filter(move |operation| operation.dialect.name() == dialect);
    let verified = |dialect: &'static str, wanted: &str| {
        let found = backends.iter().find(|(name, _)| *name == wanted);
        found.map_or(0, |(name, declared)| {
            let built = of(dialect).filter(|operation| operation.built);
            built
                .filter(|operation| cell(operation, name, declared, &book).setups().is_some())
                .count()
        })
    };
    for dialect in babelvisor_schemas::Dialect::ALL {
        let name = dialect.name();
        let documented = || of(name).filter(|operation| origin(operation) == "documented");
        lines.push(format!(
            "| {name} | {} | {} | {} | {} | {} |",
            documented().count(),
            documented().filter(|operation| operation.built).count(),
            of(name)
                .filter(|operation| operation.built && origin(operation) == "companion")
                .count(),
            verified(name, "memory"),
            verified(name, "libvirt"),
        ));
    }
    lines.push(String::new());
    lines.push("| dialect | operation | call | memory | libvirt |".to_owned());
    lines.push("|---|---|---|---|---|".to_owned());
    for operation in all_operations().filter(|operation| operation.built) {
        let shown = |wanted: &str| {
            let found = backends.iter().find(|(name, _)| *name == wanted);
            found.map_or_else(String::new, |(name, declared)| {
                let cell = cell(operation, name, declared, &book);
                match cell.setups() {
                    Some(setups) => format!("{}, verified: {setups}", cell.support),
                    None => cell.support.to_owned(),
                }
            })
        };
        lines.push(format!(
            "| {} | {}{} | `{} {}` | {} | {} |",
            operation.dialect.name(),
            operation.id,
            if operation.origin == Origin::Companion {
                " (companion)"
            } else {
                ""
            },
            operation.method,
            operation.path.as_str(),
            shown("memory"),
            shown("libvirt"),
        ));
    }
    lines.join("\n")
}

fn summary() -> String {
    let documented = || all_operations().filter(|operation| operation.origin == Origin::Documented);
    let built = documented().filter(|operation| operation.built).count();
    let companions = all_operations()
        .filter(|op| op.origin == Origin::Companion && op.built)
        .count();
    format!(
        "{} documented operations, {built} built; {companions} companions built",
        documented().count()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_operation_is_listed_once_and_none_is_built_or_lost_unnoticed() {
        let report = json();
        let operations = report["operations"].as_array().unwrap();
        assert_eq!(operations.len(), 264);
        for (dialect, built) in [
            ("guest-rest", 10),
            ("v1-compute", 78),
            ("zstack", 115),
            ("pve-open", 9),
            ("kvm-task-feed", 0),
        ] {
            let here = operations.iter().filter(|row| row["dialect"] == dialect);
            let counted = here.filter(|row| row["built"] == true).count();
            assert_eq!(counted, built, "{dialect}");
        }
    }

    #[test]
    fn every_capability_that_a_contract_names_exists() {
        for operation in all_operations() {
            for name in &operation.capabilities {
                assert!(
                    Capability::from_str(name).is_ok(),
                    "{} needs {name}",
                    operation.id
                );
            }
        }
    }

    #[test]
    fn the_evidence_can_be_read_and_speaks_of_built_operations_only() {
        let book: Book = serde_json::from_str(EVIDENCE).unwrap();
        for (dialect, operations) in book {
            for id in operations.keys() {
                let built = all_operations().any(|operation| {
                    operation.dialect.name() == dialect && operation.id == *id && operation.built
                });
                assert!(built, "{dialect} {id} has evidence but is not built");
            }
        }
    }
}
