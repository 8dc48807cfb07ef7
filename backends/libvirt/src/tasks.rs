//! Power changes, each until its end state is reached.

use std::time::{Duration, Instant};

use babelvisor_core::backend::CallContext;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{PowerState, VmId};
use babelvisor_core::state::{Verdict, refusal, verdict};
use babelvisor_core::{Error, ErrorKind};
use tokio::sync::broadcast;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys as sys;

use crate::connection::events::HostEvent;
use crate::connection::{CallError, Host};
use crate::convert::power;
use crate::define::lookup;
use crate::error::kind;
use crate::ffi;
use crate::longjob;
use crate::quirks::Driver;
use crate::raw::RawEvent;

/// How often a guest that does not react is asked again to power off: it may not have listened yet.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How often the state is looked at when no event comes.
const LOOK: Duration = Duration::from_secs(1);

/// Changes the power state of one domain and returns when it is reached.
pub(crate) async fn change(
    host: &Host,
    driver: Driver,
    uuid: Uuid,
    action: PowerAction,
    call: &CallContext,
) -> Result<(), CallError> {
    match action {
        PowerAction::Shutdown => shutdown(host, driver, uuid, call.deadline).await,
        PowerAction::Save => {
            let work = host.slow(call.deadline, move |connection| {
                at_once(connection, driver, uuid, action)
            });
            let kept = "the VM's memory could not be saved in time; it runs on";
            longjob::run(host, uuid, call, kept, work).await
        }
        PowerAction::Start
        | PowerAction::ForceOff
        | PowerAction::Reboot
        | PowerAction::Reset
        | PowerAction::ForceReboot
        | PowerAction::Suspend
        | PowerAction::Resume
        | PowerAction::Restore => {
            host.slow(call.deadline, move |connection| {
                at_once(connection, driver, uuid, action)
            })
            .await
        }
    }
}

pub(crate) fn state(connection: &Connect, uuid: Uuid) -> Result<Option<(Domain, PowerState)>, CallError> {
    match lookup(connection, uuid)? {
        Some(domain) => {
            let (state, _) = ffi::domain_state(&domain)?;
            Ok(Some((domain, power(state))))
        }
        None => Ok(None),
    }
}

/// Whether the daemon is just starting the domain for somebody else: it shows as paused until its vCPUs run.
fn starting_up(domain: &Domain) -> Result<bool, CallError> {
    let (_, reason) = ffi::domain_state(domain)?;
    Ok(i64::from(reason) == i64::from(sys::VIR_DOMAIN_PAUSED_STARTING_UP))
}

/// Whether the domain's memory waits to be restored. A partial image of an interrupted save stays behind while the
/// domain runs.
pub(crate) fn saved(domain: &Domain, now: PowerState) -> Result<bool, CallError> {
    Ok(now == PowerState::Off && domain.is_persistent()? && domain.has_managed_save(0)?)
}

/// Whether the end state of an action is reached.
fn reached(action: PowerAction, state: PowerState) -> bool {
    match action {
        PowerAction::Start | PowerAction::Resume | PowerAction::Restore => {
            matches!(state, PowerState::Running | PowerState::Blocked)
        }
        PowerAction::Shutdown | PowerAction::ForceOff => {
            matches!(state, PowerState::Off | PowerState::Crashed)
        }
        PowerAction::Suspend => state == PowerState::Paused,
        // Asked for each time anew: there is no state to tell it from.
        // Off is reached by other ways, too: whether memory was saved is asked for apart.
        PowerAction::Reboot | PowerAction::Reset | PowerAction::ForceReboot | PowerAction::Save => false,
    }
}

