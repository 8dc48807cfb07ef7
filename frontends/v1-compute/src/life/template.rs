//! Machines from a template. A template is a disk image of the repository: what the overriding settings leave out
//! (the first disk) comes from it.

use babelvisor_core::model::VmId;
use babelvisor_core::{Error, ErrorKind};

use super::create::Extra;
use super::wanted::{Disk, FromTemplate, NewVolume, said};
use crate::V1Compute;
use crate::call::Call;
use crate::decode::uuid;
use crate::encode::Data;
use crate::error::{Code, Fault};

impl V1Compute {
    /// `compute.create_from_template`.
    pub(crate) async fn create_from_template(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let from: FromTemplate = call.params.typed()?;
        if said(&from.snapshot).is_some() {
            return Err(Error::unsupported("a template has no snapshots").into());
        }
        let template = said(&from.vm_template_id).unwrap_or_default();
        let image = match self.image(&call.caller, "vm_template_id", template).await {
            Err(fault) if fault.is(Code::NotFound) && self.is_machine(call, template).await => {
                let why = "a machine is no template: export its disk, and name that image";
                return Err(Error::unsupported(why).into());
            }
            found => found?,
        };
        let mut wanted = from.vm_config_override.unwrap_or_default();
        // What stands beside the overriding settings is meant for the call.
        for (inner, outer) in [
            (&mut wanted.cluster_uuid, from.cluster_uuid),
            (&mut wanted.tenant, from.tenant),
            (&mut wanted.object_group, from.object_group),
            (&mut wanted.user_uuid, from.user_uuid),
            (&mut wanted.baseline, from.baseline),
        ] {
            if outer.as_ref().is_some_and(|text| !text.is_empty()) {
                *inner = outer;
            }
        }
        wanted.create_num = from.create_num.or(wanted.create_num);
        let disks = wanted.disks.get_or_insert_default();
        if disks.is_empty() {
            disks.push(Disk {
                disk_unified_vsd: Some(NewVolume {
                    capacity: Some(image.size),
                    ..NewVolume::default()
                }),
                ..Disk::default()
            });
        }
        if let Some(root) = disks.first_mut() {
            root.image_uuid = Some(image.id.to_string());
            root.repository_uuid = None;
        }
        let id = match said(&from.assign_vm_uuid) {
            Some(text) => Some(VmId(uuid("assign_vm_uuid", text)?)),
            None => None,
        };
        let extra = Extra {
            importing: false,
            id,
            snapshot: from.auto_snapshot.unwrap_or_default(),
        };
        self.make_machines(call, wanted, extra).await
    }

    async fn is_machine(&self, call: &Call<'_>, text: &str) -> bool {
        let Ok(id) = text.parse::<VmId>() else {
            return false;
        };
        match self.core.vm(&call.caller, id).await {
            Ok(_) => true,
            Err(error) => error.kind != ErrorKind::NotFound,
        }
    }
}
