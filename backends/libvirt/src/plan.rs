//! From the core's spec of a new VM to a libvirt definition.

use babelvisor_core::model::{
    BootDevice, Firmware, GraphicsKind, MediumKind, NicSource as CoreNicSource, VideoAdapter, VmId, VmSpec,
    Volume, VolumeFormat,
};
use babelvisor_core::{Error, ErrorKind};
use virt::connect::Connect;

use crate::config::{Accel, LibvirtConfig};
use crate::connection::CallError;
use crate::convert::META_JOB;
use crate::define::vnc_password;
use crate::error::code;
use crate::firstboot::derived_mac;
use crate::quirks::Driver;
use crate::read::Profile;
use crate::upload;
use crate::usage;
use crate::volumes;
use crate::xml::build::{
    CPU_MODES, DiskSource, DiskSpec, DomainType, NicSource, NicSpec, VideoSpec, disk_name,
};
use crate::xml::host::VolumeXml;
use crate::xml::{DomainSpec, GraphicsSpec};

/// Video memory of the usual card.
const USUAL_VIDEO: u64 = 16 << 20;

/// How the CPU of a new domain is run on this host.
///
/// A host that lists KVM may still be unable to use it (nested guests, missing rights on the device), so in automatic
/// mode the host is also asked for its domain capabilities of that type.
pub(crate) fn domain_type(
    connection: &Connect,
    profile: &Profile,
    accel: Accel,
) -> Result<DomainType, CallError> {
    if profile.driver == Driver::Test {
        return Ok(DomainType::Test);
    }
    let arch = profile.capabilities.arch.as_str();
    let listed = profile.capabilities.offers(arch, "kvm");
    match accel {
        Accel::Tcg => Ok(DomainType::Qemu),
        Accel::Kvm if listed => Ok(DomainType::Kvm),
        Accel::Kvm => Err(Error::unsupported(
            "accel is set to kvm but the host does not offer it: check /dev/kvm there, or set accel to auto or tcg",
        )
        .into()),
        Accel::Auto => {
            let usable = listed && connection.domain_capabilities(None, Some(arch), None, Some("kvm"), 0).is_ok();
            Ok(if usable { DomainType::Kvm } else { DomainType::Qemu })
        }
    }
}

/// What a definition is made from.
pub(crate) struct Plan<'a> {
    /// The settings of the host.
    pub config: &'a LibvirtConfig,
    /// The host's profile.
    pub profile: &'a Profile,
    /// The new VM's id: the domain UUID.
    pub vm: VmId,
    /// What it shall be.
    pub spec: &'a VmSpec,
    /// Its disks, made already, in order.
    pub disks: &'a [Volume],
    /// The first-boot medium.
    pub seed: Option<&'a Volume>,
    /// The first-boot medium's content, where it has to be written anew because only now the interfaces are known.
    pub seed_content: Option<&'a [u8]>,
    /// The console password in plain text.
    pub console_password: Option<&'a str>,
}

/// The MAC addresses of a new VM's interfaces, all of them chosen.
pub(crate) fn macs(vm: VmId, spec: &VmSpec) -> Vec<String> {
    let nics = spec.nics.iter().enumerate();
    nics.map(|(slot, nic)| match &nic.mac {
        Some(mac) => mac.to_ascii_lowercase(),
        None => derived_mac(vm, slot),
    })
    .collect()
}

/// Checks a name that becomes a libvirt domain name, and with it parts of paths on the host.
fn check_name(name: &str) -> Result<(), CallError> {
    let bad = name.is_empty()
        || name.len() > 128
        || name.starts_with('.')
        || name.trim() != name
        || name.chars().any(|c| c.is_control() || c == '/');
    if bad {
        return Err(
            Error::invalid("name", format!("{name:?} cannot be the name of a libvirt domain")).into(),
        );
    }
    Ok(())
}

/// Names of disks by their bus, each given once.
#[derive(Default)]
pub(crate) struct Targets(Vec<String>);

impl Targets {
    /// Those that are taken already.
    pub(crate) fn taken(names: impl IntoIterator<Item = String>) -> Targets {
        Targets(names.into_iter().collect())
    }

