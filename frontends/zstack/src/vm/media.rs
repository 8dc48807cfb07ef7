//! ISO images in the optical drive.

use babelvisor_core::Error;
use babelvisor_core::model::{Image, ImageId, ImageKind, MediumKind, Vm, VmChange};
use babelvisor_core::query;
use bytes::Bytes;

use super::candidates::World;
use super::state::state;
use crate::decode::Call;
use crate::operations::Started;
use crate::resources::{IMAGE, Row};
use crate::{Zstack, encode};

/// `AttachIsoToVmInstance`.
pub(super) async fn attach(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let id = ImageId(call.path_id("isoUuid", ImageId::NOUN)?);
    let image = zstack.entry::<Image>(call, "isoUuid", id).await?;
    if image.kind != ImageKind::Iso || !image.usable() {
        let text = "invalid field[isoUuid], the image is no ISO that is enabled and ready";
        return Err(Error::invalid("isoUuid", text));
    }
    let source = source(&image, &vm).ok_or_else(|| {
        Error::invalid(
            "isoUuid",
            "invalid field[isoUuid], the ISO is not on the machine's host",
        )
    })?;
    let change = VmChange::InsertMedium {
        kind: MediumKind::Cdrom,
        target: None,
        source: source.to_owned(),
    };
    super::change(zstack, call, vm.id, vec![change]).await
}

/// `DetachIsoFromVmInstance`: if there is one.
pub(super) async fn detach(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    if inserted(&vm).next().is_none() {
        return Ok(Started::Done(zstack.vm_value(&vm)?));
    }
    if let Some(text) = call.asked("isoUuid") {
        let id = crate::decode::uuid(text).map(ImageId);
        let id = id.ok_or_else(|| crate::error::no_resource("isoUuid", ImageId::NOUN, text))?;
        let image = zstack.entry::<Image>(call, "isoUuid", id).await?;
        let native = source(&image, &vm);
        if !inserted(&vm).any(|medium| native.is_some_and(|native| holds(medium, native))) {
            // The drive holds another one.
            return Ok(Started::Done(zstack.vm_value(&vm)?));
        }
    }
    let change = VmChange::EjectMedium {
        kind: MediumKind::Cdrom,
        target: None,
    };
    super::change(zstack, call, vm.id, vec![change]).await
}

/// `GetCandidateIsoForAttachingVm`: what the machine's host has and its drive has not.
pub(super) async fn candidates(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let world = World::of(zstack, call);
    let tenant = query::scope(&call.caller);
    let images = world.now().images.values().filter(|image| {
        let fits = image.kind == ImageKind::Iso && image.usable() && image.seen_by(tenant);
        fits && source(image, &vm).is_some_and(|native| !inserted(&vm).any(|medium| holds(medium, native)))
    });
    Ok(encode::inventories(
        images.map(|image| world.show(&IMAGE, Row::Image(image))),
        None,
    ))
}

/// `GetCandidateVmForAttachingIso`: running and stopped machines on a host that has it.
pub(super) async fn machines(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let id = ImageId(call.path_id("isoUuid", ImageId::NOUN)?);
    let image = zstack.entry::<Image>(call, "isoUuid", id).await?;
    if image.kind != ImageKind::Iso {
        return Err(Error::invalid(
            "isoUuid",
            "invalid field[isoUuid], the image is no ISO",
        ));
    }
    let now = zstack.core.now();
    let visible = now.visible(query::scope(&call.caller));
    let fitting = visible.values().filter(|vm| {
        matches!(state(vm), "Running" | "Stopped") && source(&image, vm).is_some() && image.usable()
    });
    let encoded = fitting.map(|vm| zstack.vm_json(&now, vm));
    Ok(encode::inventories(encoded.collect::<Result<Vec<_>, _>>()?, None))
}

/// Whether a drive holds the volume with this key. A backend may write one volume in several ways, as a path or as
/// pool and name; the name comes last in all of them.
fn holds(medium: &str, native: &str) -> bool {
    fn name(key: &str) -> &str {
        key.rsplit('/').next().unwrap_or(key)
    }
    medium == native || name(medium) == name(native)
}

/// What is in the optical drives of `vm`.
fn inserted(vm: &Vm) -> impl Iterator<Item = &str> {
    let drives = vm.facts.iter().flat_map(|facts| &facts.removable);
    drives
        .filter(|drive| drive.kind == "cdrom")
        .filter_map(|drive| drive.source.as_deref())
}

/// The key of `image` on the backend of `vm`.
fn source<'i>(image: &'i Image, vm: &Vm) -> Option<&'i str> {
    let mut locations = image.locations.iter();
    let location = locations.find(|location| location.backend == *vm.home())?;
    Some(&location.native)
}
