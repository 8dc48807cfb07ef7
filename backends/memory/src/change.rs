//! Changes of a guest's hardware and settings. When each may be made is the core's table; what it does to the
//! guest is here. A change is whole or not at all: everything that can refuse it is asked before the first effect.

use std::net::IpAddr;
use std::sync::Arc;

use babelvisor_core::model::{
    AgentState, Disk as AttachedDisk, DiskAttachment, MediumKind, NicSpec, RemovableMedium, VmChange,
    VmFacts, VmId,
};
use babelvisor_core::state::judge_change;
use babelvisor_core::{Error, Result};

use crate::convert::{check_mac, definition, native_key, plug, source_of, target_on};
use crate::world::{Event, Guest, Password, World, is_up};

impl World {
    /// Makes one change. `password` is the opened console password, where the change has one.
    pub(crate) fn change(&mut self, vm: VmId, change: &VmChange, password: Option<Password>) -> Result<()> {
        judge_change(change, &self.guest(vm)?.facts)?;
        match change {
            VmChange::Cpu {
                current,
                max,
                topology,
            } => self.set_cpu(vm, *current, *max, *topology),
            VmChange::Memory { current, max } => self.set_memory(vm, *current, *max),
            VmChange::BootOrder { order } if order.is_empty() => {
                Err(Error::invalid("boot", "a boot order names at least one device"))
            }
            VmChange::BootOrder { order } => self.edit(vm, |facts| facts.boot.clone_from(order)),
            VmChange::Autostart { on } => self.edit(vm, |facts| facts.autostart = *on),
            VmChange::Video { adapters } if adapters.is_empty() => {
                Err(Error::invalid("video", "a vm has at least one video adapter"))
            }
            VmChange::Video { adapters } => {
                let models = adapters.iter().map(|adapter| adapter.model.clone()).collect();
                self.edit(vm, |facts| facts.video = models)
            }
            VmChange::AttachDisk(disk) => self.attach_disk(vm, disk),
            VmChange::DetachDisk { target } => self.detach_disk(vm, target),
            VmChange::DiskQos { target, limits } => {
                let limits = *limits;
                self.edit_one(vm, "disk", target, |facts| {
                    let mut disks = facts.disks.iter_mut();
                    disks
                        .find(|disk| disk.target == *target)
                        .map(|disk| disk.limits = limits)
                })
            }
            VmChange::AttachNic(nic) => self.attach_nic(vm, nic),
            VmChange::DetachNic { mac } => self.detach_nic(vm, mac),
            VmChange::UpdateNic { mac, to } => self.update_nic(vm, mac, to),
            VmChange::NicQos {
                mac,
                inbound,
                outbound,
            } => self.edit_one(vm, "nic", mac, |facts| {
                let mut nics = facts.nics.iter_mut();
                nics.find(|nic| nic.mac.eq_ignore_ascii_case(mac)).map(|nic| {
                    nic.inbound = *inbound;
                    nic.outbound = *outbound;
                })
            }),
            VmChange::InsertMedium { kind, target, source } => {
                self.insert_medium(vm, *kind, target.as_deref(), source)
            }
            VmChange::EjectMedium { kind, target } => self.edit(vm, |facts| {
                for drive in drives(facts, *kind, target.as_deref()) {
                    drive.source = None;
                }
            }),
            VmChange::ConsolePassword { .. } => {
                let has = password.is_some();
                self.guest_mut(vm)?.password = password;
                self.edit(vm, |facts| {
                    for display in &mut facts.graphics {
                        display.has_password = has;
                    }
                })
            }
            VmChange::GuestPassword { .. } => match self.guest(vm)?.facts.agent {
                AgentState::Connected => Ok(()),
                AgentState::Absent | AgentState::Disconnected => {
                    Err(Error::illegal_state("vm", vm, "its guest agent does not answer"))
                }
            },
        }
    }

    fn guest(&self, vm: VmId) -> Result<&Guest> {
        self.guests.get(&vm).ok_or_else(|| Error::not_found("vm", vm))
    }

    fn guest_mut(&mut self, vm: VmId) -> Result<&mut Guest> {
        self.guests.get_mut(&vm).ok_or_else(|| Error::not_found("vm", vm))
    }

    /// Edits what is reported of a guest, keeps it and announces it.
    fn edit(&mut self, vm: VmId, edit: impl FnOnce(&mut VmFacts)) -> Result<()> {
        let guest = self.guest_mut(vm)?;
        let facts = Arc::make_mut(&mut guest.facts);
        edit(facts);
        facts.definition = Some(definition(facts, guest.title.as_deref()));
        self.commit(vm);
        Ok(())
    }

