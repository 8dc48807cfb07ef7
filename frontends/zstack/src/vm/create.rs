//! `CreateVmInstance`: every documented parameter and system tag, into one request of the core.

use std::sync::Arc;

use babelvisor_core::Error;
use babelvisor_core::layers::{CreateRequest, DiskRequest, MediumRequest, NicRequest, Root, Wish};
use babelvisor_core::model::{
    BootDevice, ClusterId, DiskOffering, DiskOfferingId, Flavor, FlavorId, HostId, Image, ImageId, ImageKind,
    MediumKind, PoolId, VmId, ZoneId,
};

use super::inventory::DEFAULT_NETWORK;
use super::tags;
use crate::Zstack;
use crate::decode::Call;
use crate::find::one_of;
use crate::operations::Started;

/// `CreateVmInstance`.
pub(super) async fn create(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let name = call.needed("name")?.to_owned();
    let image = ImageId(call.needed_id("imageUuid", ImageId::NOUN)?);
    let image = zstack.entry::<Image>(call, "imageUuid", image).await?;
    let flavor = FlavorId(call.needed_id("instanceOfferingUuid", FlavorId::NOUN)?);
    let flavor = zstack
        .entry::<Flavor>(call, "instanceOfferingUuid", flavor)
        .await?;
    offered("instanceOfferingUuid", &flavor.name, flavor.enabled)?;
    offered("imageUuid", &image.name, image.usable())?;
    if let Some("ApplianceVm") = call.text("type") {
        return Err(Error::unsupported(
            "field[type]: appliance machines are the original's own, only UserVm can be created",
        ));
    }
    let mut request = CreateRequest {
        id: call.id("resourceUuid", VmId::NOUN)?.map(VmId),
        name,
        description: call.text("description").unwrap_or_default().to_owned(),
        vcpus: flavor.vcpus,
        memory: flavor.memory,
        flavor: Some(flavor.id),
        nics: Some(nics(zstack, call)?),
        wish: wish(zstack, call)?,
        start: starts(call)?,
        ..CreateRequest::default()
    };
    let image_id = image.id;
    disks(zstack, call, image, &mut request).await?;
    default_network(call, &mut request)?;
    tags::apply(zstack, call, &mut request).await?;
    let (vm, job) = zstack
        .core
        .create_vm(&call.caller, request, call.options.clone())
        .await?;
    if vm.record.image.is_none() {
        // What it is installed from is shown as its image, though its root volume is no copy of it.
        zstack
            .core
            .annotate(&call.caller, vm.id, |record| {
                record.image.get_or_insert(image_id);
                Ok(())
            })
            .await?;
    }
    tags::keep(zstack, call, vm.id, &vm.record.tenant).await?;
    Ok(Started::Job(Box::new(job)))
}

/// Refuses what is there and must not be used.
fn offered(field: &str, name: &str, usable: bool) -> Result<(), Error> {
    if usable {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!("invalid field[{field}], {name} is disabled or not ready"),
    ))
}

/// Whether it is started once it is made. The manual lists no values here; these are those of the original.
pub(super) fn starts(call: &Call) -> Result<bool, Error> {
    match call.text("strategy") {
        None | Some("InstantStart") => Ok(true),
        Some("JustCreate" | "CreateStopped") => Ok(false),
        Some(_) => Err(Error::invalid(
            "strategy",
            "invalid value of field[strategy], valid values are [InstantStart, JustCreate, CreateStopped]",
        )),
    }
}

/// One interface on every network, in order.
fn nics(zstack: &Zstack, call: &Call) -> Result<Vec<NicRequest>, Error> {
    let networks = call.ids("l3NetworkUuids", "network")?;
    if networks.is_empty() {
        return Err(Error::invalid(
            "l3NetworkUuids",
            "field[l3NetworkUuids] needs at least one network",
        ));
    }
    networks
        .into_iter()
        .map(|id| {
            Ok(NicRequest {
                network: Some(zstack.network("l3NetworkUuids", id)?.id),
                ..NicRequest::default()
            })
        })
        .collect()
}

