//! Media in optical and floppy drives.

use babelvisor_core::Error;
use babelvisor_core::model::MediumKind;
use virt_sys as sys;

use super::{Side, Target};
use crate::connection::CallError;
use crate::plan::{Targets, drive_bus};
use crate::quirks::Driver;
use crate::volumes;
use crate::xml::build::{disk_element, scsi_controller};
use crate::xml::view::DiskXml;
use crate::xml::{DiskSource, DiskSpec, DomainXml};

/// What QEMU complains about when libvirt forgot to open a tray.
const TRAY: &str = "Tray of device";

/// The drive that carries a VM's first-boot set-up is nobody's to change unless it is named.
fn is_seed(drive: &DiskXml, target: &Target<'_>) -> bool {
    let seed = format!("{}-seed.img", target.uuid);
    drive.source.as_deref().is_some_and(|path| path.ends_with(&seed))
        || drive.volume.as_deref() == Some(&seed)
}

/// The drives of a kind that are meant: the named one, or all.
fn drives<'x>(
    target: &'x Target<'_>,
    xml: &'x DomainXml,
    kind: MediumKind,
    name: Option<&'x str>,
) -> impl Iterator<Item = &'x DiskXml> {
    xml.disks.iter().filter(move |drive| {
        drive.device == kind.as_ref()
            && match name {
                Some(name) => drive.target == name,
                None => !is_seed(drive, target),
            }
    })
}

fn holds(drive: &DiskXml, source: &DiskSource) -> bool {
    match source {
        DiskSource::File(path) | DiskSource::Block(path) => drive.source.as_ref() == Some(path),
        DiskSource::Volume { pool, volume } => {
            drive.pool.as_ref() == Some(pool) && drive.volume.as_ref() == Some(volume)
        }
    }
}

/// Puts a medium into a drive.
pub(super) fn insert(
    target: &Target<'_>,
    kind: MediumKind,
    name: Option<&str>,
    key: &str,
) -> Result<(), CallError> {
    let (source, format) = volumes::medium(target.connection, key)?;
    let mut chosen: Option<String> = name.map(str::to_owned);
    let mut without_drive = Vec::new();
    let mut to_change = Vec::new();
    let mut taken = Vec::new();
    for side in target.sides() {
        let xml = target.xml(side)?;
        let found = drives(target, &xml, kind, chosen.as_deref())
            .min_by_key(|drive| !holds(drive, &source))
            .map(|drive| (drive.target.clone(), holds(drive, &source)));
        match found {
            Some((_, true)) => {}
            Some((drive, false)) => {
                chosen.get_or_insert(drive.clone());
                to_change.push((side, drive));
            }
            None if name.is_some() => {
                let text = format!(
                    "the VM has no {} drive {}",
                    kind.as_ref(),
                    name.unwrap_or_default()
                );
                return Err(Error::invalid("target", text).into());
            }
            None => without_drive.push(side),
        }
        taken.extend(xml.disks.into_iter().map(|disk| disk.target));
    }
    if to_change.is_empty() && without_drive.is_empty() {
        return Ok(());
    }
    target.refuse_unpluggable()?;
    for (side, drive) in &to_change {
        set(target, *side, drive, Some((&source, &format)))?;
    }
    if without_drive.is_empty() {
        return Ok(());
    }
    target.refuse_saved()?;
    add_drive(target, kind, (source, format), chosen, taken, &without_drive)
}