    /// The same for one device, which must be there.
    fn edit_one(
        &mut self,
        vm: VmId,
        noun: &str,
        name: &str,
        edit: impl FnOnce(&mut VmFacts) -> Option<()>,
    ) -> Result<()> {
        let mut found = None;
        self.edit(vm, |facts| found = edit(facts))?;
        found.ok_or_else(|| Error::not_found(noun, name))
    }

    fn set_cpu(&mut self, vm: VmId, current: u32, max: u32, topology: Option<(u32, u32, u32)>) -> Result<()> {
        if current == 0 || current > max {
            let text = format!("{current} vcpus in use do not fit a maximum of {max}");
            return Err(Error::invalid("vcpus", text));
        }
        let all =
            topology.map(|(sockets, cores, threads)| sockets.saturating_mul(cores).saturating_mul(threads));
        if all.is_some_and(|all| all != max) {
            let text = format!("the topology does not make {max} vcpus");
            return Err(Error::invalid("topology", text));
        }
        let host = self.guest(vm)?.facts.host;
        let most = self.hosts.iter().find(|slot| slot.host.id == host);
        if most.is_some_and(|slot| slot.host.cpus < max) {
            let text = format!("the host has fewer than {max} cpus");
            return Err(Error::new(babelvisor_core::ErrorKind::NoResources, text));
        }
        self.edit(vm, |facts| {
            if facts.cpu.max != max {
                facts.cpu.topology = None;
            }
            facts.cpu.current = current;
            facts.cpu.max = max;
            facts.cpu.topology = topology.or(facts.cpu.topology);
        })
    }

    fn set_memory(&mut self, vm: VmId, current: u64, max: u64) -> Result<()> {
        if current == 0 || current > max {
            let text = format!("{current} bytes of memory do not fit a maximum of {max}");
            return Err(Error::invalid("memory", text));
        }
        let facts = &self.guest(vm)?.facts;
        let (host, old, up) = (facts.host, facts.memory.current, is_up(facts.power));
        if let Some(slot) = self.hosts.iter_mut().find(|slot| slot.host.id == host) {
            if slot.host.memory < max {
                let text = format!("the host has less than {max} bytes of memory");
                return Err(Error::new(babelvisor_core::ErrorKind::NoResources, text));
            }
            if up {
                slot.used = slot.used.saturating_sub(old).saturating_add(current);
            }
        }
        self.edit(vm, |facts| {
            facts.memory.current = current;
            facts.memory.max = max;
        })?;
        if up {
            self.publish(Event::Topology);
        }
        Ok(())
    }

    fn attach_disk(&mut self, vm: VmId, wanted: &DiskAttachment) -> Result<()> {
        let key = native_key(&wanted.volume.pool, &wanted.volume.name);
        let facts = Arc::clone(&self.guest(vm)?.facts);
        if facts.disks.iter().any(|disk| disk.source == key) {
            return Ok(());
        }
        let capacity = self.free_volume(vm, wanted)?.capacity;
        let bus = wanted.bus.clone().unwrap_or_else(|| "virtio".to_owned());
        let target = target_on(&bus, &facts)?;
        if let Some(disk) = self.disks.get_mut(&key) {
            disk.attached.get_or_insert(vm);
        }
        let attached = AttachedDisk {
            target,
            bus,
            volume: Some(wanted.volume.clone()),
            source: key,
            format: wanted.format,
            capacity,
            readonly: wanted.readonly,
            root: facts.disks.is_empty(),
            limits: Default::default(),
        };
        self.edit(vm, |facts| facts.disks.push(attached))
    }

    fn detach_disk(&mut self, vm: VmId, target: &str) -> Result<()> {
        let facts = &self.guest(vm)?.facts;
        let Some(source) = facts.disks.iter().find(|disk| disk.target == target) else {
            return Ok(());
        };
        let source = source.source.clone();
        // Another guest that shares it holds it from now on.
        let heir = self
            .guests
            .values()
            .find(|guest| guest.facts.id != vm && guest.facts.disks.iter().any(|disk| disk.source == source));
        let heir = heir.map(|guest| guest.facts.id);
        if let Some(disk) = self.disks.get_mut(&source)
            && disk.attached == Some(vm)
        {
            disk.attached = heir;
        }
        self.edit(vm, |facts| facts.disks.retain(|disk| disk.target != target))
    }

