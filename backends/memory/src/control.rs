//! The other end of the simulated hypervisor: what its owner does without the gateway, and what tests set and
//! count. Nothing here goes through delays, faults or the connection.

use std::sync::Arc;

use babelvisor_core::model::{GuestSetup, PowerState, VmFacts, VmId, Volume, VolumeFormat};
use babelvisor_core::{Error, Result};

use crate::backend::Hypervisor;
use crate::capability::Target;
use crate::config::{Delay, Fault};
use crate::convert::{Plan, nic_on};
use crate::quirks::CallRecord;
use crate::world::Origin;

/// A handle on a [`MemoryBackend`](crate::MemoryBackend)'s hypervisor; copies are the same hypervisor.
#[derive(Clone)]
pub struct Control {
    hypervisor: Arc<Hypervisor>,
}

/// A VM that somebody makes without the gateway.
#[derive(Debug, Clone)]
pub struct ForeignVm {
    /// Its id; a random one without.
    pub id: Option<VmId>,
    /// Its name.
    pub name: String,
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Sizes of its disks in bytes; they lie in no pool.
    pub disks: Vec<u64>,
    /// Networks that it is plugged into.
    pub networks: Vec<String>,
    /// Its power state.
    pub power: PowerState,
}

impl ForeignVm {
    /// A running VM of 1 vCPU, 1 GiB, one disk of 10 GiB, without network.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            id: None,
            name: name.into(),
            vcpus: 1,
            memory: 1 << 30,
            disks: vec![10 << 30],
            networks: Vec::new(),
            power: PowerState::Running,
        }
    }
}

impl Control {
    pub(crate) const fn new(hypervisor: Arc<Hypervisor>) -> Self {
        Self { hypervisor }
    }

    /// From now on, calls of `on` (a [`Method`](crate::Method) or a capability) take this long; a boot or
    /// shutdown that is under way keeps its time.
    pub fn set_delay(&self, on: impl Into<Target>, delay: Delay) {
        self.hypervisor.quirks().delays.insert(on.into(), delay);
    }

    /// Makes calls fail; earlier faults come first.
    pub fn inject_fault(&self, fault: Fault) {
        self.hypervisor.quirks().faults.push(fault);
    }

    /// Takes back all faults that have not happened.
    pub fn clear_faults(&self) {
        self.hypervisor.quirks().faults.clear();
    }

    /// The next `count` changes of VMs are not told to watchers.
    pub fn drop_events(&self, count: u32) {
        self.hypervisor.world().events_to_drop = count;
    }

    /// Cuts the connection: waiting and later calls answer `BackendUnavailable`, watchers learn `Down`. The
    /// guests go on.
    pub fn disconnect(&self) {
        self.hypervisor.link.send_if_modified(|link| {
            let was_up = link.down.is_none();
            if was_up {
                link.down = Some("the connection was cut".to_owned());
                link.losses += 1;
            }
            was_up
        });
    }

    /// Restores the connection; watchers get a `Resync`. A hypervisor that never came up stays down.
    pub fn reconnect(&self) {
        let broken = self.hypervisor.world().broken.is_some();
        self.hypervisor.link.send_if_modified(|link| {
            let restored = link.down.is_some() && !broken;
            if restored {
                link.down = None;
            }
            restored
        });
    }

    /// Every call of the backend that changes or reads, in order; the last 65,536.
    pub fn call_log(&self) -> Vec<CallRecord> {
        self.hypervisor.quirks().log()
    }

    /// Forgets the calls so far.
    pub fn clear_call_log(&self) {
        self.hypervisor.quirks().forget_log();
    }

    /// All VMs as they are, by id.
    pub fn vms(&self) -> Vec<VmFacts> {
        let all = self.hypervisor.world().all();
        all.iter().map(|facts| VmFacts::clone(facts)).collect()
    }

    /// One VM as it is.
    pub fn vm(&self, vm: VmId) -> Option<VmFacts> {
        let world = self.hypervisor.world();
        world.guests.get(&vm).map(|guest| VmFacts::clone(&guest.facts))
    }

