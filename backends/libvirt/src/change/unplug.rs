//! Pulling devices out: a guest has to let a device go, which takes its time or never happens.

use std::time::{Duration, Instant};

use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;
use virt::connect::Connect;

use super::turn::Turn;
use super::{Side, Target};
use crate::connection::{CallError, Host};
use crate::error::code;
use crate::quirks::Driver;
use crate::tasks::wait_for_change;
use crate::xml::DomainDocument;

/// How often a guest that does not react is asked again: it may not have listened yet.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How often the device is looked for when no event comes.
const LOOK: Duration = Duration::from_secs(1);
/// DEVICE_MISSING.
const MISSING: u32 = 99;

/// A device to pull out.
#[derive(Debug, Clone)]
pub(super) enum Device {
    /// A disk, by its target name.
    Disk(String),
    /// An interface, by its MAC address.
    Nic(String),
}

impl Device {
    /// Its definition on one side, if it is there.
    fn xml(&self, document: &DomainDocument) -> Result<Option<String>, CallError> {
        let element = match self {
            Device::Disk(target) => document.disk(target),
            Device::Nic(mac) => document.nic(mac),
        };
        Ok(element.map(|element| element.to_xml()).transpose()?)
    }

    fn remove(&self, document: &mut DomainDocument) -> Result<(), CallError> {
        match self {
            Device::Disk(target) => document.remove_disk(target)?,
            Device::Nic(mac) => document.remove_nic(mac)?,
        };
        Ok(())
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Disk(target) => write!(f, "the disk {target}"),
            Device::Nic(mac) => write!(f, "the interface {mac}"),
        }
    }
}

/// Pulls a device out of the running domain, waits until the guest has let it go, then removes it from the definition.
pub(super) async fn unplug(
    host: &Host,
    driver: Driver,
    uuid: Uuid,
    device: Device,
    deadline: Instant,
) -> Result<(), CallError> {
    let mut events = host.subscribe();
    let mut ask_at = Instant::now();
    let mut asked = false;
    loop {
        let ask = Instant::now() >= ask_at;
        let wanted = device.clone();
        let step = move |connection: &Connect| {
            // A look changes nothing, and must not wait on a connection for quick calls.
            let _turn = ask.then(|| Turn::take(uuid, deadline)).transpose()?;
            let target = Target::open(connection, driver, uuid, deadline)?;
            pull(&target, &wanted, ask, asked)
        };
        // Asking may wait for QEMU; looking does not.
        let gone = if ask {
            host.slow(deadline, step).await
        } else {
            host.fast(deadline, step).await
        };
        match gone {
            Ok(true) => break,
            Ok(false) => {}
            Err(CallError::Timeout(_)) if asked => return Err(held(uuid, &device)),
            Err(error) => return Err(error),
        }
        if ask {
            asked = true;
            ask_at = Instant::now() + ASK_AGAIN;
        }
        if Instant::now() >= deadline {
            return Err(held(uuid, &device));
        }
        wait_for_change(&mut events, uuid, deadline.min(Instant::now() + LOOK)).await;
    }
    host.slow(deadline, move |connection| {
        let _turn = Turn::take(uuid, deadline)?;
        forget(&Target::open(connection, driver, uuid, deadline)?, &device)
    })
    .await
}

fn held(uuid: Uuid, device: &Device) -> CallError {
    Error::new(
        ErrorKind::Timeout,
        format!("the guest did not let {device} go in time; it may not have booted, or still use it"),
    )
    .about("vm", uuid)
    .into()
}

/// Asks the guest for the device; says whether it is gone.
fn pull(target: &Target<'_>, device: &Device, ask: bool, again: bool) -> Result<bool, CallError> {
    if !target.live {
        return Ok(true);
    }
    let Some(xml) = device.xml(&target.document(Side::Live)?)? else {
        return Ok(true);
    };
    target.refuse_unpluggable()?;
    if !ask {
        return Ok(false);
    }
    match target.domain.detach_device_flags(&xml, Side::Live.flag()) {
        Ok(()) => {}
        Err(error) if code(&error) == MISSING => return Ok(true),
        // It has been asked and is still on it.
        Err(_) if again => {}
        Err(error) => return Err(error.into()),
    }
    Ok(device.xml(&target.document(Side::Live)?)?.is_none())
}

/// Removes the device from the definition.
fn forget(target: &Target<'_>, device: &Device) -> Result<(), CallError> {
    if !target.persistent || device.xml(&target.document(Side::Config)?)?.is_none() {
        return Ok(());
    }
    target.refuse_saved()?;
    target.edit(|document| device.remove(document))
}
