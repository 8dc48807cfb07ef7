//! Definitions as virt-install, virt-manager, Nova and oVirt write them: after a change, nothing else has changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;
use std::path::Path;

use babelvisor_libvirt::xml::build::{DiskSource, DiskSpec, NicSource, NicSpec};
use babelvisor_libvirt::xml::canon::{diff, lines};
use babelvisor_libvirt::xml::view::DiskXml;
use babelvisor_libvirt::xml::{DomainDocument, DomainXml, Element, METADATA_NAMESPACE, XmlError};
use proptest::prelude::*;

fn fixtures() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut all: Vec<(String, String)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    all.sort();
    all
}

fn document(text: &str) -> DomainDocument {
    DomainDocument::parse(text).unwrap()
}

/// What a change did to a definition, after it was written and read again.
fn changed(
    text: &str,
    change: impl FnOnce(&mut DomainDocument) -> Result<(), XmlError>,
) -> Result<Vec<String>, XmlError> {
    let before = document(text);
    let mut after = before.clone();
    change(&mut after)?;
    let reread = document(&after.to_xml()?);
    Ok(diff(before.root(), reread.root()))
}

/// Paths without the numbers, attributes and values: where something changed.
fn places(diff: &[String]) -> BTreeSet<String> {
    diff.iter()
        .map(|line| {
            let path = line.trim_start_matches(['+', '-']);
            let path = path.split(['=', '@']).next().unwrap_or_default();
            path.split('/')
                .map(|part| part.split('[').next().unwrap_or_default())
                .collect::<Vec<_>>()
                .join("/")
        })
        .collect()
}

