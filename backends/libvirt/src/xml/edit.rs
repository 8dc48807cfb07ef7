//! One intended change in a user's definition, and nothing else.
//!
//! Every method touches only the elements that it names. What cannot be changed without contradicting another part
//! (guest NUMA cells, for instance) is refused instead of written.

use super::build::{self, DiskSource, DiskSpec, NicSource, NicSpec, VideoSpec};
use super::tree::{Element, Node};
use super::units::{bytes_of, kib};
use super::view::{DiskXml, InterfaceXml, is_ours};
use super::{METADATA_NAMESPACE, METADATA_PREFIX, XmlError};

/// A definition that is being changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDocument {
    root: Element,
}

impl DomainDocument {
    /// Reads a definition.
    ///
    /// # Errors
    /// When it is not well-formed or not a `<domain>`.
    pub fn parse(text: &str) -> Result<DomainDocument, XmlError> {
        let root = Element::parse(text)?;
        if root.name != "domain" {
            return Err(XmlError::Missing(format!("<domain> (read <{}>)", root.name)));
        }
        Ok(DomainDocument { root })
    }

    /// The whole tree.
    pub fn root(&self) -> &Element {
        &self.root
    }

    /// The definition as text.
    ///
    /// # Errors
    /// When something in it cannot be written as XML.
    pub fn to_xml(&self) -> Result<String, XmlError> {
        self.root.to_xml()
    }

    fn devices(&mut self) -> Result<&mut Element, XmlError> {
        self.root
            .get_mut("devices")
            .ok_or_else(|| XmlError::Missing("<devices>".into()))
    }

    /// Changes libvirt's name of the domain.
    pub fn set_name(&mut self, name: &str) {
        self.root.upsert("name", &[], |e| e.set_text(name));
    }

    /// Sets or removes the title.
    pub fn set_title(&mut self, title: Option<&str>) {
        self.set_text_element("title", &["uuid", "genid", "name"], title);
    }

    /// Sets or removes the description.
    pub fn set_description(&mut self, description: Option<&str>) {
        self.set_text_element("description", &["title", "uuid", "genid", "name"], description);
    }

    fn set_text_element(&mut self, name: &str, after: &[&str], text: Option<&str>) {
        match text {
            Some(text) => self.root.upsert(name, after, |e| e.set_text(text)),
            None => {
                self.root.remove_where(|e| e.name == name);
            }
        }
    }

