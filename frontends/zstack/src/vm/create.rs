//! `CreateVmInstance`.

use std::sync::Arc;

use babelvisor_core::Error;
use babelvisor_core::layers::{ConsoleChoice, CreateRequest};
use babelvisor_core::model::{Flavor, FlavorId, Image, ImageId};

use crate::Zstack;
use crate::decode::Call;
use crate::error::no_resource;
use crate::operations::Started;

/// `CreateVmInstance`.
pub(super) async fn create(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let image = image(zstack, call, "imageUuid")?;
    let flavor = flavor(zstack, call, "instanceOfferingUuid")?;
    let request = CreateRequest {
        name: call.needed("name")?.to_owned(),
        vcpus: flavor.vcpus,
        memory: flavor.memory,
        disk: image.size,
        image,
        flavor: Some(flavor.id),
        login: None,
        console: ConsoleChoice::Open,
        start: true,
        lease_term: None,
        expires_at: None,
        tags: Default::default(),
    };
    let (_, job) = zstack
        .core
        .create_vm(&call.caller, request, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}

/// The image that a member names.
fn image(zstack: &Zstack, call: &Call, field: &str) -> Result<Arc<Image>, Error> {
    let id = ImageId(call.needed_id(field, ImageId::NOUN)?);
    let now = zstack.core.now();
    let tenant = babelvisor_core::query::scope(&call.caller);
    let image = now.images.get(&id).filter(|image| image.seen_by(tenant));
    image
        .cloned()
        .ok_or_else(|| no_resource(field, ImageId::NOUN, &id.simple()))
}

/// The offering that a member names.
fn flavor(zstack: &Zstack, call: &Call, field: &str) -> Result<Arc<Flavor>, Error> {
    let id = FlavorId(call.needed_id(field, FlavorId::NOUN)?);
    let now = zstack.core.now();
    let flavor = now.entries.flavors.get(&id);
    flavor
        .cloned()
        .ok_or_else(|| no_resource(field, FlavorId::NOUN, &id.simple()))
}
