//! Devices as XML: what new definitions are made of, and what is plugged into existing ones.

use super::tree::Element;
use super::units::kib;

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
    /// `disk`, `cdrom` or `floppy`.
    pub device: String,
    /// Its content; `None` is an empty drive.
    pub source: Option<DiskSource>,
    /// Image format: `raw` or `qcow2`.
    pub format: String,
    /// Target name: `vda` …
    pub target: String,
    /// Bus: `virtio sata scsi ide usb fdc`.
    pub bus: String,
    /// Whether the guest may only read it.
    pub readonly: bool,
    /// Whether other domains may have it at the same time.
    pub shareable: bool,
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
    /// A name of our own for the device (libvirt requires `ua-` in front), so that it cannot be there twice.
    pub alias: Option<String>,
}

/// A graphics server of a new domain.
#[derive(Clone, PartialEq, Eq)]
pub struct GraphicsSpec {
    /// `vnc` or `spice`.
    pub kind: String,
    /// Address to listen on.
    pub listen: String,
    /// Password (VNC itself only looks at the first eight bytes).
    pub password: Option<String>,
}

impl std::fmt::Debug for GraphicsSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GraphicsSpec")
            .field("kind", &self.kind)
            .field("listen", &self.listen)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

/// A video card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoSpec {
    /// `vga virtio qxl cirrus bochs …`.
    pub model: String,
    /// Video memory in bytes; libvirt chooses when absent.
    pub memory: Option<u64>,
    /// Screens; libvirt chooses when absent.
    pub heads: Option<u32>,
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
        .child_opt(disk.shareable.then(|| Element::new("shareable")))
        .child_opt(
            disk.boot_order
                .map(|n| Element::new("boot").with("order", n.to_string())),
        )
}

/// The interface type of a source, and the `<source>` that belongs to it.
pub(super) fn nic_source(source: &NicSource) -> (&'static str, Option<Element>) {
    match source {
        NicSource::Network(name) => (
            "network",
            Some(Element::new("source").with("network", name.as_str())),
        ),
        NicSource::Bridge(name) => (
            "bridge",
            Some(Element::new("source").with("bridge", name.as_str())),
        ),
        NicSource::User => ("user", None),
    }
}

/// An `<interface>`.
pub fn nic_element(nic: &NicSpec) -> Element {
    let (kind, source) = nic_source(&nic.source);
    Element::new("interface")
        .with("type", kind)
        .child_opt(
            nic.mac
                .as_ref()
                .map(|mac| Element::new("mac").with("address", mac.as_str())),
        )
        .child_opt(source)
        .child(Element::new("model").with("type", nic.model.as_str()))
        .child_opt(
            nic.alias
                .as_ref()
                .map(|alias| Element::new("alias").with("name", alias.as_str())),
        )
}

/// A `<graphics>`.
pub fn graphics_element(graphics: &GraphicsSpec) -> Element {
    Element::new("graphics")
        .with("type", graphics.kind.as_str())
        .with("port", "-1")
        .with("autoport", "yes")
        .with_opt("passwd", graphics.password.as_deref())
        .child(
            Element::new("listen")
                .with("type", "address")
                .with("address", graphics.listen.as_str()),
        )
}

/// A `<video>`; one of them is the primary one.
pub fn video_element(video: &VideoSpec, primary: bool) -> Element {
    let model = Element::new("model")
        .with("type", video.model.as_str())
        .with_opt("vram", video.memory.map(|bytes| kib(bytes).to_string()))
        .with_opt("heads", video.heads.map(|heads| heads.to_string()))
        .with_opt("primary", primary.then_some("yes"));
    Element::new("video").child(model)
}

/// A SCSI controller that current guests have a driver for.
pub fn scsi_controller() -> Element {
    Element::new("controller")
        .with("type", "scsi")
        .with("index", "0")
        .with("model", "virtio-scsi")
}

/// A PCI controller.
pub(super) fn controller(index: usize, model: &str) -> Element {
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
