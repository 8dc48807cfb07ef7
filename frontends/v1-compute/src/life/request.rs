//! From the body of a creation to what the core is asked for. Everything that cannot be done is refused here, with
//! the reason, before anything is made; what is only recorded goes into the machine's settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use babelvisor_core::Error;
use babelvisor_core::inventory::Snapshot;
use babelvisor_core::layers::{
    ConsoleChoice, CreateRequest, DiskRequest, MediumRequest, NicRequest, Root, Wish,
};
use babelvisor_core::model::{
    BackendId, BootDevice, Caller, ClusterId, Firmware, GroupId, Image, ImageKind, MediumKind, NetworkId,
    VideoAdapter, VmGroup, VolumeId, ZoneId,
};
use babelvisor_core::secret::Secret;
use uuid::Uuid;

use super::cloud_init;
use super::details::more;
use super::entry::setting;
use super::wanted::{Bound, Disk, Interface, Medium, Meta, Video, Wanted, said};
use crate::V1Compute;
use crate::decode::uuid;
use crate::error::{Code, Fault};
use crate::place;

/// Letters and digits of a console password; VNC cuts longer ones off.
const CONSOLE_PASSWORD: usize = 8;
/// Bytes of the document's kB.
const KB: u64 = 1024;
/// The network name of what a virtual private cloud would be.
const PRIVATE: &str = "internal";

/// Sockets, cores of each, threads of each.
type Topology = (u32, u32, u32);

/// What one machine is made of.
pub(super) struct Asked {
    /// Towards the core.
    pub(super) request: CreateRequest,
    /// Volumes that exist and are plugged in once the machine is there, with the bus.
    pub(super) attached: Vec<(VolumeId, Option<String>)>,
}

impl V1Compute {
    /// What the core is asked for.
    ///
    /// # Errors
    /// 10001 for what is missing or does not fit together, 22001 for what does not exist, 22005 for what cannot be
    /// done, 22211 for an image that cannot be read in.
    pub(super) async fn asked(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        name: &str,
        importing: bool,
    ) -> Result<Asked, Fault> {
        let meta = wanted.meta.as_ref();
        refuse(wanted)?;
        let now = self.core.now();
        let disks = wanted.disks.as_deref().unwrap_or_default();
        let mut images = Vec::with_capacity(disks.len());
        for (number, disk) in disks.iter().enumerate() {
            images.push(self.image_of(caller, wanted, disk, number, importing).await?);
        }
        if importing && images.iter().all(Option::is_none) {
            return Err(Fault::parameter("disks: none of them names an image to import"));
        }
        let mut request = CreateRequest {
            name: name.to_owned(),
            vcpus: required("cpunr", wanted.cpunr)?,
            memory: required("mem_size", wanted.mem_size)?,
            firmware: firmware(meta),
            video: adapters(meta),
            os: said(&wanted.os).map(str::to_owned),
            group: self.group(caller, said(&wanted.object_group)).await?,
            console: ConsoleChoice::Password(Secret::random(CONSOLE_PASSWORD)),
            settings: self.recorded_settings(wanted, &now)?,
            importing,
            ..CreateRequest::default()
        };
        (request.max_vcpus, request.topology) = processors(wanted, request.vcpus)?;
        let attached = self.disks(&now, disks, images, &mut request)?;
        self.media(caller, wanted, &mut request).await?;
        self.wish(&now, wanted, &mut request.wish)?;
        let home = home(&now, &request);
        let nics = wanted.interfaces.as_deref().unwrap_or_default();
        let nics: Result<_, Fault> = nics
            .iter()
            .map(|nic| self.interface(&now, home.as_ref(), nic))
            .collect();
        request.nics = Some(nics?);
        if let Some(data) = &wanted.cloud_init_data {
            cloud_init::apply(data, &mut request)?;
            let sealed = self.core.seal(&Secret::new(data.to_string()))?;
            let sealed = serde_json::to_string(&sealed).map_err(crate::encode::unwritable)?;
            request.settings.insert(cloud_init::RECORDED.to_owned(), sealed);
        }
        Ok(Asked { request, attached })
    }

