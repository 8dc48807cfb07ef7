//! Disks of a machine that exists: plugged in, changed, unplugged. Volumes are made elsewhere and stay.

use babelvisor_core::Error;
use babelvisor_core::command::{ChangeVm, Command};
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::{Disk, DiskAttachment, VmChange, VmFacts, VolumeId};
use serde_json::Value;

use super::request::bus_of_letter;
use crate::V1Compute;
use crate::call::Call;
use crate::encode::Data;
use crate::error::{Code, Fault};

/// Sources that no machine here can have.
const IMPOSSIBLE: [&str; 2] = [
    "there are no block-device volumes",
    "disks of the host are not passed through",
];

impl V1Compute {
    /// `compute.disk_attach`.
    pub(crate) async fn disk_attach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let params = &call.params;
        let (device, bus) = (params.text("target_device"), params.text("target_bus"));
        let bus = bus_of(device, bus, params.text("disk_cache_mode"))?;
        let sources = [
            params.get("source_vsd"),
            params.get("source_volume"),
            params.get("disk_block_source"),
            params.get("disk_source_passthrough"),
        ];
        let volume = source(sources)?.ok_or_else(|| Fault::parameter("one source of the disk is needed"))?;
        taken(&facts, device)?;
        let options = SubmitOptions::REFUSE;
        let job = self
            .core
            .attach_volume(&call.caller, volume, vm.id, Some(bus), false, options)
            .await?;
        self.core
            .wait_for_success(job.id, call.operation.longest_wait)
            .await?;
        Ok(Data::empty())
    }

    /// `compute.disk_detach`.
    pub(crate) async fn disk_detach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let disk = named(&facts, call.params.text("target_device"))?;
        let options = SubmitOptions::REFUSE;
        let job = match &disk.volume {
            Some(place) => {
                let volume = self.core.now().volume_id(vm.home(), place);
                self.core
                    .detach_volume(&call.caller, volume, Some(vm.id), options)
                    .await?
            }
            None if disk.root => {
                return Err(Error::illegal_state("vm", vm.id, "it boots from the disk").into());
            }
            None => {
                let target = disk.target.clone();
                let change = vec![VmChange::DetachDisk { target }];
                self.core.change_vm(&call.caller, vm.id, change, options).await?
            }
        };
        self.core
            .wait_for_success(job.id, call.operation.longest_wait)
            .await?;
        Ok(Data::empty())
    }

    /// `compute.disk_update`: another volume, another bus, or both: the disk is unplugged and plugged in again.
    pub(crate) async fn disk_update(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let member = |of: &str, name: &str| {
            let object = call.params.get(of);
            object
                .and_then(|object| object.get(name))
                .filter(|value| !value.is_null())
                .cloned()
        };
        let text = |of: &str, name: &str| {
            let text = member(of, name);
            text.as_ref()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let old = text("old_disk", "disk_target_device");
        if old.is_empty() {
            return Err(Fault::parameter("old_disk.disk_target_device is missing"));
        }
        let disk = named(&facts, &old)?;
        let sources = [
            "disk_vsd_source",
            "disk_volume_source",
            "disk_block_source",
            "disk_source_passthrough",
        ]
        .map(|name| member("new_disk", name));
        let [vsd, volume, block, passthrough] = &sources;
        let new = source([
            vsd.as_ref(),
            volume.as_ref(),
            block.as_ref(),
            passthrough.as_ref(),
        ])?;
        let (device, bus) = (
            text("new_disk", "disk_target_device"),
            text("new_disk", "disk_target_bus"),
        );
        if device != old {
            taken(&facts, &device)?;
        }
        let bus = match (device.as_str(), bus.as_str()) {
            ("", "") => disk.bus.clone(),
            (device, bus) => bus_of(device, bus, "")?,
        };
        let present = disk
            .volume
            .as_ref()
            .map(|place| self.core.now().volume_id(vm.home(), place));
        let same_source = new.is_none() || new == present;
        if same_source && bus == disk.bus {
            return Ok(Data::empty());
        }
        if disk.root {
            return Err(Error::unsupported("the disk that a machine boots from cannot be changed").into());
        }
        let volume = new.or(present);
        let volume = volume.ok_or_else(|| Error::unsupported("the disk is no volume of a pool"))?;
        let view = self.volume(&call.caller, &volume.to_string()).await?;
        if !same_source {
            if let Some(holder) = &view.vm {
                let why = format!("it is attached to vm {} already", holder.id);
                return Err(Error::illegal_state(VolumeId::NOUN, volume, why).into());
            }
            if view.backend != *vm.home() {
                return Err(Error::invalid("disk_vsd_source", "the volume is on another backend").into());
            }
        }
        let attachment = DiskAttachment {
            volume: view.place.clone(),
            format: view.format,
            bus: Some(bus),
            readonly: disk.readonly,
            shareable: false,
        };
        let target = disk.target.clone();
        let command = Command::ChangeVm(Box::new(ChangeVm {
            vm: vm.id,
            changes: vec![VmChange::DetachDisk { target }, VmChange::AttachDisk(attachment)],
            volume: Some(volume),
        }));
        self.change(&call.caller, call.operation, command).await?;
        Ok(Data::empty())
    }
}

