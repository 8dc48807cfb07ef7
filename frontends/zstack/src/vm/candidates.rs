//! What could be done: places for a machine, networks and volumes that could be attached to it. Nothing is reserved
//! by asking.

use std::sync::Arc;

use babelvisor_core::Error;
use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{
    ClusterId, DiskOffering, DiskOfferingId, Flavor, FlavorId, Host, Image, ImageId, NetworkId, PoolId,
    StoragePool, Vm, ZoneId,
};
use babelvisor_core::query;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::migrate;
use super::state::state;
use crate::decode::{self, Call};
use crate::error::{mandatory, no_resource};
use crate::query::index::Index;
use crate::query::inventory;
use crate::query::table::{Resource, World as Tables};
use crate::resources::{CLUSTER, HOST, IMAGE, L3_NETWORK, PRIMARY_STORAGE, Row, VOLUME, VolumeRow, ZONE};
use crate::{Zstack, encode};

/// One moment, to show resources of it.
pub(super) struct World<'z> {
    zstack: &'z Zstack,
    call: &'z Call,
    now: Arc<Snapshot>,
    index: Arc<Index>,
}

impl<'z> World<'z> {
    pub(super) fn of(zstack: &'z Zstack, call: &'z Call) -> Self {
        let now = zstack.core.now();
        let index = zstack.indexes.of(&now);
        Self {
            zstack,
            call,
            now,
            index,
        }
    }

    pub(super) fn now(&self) -> &Snapshot {
        &self.now
    }

    fn tables(&self) -> Tables<'_> {
        Tables {
            now: &self.now,
            index: &self.index,
            scope: query::scope(&self.call.caller),
            zone: &self.zstack.zone,
        }
    }

    /// A resource as JSON.
    pub(super) fn show<'w>(&'w self, resource: &'static Resource, row: Row<'w>) -> Bytes {
        inventory(&self.tables(), resource, row)
    }

    /// Resources as a JSON list.
    fn list<'w>(&'w self, resource: &'static Resource, rows: impl IntoIterator<Item = Row<'w>>) -> Vec<u8> {
        let mut json = vec![b'['];
        for (place, row) in rows.into_iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            json.extend_from_slice(&self.show(resource, row));
        }
        json.push(b']');
        json
    }
}

/// An object of lists that are JSON already.
fn object(members: &[(&str, &[u8])]) -> Bytes {
    let mut json = vec![b'{'];
    for (place, (name, list)) in members.iter().enumerate() {
        if place > 0 {
            json.push(b',');
        }
        json.extend_from_slice(format!("\"{name}\":").as_bytes());
        json.extend_from_slice(list);
    }
    json.push(b'}');
    json.into()
}

/// `GetVmMigrationCandidateHosts`.
pub(super) async fn migration_hosts(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let world = World::of(zstack, call);
    let hosts = migrate::targets(zstack, &world.now, &vm);
    let list = world.list(&HOST, hosts.into_iter().map(Row::Host));
    Ok(object(&[("inventories", &list)]))
}

/// `GetVmStartingCandidateClustersHosts`: a machine starts where it is defined. Under both pairs of names that
/// clients read.
pub(super) async fn starting_hosts(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    if state(&vm) != "Stopped" {
        let text = format!(
            "current vm instance state[{}] doesn't allow to proceed message, allowed states are [Stopped]",
            state(&vm)
        );
        return Err(Error::illegal_state("vm", vm.id, text));
    }
    let world = World::of(zstack, call);
    let facts = vm.facts.as_deref();
    let host = facts.and_then(|facts| world.now.hosts.get(&facts.host));
    let host = host.filter(|host| {
        let free = host.memory_free.unwrap_or(host.memory);
        world.now.backend_up(&host.backend) && free >= vm.memory()
    });
    let hosts = world.list(&HOST, host.iter().map(|host| Row::Host(host)));
    let clusters = world.list(&CLUSTER, host.iter().map(|host| Row::Cluster(host)));
    Ok(object(&[
        ("hosts", &hosts),
        ("clusters", &clusters),
        ("hostInventories", &hosts),
        ("clusterInventories", &clusters),
    ]))
}

