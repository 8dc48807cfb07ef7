//! What a machine boots from.

use babelvisor_core::Error;
use babelvisor_core::model::{BootDevice, Vm, VmChange};
use bytes::Bytes;
use serde_json::json;

use crate::decode::Call;
use crate::operations::Started;
use crate::{Zstack, encode};

const NAMES: [(&str, BootDevice); 3] = [
    ("HardDisk", BootDevice::Disk),
    ("CdRom", BootDevice::Cdrom),
    ("Network", BootDevice::Network),
];

/// `SetVmBootOrder`: without an order, the volume first and then the optical drive.
pub(super) async fn set(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let named = call.texts("bootOrder");
    let named = if named.is_empty() {
        vec!["HardDisk", "CdRom"]
    } else {
        named
    };
    let device = |name: &&str| NAMES.iter().find(|(known, _)| known == name);
    let order: Option<Vec<BootDevice>> = named
        .iter()
        .map(|name| device(name).map(|(_, device)| *device))
        .collect();
    let order = order.ok_or_else(|| {
        Error::invalid(
            "bootOrder",
            "invalid value of field[bootOrder], valid values are [CdRom, HardDisk]",
        )
    })?;
    for (place, device) in order.iter().enumerate() {
        if order.iter().skip(place + 1).any(|other| other == device) {
            return Err(Error::invalid(
                "bootOrder",
                "field[bootOrder] names a device twice",
            ));
        }
    }
    super::change(zstack, call, vm.id, vec![VmChange::BootOrder { order }]).await
}

/// `GetVmBootOrder`, under both names that clients read.
pub(super) async fn get(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let order = order(&vm);
    encode::json_of(&json!({ "orders": order, "order": order }))
}

/// The devices that `vm` boots from. A floppy has no name here.
fn order(vm: &Vm) -> Vec<&'static str> {
    let devices = vm.facts.iter().flat_map(|facts| &facts.boot);
    let named: Vec<&'static str> = devices
        .filter_map(|device| NAMES.iter().find(|(_, known)| known == device))
        .map(|(name, _)| *name)
        .collect();
    if named.is_empty() { vec!["HardDisk"] } else { named }
}
