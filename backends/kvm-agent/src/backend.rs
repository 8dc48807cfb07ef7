//! The trait's methods: reads look at the newest reports, changes become tasks.

use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_core::backend::{Backend, BackendEvent, CallContext, VmRef};
use babelvisor_core::capability::CapabilitySet;
use babelvisor_core::command::PowerAction;
use babelvisor_core::mailbox::Mailbox;
use babelvisor_core::model::{
    BackendId, PowerState, SnapshotFacts, SnapshotSpec, Timestamp, Topology, VmChange, VmFacts,
};
use babelvisor_core::{Error, Result};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::capability::declared;
use crate::config::KvmAgentConfig;
use crate::convert::{self, Machine, View};
use crate::error;
use crate::quirks::{TaskKind, about};
use crate::tasks;

/// One host behind the task feed.
pub struct KvmAgentBackend {
    id: BackendId,
    config: KvmAgentConfig,
    mailbox: Arc<Mailbox>,
    capabilities: Arc<CapabilitySet>,
}

/// What is still to be done for a call.
enum Left {
    Nothing,
    Task(TaskKind, Map<String, Value>),
}

impl KvmAgentBackend {
    /// The host that `config` names, with its reports and tasks in `mailbox`.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense. A host that does not report is none: it is unavailable.
    pub fn new(id: BackendId, config: KvmAgentConfig, mailbox: Arc<Mailbox>) -> Result<Arc<Self>> {
        config.check()?;
        Ok(Arc::new(Self {
            id,
            config,
            mailbox,
            capabilities: Arc::new(declared()),
        }))
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(crate) fn config(&self) -> &KvmAgentConfig {
        &self.config
    }

    /// What is known at `now`.
    ///
    /// # Errors
    /// `BackendUnavailable` before the first reports, and when the agent has been silent for too long.
    pub(crate) async fn view(&self, now: Timestamp) -> Result<View> {
        let serial = &self.config.serial;
        let reports = self.mailbox.reports(serial).await?;
        let tasks = self.mailbox.tasks(serial).await?;
        let Some(view) = convert::view(&self.id, &self.config, &reports, &tasks) else {
            return Err(error::unavailable(
                &self.id,
                serial,
                "has not reported its machines yet",
            ));
        };
        let lost = view.heard.checked_add(self.config.lost_after());
        if lost.is_ok_and(|lost| lost < now) {
            let reason = format!("has not reported since {}", view.heard);
            return Err(error::unavailable(&self.id, serial, &reason));
        }
        Ok(view)
    }

    async fn machine(&self, vm: &VmRef) -> Result<Machine> {
        let mut view = self.view(Timestamp::now()).await?;
        let found = self.name(&view, vm).and_then(|name| view.machines.remove(&name));
        found.ok_or_else(|| Error::not_found("vm", vm.id))
    }

    /// The machine's name: the backend's own key, or, where that is not known, whose id it is.
    fn name(&self, view: &View, vm: &VmRef) -> Option<String> {
        let own = view
            .machines
            .iter()
            .find(|(_, machine)| machine.facts.id == vm.id);
        own.map(|(name, _)| name.clone())
    }

    /// Carries out what `left` says that is still to be done. A task of an earlier try is waited for, whatever is
    /// reported by now: so `fields` must be what they were then.
    async fn carry_out(&self, call: &CallContext, left: Left) -> Result<()> {
        let Left::Task(kind, fields) = left else {
            return Ok(());
        };
        let earlier = tasks::earlier(&self.mailbox, &self.config.serial, call, kind, &fields).await?;
        tasks::carry_out(&self.mailbox, &self.config, call, earlier, kind, fields).await
    }

    /// Waits for the task of an earlier try that is known by its handle. True if there is one, and it was put in.
    async fn adopted(&self, call: &CallContext) -> Result<bool> {
        let Some(id) = call.handle.as_ref().and_then(|handle| handle.parse().ok()) else {
            return Ok(false);
        };
        let serial = &self.config.serial;
        if self.mailbox.task(serial, id).await?.is_none() {
            return Ok(false);
        }
        let report = |percent| call.report(percent);
        let ended = self.mailbox.wait(serial, id, call.deadline, report).await?;
        ended.outcome().map_err(error::of_agent)?;
        Ok(true)
    }
}

#[async_trait]
impl Backend for KvmAgentBackend {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn kind(&self) -> &'static str {
        "kvm-agent"
    }