/// What a machine that is asked about would need.
struct Wanted {
    image: Arc<Image>,
    networks: Vec<NetworkId>,
    memory: u64,
    root: u64,
    data: Vec<(String, u64)>,
}

impl Wanted {
    async fn read(zstack: &Zstack, call: &Call, with_offering: bool) -> Result<Self, Error> {
        let image = asked_id(call, "imageUuid", ImageId::NOUN)?;
        let image = image.ok_or_else(|| mandatory(&call.operation.id, "imageUuid"))?;
        let image = zstack.entry::<Image>(call, "imageUuid", ImageId(image)).await?;
        let mut networks = Vec::new();
        for text in call.asked_all("l3NetworkUuids").flat_map(|text| text.split(',')) {
            let id =
                decode::uuid(text).ok_or_else(|| no_resource("l3NetworkUuids", NetworkId::NOUN, text))?;
            networks.push(zstack.network("l3NetworkUuids", id)?.id);
        }
        let memory = if with_offering {
            let id = asked_id(call, "instanceOfferingUuid", FlavorId::NOUN)?;
            let id = id.ok_or_else(|| mandatory(&call.operation.id, "instanceOfferingUuid"))?;
            let flavor = zstack
                .entry::<Flavor>(call, "instanceOfferingUuid", FlavorId(id))
                .await?;
            flavor.memory
        } else {
            0
        };
        let mut root = image.size;
        if let Some(id) = asked_id(call, "rootDiskOfferingUuid", DiskOfferingId::NOUN)? {
            let offering = zstack
                .entry::<DiskOffering>(call, "rootDiskOfferingUuid", DiskOfferingId(id))
                .await?;
            root = root.max(offering.disk_size);
        }
        let mut data = Vec::new();
        for text in call
            .asked_all("dataDiskOfferingUuids")
            .flat_map(|text| text.split(','))
        {
            let id = decode::uuid(text)
                .ok_or_else(|| no_resource("dataDiskOfferingUuids", DiskOfferingId::NOUN, text))?;
            let offering = zstack
                .entry::<DiskOffering>(call, "dataDiskOfferingUuids", DiskOfferingId(id))
                .await?;
            data.push((text.to_owned(), offering.disk_size));
        }
        Ok(Self {
            image,
            networks,
            memory,
            root,
            data,
        })
    }

    /// Whether it could be made on `host`.
    fn fits(&self, now: &Snapshot, host: &Host) -> bool {
        let on = |network: &NetworkId| {
            let network = now.networks.get(network);
            network.is_some_and(|network| network.backend == host.backend)
        };
        let mut locations = self.image.locations.iter();
        now.backend_up(&host.backend)
            && self.image.usable()
            && locations.any(|location| location.backend == host.backend)
            && self.networks.iter().all(on)
            && host.memory_free.unwrap_or(host.memory) >= self.memory
            && pools(now, host).any(|pool| room(pool, self.root))
    }
}

fn pools<'s>(now: &'s Snapshot, host: &Host) -> impl Iterator<Item = &'s StoragePool> {
    let backend = host.backend.clone();
    let pools = now.pools.values().map(AsRef::as_ref);
    pools.filter(move |pool: &&StoragePool| pool.backend == backend && pool.active)
}

/// Whether a pool has room for so many bytes; one that does not say how large it is counts as having it.
const fn room(pool: &StoragePool, bytes: u64) -> bool {
    pool.capacity == 0 || pool.available >= bytes
}

fn asked_id(call: &Call, name: &str, noun: &str) -> Result<Option<uuid::Uuid>, Error> {
    let asked = call.asked(name);
    let asked = asked.map(|text| decode::uuid(text).ok_or_else(|| no_resource(name, noun, text)));
    asked.transpose()
}