/// The disk with this device letter; drives are none.
pub(super) fn named<'f>(facts: &'f VmFacts, device: &str) -> Result<&'f Disk, Fault> {
    if device.is_empty() {
        return Err(Fault::parameter("target_device is missing"));
    }
    if let Some(found) = facts.disks.iter().find(|disk| disk.target == device) {
        return Ok(found);
    }
    if facts.removable.iter().any(|drive| drive.target == device) {
        return Err(Fault::parameter("target_device: a drive is no disk"));
    }
    Err(Fault::unknown("disk", device))
}

/// Refuses a device letter that is in use.
fn taken(facts: &VmFacts, device: &str) -> Result<(), Fault> {
    let disks = facts.disks.iter().map(|disk| &disk.target);
    let mut targets = disks.chain(facts.removable.iter().map(|drive| &drive.target));
    if targets.any(|target| target == device) {
        return Err(Fault::saying(
            Code::Exists,
            format!("target_device: {device} is in use"),
        ));
    }
    Ok(())
}

/// The bus that letter and bus say; a cache needs virtio where scsi is asked for.
fn bus_of(device: &str, bus: &str, cache: &str) -> Result<String, Fault> {
    let by_letter =
        match device {
            "" => None,
            device => Some(bus_of_letter(device).ok_or_else(|| {
                Fault::parameter("target_device: expected a letter such as hda, sda or vda")
            })?),
        };
    let bus = match (by_letter, bus) {
        (Some(bus), _) => bus,
        (None, "") => return Err(Fault::parameter("one of target_device and target_bus is needed")),
        (None, bus) => bus,
    };
    let cached = matches!(cache, "writeback" | "writethrough");
    Ok(if cached && bus == "scsi" { "virtio" } else { bus }.to_owned())
}

/// The volume that the one source names: built-in, shared, block device, passed through.
fn source([vsd, volume, block, passthrough]: [Option<&Value>; 4]) -> Result<Option<VolumeId>, Fault> {
    let said = [vsd, volume, block, passthrough].into_iter().flatten().count();
    if said > 1 {
        return Err(Fault::parameter("a disk has one source"));
    }
    for (there, why) in [block, passthrough].into_iter().zip(IMPOSSIBLE) {
        if there.is_some() {
            return Err(Error::unsupported(why).into());
        }
    }
    let Some(source) = vsd.or(volume) else {
        return Ok(None);
    };
    let uuid = source
        .get("volume_uuid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if uuid.is_empty() {
        return Err(Fault::parameter("volume_uuid is missing"));
    }
    Ok(Some(VolumeId(crate::decode::uuid("volume_uuid", uuid)?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn letter_and_bus_agree_on_a_bus() {
        let cases = [
            (("vdb", "", ""), Some("virtio")),
            (("sdb", "virtio", ""), Some("scsi")),
            (("", "sata", ""), Some("sata")),
            (("", "scsi", "writeback"), Some("virtio")),
            (("", "ide", "writeback"), Some("ide")),
            (("", "", ""), None),
            (("xda", "", ""), None),
        ];
        for ((device, bus, cache), expected) in cases {
            assert_eq!(
                bus_of(device, bus, cache).ok().as_deref(),
                expected,
                "{device} {bus} {cache}"
            );
        }
    }

    #[test]
    fn a_disk_has_one_source_and_it_is_a_volume() {
        let volume = json!({"volume_uuid": "6ff91874-adca-4109-b844-448c2d4200d4"});
        let (empty, some) = (json!({}), Some(&volume));
        assert!(matches!(source([some, None, None, None]), Ok(Some(_))));
        assert!(matches!(source([None, some, None, None]), Ok(Some(_))));
        assert!(matches!(source([None; 4]), Ok(None)));
        assert!(source([some, some, None, None]).is_err_and(|fault| fault.is(Code::Parameter)));
        assert!(source([Some(&empty), None, None, None]).is_err_and(|fault| fault.is(Code::Parameter)));
        assert!(source([None, None, some, None]).is_err_and(|fault| fault.is(Code::Unsupported)));
        assert!(source([None, None, None, some]).is_err_and(|fault| fault.is(Code::Unsupported)));
    }
}
