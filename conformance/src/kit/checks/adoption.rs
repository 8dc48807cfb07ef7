//! Crash adoption: a call that was cut off between its effect and its record is made again by the same job, and
//! finds what it made. Here the cut is a dropped future, at several moments.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use babelvisor_core::backend::{CallContext, HandleKeeper};
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmId, VolumeSpec};
use babelvisor_core::{ErrorKind, Result};

use super::{Check, RUN, VM, VOLUME, Want};
use crate::kit::bench::{Bench, lasting, refer};
use crate::kit::verdict::{During as _, Stop, Verdict, ensure, fail, words};

/// When calls are cut off, counted from their beginning: at their first wait, and a little later.
const CUTS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(15),
];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "adoption::a_cut_off_volume_is_whole_at_the_second_try",
            "a volume whose making was cut off is there, once and whole, after the same job tried again",
            &[VOLUME],
            volumes,
        ),
        Check::new(
            "adoption::a_cut_off_copy_is_whole_at_the_second_try",
            "a copy whose making was cut off is there, once and whole, after the same job tried again",
            &[VOLUME, &[Capability::VolumeCopy]],
            copies,
        )
        .wants(&[Want::Image]),
        Check::new(
            "adoption::a_cut_off_seed_is_whole_at_the_second_try",
            "first-boot set-up whose preparation was cut off is there, once, after the same job tried again",
            &[VOLUME, &[Capability::GuestSetup]],
            seeds,
        ),
        Check::new(
            "adoption::a_cut_off_definition_is_one_vm",
            "a VM whose definition was cut off is there, once, after the same job tried again",
            &[VM],
            definitions,
        ),
        Check::new(
            "adoption::a_cut_off_power_change_arrives",
            "a power change that was cut off reaches its state when it is tried again",
            &[RUN],
            power,
        ),
        Check::new(
            "adoption::a_cut_off_removal_is_finished",
            "removals that were cut off are finished when they are tried again",
            &[VM, VOLUME],
            removals,
        ),
        Check::new(
            "adoption::a_call_that_ran_out_of_time_can_be_made_again",
            "a call returns at its deadline, done or with Timeout; the same job's next try succeeds",
            &[VM, VOLUME],
            out_of_time,
        ),
        Check::new(
            "adoption::a_kept_handle_is_adopted",
            "a backend that hands out task handles adopts the task of a handle that was kept",
            &[VOLUME],
            handles,
        ),
    ]
}

/// Begins a call and drops it after `cut`, unless it is faster.
async fn cut_off<T>(call: impl Future<Output = T>, cut: Duration) {
    // Whether it had ended is not known to a process that was killed, either.
    let _ = tokio::time::timeout(cut, call).await;
}

async fn second_try(bench: &Bench, asked: &VolumeSpec, cut: Duration) -> Verdict {
    let call = bench.call();
    cut_off(bench.create_volume(&call, asked), cut).await;
    let again = bench.again(&call);
    let made = bench.create_volume(&again, asked).await.during(&format!(
        "the second try of a job whose volume was cut off after {cut:?}"
    ))?;
    ensure!(
        made.name == asked.name && made.format == asked.format,
        "the second try made {:?} in another layout or under another name",
        made.name
    );
    ensure!(
        asked.capacity == 0 || bench.config.fits(asked.capacity, made.capacity),
        "asked for {} bytes, the second try made {}",
        asked.capacity,
        made.capacity
    );
    bench.delete_volume(asked).await.during("deleting a volume")?;
    ensure!(
        !bench.name_is_taken(asked).await?,
        "two tries of one job left two volumes"
    );
    Ok(())
}

async fn volumes(bench: Arc<Bench>) -> Verdict {
    for cut in CUTS {
        second_try(&bench, &bench.blank()?, cut).await?;
    }
    Ok(())
}

async fn copies(bench: Arc<Bench>) -> Verdict {
    for cut in CUTS {
        second_try(&bench, &bench.copy()?, cut).await?;
        if bench.has(Capability::VolumeLayer) {
            second_try(&bench, &bench.layer()?, cut).await?;
        }
    }
    Ok(())
}

async fn seeds(bench: Arc<Bench>) -> Verdict {
    let setup = bench.setup("Made-up 6")?;
    for cut in CUTS {
        let (vm, call) = (VmId::random(), bench.call());
        let spec = bench.blank()?;
        bench.owns_volume(&spec.pool, &spec.name);
        let first = bench
            .backend
            .create_seed(&call, vm, &spec.pool, &spec.name, &setup);
        cut_off(first, cut).await;
        bench
            .backend
            .create_seed(&bench.again(&call), vm, &spec.pool, &spec.name, &setup)
            .await
            .during(&format!(
                "the second try of a job whose seed was cut off after {cut:?}"
            ))?;
        bench.delete_volume(&spec).await.during("deleting a seed")?;
    }
    Ok(())
}

async fn definitions(bench: Arc<Bench>) -> Verdict {
    for cut in CUTS {
        let (vm, call) = (VmId::random(), bench.call());
        let asked = bench.spec(bench.name("cut"), Vec::new());
        cut_off(bench.define(&call, vm, &asked, &[], None), cut).await;
        let made = bench
            .define(&bench.again(&call), vm, &asked, &[], None)
            .await
            .during(&format!(
                "the second try of a job whose definition was cut off after {cut:?}"
            ))?;
        ensure!(
            made.id == vm && made.made_by == call.job,
            "the second try adopted another VM"
        );
        let all = bench.list().await?;
        let count = all.iter().filter(|facts| facts.name == asked.name).count();
        ensure!(count == 1, "two tries of one job made {count} VMs");
        let read = bench.get(&refer(&made)).await?;
        ensure!(
            lasting(&read) == lasting(&made),
            "the adopted VM is not as it is reported"
        );
    }
    Ok(())
}