/// The hosts where it could be made, as far as the call limits them, in the order of their names.
fn places<'s>(now: &'s Snapshot, call: &Call, wanted: &Wanted) -> Result<Vec<&'s Host>, Error> {
    let cluster = asked_id(call, "clusterUuid", ClusterId::NOUN)?.map(ClusterId);
    let zone = asked_id(call, "zoneUuid", ZoneId::NOUN)?.map(ZoneId);
    let hosts = now.hosts.values().map(AsRef::as_ref);
    let mut fitting: Vec<&Host> = hosts
        .filter(|host: &&Host| cluster.is_none_or(|id| id == host.cluster_id()))
        .filter(|host| cluster.is_some() || zone.is_none_or(|id| id == host.zone_id()))
        .filter(|host| wanted.fits(now, host))
        .collect();
    fitting.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    Ok(fitting)
}

/// `GetCandidateZonesClustersHostsForCreatingVm`.
pub(super) async fn destinations(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let wanted = Wanted::read(zstack, call, true).await?;
    let world = World::of(zstack, call);
    let hosts = places(&world.now, call, &wanted)?;
    let first_of = |same: fn(&Host, &Host) -> bool| {
        let mut chosen: Vec<&Host> = Vec::new();
        for host in &hosts {
            if !chosen.iter().any(|other| same(other, host)) {
                chosen.push(host);
            }
        }
        chosen
    };
    let zones = first_of(|a, b| a.zone_id() == b.zone_id());
    let clusters = first_of(|a, b| a.cluster_id() == b.cluster_id());
    Ok(object(&[
        ("zones", &world.list(&ZONE, zones.into_iter().map(Row::Zone))),
        (
            "clusters",
            &world.list(&CLUSTER, clusters.into_iter().map(Row::Cluster)),
        ),
        (
            "hosts",
            &world.list(&HOST, hosts.iter().map(|host| Row::Host(host))),
        ),
    ]))
}

