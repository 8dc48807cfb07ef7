//! New definitions from a specification: what the gateway creates itself.

use uuid::Uuid;

use super::edit::metadata_element;
use super::tree::Element;
use super::units::kib;
use super::{XmlError, check_text};

/// The name of the guest agent's channel, fixed by QEMU's guest agent.
pub const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";
/// Root ports beyond those in use that a q35 guest gets, so that devices can be plugged in later: each hot-plugged
/// PCI device needs one of its own.
pub const SPARE_ROOT_PORTS: usize = 14;

/// Where a disk's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// A file on the host.
    File(String),
    /// A block device on the host.
    Block(String),
    /// A volume in a libvirt pool.
    Volume {
        /// The pool's name.
        pool: String,
        /// The volume's name.
        volume: String,
    },
}

/// A disk or drive to define.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// `disk` or `cdrom`.
    pub device: String,
    /// Its content; `None` is an empty drive.
    pub source: Option<DiskSource>,
    /// Image format: `raw` or `qcow2`.
    pub format: String,
    /// Target name: `vda` …
    pub target: String,
    /// Bus: `virtio sata scsi ide`.
    pub bus: String,
    /// Whether the guest may only read it.
    pub readonly: bool,
    /// Serial number for the guest.
    pub serial: Option<String>,
    /// Per-device boot order, from 1.
    pub boot_order: Option<u32>,
}

/// What a network interface is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NicSource {
    /// A libvirt network, by name.
    Network(String),
    /// A bridge of the host, by name.
    Bridge(String),
    /// QEMU's own user-mode network.
    User,
}

/// A network interface to define.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicSpec {
    /// What it is connected to.
    pub source: NicSource,
    /// MAC address; libvirt chooses one when absent.
    pub mac: Option<String>,
    /// Model: `virtio e1000 …`.
    pub model: String,
}

/// The graphics server of a new domain.
#[derive(Clone, PartialEq, Eq)]
pub struct GraphicsSpec {
    /// Address to listen on.
    pub listen: String,
    /// VNC password (VNC itself only looks at the first eight bytes).
    pub password: Option<String>,
}

impl std::fmt::Debug for GraphicsSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphicsSpec")
            .field("listen", &self.listen)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

/// How the guest's CPU is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainType {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's translator (TCG).
    Qemu,
    /// libvirt's test driver.
    Test,
}

impl DomainType {
    /// libvirt's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            DomainType::Kvm => "kvm",
            DomainType::Qemu => "qemu",
            DomainType::Test => "test",
        }
    }
}

/// Everything that a new domain needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    /// libvirt's name.
    pub name: String,
    /// The domain UUID.
    pub uuid: Uuid,
    /// One line of free text.
    pub title: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// kvm, qemu or test.
    pub virt_type: DomainType,
    /// Architecture, e.g. `x86_64`.
    pub arch: String,
    /// Machine type: `q35`, `pc` or a versioned one.
    pub machine: String,
    /// Whether to boot through UEFI (libvirt picks the firmware file).
    pub uefi: bool,
    /// Emulator binary; libvirt picks one when absent.
    pub emulator: Option<String>,
    /// Memory at boot, bytes.
    pub memory: u64,
    /// vCPUs in use.
    pub vcpus: u32,
    /// Most vCPUs that can be plugged in.
    pub max_vcpus: u32,
    /// Disks and drives in order.
    pub disks: Vec<DiskSpec>,
    /// Network interfaces in order.
    pub nics: Vec<NicSpec>,
    /// VNC server; none when absent.
    pub graphics: Option<GraphicsSpec>,
    /// File for the serial port's output.
    pub serial_log: Option<String>,
    /// Whether the guest gets a channel for its agent.
    pub agent: bool,
    /// Boot device classes in order, used when no disk has an order of its own.
    pub boot: Vec<String>,
    /// Our metadata fields.
    pub metadata: Vec<(String, String)>,
}

/// The name of the n-th disk (from 0) with a prefix: vda … vdz, vdaa …
pub fn disk_name(prefix: &str, index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index;
    loop {
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or(0)));
        if rest < 26 {
            break;
        }
        rest = rest / 26 - 1;
    }
    letters.reverse();
    format!("{prefix}{}", letters.into_iter().collect::<String>())
}

