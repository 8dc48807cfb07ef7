//! From a request and a place to the specification that the job carries: every choice is made here.

use super::names::{backend_name, distinct_name, host_name};
use super::request::{ConsoleChoice, CreateRequest, NicRequest, Root};
use crate::capability::Capability;
use crate::error::{Error, Result};
use crate::inventory::Snapshot;
use crate::layers::Core;
use crate::layers::placement::Place;
use crate::model::{
    BackendId, GuestSetup, Image, ImageLocation, MediumSpec, NetworkId, NicSource, NicSpec, PoolVolume,
    StaticAddress, TenantId, VmId, VmSpec, VolumeFormat, VolumeId, VolumeKind, VolumeRecord, VolumeSource,
    VolumeSpec,
};

/// A specification, and the records of the data volumes in it.
pub(in crate::layers) struct Specified {
    pub(in crate::layers) spec: VmSpec,
    pub(in crate::layers) volumes: Vec<VolumeRecord>,
}

impl Core {
    pub(super) fn specify(
        &self,
        now: &Snapshot,
        vm: VmId,
        tenant: &TenantId,
        contested: bool,
        place: &Place,
        request: &CreateRequest,
    ) -> Result<Specified> {
        let backend = &place.backend;
        let name = if contested {
            distinct_name(&request.name, vm)
        } else {
            backend_name(now, backend, &request.name, vm)
        };
        let mut volumes = Vec::with_capacity(1 + request.disks.len());
        let mut pools = place.pools.iter();
        let mut next_pool = || {
            let pool = pools.next().cloned();
            pool.ok_or_else(|| Error::internal("a disk was given no pool"))
        };
        match &request.root {
            Root::Image(image) => {
                let source = self.start_from(backend, image)?;
                let format = format_of(&source);
                volumes.push(VolumeSpec {
                    pool: next_pool()?,
                    name: format!("{vm}-root.{}", format.as_ref()),
                    capacity: request.disk.max(image.size),
                    format,
                    source,
                    bus: request.root_bus.clone(),
                });
            }
            Root::Blank => volumes.push(VolumeSpec {
                pool: next_pool()?,
                name: format!("{vm}-root.qcow2"),
                capacity: request.disk,
                format: VolumeFormat::Qcow2,
                source: VolumeSource::Blank,
                bus: request.root_bus.clone(),
            }),
            Root::None => {}
        }
        let mut records = Vec::with_capacity(request.disks.len());
        for disk in &request.disks {
            let source = match &disk.image {
                Some(image) => self.start_from(backend, image)?,
                None => VolumeSource::Blank,
            };
            let id = disk.id.unwrap_or_else(VolumeId::random);
            let format = format_of(&source);
            let place = PoolVolume {
                pool: next_pool()?,
                name: format!("{id}.{}", format.as_ref()),
            };
            let capacity = disk.size.max(disk.image.as_ref().map_or(0, |image| image.size));
            volumes.push(VolumeSpec {
                pool: place.pool.clone(),
                name: place.name.clone(),
                capacity,
                format,
                source,
                bus: disk.bus.clone(),
            });
            let mut record =
                VolumeRecord::new(backend.clone(), place, VolumeKind::Data, Some(tenant.clone()));
            record.id = id;
            record.display_name = disk.name.clone();
            record.format = format;
            record.capacity = capacity;
            record.made_for = Some(vm);
            record.disk_offering = disk.offering;
            record.image = disk.image.as_ref().map(|image| image.id);
            records.push(record);
        }
        let usual = [NicRequest::default()];
        let nics = request.nics.as_deref().unwrap_or(&usual);
        let nics = nics.iter().map(|nic| {
            Ok(NicSpec {
                source: self.plug(now, backend, nic.network)?,
                mac: nic.mac.clone(),
                model: nic.model.clone(),
            })
        });
        let media = request.media.iter().map(|medium| {
            let location = medium
                .image
                .as_ref()
                .map(|image| location(image, backend))
                .transpose()?;
            Ok(MediumSpec {
                kind: medium.kind,
                source: location.map(|location| location.native.clone()),
            })
        });
        let console_password = match &request.console {
            ConsoleChoice::Open => None,
            ConsoleChoice::Password(password) => Some(self.seal(password)?),
        };
        let spec = VmSpec {
            name,
            title: request.name.clone(),
            vcpus: request.vcpus,
            max_vcpus: request.max_vcpus,
            topology: request.topology,
            cpu_model: request.cpu_model.clone(),
            memory: request.memory,
            max_memory: request.max_memory,
            firmware: request.firmware,
            boot: request.boot.clone(),
            volumes,
            attached: Vec::new(),
            media: media.collect::<Result<_>>()?,
            nics: nics.collect::<Result<_>>()?,
            graphics: request.graphics.clone(),
            video: request.video.clone(),
            console_password,
            guest: self.first_boot(now, vm, backend, request)?,
            host: place.host,
        };
        Ok(Specified {
            spec,
            volumes: records,
        })
    }