    async fn image_of(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        disk: &Disk,
        number: usize,
        importing: bool,
    ) -> Result<Option<Arc<Image>>, Fault> {
        // The image of the machine as a whole is that of its first disk.
        let whole = said(&wanted.image_uuid).filter(|_| number == 0);
        let found = match (said(&disk.image_uuid).or(whole), said(&disk.image_name)) {
            (Some(uuid), _) => self.image(caller, "image_uuid", uuid).await,
            (None, Some(name)) => self.image_named(caller, name),
            (None, None) => return Ok(None),
        };
        let checked = match said(&disk.repository_uuid) {
            Some(repository) => self.repository(repository).and(found),
            None => found,
        };
        match checked {
            Err(fault) if importing && !fault.is(Code::Parameter) => {
                Err(Fault::saying(Code::ImportFailed, fault.desc().to_owned()))
            }
            checked => checked.map(Some),
        }
    }

    /// The disks: the first is the root disk.
    fn disks(
        &self,
        now: &Snapshot,
        disks: &[Disk],
        images: Vec<Option<Arc<Image>>>,
        request: &mut CreateRequest,
    ) -> Result<Vec<(VolumeId, Option<String>)>, Fault> {
        request.root = Root::None;
        let mut attached = Vec::new();
        for (number, (disk, image)) in disks.iter().zip(images).enumerate() {
            let bus = bus(disk);
            if let Some(known) = disk
                .disk_vsd_source
                .as_ref()
                .and_then(|known| said(&known.volume_uuid))
            {
                attached.push((VolumeId(uuid("volume_uuid", known)?), bus));
                continue;
            }
            let volume = disk.disk_unified_vsd.as_ref().ok_or_else(|| {
                Fault::parameter("disks: one of disk_unified_vsd and disk_vsd_source is needed")
            })?;
            let size = volume.capacity.or(volume.disk_capacity).unwrap_or_default();
            let pool = match said(&volume.pool_uuid) {
                Some(said) => Some(self.pool(now, "pool_uuid", said)?),
                None => None,
            };
            if number == 0 {
                request.disk = size;
                request.root_bus = bus;
                request.wish.pool = pool;
                request.root = image.map_or(Root::Blank, Root::Image);
            } else {
                request.disks.push(DiskRequest {
                    id: Some(VolumeId::random()),
                    name: said(&volume.volume_name).unwrap_or_default().to_owned(),
                    size,
                    image,
                    pool,
                    bus,
                    offering: None,
                });
            }
        }
        Ok(attached)
    }

    /// The drives. There always is one for optical discs, because an image can be put into it while the machine
    /// runs; one for floppy disks is made for an image only.
    async fn media(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        request: &mut CreateRequest,
    ) -> Result<(), Fault> {
        let disc = self.medium(caller, wanted.cdrom.as_ref()).await?;
        let floppy = self.medium(caller, wanted.floppy.as_ref()).await?;
        request.boot.push(BootDevice::Disk);
        request.boot.push(BootDevice::Cdrom);
        request.media.push(MediumRequest {
            kind: MediumKind::Cdrom,
            image: disc,
        });
        if floppy.is_some() {
            request.media.push(MediumRequest {
                kind: MediumKind::Floppy,
                image: floppy,
            });
        }
        Ok(())
    }

    async fn medium(&self, caller: &Caller, medium: Option<&Medium>) -> Result<Option<Arc<Image>>, Fault> {
        let Some(medium) = medium else { return Ok(None) };
        if let Some(repository) = said(&medium.repository_uuid) {
            self.repository(repository)?;
        }
        let found = match (said(&medium.image_uuid), said(&medium.name)) {
            (Some(uuid), _) => self.image(caller, "image_uuid", uuid).await?,
            (None, Some(name)) => self.image_named(caller, name)?,
            (None, None) => return Ok(None),
        };
        if found.kind != ImageKind::Iso {
            let why = format!("image {} is a disk, not a medium for a drive", found.name);
            return Err(Error::invalid("cdrom", why).into());
        }
        Ok(Some(found))
    }