fn at_once(connection: &Connect, driver: Driver, uuid: Uuid, action: PowerAction) -> Result<(), CallError> {
    let Some((domain, now)) = state(connection, uuid)? else {
        // A transient domain vanishes when it stops.
        return match action {
            PowerAction::ForceOff => Ok(()),
            _ => Err(Error::not_found("vm", uuid).into()),
        };
    };
    if reached(action, now) || (action == PowerAction::Save && saved(&domain, now)?) {
        return Ok(());
    }
    if action == PowerAction::Restore && now == PowerState::Off && !saved(&domain, now)? {
        let detail = "no memory of the VM is saved; start it instead";
        return Err(Error::illegal_state("vm", uuid, detail).into());
    }
    let done = match action {
        PowerAction::Start if now == PowerState::Suspended => domain.pm_wakeup(0),
        // libvirt waits for the other start and then says that the domain runs: a second try of a job that was cut off.
        PowerAction::Start if now == PowerState::Paused && starting_up(&domain)? => domain.create(),
        _ if verdict(action, now) == Verdict::Illegal => {
            return Err(refusal(action, VmId(uuid), now).into());
        }
        PowerAction::Start => domain.create(),
        PowerAction::ForceOff => domain.destroy(),
        PowerAction::Reboot => domain.reboot(0),
        PowerAction::Reset => domain.reset(),
        PowerAction::Suspend => domain.suspend(),
        PowerAction::Resume => domain.resume(),
        // Whatever it did when it was saved, a restored VM runs: that is how a second try knows that it is done.
        PowerAction::Save => domain.managed_save(sys::VIR_DOMAIN_SAVE_RUNNING),
        PowerAction::Restore => domain.create(),
        PowerAction::Shutdown | PowerAction::ForceReboot => {
            return Err(Error::internal("this power action is made of others").into());
        }
    };
    let Err(error) = done else { return Ok(()) };
    // Somebody else may have been faster: then it is so already.
    match state(connection, uuid)? {
        Some((_, now)) if reached(action, now) => Ok(()),
        Some((domain, now)) if action == PowerAction::Save && saved(&domain, now)? => Ok(()),
        None if action == PowerAction::ForceOff => Ok(()),
        // Or was in the way: what libvirt then says depends on where the two met.
        Some((_, now))
            if verdict(action, now) == Verdict::Illegal
                || kind(&error, driver.quirks()) == ErrorKind::IllegalState =>
        {
            let detail = format!(
                "libvirt refuses this while the VM is {}: {}",
                now.as_ref(),
                error.message()
            );
            Err(Error::illegal_state("vm", uuid, detail).into())
        }
        _ => Err(error.into()),
    }
}

/// Asks the guest to power off until it does.
async fn shutdown(host: &Host, driver: Driver, uuid: Uuid, deadline: Instant) -> Result<(), CallError> {
    let mut events = host.subscribe();
    let mut ask_at = Instant::now();
    let mut asked = false;
    loop {
        let ask = Instant::now() >= ask_at;
        let outcome = if ask {
            host.slow(deadline, move |connection| {
                ask_guest(connection, driver, uuid, asked)
            })
            .await
        } else {
            host.fast(deadline, move |connection| {
                let now = state(connection, uuid)?;
                Ok(now.is_none_or(|(_, state)| reached(PowerAction::Shutdown, state)))
            })
            .await
        };
        match outcome {
            Ok(true) => return Ok(()),
            Ok(false) if ask => {
                asked = true;
                ask_at = Instant::now() + ASK_AGAIN;
            }
            Ok(false) => {}
            // The daemon may be restarting; the guest goes on powering off meanwhile.
            Err(CallError::Down(_)) if asked && Instant::now() < deadline => {}
            Err(CallError::Timeout(_)) => return Err(ignored(uuid)),
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Err(ignored(uuid));
        }
        wait_for_change(&mut events, uuid, deadline.min(Instant::now() + LOOK)).await;
    }
}

fn ignored(uuid: Uuid) -> CallError {
    Error::new(
        ErrorKind::Timeout,
        "the guest was asked to power off and did not in time; it may have no ACPI or agent, or may still do it",
    )
    .about("vm", uuid)
    .into()
}

/// Sends the request; says whether the domain is off.
fn ask_guest(connection: &Connect, driver: Driver, uuid: Uuid, again: bool) -> Result<bool, CallError> {
    let Some((domain, now)) = state(connection, uuid)? else {
        return Ok(true);
    };
    if reached(PowerAction::Shutdown, now) {
        return Ok(true);
    }
    if now == PowerState::Paused {
        let detail = "the VM is paused and cannot react; resume it or force it off";
        return Err(Error::illegal_state("vm", uuid, detail).into());
    }
    // Without flags libvirt uses the agent where it is connected, and the ACPI button otherwise.
    let Err(error) = domain.shutdown() else {
        return Ok(false);
    };
    match state(connection, uuid)? {
        None => Ok(true),
        Some((_, now)) if reached(PowerAction::Shutdown, now) => Ok(true),
        // While a guest goes down its agent stops answering.
        Some(_) if again => Ok(false),
        Some((_, now)) if kind(&error, driver.quirks()) == ErrorKind::IllegalState => {
            let detail = format!(
                "libvirt refuses this while the VM is {}: {}",
                now.as_ref(),
                error.message()
            );
            Err(Error::illegal_state("vm", uuid, detail).into())
        }
        Some(_) => Err(error.into()),
    }
}

/// Waits for any event of the domain, or until the given time.
pub(crate) async fn wait_for_change(events: &mut broadcast::Receiver<HostEvent>, uuid: Uuid, until: Instant) {
    let concerns = async {
        loop {
            match events.recv().await {
                Ok(HostEvent::Raw(RawEvent::Domain { uuid: about, .. })) if about == uuid => return,
                Ok(HostEvent::Up) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                Ok(HostEvent::Raw(_) | HostEvent::Down(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    // Either way the state is looked at next.
    let _ = tokio::time::timeout_at(until.into(), concerns).await;
}
