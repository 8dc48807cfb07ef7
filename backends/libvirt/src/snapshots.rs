//! Snapshots: internal ones, which libvirt can go back to and remove.
//!
//! libvirt 9 makes external snapshots but refuses to go back to them, and makes internal ones of a running domain only
//! together with its memory. A snapshot that is to have the disks alone is therefore made with the memory, too, and
//! marked: going back to it leaves the memory out, so that the VM is off and its disks are as after a power cut.

use babelvisor_core::model::{PowerState, SnapshotFacts, SnapshotSpec, Timestamp};
use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::domain_snapshot::DomainSnapshot;
use virt_sys as sys;

use crate::connection::CallError;
use crate::define::lookup;
use crate::error::code;
use crate::tasks;
use crate::xml::view::DiskXml;
use crate::xml::{DomainXml, Element};

/// NO_DOMAIN_SNAPSHOT.
const NO_SNAPSHOT: u32 = 72;
/// SNAPSHOT_REVERT_RISKY: the running QEMU cannot be turned into the one of the snapshot, a new one can.
const RISKY: u32 = 70;
/// The last line of the description of a snapshot whose memory is not to be used.
const DISKS_ONLY: &str = "[disks only]";

fn existing(connection: &Connect, uuid: Uuid) -> Result<Domain, CallError> {
    lookup(connection, uuid)?.ok_or_else(|| Error::not_found("vm", uuid).into())
}

