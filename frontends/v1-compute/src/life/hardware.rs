//! Processors, memory, boot order, video adapters and the console's password of a machine that exists.

use babelvisor_core::Error;
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::{BootDevice, GraphicsKind, PowerState, VideoAdapter, Vm, VmChange, VmFacts};
use babelvisor_core::secret::Secret;
use serde_json::{Value, json};

use super::request::adapter;
use super::wanted::Video;
use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::Data;
use crate::error::{Code, Fault};

/// The most memory that vmemory/set takes: 256 GiB.
const MOST_MEMORY: u64 = 256 << 30;
/// VNC knows no longer passwords.
const LONGEST_PASSWORD: usize = 8;
/// The product's own names of the optical and the floppy drive.
const CD_DRIVE: &str = "hdd";
const FLOPPY_DRIVE: &str = "fda";

impl V1Compute {
    /// The machine that a call is about, with what its backend reports of it.
    ///
    /// # Errors
    /// As [`V1Compute::machine`]; 22003 for one that is not made yet.
    pub(super) async fn built(
        &self,
        call: &Call<'_>,
    ) -> Result<(std::sync::Arc<Vm>, std::sync::Arc<VmFacts>), Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        let facts = vm.facts.clone();
        let facts = facts.ok_or_else(|| Error::illegal_state("vm", vm.id, "it is not made yet"))?;
        Ok((vm, facts))
    }

    /// Changes a machine's hardware and waits for it.
    pub(super) async fn reconfigure(
        &self,
        call: &Call<'_>,
        vm: &Vm,
        changes: Vec<VmChange>,
    ) -> Result<(), Fault> {
        let job = self
            .core
            .change_vm(&call.caller, vm.id, changes, SubmitOptions::REFUSE)
            .await?;
        self.core
            .wait_for_success(job.id, call.operation.longest_wait)
            .await?;
        Ok(())
    }

    /// `compute.vcpu_set`.
    pub(crate) async fn vcpu_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let mut numbers = [None; 4];
        for (number, name) in
            numbers
                .iter_mut()
                .zip(["cpu_current", "cpu_max", "cpu_sockets", "cpu_socket_cores"])
        {
            *number = count(call, name)?;
        }
        let change = processors(numbers, &facts)?;
        if let VmChange::Cpu { current, .. } = change
            && facts.power != PowerState::Off
            && current < facts.cpu.current
        {
            let why = format!("a vm that runs with {} vcpus takes no fewer", facts.cpu.current);
            return Err(Error::illegal_state("vm", vm.id, why).into());
        }
        self.reconfigure(call, &vm, vec![change]).await?;
        Ok(Data::empty())
    }

    /// `compute.vmemory_set`: of a machine that is off all of it, of one that runs what its limit allows.
    pub(crate) async fn vmemory_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let bytes = call.params.number("vmemory")?.unwrap_or_default();
        if bytes == 0 || bytes > MOST_MEMORY {
            return Err(Fault::parameter(format!(
                "vmemory: expected 1 to {MOST_MEMORY} bytes"
            )));
        }
        let off = matches!(facts.power, PowerState::Off | PowerState::Crashed);
        let max = if off { bytes } else { facts.memory.max };
        if bytes > max {
            let why = format!("a vm that runs takes at most {max} bytes, shut it off for more");
            return Err(Error::illegal_state("vm", vm.id, why).into());
        }
        self.reconfigure(call, &vm, vec![VmChange::Memory { current: bytes, max }])
            .await?;
        Ok(Data::empty())
    }

    /// `compute.balloon_set`: 0 gives the machine all that it may have.
    pub(crate) async fn balloon_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let max = facts.memory.max;
        let current = match call.params.number("memory")?.unwrap_or_default() {
            0 => max,
            bytes if bytes <= max => bytes,
            _ => {
                return Err(Fault::parameter(format!(
                    "memory: the machine has at most {max} bytes"
                )));
            }
        };
        self.reconfigure(call, &vm, vec![VmChange::Memory { current, max }])
            .await?;
        Ok(Data::empty())
    }

    /// `compute.bootorder_set`.
    pub(crate) async fn bootorder_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let listed = call.params.get("device_order").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| Fault::parameter("device_order is missing"))?;
        let listed: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
        let order = boot_order(&listed, &facts)?;
        self.reconfigure(call, &vm, vec![VmChange::BootOrder { order }])
            .await?;
        Ok(Data::empty())
    }

    /// `compute.graphics_password_set`: passwords in clear, because the product's cipher was never published.
    pub(crate) async fn graphics_password_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let mut new: Option<&str> = None;
        for (name, kind) in [
            ("vnc_password", GraphicsKind::Vnc),
            ("spice_password", GraphicsKind::Spice),
        ] {
            let text = call.params.text(name);
            if text.is_empty() {
                continue;
            }
            if !facts.graphics.iter().any(|display| display.kind == kind) {
                let why = format!("{name}: the machine has no {} display", kind.as_ref());
                return Err(Error::unsupported(why).into());
            }
            if text.len() > LONGEST_PASSWORD {
                let why = format!(
                    "{name}: expected a password in clear of at most {LONGEST_PASSWORD} characters; \
                     encrypted ones cannot be read, their cipher is not published"
                );
                return Err(Error::unsupported(why).into());
            }
            if new.is_some_and(|other| other != text) {
                return Err(Fault::parameter(
                    "spice_password: a machine has one console password",
                ));
            }
            new = Some(text);
        }
        let Some(text) = new else { return Ok(Data::empty()) };
        let password = Some(self.core.seal(&Secret::new(text))?);
        self.reconfigure(call, &vm, vec![VmChange::ConsolePassword { password }])
            .await?;
        Ok(Data::empty())
    }

    /// `compute.video_attach`.
    pub(crate) async fn video_attach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let new = call.params.get("videos").cloned().unwrap_or_default();
        let new: Vec<Video> = serde_json::from_value(new)
            .map_err(|_| Fault::parameter("videos: expected a list of video devices"))?;
        if new.is_empty() {
            return Err(Fault::parameter("videos: at least one is needed"));
        }
        let mut adapters = present(&facts);
        adapters.extend(new.iter().map(adapter));
        if adapters.iter().any(|adapter| adapter.model != "qxl") {
            return Err(Fault::parameter(
                "videos: those of a machine with several are all qxl",
            ));
        }
        self.reconfigure(call, &vm, vec![VmChange::Video { adapters }])
            .await?;
        told(&vm)
    }

    /// `compute.video_detach`.
    pub(crate) async fn video_detach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let index = call.params.number("heads")?;
        let index = index.ok_or_else(|| Fault::parameter("heads is missing"))?;
        let mut adapters = present(&facts);
        let index = place(index, &adapters)?;
        if index == 0 {
            return Err(Fault::parameter("heads: video device 0 cannot be removed"));
        }
        adapters.remove(index);
        self.reconfigure(call, &vm, vec![VmChange::Video { adapters }])
            .await?;
        told(&vm)
    }

    /// `compute.video_edit`.
    pub(crate) async fn video_edit(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let new = call.params.get("video").cloned().unwrap_or_default();
        let new: Video =
            serde_json::from_value(new).map_err(|_| Fault::parameter("video: expected a video device"))?;
        let mut adapters = present(&facts);
        let index = place(new.heads.unwrap_or_default().into(), &adapters)?;
        let several = adapters.len() > 1;
        let edited = adapters
            .get_mut(index)
            .ok_or_else(|| Fault::unknown("video device", "0"))?;
        let model = new.model_type.clone().unwrap_or_else(|| edited.model.clone());
        if several && model != "qxl" {
            return Err(Fault::parameter(
                "model_type: those of a machine with several are all qxl",
            ));
        }
        // heads says which one: how many screens it has stays as it is.
        *edited = VideoAdapter {
            heads: edited.heads,
            ..adapter(&Video {
                model_type: Some(model),
                heads: None,
                ..new
            })
        };
        self.reconfigure(call, &vm, vec![VmChange::Video { adapters }])
            .await?;
        told(&vm)
    }
}

