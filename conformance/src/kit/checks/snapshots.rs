//! Snapshots: a tree that can be climbed back.

use std::sync::Arc;

use babelvisor_core::backend::VmRef;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, SnapshotFacts, SnapshotSpec};
use babelvisor_core::{ErrorKind, Result};

use super::{Check, RUN, VM, VOLUME};
use crate::kit::bench::Bench;
use crate::kit::verdict::{During as _, Verdict, ensure, fail, refused};

const CREATE: &[Capability] = &[Capability::SnapshotCreate];
const MEMORY: &[Capability] = &[Capability::SnapshotMemory];
const REVERT: &[Capability] = &[Capability::SnapshotRevert];
const DELETE: &[Capability] = &[Capability::SnapshotDelete];
const SUSPEND: &[Capability] = &[Capability::PowerSuspend];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "snapshot::ten_tries_are_one_snapshot",
            "a snapshot has its name and no parent; one of that name is ours: success, and there is one",
            &[VM, VOLUME, CREATE],
            ten_tries,
        ),
        Check::new(
            "snapshot::parents_are_told_and_come_first",
            "each snapshot tells what it is based on, and parents come before children",
            &[VM, VOLUME, CREATE, REVERT],
            tree,
        ),
        Check::new(
            "snapshot::a_deleted_one_leaves_its_children",
            "what is based on a deleted snapshot stays and is based on what that was based on; an absent one is success",
            &[VM, VOLUME, CREATE, DELETE],
            deleted,
        ),
        Check::new(
            "snapshot::one_without_memory_is_reverted_to_off",
            "going back to a snapshot of the disks alone leaves the VM off, whatever it was; an absent one is NotFound",
            &[RUN, VOLUME, CREATE, REVERT],
            without_memory,
        ),
        Check::new(
            "snapshot::one_with_memory_goes_on",
            "going back to a snapshot with memory ends running or paused, as it was taken",
            &[RUN, VOLUME, CREATE, MEMORY, REVERT, SUSPEND],
            with_memory,
        ),
        Check::new(
            "snapshot::no_memory_of_a_vm_that_is_off",
            "the memory of a VM that is off is IllegalState, and there is no snapshot; an absent disk is NotFound",
            &[VM, VOLUME, CREATE, MEMORY],
            no_memory,
        ),
        Check::new(
            "snapshot::they_go_with_their_vm",
            "undefining a VM removes its snapshots: one that is defined like it has none",
            &[VM, VOLUME, CREATE],
            go_along,
        ),
    ]
}

fn spec(name: &str, memory: bool) -> SnapshotSpec {
    SnapshotSpec {
        name: name.to_owned(),
        title: format!("{name} <made> by \"the\" kit & removed"),
        memory,
        disks: None,
    }
}

async fn take(bench: &Bench, vm: &VmRef, name: &str, memory: bool) -> Verdict<SnapshotFacts> {
    bench
        .backend
        .create_snapshot(&bench.call(), vm, &spec(name, memory))
        .await
        .during(&format!("taking the snapshot {name}"))
}

async fn revert(bench: &Bench, vm: &VmRef, name: &str) -> Result<()> {
    bench.backend.revert_snapshot(&bench.call(), vm, name).await
}

async fn delete(bench: &Bench, vm: &VmRef, name: &str) -> Verdict {
    bench
        .backend
        .delete_snapshot(&bench.call(), vm, name)
        .await
        .during(&format!("deleting the snapshot {name}"))
}

async fn list(bench: &Bench, vm: &VmRef) -> Verdict<Vec<SnapshotFacts>> {
    bench
        .backend
        .snapshots(&bench.call(), vm)
        .await
        .during("listing snapshots")
}

/// The names and parents of all snapshots.
async fn expect(bench: &Bench, vm: &VmRef, wanted: &[(&str, Option<&str>)], after: &str) -> Verdict {
    let all = list(bench, vm).await?;
    let told: Vec<(&str, Option<&str>)> = all
        .iter()
        .map(|snapshot| (snapshot.name.as_str(), snapshot.parent.as_deref()))
        .collect();
    for (place, (name, parent)) in told.iter().enumerate() {
        let later = parent.is_some_and(|parent| !told.iter().take(place).any(|(name, _)| *name == parent));
        ensure!(
            !later,
            "after {after} the snapshot {name} comes before its parent, or without it: {told:?}"
        );
    }
    let (mut is, mut was) = (told.clone(), wanted.to_vec());
    is.sort_unstable();
    was.sort_unstable();
    ensure!(
        is == was,
        "after {after} the snapshots with their parents are {is:?}, not {was:?}"
    );
    Ok(())
}

async fn ten_tries(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    expect(&bench, &vm, &[], "a definition").await?;
    let call = bench.call();
    let wanted = spec("one", false);
    for time in 1..=bench.config.repeats {
        let call = if time == 1 {
            call.clone()
        } else {
            bench.again(&call)
        };
        let made = bench
            .backend
            .create_snapshot(&call, &vm, &wanted)
            .await
            .during(&format!("try {time} of a snapshot"))?;
        ensure!(
            made.name == "one" && made.parent.is_none() && !made.memory,
            "asked for the snapshot \"one\" without memory, got {made:?}"
        );
    }
    expect(&bench, &vm, &[("one", None)], "tries of one snapshot").await
}

