//! `babelvisor conformance backend`, without the reading of the gateway's configuration.

use std::sync::Arc;

use babelvisor_core::Result;
use babelvisor_core::backend::Backend;

use super::config::KitConfig;
use super::run::run;

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Judges `backend` and gives the report as it is printed, and whether nothing failed.
///
/// Must be called outside of any runtime.
///
/// # Errors
/// When the backend cannot be reached at all, or no runtime can be had.
pub fn cli(
    backend: impl FnOnce() -> Result<Arc<dyn Backend>>,
    config: KitConfig,
    format: Format,
) -> Result<(String, bool)> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| babelvisor_core::Error::internal(format!("no runtime: {error}")))?;
    let report = runtime.block_on(async { run(backend()?, config).await })?;
    let text = match format {
        Format::Text => report.text(),
        Format::Json => format!("{:#}", report.json()),
    };
    Ok((text, report.conformant()))
}
