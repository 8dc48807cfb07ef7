//! Removal of definitions: what is removed is gone, and its volumes are not.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::model::{PowerState, VmId};

use super::{Check, RUN, VM, VOLUME};
use crate::kit::bench::{Bench, refer};
use crate::kit::verdict::{During as _, Verdict, ensure, refused};

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "undefine::ten_times_is_once",
            "undefining an absent VM is success; the VM is gone for get and list, and its name is free",
            &[VM],
            undefined,
        ),
        Check::new(
            "undefine::keeps_the_volumes",
            "volumes stay when their VM goes",
            &[VM, VOLUME],
            keeps_volumes,
        ),
        Check::new(
            "undefine::refuses_a_running_vm",
            "a VM that is running is not undefined: IllegalState, and it runs on",
            &[RUN],
            refuses_running,
        ),
    ]
}

async fn undefined(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let name = bench.get(&vm).await?.name;
    for time in 1..=bench.config.repeats {
        let answer = bench.backend.undefine(&bench.call(), &vm).await;
        answer.during(&format!("undefining a VM for the {time}. time"))?;
    }
    ensure!(
        bench.find(&vm).await?.is_none(),
        "get finds a VM that was undefined"
    );
    let all = bench.list().await?;
    ensure!(
        !all.iter().any(|facts| facts.id == vm.id),
        "a VM that was undefined is listed"
    );
    let again = bench.spec(name, Vec::new());
    bench
        .define(&bench.call(), VmId::random(), &again, &[], None)
        .await
        .during("defining a VM under the name of one that was undefined")?;
    bench
        .backend
        .undefine(&bench.call(), &bench.nobody())
        .await
        .during("undefining a VM that never existed")
}

async fn keeps_volumes(bench: Arc<Bench>) -> Verdict {
    let call = bench.call();
    let asked = bench.blank()?;
    let disk = bench
        .create_volume(&call, &asked)
        .await
        .during("making a volume")?;
    let spec = bench.spec(bench.name("keeps"), vec![asked.clone()]);
    let made = bench
        .define(&call, VmId::random(), &spec, &[disk], None)
        .await
        .during("defining a VM")?;
    bench
        .backend
        .undefine(&bench.call(), &refer(&made))
        .await
        .during("undefining a VM")?;
    ensure!(
        bench.name_is_taken(&asked).await?,
        "undefining a VM removed its volume"
    );
    bench
        .delete_volume(&asked)
        .await
        .during("deleting the volume of a VM that is gone")
}

async fn refuses_running(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    let answer = bench.backend.undefine(&bench.call(), &vm).await;
    refused(answer, &[ErrorKind::IllegalState], "undefining a running VM")?;
    bench
        .expect_state(&vm, PowerState::Running, "a refused undefine")
        .await?;
    Ok(())
}