/// What the calls on video devices answer.
fn told(vm: &Vm) -> Result<Data, Fault> {
    Data::of(&json!({"name": vm.name(), "uuid": vm.id.to_string()}))
}

/// The adapters that the machine has.
fn present(facts: &VmFacts) -> Vec<VideoAdapter> {
    let models = facts.video.iter();
    models
        .map(|model| VideoAdapter {
            model: model.clone(),
            memory: None,
            heads: None,
        })
        .collect()
}

fn place(index: u64, adapters: &[VideoAdapter]) -> Result<usize, Fault> {
    let found = usize::try_from(index)
        .ok()
        .filter(|index| *index < adapters.len());
    found.ok_or_else(|| Fault::saying(Code::NotFound, format!("heads: there is no video device {index}")))
}

/// A number from 1; absent, null and 0 say nothing.
fn count(call: &Call<'_>, name: &str) -> Result<Option<u32>, Fault> {
    let number = call.params.number(name)?.filter(|number| *number > 0);
    number
        .map(u32::try_from)
        .transpose()
        .map_err(|_| Fault::parameter(format!("{name}: more than any machine has")))
}

/// Processors as they shall be: `current`, `max`, `sockets`, `cores`, each if it is said.
///
/// Document: sockets × cores = max; a new max changes the cores and keeps the sockets, new sockets or cores change
/// the max.
fn processors([current, max, sockets, cores]: [Option<u32>; 4], facts: &VmFacts) -> Result<VmChange, Fault> {
    let (old_sockets, old_cores) = match facts.cpu.topology {
        Some((sockets, cores, threads)) => (sockets, cores.saturating_mul(threads)),
        None => (facts.cpu.max.max(1), 1),
    };
    let shape = match (max, sockets, cores) {
        (None, None, None) => None,
        (None, sockets, cores) => Some((sockets.unwrap_or(old_sockets), cores.unwrap_or(old_cores))),
        (Some(max), None, None) if max % old_sockets == 0 => Some((old_sockets, max / old_sockets)),
        (Some(max), None, None) => Some((1, max)),
        (Some(max), Some(sockets), None) => Some((sockets, max / sockets)),
        (Some(max), None, Some(cores)) => Some((max / cores, cores)),
        (Some(_), Some(sockets), Some(cores)) => Some((sockets, cores)),
    };
    let product = shape.and_then(|(sockets, cores)| sockets.checked_mul(cores));
    let most = max.or(product).unwrap_or(facts.cpu.max);
    if shape.is_some() && product != Some(most) {
        return Err(Fault::parameter(format!(
            "cpu_sockets x cpu_socket_cores: they do not make cpu_max {most}"
        )));
    }
    let current = current.unwrap_or(facts.cpu.current.min(most));
    if current > most {
        return Err(Fault::parameter(format!(
            "cpu_current: {current} is more than cpu_max {most}"
        )));
    }
    Ok(VmChange::Cpu {
        current,
        max: most,
        topology: shape.map_or(facts.cpu.topology, |(sockets, cores)| Some((sockets, cores, 1))),
    })
}

