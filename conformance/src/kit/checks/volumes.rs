//! Volumes: what was asked for is what is there, once, and only for who made it.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{PoolId, Volume, VolumeFormat, VolumeSource, VolumeSpec};

use super::{Check, VOLUME, Want};
use crate::kit::bench::Bench;
use crate::kit::verdict::{During as _, Verdict, ensure, refused};

const COPY: &[Capability] = &[Capability::VolumeCopy];
const LAYER: &[Capability] = &[Capability::VolumeLayer];
const TOPOLOGY: &[Capability] = &[Capability::TopologyList];

/// Names that are refused or kept as they are, never read as a path, an option or a format.
pub(super) const HOSTILE: [&str; 9] = [
    "../kit-up",
    "kit/down",
    "kit\nline",
    "-kit-option",
    "kit <a href=\"x\">&amp;'",
    "kit-%s%n${IFS}`id`",
    "kit-ünïcode-名",
    "kit\u{7f}delete",
    ".",
];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "volume::blank_is_as_asked",
            "an empty volume has the name, pool, layout and size that were asked for, and carries its job",
            &[VOLUME],
            blank_is_as_asked,
        ),
        Check::new(
            "volume::copy_and_layer_are_as_large_as_the_image_or_larger",
            "size 0 means the image's, a larger one is honoured",
            &[VOLUME, COPY],
            copies_grow,
        )
        .wants(&[Want::Image]),
        Check::new(
            "volume::layer_is_as_large_as_the_image_or_larger",
            "size 0 means the image's, a larger one is honoured; a layer is qcow2",
            &[VOLUME, LAYER],
            layers_grow,
        )
        .wants(&[Want::Image]),
        Check::new(
            "volume::ten_tries_of_one_job_are_one_volume",
            "a call for the same job that finds its own volume returns that volume",
            &[VOLUME],
            ten_tries,
        ),
        Check::new(
            "volume::ten_tries_of_one_job_are_one_copy",
            "a copy or layer that the same job made before is returned, whole",
            &[VOLUME, COPY],
            ten_copies,
        )
        .wants(&[Want::Image]),
        Check::new(
            "volume::another_jobs_name_is_taken",
            "a volume of the same name made by anybody else is AlreadyExists, and stays as it is",
            &[VOLUME],
            taken,
        ),
        Check::new(
            "volume::another_jobs_second_try_is_refused",
            "a job's second try does not take another job's volume for its own",
            &[VOLUME],
            taken_at_second_try,
        )
        .wants(&[Want::MarkedVolumes]),
        Check::new(
            "volume::deleted_ten_times_is_deleted_once",
            "deleting an absent volume is success, in an absent pool, too; the name is free afterwards",
            &[VOLUME],
            deleted,
        ),
        Check::new(
            "volume::only_the_named_volume_is_deleted",
            "deleting a volume leaves all others",
            &[VOLUME],
            only_the_named,
        ),
        Check::new(
            "volume::hostile_names_are_refused_or_kept",
            "a name is refused, or it is the volume's name; it is never a path, an option or a pattern",
            &[VOLUME],
            hostile_names,
        ),
        Check::new(
            "volume::impossible_ones_leave_nothing",
            "an absent pool, an absent image, an empty name are refused with the right kind, without an effect",
            &[VOLUME],
            impossible,
        ),
        Check::new(
            "volume::a_full_pool_refuses",
            "a volume that is larger than the room in its pool is NoResources",
            &[VOLUME],
            no_room,
        )
        .wants(&[Want::ReservingPool]),
        Check::new(
            "volume::room_comes_back",
            "what a volume takes from its pool is free again once it is deleted",
            &[VOLUME, TOPOLOGY],
            room_comes_back,
        )
        .wants(&[Want::ReservingPool]),
    ]
}

/// Compares a volume with what was asked for.
fn compare(bench: &Bench, asked: &VolumeSpec, made: &Volume) -> Verdict {
    ensure!(
        made.name == asked.name,
        "asked for the name {:?}, got {:?}",
        asked.name,
        made.name
    );
    ensure!(
        made.format == asked.format,
        "asked for {}, got {}",
        asked.format.as_ref(),
        made.format.as_ref()
    );
    ensure!(
        asked.capacity == 0 || bench.config.fits(asked.capacity, made.capacity),
        "asked for {} bytes, got {}",
        asked.capacity,
        made.capacity
    );
    ensure!(made.capacity > 0, "a volume of 0 bytes was made");
    ensure!(
        made.backend == *bench.backend.id(),
        "the volume says that it is on backend {}",
        made.backend
    );
    ensure!(
        made.pool == PoolId::computed(bench.backend.id(), &asked.pool),
        "the volume's pool is not the one that was asked for"
    );
    ensure!(!made.native.is_empty(), "the volume has no key of its own");
    Ok(())
}

