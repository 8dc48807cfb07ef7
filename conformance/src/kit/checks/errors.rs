//! Error kinds: what is not there, what is out of time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmId, VolumeSpec};
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, ErrorKind, Result};

use super::{Check, RUN, VM, VOLUME};
use crate::kit::bench::Bench;
use crate::kit::verdict::{During as _, Verdict, ensure, refused};

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "errors::a_vm_that_is_not_there_is_not_found",
            "calls about a VM that does not exist are NotFound and name it; ending what is not there may be success",
            &[&[Capability::VmList]],
            unknown_vm,
        ),
        Check::new(
            "errors::reads_out_of_time_are_timeouts",
            "a read whose deadline is over is a Timeout, at once",
            &[&[Capability::VmList]],
            late_reads,
        ),
        Check::new(
            "errors::power_out_of_time_has_no_effect",
            "a power change whose deadline is over is a Timeout, at once, and the VM stays as it is",
            &[RUN],
            late_power,
        ),
        Check::new(
            "errors::definitions_out_of_time_have_no_effect",
            "defining and undefining with a deadline that is over is a Timeout, at once, without an effect",
            &[VM],
            late_definitions,
        ),
        Check::new(
            "errors::volumes_out_of_time_have_no_effect",
            "making and deleting a volume with a deadline that is over is a Timeout, at once, without an effect",
            &[VOLUME],
            late_volumes,
        ),
        Check::new(
            "errors::passwords_out_of_time_have_no_effect",
            "setting a password with a deadline that is over is a Timeout, at once, and the old one stays",
            &[VM, &[Capability::ConsolePassword]],
            late_password,
        ),
    ]
}

/// A refusal as it should read: the right kind, words, and the VM by name.
fn names(error: &Error, vm: VmId, what: &str) -> Verdict {
    let named = error
        .subject
        .as_ref()
        .is_some_and(|subject| subject.id == vm.to_string())
        || error.detail.contains(&vm.to_string());
    ensure!(named, "{what} is refused without naming the VM: {error}");
    Ok(())
}

async fn unknown_vm(bench: Arc<Bench>) -> Verdict {
    let vm = bench.nobody();
    ensure!(
        bench.find(&vm).await?.is_none(),
        "get finds a VM that was never made"
    );
    let actions = [
        PowerAction::Start,
        PowerAction::Shutdown,
        PowerAction::ForceOff,
        PowerAction::Reboot,
        PowerAction::Reset,
        PowerAction::Suspend,
        PowerAction::Resume,
    ];
    for action in actions {
        if !action.needs().iter().all(|need| bench.has(*need)) {
            continue;
        }
        let what = format!(
            "{} of a VM that does not exist",
            action.as_ref().replace('_', " ")
        );
        let ends = matches!(action, PowerAction::Shutdown | PowerAction::ForceOff);
        match bench.power(&vm, action).await {
            Ok(()) if ends => {}
            answer => names(&refused(answer, &[ErrorKind::NotFound], &what)?, vm.id, &what)?,
        }
    }
    if bench.has(Capability::ConsoleEndpoint) {
        let what = "the console of a VM that does not exist";
        let answer = bench.backend.console(&bench.call(), &vm).await;
        names(&refused(answer, &[ErrorKind::NotFound], what)?, vm.id, what)?;
    }
    if bench.has(Capability::ConsolePassword) {
        let what = "the console password of a VM that does not exist";
        let answer = bench.backend.console_password(&bench.call(), &vm).await;
        names(&refused(answer, &[ErrorKind::NotFound], what)?, vm.id, what)?;
        let password = Secret::new("kitNo-01");
        let answer = bench
            .backend
            .set_console_password(&bench.call(), &vm, &password)
            .await;
        names(&refused(answer, &[ErrorKind::NotFound], what)?, vm.id, what)?;
    }
    if bench.has(Capability::VmDelete) {
        bench
            .backend
            .undefine(&bench.call(), &vm)
            .await
            .during("undefining a VM that does not exist")?;
    }
    Ok(())
}