    fn wish(&self, now: &Snapshot, wanted: &Wanted, wish: &mut Wish) -> Result<(), Fault> {
        if let Some(said) = said(&wanted.cluster_uuid) {
            wish.cluster = Some(ClusterId(self.cluster(now, said)?.uuid));
        }
        if let Some(said) = said(&wanted.zone) {
            let mut zones = place::zones(now).into_iter();
            let zone = zones.find(|zone| place::is(said, zone.uuid));
            let zone = zone.ok_or_else(|| Fault::unknown("zone", said))?;
            wish.zone = Some(ZoneId(zone.uuid));
        }
        Ok(())
    }

    /// An interface as the core is asked for it.
    pub(super) fn interface(
        &self,
        now: &Snapshot,
        home: Option<&BackendId>,
        nic: &Interface,
    ) -> Result<NicRequest, Fault> {
        Ok(NicRequest {
            network: self.network_of(now, home, nic)?,
            // Chosen here, so that the answer can tell it.
            mac: Some(said(&nic.mac_address).map_or_else(random_mac, str::to_lowercase)),
            model: said(&nic.interface_model_type).map(str::to_owned),
            address: None,
        })
    }

    /// The network that an interface names; none is the site's usual one.
    pub(super) fn network_of(
        &self,
        now: &Snapshot,
        home: Option<&BackendId>,
        nic: &Interface,
    ) -> Result<Option<NetworkId>, Fault> {
        let private = said(&nic.interface_type) == Some(PRIVATE);
        if private || said(&nic.switch_uuid).is_some() || said(&nic.gateway_uuid).is_some() {
            return Err(Error::unsupported("there are no private networks, use a port group").into());
        }
        let Some(name) = self.port_group(now, said(&nic.port_group).unwrap_or_default())? else {
            return Ok(None);
        };
        let mut networks: Vec<_> = now
            .networks
            .values()
            .filter(|network| network.name == name && home.is_none_or(|home| network.backend == *home))
            .collect();
        networks.sort_by(|one, other| one.backend.cmp(&other.backend));
        let network = networks.first();
        let network = network.ok_or_else(|| {
            Error::unsupported(format!("the backend of this machine has no network {name}"))
        })?;
        Ok(Some(network.id))
    }

    /// The group that `said` names; none is the tenant's default one.
    pub(super) async fn group(&self, caller: &Caller, said: Option<&str>) -> Result<Option<GroupId>, Fault> {
        let Some(said) = said else { return Ok(None) };
        if place::is(said, place::default_group(&caller.tenant)) {
            return Ok(None);
        }
        let id = GroupId(uuid("object_group", said)?);
        let found = self.core.entry::<VmGroup>(caller, id).await;
        let found = found.map_err(|_| Fault::unknown("group", said))?;
        Ok(Some(found.id))
    }

