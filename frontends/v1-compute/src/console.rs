//! A machine's screen: where it can be reached, and what it shows.

use babelvisor_core::Error;
use babelvisor_core::backend::Console;
use babelvisor_core::model::{PowerState, Screenshot};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::Data;
use crate::error::Fault;
use crate::operations::{Row, row};
use crate::picture;

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("compute.vdc_console", vdc_console),
    row!("compute.screenshot", screenshot),
    row!("compute.list_screenshot", list_screenshot),
];

impl V1Compute {
    /// `compute.vdc_console`: `host:port` of the console as clients reach it.
    pub(crate) async fn vdc_console(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let mut identifier = ComputeIdentifier::of(&call.params);
        if identifier.compute_uuid.is_empty() {
            call.params.text("uuid").clone_into(&mut identifier.compute_uuid);
        }
        if identifier.compute_uuid.is_empty() {
            return Err(Fault::parameter("uuid is missing"));
        }
        // Who may only read may not type into a machine.
        call.may_change()?;
        let vm = self.machine(&call.caller, &identifier, false).await?;
        let Console { host, port, .. } = self.core.console(&call.caller, vm.id).await?;
        let host = self.settings.console_address.as_deref().unwrap_or(&host);
        let address = if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Data::of(&json!({ "vdc_console": address }))
    }

    /// `compute.screenshot`: the address holds the picture itself, so that nobody has to keep it.
    pub(crate) async fn screenshot(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        if vm.power() != PowerState::Running {
            return Err(Error::illegal_state("vm", vm.id, "only a running vm has a screen").into());
        }
        let taken: Screenshot = self.core.screenshot(&call.caller, vm.id).await?;
        let (kind, bytes) = match picture::to_png(&taken.bytes) {
            Some(png) => ("image/png", png),
            None => (taken.media_type.as_str(), taken.bytes.to_vec()),
        };
        let url = format!("data:{kind};base64,{}", STANDARD.encode(bytes));
        Data::of(&json!({ "screenshot_url": url }))
    }

    /// `compute.list_screenshot`: none, because nobody takes one when a machine crashes.
    pub(crate) async fn list_screenshot(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        self.machine(&call.caller, &ComputeIdentifier::of(&call.params), true)
            .await?;
        Data::of(&json!({"screenshot_urls": [], "final_screenshots": null}))
    }
}
