//! The devices of a domain definition that the gateway reads.

use super::tree::Element;

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskXml {
    /// `disk cdrom floppy lun`.
    pub device: String,
    /// `file block volume network dir nvme vhostuser`.
    pub source_type: String,
    /// Path, device, or protocol name for network disks.
    pub source: Option<String>,
    /// Pool, when the source is a volume in a pool.
    pub pool: Option<String>,
    /// Volume, when the source is a volume in a pool.
    pub volume: Option<String>,
    /// Image format (`qcow2`, `raw` …).
    pub format: Option<String>,
    /// Cache mode.
    pub cache: Option<String>,
    /// Target name: `vda`, `sda` …
    pub target: String,
    /// Bus: `virtio scsi sata ide usb fdc`.
    pub bus: Option<String>,
    /// Serial number that the guest sees.
    pub serial: Option<String>,
    /// Whether the guest may only read it.
    pub readonly: bool,
    /// Whether several domains may write it.
    pub shareable: bool,
    /// Per-device boot order, from 1.
    pub boot_order: Option<u32>,
    /// Chain of backing files, nearest first (only in a running domain's definition).
    pub backing: Vec<String>,
    /// libvirt's device alias while running.
    pub alias: Option<String>,
    /// Throughput limits as written under `<iotune>`.
    pub iotune: Vec<(String, u64)>,
}

impl DiskXml {
    /// Whether this is a plain disk and not removable media.
    pub fn is_disk(&self) -> bool {
        matches!(self.device.as_str(), "disk" | "lun")
    }
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceXml {
    /// `network bridge user direct hostdev ethernet vhostuser …`.
    pub kind: String,
    /// Network name, bridge name or parent device, by `kind`.
    pub source: Option<String>,
    /// The bridge behind a libvirt network while running, or the source bridge.
    pub bridge: Option<String>,
    /// MAC address in lower case.
    pub mac: Option<String>,
    /// `virtio e1000 …`.
    pub model: Option<String>,
    /// Device on the host while running.
    pub target: Option<String>,
    /// A key that stays the same for this NIC while its MAC may change: the guest bus address, when known.
    pub slot: Option<String>,
    /// Per-device boot order, from 1.
    pub boot_order: Option<u32>,
    /// `up` or `down`.
    pub link_up: bool,
    /// libvirt's device alias while running.
    pub alias: Option<String>,
    /// VLAN tags.
    pub vlans: Vec<u32>,
    /// Open vSwitch, macvtap …
    pub virtualport: Option<String>,
    /// MTU.
    pub mtu: Option<u32>,
    /// Limits of what the guest receives: average and peak in KiB a second, burst in KiB; 0 is not stated.
    pub inbound: Option<[u64; 3]>,
    /// Limits of what the guest sends.
    pub outbound: Option<[u64; 3]>,
}

/// One graphics server.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct GraphicsXml {
    /// `vnc spice rdp sdl egl-headless dbus`.
    pub kind: String,
    /// TCP port while running, or a fixed one.
    pub port: Option<u16>,
    /// Whether libvirt picks the port at start.
    pub autoport: bool,
    /// Address it listens on.
    pub listen: Option<String>,
    /// Path of a UNIX socket it listens on.
    pub socket: Option<String>,
    /// The password: only in a definition that was read with the SECURE flag.
    pub password: Option<String>,
    /// Whether the password expires, as libvirt's timestamp.
    pub password_valid_to: Option<String>,
}

impl std::fmt::Debug for GraphicsXml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphicsXml")
            .field("kind", &self.kind)
            .field("port", &self.port)
            .field("listen", &self.listen)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

/// One video card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VideoXml {
    /// `virtio qxl vga cirrus bochs none …`.
    pub model: String,
    /// Video memory in bytes.
    pub vram: Option<u64>,
    /// Number of screens.
    pub heads: Option<u32>,
}

/// One passed-through device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostdevXml {
    /// `pci usb mdev scsi …`.
    pub kind: String,
    /// Address or UUID on the host, as libvirt spells it.
    pub address: String,
    /// libvirt's device alias while running.
    pub alias: Option<String>,
}

/// One channel to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelXml {
    /// `unix spicevmc pty …`.
    pub kind: String,
    /// Name inside the guest.
    pub target: Option<String>,
    /// Whether the guest has it open (only while running).
    pub connected: bool,
}

