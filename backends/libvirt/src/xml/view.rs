//! What the gateway reads from a domain definition, as typed structs.
//!
//! Reading is tolerant: what is missing is `None` or empty, what is unknown is left out. Only a definition without a
//! name, UUID or memory is an error, because libvirt never writes one.

use uuid::Uuid;

pub use super::devices::{ChannelXml, DiskXml, GraphicsXml, HostdevXml, InterfaceXml, SerialXml, VideoXml};
use super::devices::{flag, number, owned};
use super::tree::Element;
use super::units::bytes_of;
use super::{METADATA_NAMESPACE, XmlError};

/// A domain definition, as far as the gateway understands it. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainXml {
    /// The hypervisor's number while the domain runs.
    pub id: Option<u32>,
    /// `kvm`, `qemu` (TCG), `test` …
    pub virt_type: String,
    /// libvirt's name.
    pub name: String,
    /// The domain UUID.
    pub uuid: Uuid,
    /// Free text, one line.
    pub title: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Boot-time maximum of memory.
    pub memory: u64,
    /// Present (balloon) memory.
    pub current_memory: u64,
    /// Upper limit for memory hot-plug.
    pub max_memory: Option<u64>,
    /// vCPUs in use.
    pub vcpus: u32,
    /// Most vCPUs that can be plugged in.
    pub max_vcpus: u32,
    /// Sockets, cores per die, threads per core (dies are multiplied into sockets).
    pub topology: Option<Topology>,
    /// CPU mode: `host-model`, `host-passthrough`, `custom` …
    pub cpu_mode: Option<String>,
    /// CPU model name.
    pub cpu_model: Option<String>,
    /// Operating-system and firmware settings.
    pub os: OsXml,
    /// Names of the `<features>` that are on.
    pub features: Vec<String>,
    /// `utc`, `localtime` …
    pub clock: Option<String>,
    /// Emulator binary.
    pub emulator: Option<String>,
    /// Disks, CD-ROMs and floppies in order.
    pub disks: Vec<DiskXml>,
    /// Network interfaces in order.
    pub interfaces: Vec<InterfaceXml>,
    /// Graphics servers in order.
    pub graphics: Vec<GraphicsXml>,
    /// Video cards in order.
    pub videos: Vec<VideoXml>,
    /// Devices of the host that are passed through.
    pub hostdevs: Vec<HostdevXml>,
    /// Channels, by target name (`org.qemu.guest_agent.0` …) and connection state.
    pub channels: Vec<ChannelXml>,
    /// Serial ports and consoles.
    pub serials: Vec<SerialXml>,
    /// Whether there is a balloon.
    pub balloon: bool,
    /// Our own metadata, by field name.
    pub metadata: Vec<(String, String)>,
}

/// The CPU topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Topology {
    /// Sockets.
    pub sockets: u32,
    /// Dies in a socket.
    pub dies: u32,
    /// Cores in a die.
    pub cores: u32,
    /// Threads in a core.
    pub threads: u32,
}

/// `<os>`: what boots and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsXml {
    /// `hvm`, `linux`, `exe` …
    pub kind: String,
    /// Architecture.
    pub arch: Option<String>,
    /// Machine type, e.g. `pc-q35-7.2`.
    pub machine: Option<String>,
    /// Whether the firmware is UEFI.
    pub uefi: bool,
    /// Whether the firmware enforces secure boot.
    pub secure_boot: bool,
    /// File with UEFI variables.
    pub nvram: Option<String>,
    /// `<boot dev=…>` in order: `hd cdrom network fd`.
    pub boot: Vec<String>,
    /// Kernel for direct boot.
    pub kernel: Option<String>,
    /// Whether the boot menu is on.
    pub boot_menu: bool,
}

impl DomainXml {
    /// Reads a definition.
    ///
    /// # Errors
    /// When it is not well-formed, or has no name, UUID or memory.
    pub fn parse(text: &str) -> Result<DomainXml, XmlError> {
        DomainXml::read(&Element::parse(text)?)
    }