    fn attach_nic(&mut self, vm: VmId, spec: &NicSpec) -> Result<()> {
        let backend = self.id.clone();
        self.check_plug(spec)?;
        let facts = &self.guest(vm)?.facts;
        let has = |mac: &str| facts.nics.iter().any(|nic| nic.mac.eq_ignore_ascii_case(mac));
        if spec.mac.as_deref().is_some_and(has) {
            return Ok(());
        }
        let slot = facts.nics.iter().map(|nic| nic.slot + 1).max().unwrap_or(0);
        let up = is_up(facts.power);
        let mut nic = plug(&backend, vm, spec, slot);
        let lease = match nic.source.as_str() {
            "user" => None,
            _ => self.lease(nic.id),
        };
        if up {
            nic.target = Some(format!("vnet-{}", nic.mac.replace(':', "")));
            if self.reports_addresses {
                nic.addresses.extend(lease.map(IpAddr::V4));
            }
        }
        self.guest_mut(vm)?.leases.push(lease);
        self.edit(vm, |facts| facts.nics.push(nic))
    }

    fn detach_nic(&mut self, vm: VmId, mac: &str) -> Result<()> {
        let guest = self.guest_mut(vm)?;
        let nics = &guest.facts.nics;
        let Some(place) = nics.iter().position(|nic| nic.mac.eq_ignore_ascii_case(mac)) else {
            return Ok(());
        };
        let lease = match place < guest.leases.len() {
            true => guest.leases.remove(place),
            false => None,
        };
        if let Some(lease) = lease {
            self.leases.remove(&lease);
        }
        self.edit(vm, |facts| {
            facts.nics.remove(place);
        })
    }

    fn update_nic(&mut self, vm: VmId, mac: &str, to: &NicSpec) -> Result<()> {
        let backend = self.id.clone();
        self.check_plug(to)?;
        let nics = &self.guest(vm)?.facts.nics;
        let known = |wanted: &str| nics.iter().any(|nic| nic.mac.eq_ignore_ascii_case(wanted));
        if !known(mac) {
            // A try that was cut off has changed it already.
            return match to.mac.as_deref() {
                Some(new) if known(new) => Ok(()),
                Some(_) | None => Err(Error::not_found("nic", mac)),
            };
        }
        if let Some(new) = to.mac.as_deref()
            && !new.eq_ignore_ascii_case(mac)
            && known(new)
        {
            return Err(crate::error::taken("nic", new));
        }
        let (source, network) = source_of(&backend, &to.source);
        self.edit(vm, |facts| {
            let nic = facts
                .nics
                .iter_mut()
                .find(|nic| nic.mac.eq_ignore_ascii_case(mac));
            if let Some(nic) = nic {
                nic.source = source;
                nic.network = network;
                if let Some(new) = &to.mac {
                    nic.mac = new.to_ascii_lowercase();
                }
                if let Some(model) = &to.model {
                    nic.model.clone_from(model);
                }
            }
        })
    }

    /// Whether an interface can be what is asked for.
    pub(crate) fn check_plug(&self, spec: &NicSpec) -> Result<()> {
        use babelvisor_core::model::NicSource;
        if let Some(mac) = &spec.mac {
            check_mac(mac)?;
        }
        match &spec.source {
            NicSource::Network(name) if !self.networks.contains_key(name) => {
                Err(Error::not_found("network", name))
            }
            NicSource::Network(_) | NicSource::Bridge(_) | NicSource::User => Ok(()),
        }
    }

    fn insert_medium(
        &mut self,
        vm: VmId,
        kind: MediumKind,
        target: Option<&str>,
        source: &str,
    ) -> Result<()> {
        let key = self.find_volume(source)?;
        let mut facts = VmFacts::clone(&self.guest(vm)?.facts);
        let name = drives(&mut facts, kind, target)
            .next()
            .map(|drive| drive.target.clone());
        let name = match (name, target) {
            (Some(name), _) => name,
            (None, Some(target)) => return Err(Error::not_found("drive", target)),
            (None, None) if is_up(facts.power) => {
                let text = format!(
                    "it has no {} drive, and one can only be added while it is off",
                    kind.as_ref()
                );
                return Err(Error::illegal_state("vm", vm, text));
            }
            (None, None) => {
                let bus = match kind {
                    MediumKind::Cdrom => "scsi",
                    MediumKind::Floppy => "fdc",
                };
                let target = target_on(bus, &facts)?;
                self.edit(vm, |facts| {
                    facts.removable.push(RemovableMedium {
                        target: target.clone(),
                        kind: kind.as_ref().to_owned(),
                        source: None,
                    });
                })?;
                target
            }
        };
        self.edit(vm, |facts| {
            let drive = facts.removable.iter_mut().find(|drive| drive.target == name);
            if let Some(drive) = drive {
                drive.source = Some(key);
            }
        })
    }
}

/// The drives of a kind, or the one that is named.
fn drives<'f>(
    facts: &'f mut VmFacts,
    kind: MediumKind,
    target: Option<&'f str>,
) -> impl Iterator<Item = &'f mut RemovableMedium> {
    let drives = facts.removable.iter_mut();
    drives.filter(move |drive| {
        drive.kind == kind.as_ref() && target.is_none_or(|target| drive.target == target)
    })
}