    fn capabilities(&self) -> Arc<CapabilitySet> {
        Arc::clone(&self.capabilities)
    }

    async fn watch(&self, out: mpsc::Sender<BackendEvent>) {
        crate::watch::watch(self, out).await;
    }

    async fn list(&self, _call: &CallContext) -> Result<Vec<VmFacts>> {
        let view = self.view(Timestamp::now()).await?;
        Ok(view.machines.into_values().map(|machine| machine.facts).collect())
    }

    async fn get(&self, _call: &CallContext, vm: &VmRef) -> Result<Option<VmFacts>> {
        let view = self.view(Timestamp::now()).await?;
        let mut machines = view.machines.into_values();
        Ok(machines
            .find(|machine| machine.facts.id == vm.id)
            .map(|machine| machine.facts))
    }

    async fn topology(&self, _call: &CallContext) -> Result<Topology> {
        Ok(self.view(Timestamp::now()).await?.topology)
    }

    async fn undefine(&self, call: &CallContext, vm: &VmRef) -> Result<()> {
        if self.adopted(call).await? {
            return Ok(());
        }
        let view = self.view(Timestamp::now()).await?;
        let Some(name) = self.name(&view, vm) else {
            return Ok(());
        };
        let disks = u8::from(self.config.delete_disks);
        let fields = about(&name, &[("delete_disk", disks.into())]);
        self.carry_out(call, Left::Task(TaskKind::Delete, fields)).await
    }

    async fn power(&self, call: &CallContext, vm: &VmRef, action: PowerAction) -> Result<()> {
        if self.adopted(call).await? {
            return Ok(());
        }
        let machine = self.machine(vm).await?;
        let off = matches!(
            machine.facts.power,
            PowerState::Off | PowerState::Crashed | PowerState::NoState
        );
        let task = |action: &str| {
            let fields = about(&machine.facts.name, &[("action", action.into())]);
            Left::Task(TaskKind::Power, fields)
        };
        let left = match action {
            PowerAction::Start if off => task("start"),
            PowerAction::ForceOff if !off => task("stop"),
            PowerAction::Start | PowerAction::ForceOff => Left::Nothing,
            PowerAction::Reset if off => {
                return Err(Error::illegal_state("vm", vm.id, "it is off; start it instead"));
            }
            PowerAction::Reset => task("reboot"),
            PowerAction::Shutdown
            | PowerAction::Reboot
            | PowerAction::ForceReboot
            | PowerAction::Suspend
            | PowerAction::Resume
            | PowerAction::Save
            | PowerAction::Restore => {
                return Err(Error::unsupported("the agent knows start, stop and reboot only"));
            }
        };
        self.carry_out(call, left).await
    }

