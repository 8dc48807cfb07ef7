//! The kit bites: a sound backend passes, and each of many unsound ones, which differ from it in one planted fault,
//! is caught by the check that is there for it. The faults are planted by a wrapper at run time: nothing is rebuilt.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod events;
mod fault;
mod hardware;
mod mutant;
mod volumes;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use babelvisor_conformance::kit::{self, Bounds, KitConfig, KitImage, Outcome, Report};
use babelvisor_core::backend::Backend;
use babelvisor_core::capability::CapabilitySet;
use babelvisor_core::model::{BackendId, NicSource, VmFacts, VolumeFormat};
use babelvisor_memory::{HostsConfig, ImageConfig, MemoryBackend, MemoryConfig, PoolConfig};
use libtest_mimic::{Arguments, Failed, Trial};

use fault::Fault;
use mutant::Mutant;

/// A simulated hypervisor with three VMs of other people, and an image.
fn world(fault: Option<Fault>) -> MemoryConfig {
    let mut world = MemoryConfig {
        vms: 3,
        pools: vec![PoolConfig {
            name: "default".to_owned(),
            capacity: 1 << 40,
        }],
        images: vec![ImageConfig {
            name: "debian".to_owned(),
            size: 2 << 30,
            pool: None,
            format: VolumeFormat::Qcow2,
        }],
        hosts: HostsConfig {
            count: 3,
            ..HostsConfig::default()
        },
        ..MemoryConfig::default()
    };
    for capability in fault.into_iter().flat_map(Fault::really_lacks) {
        world.lacks.insert((*capability).into(), "not built".to_owned());
    }
    world
}

fn config() -> KitConfig {
    KitConfig {
        image: Some(KitImage {
            native: "default/debian".to_owned(),
            format: VolumeFormat::Qcow2,
        }),
        nic: Some(NicSource::Network("default".to_owned())),
        uefi: true,
        together: 6,
        parallel: 32,
        bounds: Bounds {
            call: 5_000,
            grace: 1_000,
            event: 700,
            settle: 40,
            boot: 700,
            check: 6_000,
        },
        ..KitConfig::default()
    }
}

fn judge(backend: Arc<dyn Backend>) -> Report {
    judge_by(backend, config())
}

fn judge_by(backend: Arc<dyn Backend>, config: KitConfig) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let report = runtime.block_on(kit::run(backend, config)).unwrap();
    // A mutant may hang: it is left behind.
    runtime.shutdown_background();
    report
}

fn names(vms: &[VmFacts]) -> Vec<String> {
    vms.iter().map(|facts| facts.name.clone()).collect()
}

/// The backend that all mutants are made of has nothing that the kit would complain of.
fn the_sound_one_passes() -> Result<(), Failed> {
    let memory = MemoryBackend::new(BackendId::new("mem"), world(None));
    let control = memory.control();
    let (vms, volumes) = (control.vms(), control.volumes());
    let report = judge(Mutant::wrap(memory, None));
    if !report.conformant() {
        return Err(report.text().into());
    }
    let skipped = report
        .checks
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::Skipped(_)))
        .map(|check| check.name.as_str())
        .collect::<Vec<_>>();
    assert_eq!(
        skipped,
        [
            "power::shutdown_of_a_deaf_guest_is_a_timeout",
            "adoption::a_kept_handle_is_adopted"
        ],
        "what is skipped here catches nothing"
    );
    assert_eq!(control.vms(), vms, "the kit touched other people's VMs");
    assert_eq!(control.volumes(), volumes, "the kit left volumes behind");
    Ok(())
}

