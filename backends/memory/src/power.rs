//! How a guest's power changes: the legal steps come from the core's table, what each does to the guest's
//! memory, ports and addresses is here. A boot and a shutdown begin here and end when their time is over.

use std::net::IpAddr;
use std::sync::Arc;

use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{AgentState, PowerState, VmId};
use babelvisor_core::state::{Verdict, refusal, verdict_on};
use babelvisor_core::{Error, Result};
use tokio::sync::Notify;

use crate::world::{Event, Transition, World, is_up};

/// What came of asking for a power action.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The state is reached.
    Done,
    /// The guest has begun; whoever asked must end this generation's transition when its time is over.
    Begun(u64),
    /// Not yet; ask again after the guest's next change.
    Wait,
}

impl World {
    /// Asks for `action`. `begun` says that the same call asked before and waits.
    pub(crate) fn step(&mut self, vm: VmId, action: PowerAction, begun: bool) -> Result<Step> {
        let guest = self
            .guests
            .get_mut(&vm)
            .ok_or_else(|| Error::not_found("vm", vm))?;
        let state = guest.facts.power;
        if guest.transition == Some(Transition::Booting) {
            match action {
                PowerAction::Start | PowerAction::Shutdown => return Ok(Step::Wait),
                PowerAction::ForceOff => {
                    self.set_power(vm, PowerState::Off);
                    self.commit(vm);
                    return Ok(Step::Done);
                }
                PowerAction::Reboot
                | PowerAction::Reset
                | PowerAction::ForceReboot
                | PowerAction::Suspend
                | PowerAction::Resume
                | PowerAction::Save
                | PowerAction::Restore => {}
            }
        }
        match verdict_on(action, state, guest.facts.saved) {
            Verdict::Illegal => return Err(refusal(action, vm, state)),
            Verdict::AlreadySo => return Ok(Step::Done),
            Verdict::Legal => {}
        }
        match action {
            PowerAction::Start if state == PowerState::Suspended => self.set_power(vm, PowerState::Running),
            PowerAction::Start if begun => {
                let detail = "the vm was powered off while it was starting";
                return Err(Error::illegal_state("vm", vm, detail));
            }
            PowerAction::Start => {
                guest.transition = Some(Transition::Booting);
                guest.generation += 1;
                let generation = guest.generation;
                self.keep_guest(vm);
                return Ok(Step::Begun(generation));
            }
            PowerAction::Shutdown => {
                if state == PowerState::ShuttingDown || guest.ignores_acpi || begun {
                    return Ok(Step::Wait);
                }
                self.set_power(vm, PowerState::ShuttingDown);
                let generation = self.begin_shutdown(vm);
                self.commit(vm);
                return Ok(Step::Begun(generation));
            }
            PowerAction::ForceOff => self.set_power(vm, PowerState::Off),
            PowerAction::Reboot | PowerAction::Reset => {
                if action == PowerAction::Reset || !guest.ignores_acpi {
                    guest.boots = guest.boots.saturating_add(1);
                    self.keep_guest(vm);
                }
                return Ok(Step::Done);
            }
            PowerAction::ForceReboot => {
                return Err(Error::unsupported(
                    "a forced reboot is made of force off and start, by the job",
                ));
            }
            PowerAction::Suspend => self.set_power(vm, PowerState::Paused),
            PowerAction::Resume => self.set_power(vm, PowerState::Running),
            PowerAction::Save => {
                Arc::make_mut(&mut guest.facts).saved = true;
                self.set_power(vm, PowerState::Off);
            }
            PowerAction::Restore => self.set_power(vm, PowerState::Running),
        }
        self.commit(vm);
        Ok(Step::Done)
    }

    /// Ends the transition of `generation`, unless something else overtook it.
    pub(crate) fn end_transition(&mut self, vm: VmId, generation: u64) {
        let Some(guest) = self
            .guests
            .get(&vm)
            .filter(|guest| guest.generation == generation)
        else {
            return;
        };
        match guest.transition {
            Some(Transition::Booting) => self.set_power(vm, PowerState::Running),
            Some(Transition::ShuttingDown) => self.set_power(vm, PowerState::Off),
            None => return,
        }
        self.commit(vm);
    }

    /// Wakes whenever the guest changes.
    pub(crate) fn waiters(&mut self, vm: VmId) -> Result<Arc<Notify>> {
        let guest = self
            .guests
            .get_mut(&vm)
            .ok_or_else(|| Error::not_found("vm", vm))?;
        Ok(Arc::clone(guest.waiters.get_or_insert_with(Arc::default)))
    }

    /// Puts a guest into a state, with all that goes with it. The caller commits.
    pub(crate) fn set_power(&mut self, vm: VmId, power: PowerState) {
        let Some(guest) = self.guests.get_mut(&vm) else {
            return;
        };
        guest.transition = None;
        guest.generation += 1;
        let (before, after) = (is_up(guest.facts.power), is_up(power));
        let facts = Arc::make_mut(&mut guest.facts);
        facts.power = power;
        // Saved memory is used up by whatever runs next.
        facts.saved &= !is_up(power);
        facts.agent = match power {
            PowerState::Running | PowerState::Blocked => AgentState::Connected,
            PowerState::NoState
            | PowerState::Paused
            | PowerState::ShuttingDown
            | PowerState::Off
            | PowerState::Crashed
            | PowerState::Suspended => AgentState::Disconnected,
        };
        if before == after {
            return;
        }
        if after {
            guest.boots = guest.boots.saturating_add(1);
        }
        for (nic, lease) in facts.nics.iter_mut().zip(&guest.leases) {
            nic.addresses.clear();
            nic.target = after.then(|| format!("vnet-{}", nic.mac.replace(':', "")));
            if after && self.reports_addresses {
                nic.addresses.extend(lease.map(IpAddr::V4));
            }
        }
        let Some(slot) = self.hosts.iter_mut().find(|slot| slot.host.id == facts.host) else {
            return;
        };
        for display in &mut facts.graphics {
            if after {
                display.port = self.ports.take();
            } else if let Some(port) = display.port.take() {
                self.ports.give_back(port);
            }
        }
        slot.used = if after {
            slot.used.saturating_add(facts.memory.current)
        } else {
            slot.used.saturating_sub(facts.memory.current)
        };
        self.publish(Event::Topology);
    }

    fn begin_shutdown(&mut self, vm: VmId) -> u64 {
        self.guests.get_mut(&vm).map_or(0, |guest| {
            guest.transition = Some(Transition::ShuttingDown);
            guest.generation
        })
    }
}
