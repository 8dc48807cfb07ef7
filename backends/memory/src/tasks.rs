//! What takes time: a call's delay, a boot, a shutdown. A boot or shutdown belongs to the guest: it goes on
//! when the caller has given up or gone away, as on a real hypervisor.

use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::backend::{ByteStream, CallContext};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::VmId;
use babelvisor_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::Hypervisor;
use crate::error;
use crate::power::Step;

/// Waits for `time`, but no longer than the call's deadline and only while the connection holds.
pub(crate) async fn pause(
    lost: impl Future<Output = Error>,
    call: &CallContext,
    what: &str,
    time: Duration,
) -> Result<()> {
    let left = call.left();
    if left.is_zero() {
        return Err(error::timed_out(what));
    }
    if time.is_zero() {
        return Ok(());
    }
    tokio::select! {
        biased;
        gone = lost => Err(gone),
        () = sleep(time.min(left)), if time < left => Ok(()),
        () = sleep(left) => Err(error::timed_out(what)),
    }
}

/// Brings a guest where `action` leads, or gives up at the call's deadline; a boot or shutdown takes `time`.
pub(crate) async fn power(
    hypervisor: &Arc<Hypervisor>,
    call: &CallContext,
    vm: VmId,
    action: PowerAction,
    time: Duration,
) -> Result<()> {
    let deadline = Instant::from_std(call.deadline);
    let waiters = hypervisor.world().waiters(vm)?;
    let lost = hypervisor.lost();
    tokio::pin!(lost);
    let mut begun = false;
    loop {
        // Made before the guest is asked: a change between the two wakes it all the same.
        let changed = waiters.notified();
        let step = hypervisor.world().step(vm, action, begun)?;
        match step {
            Step::Done => return Ok(()),
            Step::Begun(generation) => {
                begun = true;
                end_later(hypervisor, vm, generation, time);
            }
            Step::Wait => {}
        }
        tokio::select! {
            biased;
            () = changed => {}
            gone = &mut lost => return Err(gone),
            () = sleep_until(deadline) => {
                let what = action.as_ref().replace('_', " ");
                return Err(error::timed_out(format!("{what} of vm {vm}")).about("vm", vm));
            }
        }
    }
}

/// Ends a guest's boot or shutdown when its time is over. Does not keep the hypervisor alive.
fn end_later(hypervisor: &Arc<Hypervisor>, vm: VmId, generation: u64, time: Duration) {
    if time.is_zero() {
        hypervisor.world().end_transition(vm, generation);
        return;
    }
    let hypervisor = Arc::downgrade(hypervisor);
    tokio::spawn(async move {
        sleep(time).await;
        if let Some(hypervisor) = hypervisor.upgrade() {
            hypervisor.world().end_transition(vm, generation);
        }
    });
}

/// Reads a stream to its end and counts its bytes; stops one byte after `most`.
pub(crate) async fn drain(mut bytes: ByteStream, most: u64) -> Result<u64> {
    use tokio::io::AsyncReadExt as _;
    let mut buffer = vec![0; 64 << 10];
    let mut come = 0_u64;
    while come <= most {
        let read = bytes.read(&mut buffer).await.map_err(|error| {
            Error::new(
                ErrorKind::BackendUnavailable,
                format!("the stream broke off: {error}"),
            )
        })?;
        if read == 0 {
            break;
        }
        come = come.saturating_add(read as u64);
    }
    Ok(come)
}