async fn blank_is_as_asked(bench: Arc<Bench>) -> Verdict {
    for format in &bench.config.formats {
        for factor in [1, 3] {
            let call = bench.call();
            let asked = VolumeSpec {
                format: *format,
                capacity: bench.config.volume * factor,
                ..bench.blank()?
            };
            let made = bench
                .create_volume(&call, &asked)
                .await
                .during("making an empty volume")?;
            compare(&bench, &asked, &made)?;
            if bench.config.volumes_carry_jobs {
                ensure!(
                    made.made_by == call.job,
                    "the volume does not carry the id of its job"
                );
            }
        }
    }
    Ok(())
}

async fn grows(bench: &Bench, asked: VolumeSpec) -> Verdict {
    let image = bench
        .create_volume(&bench.call(), &asked)
        .await
        .during("making a volume as large as its image")?;
    compare(bench, &asked, &image)?;
    let larger = VolumeSpec {
        name: bench.name("larger"),
        capacity: image.capacity + (64 << 20),
        ..asked
    };
    let made = bench
        .create_volume(&bench.call(), &larger)
        .await
        .during("making a volume larger than its image")?;
    compare(bench, &larger, &made)
}

async fn copies_grow(bench: Arc<Bench>) -> Verdict {
    grows(&bench, bench.copy()?).await
}

async fn layers_grow(bench: Arc<Bench>) -> Verdict {
    grows(&bench, bench.layer()?).await?;
    let raw = VolumeSpec {
        format: VolumeFormat::Raw,
        ..bench.layer()?
    };
    let answer = bench.create_volume(&bench.call(), &raw).await;
    refused(
        answer,
        &[ErrorKind::InvalidInput, ErrorKind::Unsupported],
        "a layer in the layout raw",
    )?;
    Ok(())
}

/// The same job asks again and again.
async fn same_again(bench: &Bench, asked: &VolumeSpec, times: usize) -> Verdict {
    let call = bench.call();
    let first = bench
        .create_volume(&call, asked)
        .await
        .during("making a volume")?;
    let again = bench.again(&call);
    for time in 2..=times {
        let answer = bench.create_volume(&bench.again(&again), asked).await;
        let made = answer.during(&format!("try {time} of the job that made a volume"))?;
        ensure!(
            (&made.id, &made.native, made.capacity) == (&first.id, &first.native, first.capacity),
            "try {time} got another volume: {} of {} bytes instead of {} of {} bytes",
            made.native,
            made.capacity,
            first.native,
            first.capacity
        );
    }
    bench.delete_volume(asked).await.during("deleting a volume")?;
    ensure!(
        !bench.name_is_taken(asked).await?,
        "several tries made several volumes: one is deleted, and the name is still taken"
    );
    Ok(())
}

async fn ten_tries(bench: Arc<Bench>) -> Verdict {
    same_again(&bench, &bench.blank()?, bench.config.repeats).await
}

async fn ten_copies(bench: Arc<Bench>) -> Verdict {
    same_again(&bench, &bench.copy()?, bench.config.repeats).await?;
    if bench.has(Capability::VolumeLayer) {
        same_again(&bench, &bench.layer()?, bench.config.repeats).await?;
    }
    Ok(())
}

async fn taken(bench: Arc<Bench>) -> Verdict {
    let asked = bench.blank()?;
    let first = bench
        .create_volume(&bench.call(), &asked)
        .await
        .during("making a volume")?;
    for _ in 0..bench.config.repeats {
        let answer = bench.create_volume(&bench.call(), &asked).await;
        refused(answer, &[ErrorKind::AlreadyExists], "another job's volume name")?;
    }
    let nobody = babelvisor_core::backend::CallContext {
        job: None,
        ..bench.call()
    };
    let answer = bench.create_volume(&nobody, &asked).await;
    refused(
        answer,
        &[ErrorKind::AlreadyExists],
        "a taken volume name, asked for without a job",
    )?;
    ensure!(first.name == asked.name, "the volume has another name");
    ensure!(
        bench.name_is_taken(&asked).await?,
        "another job's refused call removed the volume"
    );
    Ok(())
}

async fn taken_at_second_try(bench: Arc<Bench>) -> Verdict {
    let asked = bench.blank()?;
    bench
        .create_volume(&bench.call(), &asked)
        .await
        .during("making a volume")?;
    let second = bench.again(&bench.call());
    let answer = bench.create_volume(&second, &asked).await;
    refused(
        answer,
        &[ErrorKind::AlreadyExists],
        "another job's volume name, at a second try",
    )?;
    Ok(())
}

async fn deleted(bench: Arc<Bench>) -> Verdict {
    let asked = bench.blank()?;
    bench
        .create_volume(&bench.call(), &asked)
        .await
        .during("making a volume")?;
    for time in 1..=bench.config.repeats {
        bench
            .delete_volume(&asked)
            .await
            .during(&format!("deleting a volume for the {time}. time"))?;
    }
    ensure!(
        !bench.name_is_taken(&asked).await?,
        "a volume is still there after it was deleted"
    );
    let nowhere = bench
        .backend
        .delete_volume(&bench.call(), &bench.name("no-pool"), &asked.name)
        .await;
    nowhere.during("deleting a volume of a pool that does not exist")
}