/// Where it shall be: a host wins over a cluster, a cluster over a zone. All of them must exist.
fn wish(zstack: &Zstack, call: &Call) -> Result<Wish, Error> {
    let now = zstack.core.now();
    let hosts = || now.hosts.values();
    let host = call.id("hostUuid", HostId::NOUN)?;
    let host = host.map(|id| zstack.host("hostUuid", id)).transpose()?;
    let cluster = call.id("clusterUuid", ClusterId::NOUN)?.map(ClusterId);
    let cluster = cluster.map(|id| one_of("clusterUuid", id, hosts().map(|host| host.cluster_id())));
    let zone = call.id("zoneUuid", ZoneId::NOUN)?.map(ZoneId);
    let zone = zone.map(|id| one_of("zoneUuid", id, hosts().map(|host| host.zone_id())));
    let pool = call
        .id("primaryStorageUuidForRootVolume", PoolId::NOUN)?
        .map(PoolId);
    let pool = pool.map(|id| one_of("primaryStorageUuidForRootVolume", id, now.pools.keys().copied()));
    let mut wish = Wish {
        host: host.map(|host| host.id),
        cluster: cluster.transpose()?,
        zone: zone.transpose()?,
        pool: pool.transpose()?,
        ..Wish::default()
    };
    if wish.host.is_some() {
        wish.cluster = None;
    }
    if wish.host.is_some() || wish.cluster.is_some() {
        wish.zone = None;
    }
    Ok(wish)
}

/// The root disk from the image, or an empty one beside an ISO, and the data disks.
async fn disks(
    zstack: &Zstack,
    call: &Call,
    image: Arc<Image>,
    request: &mut CreateRequest,
) -> Result<(), Error> {
    let root = match call.id("rootDiskOfferingUuid", DiskOfferingId::NOUN)? {
        Some(id) => Some(
            disk_offering(zstack, call, "rootDiskOfferingUuid", DiskOfferingId(id))
                .await?
                .disk_size,
        ),
        None => None,
    };
    match image.kind {
        ImageKind::Iso => {
            request.disk = root.ok_or_else(|| {
                Error::invalid(
                    "rootDiskOfferingUuid",
                    "field[rootDiskOfferingUuid] cannot be null when the image is an ISO",
                )
            })?;
            request.root = Root::Blank;
            request.media.push(MediumRequest {
                kind: MediumKind::Cdrom,
                image: Some(image),
            });
            request.boot = vec![BootDevice::Disk, BootDevice::Cdrom];
        }
        ImageKind::Disk => {
            request.disk = root.unwrap_or(image.size);
            request.root = Root::Image(image);
        }
        ImageKind::Data | ImageKind::Floppy => {
            return Err(Error::invalid(
                "imageUuid",
                "invalid field[imageUuid], the image is neither a root volume template nor an ISO",
            ));
        }
    }
    for id in call.ids("dataDiskOfferingUuids", DiskOfferingId::NOUN)? {
        let offering = disk_offering(zstack, call, "dataDiskOfferingUuids", DiskOfferingId(id)).await?;
        request.disks.push(DiskRequest {
            name: format!("DATA-for-{}", request.name),
            size: offering.disk_size,
            offering: Some(offering.id),
            ..DiskRequest::default()
        });
    }
    Ok(())
}

async fn disk_offering(
    zstack: &Zstack,
    call: &Call,
    field: &str,
    id: DiskOfferingId,
) -> Result<Arc<DiskOffering>, Error> {
    let offering = zstack.entry::<DiskOffering>(call, field, id).await?;
    offered(field, &offering.name, offering.enabled)?;
    Ok(offering)
}

/// The default network is one of the machine's.
fn default_network(call: &Call, request: &mut CreateRequest) -> Result<(), Error> {
    let Some(id) = call.id("defaultL3NetworkUuid", "network")? else {
        return Ok(());
    };
    let mut nics = request.nics.iter().flatten();
    if !nics.any(|nic| nic.network.is_some_and(|network| network.0 == id)) {
        return Err(Error::invalid(
            "defaultL3NetworkUuid",
            "field[defaultL3NetworkUuid] must be one of l3NetworkUuids",
        ));
    }
    let id = id.simple().to_string();
    request.settings.insert(DEFAULT_NETWORK.to_owned(), id);
    Ok(())
}
