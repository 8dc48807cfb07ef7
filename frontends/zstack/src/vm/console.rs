//! The console: where it is.

use babelvisor_core::Error;
use babelvisor_core::model::GraphicsKind;
use bytes::Bytes;
use serde_json::json;

use crate::decode::Call;
use crate::{Zstack, encode};

/// `GetVmConsoleAddress`. This asks the hypervisor: ports are known to it alone.
pub(super) async fn address(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let console = zstack.core.console(&call.caller, vm.id).await?;
    let protocol = match console.kind {
        GraphicsKind::Vnc => "vnc",
        GraphicsKind::Spice => "spice",
    };
    encode::json_of(&json!({
        "hostIp": console.host,
        "port": console.port,
        "protocol": protocol,
        "success": true,
    }))
}