    /// How a volume is made from an image on this backend.
    pub(in crate::layers) fn start_from(&self, backend: &BackendId, image: &Image) -> Result<VolumeSource> {
        let location = location(image, backend)?;
        let capabilities = self.backend(backend)?.capabilities();
        let (image, format) = (location.native.clone(), location.format);
        if self.policy.layered_disks && capabilities.get(Capability::VolumeLayer).usable() {
            Ok(VolumeSource::Layer { image, format })
        } else {
            Ok(VolumeSource::Copy { image, format })
        }
    }

    /// What an interface is plugged into: the network, or the site's usual one.
    pub(in crate::layers) fn plug(
        &self,
        now: &Snapshot,
        backend: &BackendId,
        network: Option<NetworkId>,
    ) -> Result<NicSource> {
        let Some(id) = network else {
            return self.choose_network(now, backend);
        };
        let found = now.networks.get(&id);
        let found = found.ok_or_else(|| Error::not_found(NetworkId::NOUN, id))?;
        if found.backend != *backend {
            let text = format!("network {} is not on backend {backend}", found.name);
            return Err(Error::invalid("network", text));
        }
        Ok(NicSource::Network(found.name.clone()))
    }

    /// First-boot set-up, where the site wants it, the backend delivers it and the VM boots a disk image. What a
    /// client asked for in so many words is refused where it cannot be delivered.
    fn first_boot(
        &self,
        now: &Snapshot,
        vm: VmId,
        backend: &BackendId,
        request: &CreateRequest,
    ) -> Result<Option<GuestSetup>> {
        let nics = request.nics.as_deref().unwrap_or_default();
        let wanted = request.user_data.is_some()
            || !request.ssh_keys.is_empty()
            || nics.iter().any(|nic| nic.address.is_some());
        let support = self.backend(backend)?.capabilities();
        let support = support.get(Capability::GuestSetup);
        let Some(image) = request.image() else {
            return match wanted {
                true => Err(Error::unsupported(
                    "first-boot set-up needs a disk image that runs it",
                )),
                false => Ok(None),
            };
        };
        if !(self.policy.guest_setup && support.usable()) {
            return match wanted {
                true => Err(Error::unsupported(format!(
                    "backend {backend} delivers no first-boot set-up: {}",
                    support.reason().unwrap_or("the site has switched it off")
                ))),
                false => Ok(None),
            };
        }
        let user = request.login.as_ref().and_then(|login| login.user.clone());
        let password = request.login.as_ref().map(|login| self.seal(&login.password));
        let mut addresses = Vec::new();
        for (place, nic) in nics.iter().enumerate() {
            if let Some(address) = nic.address {
                let range = nic.network.and_then(|id| now.networks.get(&id));
                let range = range.and_then(|network| network.ranges.first());
                let host_bits = if address.is_ipv4() { 32 } else { 128 };
                addresses.push(StaticAddress {
                    nic: place,
                    address,
                    prefix: range.map_or(host_bits, |range| range.prefix),
                    gateway: range.and_then(|range| range.gateway).map(Into::into),
                });
            }
        }
        Ok(Some(GuestSetup {
            hostname: request
                .hostname
                .clone()
                .unwrap_or_else(|| host_name(&request.name, vm)),
            admin_user: user.unwrap_or_else(|| image.admin_user.clone()),
            admin_password: password.transpose()?,
            ssh_keys: request.ssh_keys.clone(),
            user_data: request
                .user_data
                .as_ref()
                .map(|data| self.seal(data))
                .transpose()?,
            addresses,
        }))
    }
}

/// Where a backend has an image.
pub(in crate::layers) fn location<'i>(image: &'i Image, backend: &BackendId) -> Result<&'i ImageLocation> {
    let mut locations = image.locations.iter();
    locations
        .find(|location| location.backend == *backend)
        .ok_or_else(|| Error::internal(format!("image {} is not on backend {backend}", image.name)))
}

/// The layout of a volume that starts from `source`.
pub(in crate::layers) fn format_of(source: &VolumeSource) -> VolumeFormat {
    match source {
        VolumeSource::Layer { .. } | VolumeSource::Blank => VolumeFormat::Qcow2,
        VolumeSource::Copy { format, .. } => *format,
    }
}
