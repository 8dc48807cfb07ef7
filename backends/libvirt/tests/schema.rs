//! What we write is valid by libvirt's own schema, and reads back as it was meant.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;

use babelvisor_conformance::testbed::Libvirtd;
use babelvisor_libvirt::xml::build::{DiskSource, DiskSpec, DomainType, NicSource, NicSpec};
use babelvisor_libvirt::xml::canon::lines;
use babelvisor_libvirt::xml::{DomainDocument, DomainSpec, DomainXml, Element, GraphicsSpec, VideoSpec};
use uuid::Uuid;
use virt::connect::Connect;
use virt_sys::{VIR_DOMAIN_DEFINE_VALIDATE, VIR_DOMAIN_XML_INACTIVE, VIR_DOMAIN_XML_SECURE};

fn disk(target: &str, bus: &str, device: &str) -> DiskSpec {
    DiskSpec {
        device: device.into(),
        source: Some(DiskSource::File(format!("/srv/<{target}> & co.qcow2"))),
        format: "qcow2".into(),
        target: target.into(),
        bus: bus.into(),
        readonly: device == "cdrom",
        shareable: false,
        serial: (device == "disk").then(|| format!("S{target}")),
        boot_order: None,
    }
}

fn nic(last: u8) -> NicSpec {
    NicSpec {
        source: NicSource::User,
        mac: Some(format!("52:54:00:aa:bb:{last:02x}")),
        model: "virtio".into(),
        alias: Some(format!("ua-nic-{last}")),
    }
}

fn video(model: &str, memory: Option<u64>, heads: Option<u32>) -> VideoSpec {
    VideoSpec {
        model: model.into(),
        memory,
        heads,
    }
}

fn everything(name: &str, machine: &str, uefi: bool) -> DomainSpec {
    DomainSpec {
        name: name.into(),
        uuid: Uuid::new_v4(),
        title: Some("a <title> & more".into()),
        description: Some("two\nlines".into()),
        virt_type: DomainType::Qemu,
        arch: "x86_64".into(),
        machine: machine.into(),
        uefi,
        emulator: None,
        memory: 192 << 20,
        max_memory: 256 << 20,
        vcpus: 2,
        max_vcpus: 4,
        topology: Some((1, 2, 2)),
        cpu_model: Some("qemu64".into()),
        disks: vec![
            disk("vda", "virtio", "disk"),
            disk("vdb", "virtio", "disk"),
            disk("sda", "scsi", "cdrom"),
        ],
        nics: vec![nic(1), nic(2)],
        graphics: vec![GraphicsSpec {
            kind: "vnc".into(),
            listen: "127.0.0.1".into(),
            password: Some("made<up".into()),
        }],
        videos: vec![video("virtio", None, Some(2)), video("virtio", None, None)],
        serial_log: Some("/var/log/libvirt/serial/x.log".into()),
        agent: true,
        boot: vec!["hd".into(), "cdrom".into(), "network".into()],
        metadata: vec![("job".into(), "j-1".into())],
    }
}

/// The lines of a definition without the numbers of siblings.
fn unnumbered(root: &Element) -> BTreeSet<String> {
    let strip = |line: String| {
        let mut kept = String::new();
        let mut parts = line.split('[');
        kept.push_str(parts.next().unwrap_or_default());
        for part in parts {
            kept.push_str(
                part.trim_start_matches(|c: char| c.is_ascii_digit())
                    .trim_start_matches(']'),
            );
        }
        kept
    };
    lines(root).into_iter().map(strip).collect()
}

/// Defines with libvirt's schema check, reads back, removes.
fn through_libvirt(connection: &Connect, xml: &str) -> Element {
    let defined = connection
        .define_domain_xml_flags(xml, VIR_DOMAIN_DEFINE_VALIDATE)
        .unwrap_or_else(|error| panic!("{error}\n{xml}"));
    let text = defined
        .xml_desc(VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE)
        .unwrap();
    defined
        .undefine_flags(virt_sys::VIR_DOMAIN_UNDEFINE_NVRAM)
        .unwrap();
    Element::parse(&text).unwrap()
}