/// The mutant fails, by the check that is there for its fault; what the kit made is gone all the same.
fn is_caught(fault: Fault) -> Result<(), Failed> {
    let memory = MemoryBackend::new(BackendId::new("mem"), world(Some(fault)));
    let control = memory.control();
    let (vms, volumes) = (control.vms(), control.volumes().len());
    let config = KitConfig {
        filter: fault.shows_in().map(ToOwned::to_owned),
        ..config()
    };
    let report = judge_by(Mutant::wrap(memory, Some(fault)), config);
    let failed: Vec<&str> = report.failed().map(|check| check.name.as_str()).collect();
    if !failed.contains(&fault.caught_by()) {
        return Err(format!(
            "{fault:?} is not caught by {}, but by {failed:?}",
            fault.caught_by()
        )
        .into());
    }
    assert!(!report.conformant());
    assert!(report.text().contains("NOT conformant"));
    assert!(report.failed().all(|check| !check.reproduce.is_empty()));
    if !fault.hinders_cleaning() {
        assert_eq!(
            names(&control.vms()),
            names(&vms),
            "a failed run left VMs behind, or took some along"
        );
        assert_eq!(
            control.volumes().len(),
            volumes,
            "a failed run left volumes behind"
        );
    }
    Ok(())
}

/// A divergence that is listed with its reason does not fail the run; one that is listed and holds does.
fn known_divergences_are_data() -> Result<(), Failed> {
    let known = KitConfig {
        known: BTreeMap::from([
            ("declared::power.reset".to_owned(), "no button".to_owned()),
            (
                "power::reset_leaves_it_running".to_owned(),
                "no button".to_owned(),
            ),
        ]),
        filter: Some("reset".to_owned()),
        ..config()
    };
    let judged = |fault| {
        let memory = MemoryBackend::new(BackendId::new("mem"), world(fault));
        judge_by(Mutant::wrap(memory, fault), known.clone())
    };
    let lying = judged(Some(Fault::LyingCapability));
    let outcomes: Vec<&str> = lying.checks.iter().map(|check| check.outcome.word()).collect();
    assert_eq!(outcomes, ["known", "known", "ok"], "{}", lying.text());
    assert!(lying.conformant());
    let sound = judged(None);
    let words = sound.text();
    assert_eq!(sound.failed().count(), 2, "{words}");
    assert!(words.contains("take it off"), "{words}");
    Ok(())
}

/// A report says what is supported, what is not and why, what was skipped and why, and how to run a check again.
fn a_report_is_complete() -> Result<(), Failed> {
    let memory = MemoryBackend::new(BackendId::new("mem"), world(None));
    let report = judge(Mutant::wrap(memory, Some(Fault::HiddenCapability)));
    let json = report.json();
    assert_eq!(json["conformant"], false);
    assert_eq!(json["unsupported"], serde_json::json!(["power.reset"]));
    assert_eq!(
        json["supported"].as_array().unwrap().len(),
        CapabilitySet::COUNT - 1
    );
    assert_eq!(json["failed"], serde_json::json!(["undeclared::power.reset"]));
    for check in json["checks"].as_array().unwrap() {
        let known = ["passed", "failed", "skipped", "known"].contains(&check["outcome"].as_str().unwrap());
        assert!(known, "{check}");
        assert_eq!(check["outcome"] == "passed", check["reason"].is_null(), "{check}");
        assert!(check["reproduce"].as_str().unwrap().contains("filter"), "{check}");
    }
    let text = report.text();
    assert!(
        text.contains("power.reset") && text.contains("(no reset button)"),
        "{text}"
    );
    assert!(
        text.contains("reproduce: run the kit with filter = \"undeclared::power.reset\""),
        "{text}"
    );
    Ok(())
}

/// Names of faults as names of tests.
fn snake(fault: Fault) -> String {
    let mut name = String::new();
    for letter in format!("{fault:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn main() -> ExitCode {
    let mut trials = vec![
        Trial::test("the_sound_one_passes", the_sound_one_passes),
        Trial::test("known_divergences_are_data", known_divergences_are_data),
        Trial::test("a_report_is_complete", a_report_is_complete),
    ];
    trials.extend(Fault::ALL.iter().map(|fault| {
        let fault = *fault;
        Trial::test(format!("mutant::{}", snake(fault)), move || is_caught(fault))
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
