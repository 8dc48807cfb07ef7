//! Volumes that grow, that are looked at, and that are filled from outside.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use babelvisor_core::backend::{ByteStream, CallContext};
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{PoolVolume, VmChange, Volume, VolumeFormat, VolumeSpec};
use babelvisor_core::{ErrorKind, Result};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Check, RUN, VOLUME};
use crate::kit::bench::Bench;
use crate::kit::equipment::OCCASIONS;
use crate::kit::verdict::{During as _, Verdict, ensure, fail, refused};

const RESIZE: &[Capability] = &[Capability::VolumeResize];
const UPLOAD: &[Capability] = &[Capability::VolumeUpload];
const ATTACH: &[Capability] = &[Capability::DiskAttach];

/// What is uploaded.
const SIZE: u64 = 300 << 10;

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "volume::is_found_as_it_was_made",
            "a look at a volume gives what its making gave; an absent one is none",
            &[VOLUME],
            looked_at,
        ),
        Check::new(
            "volume::grows_and_never_shrinks",
            "a volume becomes as large as asked, in every layout; larger already is success and leaves its size",
            &[VOLUME, RESIZE],
            grows,
        ),
        Check::new(
            "volume::an_attached_one_grows_for_its_vm",
            "a volume that a VM has grows, running or off, and the VM sees the new size",
            &[RUN, VOLUME, ATTACH, RESIZE],
            attached_grows,
        ),
        Check::new(
            "volume::an_upload_keeps_its_size",
            "an uploaded volume is as large as what was sent; the same job's second try is success, another's AlreadyExists",
            &[VOLUME, UPLOAD],
            uploaded,
        ),
        Check::new(
            "volume::an_upload_of_another_size_leaves_nothing",
            "a stream that is too short, too long or broken off is refused, and there is no volume",
            &[VOLUME, UPLOAD],
            broken_off,
        ),
    ]
}

async fn look(bench: &Bench, spec: &VolumeSpec) -> Verdict<Option<Volume>> {
    let place = PoolVolume {
        pool: spec.pool.clone(),
        name: spec.name.clone(),
    };
    bench
        .backend
        .volume(&bench.call(), &place)
        .await
        .during("looking at a volume")
}

async fn looked_at(bench: Arc<Bench>) -> Verdict {
    for format in bench.config.formats.clone() {
        let asked = VolumeSpec {
            format,
            ..bench.blank()?
        };
        let before = look(&bench, &asked).await?;
        ensure!(
            before.is_none(),
            "a volume is found that was never made: {before:?}"
        );
        let made = bench
            .create_volume(&bench.call(), &asked)
            .await
            .during("making a volume")?;
        let found = look(&bench, &asked).await?;
        let key = |volume: &Volume| {
            (
                volume.id,
                volume.pool,
                volume.native.clone(),
                volume.name.clone(),
                volume.format,
                volume.capacity,
            )
        };
        ensure!(
            found.as_ref().map(key) == Some(key(&made)),
            "a volume was made as {made:?} and is found as {found:?}"
        );
        bench.delete_volume(&asked).await.during("deleting a volume")?;
        ensure!(look(&bench, &asked).await?.is_none(), "a deleted volume is found");
    }
    Ok(())
}

async fn resize(bench: &Bench, spec: &VolumeSpec, capacity: u64) -> Result<Volume> {
    let place = PoolVolume {
        pool: spec.pool.clone(),
        name: spec.name.clone(),
    };
    bench
        .backend
        .resize_volume(&bench.call(), &place, None, capacity)
        .await
}

async fn grows(bench: Arc<Bench>) -> Verdict {
    for format in bench.config.formats.clone() {
        let asked = VolumeSpec {
            format,
            ..bench.blank()?
        };
        bench
            .create_volume(&bench.call(), &asked)
            .await
            .during("making a volume")?;
        let (small, large) = (asked.capacity, asked.capacity * 2);
        for (capacity, wanted) in [
            (small, small),
            (large, large),
            (large, large),
            (small, large),
            (1, large),
        ] {
            let made = resize(&bench, &asked, capacity).await.during(&format!(
                "resizing a {} volume to {capacity} bytes",
                format.as_ref()
            ))?;
            let found = look(&bench, &asked).await?;
            for capacity in [Some(made.capacity), found.map(|found| found.capacity)] {
                ensure!(
                    capacity.is_some_and(|capacity| bench.config.fits(wanted, capacity)),
                    "a {} volume that shall have {wanted} bytes has {capacity:?}",
                    format.as_ref()
                );
            }
        }
    }
    let absent = resize(&bench, &bench.blank()?, bench.config.volume).await;
    refused(
        absent,
        &[ErrorKind::NotFound],
        "resizing a volume that does not exist",
    )?;
    Ok(())
}