    fn recorded_settings(&self, wanted: &Wanted, now: &Snapshot) -> Result<BTreeMap<String, String>, Fault> {
        let mut settings = BTreeMap::new();
        let mut note = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                settings.insert(name.to_owned(), value);
            }
        };
        note(setting::TYPE, wanted.kind.clone());
        note(more::BASELINE, wanted.baseline.clone());
        note(
            setting::HUGE_PAGES,
            wanted.memory_huge_pages_enable.map(|on| on.to_string()),
        );
        note(setting::MEMORY_MAX, wanted.mem_max.map(|bytes| bytes.to_string()));
        if let Some(meta) = &wanted.meta {
            note(more::HA_MODE, meta.ha_mode.clone());
            note(more::HA_CONFIG, meta.ha_config.as_ref().map(ToString::to_string));
            note(more::PANIC_MODEL, meta.panic_model.clone());
            note(
                more::STARTUP,
                meta.startup_setting.as_ref().map(ToString::to_string),
            );
            note(
                more::MEMORY_SECURITY,
                meta.mem_sec_enabled.map(|on| on.to_string()),
            );
            note(setting::SHOWN_IP, meta.shown_ip.clone());
            note(setting::NESTED, meta.virt_nested_enable.map(|on| on.to_string()));
            note(more::LOCALIZATION, meta.data_localization_mode_on.clone());
            note(more::HYPERV, meta.hyperv_switch.clone());
            note(more::MOUSE, meta.mouse_input_type.clone());
            note(more::BOOT_MENU, meta.boot_menu_timeout.clone());
            note(more::CPU_MODE, meta.cpu_mode.clone());
        }
        for (slot, nic) in wanted.interfaces.iter().flatten().enumerate() {
            note(&setting::bound_ip(slot), nic.bound_ip.clone());
        }
        if let Some(said) = said(&wanted.user_uuid) {
            let user = uuid("user_uuid", said)?;
            let mut accounts = now.accounts.values();
            let account = accounts.find(|account| account.id.0 == user);
            let account = account.ok_or_else(|| Fault::unknown("user", said))?;
            note(setting::OWNER, Some(account.id.to_string()));
            note(setting::OWNER_NAME, Some(account.name.clone()));
        }
        Ok(settings)
    }
}

/// Refuses what no machine here can have.
fn refuse(wanted: &Wanted) -> Result<(), Fault> {
    const ON: Option<u8> = Some(1);
    if let Some(meta) = &wanted.meta
        && (meta.recover_to_related_zones == ON || meta.master_zone_take_over == ON)
    {
        return Err(Error::unsupported("there is no second cluster to take over").into());
    }
    let limited = |bound: &Option<Bound>| bound.is_some_and(|bound| bound.average > 0);
    let mut nics = wanted.interfaces.iter().flatten();
    if nics.any(|nic| limited(&nic.in_bount) || limited(&nic.out_bount)) {
        let why = "limits of an interface are set with interface/setqos once the machine is there";
        return Err(Error::unsupported(why).into());
    }
    Ok(())
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::parameter(format!("{name} is missing")))
}

fn firmware(meta: Option<&Meta>) -> Firmware {
    match meta.and_then(|meta| said(&meta.os_loader_path)) {
        Some("UEFI") => Firmware::Uefi,
        Some(_) | None => Firmware::Bios,
    }
}

fn adapters(meta: Option<&Meta>) -> Vec<VideoAdapter> {
    let all = meta.and_then(|meta| meta.video.as_deref()).unwrap_or_default();
    all.iter().map(adapter).collect()
}

/// A video adapter as the core knows it.
pub(super) fn adapter(video: &Video) -> VideoAdapter {
    VideoAdapter {
        model: said(&video.model_type).unwrap_or("vga").to_owned(),
        memory: video
            .vga_mem
            .or(video.ram_size)
            .filter(|kb| *kb > 0)
            .map(|kb| kb.saturating_mul(KB)),
        heads: video.heads.filter(|heads| *heads > 0),
    }
}

/// The most vCPUs and the topology: sockets × cores of each = most. What is not said follows from the rest.
fn processors(wanted: &Wanted, vcpus: u32) -> Result<(u32, Option<Topology>), Fault> {
    let positive = |number: Option<u32>| number.filter(|number| *number > 0);
    let (most, sockets, cores) = (
        positive(wanted.max_cpu_nr),
        positive(wanted.cpu_sockets),
        positive(wanted.cpu_socket_cores),
    );
    let derived = match (most, sockets, cores) {
        (most, None, None) => (most.unwrap_or(vcpus), None),
        (None, Some(sockets), Some(cores)) => (sockets.saturating_mul(cores), Some((sockets, cores))),
        (None, Some(one), None) | (None, None, Some(one)) => {
            let most = vcpus.max(one);
            (most, Some(pair(sockets, most, one)))
        }
        (Some(most), Some(sockets), Some(cores)) => (most, Some((sockets, cores))),
        (Some(most), Some(one), None) | (Some(most), None, Some(one)) => {
            (most, Some(pair(sockets, most, one)))
        }
    };
    match derived {
        (most, Some((sockets, cores))) if sockets.checked_mul(cores) != Some(most) => Err(Fault::parameter(
            format!("cpu_sockets x cpu_socket_cores: {sockets} x {cores} is not {most}"),
        )),
        (most, topology) => Ok((most, topology.map(|(sockets, cores)| (sockets, cores, 1)))),
    }
}