/// One serial port or console.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SerialXml {
    /// `pty tcp file unix null …`.
    pub kind: String,
    /// Device or file on the host.
    pub source: Option<String>,
    /// Where output is logged.
    pub log: Option<String>,
}

pub(super) fn flag(element: &Element, name: &str, value: &str) -> bool {
    element.attr(name) == Some(value)
}

pub(super) fn number<T: std::str::FromStr>(element: &Element, name: &str) -> Option<T> {
    element.attr(name).and_then(|v| v.parse().ok())
}

pub(super) fn owned(element: Option<&Element>, name: &str) -> Option<String> {
    element.and_then(|e| e.attr(name)).map(str::to_owned)
}

impl DiskXml {
    /// Reads one `<disk>`.
    pub fn read(disk: &Element) -> DiskXml {
        let source = disk.get("source");
        let driver = disk.get("driver");
        let target = disk.get("target");
        let mut backing = Vec::new();
        let mut level = disk.get("backingStore");
        while let Some(store) = level {
            if let Some(source) = store.get("source") {
                let name = ["file", "dev", "name", "volume"]
                    .iter()
                    .find_map(|a| source.attr(a));
                backing.extend(name.map(str::to_owned));
            }
            level = store.get("backingStore");
        }
        DiskXml {
            device: disk.attr("device").unwrap_or("disk").to_owned(),
            source_type: disk.attr("type").unwrap_or_default().to_owned(),
            source: source.and_then(|s| {
                ["file", "dev", "dir"]
                    .iter()
                    .find_map(|a| s.attr(a).map(str::to_owned))
                    .or_else(|| {
                        Some(format!(
                            "{}:{}",
                            s.attr("protocol")?,
                            s.attr("name").unwrap_or_default()
                        ))
                    })
            }),
            pool: owned(source, "pool"),
            volume: owned(source, "volume"),
            format: owned(driver, "type"),
            cache: owned(driver, "cache"),
            target: owned(target, "dev").unwrap_or_default(),
            bus: owned(target, "bus"),
            serial: disk.text_of("serial"),
            readonly: disk.get("readonly").is_some() || disk.attr("device") == Some("cdrom"),
            shareable: disk.get("shareable").is_some(),
            boot_order: disk.get("boot").and_then(|b| number(b, "order")),
            backing,
            alias: owned(disk.get("alias"), "name"),
            iotune: disk
                .get("iotune")
                .map(|t| {
                    t.elements()
                        .filter_map(|e| Some((e.name.clone(), e.own_text().trim().parse().ok()?)))
                        .collect()
                })
                .unwrap_or_default(),
        }
    }
}

impl InterfaceXml {
    /// Reads one `<interface>`.
    pub fn read(interface: &Element) -> InterfaceXml {
        let source = interface.get("source");
        let kind = interface.attr("type").unwrap_or_default().to_owned();
        InterfaceXml {
            source: source.and_then(|s| {
                ["network", "bridge", "dev", "path", "name"]
                    .iter()
                    .find_map(|a| s.attr(a).map(str::to_owned))
            }),
            bridge: owned(source, "bridge"),
            kind,
            mac: owned(interface.get("mac"), "address").map(|m| m.to_ascii_lowercase()),
            model: owned(interface.get("model"), "type"),
            target: owned(interface.get("target"), "dev"),
            slot: interface.get("address").and_then(|a| match a.attr("type")? {
                "pci" => Some(format!(
                    "pci-{}-{}-{}-{}",
                    hex(a.attr("domain")),
                    hex(a.attr("bus")),
                    hex(a.attr("slot")),
                    hex(a.attr("function"))
                )),
                other => Some(format!(
                    "{other}-{}",
                    a.attributes
                        .iter()
                        .filter(|(n, _)| n != "type")
                        .map(|(_, v)| v.as_str())
                        .collect::<Vec<_>>()
                        .join("-")
                )),
            }),
            boot_order: interface.get("boot").and_then(|b| number(b, "order")),
            link_up: !interface.get("link").is_some_and(|l| flag(l, "state", "down")),
            alias: owned(interface.get("alias"), "name"),
            vlans: interface
                .get("vlan")
                .map(|v| v.all("tag").filter_map(|t| number(t, "id")).collect())
                .unwrap_or_default(),
            virtualport: owned(interface.get("virtualport"), "type"),
            mtu: interface.get("mtu").and_then(|m| number(m, "size")),
            inbound: limits(interface, "inbound"),
            outbound: limits(interface, "outbound"),
        }
    }
}