    /// The next free name on a bus.
    pub(crate) fn next(&mut self, bus: &str) -> String {
        let prefix = match bus {
            "virtio" => "vd",
            "ide" => "hd",
            "fdc" => "fd",
            _ => "sd",
        };
        let free = (0..)
            .map(|index| disk_name(prefix, index))
            .find(|name| !self.0.contains(name))
            .unwrap_or_default();
        self.0.push(free.clone());
        free
    }
}

/// The buses that disks may be asked for by.
pub(crate) fn disk_bus(bus: Option<&str>) -> Result<String, CallError> {
    match bus {
        None => Ok("virtio".into()),
        Some(bus @ ("virtio" | "scsi" | "sata" | "ide" | "usb")) => Ok(bus.into()),
        Some(other) => {
            let text = format!("{other:?} is no disk bus; give virtio, scsi, sata, ide or usb");
            Err(Error::invalid("bus", text).into())
        }
    }
}

/// libvirt's word for a disk's layout.
pub(crate) fn format_word(format: VolumeFormat) -> Result<String, CallError> {
    match format {
        VolumeFormat::Raw => Ok("raw".into()),
        VolumeFormat::Qcow2 => Ok("qcow2".into()),
        VolumeFormat::Other => {
            Err(Error::invalid("format", "a disk must be raw or qcow2, as declared").into())
        }
    }
}

/// libvirt's words for kinds of devices to boot from.
pub(crate) fn boot_classes(order: &[BootDevice]) -> Vec<&'static str> {
    let classes = order.iter().map(|device| match device {
        BootDevice::Disk => "hd",
        BootDevice::Cdrom => "cdrom",
        BootDevice::Network => "network",
        BootDevice::Floppy => "fd",
    });
    classes.collect()
}

/// What an interface is plugged into, in libvirt's terms; a network must exist.
pub(crate) fn nic_source(connection: &Connect, source: &CoreNicSource) -> Result<NicSource, CallError> {
    match source {
        CoreNicSource::Network(name) => match connection.lookup_network_by_name(name) {
            Ok(_) => Ok(NicSource::Network(name.clone())),
            Err(error) if code(&error) == 43 => Err(Error::not_found("network", name).into()),
            Err(error) => Err(error.into()),
        },
        CoreNicSource::Bridge(name) => Ok(NicSource::Bridge(name.clone())),
        CoreNicSource::User => Ok(NicSource::User),
    }
}

/// Video cards in libvirt's terms.
pub(crate) fn videos(adapters: &[VideoAdapter]) -> Vec<VideoSpec> {
    let videos = adapters.iter().map(|adapter| VideoSpec {
        model: adapter.model.clone(),
        memory: adapter.memory,
        heads: adapter.heads,
    });
    videos.collect()
}

/// The bus of a drive for removable media that guests boot from and installers have a driver for.
pub(crate) fn drive_bus(kind: MediumKind, arch: &str, machine: &str) -> &'static str {
    match kind {
        MediumKind::Floppy => "fdc",
        MediumKind::Cdrom if machine.contains("q35") => "sata",
        MediumKind::Cdrom if matches!(arch, "x86_64" | "i686") => "ide",
        MediumKind::Cdrom => "scsi",
    }
}

