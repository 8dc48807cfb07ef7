//! The console: where it is.

use babelvisor_core::Error;
use babelvisor_core::model::GraphicsKind;
use bytes::Bytes;
use serde_json::json;

use crate::decode::Call;
use crate::{Zstack, encode};

/// VNC has no room for more, and every byte counts there.
const LONGEST_PASSWORD: usize = 8;

/// Refuses a console password that a viewer could not send.
pub(super) fn check_password(password: &str) -> Result<(), Error> {
    let printable = password.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=LONGEST_PASSWORD).contains(&password.len()) && printable {
        return Ok(());
    }
    Err(Error::invalid(
        "consolePassword",
        "invalid field[consolePassword], a console password has 1 to 8 letters, digits or signs",
    ))
}

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
