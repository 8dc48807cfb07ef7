//! Disks that come and go: plugged in once, unplugged for good, limited as asked.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{DiskAttachment, DiskLimits, PoolVolume, PowerState, VmChange, VmFacts};

use super::settings::obeys;
use super::{Check, RUN, VOLUME, Want};
use crate::kit::bench::Bench;
use crate::kit::equipment::{Loose, OCCASIONS};
use crate::kit::verdict::{Verdict, ensure, fail};

const ATTACH: &[Capability] = &[Capability::DiskAttach];
const DETACH: &[Capability] = &[Capability::DiskDetach];
const QOS: &[Capability] = &[Capability::DiskQos];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "disk::is_plugged_in_once",
            "a volume is plugged in as asked, running or off, and stays over a stop; the same again is success",
            &[RUN, VOLUME, ATTACH],
            plugged_in,
        ),
        Check::new(
            "disk::in_use_elsewhere_is_refused",
            "a volume that another VM has is refused, without an effect on either; an absent one is NotFound",
            &[RUN, VOLUME, ATTACH],
            in_use,
        ),
        Check::new(
            "disk::is_unplugged_and_its_volume_stays",
            "a disk that is unplugged is gone, its volume stays and can go elsewhere; an absent disk is success",
            &[RUN, VOLUME, ATTACH, DETACH],
            unplugged,
        ),
        Check::new(
            "disk::a_running_guest_lets_go_of_it",
            "a disk that is unplugged from a running guest is gone there and in the definition",
            &[RUN, VOLUME, ATTACH, DETACH],
            let_go,
        )
        .wants(&[Want::Listener]),
        Check::new(
            "disk::limits_are_shown_and_replaced",
            "a disk's limits are those that were set last, all of them, running or off; an absent disk is NotFound",
            &[RUN, VOLUME, QOS],
            limits,
        ),
    ]
}

fn attach(disk: &Loose) -> VmChange {
    VmChange::AttachDisk(disk.attachment())
}

fn detach(target: &str) -> VmChange {
    VmChange::DetachDisk {
        target: target.to_owned(),
    }
}

/// The disk is the volume, and disks have names of their own.
fn sound(facts: &VmFacts, disk: &Loose, readonly: bool, after: &str) -> Verdict {
    let found = disk.there(facts, after)?;
    ensure!(
        found.format == disk.volume.format && found.capacity == disk.volume.capacity,
        "after {after} the disk is {} of {} bytes, its volume {} of {}",
        found.format.as_ref(),
        found.capacity,
        disk.volume.format.as_ref(),
        disk.volume.capacity
    );
    ensure!(
        found.readonly == readonly,
        "after {after}: asked for readonly = {readonly}, got {}",
        found.readonly
    );
    let same = facts.disks.iter().filter(|other| other.target == found.target);
    ensure!(
        !found.target.is_empty() && same.count() == 1,
        "after {after} two disks are named {:?}",
        found.target
    );
    Ok(())
}

async fn plugged_in(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    let mut plugged = Vec::new();
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        for readonly in [false, true] {
            let disk = bench.loose().await?;
            let change = VmChange::AttachDisk(DiskAttachment {
                readonly,
                ..disk.attachment()
            });
            let Some(facts) = bench.plug(&vm, &change, "plugging a volume in").await? else {
                continue;
            };
            sound(&facts, &disk, readonly, "plugging a volume in")?;
            let again = "plugging in a volume that it has";
            sound(&bench.must(&vm, &change, again).await?, &disk, readonly, again)?;
            plugged.push((disk, readonly));
        }
    }
    bench.bring(&vm, PowerState::Off).await?;
    let facts = bench.get(&vm).await?;
    for (disk, readonly) in &plugged {
        sound(&facts, disk, *readonly, "a stop")?;
    }
    ensure!(
        facts.disks.len() == plugged.len() + 1,
        "{} volumes were plugged in beside the root disk, and there are {} disks",
        plugged.len(),
        facts.disks.len()
    );
    bench.bring(&vm, PowerState::Running).await
}

