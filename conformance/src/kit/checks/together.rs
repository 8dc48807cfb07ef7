//! Many at once, and two at one thing.

use std::collections::BTreeSet;
use std::sync::Arc;

use babelvisor_core::backend::{CallContext, VmRef};
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmFacts, VmId, VmSpec, VolumeSpec};
use babelvisor_core::{Error, ErrorKind};
use tokio::task::JoinSet;

use super::{Check, RUN, VM, VOLUME};
use crate::kit::bench::Bench;
use crate::kit::verdict::{During as _, Stop, Verdict, ensure, fail, words};

/// What a call may answer that another call got in the way of.
const IN_THE_WAY: [ErrorKind; 5] = [
    ErrorKind::IllegalState,
    ErrorKind::Busy,
    ErrorKind::Conflict,
    ErrorKind::Timeout,
    ErrorKind::AlreadyExists,
];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "together::many_vms_at_once",
            "many VMs are made, started, stopped and removed at the same time, each as if it were alone",
            &[RUN],
            many_vms,
        ),
        Check::new(
            "together::many_volumes_at_once",
            "many volumes are made and removed at the same time",
            &[VOLUME],
            many_volumes,
        ),
        Check::new(
            "together::one_id_has_one_maker",
            "of several jobs that define the same VM at the same time, one does, and the others are refused",
            &[VM],
            one_vm,
        ),
        Check::new(
            "together::one_volume_name_has_one_maker",
            "of several jobs that make the same volume at the same time, one does, and the others are refused",
            &[VOLUME],
            one_volume,
        ),
        Check::new(
            "together::changes_of_one_vm_leave_it_whole",
            "changes of one VM at the same time are done or refused; afterwards it can be used as before",
            &[RUN],
            one_vms_power,
        ),
    ]
}

/// Waits for all; the first failure ends the check.
async fn all<T: 'static>(mut tasks: JoinSet<Verdict<T>>) -> Verdict<Vec<T>> {
    let mut results = Vec::new();
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok(result) => results.push(result?),
            Err(error) => return Err(Stop::Failed(format!("the backend panicked: {error}"))),
        }
    }
    Ok(results)
}

async fn life(bench: Arc<Bench>) -> Verdict<(VmRef, VmFacts)> {
    let vm = bench.running().await?;
    let facts = bench.get(&vm).await?;
    bench.expect_state(&vm, PowerState::Running, "start").await?;
    Ok((vm, facts))
}

async fn many_vms(bench: Arc<Bench>) -> Verdict {
    let mut tasks = JoinSet::new();
    for _ in 0..bench.config.together {
        tasks.spawn(life(Arc::clone(&bench)));
    }
    let lives = all(tasks).await?;
    let listed = bench.list().await?;
    for (vm, _) in &lives {
        let count = listed.iter().filter(|facts| facts.id == vm.id).count();
        ensure!(count == 1, "one of many VMs is listed {count} times");
    }
    let distinct = |what: &str, values: Vec<String>| -> Verdict {
        let different: BTreeSet<_> = values.iter().collect();
        ensure!(
            different.len() == values.len(),
            "two of many VMs have the same {what}"
        );
        Ok(())
    };
    distinct("key", lives.iter().map(|(vm, _)| vm.native.clone()).collect())?;
    let macs = lives.iter().flat_map(|(_, facts)| facts.nics.iter());
    distinct("MAC address", macs.map(|nic| nic.mac.clone()).collect())?;
    let mut ends = JoinSet::new();
    for (vm, _) in lives {
        let bench = Arc::clone(&bench);
        ends.spawn(async move {
            bench
                .power(&vm, PowerAction::ForceOff)
                .await
                .during("forcing one of many VMs off")?;
            bench
                .backend
                .undefine(&bench.call(), &vm)
                .await
                .during("undefining one of many VMs")?;
            ensure!(
                bench.find(&vm).await?.is_none(),
                "one of many VMs is there after it was undefined"
            );
            Ok(())
        });
    }
    all(ends).await.map(drop)
}

async fn many_volumes(bench: Arc<Bench>) -> Verdict {
    let mut tasks = JoinSet::new();
    for number in 1..=bench.config.together as u64 {
        let bench = Arc::clone(&bench);
        tasks.spawn(async move {
            let asked = VolumeSpec {
                capacity: bench.config.volume * number,
                ..bench.blank()?
            };
            let made = bench
                .create_volume(&bench.call(), &asked)
                .await
                .during("making one of many volumes")?;
            ensure!(
                made.name == asked.name && bench.config.fits(asked.capacity, made.capacity),
                "asked for {:?} of {} bytes, got {:?} of {}",
                asked.name,
                asked.capacity,
                made.name,
                made.capacity
            );
            bench
                .delete_volume(&asked)
                .await
                .during("deleting one of many volumes")
        });
    }
    all(tasks).await.map(drop)
}

