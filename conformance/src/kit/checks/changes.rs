//! What holds for every change: cut off it is made at the second try, out of time it has no effect, and listeners hear
//! of it.

use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{PowerState, VmChange};
use babelvisor_core::secret::Secret;

use super::{Check, RUN, VM, VOLUME, Want};
use crate::kit::bench::Bench;
use crate::kit::equipment::nic_with;
use crate::kit::verdict::{During as _, Verdict, ensure, refused};
use crate::kit::watcher::Watcher;

const CPU: &[Capability] = &[Capability::ConfigCpu];
const DISK: &[Capability] = &[Capability::DiskAttach];
const NIC: &[Capability] = &[Capability::NicAttach];
const AUTOSTART: &[Capability] = &[Capability::ConfigAutostart];
const PASSWORD: &[Capability] = &[Capability::GuestPassword];

/// When calls are cut off, counted from their beginning.
const CUTS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(10),
];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "change::a_cut_off_one_is_made_once_at_the_second_try",
            "a volume or interface whose plugging was cut off is there, once, after the same job tried again",
            &[RUN, VOLUME, DISK, NIC],
            cut_off,
        ),
        Check::new(
            "change::one_out_of_time_has_no_effect",
            "a change whose deadline is over is a Timeout, and the VM stays as it is",
            &[VM, CPU],
            late,
        ),
        Check::new(
            "change::one_of_an_absent_vm_is_not_found",
            "a change of a VM that does not exist is NotFound and names it",
            &[VM, AUTOSTART],
            absent,
        ),
        Check::new(
            "change::is_told",
            "listeners are told of a change, as get reports it",
            &[VM, CPU],
            told,
        ),
        Check::new(
            "change::a_guest_takes_a_password",
            "a running guest takes a password; while the VM is off that is IllegalState",
            &[RUN, PASSWORD],
            guest_password,
        )
        .wants(&[Want::Listener]),
    ]
}

async fn cut_off(bench: Arc<Bench>) -> Verdict {
    let vm = bench.equipped().await?;
    if bench.config.hot_plug {
        bench.bring(&vm, PowerState::Running).await?;
    }
    for cut in CUTS {
        let disk = bench.loose().await?;
        let mac = bench.mac();
        for change in [
            VmChange::AttachDisk(disk.attachment()),
            VmChange::AttachNic(bench.nic_spec(&mac, None)),
        ] {
            let call = bench.call();
            // Whether it had ended is not known to a process that was killed, either.
            let _ = tokio::time::timeout(cut, bench.backend.change(&call, &vm, &change)).await;
            bench
                .backend
                .change(&bench.again(&call), &vm, &change)
                .await
                .during(&format!(
                    "the second try of a change that was cut off after {cut:?}"
                ))?;
        }
        let facts = bench.get(&vm).await?;
        disk.there(&facts, "two tries to plug it in")?;
        ensure!(
            nic_with(&facts, &mac)?.is_some(),
            "after two tries to plug it in there is no interface {mac}"
        );
    }
    bench.bring(&vm, PowerState::Off).await?;
    let facts = bench.get(&vm).await?;
    ensure!(
        (facts.disks.len(), facts.nics.len()) == (CUTS.len() + 1, CUTS.len() + 1),
        "{} volumes and interfaces were plugged in beside one of each; after a stop there are {} and {}",
        CUTS.len(),
        facts.disks.len(),
        facts.nics.len()
    );
    Ok(())
}

const fn two_vcpus() -> VmChange {
    VmChange::Cpu {
        current: 2,
        max: 2,
        topology: None,
    }
}

async fn late(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let before = bench.get(&vm).await?;
    let answer = bench.backend.change(&bench.expired(), &vm, &two_vcpus()).await;
    let what = "a change after the deadline";
    refused(answer, &[ErrorKind::Timeout], what)?;
    // An effect that comes late is an effect, too.
    tokio::time::sleep(bench.config.settle_time()).await;
    bench.unchanged(&vm, &before, what).await
}

async fn absent(bench: Arc<Bench>) -> Verdict {
    let vm = bench.nobody();
    let answer = bench.change(&vm, &VmChange::Autostart { on: true }).await;
    let error = refused(
        answer,
        &[ErrorKind::NotFound],
        "a change of a VM that does not exist",
    )?;
    let named = error
        .subject
        .as_ref()
        .is_some_and(|subject| subject.id == vm.id.to_string())
        || error.detail.contains(&vm.id.to_string());
    ensure!(
        named,
        "a change of an absent VM is refused without naming it: {error}"
    );
    Ok(())
}

async fn told(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let mut watcher = Watcher::ready(&bench).await?;
    let facts = bench.must(&vm, &two_vcpus(), "setting vCPUs").await?;
    watcher
        .view_until("the VM has other vCPUs", |view| {
            let told = view.get(&vm.id).and_then(Option::as_ref);
            told.is_some_and(|told| told.cpu == facts.cpu)
        })
        .await
}

async fn guest_password(bench: Arc<Bench>) -> Verdict {
    let sealed = bench
        .keyring
        .seal(&Secret::new("Made-up 7"))
        .during("sealing a password")?;
    let change = VmChange::GuestPassword {
        user: "root".to_owned(),
        password: sealed,
    };
    let vm = bench.listening().await?;
    for time in ["setting a guest's password", "setting it again"] {
        let facts = bench.must(&vm, &change, time).await?;
        ensure!(
            !format!("{facts:?}").contains("Made-up 7"),
            "the guest's password stands in the VM's facts"
        );
    }
    bench.bring(&vm, PowerState::Off).await?;
    let what = "setting a guest's password while it is off";
    bench
        .must_not(&vm, &change, &[ErrorKind::IllegalState], what)
        .await?;
    Ok(())
}
