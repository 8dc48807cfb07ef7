//! From what is asked for to what the hypervisor reports: facts, device names, MAC addresses, definition.

use std::fmt::Write as _;
use std::sync::Arc;

use babelvisor_core::model::{
    AgentState, BackendId, BootDevice, Cpu, Disk, Firmware, Graphics, GraphicsKind, HostId, JobId,
    MediumKind, Memory, NetworkId, Nic, NicId, NicSource, NicSpec, PoolVolume, PowerState, RemovableMedium,
    VmFacts, VmId, VmSpec, Volume, VolumeFormat,
};
use babelvisor_core::{Error, Result};

use crate::error;

/// A guest to be, however it was asked for.
pub(crate) struct Plan {
    pub(crate) id: VmId,
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) vcpus: u32,
    pub(crate) max_vcpus: u32,
    pub(crate) topology: Option<(u32, u32, u32)>,
    pub(crate) cpu_model: Option<String>,
    pub(crate) memory: u64,
    pub(crate) max_memory: u64,
    pub(crate) firmware: Firmware,
    pub(crate) boot: Vec<BootDevice>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) media: Vec<RemovableMedium>,
    pub(crate) nics: Vec<NicSpec>,
    pub(crate) graphics: Vec<GraphicsKind>,
    pub(crate) video: Vec<String>,
    pub(crate) has_password: bool,
    pub(crate) made_by: Option<JobId>,
    /// The host, where there is no choice.
    pub(crate) host: Option<HostId>,
}

impl Plan {
    /// What a spec asks for, with its volumes as `disks`.
    pub(crate) fn of_spec(
        vm: VmId,
        spec: &VmSpec,
        disks: &[Volume],
        seed: Option<&Volume>,
        job: Option<JobId>,
    ) -> Result<Self> {
        error::check_name("name", &spec.name)?;
        if spec.vcpus == 0 {
            return Err(Error::invalid("vcpus", "a vm needs at least 1 vcpu"));
        }
        if spec.memory == 0 {
            return Err(Error::invalid("memory", "a vm needs memory"));
        }
        if disks.len() != spec.volumes.len() {
            return Err(Error::invalid(
                "volumes",
                format!(
                    "the spec has {} volumes, but {} were handed over",
                    spec.volumes.len(),
                    disks.len()
                ),
            ));
        }
        for mac in spec.nics.iter().filter_map(|nic| nic.mac.as_deref()) {
            check_mac(mac)?;
        }
        let disks = attach_all(spec, disks)?;
        Ok(Self {
            id: vm,
            name: spec.name.clone(),
            title: (!spec.title.is_empty()).then(|| spec.title.clone()),
            vcpus: spec.vcpus,
            max_vcpus: spec.max_vcpus.max(spec.vcpus),
            topology: spec.topology,
            cpu_model: spec.cpu_model.clone(),
            memory: spec.memory,
            max_memory: spec.max_memory.max(spec.memory),
            firmware: spec.firmware,
            boot: spec.boot.clone(),
            media: media(spec, seed, &disks)?,
            disks,
            nics: spec.nics.clone(),
            graphics: spec.graphics.clone(),
            video: spec.video.iter().map(|adapter| adapter.model.clone()).collect(),
            has_password: spec.console_password.is_some(),
            made_by: job,
            host: spec.host,
        })
    }

    /// The guest number `index` of those that are there from the start; sizes go round.
    pub(crate) fn generated(backend: &BackendId, index: u32, network: Option<&str>) -> Self {
        let name = format!("vm-{:05}", u64::from(index) + 1);
        let disks = loose_disks(&name, &[20 << 30]);
        Self {
            id: VmId::computed(backend, &name),
            name,
            title: None,
            vcpus: 1 << (index % 4),
            max_vcpus: 1 << (index % 4),
            topology: None,
            cpu_model: None,
            memory: 1 << (30 + index % 3),
            max_memory: 1 << (30 + index % 3),
            firmware: Firmware::Bios,
            boot: Vec::new(),
            disks,
            media: Vec::new(),
            nics: network.map(nic_on).into_iter().collect(),
            graphics: Vec::new(),
            video: Vec::new(),
            has_password: false,
            made_by: None,
            host: None,
        }
    }

    /// What the hypervisor reports of it while it is off.
    pub(crate) fn into_facts(self, backend: &BackendId, host: HostId) -> VmFacts {
        let nics = self
            .nics
            .iter()
            .zip(0_u32..)
            .map(|(nic, slot)| plug(backend, self.id, nic, slot))
            .collect();
        let graphics = match self.graphics.is_empty() {
            true => vec![GraphicsKind::Vnc],
            false => self.graphics,
        };
        let boot = match self.boot.is_empty() {
            true => vec![BootDevice::Disk],
            false => self.boot,
        };
        let video = match self.video.is_empty() {
            true => vec!["virtio".to_owned()],
            false => self.video,
        };
        let mut facts = VmFacts {
            id: self.id,
            backend: backend.clone(),
            native: self.id.to_string(),
            name: self.name,
            host,
            power: PowerState::Off,
            saved: false,
            persistent: true,
            autostart: false,
            cpu: Cpu {
                current: self.vcpus,
                max: self.max_vcpus,
                topology: self.topology,
                model: self.cpu_model,
            },
            memory: Memory {
                current: self.memory,
                max: self.max_memory,
            },
            firmware: self.firmware,
            boot,
            disks: self.disks,
            removable: self.media,
            nics,
            graphics: graphics
                .into_iter()
                .map(|kind| Graphics {
                    kind,
                    port: None,
                    listen: Some("127.0.0.1".to_owned()),
                    has_password: self.has_password,
                })
                .collect(),
            video,
            host_devices: Vec::new(),
            agent: AgentState::Disconnected,
            definition: None,
            made_by: self.made_by,
        };
        facts.definition = Some(definition(&facts, self.title.as_deref()));
        facts
    }
}

