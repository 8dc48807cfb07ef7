//! The catalogue is whole, and every file of a contract agrees with the others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use babelvisor_schemas::{Dialect, Layer, Operation, Origin, Part, all_operations, check, contract};
use serde_json::{Value, json};

fn of_origin(dialect: Dialect, origin: Origin) -> usize {
    contract(dialect)
        .operations()
        .iter()
        .filter(|operation| operation.origin == origin)
        .count()
}

#[test]
fn no_contract_has_a_fault() {
    assert_eq!(check(), Ok(()));
}

#[test]
fn all_264_operations_are_there() {
    let counts: Vec<(&str, usize)> = Dialect::ALL
        .iter()
        .map(|dialect| (dialect.name(), of_origin(*dialect, Origin::Documented)))
        .collect();
    let expected = [
        ("guest-rest", 10),
        ("v1-compute", 101),
        ("zstack", 127),
        ("pve-open", 9),
        ("kvm-task-feed", 17),
    ];
    assert_eq!(counts, expected);
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), 264);
}

#[test]
fn the_two_small_dialects_are_built_whole() {
    let small = [Dialect::GuestRest, Dialect::PveOpen];
    let built: Vec<&Operation> = all_operations()
        .filter(|operation| operation.built && small.contains(&operation.dialect))
        .collect();
    let documented = built
        .iter()
        .filter(|operation| operation.origin == Origin::Documented);
    assert_eq!(documented.count(), 19);
    let companions: Vec<&str> = built
        .iter()
        .filter(|operation| operation.origin == Origin::Companion)
        .map(|operation| operation.id.as_str())
        .collect();
    assert_eq!(
        companions,
        [
            "guest.delete",
            "guest.force_reboot",
            "guest.search",
            "pve.getToken"
        ]
    );
}

#[test]
fn ids_are_unique_over_all_dialects() {
    let mut seen = BTreeSet::new();
    for operation in all_operations() {
        assert!(seen.insert(&operation.id), "{} is there twice", operation.id);
    }
}

#[test]
fn path_parameters_are_described() {
    for operation in all_operations().filter(|operation| operation.built) {
        let schema = operation.schema(Part::Path, Layer::Document);
        for name in operation.path.param_names() {
            assert!(
                schema["properties"].get(name).is_some(),
                "{}: {name}",
                operation.id
            );
            // One that only some of its addresses have cannot be required of all.
            let everywhere = operation
                .paths()
                .all(|path| path.param_names().any(|other| other == name));
            let required = schema["required"].as_array();
            let required = required.is_some_and(|names| names.contains(&json!(name)));
            assert!(required || !everywhere, "{}: {name}", operation.id);
        }
    }
}

#[test]
fn every_schema_can_be_used() {
    for operation in all_operations() {
        for part in Part::ALL {
            for layer in Layer::ALL {
                let verdict = operation.validate(part, layer, &Value::Null);
                let unusable = verdict
                    .err()
                    .into_iter()
                    .flatten()
                    .find(|violation| violation.keyword == "$schema");
                assert_eq!(unusable, None, "{} {part:?} {layer:?}", operation.id);
            }
        }
    }
}

#[test]
fn each_field_of_a_built_operation_has_one_disposition() {
    for operation in all_operations() {
        let listed = contract(operation.dialect).dispositions().get(&operation.id);
        let listed: BTreeSet<String> = listed
            .into_iter()
            .flat_map(|fields| fields.keys().cloned())
            .collect();
        if operation.built {
            let fields: BTreeSet<String> = operation.documented_fields().into_iter().collect();
            assert_eq!(fields, listed, "{}", operation.id);
        } else {
            assert!(listed.is_empty(), "{} is not built", operation.id);
        }
    }
    for dialect in Dialect::ALL {
        for (id, fields) in contract(dialect).dispositions() {
            assert!(contract(dialect).operation(id).is_some(), "{id}");
            for (field, fate) in fields {
                let honoured = fate.disposition.name() == "honoured";
                assert!(
                    honoured || fate.reason.is_some(),
                    "{id} {field}: say why it is not honoured"
                );
            }
        }
    }
}

#[test]
fn built_operations_name_their_capabilities_by_group_and_method() {
    let groups = "vm power config disk volume nic media device snapshot migrate clone console guest stats";
    for operation in all_operations().filter(|operation| operation.built) {
        for capability in &operation.capabilities {
            let (group, method) = capability.split_once('.').unwrap();
            assert!(
                groups.split(' ').any(|known| known == group),
                "{}: {capability}",
                operation.id
            );
            assert!(
                !method.is_empty() && !method.contains('.'),
                "{}: {capability}",
                operation.id
            );
        }
        assert!(
            operation.accepts_blindly <= operation.state_changing,
            "{}",
            operation.id
        );
    }
}

#[test]
fn state_changing_gets_are_marked() {
    let marked: Vec<&str> = all_operations()
        .filter(|operation| operation.method == "GET" && operation.state_changing)
        .map(|operation| operation.id.as_str())
        .collect();
    assert_eq!(marked, ["pve.operate", "pve.reboot"]);
}

#[test]
fn leniencies_and_choices_say_where_they_come_from() {
    for dialect in Dialect::ALL {
        let contract = contract(dialect);
        let mut seen = BTreeSet::new();
        for leniency in contract.leniencies() {
            assert!(
                seen.insert(leniency.id.clone()),
                "{dialect}: {} twice",
                leniency.id
            );
            assert!(
                !leniency.source.is_empty() && !leniency.reason.is_empty(),
                "{dialect}: {}",
                leniency.id
            );
            for id in &leniency.operations {
                assert!(
                    contract.operation(id).is_some(),
                    "{dialect}: {} names {id}",
                    leniency.id
                );
            }
        }
        let mut seen = BTreeSet::new();
        assert!(!contract.choices().is_empty(), "{dialect}");
        for choice in contract.choices() {
            assert!(seen.insert(choice.id.clone()), "{dialect}: {} twice", choice.id);
            assert!(
                !choice.sources.is_empty() && !choice.reason.is_empty(),
                "{dialect}: {}",
                choice.id
            );
        }
    }
}

#[test]
fn two_runs_make_the_same_schema() {
    let create = contract(Dialect::GuestRest).operation("guest.create").unwrap();
    let body = create.schema(Part::Body, Layer::Document);
    let names: Vec<&String> = body["properties"].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "cpu",
            "memory",
            "os_template_id",
            "quantity",
            "name",
            "password",
            "lease_term"
        ]
    );
    assert_eq!(
        body["required"],
        json!(["cpu", "memory", "os_template_id", "quantity", "lease_term"])
    );
    assert_eq!(body["additionalProperties"], json!(false));
    assert_eq!(
        create
            .schema(Part::Body, Layer::Accept)
            .get("additionalProperties"),
        None
    );
}