/// `<source>` and the disk type that belongs to it.
pub(super) fn source_element(source: &DiskSource) -> (&'static str, Element) {
    match source {
        DiskSource::File(path) => ("file", Element::new("source").with("file", path.as_str())),
        DiskSource::Block(path) => ("block", Element::new("source").with("dev", path.as_str())),
        DiskSource::Volume { pool, volume } => (
            "volume",
            Element::new("source")
                .with("pool", pool.as_str())
                .with("volume", volume.as_str()),
        ),
    }
}

/// A `<disk>`.
pub fn disk_element(disk: &DiskSpec) -> Element {
    let (kind, source) = match &disk.source {
        Some(source) => {
            let (kind, element) = source_element(source);
            (kind, Some(element))
        }
        None => ("file", None),
    };
    Element::new("disk")
        .with("type", kind)
        .with("device", disk.device.as_str())
        .child(
            Element::new("driver")
                .with("name", "qemu")
                .with("type", disk.format.as_str()),
        )
        .child_opt(source)
        .child(
            Element::new("target")
                .with("dev", disk.target.as_str())
                .with("bus", disk.bus.as_str()),
        )
        .child_opt(
            disk.serial
                .as_ref()
                .map(|s| Element::new("serial").text(s.as_str())),
        )
        .child_opt((disk.readonly || disk.device == "cdrom").then(|| Element::new("readonly")))
        .child_opt(
            disk.boot_order
                .map(|n| Element::new("boot").with("order", n.to_string())),
        )
}

/// An `<interface>`.
pub fn nic_element(nic: &NicSpec) -> Element {
    let (kind, source) = match &nic.source {
        NicSource::Network(name) => (
            "network",
            Some(Element::new("source").with("network", name.as_str())),
        ),
        NicSource::Bridge(name) => (
            "bridge",
            Some(Element::new("source").with("bridge", name.as_str())),
        ),
        NicSource::User => ("user", None),
    };
    Element::new("interface")
        .with("type", kind)
        .child_opt(
            nic.mac
                .as_ref()
                .map(|mac| Element::new("mac").with("address", mac.as_str())),
        )
        .child_opt(source)
        .child(Element::new("model").with("type", nic.model.as_str()))
}

impl DomainSpec {
    /// The definition as XML.
    ///
    /// # Errors
    /// When a text cannot be carried by XML.
    pub fn to_xml(&self) -> Result<String, XmlError> {
        for (field, text) in [("name", Some(&self.name)), ("title", self.title.as_ref())] {
            if let Some(text) = text {
                check_text(field, text)?;
            }
        }
        self.to_element().to_xml()
    }

    /// The definition as a tree.
    pub fn to_element(&self) -> Element {
        let size = |name: &str, bytes: u64| {
            Element::new(name)
                .with("unit", "KiB")
                .text(kib(bytes).to_string())
        };
        let fields: Vec<(&str, &str)> = self
            .metadata
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let vcpu = Element::new("vcpu")
            .with_opt(
                "current",
                (self.vcpus < self.max_vcpus).then(|| self.vcpus.to_string()),
            )
            .text(self.max_vcpus.to_string());
        Element::new("domain")
            .with("type", self.virt_type.as_str())
            .child(Element::new("name").text(self.name.as_str()))
            .child(Element::new("uuid").text(self.uuid.to_string()))
            .child_opt(
                self.title
                    .as_ref()
                    .map(|t| Element::new("title").text(t.as_str())),
            )
            .child_opt(
                self.description
                    .as_ref()
                    .map(|d| Element::new("description").text(d.as_str())),
            )
            .child_opt(
                (!fields.is_empty()).then(|| Element::new("metadata").child(metadata_element(&fields))),
            )
            .child(size("memory", self.memory))
            .child(size("currentMemory", self.memory))
            .child(vcpu)
            .child(self.os())
            .child_opt((self.virt_type != DomainType::Test).then(|| {
                Element::new("features")
                    .child(Element::new("acpi"))
                    .child(Element::new("apic"))
            }))
            // Without a CPU of its own a KVM guest would get QEMU's oldest common model.
            .child_opt(
                (self.virt_type == DomainType::Kvm).then(|| Element::new("cpu").with("mode", "host-model")),
            )
            .child(Element::new("clock").with("offset", "utc"))
            .child(Element::new("on_poweroff").text("destroy"))
            .child(Element::new("on_reboot").text("restart"))
            .child(Element::new("on_crash").text("destroy"))
            .child(self.devices())
    }