async fn in_use(bench: Arc<Bench>) -> Verdict {
    let (holder, other) = (bench.equipped().await?, bench.equipped().await?);
    let disk = bench.loose().await?;
    let Some(held) = bench
        .plug(&holder, &attach(&disk), "plugging a volume in")
        .await?
    else {
        return fail("a VM that is off takes no volume");
    };
    let kinds = &[ErrorKind::IllegalState, ErrorKind::Conflict];
    let what = "plugging in a volume that another VM has";
    for state in OCCASIONS {
        bench.bring(&other, state).await?;
        if state == PowerState::Running && !bench.config.hot_plug {
            break;
        }
        bench.must_not(&other, &attach(&disk), kinds, what).await?;
        let ghost = VmChange::AttachDisk(DiskAttachment {
            volume: PoolVolume {
                pool: disk.spec.pool.clone(),
                name: bench.name("no-volume"),
            },
            ..disk.attachment()
        });
        let absent = "plugging in a volume that does not exist";
        bench
            .must_not(&other, &ghost, &[ErrorKind::NotFound], absent)
            .await?;
    }
    bench.unchanged(&holder, &held, what).await
}

async fn unplugged(bench: Arc<Bench>) -> Verdict {
    let (vm, other) = (bench.equipped().await?, bench.equipped().await?);
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        // A guest that is not there does not let go.
        if state == PowerState::Running && !(bench.config.hot_plug && obeys(&bench)) {
            bench
                .must(&vm, &detach("vdzz"), "unplugging an absent disk")
                .await?;
            break;
        }
        let disk = bench.loose().await?;
        let facts = bench.must(&vm, &attach(&disk), "plugging a volume in").await?;
        let target = disk.there(&facts, "plugging it in")?.target.clone();
        let (count, root) = (facts.disks.len(), facts.disks.first().cloned());
        for time in ["unplugging a disk", "unplugging it again"] {
            let facts = bench.must(&vm, &detach(&target), time).await?;
            ensure!(disk.disk(&facts)?.is_none(), "after {time} the VM still has it");
            ensure!(
                facts.disks.len() + 1 == count && facts.disks.first().cloned() == root,
                "after {time} other disks are not as they were"
            );
        }
        bench
            .must(&vm, &detach("vdzz"), "unplugging an absent disk")
            .await?;
        ensure!(
            bench.name_is_taken(&disk.spec).await?,
            "unplugging a disk removed its volume"
        );
        let elsewhere = "plugging a volume in that another VM had";
        let facts = bench.must(&other, &attach(&disk), elsewhere).await?;
        disk.there(&facts, elsewhere)?;
    }
    Ok(())
}

async fn let_go(bench: Arc<Bench>) -> Verdict {
    if !bench.config.hot_plug {
        return Ok(());
    }
    let vm = bench.listening().await?;
    let disk = bench.loose().await?;
    let facts = bench.must(&vm, &attach(&disk), "plugging a volume in").await?;
    let target = disk.there(&facts, "plugging it in")?.target.clone();
    let what = "unplugging a disk from a running guest";
    let facts = bench.must(&vm, &detach(&target), what).await?;
    ensure!(disk.disk(&facts)?.is_none(), "after {what} the VM still has it");
    bench.bring(&vm, PowerState::Off).await?;
    let facts = bench.get(&vm).await?;
    ensure!(disk.disk(&facts)?.is_none(), "after a stop the disk is back");
    bench.delete_volume(&disk.spec).await.map_or_else(
        |error| fail(format!("the volume cannot be deleted afterwards: {error}")),
        Ok,
    )
}

async fn limits(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    let facts = bench.get(&vm).await?;
    let Some(target) = facts.disks.first().map(|disk| disk.target.clone()) else {
        return fail("a VM with a disk shows none");
    };
    let total = DiskLimits {
        total_bytes: 10 << 20,
        total_iops: 200,
        ..DiskLimits::default()
    };
    let single = DiskLimits {
        read_bytes: 4 << 20,
        write_bytes: 2 << 20,
        read_iops: 100,
        write_iops: 50,
        ..DiskLimits::default()
    };
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        for limits in [total, total, single, DiskLimits::default(), total] {
            let change = VmChange::DiskQos {
                target: target.clone(),
                limits,
            };
            let facts = bench.must(&vm, &change, "limiting a disk").await?;
            let shown = facts.disks.first().map(|disk| disk.limits);
            ensure!(
                shown == Some(limits),
                "while the VM is {} the limits were set to {limits:?} and are {shown:?}",
                state.as_ref()
            );
        }
        let absent = VmChange::DiskQos {
            target: "vdzz".to_owned(),
            limits: total,
        };
        let what = "limiting an absent disk";
        bench.must_not(&vm, &absent, &[ErrorKind::NotFound], what).await?;
    }
    bench.bring(&vm, PowerState::Off).await?;
    let facts = bench.get(&vm).await?;
    let shown = facts.disks.first().map(|disk| disk.limits);
    ensure!(
        shown == Some(total),
        "limits that were set while the VM ran are {shown:?} after a stop"
    );
    Ok(())
}