/// Sockets and cores of which one is said.
const fn pair(sockets: Option<u32>, most: u32, one: u32) -> (u32, u32) {
    match sockets {
        Some(_) => (one, most / one),
        None => (most / one, one),
    }
}

/// The bus that a disk asks for, in words or by its letter.
fn bus(disk: &Disk) -> Option<String> {
    let by_letter = said(&disk.disk_target_device).and_then(bus_of_letter);
    said(&disk.disk_target_bus).or(by_letter).map(str::to_owned)
}

/// The bus that a device letter stands for.
pub(super) fn bus_of_letter(letter: &str) -> Option<&'static str> {
    match letter.get(..2)? {
        "vd" => Some("virtio"),
        "sd" => Some("scsi"),
        "hd" => Some("ide"),
        _ => None,
    }
}

/// The backend that pools and images leave to choose, if there is but one.
fn home(now: &Snapshot, request: &CreateRequest) -> Option<BackendId> {
    let pools = request
        .wish
        .pool
        .iter()
        .chain(request.disks.iter().filter_map(|disk| disk.pool.as_ref()));
    let mut of_pools = pools
        .filter_map(|id| now.pools.get(id))
        .map(|pool| pool.backend.clone());
    of_pools.next().or_else(|| {
        let image = request.image()?;
        let up = image
            .locations
            .iter()
            .filter(|location| now.backend_up(&location.backend));
        up.map(|location| location.backend.clone()).min()
    })
}

/// An address of the range that hypervisors use for their guests.
pub(super) fn random_mac() -> String {
    let [.., one, two, three] = Uuid::new_v4().into_bytes();
    format!("52:54:00:{one:02x}:{two:02x}:{three:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(most: Option<u32>, sockets: Option<u32>, cores: Option<u32>) -> Wanted {
        Wanted {
            max_cpu_nr: most,
            cpu_sockets: sockets,
            cpu_socket_cores: cores,
            ..Wanted::default()
        }
    }

    #[test]
    fn processors_follow_from_what_is_said() {
        let cases = [
            ((None, None, None), (2, None)),
            ((Some(4), None, None), (4, None)),
            ((Some(4), Some(2), Some(2)), (4, Some((2, 2, 1)))),
            ((None, Some(2), Some(4)), (8, Some((2, 4, 1)))),
            ((Some(4), Some(2), None), (4, Some((2, 2, 1)))),
            ((Some(4), None, Some(4)), (4, Some((1, 4, 1)))),
            ((None, Some(1), None), (2, Some((1, 2, 1)))),
            // A number of nothing is nothing said.
            ((Some(0), Some(0), Some(0)), (2, None)),
        ];
        for ((most, sockets, cores), expected) in cases {
            let found = processors(&wanted(most, sockets, cores), 2);
            assert_eq!(found.ok(), Some(expected), "{most:?} {sockets:?} {cores:?}");
        }
    }

    #[test]
    fn processors_that_contradict_each_other_are_refused() {
        for (most, sockets, cores) in [(Some(4), Some(3), None), (Some(4), Some(1), Some(2))] {
            let fault = processors(&wanted(most, sockets, cores), 2).unwrap_err();
            assert!(fault.is(Code::Parameter), "{}", fault.desc());
        }
    }

    #[test]
    fn a_mac_address_is_one_of_the_hypervisors() {
        let (one, other) = (random_mac(), random_mac());
        assert!(one.starts_with("52:54:00:") && one.len() == 17, "{one}");
        assert_ne!(one, other);
    }
}