/// Waits for a call whose deadline was over when it began.
async fn late<T>(bench: &Bench, what: &str, call: impl Future<Output = Result<T>>) -> Verdict {
    let begun = Instant::now();
    let answer = call.await;
    let took = begun.elapsed();
    refused(
        answer,
        &[ErrorKind::Timeout],
        &format!("{what} after the deadline"),
    )?;
    ensure!(
        took <= Duration::from_millis(bench.config.bounds.grace),
        "{what}: a call whose deadline was over took {took:?}"
    );
    Ok(())
}

async fn late_reads(bench: Arc<Bench>) -> Verdict {
    let call = bench.expired();
    late(&bench, "list", bench.backend.list(&call)).await?;
    late(&bench, "get", bench.backend.get(&call, &bench.nobody())).await?;
    if bench.has(Capability::TopologyList) {
        late(&bench, "topology", bench.backend.topology(&call)).await?;
    }
    if bench.has(Capability::ConsoleEndpoint) {
        late(&bench, "console", bench.backend.console(&call, &bench.nobody())).await?;
    }
    Ok(())
}

async fn late_power(bench: Arc<Bench>) -> Verdict {
    let call = bench.expired();
    let vm = bench.off().await?;
    late(
        &bench,
        "start",
        bench.backend.power(&call, &vm, PowerAction::Start),
    )
    .await?;
    // An effect that comes late is an effect, too.
    tokio::time::sleep(bench.config.settle_time()).await;
    bench
        .expect_state(&vm, PowerState::Off, "a start out of time")
        .await?;
    bench
        .power(&vm, PowerAction::Start)
        .await
        .during("starting a VM")?;
    late(
        &bench,
        "force off",
        bench.backend.power(&call, &vm, PowerAction::ForceOff),
    )
    .await?;
    tokio::time::sleep(bench.config.settle_time()).await;
    bench
        .expect_state(&vm, PowerState::Running, "a force off out of time")
        .await
}

async fn late_definitions(bench: Arc<Bench>) -> Verdict {
    let (vm, call) = (VmId::random(), bench.expired());
    let asked = bench.spec(bench.name("late"), Vec::new());
    late(&bench, "define", bench.define(&call, vm, &asked, &[], None)).await?;
    tokio::time::sleep(bench.config.settle_time()).await;
    let there = bench.list().await?.iter().any(|facts| facts.id == vm);
    ensure!(!there, "a VM is there whose definition was out of time");
    let vm = bench.off().await?;
    late(&bench, "undefine", bench.backend.undefine(&call, &vm)).await?;
    tokio::time::sleep(bench.config.settle_time()).await;
    bench.get(&vm).await.map(drop)
}

async fn late_volumes(bench: Arc<Bench>) -> Verdict {
    let call = bench.expired();
    let asked: VolumeSpec = bench.blank()?;
    late(&bench, "create_volume", bench.create_volume(&call, &asked)).await?;
    tokio::time::sleep(bench.config.settle_time()).await;
    ensure!(
        !bench.name_is_taken(&asked).await?,
        "a volume is there whose making was out of time"
    );
    bench
        .create_volume(&bench.call(), &asked)
        .await
        .during("making a volume")?;
    let delete = bench.backend.delete_volume(&call, &asked.pool, &asked.name);
    late(&bench, "delete_volume", delete).await?;
    tokio::time::sleep(bench.config.settle_time()).await;
    ensure!(
        bench.name_is_taken(&asked).await?,
        "a volume is gone whose deletion was out of time"
    );
    Ok(())
}

async fn late_password(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let call = bench.expired();
    let password = Secret::new("kitLate1");
    let set = bench.backend.set_console_password(&call, &vm, &password);
    late(&bench, "set_console_password", set).await?;
    let read = bench
        .backend
        .console_password(&bench.call(), &vm)
        .await
        .during("reading the console password")?;
    ensure!(read.is_none(), "a password is set whose setting was out of time");
    Ok(())
}