async fn power(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    for cut in CUTS {
        for (action, state) in [
            (PowerAction::Start, PowerState::Running),
            (PowerAction::ForceOff, PowerState::Off),
        ] {
            let call = bench.call();
            cut_off(bench.backend.power(&call, &vm, action), cut).await;
            let word = action.as_ref().replace('_', " ");
            bench
                .backend
                .power(&bench.again(&call), &vm, action)
                .await
                .during(&format!(
                    "the second try of {word} that was cut off after {cut:?}"
                ))?;
            bench.expect_state(&vm, state, &word).await?;
        }
    }
    Ok(())
}

async fn removals(bench: Arc<Bench>) -> Verdict {
    for cut in CUTS {
        let vm = bench.off().await?;
        let call = bench.call();
        cut_off(bench.backend.undefine(&call, &vm), cut).await;
        bench
            .backend
            .undefine(&bench.again(&call), &vm)
            .await
            .during("the second try of an undefine that was cut off")?;
        ensure!(
            bench.find(&vm).await?.is_none(),
            "a VM is there after two tries to undefine it"
        );

        let asked = bench.blank()?;
        bench
            .create_volume(&bench.call(), &asked)
            .await
            .during("making a volume")?;
        let call = bench.call();
        cut_off(bench.backend.delete_volume(&call, &asked.pool, &asked.name), cut).await;
        bench
            .backend
            .delete_volume(&bench.again(&call), &asked.pool, &asked.name)
            .await
            .during("the second try to delete a volume that was cut off")?;
        ensure!(
            !bench.name_is_taken(&asked).await?,
            "a volume is there after two tries to delete it"
        );
    }
    Ok(())
}

/// Makes a call with very little time.
fn hasty(bench: &Bench, time: Duration) -> CallContext {
    CallContext {
        deadline: Instant::now() + time,
        ..bench.call()
    }
}

/// The answer of a hasty call: done, or out of time (or still in line behind others), and not late.
fn in_time<T>(bench: &Bench, answer: Result<T>, call: &CallContext, what: &str) -> Verdict {
    let late = Instant::now().saturating_duration_since(call.deadline);
    ensure!(
        late <= Duration::from_millis(bench.config.bounds.grace),
        "{what} returned {late:?} after its deadline"
    );
    match answer {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind, ErrorKind::Timeout | ErrorKind::Busy) => Ok(()),
        Err(error) => fail(format!(
            "{what}, with hardly any time, was answered with {}",
            words(&error)
        )),
    }
}

async fn out_of_time(bench: Arc<Bench>) -> Verdict {
    for cut in CUTS {
        let mut wanted = vec![bench.blank()?];
        if bench.has(Capability::VolumeCopy) && bench.config.image.is_some() {
            wanted.push(bench.copy()?);
        }
        for asked in wanted {
            let call = hasty(&bench, cut);
            let answer = bench.create_volume(&call, &asked).await;
            in_time(&bench, answer, &call, "making a volume")?;
            let made = bench
                .create_volume(&bench.again(&call), &asked)
                .await
                .during("the second try to make a volume that ran out of time")?;
            ensure!(made.name == asked.name, "the second try made {:?}", made.name);
        }
        let (vm, call) = (VmId::random(), hasty(&bench, cut));
        let asked = bench.spec(bench.name("hasty"), Vec::new());
        let answer = bench.define(&call, vm, &asked, &[], None).await;
        in_time(&bench, answer, &call, "defining a VM")?;
        let made = bench
            .define(&bench.again(&call), vm, &asked, &[], None)
            .await
            .during("the second try to define a VM that ran out of time")?;
        ensure!(made.id == vm, "the second try made another VM");
    }
    Ok(())
}

/// Keeps handles as a job's journal does.
#[derive(Default)]
struct Journal(Mutex<Vec<String>>);

#[async_trait]
impl HandleKeeper for Journal {
    async fn keep(&self, handle: &str) -> Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(handle.to_owned());
        Ok(())
    }
}

async fn handles(bench: Arc<Bench>) -> Verdict {
    let journal = Arc::new(Journal::default());
    let call = CallContext {
        keeper: Some(Arc::clone(&journal) as Arc<dyn HandleKeeper>),
        ..bench.call()
    };
    let asked = bench.blank()?;
    let first = bench
        .create_volume(&call, &asked)
        .await
        .during("making a volume")?;
    let kept = journal.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let again = CallContext {
        // A handle of a task that this backend never started must do no harm, either.
        handle: Some(
            kept.last()
                .cloned()
                .unwrap_or_else(|| "kit-no-such-task".to_owned()),
        ),
        ..bench.again(&call)
    };
    let second = bench
        .create_volume(&again, &asked)
        .await
        .during("the second try of a job, with a handle")?;
    ensure!(
        second.native == first.native,
        "a kept handle led to another volume"
    );
    if kept.is_empty() {
        return Err(Stop::Skipped(
            "the backend keeps no handles: its calls are adopted by job alone".to_owned(),
        ));
    }
    Ok(())
}
