//! Getting an image from the network.

use crate::error::{Error, Result};
use crate::jobs::context::JobContext;
use crate::model::VolumeSpec;

pub(super) async fn fetch(context: &mut JobContext, url: &str, spec: VolumeSpec) -> Result<()> {
    let _ = (context, url, spec);
    Err(Error::unsupported(
        "images cannot be fetched from the network yet",
    ))
}
