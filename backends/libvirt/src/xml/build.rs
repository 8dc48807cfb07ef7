//! New definitions from a specification: what the gateway creates itself.

use uuid::Uuid;

use super::edit::metadata_element;
pub use super::parts::*;
use super::tree::Element;
use super::units::kib;
use super::{XmlError, check_text};

/// The name of the guest agent's channel, fixed by QEMU's guest agent.
pub const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";
/// Root ports beyond those in use that a q35 guest gets, so that devices can be plugged in later: each hot-plugged
/// PCI device needs one of its own.
pub const SPARE_ROOT_PORTS: usize = 14;

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

/// libvirt's CPU modes that take no model name.
pub const CPU_MODES: [&str; 3] = ["host-model", "host-passthrough", "maximum"];

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
    /// Memory in use, bytes.
    pub memory: u64,
    /// Memory that the balloon can give back while it runs, bytes; not below `memory`.
    pub max_memory: u64,
    /// vCPUs in use.
    pub vcpus: u32,
    /// Most vCPUs that can be plugged in.
    pub max_vcpus: u32,
    /// Sockets, cores and threads; their product is `max_vcpus`.
    pub topology: Option<(u32, u32, u32)>,
    /// A CPU model by name, or one of libvirt's modes `host-model`, `host-passthrough`, `maximum`.
    pub cpu_model: Option<String>,
    /// Disks and drives in order.
    pub disks: Vec<DiskSpec>,
    /// Network interfaces in order.
    pub nics: Vec<NicSpec>,
    /// Graphics servers.
    pub graphics: Vec<GraphicsSpec>,
    /// Video cards; the first is the primary one.
    pub videos: Vec<VideoSpec>,
    /// File for the serial port's output.
    pub serial_log: Option<String>,
    /// Whether the guest gets a channel for its agent.
    pub agent: bool,
    /// Boot device classes in order, used when no disk has an order of its own.
    pub boot: Vec<String>,
    /// Our metadata fields.
    pub metadata: Vec<(String, String)>,
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
            .child(size("memory", self.max_memory.max(self.memory)))
            .child(size("currentMemory", self.memory))
            .child(vcpu)
            .child(self.os())
            .child_opt((self.virt_type != DomainType::Test).then(|| {
                Element::new("features")
                    .child(Element::new("acpi"))
                    .child(Element::new("apic"))
            }))
            .child_opt(self.cpu())
            .child(Element::new("clock").with("offset", "utc"))
            .child(Element::new("on_poweroff").text("destroy"))
            .child(Element::new("on_reboot").text("restart"))
            .child(Element::new("on_crash").text("destroy"))
            .child(self.devices())
    }

    fn cpu(&self) -> Option<Element> {
        let mut cpu = match self.cpu_model.as_deref() {
            Some(mode) if CPU_MODES.contains(&mode) => Element::new("cpu").with("mode", mode),
            Some(model) => Element::new("cpu")
                .with("mode", "custom")
                .with("match", "exact")
                .child(Element::new("model").with("fallback", "forbid").text(model)),
            // Without a CPU of its own a KVM guest would get QEMU's oldest common model.
            None if self.virt_type == DomainType::Kvm => Element::new("cpu").with("mode", "host-model"),
            None if self.topology.is_some() => Element::new("cpu"),
            None => return None,
        };
        if let Some((sockets, cores, threads)) = self.topology {
            cpu = cpu.child(topology_element(sockets, cores, threads));
        }
        Some(cpu)
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
            devices = devices.child(scsi_controller());
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
        let shown = |mut devices: Element| {
            for graphics in &self.graphics {
                devices = devices.child(graphics_element(graphics));
            }
            for (place, video) in self.videos.iter().enumerate() {
                devices = devices.child(video_element(video, place == 0));
            }
            devices
        };
        if self.virt_type == DomainType::Test {
            return shown(devices);
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
        shown(devices)
            .child(Element::new("memballoon").with("model", "virtio"))
            .child(
                Element::new("rng").with("model", "virtio").child(
                    Element::new("backend")
                        .with("model", "random")
                        .text("/dev/urandom"),
                ),
            )
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

/// `<cpu><topology>`.
pub(super) fn topology_element(sockets: u32, cores: u32, threads: u32) -> Element {
    Element::new("topology")
        .with("sockets", sockets.to_string())
        .with("cores", cores.to_string())
        .with("threads", threads.to_string())
}