    async fn change(&self, call: &CallContext, vm: &VmRef, change: &VmChange) -> Result<()> {
        if self.adopted(call).await? {
            return Ok(());
        }
        let Machine { facts, .. } = self.machine(vm).await?;
        let (mut cpu, mut memory) = (facts.cpu.max, facts.memory.max);
        match change {
            VmChange::Cpu {
                current,
                max,
                topology,
            } => {
                if current != max || topology.is_some() {
                    let text = "the agent knows one number of vCPUs: neither room for more nor a topology";
                    return Err(Error::invalid("cpu", text));
                }
                cpu = *max;
            }
            VmChange::Memory { current, max } => {
                if current != max {
                    let text = "the agent knows one size of memory, without room for more";
                    return Err(Error::invalid("memory", text));
                }
                memory = *max;
            }
            VmChange::BootOrder { .. }
            | VmChange::Autostart { .. }
            | VmChange::Video { .. }
            | VmChange::AttachDisk(_)
            | VmChange::DetachDisk { .. }
            | VmChange::DiskQos { .. }
            | VmChange::AttachNic(_)
            | VmChange::DetachNic { .. }
            | VmChange::UpdateNic { .. }
            | VmChange::NicQos { .. }
            | VmChange::InsertMedium { .. }
            | VmChange::EjectMedium { .. }
            | VmChange::ConsolePassword { .. }
            | VmChange::GuestPassword { .. } => {
                return Err(Error::unsupported("the agent has no task for it"));
            }
        }
        if (cpu, memory) == (facts.cpu.max, facts.memory.max) {
            return Ok(());
        }
        must_be_off(vm, facts.power, "the agent changes only the stored definition")?;
        let fields = about(
            &facts.name,
            &[
                ("cpu", cpu.into()),
                ("mem", memory.into()),
                ("sysdisk_extend", 0.into()),
                ("datadisk_extend", 0.into()),
            ],
        );
        self.carry_out(call, Left::Task(TaskKind::Change, fields)).await
    }

    async fn create_snapshot(
        &self,
        call: &CallContext,
        vm: &VmRef,
        snapshot: &SnapshotSpec,
    ) -> Result<SnapshotFacts> {
        if snapshot.memory {
            return Err(Error::unsupported("the agent's snapshots are of disks"));
        }
        if snapshot.disks.is_some() {
            return Err(Error::unsupported("the agent's snapshots are of all disks"));
        }
        if !self.adopted(call).await? {
            let Machine { facts, snapshots } = self.machine(vm).await?;
            if snapshots.iter().all(|one| one.name != snapshot.name) {
                must_be_off(
                    vm,
                    facts.power,
                    "a snapshot of a running machine would hold its memory",
                )?;
                let fields = about(&facts.name, &[("snapshot_name", snapshot.name.as_str().into())]);
                self.carry_out(call, Left::Task(TaskKind::Snapshot, fields))
                    .await?;
            }
        }
        let made = self.snapshots(call, vm).await?;
        let made = made.into_iter().find(|one| one.name == snapshot.name);
        made.ok_or_else(|| Error::internal(format!("snapshot {} is gone again", snapshot.name)))
    }

    async fn revert_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        if self.adopted(call).await? {
            return Ok(());
        }
        let Machine { facts, snapshots } = self.machine(vm).await?;
        if snapshots.iter().all(|one| one.name != name) {
            return Err(Error::not_found("snapshot", name));
        }
        let fields = about(&facts.name, &[("snapshot_name", name.into())]);
        self.carry_out(call, Left::Task(TaskKind::Revert, fields)).await
    }

    async fn delete_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        if self.adopted(call).await? {
            return Ok(());
        }
        let Machine { facts, snapshots } = self.machine(vm).await?;
        if snapshots.iter().all(|one| one.name != name) {
            return Ok(());
        }
        let fields = about(&facts.name, &[("snapshot_name", name.into())]);
        self.carry_out(call, Left::Task(TaskKind::DropSnapshot, fields))
            .await
    }

    async fn snapshots(&self, _call: &CallContext, vm: &VmRef) -> Result<Vec<SnapshotFacts>> {
        Ok(self.machine(vm).await?.snapshots)
    }
}

fn must_be_off(vm: &VmRef, power: PowerState, why: &str) -> Result<()> {
    match power {
        PowerState::Off | PowerState::Crashed => Ok(()),
        PowerState::NoState
        | PowerState::Running
        | PowerState::Blocked
        | PowerState::Paused
        | PowerState::ShuttingDown
        | PowerState::Suspended => {
            let text = format!("{why}; switch the machine off first");
            Err(Error::illegal_state("vm", vm.id, text))
        }
    }
}