/// The kinds of devices in the order in which the list first names them.
///
/// # Errors
/// 10001 for a device that the machine does not have; 22005 for an order that hypervisors do not have.
fn boot_order(listed: &[&str], facts: &VmFacts) -> Result<Vec<BootDevice>, Fault> {
    let mut order = Vec::new();
    let mut first_disk = None;
    for name in listed {
        let is_disk = facts.disks.iter().any(|disk| disk.target == *name);
        let mut drives = facts.removable.iter().filter(|_| !is_disk);
        let drive = drives.find(|drive| drive.target == *name);
        let kind = match drive.map(|drive| drive.kind.as_str()) {
            Some("floppy") => BootDevice::Floppy,
            Some(_) => BootDevice::Cdrom,
            None if is_disk => {
                first_disk.get_or_insert(*name);
                BootDevice::Disk
            }
            None if facts.nics.iter().any(|nic| nic.mac.eq_ignore_ascii_case(name)) => BootDevice::Network,
            None if *name == CD_DRIVE => BootDevice::Cdrom,
            None if *name == FLOPPY_DRIVE => BootDevice::Floppy,
            None if name.starts_with("usb") => {
                return Err(Error::unsupported("no machine here boots from a usb device").into());
            }
            None => {
                return Err(Fault::parameter(
                    "device_order: the machine does not have one of the devices",
                ));
            }
        };
        if !order.contains(&kind) {
            order.push(kind);
        }
    }
    if order.is_empty() {
        return Err(Fault::parameter("device_order: at least one device is needed"));
    }
    let root = facts.disks.iter().find(|disk| disk.root).or(facts.disks.first());
    if let (Some(first), Some(root)) = (first_disk, root)
        && root.target != first
    {
        let why = format!(
            "of the disks the machine boots from {}, name it before the others",
            root.target
        );
        return Err(Error::unsupported(why).into());
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::testing::vm;

    fn facts() -> VmFacts {
        let mut facts = VmFacts::clone(vm().facts.as_deref().unwrap());
        facts.cpu.topology = Some((2, 2, 1));
        facts
    }

    #[test]
    fn processors_follow_the_rules_of_the_document() {
        let cases = [
            // current, max, sockets, cores → current, max, sockets, cores; the machine has 1 of 4 in 2 x 2
            ([Some(3), None, None, None], (3, 4, 2, 2)),
            ([None, Some(8), None, None], (1, 8, 2, 4)),
            ([None, None, Some(4), None], (1, 8, 4, 2)),
            ([None, None, None, Some(1)], (1, 2, 2, 1)),
            ([Some(6), Some(6), Some(3), Some(2)], (6, 6, 3, 2)),
            ([None, Some(3), None, None], (1, 3, 1, 3)),
        ];
        for (asked, (current, max, sockets, cores)) in cases {
            let expected = VmChange::Cpu {
                current,
                max,
                topology: Some((sockets, cores, 1)),
            };
            assert_eq!(processors(asked, &facts()).ok(), Some(expected), "{asked:?}");
        }
        for asked in [
            [Some(5), None, None, None],
            [None, Some(6), Some(2), Some(2)],
            [None, Some(5), Some(2), None],
        ] {
            assert!(processors(asked, &facts()).is_err(), "{asked:?}");
        }
    }

    #[test]
    fn a_boot_order_names_devices_that_there_are() {
        let facts = facts();
        let order = |listed: &[&str]| boot_order(listed, &facts);
        assert_eq!(
            order(&["hdd", "sda", "52:54:00:aa:bb:cc", "sda"]).ok(),
            Some(vec![BootDevice::Cdrom, BootDevice::Disk, BootDevice::Network])
        );
        assert_eq!(order(&["sdz"]).unwrap_err().scode(), 10001);
        assert_eq!(order(&[]).unwrap_err().scode(), 10001);
        assert_eq!(order(&["usb1-1"]).unwrap_err().scode(), 22005);
    }
}
