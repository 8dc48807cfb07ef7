//! How far a long copy has come: libvirt only says when it is done.

use std::time::{Duration, Instant};

use babelvisor_core::backend::CallContext;
use babelvisor_core::model::{PoolVolume, VolumeSource, VolumeSpec};
use virt::connect::Connect;

use crate::connection::{CallError, Host};
use crate::volumes::{find, image_volume, pool};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for a volume that is being made, and says how far a copy has come.
pub(crate) async fn watched<T>(
    host: &Host,
    spec: &VolumeSpec,
    call: &CallContext,
    create: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let VolumeSource::Copy { image, .. } = &spec.source else {
        return create.await;
    };
    tokio::pin!(create);
    loop {
        tokio::select! {
            made = &mut create => return made,
            () = tokio::time::sleep(LOOK) => {}
        }
        if call.progress.is_none() {
            continue;
        }
        let (image, place) = (
            image.clone(),
            PoolVolume {
                pool: spec.pool.clone(),
                name: spec.name.clone(),
            },
        );
        let looked = host.slow(Instant::now() + LOOK * 10, move |connection| {
            copied(connection, &image, &place)
        });
        match looked.await {
            Ok(percent) => call.report(percent),
            Err(error) => {
                tracing::debug!(volume = %spec.name, %error, "how far a copy has come is not known")
            }
        }
    }
}

/// How much of an image a copy has already, in percent.
fn copied(connection: &Connect, image: &str, place: &PoolVolume) -> Result<u8, CallError> {
    let Some(source) = image_volume(connection, image)? else {
        return Ok(0);
    };
    let pool = pool(connection, &place.pool)?;
    let Some(copy) = find(&pool, &place.name)? else {
        return Ok(0);
    };
    let whole = source.info()?.allocation;
    let percent = copy
        .info()?
        .allocation
        .saturating_mul(100)
        .checked_div(whole)
        .unwrap_or(0);
    Ok(u8::try_from(percent.min(99)).unwrap_or(99))
}
