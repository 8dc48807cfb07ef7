//! What the gateway reads about a host: capabilities, pools, volumes and networks; and the volumes it writes.

use super::XmlError;
use super::tree::Element;
use super::units::bytes_of;

/// What a host can run, from its capabilities document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostCapabilities {
    /// The host's UUID, when the document has one.
    pub uuid: Option<String>,
    /// Architecture of the host.
    pub arch: String,
    /// CPU model name of the host.
    pub cpu_model: Option<String>,
    /// CPU vendor.
    pub cpu_vendor: Option<String>,
    /// The guest architectures with their domain types.
    pub guests: Vec<GuestCapabilities>,
}

/// One guest architecture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuestCapabilities {
    /// `hvm`, `exe` …
    pub os_type: String,
    /// Architecture.
    pub arch: String,
    /// `qemu`, `kvm`, `test` …
    pub domain_types: Vec<String>,
    /// Machine types, canonical names and aliases.
    pub machines: Vec<String>,
}

impl HostCapabilities {
    /// Reads a capabilities document.
    ///
    /// # Errors
    /// When it is not well-formed.
    pub fn parse(text: &str) -> Result<HostCapabilities, XmlError> {
        let root = Element::parse(text)?;
        let cpu = root.at(&["host", "cpu"]);
        Ok(HostCapabilities {
            uuid: root.get("host").and_then(|h| h.text_of("uuid")),
            arch: cpu.and_then(|c| c.text_of("arch")).unwrap_or_default(),
            cpu_model: cpu.and_then(|c| c.text_of("model")),
            cpu_vendor: cpu.and_then(|c| c.text_of("vendor")),
            guests: root
                .all("guest")
                .flat_map(|guest| {
                    guest.all("arch").map(|arch| GuestCapabilities {
                        os_type: guest.text_of("os_type").unwrap_or_default(),
                        arch: arch.attr("name").unwrap_or_default().to_owned(),
                        domain_types: arch
                            .all("domain")
                            .filter_map(|d| d.attr("type"))
                            .map(str::to_owned)
                            .collect(),
                        machines: arch
                            .all("machine")
                            .chain(arch.all("domain").flat_map(|d| d.all("machine")))
                            .map(|m| m.own_text().trim().to_owned())
                            .collect(),
                    })
                })
                .collect(),
        })
    }

    /// Whether guests of this architecture can be of that domain type.
    pub fn offers(&self, arch: &str, domain_type: &str) -> bool {
        self.guests
            .iter()
            .any(|g| g.os_type == "hvm" && g.arch == arch && g.domain_types.iter().any(|d| d == domain_type))
    }

    /// Whether a machine type exists for guests of this architecture.
    pub fn has_machine(&self, arch: &str, machine: &str) -> bool {
        self.guests
            .iter()
            .any(|g| g.arch == arch && g.machines.iter().any(|m| m == machine))
    }
}

/// A storage pool. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolXml {
    /// `dir fs logical netfs rbd …`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UUID as libvirt writes it.
    pub uuid: String,
    /// Total size.
    pub capacity: u64,
    /// Used size.
    pub allocation: u64,
    /// Free size.
    pub available: u64,
    /// Directory or device prefix on the host.
    pub path: Option<String>,
    /// Where a shared pool comes from (`host:/dir`), when it says so.
    pub source: Option<String>,
}

impl PoolXml {
    /// Reads a pool definition.
    ///
    /// # Errors
    /// When it is not well-formed or has no name.
    pub fn parse(text: &str) -> Result<PoolXml, XmlError> {
        let root = Element::parse(text)?;
        let size = |name| {
            root.get(name)
                .map(|e| bytes_of(e, "bytes"))
                .transpose()
                .map(Option::unwrap_or_default)
        };
        let source = root.get("source");
        let host = source.and_then(|s| s.get("host")).and_then(|h| h.attr("name"));
        let place = source.and_then(|s| {
            s.get("dir")
                .and_then(|d| d.attr("path"))
                .map(str::to_owned)
                .or_else(|| s.text_of("name"))
        });
        Ok(PoolXml {
            kind: root.attr("type").unwrap_or_default().to_owned(),
            name: root
                .text_of("name")
                .ok_or_else(|| XmlError::Missing("<name> of the pool".into()))?,
            uuid: root.text_of("uuid").unwrap_or_default(),
            capacity: size("capacity")?,
            allocation: size("allocation")?,
            available: size("available")?,
            path: root.get("target").and_then(|t| t.text_of("path")),
            source: host.zip(place).map(|(host, place)| format!("{host}:{place}")),
        })
    }
}