    /// Reads a parsed definition.
    ///
    /// # Errors
    /// When it has no name, UUID or memory.
    pub fn read(root: &Element) -> Result<DomainXml, XmlError> {
        let missing = |what: &str| XmlError::Missing(what.to_owned());
        let uuid = root
            .text_of("uuid")
            .and_then(|u| Uuid::parse_str(&u).ok())
            .ok_or_else(|| missing("<uuid>"))?;
        let memory = bytes_of(root.get("memory").ok_or_else(|| missing("<memory>"))?, "KiB")?;
        let current_memory = match root.get("currentMemory") {
            Some(element) => bytes_of(element, "KiB")?,
            None => memory,
        };
        let vcpu = root.get("vcpu");
        let max_vcpus = vcpu.and_then(|v| v.own_text().trim().parse().ok()).unwrap_or(1);
        let devices = root.get("devices");
        let each = |name: &'static str| devices.into_iter().flat_map(move |d| d.all(name));
        Ok(DomainXml {
            id: number(root, "id"),
            virt_type: root.attr("type").unwrap_or_default().to_owned(),
            name: root.text_of("name").ok_or_else(|| missing("<name>"))?,
            uuid,
            title: root.text_of("title"),
            description: root.text_of("description"),
            memory,
            current_memory,
            max_memory: root.get("maxMemory").map(|e| bytes_of(e, "KiB")).transpose()?,
            vcpus: vcpu.and_then(|v| number(v, "current")).unwrap_or(max_vcpus),
            max_vcpus,
            topology: root.at(&["cpu", "topology"]).map(|t| Topology {
                sockets: number(t, "sockets").unwrap_or(1),
                dies: number(t, "dies").unwrap_or(1),
                cores: number(t, "cores").unwrap_or(1),
                threads: number(t, "threads").unwrap_or(1),
            }),
            cpu_mode: owned(root.get("cpu"), "mode"),
            cpu_model: root.get("cpu").and_then(|c| c.text_of("model")),
            os: root.get("os").map(OsXml::read).unwrap_or_default(),
            features: root
                .get("features")
                .map(|f| {
                    f.elements()
                        .filter(|e| !flag(e, "state", "off"))
                        .map(|e| e.name.clone())
                        .collect()
                })
                .unwrap_or_default(),
            clock: owned(root.get("clock"), "offset"),
            emulator: devices.and_then(|d| d.text_of("emulator")),
            disks: each("disk").map(DiskXml::read).collect(),
            interfaces: each("interface").map(InterfaceXml::read).collect(),
            graphics: each("graphics").map(GraphicsXml::read).collect(),
            videos: each("video").filter_map(VideoXml::read).collect(),
            hostdevs: each("hostdev").map(HostdevXml::read).collect(),
            channels: each("channel").map(ChannelXml::read).collect(),
            serials: each("serial")
                .chain(each("console"))
                .map(SerialXml::read)
                .collect(),
            balloon: each("memballoon").any(|b| !flag(b, "model", "none")),
            metadata: own_metadata(root)
                .map(|ours| {
                    ours.elements()
                        .map(|e| (e.local_name().to_owned(), e.own_text().trim().to_owned()))
                        .collect()
                })
                .unwrap_or_default(),
        })
    }

    /// A field of our own metadata.
    pub fn metadata(&self, field: &str) -> Option<&str> {
        self.metadata
            .iter()
            .find(|(name, _)| name == field)
            .map(|(_, value)| value.as_str())
    }

    /// Whether the guest agent has its channel open.
    pub fn agent_connected(&self) -> bool {
        self.channels
            .iter()
            .any(|c| c.connected && c.target.as_deref() == Some(super::build::AGENT_CHANNEL))
    }

    /// Whether there is a channel for the guest agent.
    pub fn has_agent_channel(&self) -> bool {
        self.channels
            .iter()
            .any(|c| c.target.as_deref() == Some(super::build::AGENT_CHANNEL))
    }
}

/// Our own element inside `<metadata>`, found by namespace and not by prefix.
pub fn own_metadata(root: &Element) -> Option<&Element> {
    let metadata = root.get("metadata")?;
    metadata.elements().find(|e| is_ours(e, &[metadata, root]))
}

/// Whether an element is in our namespace: its own declaration, or the nearest of its ancestors', decides.
pub(super) fn is_ours(element: &Element, ancestors: &[&Element]) -> bool {
    let declaration = match element.name.split_once(':') {
        Some((prefix, _)) => format!("xmlns:{prefix}"),
        None => "xmlns".to_owned(),
    };
    std::iter::once(element)
        .chain(ancestors.iter().copied())
        .find_map(|e| e.attr(&declaration))
        .is_some_and(|uri| uri == METADATA_NAMESPACE)
}

impl OsXml {
    fn read(os: &Element) -> OsXml {
        let loader = os.get("loader");
        let firmware = os.attr("firmware");
        OsXml {
            kind: os.text_of("type").unwrap_or_default(),
            arch: owned(os.get("type"), "arch"),
            machine: owned(os.get("type"), "machine"),
            uefi: firmware == Some("efi") || loader.is_some_and(|l| flag(l, "type", "pflash")),
            secure_boot: loader.is_some_and(|l| flag(l, "secure", "yes")),
            nvram: os.text_of("nvram"),
            boot: os
                .all("boot")
                .filter_map(|b| b.attr("dev"))
                .map(str::to_owned)
                .collect(),
            kernel: os.text_of("kernel"),
            boot_menu: os.get("bootmenu").is_some_and(|b| flag(b, "enable", "yes")),
        }
    }
}
