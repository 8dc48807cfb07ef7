//! Imports run one way: gateway → frontends, backends, conformance → core. Frontends and backends do not know
//! each other, no frontend knows another, and the core knows none of them. Only normal and build
//! dependencies count: a test may put a real backend behind a frontend.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    Core,
    Schemas,
    Server,
    Frontend,
    Backend,
    Conformance,
    Gateway,
}

fn room(manifest: &str) -> Room {
    let below = |folder: &str| manifest.contains(&format!("/{folder}/"));
    if manifest.ends_with("/frontends/server/Cargo.toml") {
        Room::Server
    } else if below("frontends") {
        Room::Frontend
    } else if below("backends") {
        Room::Backend
    } else if manifest.ends_with("/core/Cargo.toml") {
        Room::Core
    } else if manifest.ends_with("/schemas/Cargo.toml") {
        Room::Schemas
    } else if manifest.ends_with("/conformance/Cargo.toml") {
        Room::Conformance
    } else if manifest.ends_with("/gateway/Cargo.toml") {
        Room::Gateway
    } else {
        panic!("{manifest} belongs to no room of the house: extend this test and docs/decisions")
    }
}

fn may_import(from: Room, to: Room) -> bool {
    match from {
        Room::Core | Room::Schemas => false,
        Room::Server | Room::Frontend => matches!(to, Room::Core | Room::Schemas),
        Room::Backend => to == Room::Core,
        Room::Conformance => matches!(to, Room::Core | Room::Schemas),
        Room::Gateway => to != Room::Gateway,
    }
}

#[test]
fn imports_run_one_way() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let rooms: BTreeMap<String, Room> = metadata
        .workspace_packages()
        .iter()
        .map(|package| (package.name.to_string(), room(package.manifest_path.as_str())))
        .collect();
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let from = rooms[package.name.as_str()];
        for dependency in &package.dependencies {
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            if let Some(to) = rooms.get(&dependency.name)
                && !may_import(from, *to)
            {
                wrong.push(format!(
                    "{} ({from:?}) imports {} ({to:?})",
                    package.name, dependency.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_libvirt_backend_knows_libvirt_and_few_speak_http() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    for package in metadata.workspace_packages() {
        for dependency in package
            .dependencies
            .iter()
            .filter(|dep| dep.kind == DependencyKind::Normal)
        {
            // The benchmark, a feature of its own, calls libvirt beside the gateway to compare.
            if dependency.optional && package.name.as_str() == "babelvisor-conformance" {
                continue;
            }
            let allowed: &[&str] = match dependency.name.as_str() {
                "virt" | "virt-sys" => &["babelvisor-libvirt"],
                "hyper" | "rustls" | "tokio-rustls" => {
                    // The core is a client only, of the addresses that users name: `core/src/outbound`.
                    &[
                        "babelvisor-server",
                        "babelvisor-conformance",
                        "babelvisor",
                        "babelvisor-core",
                    ]
                }
                "redis" | "redb" => &["babelvisor-core"],
                _ => continue,
            };
            assert!(
                allowed.contains(&package.name.as_str()),
                "{} imports {}",
                package.name,
                dependency.name
            );
        }
    }
}