    fn os(&self) -> Element {
        let kind = Element::new("type")
            .with_opt("arch", (!self.arch.is_empty()).then_some(self.arch.as_str()))
            .with_opt(
                "machine",
                (self.virt_type != DomainType::Test && !self.machine.is_empty())
                    .then_some(self.machine.as_str()),
            )
            .text("hvm");
        let mut os = Element::new("os")
            .with_opt("firmware", self.uefi.then_some("efi"))
            .child(kind);
        if self.disks.iter().all(|d| d.boot_order.is_none()) {
            for class in &self.boot {
                os = os.child(Element::new("boot").with("dev", class.as_str()));
            }
        }
        os
    }

    fn devices(&self) -> Element {
        let mut devices = Element::new("devices").child_opt(
            self.emulator
                .as_ref()
                .map(|e| Element::new("emulator").text(e.as_str())),
        );
        for disk in &self.disks {
            devices = devices.child(disk_element(disk));
        }
        if self.virt_type != DomainType::Test && self.disks.iter().any(|d| d.bus == "scsi") {
            devices = devices.child(
                Element::new("controller")
                    .with("type", "scsi")
                    .with("index", "0")
                    .with("model", "virtio-scsi"),
            );
        }
        if self.is_q35() {
            devices = devices.child(controller(0, "pcie-root"));
            for index in 1..=self.root_ports() {
                devices = devices.child(controller(index, "pcie-root-port"));
            }
        }
        for nic in &self.nics {
            devices = devices.child(nic_element(nic));
        }
        if self.virt_type == DomainType::Test {
            return devices.child_opt(self.graphics_element());
        }
        let log = self
            .serial_log
            .as_ref()
            .map(|f| Element::new("log").with("file", f.as_str()).with("append", "on"));
        devices = devices
            .child(
                Element::new("serial")
                    .with("type", "pty")
                    .child_opt(log)
                    .child(Element::new("target").with("port", "0")),
            )
            .child(
                Element::new("console")
                    .with("type", "pty")
                    .child(Element::new("target").with("type", "serial").with("port", "0")),
            );
        if self.agent {
            devices = devices.child(
                Element::new("channel").with("type", "unix").child(
                    Element::new("target")
                        .with("type", "virtio")
                        .with("name", AGENT_CHANNEL),
                ),
            );
        }
        devices
            .child_opt(self.graphics_element())
            .child_opt(self.graphics.as_ref().map(|_| {
                Element::new("video").child(Element::new("model").with("type", "vga").with("vram", "16384"))
            }))
            .child(Element::new("memballoon").with("model", "virtio"))
            .child(
                Element::new("rng").with("model", "virtio").child(
                    Element::new("backend")
                        .with("model", "random")
                        .text("/dev/urandom"),
                ),
            )
    }

    fn graphics_element(&self) -> Option<Element> {
        self.graphics.as_ref().map(|g| {
            Element::new("graphics")
                .with("type", "vnc")
                .with("port", "-1")
                .with("autoport", "yes")
                .with_opt("passwd", g.password.as_deref())
                .child(
                    Element::new("listen")
                        .with("type", "address")
                        .with("address", g.listen.as_str()),
                )
        })
    }

    fn is_q35(&self) -> bool {
        self.virt_type != DomainType::Test && self.machine.contains("q35")
    }

    /// Each virtio device sits on a root port of its own: those in use now, and spare ones for later.
    fn root_ports(&self) -> usize {
        let virtio_disks = self.disks.iter().filter(|d| d.bus == "virtio").count();
        let fixed = 5; // virtio-serial, virtio-scsi, balloon, rng, USB
        virtio_disks + self.nics.len() + fixed + SPARE_ROOT_PORTS
    }
}

fn controller(index: usize, model: &str) -> Element {
    Element::new("controller")
        .with("type", "pci")
        .with("index", index.to_string())
        .with("model", model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_names_continue_after_z() {
        assert_eq!(disk_name("vd", 0), "vda");
        assert_eq!(disk_name("vd", 25), "vdz");
        assert_eq!(disk_name("vd", 26), "vdaa");
        assert_eq!(disk_name("sd", 27), "sdab");
        assert_eq!(disk_name("vd", 26 + 26 * 26), "vdaaa");
    }
}
