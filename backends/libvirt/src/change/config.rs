//! vCPUs, memory, boot order, start with the host, and video cards.

use std::time::{Duration, Instant};

use babelvisor_core::model::{BootDevice, VideoAdapter};
use babelvisor_core::{Error, ErrorKind};
use virt_sys as sys;

use super::{Side, Target};
use crate::connection::CallError;
use crate::plan;
use crate::quirks::Driver;
use crate::xml::units::kib;

/// How long a guest's balloon may take.
const BALLOON: Duration = Duration::from_secs(20);
/// How near to its goal a balloon has to come: it moves in pages.
const NEAR: u64 = 1 << 20;
const LOOK: Duration = Duration::from_millis(100);

/// Sets vCPUs: the running domain's, then the definition's.
pub(super) fn cpu(
    target: &Target<'_>,
    current: u32,
    max: u32,
    topology: Option<(u32, u32, u32)>,
) -> Result<(), CallError> {
    fits("current", u64::from(current), u64::from(max))?;
    target.refuse_saved()?;
    if target.persistent {
        // Whether the definition can take it is known before the running domain is touched.
        let mut document = target.document(Side::Config)?;
        set_cpu(&mut document, current, max, topology)?;
    }
    if target.live {
        let running = target.xml(Side::Live)?;
        if max != running.max_vcpus {
            return Err(target.illegal(&format!(
                "the running VM can reach {} vCPUs, which only changes while it is off",
                running.max_vcpus
            )));
        }
        if current < running.vcpus && running.virt_type == "qemu" {
            // QEMU 7.2 fails after five seconds and crashes at the next plugging of a device.
            return Err(target.unsupported(
                "QEMU cannot take vCPUs away from a guest that runs without hardware virtualisation; power it off first",
            ));
        }
        if current != running.vcpus {
            target
                .domain
                .set_vcpus_flags(current, sys::VIR_DOMAIN_AFFECT_LIVE)?;
        }
    }
    target.edit(|document| set_cpu(document, current, max, topology))
}

/// Nothing at all, or more than the most, fits no machine.
fn fits(field: &str, current: u64, max: u64) -> Result<(), CallError> {
    if current == 0 || current > max {
        let text =
            format!("{current} does not fit a maximum of {max}; give at least 1 and at most the maximum");
        return Err(Error::invalid(field, text).into());
    }
    Ok(())
}

fn set_cpu(
    document: &mut crate::xml::DomainDocument,
    current: u32,
    max: u32,
    topology: Option<(u32, u32, u32)>,
) -> Result<(), CallError> {
    document.set_vcpus(current, max)?;
    if let Some((sockets, cores, threads)) = topology {
        document
            .set_topology(sockets, cores, threads)
            .map_err(|error| CallError::from(Error::invalid("topology", error.to_string())))?;
    }
    Ok(())
}

/// Sets the memory: the running domain's through its balloon, then the definition's.
pub(super) fn memory(target: &Target<'_>, current: u64, max: u64) -> Result<(), CallError> {
    fits("current", current, max)?;
    target.refuse_saved()?;
    if target.persistent {
        let mut document = target.document(Side::Config)?;
        document.set_memory(current, max)?;
    }
    if target.live {
        let running = target.xml(Side::Live)?;
        if kib(max) != kib(running.memory) {
            return Err(target.illegal(&format!(
                "the running VM can reach {} bytes of memory, which only changes while it is off",
                running.memory
            )));
        }
        let before = running.current_memory;
        if before.abs_diff(current) >= NEAR || target.driver == Driver::Test {
            target
                .domain
                .set_memory_flags(kib(current), sys::VIR_DOMAIN_AFFECT_LIVE)?;
            let until = target.deadline.min(Instant::now() + BALLOON);
            wait_for_balloon(target, before, current, until)?;
        }
    }
    target.edit(|document| Ok(document.set_memory(current, max)?))
}

/// libvirt answers when the guest was asked; only its balloon driver, if it has one, changes anything.
fn wait_for_balloon(target: &Target<'_>, before: u64, goal: u64, until: Instant) -> Result<(), CallError> {
    loop {
        let now = target.xml(Side::Live)?.current_memory;
        if now.abs_diff(goal) < NEAR {
            return Ok(());
        }
        if Instant::now() >= until {
            // It may still be on its way; nothing else is to remember the goal.
            if let Err(error) = target
                .domain
                .set_memory_flags(kib(before), sys::VIR_DOMAIN_AFFECT_LIVE)
            {
                tracing::warn!(vm = %target.uuid, %error, "the balloon could not be set back");
            }
            return Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "the guest's balloon came to {now} bytes and not to {goal} in time; the guest may have no driver \
                     for it, or need its memory"
                ),
            )
            .about("vm", target.uuid)
            .into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Sets what it boots from at its next start.
pub(super) fn boot_order(target: &Target<'_>, order: &[BootDevice]) -> Result<(), CallError> {
    if order.is_empty() {
        return Err(Error::invalid("order", "name at least one device to boot from").into());
    }
    if !target.persistent {
        return Err(target.illegal("it has no definition that could boot again"));
    }
    target.edit(|document| Ok(document.set_boot_classes(&plan::boot_classes(order))?))
}

/// Sets whether it starts with its host.
pub(super) fn autostart(target: &Target<'_>, on: bool) -> Result<(), CallError> {
    if !target.persistent {
        return match on {
            false => Ok(()),
            true => Err(target.illegal("it has no definition that could start again")),
        };
    }
    if target.domain.autostart()? != on {
        target.domain.set_autostart(on)?;
    }
    Ok(())
}

/// Replaces the video cards.
pub(super) fn video(target: &Target<'_>, adapters: &[VideoAdapter]) -> Result<(), CallError> {
    target.refuse_saved()?;
    if target.live {
        return Err(target.illegal("video cards can only be changed while it is off"));
    }
    if adapters.is_empty() {
        return Err(Error::invalid("adapters", "name at least one video card").into());
    }
    let present: Vec<_> = target.xml(Side::Config)?.videos;
    let same = present.len() == adapters.len()
        && present.iter().zip(adapters).all(|(card, wanted)| {
            card.model == wanted.model
                && wanted
                    .memory
                    .is_none_or(|memory| card.vram == Some(kib(memory) * 1024))
                && wanted.heads.is_none_or(|heads| card.heads == Some(heads))
        });
    if same {
        return Ok(());
    }
    target.edit(|document| Ok(document.set_videos(&plan::videos(adapters))?))
}