fn set(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn new_disk() -> DiskSpec {
    DiskSpec {
        device: "disk".into(),
        source: Some(DiskSource::File("/srv/new <disk> & 'co'.qcow2".into())),
        format: "qcow2".into(),
        target: "vdx".into(),
        bus: "virtio".into(),
        readonly: false,
        shareable: false,
        serial: Some("S-1".into()),
        boot_order: None,
    }
}

fn new_nic() -> NicSpec {
    NicSpec {
        source: NicSource::Network("net & \"work\"".into()),
        mac: Some("52:54:00:FF:00:01".into()),
        model: "virtio".into(),
        alias: None,
    }
}

#[test]
fn there_are_twenty_of_them_and_each_is_read() {
    let all = fixtures();
    assert_eq!(all.len(), 20);
    let uuids: BTreeSet<_> = all
        .iter()
        .map(|(name, text)| {
            DomainXml::parse(text)
                .unwrap_or_else(|e| panic!("{name}: {e}"))
                .uuid
        })
        .collect();
    assert_eq!(uuids.len(), 20);
}

#[test]
fn reading_and_writing_changes_nothing() {
    for (name, text) in fixtures() {
        let first = document(&text);
        let second = document(&first.to_xml().unwrap());
        assert_eq!(first.root(), second.root(), "{name}");
        assert_eq!(lines(first.root()), lines(second.root()), "{name}");
    }
}

#[test]
fn vcpus_change_only_the_count_and_a_topology_that_no_longer_fits() {
    for (name, text) in fixtures() {
        let allowed = set(&[
            "/domain/vcpu",
            "/domain/cpu/topology",
            "/domain/vcpus",
            "/domain/vcpus/vcpu",
        ]);
        match changed(&text, |d| d.set_vcpus(3, 12)) {
            Ok(diff) => {
                assert!(places(&diff).is_subset(&allowed), "{name}: {diff:#?}");
                let mut after = document(&text);
                after.set_vcpus(3, 12).unwrap();
                let view = DomainXml::read(after.root()).unwrap();
                assert_eq!((view.vcpus, view.max_vcpus), (3, 12), "{name}");
                if let Some(t) = view.topology {
                    assert_eq!(t.sockets * t.dies * t.cores * t.threads, 12, "{name}");
                }
            }
            Err(error) => {
                assert!(
                    matches!(error, XmlError::Conflict(_)) && text.contains("<numa>"),
                    "{name}: {error}"
                );
            }
        }
        assert!(
            changed(&text, |d| d.set_vcpus(0, 4)).is_err() && changed(&text, |d| d.set_vcpus(5, 4)).is_err()
        );
    }
}

#[test]
fn memory_changes_only_memory() {
    for (name, text) in fixtures() {
        match changed(&text, |d| d.set_memory(300 << 20, 600 << 20)) {
            Ok(diff) => {
                let allowed = set(&["/domain/memory", "/domain/currentMemory"]);
                assert!(places(&diff).is_subset(&allowed), "{name}: {diff:#?}");
                let mut after = document(&text);
                after.set_memory(300 << 20, 600 << 20).unwrap();
                let view = DomainXml::read(after.root()).unwrap();
                assert_eq!(
                    (view.current_memory, view.memory),
                    (300 << 20, 600 << 20),
                    "{name}"
                );
            }
            Err(error) => {
                assert!(
                    matches!(error, XmlError::Conflict(_)) && text.contains("<numa>"),
                    "{name}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_disk_comes_and_goes_without_a_trace() {
    for (name, text) in fixtures() {
        let before = document(&text);
        let mut document = before.clone();
        document.add_disk(&new_disk()).unwrap();
        assert!(
            document.add_disk(&new_disk()).is_err(),
            "{name}: the target is taken"
        );
        let added = diff(before.root(), document.root());
        assert!(
            added
                .iter()
                .all(|line| line.starts_with("+/domain[1]") || line.starts_with("+/domain/devices[1]/disk")),
            "{name}: {added:#?}"
        );
        let seen = DomainXml::parse(&document.to_xml().unwrap()).unwrap();
        assert_eq!(
            seen.disks.last().unwrap().source.as_deref(),
            Some("/srv/new <disk> & 'co'.qcow2"),
            "{name}"
        );
        assert!(document.remove_disk("vdx").unwrap());
        assert!(!document.remove_disk("vdx").unwrap());
        assert_eq!(before.root(), document.root(), "{name}");
    }
}

#[test]
fn a_present_disk_is_removed_and_the_others_stay() {
    for (name, text) in fixtures() {
        let before = DomainXml::parse(&text).unwrap();
        let Some(first) = before.disks.first().cloned() else {
            continue;
        };
        let mut document = document(&text);
        assert!(document.remove_disk(&first.target).unwrap(), "{name}");
        let after = DomainXml::read(document.root()).unwrap();
        assert_eq!(after.disks, before.disks[1..], "{name}");
        assert_eq!(
            DomainXml {
                disks: vec![],
                ..after
            },
            DomainXml {
                disks: vec![],
                ..before
            },
            "{name}"
        );
    }
}

#[test]
fn an_interface_comes_and_goes_without_a_trace() {
    for (name, text) in fixtures() {
        let before = document(&text);
        let mut document = before.clone();
        document.add_nic(&new_nic()).unwrap();
        assert!(document.add_nic(&new_nic()).is_err(), "{name}: the MAC is in use");
        let seen = DomainXml::parse(&document.to_xml().unwrap()).unwrap();
        assert_eq!(
            seen.interfaces.last().unwrap().source.as_deref(),
            Some("net & \"work\""),
            "{name}"
        );
        assert!(document.remove_nic("52:54:00:ff:00:01").unwrap());
        assert_eq!(before.root(), document.root(), "{name}");
    }
}

#[test]
fn a_graphics_password_changes_one_attribute() {
    for (name, text) in fixtures() {
        let servers = DomainXml::parse(&text).unwrap().graphics;
        for kind in ["vnc", "spice"] {
            let change = changed(&text, |d| d.set_graphics_password(kind, Some("new & <secret>")));
            let count = servers.iter().filter(|g| g.kind == kind).count();
            if count == 0 {
                assert!(matches!(change, Err(XmlError::Conflict(_))), "{name} {kind}");
                continue;
            }
            let diff = change.unwrap();
            assert_eq!(
                diff.iter().filter(|line| line.starts_with('+')).count(),
                count,
                "{name} {kind}: {diff:#?}"
            );
            assert!(
                diff.iter().all(|line| line.contains("@passwd=")),
                "{name} {kind}: {diff:#?}"
            );
        }
    }
}

#[test]
fn names_titles_and_descriptions_change_only_themselves() {
    for (name, text) in fixtures() {
        let diff = changed(&text, |d| {
            d.set_name("new <name>");
            Ok(())
        })
        .unwrap();
        assert_eq!(places(&diff), set(&["/domain/name"]), "{name}: {diff:#?}");
        let diff = changed(&text, |d| {
            d.set_title(Some("t & t"));
            d.set_description(Some("d < d"));
            Ok(())
        })
        .unwrap();
        assert_eq!(
            places(&diff),
            set(&["/domain/title", "/domain/description"]),
            "{name}: {diff:#?}"
        );
    }
}

#[test]
fn our_metadata_replaces_itself_and_never_foreign_metadata() {
    for (name, text) in fixtures() {
        let mut document = document(&text);
        document.set_metadata(&[("job", "j-1"), ("note", "a < b")]);
        document.set_metadata(&[("job", "j-2")]);
        let written = document.to_xml().unwrap();
        let seen = DomainXml::parse(&written).unwrap();
        assert_eq!(
            seen.metadata,
            vec![("job".to_owned(), "j-2".to_owned())],
            "{name}"
        );
        assert_eq!(seen.metadata("job"), Some("j-2"), "{name}");
        let ours = |e: &Element| e.local_name() == "domain" && e.name != "domain";
        let foreign = |root: &Element| {
            root.get("metadata").map_or_else(Vec::new, |m| {
                m.elements().filter(|e| !ours(e)).cloned().collect::<Vec<_>>()
            })
        };
        let original = DomainDocument::parse(&text).unwrap();
        assert_eq!(foreign(original.root()), foreign(document.root()), "{name}");
        document.set_metadata(&[]);
        assert!(!document.to_xml().unwrap().contains("j-2"), "{name}");
        assert_eq!(foreign(original.root()), foreign(document.root()), "{name}");
    }
    let ours = fixtures()
        .into_iter()
        .find(|(name, _)| name.starts_with("ours"))
        .unwrap()
        .1;
    assert!(ours.contains(METADATA_NAMESPACE));
    let seen = DomainXml::parse(&ours).unwrap();
    assert_eq!(seen.metadata("job"), Some("5f0c3c4e-8a4e-4f0e-8e1b-0d4c7a9b1c22"));
}

#[test]
fn a_medium_is_put_in_and_taken_out() {
    for (name, text) in fixtures() {
        let drives: Vec<DiskXml> = DomainXml::parse(&text)
            .unwrap()
            .disks
            .into_iter()
            .filter(|d| d.device == "cdrom")
            .collect();
        for drive in drives {
            let iso = DiskSource::File("/srv/iso/new & better.iso".into());
            let diff = changed(&text, |d| d.set_medium(&drive.target, Some(&iso))).unwrap();
            let allowed = set(&[
                "/domain/devices/disk",
                "/domain/devices/disk/source",
                "/domain/devices/disk/source/host",
            ]);
            assert!(places(&diff).is_subset(&allowed), "{name}: {diff:#?}");
            let mut document = document(&text);
            document.set_medium(&drive.target, Some(&iso)).unwrap();
            let inserted = DiskXml::read(document.disk(&drive.target).unwrap());
            assert_eq!(
                inserted.source.as_deref(),
                Some("/srv/iso/new & better.iso"),
                "{name}"
            );
            document.set_medium(&drive.target, None).unwrap();
            assert_eq!(
                DiskXml::read(document.disk(&drive.target).unwrap()).source,
                None,
                "{name}"
            );
        }
        assert!(document(&text).set_medium("vdq", None).is_err(), "{name}");
    }
}

#[test]
fn boot_classes_replace_the_devices_own_orders() {
    for (name, text) in fixtures() {
        let diff = changed(&text, |d| d.set_boot_classes(&["network", "hd"])).unwrap();
        let allowed = set(&[
            "/domain/os/boot",
            "/domain/devices/disk/boot",
            "/domain/devices/interface/boot",
        ]);
        assert!(places(&diff).is_subset(&allowed), "{name}: {diff:#?}");
        let mut after = document(&text);
        after.set_boot_classes(&["network", "hd"]).unwrap();
        let seen = DomainXml::read(after.root()).unwrap();
        assert_eq!(seen.os.boot, ["network", "hd"], "{name}");
        assert!(seen.disks.iter().all(|d| d.boot_order.is_none()), "{name}");
    }
}

#[test]
fn what_the_gateway_knows_is_read_right() {
    let of = |name: &str| {
        let (_, text) = fixtures().into_iter().find(|(n, _)| n == name).unwrap();
        DomainXml::parse(&text).unwrap()
    };
    let windows = of("virt-install-windows.xml");
    assert_eq!(windows.title.as_deref(), Some("Front office & reception"));
    assert!(windows.os.uefi && windows.os.secure_boot && windows.os.boot_menu);
    assert_eq!((windows.memory, windows.current_memory), (8 << 30, 8 << 30));
    assert_eq!(windows.disks[0].source.as_deref(), Some("/dev/vg0/win11"));
    assert_eq!(windows.disks[0].boot_order, Some(1));
    assert_eq!(
        windows
            .disks
            .iter()
            .map(|d| d.device.as_str())
            .collect::<Vec<_>>(),
        ["disk", "cdrom", "floppy"]
    );
    assert!(!windows.interfaces[0].link_up && !windows.balloon);
    assert_eq!(
        windows
            .graphics
            .iter()
            .filter_map(|g| g.password.as_deref())
            .collect::<Vec<_>>(),
        ["made-up-1", "made-up-2"]
    );
    assert!(!format!("{windows:?}").contains("made-up"));

    let nova = of("nova-ceph.xml");
    assert_eq!(nova.id, Some(17));
    assert_eq!(nova.disks[0].source.as_deref(), Some("rbd:vms/0d5b2c9e_disk"));
    assert!(nova.disks[0].iotune.contains(&("total_iops_sec".to_owned(), 500)));
    assert_eq!(nova.interfaces[0].slot.as_deref(), Some("pci-0-0-3-0"));
    assert_eq!(nova.interfaces[0].mtu, Some(1450));
    assert_eq!(
        nova.serials[0].log.as_deref(),
        Some("/var/lib/nova/instances/0d5b2c9e/console.log")
    );

    let ovirt = of("ovirt-vdsm.xml");
    assert_eq!(
        (ovirt.vcpus, ovirt.max_vcpus, ovirt.max_memory),
        (4, 64, Some(32 << 30))
    );
    assert!(ovirt.agent_connected());
    assert_eq!(
        ovirt.disks[0].backing,
        ["/rhev/data-center/mnt/blockSD/2c3d/images/4e5f/base"]
    );
    assert_eq!(ovirt.hostdevs[0].address, "4b20d080-1b54-4048-85b3-a6a62d165c01");

    let rig = of("manager-qemu-commandline.xml");
    assert_eq!(rig.hostdevs[0].address, "0000:0a:00.0");
    assert_eq!(rig.hostdevs[1].address, "0x046d:0xc52b");

    let chain = of("manager-snapshot-chain.xml");
    assert_eq!(chain.disks[0].backing.len(), 2);
    assert_eq!(
        chain.disks[1]
            .pool
            .as_deref()
            .zip(chain.disks[1].volume.as_deref()),
        Some(("data", "mail-spool"))
    );
    assert_eq!(chain.interfaces[0].bridge.as_deref(), Some("virbr1"));
    assert_eq!(chain.os.boot, ["cdrom", "hd", "network"]);

    let odd = of("manager-whitespace-and-entities.xml");
    assert_eq!(
        (odd.name.as_str(), odd.memory),
        ("spaces & tabs\there", 128 << 20)
    );
    assert_eq!(odd.disks[0].source.as_deref(), Some("/srv/a b\nc.img"));
    assert_eq!(of("manager-sev.xml").memory, 4_000_000_000);
    assert_eq!(of("ours-with-foreign-metadata.xml").interfaces[0].vlans, [42, 47]);
}

#[test]
fn dangerous_documents_are_refused() {
    let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
    assert!(matches!(Element::parse(&deep), Err(XmlError::TooDeep { .. })));
    let large = format!("<a>{}</a>", "x".repeat(5 << 20));
    assert!(matches!(Element::parse(&large), Err(XmlError::TooLarge { .. })));
    let bomb = "<!DOCTYPE a [<!ENTITY b \"bbbb\">]><a>&b;</a>";
    for bad in [
        bomb,
        "<a>&undefined;</a>",
        "<a",
        "<a></b>",
        "<a/><b/>",
        "text",
        "",
        "<a x='1' x='2'/>",
        "<a><b></a>",
    ] {
        assert!(
            matches!(Element::parse(bad), Err(XmlError::Malformed(_))),
            "{bad}"
        );
    }
    assert!(DomainDocument::parse("<network/>").is_err());
    assert!(DomainXml::parse("<domain><name>x</name></domain>").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any text survives as attribute and as content, or is refused because XML cannot carry it.
    #[test]
    fn any_text_is_kept_or_refused(text in any::<String>()) {
        let element = Element::new("a").with("v", text.as_str()).child(Element::new("b").text(text.as_str()));
        match element.to_xml() {
            Ok(written) => {
                let read = Element::parse(&written).unwrap();
                prop_assert_eq!(read.attr("v"), Some(text.as_str()));
                prop_assert_eq!(read.get("b").unwrap().own_text(), text);
            }
            Err(error) => prop_assert!(matches!(error, XmlError::BadCharacter { .. }), "{}", error),
        }
    }

    /// A hostile name changes the name and nothing else.
    #[test]
    fn a_hostile_name_stays_a_name(name in "[<>&'\"a-z/\\]\\[!-]{1,30}", which in 0_usize..20) {
        let (_, text) = fixtures().swap_remove(which);
        let before = document(&text);
        let mut after = before.clone();
        after.set_name(&name);
        let read = document(&after.to_xml().unwrap());
        prop_assert_eq!(DomainXml::read(read.root()).unwrap().name, name);
        prop_assert!(places(&diff(before.root(), read.root())).is_subset(&set(&["/domain/name"])));
    }

    /// Broken input is an error and never a panic.
    #[test]
    fn cut_and_spliced_documents_do_not_panic(which in 0_usize..20, cut in 0.0_f64..1.0, splice in any::<String>()) {
        let (_, text) = fixtures().swap_remove(which);
        let mut at = (text.len() as f64 * cut) as usize;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let (head, tail) = text.split_at(at);
        for broken in [head.to_owned(), format!("{head}{splice}{tail}"), format!("{head}{splice}")] {
            if let Ok(document) = DomainDocument::parse(&broken) {
                let _ = DomainXml::read(document.root());
                let _ = document.to_xml();
            }
        }
    }
}