#[test]
fn new_and_edited_definitions_pass_libvirts_schema() {
    let libvirtd = Libvirtd::shared().unwrap();
    let connection = Connect::open(Some(libvirtd.uri_qemu())).unwrap();
    for (name, machine, uefi) in [
        ("schema-q35", "q35", false),
        ("schema-pc", "pc", false),
        ("schema-uefi", "q35", true),
    ] {
        let spec = everything(name, machine, uefi);
        let stored = through_libvirt(&connection, &spec.to_xml().unwrap());
        let seen = DomainXml::read(&stored).unwrap();
        assert_eq!(
            (seen.name.as_str(), seen.uuid, seen.title.clone()),
            (name, spec.uuid, spec.title.clone())
        );
        assert_eq!((seen.vcpus, seen.max_vcpus, seen.memory), (2, 4, 256 << 20));
        assert_eq!(seen.disks[0].source.as_deref(), Some("/srv/<vda> & co.qcow2"));
        assert_eq!(seen.graphics[0].password.as_deref(), Some("made<up"));
        assert_eq!(
            (seen.os.uefi, seen.has_agent_channel(), seen.balloon),
            (uefi, true, true)
        );
        assert_eq!(seen.metadata, [("job".to_owned(), "j-1".to_owned())]);

        // What libvirt made of it, edited in every way: still valid, and nothing else changes on its way through libvirt.
        let mut document = DomainDocument::parse(&stored.to_xml().unwrap()).unwrap();
        document.set_vcpus(1, 8).unwrap();
        document.set_memory(128 << 20, 512 << 20).unwrap();
        document.set_title(Some("another"));
        document.set_description(None);
        document.add_disk(&disk("vdc", "virtio", "disk")).unwrap();
        assert!(document.remove_disk("vdb").unwrap());
        document.add_nic(&nic(3)).unwrap();
        assert!(document.remove_nic("52:54:00:aa:bb:02").unwrap());
        document.set_graphics_password("vnc", Some("other")).unwrap();
        document
            .set_nic(
                "52:54:00:AA:BB:01",
                &NicSource::Network("default".into()),
                Some("52:54:00:aa:bb:09"),
                Some("e1000"),
            )
            .unwrap();
        document.set_topology(2, 2, 2).unwrap();
        document
            .set_videos(&[video("vga", Some(32 << 20), None)])
            .unwrap();
        document.set_boot_classes(&["cdrom", "hd"]).unwrap();
        document.set_medium("sda", None).unwrap();
        document.set_metadata(&[("job", "j-2")]);
        let edited = Element::parse(&document.to_xml().unwrap()).unwrap();
        let again = through_libvirt(&connection, &document.to_xml().unwrap());
        let after = DomainXml::read(&again).unwrap();
        assert_eq!((after.vcpus, after.max_vcpus), (1, 8));
        assert_eq!((after.current_memory, after.memory), (128 << 20, 512 << 20));
        assert_eq!(
            after.disks.iter().map(|d| d.target.as_str()).collect::<Vec<_>>(),
            ["vda", "vdc", "sda"]
        );
        assert_eq!(after.interfaces.len(), 2);
        let nic = &after.interfaces[0];
        assert_eq!(
            (nic.kind.as_str(), nic.source.as_deref()),
            ("network", Some("default"))
        );
        assert_eq!(
            (nic.mac.as_deref(), nic.model.as_deref()),
            (Some("52:54:00:aa:bb:09"), Some("e1000"))
        );
        assert_eq!(
            after.topology.map(|t| (t.sockets, t.cores, t.threads)),
            Some((2, 2, 2))
        );
        assert_eq!((after.videos.len(), after.videos[0].vram), (1, Some(32 << 20)));
        assert_eq!(after.metadata("job"), Some("j-2"));
        // libvirt itself gives the new devices their places and sorts disks by their bus; nothing else may differ.
        let foreign: Vec<String> = unnumbered(&edited)
            .symmetric_difference(&unnumbered(&again))
            .filter(|line| {
                // It also says aloud that there is one die and one screen.
                ![
                    "/address",
                    "/controller",
                    "/boot",
                    "/topology@dies",
                    "/model@heads",
                ]
                .iter()
                .any(|part| line.contains(part))
            })
            .cloned()
            .collect();
        assert!(foreign.is_empty(), "{name}: {foreign:#?}");
    }
}