/// An interface on `network`, with a MAC address of our choosing.
pub(crate) fn nic_on(network: &str) -> NicSpec {
    NicSpec {
        source: NicSource::Network(network.to_owned()),
        mac: None,
        model: None,
    }
}

/// Disks of these sizes that lie in no pool.
pub(crate) fn loose_disks(vm: &str, sizes: &[u64]) -> Vec<Disk> {
    let disk = |(slot, capacity): (usize, &u64)| {
        let target = disk_target(slot);
        Disk {
            source: format!("/memory/attached/{vm}-{target}"),
            target,
            bus: "virtio".to_owned(),
            volume: None,
            format: VolumeFormat::Raw,
            capacity: *capacity,
            readonly: false,
            root: slot == 0,
            limits: Default::default(),
        }
    };
    sizes.iter().enumerate().map(disk).collect()
}

/// The disks of a spec: those that were made for it, then those that existed.
fn attach_all(spec: &VmSpec, volumes: &[Volume]) -> Result<Vec<Disk>> {
    let made = volumes.iter().zip(&spec.volumes).map(|(volume, wanted)| Disk {
        target: String::new(),
        bus: wanted.bus.clone().unwrap_or_else(|| "virtio".to_owned()),
        volume: pool_volume(&volume.native),
        source: volume.native.clone(),
        format: volume.format,
        capacity: volume.capacity,
        readonly: false,
        root: false,
        limits: Default::default(),
    });
    let attached = spec.attached.iter().map(|disk| Disk {
        target: String::new(),
        bus: disk.bus.clone().unwrap_or_else(|| "virtio".to_owned()),
        volume: Some(disk.volume.clone()),
        source: native_key(&disk.volume.pool, &disk.volume.name),
        format: disk.format,
        capacity: 0,
        readonly: disk.readonly,
        root: false,
        limits: Default::default(),
    });
    let mut disks: Vec<Disk> = Vec::new();
    for mut disk in made.chain(attached) {
        disk.target = free_target(&disk.bus, disks.iter().map(|disk| disk.target.as_str()))?;
        disk.root = disks.is_empty();
        disks.push(disk);
    }
    Ok(disks)
}

/// The drives of a spec, its seed in a drive of its own.
fn media(spec: &VmSpec, seed: Option<&Volume>, disks: &[Disk]) -> Result<Vec<RemovableMedium>> {
    let mut drives: Vec<RemovableMedium> = Vec::new();
    let seed = seed.map(|volume| (MediumKind::Cdrom, Some(volume.native.clone())));
    let media = spec.media.iter();
    let media = media.map(|medium| (medium.kind, medium.source.as_deref().map(full_key)));
    for (kind, source) in seed.into_iter().chain(media) {
        let bus = match kind {
            MediumKind::Cdrom => "scsi",
            MediumKind::Floppy => "fdc",
        };
        let taken = disks.iter().map(|disk| disk.target.as_str());
        let taken = taken.chain(drives.iter().map(|drive| drive.target.as_str()));
        let target = free_target(bus, taken)?;
        drives.push(RemovableMedium {
            target,
            kind: kind.as_ref().to_owned(),
            source,
        });
    }
    Ok(drives)
}

/// A key in full: an image's location may say `pool/name`.
fn full_key(key: &str) -> String {
    match key.split_once('/') {
        Some((pool, name)) if !pool.is_empty() => native_key(pool, name),
        Some(_) | None => key.to_owned(),
    }
}

/// A free device name on a bus of a guest.
pub(crate) fn target_on(bus: &str, facts: &VmFacts) -> Result<String> {
    let disks = facts.disks.iter().map(|disk| disk.target.as_str());
    free_target(
        bus,
        disks.chain(facts.removable.iter().map(|drive| drive.target.as_str())),
    )
}

fn free_target<'t>(bus: &str, taken: impl Iterator<Item = &'t str>) -> Result<String> {
    let prefix = match bus {
        "virtio" => "vd",
        "scsi" | "sata" | "usb" => "sd",
        "ide" => "hd",
        "fdc" => "fd",
        _ => {
            let text = format!("bus {bus} is not virtio, scsi, sata, usb or ide");
            return Err(Error::invalid("bus", text));
        }
    };
    let taken: Vec<&str> = taken.collect();
    let mut names = (0..1024).map(|place| format!("{prefix}{}", letters(place)));
    names
        .find(|name| !taken.contains(&name.as_str()))
        .ok_or_else(|| Error::invalid("bus", "the bus is full"))
}

