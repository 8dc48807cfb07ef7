//! Saved memory: a VM that is written to disk goes on from there, once.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::VmRef;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmId};

use super::{Check, RUN};
use crate::kit::bench::{Bench, refer};
use crate::kit::verdict::{During as _, Verdict, ensure, refused};

const SAVE: &[Capability] = &[Capability::PowerSave];
const RESTORE: &[Capability] = &[Capability::PowerRestore];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "saved::start_goes_on_and_uses_it_up",
            "a saved VM is off and says that it is saved; saving it again is success; a start uses the memory up",
            &[RUN, SAVE],
            start,
        ),
        Check::new(
            "saved::restore_goes_on_and_uses_it_up",
            "restore returns when the VM runs; a running VM is success, one without saved memory IllegalState",
            &[RUN, SAVE, RESTORE],
            restore,
        ),
        Check::new(
            "saved::what_is_not_running_is_not_saved",
            "a VM that is off has no memory to save: IllegalState",
            &[RUN, SAVE],
            off,
        ),
        Check::new(
            "saved::it_goes_with_its_vm",
            "undefining a saved VM removes its memory: one that is defined like it has none",
            &[RUN, SAVE],
            undefined,
        ),
    ]
}

async fn expect(bench: &Bench, vm: &VmRef, state: PowerState, saved: bool, after: &str) -> Verdict {
    bench.expect_state(vm, state, after).await?;
    let now = bench.get(vm).await?.saved;
    ensure!(
        now == saved,
        "after {after} the VM says saved = {now}, not {saved}"
    );
    Ok(())
}

async fn save(bench: &Bench, vm: &VmRef) -> Verdict {
    for what in ["saving a VM", "saving it again"] {
        bench.power(vm, PowerAction::Save).await.during(what)?;
        expect(bench, vm, PowerState::Off, true, what).await?;
    }
    Ok(())
}

async fn start(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    for _ in 0..2 {
        save(&bench, &vm).await?;
        bench
            .power(&vm, PowerAction::Start)
            .await
            .during("starting a saved VM")?;
        expect(&bench, &vm, PowerState::Running, false, "starting a saved VM").await?;
    }
    bench.bring(&vm, PowerState::Off).await?;
    expect(
        &bench,
        &vm,
        PowerState::Off,
        false,
        "forcing off what was saved once",
    )
    .await
}

async fn restore(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    save(&bench, &vm).await?;
    for what in ["restoring a saved VM", "restoring a running VM"] {
        bench.power(&vm, PowerAction::Restore).await.during(what)?;
        expect(&bench, &vm, PowerState::Running, false, what).await?;
    }
    bench.bring(&vm, PowerState::Off).await?;
    let what = "restoring a VM without saved memory";
    refused(
        bench.power(&vm, PowerAction::Restore).await,
        &[ErrorKind::IllegalState],
        what,
    )?;
    expect(&bench, &vm, PowerState::Off, false, what).await
}

async fn off(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let what = "saving a VM that is off";
    refused(
        bench.power(&vm, PowerAction::Save).await,
        &[ErrorKind::IllegalState],
        what,
    )?;
    expect(&bench, &vm, PowerState::Off, false, what).await
}

async fn undefined(bench: Arc<Bench>) -> Verdict {
    let asked = bench.spec(bench.name("saved"), Vec::new());
    let id = VmId::random();
    let made = bench
        .define(&bench.call(), id, &asked, &[], None)
        .await
        .during("defining a VM")?;
    let vm = refer(&made);
    bench.bring(&vm, PowerState::Running).await?;
    save(&bench, &vm).await?;
    bench
        .backend
        .undefine(&bench.call(), &vm)
        .await
        .during("undefining a saved VM")?;
    ensure!(
        bench.find(&vm).await?.is_none(),
        "a saved VM is there after it was undefined"
    );
    bench
        .define(&bench.call(), id, &asked, &[], None)
        .await
        .during("defining the VM once more")?;
    expect(
        &bench,
        &vm,
        PowerState::Off,
        false,
        "the VM was defined once more",
    )
    .await
}
