//! Getting an image from the network straight into a volume.

use std::sync::Arc;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::jobs::context::JobContext;
use crate::jobs::undo::Undo;
use crate::model::VolumeSpec;

/// More than this is no image that anybody boots: 1 TiB.
const MOST: u64 = 1 << 40;

/// Reads `url` into the volume that `spec` names. A try that was cut off begins anew: the backend fills what it
/// finds half-filled from the start.
pub(super) async fn fetch(context: &mut JobContext, url: &str, spec: VolumeSpec) -> Result<()> {
    let undo = Undo::DeleteVolume {
        pool: spec.pool.clone(),
        name: spec.name.clone(),
    };
    let outbound = context.outbound().clone();
    let (outbound, spec) = (&outbound, &spec);
    let read = |backend: Arc<dyn Backend>, call: crate::backend::CallContext| async move {
        let progress = call.progress.clone();
        let watch = move |come: u64, of: Option<u64>| {
            if let (Some(sink), Some(of)) = (&progress, of.filter(|of| *of > 0)) {
                let percent = come.saturating_mul(100) / of;
                sink.report(u8::try_from(percent).unwrap_or(100));
            }
        };
        let download = outbound.open(url, MOST, watch).await?;
        let length = download.length.ok_or_else(|| {
            let text = "the other side does not say how large the image is (no Content-Length)";
            Error::invalid("url", text)
        })?;
        let spec = VolumeSpec {
            capacity: length,
            ..spec.clone()
        };
        backend.upload_volume(&call, &spec, download.bytes).await
    };
    let volume = context.step("fetch", Some(undo), read).await?;
    super::say(context, &volume)
}