/// `GetCandidatePrimaryStoragesForCreatingVm`.
pub(super) async fn storages(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let wanted = Wanted::read(zstack, call, false).await?;
    let world = World::of(zstack, call);
    let hosts = places(&world.now, call, &wanted)?;
    let with_room = |bytes: u64| {
        let mut found: Vec<&StoragePool> = Vec::new();
        for pool in hosts.iter().flat_map(|host| pools(&world.now, host)) {
            let known: Vec<PoolId> = found.iter().map(|pool| pool.id).collect();
            if room(pool, bytes) && !known.contains(&pool.id) {
                found.push(pool);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        world.list(&PRIMARY_STORAGE, found.into_iter().map(Row::PrimaryStorage))
    };
    let root = with_room(wanted.root);
    let mut data = Map::new();
    for (offering, bytes) in &wanted.data {
        let list = serde_json::from_slice::<Value>(&with_room(*bytes));
        data.insert(offering.clone(), list.unwrap_or_else(|_| json!([])));
    }
    let data = Value::Object(data).to_string();
    Ok(object(&[
        ("rootVolumePrimaryStorages", &root),
        ("dataVolumePrimaryStorages", data.as_bytes()),
    ]))
}

/// `GetVmAttachableL3Network`: networks of the machine's host that it has no interface on.
pub(super) async fn networks(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let world = World::of(zstack, call);
    let attached = |id: NetworkId| {
        let mut nics = vm.facts.iter().flat_map(|facts| &facts.nics);
        nics.any(|nic| nic.network == Some(id))
    };
    let networks = world.now.networks.values().map(AsRef::as_ref);
    let mut fitting: Vec<&babelvisor_core::model::Network> = networks
        .filter(|network: &&babelvisor_core::model::Network| {
            network.active && network.backend == *vm.home() && !attached(network.id)
        })
        .collect();
    fitting.sort_by(|a, b| a.name.cmp(&b.name));
    let list = world.list(&L3_NETWORK, fitting.into_iter().map(Row::L3));
    Ok(object(&[("inventories", &list)]))
}

/// `GetVmAttachableDataVolume`: volumes on the machine's host that no machine has.
pub(super) async fn volumes(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let world = World::of(zstack, call);
    let tables = world.tables();
    let records = world.now.entries.volumes.values();
    let fitting = records
        .filter(|record| {
            let tenant = query::scope(&call.caller);
            let owned = record
                .tenant
                .as_ref()
                .is_none_or(|owner| tenant.is_none_or(|own| own == owner));
            owned && attachable(record, &vm)
        })
        .map(|record| VolumeRow::of_record(&tables, record))
        .filter(|row| row.vm.is_none());
    let list = world.list(&VOLUME, fitting.map(Row::Volume));
    Ok(object(&[("inventories", &list)]))
}

fn attachable(record: &babelvisor_core::model::VolumeRecord, vm: &Vm) -> bool {
    use babelvisor_core::model::{EntryState, VolumeKind};
    record.kind == VolumeKind::Data
        && record.state == EntryState::Ready
        && record.enabled
        && record.trashed_at.is_none()
        && record.backend == *vm.home()
}

/// `GetVmCapabilities`.
pub(super) async fn capabilities(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    use babelvisor_core::capability::Capability;
    let vm = zstack.vm_in(call, "uuid").await?;
    let backend = zstack.core.backends().get(vm.home());
    let able = |capability| backend.is_some_and(|backend| backend.capabilities().get(capability).usable());
    encode::json_of(&json!({
        "capabilities": {
            "LiveMigration": able(Capability::VmMigrate),
            // A root volume never moves without its machine here.
            "VolumeMigration": false,
        }
    }))
}

/// `GetInterdependentL3NetworksImages`: images that lie where the networks are, or networks where the image lies.
pub(super) async fn interdependent(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let zone = asked_id(call, "zoneUuid", ZoneId::NOUN)?.map(ZoneId);
    let zone = zone.ok_or_else(|| mandatory(&call.operation.id, "zoneUuid"))?;
    let world = World::of(zstack, call);
    let hosts = world.now.hosts.values().filter(|host| host.zone_id() == zone);
    let in_zone: Vec<_> = hosts.map(|host| host.backend.clone()).collect();
    if in_zone.is_empty() {
        return Err(no_resource("zoneUuid", ZoneId::NOUN, &zone.simple()));
    }
    let mut networks = Vec::new();
    for text in call.asked_all("l3NetworkUuids").flat_map(|text| text.split(',')) {
        let id = decode::uuid(text).ok_or_else(|| no_resource("l3NetworkUuids", NetworkId::NOUN, text))?;
        networks.push(zstack.network("l3NetworkUuids", id)?);
    }
    let image = asked_id(call, "imageUuid", ImageId::NOUN)?;
    let list = match (image, networks.is_empty()) {
        (Some(id), true) => {
            let image = zstack.entry::<Image>(call, "imageUuid", ImageId(id)).await?;
            let networks = world.now.networks.values().filter(|network| {
                let mut locations = image.locations.iter();
                in_zone.contains(&network.backend)
                    && locations.any(|location| location.backend == network.backend)
            });
            world.list(&L3_NETWORK, networks.map(|network| Row::L3(network)))
        }
        (None, false) => {
            let tenant = query::scope(&call.caller);
            let images = world.now.images.values().filter(|image| {
                let on = |network: &Arc<babelvisor_core::model::Network>| {
                    let mut locations = image.locations.iter();
                    in_zone.contains(&network.backend)
                        && locations.any(|location| location.backend == network.backend)
                };
                image.usable() && image.seen_by(tenant) && networks.iter().all(on)
            });
            world.list(&IMAGE, images.map(|image| Row::Image(image)))
        }
        (Some(_), false) | (None, true) => {
            return Err(Error::invalid(
                "imageUuid",
                "exactly one of field[l3NetworkUuids] and field[imageUuid] must be set",
            ));
        }
    };
    Ok(object(&[("inventories", &list)]))
}
