//! Start, stop, reboot, pause, resume. Changes queue behind each other; whether one is legal is the core's state
//! table's to say.

use babelvisor_core::Error;
use babelvisor_core::command::{Command, Power, PowerAction};
use babelvisor_core::model::{PowerState, Vm};

use crate::Zstack;
use crate::decode::Call;
use crate::operations::Started;

/// `StartVmInstance`.
pub(super) async fn start(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    power(zstack, call, |_| PowerAction::Start).await
}

/// `StopVmInstance`: asks the guest, or with type `cold` cuts the power.
pub(super) async fn stop(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let cold = call.text("type") == Some("cold");
    power(zstack, call, |vm| match vm.power() {
        // A guest that does not run cannot be asked.
        PowerState::Paused | PowerState::Suspended if vm.activity.is_none() => PowerAction::ForceOff,
        _ if cold => PowerAction::ForceOff,
        _ => PowerAction::Shutdown,
    })
    .await
}

/// `RebootVmInstance`.
pub(super) async fn reboot(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    power(zstack, call, |_| PowerAction::Reboot).await
}

/// `PauseVmInstance`.
pub(super) async fn pause(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    power(zstack, call, |_| PowerAction::Suspend).await
}

/// `ResumeVmInstance`.
pub(super) async fn resume(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    power(zstack, call, |_| PowerAction::Resume).await
}

async fn power(
    zstack: &Zstack,
    call: &Call,
    action: impl Fn(&Vm) -> PowerAction + Send,
) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let action = action(&vm);
    let command = Command::Power(Power { vm: vm.id, action });
    let job = zstack
        .core
        .submit(&call.caller, command, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}