fn add_drive(
    target: &Target<'_>,
    kind: MediumKind,
    (source, format): (DiskSource, String),
    chosen: Option<String>,
    taken: Vec<String>,
    sides: &[Side],
) -> Result<(), CallError> {
    let live = sides.contains(&Side::Live);
    if live && kind == MediumKind::Floppy {
        return Err(target.unsupported(
            "the running VM has no floppy drive, and none can be plugged in; power it off first",
        ));
    }
    let xml = target.xml(if live { Side::Live } else { Side::Config })?;
    let machine = xml.os.machine.clone().unwrap_or_default();
    let arch = xml.os.arch.clone().unwrap_or_default();
    // Of all optical drives only SCSI ones can be plugged into a running VM.
    let bus = if live {
        "scsi"
    } else {
        drive_bus(kind, &arch, &machine)
    };
    let drive = DiskSpec {
        device: kind.as_ref().into(),
        source: Some(source),
        format,
        target: chosen.unwrap_or_else(|| Targets::taken(taken).next(bus)),
        bus: bus.into(),
        // A medium may be in several drives; none of them writes it.
        readonly: true,
        shareable: false,
        serial: None,
        boot_order: None,
    };
    if bus == "scsi" && target.driver == Driver::Qemu {
        let mut lacking = Vec::new();
        for side in sides {
            let mut document = target.document(*side)?;
            if document.add_scsi_controller()? {
                lacking.push(*side);
            }
        }
        target.plug(&scsi_controller(), &lacking)?;
    }
    target.plug(&disk_element(&drive), sides)
}

/// Empties drives.
pub(super) fn eject(target: &Target<'_>, kind: MediumKind, name: Option<&str>) -> Result<(), CallError> {
    let mut to_change = Vec::new();
    for side in target.sides() {
        let xml = target.xml(side)?;
        let full =
            drives(target, &xml, kind, name).filter(|drive| drive.source.is_some() || drive.volume.is_some());
        to_change.extend(full.map(|drive| (side, drive.target.clone())));
    }
    if to_change.is_empty() {
        return Ok(());
    }
    target.refuse_unpluggable()?;
    for (side, drive) in &to_change {
        set(target, *side, drive, None)?;
    }
    Ok(())
}

/// Changes what is in one drive, on one side.
fn set(
    target: &Target<'_>,
    side: Side,
    drive: &str,
    medium: Option<(&DiskSource, &str)>,
) -> Result<(), CallError> {
    let mut document = target.document(side)?;
    let before = document
        .disk(drive)
        .map(|drive| drive.to_xml())
        .transpose()?
        .unwrap_or_default();
    document.set_medium(drive, medium.map(|(source, _)| source))?;
    if let Some((_, format)) = medium {
        document.set_medium_format(drive, format)?;
    }
    if side == Side::Config {
        target.connection.define_domain_xml(&document.to_xml()?)?;
        return Ok(());
    }
    let Some(element) = document.disk(drive) else {
        return Err(Error::internal(format!("the drive {drive} vanished")).into());
    };
    let xml = element.to_xml()?;
    let Err(gently) = target.domain.update_device_flags(&xml, side.flag()) else {
        return Ok(());
    };
    // A guest may have locked the tray: the medium is taken out as with a pin.
    let force = side.flag() | sys::VIR_DOMAIN_DEVICE_MODIFY_FORCE;
    let Err(forced) = target.domain.update_device_flags(&xml, force) else {
        return Ok(());
    };
    tracing::debug!(vm = %target.uuid, drive, %gently, %forced, "a drive's medium could not be changed");
    if !forced.message().contains(TRAY) || document.bus_of(drive) != Some("scsi") {
        return Err(forced.into());
    }
    replace(target, &before, medium.map(|_| xml.as_str()))
}

/// Replaces a drive by one with another medium, or by none: libvirt 9 does not know that a drive that was plugged in has
/// a tray, so it never opens it, and it cannot plug in an empty drive.
fn replace(target: &Target<'_>, before: &str, after: Option<&str>) -> Result<(), CallError> {
    let live = Side::Live.flag();
    target.domain.detach_device_flags(before, live)?;
    let Some(Err(error)) = after.map(|after| target.domain.attach_device_flags(after, live)) else {
        return Ok(());
    };
    if let Err(lost) = target.domain.attach_device_flags(before, live) {
        tracing::warn!(vm = %target.uuid, error = %lost, "a drive could not be plugged in again");
    }
    Err(error.into())
}