async fn attached_grows(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let disk = bench.loose().await?;
    let attach = VmChange::AttachDisk(disk.attachment());
    bench.must(&vm, &attach, "plugging a volume in").await?;
    let mut capacity = bench.config.volume;
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        capacity *= 2;
        let made = bench
            .backend
            .resize_volume(&bench.call(), &disk.place(), Some(&vm), capacity)
            .await
            .during(&format!("resizing a volume whose VM is {}", state.as_ref()))?;
        let facts = bench.get(&vm).await?;
        let seen = disk.there(&facts, "resizing it")?.capacity;
        ensure!(
            bench.config.fits(capacity, made.capacity) && bench.config.fits(capacity, seen),
            "a volume was resized to {capacity} bytes, says {} and is seen as {seen} by a VM that is {}",
            made.capacity,
            state.as_ref()
        );
    }
    Ok(())
}

/// A volume to be filled with [`SIZE`] bytes.
fn to_fill(bench: &Bench) -> Verdict<VolumeSpec> {
    let spec = VolumeSpec {
        capacity: SIZE,
        format: VolumeFormat::Raw,
        ..bench.blank()?
    };
    bench.owns_volume(&spec.pool, &spec.name);
    Ok(spec)
}

/// So many bytes, and then the end.
fn bytes(count: u64) -> ByteStream {
    let count = usize::try_from(count).unwrap_or(0);
    Box::pin(io::Cursor::new(vec![0xa5_u8; count]))
}

/// Some bytes, and then a fault.
struct Broken(bool);

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Err(io::Error::other("the kit broke the stream off")));
        }
        buffer.put_slice(&[0xa5; 512]);
        Poll::Ready(Ok(()))
    }
}

async fn upload(bench: &Bench, call: &CallContext, spec: &VolumeSpec, bytes: ByteStream) -> Result<Volume> {
    bench.backend.upload_volume(call, spec, bytes).await
}

async fn uploaded(bench: Arc<Bench>) -> Verdict {
    let (spec, call) = (to_fill(&bench)?, bench.call());
    for time in 1..=2 {
        let call = if time == 1 {
            call.clone()
        } else {
            bench.again(&call)
        };
        let made = upload(&bench, &call, &spec, bytes(SIZE))
            .await
            .during(&format!("try {time} of an upload"))?;
        for volume in [Some(made), look(&bench, &spec).await?] {
            let Some(volume) = volume else {
                return fail("an uploaded volume is not found");
            };
            ensure!(
                volume.name == spec.name
                    && volume.format == spec.format
                    && bench.config.fits(SIZE, volume.capacity),
                "{SIZE} bytes were uploaded as {:?}, and the volume is {volume:?}",
                spec.name
            );
        }
    }
    let other = upload(&bench, &bench.call(), &spec, bytes(SIZE)).await;
    refused(
        other,
        &[ErrorKind::AlreadyExists],
        "uploading over another job's volume",
    )?;
    ensure!(
        bench.name_is_taken(&spec).await?,
        "an uploaded volume is gone after another job wanted its name"
    );
    Ok(())
}

async fn broken_off(bench: Arc<Bench>) -> Verdict {
    let streams: [(&str, ByteStream); 4] = [
        ("too short", bytes(SIZE - 1)),
        ("empty", bytes(0)),
        ("too long", bytes(SIZE + 1)),
        ("broken off", Box::pin(Broken(false))),
    ];
    for (word, stream) in streams {
        let spec = to_fill(&bench)?;
        if upload(&bench, &bench.call(), &spec, stream).await.is_ok() {
            return fail(format!("an upload that is {word} was taken"));
        }
        ensure!(
            look(&bench, &spec).await?.is_none(),
            "an upload that is {word} left a volume"
        );
    }
    Ok(())
}