/// A volume's own key.
pub(crate) fn native_key(pool: &str, name: &str) -> String {
    format!("/memory/{pool}/{name}")
}

/// Pool and name of a volume's own key; neither contains a slash.
fn pool_volume(native: &str) -> Option<PoolVolume> {
    let (pool, name) = native.strip_prefix("/memory/")?.split_once('/')?;
    Some(PoolVolume {
        pool: pool.to_owned(),
        name: name.to_owned(),
    })
}

/// `vda` … `vdz`, `vdaa` …, as the kernel names virtio disks.
fn disk_target(slot: usize) -> String {
    format!("vd{}", letters(slot))
}

/// `a` … `z`, `aa` …
fn letters(slot: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = slot + 1;
    while rest > 0 {
        rest -= 1;
        // A remainder of 26 always fits a byte.
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or(0)));
        rest /= 26;
    }
    letters.iter().rev().collect()
}

/// How the source of an interface is reported.
pub(crate) fn source_of(backend: &BackendId, source: &NicSource) -> (String, Option<NetworkId>) {
    match source {
        NicSource::Network(name) => (name.clone(), Some(NetworkId::computed(backend, name))),
        NicSource::Bridge(name) => (name.clone(), None),
        NicSource::User => ("user".to_owned(), None),
    }
}

pub(crate) fn plug(backend: &BackendId, vm: VmId, spec: &NicSpec, slot: u32) -> Nic {
    let id = NicId::computed(backend, &format!("{vm}/{slot}"));
    let (source, network) = source_of(backend, &spec.source);
    Nic {
        id,
        slot,
        mac: spec
            .mac
            .as_ref()
            .map_or_else(|| mac_of(id), |mac| mac.to_ascii_lowercase()),
        model: spec.model.clone().unwrap_or_else(|| "virtio".to_owned()),
        source,
        network,
        target: None,
        addresses: Vec::new(),
        inbound: None,
        outbound: None,
    }
}

/// A locally administered address; with five bytes of the interface's id, two equal ones are unlikely among
/// any number of guests that one process can hold.
fn mac_of(nic: NicId) -> String {
    let [a, b, c, d, e, ..] = *nic.0.as_bytes();
    format!("52:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
}

pub(crate) fn check_mac(mac: &str) -> Result<()> {
    let parts: Vec<_> = mac.split(':').collect();
    let hex = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.len() == 6 && parts.iter().all(hex) {
        Ok(())
    } else {
        Err(Error::invalid(
            "mac",
            "a MAC address is six pairs of hex digits with colons between",
        ))
    }
}

/// The definition in words. Quoted, so that no name can add a line.
pub(crate) fn definition(facts: &VmFacts, title: Option<&str>) -> Arc<str> {
    let mut text = format!(
        "name: {:?}\nid: {}\nvcpus: {}\nmemory: {} bytes\nfirmware: {}\n",
        facts.name,
        facts.id,
        facts.cpu.max,
        facts.memory.max,
        match facts.firmware {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        },
    );
    // Writing to a String cannot fail.
    if let Some(title) = title {
        let _ = writeln!(text, "title: {title:?}");
    }
    for disk in &facts.disks {
        let _ = writeln!(
            text,
            "disk {}: {:?} {} {} bytes",
            disk.target,
            disk.source,
            disk.format.as_ref(),
            disk.capacity
        );
    }
    for medium in &facts.removable {
        let _ = writeln!(
            text,
            "{} {}: {:?}",
            medium.kind,
            medium.target,
            medium.source.as_deref().unwrap_or("")
        );
    }
    for nic in &facts.nics {
        let _ = writeln!(text, "nic {}: {} on {:?}", nic.slot, nic.mac, nic.source);
    }
    for display in &facts.graphics {
        let _ = writeln!(text, "display: {}", display.kind.as_ref());
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_named_as_the_kernel_does() {
        let names: Vec<_> = [0, 1, 25, 26, 27, 51, 52, 701, 702]
            .into_iter()
            .map(disk_target)
            .collect();
        assert_eq!(
            names,
            [
                "vda", "vdb", "vdz", "vdaa", "vdab", "vdaz", "vdba", "vdzz", "vdaaa"
            ]
        );
    }

    #[test]
    fn a_mac_address_is_checked() {
        check_mac("52:54:00:AB:cd:01").unwrap();
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:0g",
            "5254.00ab.cd01",
            "52:54:00:ab:cd:+1",
        ] {
            assert_eq!(check_mac(bad).unwrap_err().field.as_deref(), Some("mac"), "{bad}");
        }
    }

    #[test]
    fn a_name_cannot_add_lines_to_the_definition() {
        let backend = BackendId::new("mem");
        let mut plan = Plan::generated(&backend, 0, Some("lan"));
        plan.title = Some("nice\nvcpus: 4096".to_owned());
        let facts = plan.into_facts(&backend, HostId::computed(&backend, "host-1"));
        let text = facts.definition.unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("vcpus:")).count(), 1);
    }
}
