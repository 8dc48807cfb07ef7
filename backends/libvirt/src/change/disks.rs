//! Disks: plugged in, and limited. Pulling them out is `unplug`'s.

use babelvisor_core::Error;
use babelvisor_core::model::{DiskAttachment, DiskLimits};

use super::{Side, Target};
use crate::connection::CallError;
use crate::ffi;
use crate::plan::{Targets, disk_bus, format_word};
use crate::quirks::Driver;
use crate::usage;
use crate::xml::DiskSpec;
use crate::xml::build::{disk_element, scsi_controller};

/// Plugs a volume in, under one name on both sides.
pub(super) fn attach(target: &Target<'_>, disk: &DiskAttachment) -> Result<(), CallError> {
    target.refuse_saved()?;
    let found = usage::for_disk(target.connection, &disk.volume, disk.format)?;
    let mut lacking = Vec::new();
    let mut present = None;
    let mut taken = Vec::new();
    let mut scsi = Vec::new();
    for side in target.sides() {
        let xml = target.xml(side)?;
        match xml.disks.iter().find(|other| found.is(other)) {
            Some(here) => present = Some((here.target.clone(), here.bus.clone())),
            None => lacking.push(side),
        }
        let has_scsi = target
            .document(side)?
            .root()
            .get("devices")
            .is_some_and(|devices| devices.all("controller").any(|c| c.attr("type") == Some("scsi")));
        if !has_scsi {
            scsi.push(side);
        }
        taken.extend(xml.disks.into_iter().map(|disk| disk.target));
    }
    if lacking.is_empty() {
        return Ok(());
    }
    target.refuse_unpluggable()?;
    usage::refuse_taken(
        target.connection,
        &found,
        target.uuid,
        disk.readonly,
        disk.shareable,
    )?;
    let (name, bus) = match present {
        // An earlier try came half-way.
        Some((name, Some(bus))) => (name, bus),
        Some(_) | None => {
            let bus = disk_bus(disk.bus.as_deref())?;
            (Targets::taken(taken).next(&bus), bus)
        }
    };
    let spec = DiskSpec {
        device: "disk".into(),
        source: Some(found.source()),
        format: format_word(disk.format)?,
        target: name,
        readonly: disk.readonly,
        shareable: disk.shareable,
        serial: None,
        boot_order: None,
        bus,
    };
    if spec.bus == "scsi" && target.driver == Driver::Qemu {
        // The one that libvirt would add by itself is too old for most guests.
        target.plug(&scsi_controller(), &scsi)?;
    }
    target.plug(&disk_element(&spec), &lacking)
}

/// Limits a disk.
pub(super) fn limit(target: &Target<'_>, name: &str, limits: &DiskLimits) -> Result<(), CallError> {
    let both = |total: u64, read: u64, write: u64| total > 0 && (read > 0 || write > 0);
    if both(limits.total_bytes, limits.read_bytes, limits.write_bytes)
        || both(limits.total_iops, limits.read_iops, limits.write_iops)
    {
        let text = "a limit on both directions together and one on a single direction exclude each other";
        return Err(Error::invalid("limits", text).into());
    }
    let values = [
        ("total_bytes_sec", limits.total_bytes),
        ("read_bytes_sec", limits.read_bytes),
        ("write_bytes_sec", limits.write_bytes),
        ("total_iops_sec", limits.total_iops),
        ("read_iops_sec", limits.read_iops),
        ("write_iops_sec", limits.write_iops),
    ];
    let mut missing = Vec::new();
    for side in target.sides() {
        let xml = target.xml(side)?;
        let disk = xml.disks.iter().find(|disk| disk.target == name);
        let disk = disk.ok_or_else(|| Error::not_found("disk", name))?;
        let present = |field: &str| {
            let found = disk.iotune.iter().find(|(known, _)| known == field);
            found.map_or(0, |(_, value)| *value)
        };
        if values.iter().any(|(field, value)| present(field) != *value) {
            missing.push(side);
        }
    }
    let mut params: Vec<(String, u64)> = values.map(|(field, value)| (field.to_owned(), value)).into();
    if target.driver == Driver::Test {
        // It requires a limit for bursts beside each limit.
        params.extend(values.map(|(field, value)| (format!("{field}_max"), value)));
        for side in missing {
            ffi::set_block_io_tune(&target.domain, name, &params, side.flag())?;
        }
        return Ok(());
    }
    let flags = missing.iter().fold(0, |flags, side: &Side| flags | side.flag());
    if flags != 0 {
        ffi::set_block_io_tune(&target.domain, name, &params, flags)?;
    }
    Ok(())
}
