//! The calls that only read: one machine, a page of them, packages, images. All from the inventory.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::model::{Billing, Flavor, Image, ImageKind, Timestamp, Vm};
use babelvisor_core::query;
use serde::Serialize;

use crate::PveOpen;
use crate::auth::Visitor;
use crate::decode::{Page, Paying};
use crate::encode::Data;
use crate::error::{Code, Fault};
use crate::machine::{area, gib, purpose};

/// Ids of ours have this many letters and digits.
const ID_LENGTH: usize = 10;

/// A package, fields in the order of the document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Package<'a> {
    package_id: &'a str,
    name: &'a str,
    gpu_number: u32,
    gpu_name: Option<&'a str>,
    memory_number: u64,
    rigid_disk_number: u64,
    cpu_number: u32,
    band_width: u32,
    amount: f64,
    discount: f64,
    #[serde(rename = "type")]
    family: &'a str,
    pve_machine_type: &'static str,
    area: &'static str,
    use_type: &'static str,
}

/// An image, fields in the order of the document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Picture<'a> {
    image_id: String,
    #[serde(rename = "type")]
    family: &'a str,
    system_image_name: &'a str,
    system_image_version: &'a str,
}

impl PveOpen {
    /// The machine with this id, if the visitor may see it; else 1021, whatever the reason.
    pub(crate) async fn find(&self, visitor: &Visitor, id: &str) -> Result<Arc<Vm>, Fault> {
        let unknown = || Fault::code(Code::NoMachine);
        let known = self.core.now().by_short_id(id).cloned();
        let vm = match known {
            Some(vm) => vm,
            // Another gateway may have made it a moment ago.
            None if id.len() == ID_LENGTH => {
                let vm = self
                    .core
                    .registry()
                    .vm_by_short_id(id)
                    .await?
                    .ok_or_else(unknown)?;
                self.core
                    .vm(&visitor.caller, vm)
                    .await
                    .map_err(|error| match error.kind {
                        ErrorKind::NotFound => unknown(),
                        _ => Fault::from(error),
                    })?
            }
            None => return Err(unknown()),
        };
        if vm.visible() && query::may_see(&visitor.caller, &vm) {
            Ok(vm)
        } else {
            Err(unknown())
        }
    }

    /// `one`.
    pub(crate) async fn one(&self, visitor: &Visitor, id: &str) -> Result<Data, Fault> {
        let vm = self.find(visitor, id).await?;
        self.machine(&self.core.now(), &vm, Timestamp::now())
            .map(Data::Json)
    }

    /// `mypage`.
    pub(crate) fn my_page(&self, visitor: &Visitor, page: &Page) -> Result<Data, Fault> {
        let (now, at) = (self.core.now(), Timestamp::now());
        let (machines, total) = query::page(&now, &visitor.caller, page.offset, page.size);
        let mut json = Vec::with_capacity(machines.len() * 640 + 64);
        json.extend_from_slice(b"{\"data\":[");
        for (place, vm) in machines.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            json.extend_from_slice(&self.machine(&now, vm, at)?);
        }
        json.extend_from_slice(format!("],\"totalCounts\":{total}}}").as_bytes());
        Ok(Data::Json(json.into()))
    }

    /// `packAge`: what can be paid this way, packages for both ways included.
    pub(crate) fn packages(&self, visitor: &Visitor, paying: Paying) -> Result<Data, Fault> {
        let now = self.core.now();
        let packages: Vec<Package<'_>> = now
            .flavors
            .values()
            .filter(|flavor| query::may_use_flavor(&visitor.caller, flavor) && pays(flavor.billing, paying))
            .map(|flavor| package(flavor))
            .collect();
        Data::of(&packages)
    }

    /// `image`: what machines can be made from.
    pub(crate) fn images(&self, visitor: &Visitor) -> Result<Data, Fault> {
        let now = self.core.now();
        let disks = now
            .images_by_number
            .values()
            .filter(|image| image.kind == ImageKind::Disk && query::may_use_image(&visitor.caller, image));
        let images: Vec<Picture<'_>> = disks.map(|image| picture(image)).collect();
        Data::of(&images)
    }
}

/// Whether a package can be paid this way.
pub(crate) const fn pays(billing: Billing, paying: Paying) -> bool {
    match (billing, paying) {
        (Billing::Both, _) | (Billing::Hourly, Paying::ByUse) | (Billing::Term, Paying::ForTerm) => true,
        (Billing::Hourly, Paying::ForTerm) | (Billing::Term, Paying::ByUse) => false,
    }
}

fn package(flavor: &Flavor) -> Package<'_> {
    Package {
        package_id: &flavor.short_id,
        name: &flavor.name,
        gpu_number: flavor.gpus,
        gpu_name: flavor.gpu_model.as_deref(),
        memory_number: gib(flavor.memory),
        rigid_disk_number: gib(flavor.disk),
        cpu_number: flavor.vcpus,
        band_width: flavor.bandwidth,
        amount: flavor.price,
        discount: flavor.discount,
        family: &flavor.family,
        pve_machine_type: purpose(flavor.purpose),
        area: area(flavor.area),
        use_type: match flavor.billing {
            Billing::Hourly => "0",
            Billing::Term => "1",
            Billing::Both => "2",
        },
    }
}

fn picture(image: &Image) -> Picture<'_> {
    Picture {
        image_id: image.number.to_string(),
        family: &image.family,
        system_image_name: &image.os,
        system_image_version: &image.os_version,
    }
}