/// A storage volume. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeXml {
    /// `file block dir network …`.
    pub kind: String,
    /// Name in its pool.
    pub name: String,
    /// Key, unique on the host.
    pub key: Option<String>,
    /// Path on the host.
    pub path: Option<String>,
    /// Size that the guest sees.
    pub capacity: u64,
    /// Size on the storage.
    pub allocation: u64,
    /// `raw qcow2 iso …`.
    pub format: Option<String>,
    /// Backing file, when it has one.
    pub backing: Option<String>,
    /// Format of the backing file.
    pub backing_format: Option<String>,
}

impl VolumeXml {
    /// Reads a volume definition.
    ///
    /// # Errors
    /// When it is not well-formed or has no name.
    pub fn parse(text: &str) -> Result<VolumeXml, XmlError> {
        let root = Element::parse(text)?;
        let size = |name| {
            root.get(name)
                .map(|e| bytes_of(e, "bytes"))
                .transpose()
                .map(Option::unwrap_or_default)
        };
        let format = |part: Option<&Element>| {
            part.and_then(|p| p.get("format"))
                .and_then(|f| f.attr("type"))
                .map(str::to_owned)
        };
        let backing = root.get("backingStore").filter(|b| b.text_of("path").is_some());
        Ok(VolumeXml {
            kind: root.attr("type").unwrap_or_default().to_owned(),
            name: root
                .text_of("name")
                .ok_or_else(|| XmlError::Missing("<name> of the volume".into()))?,
            key: root.text_of("key"),
            path: root.get("target").and_then(|t| t.text_of("path")),
            capacity: size("capacity")?,
            allocation: size("allocation")?,
            format: format(root.get("target")),
            backing: backing.and_then(|b| b.text_of("path")),
            backing_format: format(backing),
        })
    }
}

/// A volume to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Name in its pool.
    pub name: String,
    /// Size that the guest sees, bytes.
    pub capacity: u64,
    /// Bytes to reserve now; 0 is sparse.
    pub allocation: u64,
    /// `raw` or `qcow2`.
    pub format: String,
    /// Backing file and its format, for copy-on-write.
    pub backing: Option<(String, String)>,
}

impl VolumeSpec {
    /// The volume definition as XML.
    ///
    /// # Errors
    /// When a text cannot be carried by XML.
    pub fn to_xml(&self) -> Result<String, XmlError> {
        let format = |kind: &str| Element::new("format").with("type", kind);
        Element::new("volume")
            .child(Element::new("name").text(self.name.as_str()))
            .child(
                Element::new("capacity")
                    .with("unit", "bytes")
                    .text(self.capacity.to_string()),
            )
            .child(
                Element::new("allocation")
                    .with("unit", "bytes")
                    .text(self.allocation.to_string()),
            )
            .child(Element::new("target").child(format(&self.format)))
            .child_opt(self.backing.as_ref().map(|(path, kind)| {
                Element::new("backingStore")
                    .child(Element::new("path").text(path.as_str()))
                    .child(format(kind))
            }))
            .to_xml()
    }
}

/// A libvirt network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkXml {
    /// Name.
    pub name: String,
    /// UUID as libvirt writes it.
    pub uuid: String,
    /// Bridge on the host.
    pub bridge: Option<String>,
    /// `nat route bridge open …`; isolated when absent.
    pub forward: Option<String>,
    /// Addresses with their prefix length or netmask.
    pub subnets: Vec<String>,
    /// DHCP ranges `first-last`.
    pub dhcp: Vec<String>,
    /// VLAN tags.
    pub vlans: Vec<u32>,
}

impl NetworkXml {
    /// Reads a network definition.
    ///
    /// # Errors
    /// When it is not well-formed or has no name.
    pub fn parse(text: &str) -> Result<NetworkXml, XmlError> {
        let root = Element::parse(text)?;
        let attr = |e: Option<&Element>, name: &str| e.and_then(|e| e.attr(name)).map(str::to_owned);
        Ok(NetworkXml {
            name: root
                .text_of("name")
                .ok_or_else(|| XmlError::Missing("<name> of the network".into()))?,
            uuid: root.text_of("uuid").unwrap_or_default(),
            bridge: attr(root.get("bridge"), "name"),
            forward: root
                .get("forward")
                .map(|f| f.attr("mode").unwrap_or("nat").to_owned()),
            subnets: root
                .all("ip")
                .filter_map(|ip| {
                    let length = ip.attr("prefix").or_else(|| ip.attr("netmask")).unwrap_or("24");
                    Some(format!("{}/{length}", ip.attr("address")?))
                })
                .collect(),
            dhcp: root
                .all("ip")
                .filter_map(|ip| ip.at(&["dhcp", "range"]))
                .filter_map(|r| Some(format!("{}-{}", r.attr("start")?, r.attr("end")?)))
                .collect(),
            vlans: root
                .get("vlan")
                .map(|v| v.all("tag").filter_map(|t| t.attr("id")?.parse().ok()).collect())
                .unwrap_or_default(),
        })
    }
}