    /// Sets the vCPUs in use and the most that can be plugged in. A topology that no longer multiplies out gets a
    /// new number of sockets (or, if cores and threads do not divide it, one core a socket).
    ///
    /// # Errors
    /// [`XmlError::Conflict`] when the guest has NUMA cells, whose CPU lists only their author can redistribute,
    /// or when `current` is zero or above `max`.
    pub fn set_vcpus(&mut self, current: u32, max: u32) -> Result<(), XmlError> {
        if current == 0 || current > max {
            return Err(XmlError::Conflict(format!(
                "{current} vCPUs in use do not fit a maximum of {max}; give at least 1 and at most the maximum"
            )));
        }
        if self.root.at(&["cpu", "numa"]).is_some() {
            return Err(XmlError::Conflict(
                "the domain has guest NUMA cells (<cpu><numa>); their CPU lists cannot be redistributed \
                 automatically, change the definition on the host"
                    .into(),
            ));
        }
        self.root
            .upsert("vcpu", &["currentMemory", "memory", "maxMemory"], |vcpu| {
                vcpu.set_text(max.to_string());
                if current == max {
                    vcpu.unset("current");
                } else {
                    vcpu.set("current", current.to_string());
                }
            });
        // libvirt requires one entry for each possible vCPU here and writes the list itself when it is absent.
        self.root.remove_where(|e| e.name == "vcpus");
        if let Some(topology) = self.root.get_mut("cpu").and_then(|cpu| cpu.get_mut("topology")) {
            let part = |name: &str| {
                topology
                    .attr(name)
                    .and_then(|v| v.parse::<u32>().ok())
                    .unwrap_or(1)
                    .max(1)
            };
            let (sockets, dies, cores, threads) =
                (part("sockets"), part("dies"), part("cores"), part("threads"));
            let per_socket = dies.saturating_mul(cores).saturating_mul(threads);
            if sockets.saturating_mul(per_socket) != max {
                if max.is_multiple_of(per_socket) {
                    topology.set("sockets", (max / per_socket).to_string());
                } else {
                    topology.set("sockets", max.to_string());
                    for name in ["dies", "cores", "threads"] {
                        if topology.attr(name).is_some() {
                            topology.set(name, "1");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Sets sockets, cores and threads.
    ///
    /// # Errors
    /// [`XmlError::Conflict`] when they do not multiply to the most vCPUs of the definition.
    pub fn set_topology(&mut self, sockets: u32, cores: u32, threads: u32) -> Result<(), XmlError> {
        let product = sockets.checked_mul(cores).and_then(|n| n.checked_mul(threads));
        let max = self
            .root
            .text_of("vcpu")
            .and_then(|text| text.parse::<u32>().ok());
        if product.is_none() || product != max {
            return Err(XmlError::Conflict(format!(
                "{sockets} sockets × {cores} cores × {threads} threads are not the maximum of {} vCPUs",
                max.unwrap_or(1)
            )));
        }
        let topology = build::topology_element(sockets, cores, threads);
        self.root.upsert(
            "cpu",
            &["features", "os", "sysinfo", "resource", "cputune", "vcpu"],
            |cpu| {
                cpu.remove_where(|e| e.name == "topology");
                cpu.insert_after(&["model", "vendor"], topology);
            },
        );
        Ok(())
    }

    /// Sets the memory at boot and the present (balloon) memory, in bytes, rounded up to KiB.
    ///
    /// # Errors
    /// [`XmlError::Conflict`] when the guest has NUMA cells, when `current` is zero or above `max`, or when `max` is
    /// above the definition's own hot-plug limit.
    pub fn set_memory(&mut self, current: u64, max: u64) -> Result<(), XmlError> {
        if current == 0 || current > max {
            return Err(XmlError::Conflict(format!(
                "{current} bytes of present memory do not fit a maximum of {max} bytes"
            )));
        }
        if self.root.at(&["cpu", "numa"]).is_some() {
            return Err(XmlError::Conflict(
                "the domain has guest NUMA cells (<cpu><numa>); their memory cannot be redistributed \
                 automatically, change the definition on the host"
                    .into(),
            ));
        }
        if let Some(limit) = self
            .root
            .get("maxMemory")
            .map(|e| bytes_of(e, "KiB"))
            .transpose()?
            && max > limit
        {
            return Err(XmlError::Conflict(format!(
                "{max} bytes of memory are above the domain's own limit <maxMemory> of {limit} bytes"
            )));
        }
        let write = |bytes: u64| {
            move |e: &mut Element| {
                e.set("unit", "KiB");
                e.set_text(kib(bytes).to_string());
            }
        };
        self.root.upsert(
            "memory",
            &["maxMemory", "description", "title", "uuid", "name"],
            write(max),
        );
        self.root.upsert("currentMemory", &["memory"], write(current));
        Ok(())
    }

    /// Adds a disk behind the present ones.
    ///
    /// # Errors
    /// [`XmlError::Conflict`] when the target name is taken.
    pub fn add_disk(&mut self, disk: &DiskSpec) -> Result<(), XmlError> {
        let devices = self.devices()?;
        if devices
            .all("disk")
            .any(|d| DiskXml::read(d).target == disk.target)
        {
            return Err(XmlError::Conflict(format!(
                "the domain has a disk {} already",
                disk.target
            )));
        }
        devices.insert_after(&["disk", "emulator"], build::disk_element(disk));
        Ok(())
    }

    /// Adds a device of any kind behind its like.
    ///
    /// # Errors
    /// When the definition has no devices.
    pub fn add_device(&mut self, device: Element) -> Result<(), XmlError> {
        let name = device.name.clone();
        self.devices()?.insert_after(&[&name, "disk", "emulator"], device);
        Ok(())
    }

    /// Sets the layout of what is in a drive.
    ///
    /// # Errors
    /// When the definition has no devices.
    pub fn set_medium_format(&mut self, target: &str, format: &str) -> Result<(), XmlError> {
        let drives = self.devices()?.elements_mut();
        for drive in drives.filter(|e| e.name == "disk" && DiskXml::read(e).target == target) {
            drive.upsert("driver", &[], |driver| {
                driver.set("type", format);
            });
        }
        Ok(())
    }

    /// The `<disk>` with that target name.
    pub fn disk(&self, target: &str) -> Option<&Element> {
        self.root
            .get("devices")?
            .all("disk")
            .find(|d| DiskXml::read(d).target == target)
    }

    /// The bus of the disk with that target name.
    pub fn bus_of(&self, target: &str) -> Option<&str> {
        self.disk(target)?.get("target")?.attr("bus")
    }

    /// Removes the disk with that target name; says whether there was one.
    ///
    /// # Errors
    /// When the definition has no devices.
    pub fn remove_disk(&mut self, target: &str) -> Result<bool, XmlError> {
        let gone = self
            .devices()?
            .remove_where(|e| e.name == "disk" && DiskXml::read(e).target == target);
        Ok(gone > 0)
    }

    /// Puts a medium into a CD-ROM or floppy drive, or takes it out.
    ///
    /// # Errors
    /// [`XmlError::Conflict`] when there is no such drive.
    pub fn set_medium(&mut self, target: &str, source: Option<&DiskSource>) -> Result<(), XmlError> {
        let drive = self
            .devices()?
            .elements_mut()
            .find(|e| {
                e.name == "disk"
                    && matches!(e.attr("device"), Some("cdrom" | "floppy"))
                    && e.get("target").and_then(|t| t.attr("dev")) == Some(target)
            })
            .ok_or_else(|| {
                XmlError::Conflict(format!("the domain has no drive {target} for removable media"))
            })?;
        drive.remove_where(|e| matches!(e.name.as_str(), "source" | "backingStore"));
        if let Some(source) = source {
            let (kind, element) = build::source_element(source);
            drive.set("type", kind);
            drive.insert_after(&["driver"], element);
        }
        Ok(())
    }

    /// Adds a SCSI controller where there is none; says whether it did.
    ///
    /// # Errors
    /// When the definition has no devices.
    pub fn add_scsi_controller(&mut self) -> Result<bool, XmlError> {
        let devices = self.devices()?;
        if devices.all("controller").any(|c| c.attr("type") == Some("scsi")) {
            return Ok(false);
        }
        devices.insert_after(&["controller", "disk", "emulator"], build::scsi_controller());
        Ok(true)
    }

    /// Replaces all video cards.
    ///
    /// # Errors
    /// When the definition has no devices.
    pub fn set_videos(&mut self, videos: &[VideoSpec]) -> Result<(), XmlError> {
        let devices = self.devices()?;
        devices.remove_where(|e| e.name == "video");
        for (place, video) in videos.iter().enumerate().rev() {
            devices.insert_after(
                &["sound", "graphics", "input", "channel", "console", "serial"],
                build::video_element(video, place == 0),
            );
        }
        Ok(())
    }

    /// Plugs the interface with the MAC address `mac` into `source`, and gives it another address or model where
    /// there is one.
    ///
    /// # Errors
    /// [`XmlError::Conflict`] when there is no such interface, or another one has the new address already.
    pub fn set_nic(
        &mut self,
        mac: &str,
        source: &NicSource,
        new_mac: Option<&str>,
        model: Option<&str>,
    ) -> Result<(), XmlError> {
        let (mac, new_mac) = (
            mac.to_ascii_lowercase(),
            new_mac.map(str::to_ascii_lowercase).filter(|new| *new != mac),
        );
        if let Some(new) = &new_mac
            && self.nic(new).is_some()
        {
            return Err(XmlError::Conflict(format!(
                "the domain has an interface with the MAC {new} already"
            )));
        }
        let nic = self
            .devices()?
            .elements_mut()
            .find(|e| e.name == "interface" && InterfaceXml::read(e).mac.as_deref() == Some(&mac))
            .ok_or_else(|| XmlError::Conflict(format!("the domain has no interface with the MAC {mac}")))?;
        let present = InterfaceXml::read(nic);
        let (kind, element) = build::nic_source(source);
        let wanted = element
            .as_ref()
            .and_then(|e| e.attributes.first().map(|(_, value)| value.clone()));
        if present.kind != kind || present.source != wanted {
            nic.set("type", kind);
            // What belonged to the old place: its port, switch and limits of a kind that the new one may not have.
            nic.remove_where(|e| matches!(e.name.as_str(), "source" | "virtualport" | "portid"));
            if let Some(element) = element {
                nic.insert_after(&["mac"], element);
            }
        }
        if let Some(new) = &new_mac {
            // Our name for it is made of its address, which another may have next.
            nic.remove_where(|e| e.name == "alias");
            nic.upsert("mac", &[], |e| e.set("address", new.as_str()));
        }
        if let Some(model) = model {
            nic.upsert("model", &["target", "source", "mac"], |e| e.set("type", model));
        }
        Ok(())
    }

    /// Adds a network interface behind the present ones.
    ///
    /// # Errors
    /// [`XmlError::Conflict`] when the MAC address is in use in this domain.
    pub fn add_nic(&mut self, nic: &NicSpec) -> Result<(), XmlError> {
        let devices = self.devices()?;
        if let Some(mac) = nic.mac.as_ref().map(|mac| mac.to_ascii_lowercase())
            && devices
                .all("interface")
                .any(|i| InterfaceXml::read(i).mac.as_deref() == Some(&mac))
        {
            return Err(XmlError::Conflict(format!(
                "the domain has an interface with the MAC {mac} already"
            )));
        }
        devices.insert_after(
            &["interface", "controller", "disk", "emulator"],
            build::nic_element(nic),
        );
        Ok(())
    }

    /// The `<interface>` with that MAC address.
    pub fn nic(&self, mac: &str) -> Option<&Element> {
        let mac = mac.to_ascii_lowercase();
        self.root
            .get("devices")?
            .all("interface")
            .find(|i| InterfaceXml::read(i).mac.as_deref() == Some(&mac))
    }

    /// Removes the interface with that MAC address; says whether there was one.
    ///
    /// # Errors
    /// When the definition has no devices.
    pub fn remove_nic(&mut self, mac: &str) -> Result<bool, XmlError> {
        let mac = mac.to_ascii_lowercase();
        let gone = self
            .devices()?
            .remove_where(|e| e.name == "interface" && InterfaceXml::read(e).mac.as_deref() == Some(&mac));
        Ok(gone > 0)
    }

    /// Sets (or with `None` removes) the password of every graphics server of a kind (`vnc`, `spice`).
    ///
    /// # Errors
    /// [`XmlError::Conflict`] when there is no such server.
    pub fn set_graphics_password(&mut self, kind: &str, password: Option<&str>) -> Result<(), XmlError> {
        let mut found = false;
        for graphics in self.devices()?.elements_mut() {
            if graphics.name == "graphics" && graphics.attr("type") == Some(kind) {
                found = true;
                match password {
                    Some(password) => graphics.set("passwd", password),
                    None => {
                        graphics.unset("passwd");
                    }
                }
            }
        }
        if found {
            return Ok(());
        }
        Err(XmlError::Conflict(format!("the domain has no {kind} graphics")))
    }

    /// The first `<graphics>` of that kind.
    pub fn graphics(&self, kind: &str) -> Option<&Element> {
        self.root
            .get("devices")?
            .all("graphics")
            .find(|g| g.attr("type") == Some(kind))
    }

    /// Sets the order of boot device classes (`hd cdrom network fd`). A definition with per-device orders loses
    /// them, because libvirt refuses the two together.
    ///
    /// # Errors
    /// When the definition has no `<os>`.
    pub fn set_boot_classes(&mut self, classes: &[&str]) -> Result<(), XmlError> {
        if let Some(devices) = self.root.get_mut("devices") {
            for device in devices.elements_mut() {
                device.remove_where(|e| e.name == "boot" && e.attr("order").is_some());
            }
        }
        let os = self
            .root
            .get_mut("os")
            .ok_or_else(|| XmlError::Missing("<os>".into()))?;
        os.remove_where(|e| e.name == "boot");
        for class in classes.iter().rev() {
            os.insert_after(
                &["type", "firmware", "loader", "nvram"],
                Element::new("boot").with("dev", *class),
            );
        }
        Ok(())
    }

    /// Replaces our own metadata element by these fields; none removes it. Foreign metadata stays.
    pub fn set_metadata(&mut self, fields: &[(&str, &str)]) {
        let declared: Vec<(String, String)> = self
            .root
            .attributes
            .iter()
            .chain(
                self.root
                    .get("metadata")
                    .into_iter()
                    .flat_map(|m| m.attributes.iter()),
            )
            .filter(|(name, _)| name.starts_with("xmlns"))
            .cloned()
            .collect();
        let scope = Element {
            name: "scope".into(),
            attributes: declared,
            children: Vec::new(),
        };
        let ours = (!fields.is_empty()).then(|| metadata_element(fields));
        match self.root.get_mut("metadata") {
            Some(metadata) => {
                metadata.remove_where(|e| is_ours(e, &[&scope]));
                metadata.children.extend(ours.map(Node::Element));
                if metadata.elements().next().is_none() {
                    self.root.remove_where(|e| e.name == "metadata");
                }
            }
            None => {
                if let Some(ours) = ours {
                    self.root.insert_after(
                        &["description", "title", "genid", "uuid", "name"],
                        Element::new("metadata").child(ours),
                    );
                }
            }
        }
    }
}

/// Our metadata element with these fields.
pub fn metadata_element(fields: &[(&str, &str)]) -> Element {
    let element = Element::new(format!("{METADATA_PREFIX}:domain"))
        .with(&format!("xmlns:{METADATA_PREFIX}"), METADATA_NAMESPACE);
    fields.iter().fold(element, |element, (name, value)| {
        element.child(Element::new(format!("{METADATA_PREFIX}:{name}")).text(*value))
    })
}
