//! One VM, one truth: VMs are made, changed and removed through dialects chosen by chance, and after every step all built
//! dialects, each read back through its own API, must tell the same of every VM as the canonical model and the hypervisor,
//! in every field that they carry.
//!
//! ```text
//! chance ─▶ change in one dialect ─▶ settled ─▶ hypervisor = core = each dialect read back
//! ```
//! The seed of a walk that fails is in its message; `BABELVISOR_WALK=<seed>` walks it again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod change;
mod seen;
#[path = "../site/mod.rs"]
mod site;

use std::collections::BTreeMap;

use babelvisor_core::model::Vm;
use babelvisor_schemas::Dialect;
use change::{Chance, Walker};
use seen::{Power, Seen, read_back};
use site::Site;

/// How many walks, and how many steps each takes.
const WALKS: u64 = 6;
const STEPS: usize = 40;

/// What must hold of one VM after a step.
async fn agrees(walker: &Walker, vm: &Vm) -> Vec<String> {
    let truth = Seen::of(vm);
    let mut faults = Vec::new();
    for dialect in walker.dialects() {
        match read_back(walker, dialect, vm).await {
            None if vm.visible() => faults.push(format!("{dialect} does not know {}", vm.id)),
            None => {}
            Some(seen) => faults.extend(
                seen.differs(&truth)
                    .into_iter()
                    .map(|fault| format!("{dialect} on {}: {fault}", vm.id)),
            ),
        }
    }
    faults
}

/// The core against the hypervisor itself.
fn is_true(site: &Site) -> Vec<String> {
    let now = site.core.now();
    let real: BTreeMap<_, _> = site
        .control
        .vms()
        .into_iter()
        .map(|facts| (facts.id, facts))
        .collect();
    let mut faults = Vec::new();
    for vm in now.vms.values().filter(|vm| vm.record.gone_at.is_none()) {
        match (real.get(&vm.id), &vm.facts) {
            (Some(real), Some(known)) => {
                let pair = |facts: &babelvisor_core::model::VmFacts| {
                    (
                        facts.name.clone(),
                        facts.power,
                        facts.cpu.current,
                        facts.memory.current,
                        facts.nics.len(),
                        facts.disks.len(),
                    )
                };
                if pair(real) != pair(known) {
                    faults.push(format!(
                        "core says {:?}, the hypervisor {:?}",
                        pair(known),
                        pair(real)
                    ));
                }
            }
            (None, Some(_)) => faults.push(format!("core knows {}, the hypervisor does not", vm.id)),
            (Some(_), None) => faults.push(format!("core has not looked at {}", vm.id)),
            (None, None) => {}
        }
    }
    for id in real.keys().filter(|id| !now.vms.contains_key(*id)) {
        faults.push(format!("the hypervisor has {id}, core does not"));
    }
    faults
}

async fn walk(seed: u64) -> BTreeMap<Dialect, usize> {
    let walker = Walker::new(Site::new().await).await;
    let mut chance = Chance(seed);
    let mut story = Vec::new();
    let mut good: BTreeMap<Dialect, usize> = BTreeMap::new();
    for step in 0..STEPS {
        let (dialect, what, done) = walker.step(&mut chance).await;
        story.push(format!(
            "{step}: {dialect} {what}{}",
            if done { "" } else { " (refused)" }
        ));
        if done {
            *good.entry(dialect).or_default() += 1;
        }
        walker.site.settled().await;
        let mut faults = is_true(&walker.site);
        let vms: Vec<_> = walker.site.core.now().vms.values().cloned().collect();
        for vm in vms.iter().filter(|vm| vm.record.gone_at.is_none()) {
            faults.extend(agrees(&walker, vm).await);
        }
        assert!(
            faults.is_empty(),
            "seed {seed}, after {step}:\n{}\n{}",
            faults.join("\n"),
            story.join("\n")
        );
    }
    good
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_every_change_all_dialects_tell_the_same() {
    let chosen = std::env::var("BABELVISOR_WALK")
        .ok()
        .map(|text| text.parse().unwrap());
    let seeds: Vec<u64> = chosen.map_or_else(|| (1..=WALKS).collect(), |seed| vec![seed]);
    let all = seeds.len() as u64 == WALKS;
    let mut good: BTreeMap<Dialect, usize> = BTreeMap::new();
    for seed in seeds {
        for (dialect, count) in walk(seed).await {
            *good.entry(dialect).or_default() += count;
        }
    }
    if all {
        for dialect in change::built_dialects() {
            let count = good.get(&dialect).copied().unwrap_or_default();
            assert!(count >= 5, "{dialect} has changed next to nothing: {good:?}");
        }
    }
}

#[test]
fn a_dialect_that_tells_something_else_is_caught() {
    let truth = Seen {
        name: Some("web".to_owned()),
        power: Some(Power::On),
        vcpus: Some(2),
        memory: Some(seen::Memory::Bytes(3 << 29)),
        macs: Some(vec!["52:54:00:00:00:01".to_owned()]),
        disks: Some(vec![1 << 30]),
        note: Some("shop".to_owned()),
    };
    assert_eq!(truth.differs(&truth), Vec::<String>::new());
    let rounded = Seen {
        memory: Some(seen::Memory::Gibibytes(2)),
        disks: None,
        ..truth.clone()
    };
    assert_eq!(rounded.differs(&truth), Vec::<String>::new());
    for wrong in [
        Seen {
            name: Some("Web".to_owned()),
            ..truth.clone()
        },
        Seen {
            power: Some(Power::Off),
            ..truth.clone()
        },
        Seen {
            vcpus: Some(1),
            ..truth.clone()
        },
        Seen {
            memory: Some(seen::Memory::Gibibytes(1)),
            ..truth.clone()
        },
        Seen {
            macs: Some(Vec::new()),
            ..truth.clone()
        },
        Seen {
            disks: Some(vec![2 << 30]),
            ..truth.clone()
        },
        Seen {
            note: Some(String::new()),
            ..truth.clone()
        },
    ] {
        assert_eq!(wrong.differs(&truth).len(), 1, "{wrong:?}");
    }
}
