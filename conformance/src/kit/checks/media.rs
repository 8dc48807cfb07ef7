//! Removable media: what is put into a drive is in it, and what is taken out is not.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{MediumKind, PowerState, VmChange, VmFacts};

use super::{Check, RUN, VM, VOLUME};
use crate::kit::bench::Bench;
use crate::kit::equipment::{Loose, OCCASIONS};
use crate::kit::verdict::{Verdict, ensure, fail};

const MEDIA: &[Capability] = &[Capability::MediaChange];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "media::is_inserted_and_ejected",
            "a medium is in the drive, a second one replaces it, an ejected drive is empty and stays; running or off",
            &[RUN, VOLUME, MEDIA],
            inserted,
        ),
        Check::new(
            "media::a_drive_is_made_for_it",
            "a VM without a drive gets one for the medium; ejecting what is not there is success",
            &[VM, VOLUME, MEDIA],
            made,
        ),
        Check::new(
            "media::impossible_ones_change_nothing",
            "a medium that does not exist and a drive that the VM does not have are refused, without an effect",
            &[VM, VOLUME, MEDIA],
            impossible,
        ),
    ]
}

fn insert(disc: &Loose, target: Option<&str>) -> VmChange {
    VmChange::InsertMedium {
        kind: MediumKind::Cdrom,
        target: target.map(ToOwned::to_owned),
        source: disc.volume.native.clone(),
    }
}

const EJECT: VmChange = VmChange::EjectMedium {
    kind: MediumKind::Cdrom,
    target: None,
};

/// The drives, which all hold `wanted`.
fn hold(facts: &VmFacts, wanted: Option<&Loose>, after: &str) -> Verdict {
    let [drive] = facts.removable.as_slice() else {
        return fail(format!(
            "after {after} the VM has {} drives, not 1: {:?}",
            facts.removable.len(),
            facts.removable
        ));
    };
    let native = wanted.map(|disc| disc.volume.native.as_str());
    ensure!(
        drive.kind == "cdrom" && drive.source.as_deref() == native,
        "after {after} the {} drive holds {:?}, not {native:?}",
        drive.kind,
        drive.source
    );
    Ok(())
}

async fn inserted(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    let (one, two) = (bench.loose().await?, bench.loose().await?);
    hold(&bench.get(&vm).await?, None, "a definition with an empty drive")?;
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        if state == PowerState::Running && !bench.config.hot_plug {
            // What is in the drive already would be no change, and so no refusal.
            bench
                .plug(&vm, &insert(&two, None), "inserting another one")
                .await?;
            bench.bring(&vm, PowerState::Off).await?;
            break;
        }
        let target = bench
            .get(&vm)
            .await?
            .removable
            .first()
            .map(|drive| drive.target.clone());
        let steps = [
            (insert(&one, None), Some(&one), "inserting a medium"),
            (insert(&one, None), Some(&one), "inserting it again"),
            (
                insert(&two, target.as_deref()),
                Some(&two),
                "inserting another one",
            ),
            (EJECT, None, "ejecting it"),
            (EJECT, None, "ejecting it again"),
            (
                insert(&one, target.as_deref()),
                Some(&one),
                "inserting a medium again",
            ),
        ];
        for (change, wanted, what) in steps {
            let Some(facts) = bench.plug(&vm, &change, what).await? else {
                return Ok(());
            };
            hold(&facts, wanted, what)?;
            ensure!(facts.disks.len() == 1, "after {what} a medium is shown as a disk");
        }
        bench.bring(&vm, PowerState::Off).await?;
        hold(&bench.get(&vm).await?, Some(&one), "a stop")?;
    }
    bench.must(&vm, &EJECT, "ejecting a medium").await.map(drop)
}

async fn made(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let disc = bench.loose().await?;
    let facts = bench.must(&vm, &EJECT, "ejecting what is not there").await?;
    ensure!(facts.removable.is_empty(), "ejecting made a drive");
    for what in ["inserting a medium into no drive", "inserting it again"] {
        let facts = bench.must(&vm, &insert(&disc, None), what).await?;
        hold(&facts, Some(&disc), what)?;
    }
    Ok(())
}

async fn impossible(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    let disc = bench.loose().await?;
    let kinds = &[ErrorKind::NotFound, ErrorKind::InvalidInput];
    let ghost = VmChange::InsertMedium {
        kind: MediumKind::Cdrom,
        target: None,
        source: format!("{}-gone", disc.volume.native),
    };
    bench
        .must_not(&vm, &ghost, kinds, "inserting a medium that does not exist")
        .await?;
    let nowhere = insert(&disc, Some("sdzz"));
    bench
        .must_not(&vm, &nowhere, kinds, "inserting a medium into an absent drive")
        .await?;
    Ok(())
}