/// One of several calls must have been done, the others refused.
fn one_of(answers: &[Option<Error>], what: &str) -> Verdict {
    let done = answers.iter().filter(|answer| answer.is_none()).count();
    ensure!(done == 1, "{done} of {} jobs {what}", answers.len());
    for error in answers.iter().flatten() {
        ensure!(
            IN_THE_WAY.contains(&error.kind),
            "a job that came too late was answered with {}",
            words(error)
        );
    }
    Ok(())
}

async fn one_vm(bench: Arc<Bench>) -> Verdict {
    let vm = VmId::random();
    let mut tasks = JoinSet::new();
    for number in 0..4_u32 {
        let bench = Arc::clone(&bench);
        let sound = bench.spec(bench.name("race"), Vec::new());
        let asked = VmSpec {
            vcpus: sound.vcpus + number,
            ..sound
        };
        tasks.spawn(async move {
            let call = bench.call();
            let answer = bench.define(&call, vm, &asked, &[], None).await;
            Ok((call, asked, answer.err()))
        });
    }
    let races: Vec<(CallContext, VmSpec, Option<Error>)> = all(tasks).await?;
    let answers: Vec<_> = races.iter().map(|(_, _, answer)| answer.clone()).collect();
    one_of(&answers, "defined the same VM id")?;
    let listed = bench.list().await?;
    let Some(facts) = listed.iter().find(|facts| facts.id == vm) else {
        return fail("a VM that one of several jobs defined is not listed");
    };
    for (call, asked, answer) in races {
        if answer.is_none() {
            ensure!(
                facts.made_by == call.job && facts.name == asked.name && facts.cpu.max == asked.vcpus,
                "the VM is not the one of the job that was told to have made it"
            );
        }
    }
    Ok(())
}

async fn one_volume(bench: Arc<Bench>) -> Verdict {
    let asked = bench.blank()?;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (bench, asked) = (Arc::clone(&bench), asked.clone());
        tasks.spawn(async move { Ok(bench.create_volume(&bench.call(), &asked).await.err()) });
    }
    let answers = all(tasks).await?;
    one_of(&answers, "made the same volume")?;
    ensure!(
        bench.name_is_taken(&asked).await?,
        "a volume that one of several jobs made is not there"
    );
    Ok(())
}

async fn one_vms_power(bench: Arc<Bench>) -> Verdict {
    let vm = bench.running().await?;
    let mut actions = vec![PowerAction::Start, PowerAction::ForceOff];
    if bench.has(Capability::PowerSuspend) {
        actions.push(PowerAction::Suspend);
    }
    if bench.has(Capability::PowerResume) {
        actions.push(PowerAction::Resume);
    }
    for _ in 0..3 {
        let mut tasks = JoinSet::new();
        for action in actions.iter().copied().cycle().take(8) {
            let (bench, vm) = (Arc::clone(&bench), vm.clone());
            tasks.spawn(async move {
                match bench.power(&vm, action).await {
                    Ok(()) => Ok(()),
                    Err(error) if IN_THE_WAY.contains(&error.kind) => Ok(()),
                    // A guest that is switched off while it comes up ends in whatever words its hypervisor has.
                    Err(error) if action == PowerAction::Start && error.kind == ErrorKind::Internal => Ok(()),
                    Err(error) => fail(format!(
                        "{} among other changes of the same VM was answered with {}",
                        action.as_ref(),
                        words(&error)
                    )),
                }
            });
        }
        all(tasks).await?;
    }
    let state = bench.state(&vm).await?;
    let settled = matches!(state, PowerState::Off | PowerState::Running | PowerState::Paused);
    ensure!(
        settled,
        "after changes at the same time the VM is {}",
        state.as_ref()
    );
    for (action, reached) in [
        (PowerAction::ForceOff, PowerState::Off),
        (PowerAction::Start, PowerState::Running),
        (PowerAction::ForceOff, PowerState::Off),
    ] {
        bench
            .power(&vm, action)
            .await
            .during(&format!("{} after changes at the same time", action.as_ref()))?;
        bench.expect_state(&vm, reached, action.as_ref()).await?;
    }
    Ok(())
}