impl Plan<'_> {
    /// The definition.
    pub(crate) fn domain(&self, connection: &Connect, job: Option<String>) -> Result<DomainSpec, CallError> {
        let spec = self.spec;
        check_name(&spec.name)?;
        if let Some(host) = spec.host.filter(|host| *host != self.profile.host) {
            return Err(Error::not_found("host", host).into());
        }
        let (max_vcpus, max_memory) = self.sizes()?;
        self.check_cpu_model(connection)?;
        let arch = self.profile.capabilities.arch.clone();
        let has_machine = self.profile.capabilities.has_machine(&arch, &self.config.machine);
        let machine = if has_machine {
            self.config.machine.clone()
        } else {
            String::new()
        };
        let boot = match spec.boot.as_slice() {
            [] => vec!["hd"],
            order => boot_classes(order),
        };
        // libvirt takes no newline in a title.
        let title = spec.title.replace(['\n', '\r'], " ");
        let virt_type = domain_type(connection, self.profile, self.config.accel)?;
        let videos = match spec.video.as_slice() {
            [] if virt_type == DomainType::Test => Vec::new(),
            [] => vec![VideoSpec {
                model: "vga".into(),
                memory: Some(USUAL_VIDEO),
                heads: None,
            }],
            wanted => videos(wanted),
        };
        Ok(DomainSpec {
            name: spec.name.clone(),
            uuid: self.vm.0,
            title: (!title.trim().is_empty()).then_some(title),
            description: None,
            virt_type,
            disks: self.drives(connection, &arch, &machine)?,
            arch,
            machine,
            uefi: spec.firmware == Firmware::Uefi,
            emulator: None,
            memory: spec.memory,
            max_memory,
            vcpus: spec.vcpus,
            max_vcpus,
            topology: spec.topology,
            cpu_model: spec.cpu_model.clone(),
            nics: self.nics(connection)?,
            graphics: self.graphics(),
            videos,
            serial_log: self
                .config
                .serial_log_dir
                .as_ref()
                .map(|dir| format!("{dir}/{}.log", self.vm.0)),
            agent: true,
            boot: boot.into_iter().map(str::to_owned).collect(),
            metadata: job.map(|job| (META_JOB.to_owned(), job)).into_iter().collect(),
        })
    }

    /// What has to be done before the definition can be used.
    pub(crate) fn prepare(&self, connection: &Connect) -> Result<(), CallError> {
        match (self.seed, self.seed_content) {
            (Some(seed), Some(content)) => upload::refill(connection, &seed.native, content),
            (None, _) | (_, None) => Ok(()),
        }
    }

    fn sizes(&self) -> Result<(u32, u64), CallError> {
        let spec = self.spec;
        let invalid = |field: &str, text: String| Err(Error::invalid(field, text).into());
        if spec.vcpus == 0 {
            return invalid("vcpus", "a VM needs at least one vCPU".into());
        }
        if spec.memory == 0 {
            return invalid("memory", "a VM needs memory".into());
        }
        let max_vcpus = match spec.max_vcpus {
            0 => spec.vcpus,
            max if max >= spec.vcpus => max,
            max => {
                return invalid(
                    "max_vcpus",
                    format!("{max} is below the {} vCPUs in use", spec.vcpus),
                );
            }
        };
        let max_memory = match spec.max_memory {
            0 => spec.memory,
            max if max >= spec.memory => max,
            max => {
                return invalid(
                    "max_memory",
                    format!("{max} bytes are below the {} bytes in use", spec.memory),
                );
            }
        };
        if let Some((sockets, cores, threads)) = spec.topology {
            let product = sockets.checked_mul(cores).and_then(|n| n.checked_mul(threads));
            if product != Some(max_vcpus) {
                return invalid(
                    "topology",
                    format!(
                        "{sockets} sockets × {cores} cores × {threads} threads are not the maximum of {max_vcpus} vCPUs"
                    ),
                );
            }
        }
        Ok((max_vcpus, max_memory))
    }

    /// libvirt itself would only notice at the first start.
    fn check_cpu_model(&self, connection: &Connect) -> Result<(), CallError> {
        let Some(model) = &self.spec.cpu_model else {
            return Ok(());
        };
        if CPU_MODES.contains(&model.as_str()) {
            return Ok(());
        }
        let arch = &self.profile.capabilities.arch;
        match connection.cpu_models_names(arch, 0) {
            Ok(known) if known.is_empty() || known.contains(model) => Ok(()),
            Ok(_) => {
                let text = format!("the host knows no {arch} CPU model {model:?}");
                Err(Error::invalid("cpu_model", text).into())
            }
            // Some drivers have no list; then the start tells.
            Err(_) => Ok(()),
        }
    }

    fn drives(&self, connection: &Connect, arch: &str, machine: &str) -> Result<Vec<DiskSpec>, CallError> {
        let mut targets = Targets::default();
        let mut drives = Vec::new();
        let plain = DiskSpec {
            device: "disk".into(),
            source: None,
            format: "raw".into(),
            target: String::new(),
            bus: "virtio".into(),
            readonly: false,
            shareable: false,
            serial: None,
            boot_order: None,
        };
        for (place, volume) in self.disks.iter().enumerate() {
            let bus = self.spec.volumes.get(place).and_then(|spec| spec.bus.as_deref());
            let bus = disk_bus(bus)?;
            drives.push(DiskSpec {
                source: Some(source(connection, volume)?),
                format: format_word(volume.format)?,
                target: targets.next(&bus),
                bus,
                ..plain.clone()
            });
        }
        for disk in &self.spec.attached {
            let found = usage::for_disk(connection, &disk.volume, disk.format)?;
            usage::refuse_taken(connection, &found, self.vm.0, disk.readonly, disk.shareable)?;
            let bus = disk_bus(disk.bus.as_deref())?;
            drives.push(DiskSpec {
                source: Some(found.source()),
                format: format_word(disk.format)?,
                target: targets.next(&bus),
                bus,
                readonly: disk.readonly,
                shareable: disk.shareable,
                ..plain.clone()
            });
        }
        if let Some(seed) = self.seed {
            // Virtio SCSI: kernels made for clouds know it and virtio disks, but often neither SATA nor IDE.
            drives.push(DiskSpec {
                device: "cdrom".into(),
                source: Some(source(connection, seed)?),
                format: format_word(seed.format)?,
                target: targets.next("scsi"),
                bus: "scsi".into(),
                readonly: true,
                ..plain.clone()
            });
        }
        for medium in &self.spec.media {
            let bus = drive_bus(medium.kind, arch, machine);
            let inserted = medium
                .source
                .as_deref()
                .map(|key| volumes::medium(connection, key));
            let (source, format) = inserted.transpose()?.unzip();
            drives.push(DiskSpec {
                device: medium.kind.as_ref().into(),
                source,
                format: format.unwrap_or_else(|| "raw".into()),
                target: targets.next(bus),
                bus: bus.into(),
                // A medium may be in several drives; none of them writes it.
                readonly: true,
                ..plain.clone()
            });
        }
        Ok(drives)
    }

    fn nics(&self, connection: &Connect) -> Result<Vec<NicSpec>, CallError> {
        let told = self
            .spec
            .guest
            .as_ref()
            .is_some_and(|guest| !guest.addresses.is_empty());
        let chosen = macs(self.vm, self.spec);
        let nics = self.spec.nics.iter().zip(chosen).map(|(nic, chosen)| {
            Ok(NicSpec {
                source: nic_source(connection, &nic.source)?,
                mac: (told || nic.mac.is_some()).then_some(chosen),
                model: nic.model.clone().unwrap_or_else(|| "virtio".into()),
                alias: None,
            })
        });
        nics.collect()
    }

    fn graphics(&self) -> Vec<GraphicsSpec> {
        let wanted = match self.spec.graphics.as_slice() {
            [] => &[GraphicsKind::Vnc],
            wanted => wanted,
        };
        let graphics = wanted.iter().map(|kind| GraphicsSpec {
            kind: kind.as_ref().to_owned(),
            listen: self.config.console_listen.clone(),
            password: self
                .console_password
                .map(|password| match kind {
                    GraphicsKind::Vnc => vnc_password(password),
                    GraphicsKind::Spice => password.to_owned(),
                })
                .filter(|password| !password.is_empty()),
        });
        graphics.collect()
    }
}

fn source(connection: &Connect, volume: &Volume) -> Result<DiskSource, CallError> {
    let kind = match connection.lookup_storage_vol_by_path(&volume.native) {
        Ok(found) => VolumeXml::parse(&found.xml_desc(0)?)?.kind,
        Err(error) if code(&error) == 50 => {
            return Err(
                Error::new(ErrorKind::NotFound, format!("volume {} is gone", volume.name))
                    .about("volume", &volume.name)
                    .into(),
            );
        }
        Err(error) => return Err(error.into()),
    };
    Ok(match kind.as_str() {
        "block" => DiskSource::Block(volume.native.clone()),
        _ => DiskSource::File(volume.native.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::Targets;

    #[test]
    fn every_bus_has_its_own_names() {
        let mut targets = Targets::taken(["vda".to_owned(), "sdb".to_owned()]);
        let names: Vec<String> = ["virtio", "scsi", "sata", "ide", "fdc", "virtio"]
            .map(|bus| targets.next(bus))
            .into();
        assert_eq!(names, ["vdb", "sda", "sdc", "hda", "fda", "vdc"]);
    }
}