/// The limits of one direction, if it has any.
fn limits(interface: &Element, direction: &str) -> Option<[u64; 3]> {
    let limits = interface.at(&["bandwidth", direction])?;
    let average = number(limits, "average").filter(|average| *average > 0)?;
    let stated = |name| number(limits, name).unwrap_or(0);
    Some([average, stated("peak"), stated("burst")])
}

/// `0x0a` and `10` are the same place: one spelling.
fn hex(value: Option<&str>) -> String {
    let value = value.unwrap_or("0");
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    };
    parsed.map_or_else(|| value.to_owned(), |n| format!("{n:x}"))
}

impl GraphicsXml {
    /// Reads one `<graphics>`.
    pub fn read(graphics: &Element) -> GraphicsXml {
        let listen = graphics.get("listen");
        GraphicsXml {
            kind: graphics.attr("type").unwrap_or_default().to_owned(),
            port: graphics
                .attr("port")
                .and_then(|p| p.parse::<u16>().ok())
                .filter(|p| *p != 0),
            autoport: flag(graphics, "autoport", "yes") || graphics.attr("port") == Some("-1"),
            listen: graphics
                .attr("listen")
                .map(str::to_owned)
                .or_else(|| owned(listen, "address")),
            socket: graphics
                .attr("socket")
                .map(str::to_owned)
                .or_else(|| owned(listen, "socket")),
            password: graphics.attr("passwd").map(str::to_owned),
            password_valid_to: graphics.attr("passwdValidTo").map(str::to_owned),
        }
    }
}

impl VideoXml {
    pub(super) fn read(video: &Element) -> Option<VideoXml> {
        let model = video.get("model")?;
        Some(VideoXml {
            model: model.attr("type").unwrap_or_default().to_owned(),
            vram: number::<u64>(model, "vram").and_then(|kib| kib.checked_mul(1024)),
            heads: number(model, "heads"),
        })
    }
}

impl HostdevXml {
    pub(super) fn read(hostdev: &Element) -> HostdevXml {
        let source = hostdev.get("source");
        let address = source.and_then(|s| s.get("address"));
        let kind = hostdev
            .attr("type")
            .or_else(|| hostdev.attr("mode"))
            .unwrap_or_default()
            .to_owned();
        let place = match kind.as_str() {
            "pci" => address.map(|a| {
                let part = |name| u32::from_str_radix(&hex(a.attr(name)), 16).unwrap_or(0);
                format!(
                    "{:04x}:{:02x}:{:02x}.{:x}",
                    part("domain"),
                    part("bus"),
                    part("slot"),
                    part("function")
                )
            }),
            "usb" => source.and_then(|s| {
                let id = |name| s.get(name).and_then(|e| e.attr("id")).map(str::to_owned);
                id("vendor").zip(id("product")).map(|(v, p)| format!("{v}:{p}"))
            }),
            "mdev" => address.and_then(|a| a.attr("uuid")).map(str::to_owned),
            _ => None,
        };
        HostdevXml {
            kind,
            address: place.unwrap_or_default(),
            alias: owned(hostdev.get("alias"), "name"),
        }
    }
}

impl ChannelXml {
    pub(super) fn read(channel: &Element) -> ChannelXml {
        let target = channel.get("target");
        ChannelXml {
            kind: channel.attr("type").unwrap_or_default().to_owned(),
            target: owned(target, "name"),
            connected: target.is_some_and(|t| flag(t, "state", "connected")),
        }
    }
}

impl SerialXml {
    pub(super) fn read(serial: &Element) -> SerialXml {
        let source = serial.get("source");
        SerialXml {
            kind: serial.attr("type").unwrap_or_default().to_owned(),
            source: source
                .and_then(|s| {
                    ["path", "host", "service"]
                        .iter()
                        .find_map(|a| s.attr(a).map(str::to_owned))
                })
                .or_else(|| serial.attr("tty").map(str::to_owned)),
            log: owned(serial.get("log"), "file"),
        }
    }
}
