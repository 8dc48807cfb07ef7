//! The console: where it is, and its password.

use babelvisor_core::model::{GraphicsKind, Role, VmChange};
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, ErrorKind};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::decode::Call;
use crate::operations::Started;
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

/// `SetVmConsolePassword`.
pub(super) async fn set_password(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let password = call.body.get("consolePassword").and_then(Value::as_str);
    let password = password.unwrap_or_default();
    check_password(password)?;
    let password = Some(zstack.core.seal(&Secret::new(password))?);
    super::change(zstack, call, vm.id, vec![VmChange::ConsolePassword { password }]).await
}

/// `DeleteVmConsolePassword`.
pub(super) async fn delete_password(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let change = VmChange::ConsolePassword { password: None };
    super::change(zstack, call, vm.id, vec![change]).await
}

/// `GetVmConsolePassword`, under both names that clients read; without a password there is no member.
pub(super) async fn password(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    // A password is a way in, and whoever may only look has none.
    if call.caller.role == Role::Viewer {
        let text = "this account may only look: it is not shown passwords";
        return Err(Error::new(ErrorKind::Forbidden, text));
    }
    let Some(sealed) = &vm.record.console_password else {
        return Ok(encode::nothing());
    };
    let password = zstack.core.open(sealed)?;
    let password = password.expose();
    encode::json_of(&json!({ "password": password, "consolePassword": password }))
}