async fn tree(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    for name in ["root", "middle", "leaf"] {
        take(&bench, &vm, name, false).await?;
    }
    let chain = [("root", None), ("middle", Some("root")), ("leaf", Some("middle"))];
    expect(&bench, &vm, &chain, "three snapshots in a row").await?;
    revert(&bench, &vm, "root")
        .await
        .during("going back to the first snapshot")?;
    let branch = take(&bench, &vm, "branch", false).await?;
    ensure!(
        branch.parent.as_deref() == Some("root"),
        "a snapshot that was taken after going back to \"root\" says that it is based on {:?}",
        branch.parent
    );
    let [root, middle, leaf] = chain;
    let all = [root, middle, leaf, ("branch", Some("root"))];
    expect(&bench, &vm, &all, "a fourth one beside them").await
}

async fn deleted(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    for name in ["root", "middle", "leaf"] {
        take(&bench, &vm, name, false).await?;
    }
    for _ in 0..2 {
        delete(&bench, &vm, "middle").await?;
        let left = [("root", None), ("leaf", Some("root"))];
        expect(&bench, &vm, &left, "the middle one was deleted").await?;
    }
    delete(&bench, &vm, "root").await?;
    expect(&bench, &vm, &[("leaf", None)], "the first one was deleted").await?;
    delete(&bench, &vm, "leaf").await?;
    expect(&bench, &vm, &[], "all were deleted").await?;
    delete(&bench, &vm, "never-made").await?;
    bench
        .backend
        .delete_snapshot(&bench.call(), &bench.nobody(), "one")
        .await
        .during("deleting a snapshot of a VM that does not exist")
}

async fn without_memory(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    take(&bench, &vm, "cold", false).await?;
    bench.bring(&vm, PowerState::Running).await?;
    let hot = take(&bench, &vm, "hot", false).await?;
    ensure!(
        !hot.memory,
        "a snapshot of the disks alone says that it carries memory"
    );
    bench
        .expect_state(&vm, PowerState::Running, "a snapshot of a running VM")
        .await?;
    for name in ["hot", "cold"] {
        if name == "cold" {
            bench.bring(&vm, PowerState::Running).await?;
        }
        for time in 1..=2 {
            let what = format!("going back to a snapshot without memory for the {time}. time");
            revert(&bench, &vm, name).await.during(&what)?;
            bench.expect_state(&vm, PowerState::Off, &what).await?;
        }
    }
    refused(
        revert(&bench, &vm, "never-made").await,
        &[ErrorKind::NotFound],
        "going back to an absent snapshot",
    )?;
    Ok(())
}

async fn with_memory(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    bench.bring(&vm, PowerState::Running).await?;
    for (name, state) in [("running", PowerState::Running), ("paused", PowerState::Paused)] {
        if state == PowerState::Paused {
            bench
                .power(&vm, PowerAction::Suspend)
                .await
                .during("suspending a VM")?;
        }
        let made = take(&bench, &vm, name, true).await?;
        ensure!(made.memory, "a snapshot with memory says that it carries none");
        bench
            .expect_state(&vm, state, "taking a snapshot with memory")
            .await?;
    }
    for (name, state) in [("running", PowerState::Running), ("paused", PowerState::Paused)] {
        bench.bring(&vm, PowerState::Off).await?;
        for time in 1..=2 {
            let what = format!("going back to a snapshot of a VM that was {name} for the {time}. time");
            revert(&bench, &vm, name).await.during(&what)?;
            bench.expect_state(&vm, state, &what).await?;
        }
    }
    let told = list(&bench, &vm).await?;
    ensure!(
        told.iter().all(|snapshot| snapshot.memory),
        "snapshots with memory are listed as such without: {told:?}"
    );
    Ok(())
}

async fn no_memory(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    let off = bench
        .backend
        .create_snapshot(&bench.call(), &vm, &spec("off", true))
        .await;
    refused(
        off,
        &[ErrorKind::IllegalState],
        "a snapshot of the memory of a VM that is off",
    )?;
    let absent = SnapshotSpec {
        disks: Some(vec!["vdzz".to_owned()]),
        ..spec("absent", false)
    };
    let answer = bench.backend.create_snapshot(&bench.call(), &vm, &absent).await;
    refused(answer, &[ErrorKind::NotFound], "a snapshot of an absent disk")?;
    expect(&bench, &vm, &[], "refused snapshots").await
}

async fn go_along(bench: Arc<Bench>) -> Verdict {
    let disk = bench.loose().await?;
    let asked = bench.spec(bench.name("twice"), vec![disk.spec]);
    let id = babelvisor_core::model::VmId::random();
    let disks = [disk.volume];
    let made = bench
        .define(&bench.call(), id, &asked, &disks, None)
        .await
        .during("defining a VM with a disk")?;
    let vm = crate::kit::bench::refer(&made);
    take(&bench, &vm, "one", false).await?;
    take(&bench, &vm, "two", false).await?;
    bench
        .backend
        .undefine(&bench.call(), &vm)
        .await
        .during("undefining a VM with snapshots")?;
    match bench.backend.snapshots(&bench.call(), &vm).await {
        Ok(left) if left.is_empty() => {}
        Ok(left) => return fail(format!("a VM that is gone has the snapshots {left:?}")),
        answer => drop(refused(
            answer,
            &[ErrorKind::NotFound],
            "the snapshots of a VM that is gone",
        )?),
    }
    bench
        .define(&bench.call(), id, &asked, &disks, None)
        .await
        .during("defining the VM once more")?;
    expect(&bench, &vm, &[], "the VM was defined once more").await
}