    /// All volumes, by native key; images and seeds among them.
    pub fn volumes(&self) -> Vec<Volume> {
        let world = self.hypervisor.world();
        world.disks.values().map(|disk| disk.volume.clone()).collect()
    }

    /// The first-boot set-up that was prepared for `vm`, password sealed as it came.
    pub fn seed(&self, vm: VmId) -> Option<GuestSetup> {
        let world = self.hypervisor.world();
        world.disks.values().find_map(|disk| match &disk.origin {
            Origin::Seed { vm: owner, setup } if *owner == vm => Some(GuestSetup::clone(setup)),
            Origin::Seed { .. } | Origin::Blank | Origin::Given | Origin::Copy | Origin::Layer { .. } => None,
        })
    }

    /// How often `vm` was booted, rebooted or reset; 0 if it does not exist.
    pub fn boots(&self, vm: VmId) -> u32 {
        let world = self.hypervisor.world();
        world.guests.get(&vm).map_or(0, |guest| guest.boots)
    }

    /// Makes a VM behind the gateway's back.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` (a network), `NoResources` (no host is large enough).
    pub fn spawn_foreign_vm(&self, vm: ForeignVm) -> Result<VmId> {
        let mut world = self.hypervisor.world();
        let mut plan = Plan::generated(&world.id, 0, None);
        plan.id = vm.id.unwrap_or_else(VmId::random);
        plan.nics = vm.networks.iter().map(|network| nic_on(network)).collect();
        plan.disks = crate::convert::loose_disks(&vm.name, &vm.disks);
        plan.name = vm.name;
        plan.vcpus = vm.vcpus;
        plan.memory = vm.memory;
        let id = world.add(plan, None)?;
        world.set_power(id, vm.power);
        world.commit(id);
        Ok(id)
    }

    /// Puts a VM into a power state behind the gateway's back, legal or not: its owner, its guest or a fault
    /// did it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn power_from_outside(&self, vm: VmId, power: PowerState) -> Result<()> {
        let mut world = self.hypervisor.world();
        if !world.guests.contains_key(&vm) {
            return Err(Error::not_found("vm", vm));
        }
        world.set_power(vm, power);
        world.commit(vm);
        Ok(())
    }

    /// Renames a VM behind the gateway's back.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `InvalidInput`.
    pub fn rename_from_outside(&self, vm: VmId, name: &str) -> Result<()> {
        self.hypervisor.world().rename(vm, name)
    }

    /// Removes a VM behind the gateway's back, running or not. Its volumes stay.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove_from_outside(&self, vm: VmId) -> Result<()> {
        if self.hypervisor.world().remove(vm) {
            Ok(())
        } else {
            Err(Error::not_found("vm", vm))
        }
    }

    /// Puts a volume into a pool behind the gateway's back: an image, or a name that is then taken.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` (the pool), `NoResources`, `InvalidInput`.
    pub fn add_volume_from_outside(
        &self,
        pool: &str,
        name: &str,
        capacity: u64,
        format: VolumeFormat,
    ) -> Result<Volume> {
        self.hypervisor
            .world()
            .add_volume(pool, name, capacity, format, Origin::Given, None)
    }

    /// Removes a volume behind the gateway's back; absent is success.
    ///
    /// # Errors
    /// `IllegalState` when a running VM or a layer needs it.
    pub fn remove_volume_from_outside(&self, pool: &str, name: &str) -> Result<()> {
        self.hypervisor.world().delete_volume(pool, name)
    }

    /// Lets a guest ignore the power button, so that a shutdown ends only by its deadline and a reboot does
    /// nothing.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_ignores_acpi(&self, vm: VmId, ignores: bool) -> Result<()> {
        let mut world = self.hypervisor.world();
        let guest = world
            .guests
            .get_mut(&vm)
            .ok_or_else(|| Error::not_found("vm", vm))?;
        guest.ignores_acpi = ignores;
        world.keep_guest(vm);
        Ok(())
    }
}