async fn only_the_named(bench: Arc<Bench>) -> Verdict {
    let stem = bench.name("several");
    let mut all = Vec::new();
    for ending in ["", "-1", "-11", "-2"] {
        let asked = VolumeSpec {
            name: format!("{stem}{ending}"),
            ..bench.blank()?
        };
        bench
            .create_volume(&bench.call(), &asked)
            .await
            .during("making a volume")?;
        all.push(asked);
    }
    let gone = format!("{stem}-1");
    for asked in all.iter().filter(|asked| asked.name == gone) {
        bench.delete_volume(asked).await.during("deleting a volume")?;
    }
    for asked in &all {
        ensure!(
            bench.name_is_taken(asked).await? == (asked.name != gone),
            "deleting the volume {gone} was also felt by {}",
            asked.name
        );
    }
    Ok(())
}

async fn hostile_names(bench: Arc<Bench>) -> Verdict {
    let long = "k".repeat(4096);
    for name in HOSTILE.iter().copied().chain([long.as_str()]) {
        let asked = VolumeSpec {
            name: if name.len() > 1 && name.len() < 4096 {
                format!("{name}-{}", bench.tag)
            } else {
                name.to_owned()
            },
            ..bench.blank()?
        };
        match bench.create_volume(&bench.call(), &asked).await {
            Ok(made) => {
                ensure!(
                    made.name == asked.name,
                    "the name {name:?} was taken, and became {:?}",
                    made.name
                );
                bench
                    .delete_volume(&asked)
                    .await
                    .during(&format!("deleting the volume named {name:?}"))?;
            }
            answer @ Err(_) => {
                refused(
                    answer,
                    &[ErrorKind::InvalidInput],
                    &format!("the volume name {name:?}"),
                )?;
            }
        }
    }
    for name in ["", "kit\0null"] {
        let asked = VolumeSpec {
            name: name.to_owned(),
            ..bench.blank()?
        };
        let answer = bench.create_volume(&bench.call(), &asked).await;
        refused(
            answer,
            &[ErrorKind::InvalidInput],
            &format!("the volume name {name:?}"),
        )?;
    }
    Ok(())
}

async fn impossible(bench: Arc<Bench>) -> Verdict {
    let elsewhere = VolumeSpec {
        pool: bench.name("no-pool"),
        ..bench.blank()?
    };
    let answer = bench.create_volume(&bench.call(), &elsewhere).await;
    refused(
        answer,
        &[ErrorKind::NotFound, ErrorKind::InvalidInput],
        "a volume in a pool that does not exist",
    )?;
    let (image, format) = (
        format!("{}/{}", bench.pool()?, bench.name("no-image")),
        VolumeFormat::Qcow2,
    );
    let sources = [
        (
            Capability::VolumeCopy,
            VolumeSource::Copy {
                image: image.clone(),
                format,
            },
        ),
        (Capability::VolumeLayer, VolumeSource::Layer { image, format }),
    ];
    for (capability, source) in sources {
        if !bench.has(capability) {
            continue;
        }
        let asked = VolumeSpec {
            source,
            format,
            ..bench.blank()?
        };
        let answer = bench.create_volume(&bench.call(), &asked).await;
        refused(
            answer,
            &[ErrorKind::NotFound, ErrorKind::InvalidInput],
            "a volume from an image that does not exist",
        )?;
        ensure!(
            !bench.name_is_taken(&asked).await?,
            "a volume whose image does not exist was refused, and is there"
        );
    }
    Ok(())
}

async fn no_room(bench: Arc<Bench>) -> Verdict {
    let asked = VolumeSpec {
        capacity: 1 << 62,
        ..bench.blank()?
    };
    let answer = bench.create_volume(&bench.call(), &asked).await;
    refused(answer, &[ErrorKind::NoResources], "a volume of 4 EiB")?;
    ensure!(
        !bench.name_is_taken(&asked).await?,
        "a volume that has no room was refused, and is there"
    );
    Ok(())
}

async fn room_comes_back(bench: Arc<Bench>) -> Verdict {
    // Other checks use the same pool: what is looked at is far larger than what they make.
    let topology = bench
        .backend
        .topology(&bench.call())
        .await
        .during("reading the topology")?;
    let name = bench.pool()?;
    let Some(pool) = topology.pools.iter().find(|pool| pool.name == name) else {
        return crate::kit::verdict::fail(format!("pool {name} is not in the topology"));
    };
    let asked = VolumeSpec {
        capacity: pool.available / 2 + pool.available / 8,
        ..bench.blank()?
    };
    for time in 1..=3 {
        bench.create_volume(&bench.call(), &asked).await.during(&format!(
            "filling more than half of the pool for the {time}. time"
        ))?;
        bench
            .delete_volume(&asked)
            .await
            .during("deleting a large volume")?;
    }
    Ok(())
}