fn find(domain: &Domain, name: &str) -> Result<Option<DomainSnapshot>, CallError> {
    match Domain::lookup_snapshot_by_name(domain, name, 0) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(error) if code(&error) == NO_SNAPSHOT => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a disk's content would be part of a snapshot.
fn takes_part(disk: &DiskXml) -> bool {
    disk.is_disk() && !disk.readonly
}

/// Makes a snapshot; one of that name is an earlier try's.
pub(crate) fn create(
    connection: &Connect,
    uuid: Uuid,
    spec: &SnapshotSpec,
) -> Result<SnapshotFacts, CallError> {
    let (domain, power) = tasks::state(connection, uuid)?.ok_or_else(|| Error::not_found("vm", uuid))?;
    if let Some(present) = find(&domain, &spec.name)? {
        return facts(&present);
    }
    let alive = matches!(
        power,
        PowerState::Running | PowerState::Blocked | PowerState::Paused
    );
    if spec.memory && !alive {
        let detail = "the VM is off and has no memory to keep; take a snapshot of its disks";
        return Err(Error::illegal_state("vm", uuid, detail).into());
    }
    let xml = DomainXml::parse(&domain.xml_desc(0)?)?;
    let disks = chosen(&xml, spec, uuid)?;
    let mut description = spec.title.replace('\0', "");
    if alive && !spec.memory {
        description = format!("{description}\n{DISKS_ONLY}");
    }
    let definition = Element::new("domainsnapshot")
        .child(Element::new("name").text(spec.name.as_str()))
        .child(Element::new("description").text(description))
        .child(disks)
        .to_xml()?;
    let made = domain.create_snapshot_xml(&definition, 0)?;
    facts(&made)
}

/// `<disks>`: all that the domain writes, or a reason why not.
fn chosen(xml: &DomainXml, spec: &SnapshotSpec, uuid: Uuid) -> Result<Element, CallError> {
    let unsupported =
        |text: String| -> CallError { Error::new(ErrorKind::Unsupported, text).about("vm", uuid).into() };
    if let Some(wanted) = &spec.disks {
        for name in wanted {
            match xml.disks.iter().find(|disk| disk.target == *name) {
                None => return Err(Error::not_found("disk", name).into()),
                Some(disk) if !takes_part(disk) => {
                    return Err(unsupported(format!(
                        "disk {name} is read-only or removable and has no snapshots"
                    )));
                }
                Some(_) => {}
            }
        }
    }
    let mut disks = Element::new("disks");
    let mut any = false;
    for disk in &xml.disks {
        let wanted = spec
            .disks
            .as_ref()
            .is_none_or(|names| names.contains(&disk.target));
        let included = takes_part(disk) && wanted;
        if included && disk.format.as_deref() != Some("qcow2") {
            return Err(unsupported(format!(
                "disk {} is {}; only qcow2 disks have snapshots that can be gone back to",
                disk.target,
                disk.format.as_deref().unwrap_or("raw")
            )));
        }
        if takes_part(disk) && !wanted {
            return Err(unsupported(format!(
                "libvirt takes a snapshot of all disks of a VM or of none; {} was left out",
                disk.target
            )));
        }
        any |= included;
        disks = disks.child(
            Element::new("disk")
                .with("name", disk.target.as_str())
                .with("snapshot", if included { "internal" } else { "no" }),
        );
    }
    if any {
        return Ok(disks);
    }
    Err(unsupported(
        "the VM has no disk that could have a snapshot".to_owned(),
    ))
}

/// What libvirt says of a snapshot.
fn facts(snapshot: &DomainSnapshot) -> Result<SnapshotFacts, CallError> {
    read(&Element::parse(&snapshot.xml_desc(0)?)?)
}

fn read(root: &Element) -> Result<SnapshotFacts, CallError> {
    let created = root.text_of("creationTime").and_then(|text| text.parse().ok());
    Ok(SnapshotFacts {
        name: root
            .text_of("name")
            .ok_or_else(|| Error::internal("libvirt reports a snapshot without a name"))?,
        parent: root.get("parent").and_then(|parent| parent.text_of("name")),
        created: created.and_then(|seconds: i64| Timestamp::from_second(seconds).ok()),
        size: 0,
        memory: with_memory(root) && !disks_only(root),
    })
}

/// Whether the snapshot was taken of a running or paused domain.
fn with_memory(root: &Element) -> bool {
    matches!(
        root.text_of("state").as_deref(),
        Some("running" | "paused" | "blocked")
    )
}

fn disks_only(root: &Element) -> bool {
    root.text_of("description")
        .is_some_and(|text| text.lines().last() == Some(DISKS_ONLY))
}

/// Goes back to a snapshot.
pub(crate) fn revert(connection: &Connect, uuid: Uuid, name: &str) -> Result<(), CallError> {
    let domain = existing(connection, uuid)?;
    let snapshot = find(&domain, name)?.ok_or_else(|| Error::not_found("snapshot", name))?;
    let root = Element::parse(&snapshot.xml_desc(0)?)?;
    if domain.is_persistent()? && domain.has_managed_save(0)? {
        // Saved memory belongs to the disks as they are now: restored onto others it would destroy them.
        domain.managed_save_remove(0)?;
    }
    let dropped = with_memory(&root) && disks_only(&root);
    let flags = if dropped {
        sys::VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED
    } else {
        0
    };
    match snapshot.revert(flags) {
        Err(error) if code(&error) == RISKY => {
            snapshot.revert(flags | sys::VIR_DOMAIN_SNAPSHOT_REVERT_FORCE)?;
        }
        other => other?,
    }
    if dropped && domain.is_active()? {
        domain.destroy()?;
    }
    Ok(())
}

/// Removes a snapshot; those based on it stay and get its parent. Absent is success.
pub(crate) fn delete(connection: &Connect, uuid: Uuid, name: &str) -> Result<(), CallError> {
    let Some(domain) = lookup(connection, uuid)? else {
        return Ok(());
    };
    let Some(snapshot) = find(&domain, name)? else {
        return Ok(());
    };
    match snapshot.delete(0) {
        Err(error) if code(&error) == NO_SNAPSHOT => Ok(()),
        other => Ok(other?),
    }
}

/// All snapshots, parents before children.
pub(crate) fn list(connection: &Connect, uuid: Uuid) -> Result<Vec<SnapshotFacts>, CallError> {
    let domain = existing(connection, uuid)?;
    let mut rest = Vec::new();
    for snapshot in domain.list_all_snapshots(0)? {
        match facts(&snapshot) {
            Ok(facts) => rest.push(facts),
            // Removed since it was listed.
            Err(CallError::Libvirt(error)) if code(&error) == NO_SNAPSHOT => {}
            Err(error) => return Err(error),
        }
    }
    Ok(in_order(rest))
}

fn in_order(mut rest: Vec<SnapshotFacts>) -> Vec<SnapshotFacts> {
    rest.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name)));
    let mut ordered: Vec<SnapshotFacts> = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let waiting: Vec<String> = rest.iter().map(|s| s.name.clone()).collect();
        let (ready, later): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|s| s.parent.as_ref().is_none_or(|parent| !waiting.contains(parent)));
        if ready.is_empty() {
            // A circle, which libvirt never reports: better shown than lost.
            ordered.extend(later);
            break;
        }
        ordered.extend(ready);
        rest = later;
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, parent: Option<&str>) -> SnapshotFacts {
        SnapshotFacts {
            name: name.into(),
            parent: parent.map(str::to_owned),
            created: None,
            size: 0,
            memory: false,
        }
    }

    #[test]
    fn parents_come_before_children() {
        let listed = vec![
            snapshot("a-leaf", Some("m-middle")),
            snapshot("m-middle", Some("z-root")),
            snapshot("z-root", None),
            snapshot("b-other", Some("z-root")),
        ];
        let names: Vec<String> = in_order(listed).into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["z-root", "b-other", "m-middle", "a-leaf"]);
    }

    #[test]
    fn memory_counts_only_where_it_is_meant() {
        let xml = |state: &str, description: &str| {
            let text = format!(
                "<domainsnapshot><name>s</name><description>{description}</description><state>{state}</state>\
                 <parent><name>p</name></parent><creationTime>1700000000</creationTime></domainsnapshot>"
            );
            read(&Element::parse(&text).unwrap()).unwrap()
        };
        assert!(xml("running", "title").memory);
        assert!(!xml("shutoff", "title").memory);
        assert!(!xml("running", "title\n[disks only]").memory);
        let read = xml("paused", "[disks only] is only text here");
        assert!(read.memory);
        assert_eq!(read.parent.as_deref(), Some("p"));
        assert_eq!(read.created, Timestamp::from_second(1_700_000_000).ok());
    }
}
