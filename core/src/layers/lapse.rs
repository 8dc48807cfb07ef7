//! What becomes of a VM whose lease has run out: suspended at expiry, deleted a week later (Guest REST
//! document, creation: `lease_term`). Off unless the site turns it on. One gateway does it at a time, under a
//! named lease of the store.
//!
//! A lease is the client's bare number. It counts as a Unix time in seconds only if it lay in the future when
//! the VM was made; clients send numbers like 100, which mean no lease.

use std::sync::Arc;
use std::time::Duration;

use super::{Core, SubmitOptions};
use crate::command::{Command, DeleteVm, Power, PowerAction};
use crate::error::Result;
use crate::model::{Caller, PowerState, Role, TenantId, Timestamp, Vm};

/// The clocks of enforcement.
#[derive(Debug, Clone)]
pub struct LapseSettings {
    /// How often leases are looked at.
    pub every: Duration,
    /// How long after expiry the VM is deleted.
    pub keep: Duration,
}

impl Default for LapseSettings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(60),
            keep: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// When a VM's lease ends, if it has one.
pub fn lease_end(vm: &Vm) -> Option<Timestamp> {
    let end = Timestamp::from_second(vm.record.lease_term?).ok()?;
    (end > vm.record.first_seen).then_some(end)
}

/// Enforces leases until dropped.
pub async fn enforce(core: Arc<Core>, settings: LapseSettings) {
    let mut tick = tokio::time::interval(settings.every);
    loop {
        tick.tick().await;
        let holder = core.engine.worker().clone();
        match core
            .registry
            .store()
            .lease("lapse", &holder, settings.every * 3)
            .await
        {
            Ok(true) => {
                round(&core, &settings).await;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the lease of the lapse round cannot be had"),
        }
    }
}

/// One look at all leases. One that cannot be enforced keeps nobody from the others.
async fn round(core: &Core, settings: &LapseSettings) {
    let now = Timestamp::now();
    let lapsed: Vec<Arc<Vm>> = core
        .now()
        .by_number
        .values()
        .filter(|vm| vm.activity.is_none() && lease_end(vm).is_some_and(|end| end <= now))
        .cloned()
        .collect();
    for vm in lapsed {
        if let Err(error) = enforce_one(core, settings, &vm, now).await {
            tracing::warn!(vm = %vm.id, %error, "a lease that has run out could not be enforced, trying again");
        }
    }
}

/// Deletes a VM whose time after the end is over, suspends one that has just ended.
async fn enforce_one(core: &Core, settings: &LapseSettings, vm: &Vm, now: Timestamp) -> Result<()> {
    let caller = caller(&vm.record.tenant);
    let due = lease_end(vm).and_then(|end| end.checked_add(settings.keep).ok());
    if due.is_some_and(|due| due <= now) {
        let command = Command::DeleteVm(DeleteVm {
            vm: vm.id,
            volumes: true,
            keep_data_volumes: false,
        });
        tracing::info!(vm = %vm.id, "a lease ended long ago: the vm is deleted");
        core.submit(&caller, command, SubmitOptions::REFUSE).await?;
        return Ok(());
    }
    if vm.record.lapsed_at.is_some() {
        return Ok(());
    }
    match vm.power() {
        PowerState::Running | PowerState::Blocked => {
            let command = Command::Power(Power {
                vm: vm.id,
                action: PowerAction::Suspend,
            });
            tracing::info!(vm = %vm.id, "a lease has run out: the vm is suspended");
            core.submit(&caller, command, SubmitOptions::REFUSE).await?;
        }
        PowerState::NoState
        | PowerState::Paused
        | PowerState::ShuttingDown
        | PowerState::Off
        | PowerState::Crashed
        | PowerState::Suspended => {}
    }
    // Noted last: what could not be taken is tried again at the next look.
    core.annotate(&caller, vm.id, |record| {
        record.lapsed_at = Some(now);
        Ok(())
    })
    .await?;
    Ok(())
}

fn caller(tenant: &TenantId) -> Caller {
    Caller {
        account: None,
        tenant: tenant.clone(),
        role: Role::Admin,
        vm_quota: None,
        dialect: "gateway",
        operation: "lapse".to_owned(),
        request_id: "lapse".to_owned(),
    }
}
