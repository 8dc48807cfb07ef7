//! First-boot set-up: a volume of its own, made once, put into an optical drive.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::CallContext;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{VmId, VolumeSpec};
use babelvisor_core::secret::Keyring;

use super::{Check, VM, VOLUME};
use crate::kit::bench::{Bench, refer};
use crate::kit::verdict::{During as _, Verdict, ensure, fail, refused};

const SETUP: &[Capability] = &[Capability::GuestSetup];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "guest::ten_tries_of_one_job_are_one_seed",
            "a call for the same job that finds its own seed returns it; another job's name is taken",
            &[VOLUME, SETUP],
            ten_tries,
        ),
        Check::new(
            "guest::the_seed_is_in_the_drive",
            "a seed that is handed to define is in an optical drive, and is no disk",
            &[VM, VOLUME, SETUP],
            in_the_drive,
        ),
        Check::new(
            "guest::a_password_that_cannot_be_opened_leaves_nothing",
            "set-up whose password is sealed with a key that is not there is refused, without an effect",
            &[VOLUME, SETUP],
            sealed,
        ),
    ]
}

fn place(bench: &Bench) -> Verdict<VolumeSpec> {
    let spec = VolumeSpec {
        name: format!("{}.img", bench.name("seed")),
        ..bench.blank()?
    };
    bench.owns_volume(&spec.pool, &spec.name);
    Ok(spec)
}

async fn ten_tries(bench: Arc<Bench>) -> Verdict {
    let (vm, call, spec) = (VmId::random(), bench.call(), place(&bench)?);
    let setup = bench.setup("Made-up 3")?;
    let make = |call: CallContext| {
        let (bench, setup, spec) = (Arc::clone(&bench), setup.clone(), spec.clone());
        async move {
            bench
                .backend
                .create_seed(&call, vm, &spec.pool, &spec.name, &setup)
                .await
        }
    };
    let first = make(call.clone()).await.during("preparing first-boot set-up")?;
    ensure!(
        first.name == spec.name,
        "the seed is named {:?}, not {:?}",
        first.name,
        spec.name
    );
    ensure!(first.capacity > 0, "the seed has 0 bytes");
    for time in 2..=bench.config.repeats {
        let again = make(bench.again(&call))
            .await
            .during(&format!("try {time} of the job that prepared first-boot set-up"))?;
        ensure!(
            (&again.id, &again.native) == (&first.id, &first.native),
            "try {time} got another seed: {}",
            again.native
        );
    }
    refused(
        make(bench.call()).await,
        &[ErrorKind::AlreadyExists],
        "another job's seed name",
    )?;
    bench.delete_volume(&spec).await.during("deleting a seed")?;
    ensure!(
        !bench.name_is_taken(&spec).await?,
        "a seed is still there after it was deleted"
    );
    Ok(())
}

async fn in_the_drive(bench: Arc<Bench>) -> Verdict {
    let (vm, call, spec) = (VmId::random(), bench.call(), place(&bench)?);
    let seed = bench
        .backend
        .create_seed(&call, vm, &spec.pool, &spec.name, &bench.setup("Made-up 4")?)
        .await
        .during("preparing first-boot set-up")?;
    let asked = bench.spec(bench.name("seeded"), Vec::new());
    let made = bench
        .define(&call, vm, &asked, &[], Some(&seed))
        .await
        .during("defining a VM with first-boot set-up")?;
    for facts in [&made, &bench.get(&refer(&made)).await?] {
        ensure!(
            facts.removable.iter().any(
                |medium| medium.kind == "cdrom" && medium.source.as_deref() == Some(seed.native.as_str())
            ),
            "the seed {} is in no optical drive: {:?}",
            seed.native,
            facts.removable
        );
        ensure!(facts.disks.is_empty(), "the seed is shown as a disk");
    }
    Ok(())
}

async fn sealed(bench: Arc<Bench>) -> Verdict {
    let spec = place(&bench)?;
    let setup = bench.setup("Made-up 5")?;
    let call = CallContext {
        keyring: Arc::new(Keyring::ephemeral()),
        ..bench.call()
    };
    let answer = bench
        .backend
        .create_seed(&call, VmId::random(), &spec.pool, &spec.name, &setup)
        .await;
    match answer {
        Ok(_) => return fail("set-up with a password that cannot be opened was prepared"),
        Err(error) => ensure!(
            !format!("{error:?}").contains("Made-up 5"),
            "the error shows the password"
        ),
    }
    ensure!(
        !bench.name_is_taken(&spec).await?,
        "set-up that was refused left a volume"
    );
    Ok(())
}
