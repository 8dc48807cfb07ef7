//! Start, stop, reboot, pause, resume. Changes queue behind each other; whether one is legal is the core's state
//! table's to say.

use babelvisor_core::command::{Command, Power, PowerAction};
use babelvisor_core::model::{ClusterId, HostId, PowerState, Vm, VmId};
use babelvisor_core::{Error, ErrorKind};

use crate::Zstack;
use crate::decode::Call;
use crate::find::one_of;
use crate::operations::Started;

/// `StartVmInstance`. A machine starts where it is defined: another host or cluster is refused rather than ignored.
pub(super) async fn start(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let host = call.id("hostUuid", HostId::NOUN)?;
    let host = host.map(|id| zstack.host("hostUuid", id)).transpose()?;
    let cluster = call.id("clusterUuid", ClusterId::NOUN)?;
    let now = zstack.core.now();
    let own = vm.facts.as_ref().and_then(|facts| now.hosts.get(&facts.host));
    let elsewhere = |what: &str| {
        let text = format!("the machine is defined on another {what}: migrate it while it runs");
        Error::new(ErrorKind::Unsupported, text).about(VmId::NOUN, vm.id)
    };
    if let Some(host) = host {
        if own.is_some_and(|own| own.id != host.id) {
            return Err(elsewhere("host"));
        }
    } else if let Some(cluster) = cluster {
        let known = now.hosts.values().map(|host| host.cluster_id());
        let cluster = one_of("clusterUuid", ClusterId(cluster), known)?;
        if own.is_some_and(|own| own.cluster_id() != cluster) {
            return Err(elsewhere("cluster"));
        }
    }
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
