//! What becomes of the trash by itself. A VM in it that somebody started by hand leaves it; one that somebody
//! removed by hand is gone like any other. If the site sets a time, what has been there for so long is removed for
//! good. One gateway does it at a time, under a named lease of the store.

use std::sync::Arc;
use std::time::Duration;

use super::{Core, SubmitOptions};
use crate::command::{Command, DeleteVm};
use crate::error::Result;
use crate::model::{Caller, PowerState, Role, TenantId, Timestamp, Vm};

/// The clocks of the trash.
#[derive(Debug, Clone)]
pub struct RetentionSettings {
    /// How often the trash is looked at.
    pub every: Duration,
    /// How long things stay; none is until somebody removes them.
    pub keep: Option<Duration>,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            keep: None,
        }
    }
}

/// Looks after the trash until dropped.
pub async fn look_after(core: Arc<Core>, settings: RetentionSettings) {
    let mut tick = tokio::time::interval(settings.every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let holder = core.engine.worker().clone();
        let store = core.registry.store();
        match store.lease("retention", &holder, settings.every * 3).await {
            Ok(true) => round(&core, &settings).await,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the lease of the retention round cannot be had"),
        }
    }
}

/// One look. One thing that cannot be dealt with keeps nobody from the others.
async fn round(core: &Core, settings: &RetentionSettings) {
    let now = core.now();
    for vm in now.trash.values() {
        if let Err(error) = one_vm(core, settings, vm).await {
            tracing::warn!(vm = %vm.id, %error, "a vm in the trash could not be dealt with, trying again");
        }
    }
    let Some(keep) = settings.keep else { return };
    for volume in now.entries.volumes.values() {
        if is_due(volume.trashed_at, keep) {
            let caller = caller(volume.tenant.as_ref());
            let removed = core
                .delete_volume(&caller, volume.id, SubmitOptions::REFUSE)
                .await;
            note("volume", &volume.id, removed.map(drop));
        }
    }
    for image in now.images.values() {
        if is_due(image.trashed_at, keep) {
            let caller = caller(image.tenant.as_ref());
            let removed = core.delete_image(&caller, image.id, SubmitOptions::REFUSE).await;
            note("image", &image.id, removed.map(drop));
        }
    }
}

async fn one_vm(core: &Core, settings: &RetentionSettings, vm: &Vm) -> Result<()> {
    if vm.activity.is_some() {
        return Ok(());
    }
    let caller = caller(Some(&vm.record.tenant));
    if is_up(vm.power()) {
        tracing::info!(vm = %vm.id, "a vm in the trash was started by hand: it leaves the trash");
        core.recover_vm(&caller, vm.id).await?;
        return Ok(());
    }
    if settings
        .keep
        .is_some_and(|keep| is_due(vm.record.trashed_at, keep))
    {
        tracing::info!(vm = %vm.id, "a vm has been in the trash for long: it is removed");
        let command = Command::DeleteVm(DeleteVm {
            vm: vm.id,
            volumes: true,
            keep_data_volumes: true,
        });
        core.submit(&caller, command, SubmitOptions::REFUSE).await?;
    }
    Ok(())
}

fn note(noun: &str, id: &dyn std::fmt::Display, removed: Result<()>) {
    match removed {
        Ok(()) => tracing::info!(%id, "a {noun} has been in the trash for long: it is removed"),
        Err(error) => tracing::warn!(%id, %error, "a {noun} in the trash could not be removed, trying again"),
    }
}

fn is_due(trashed: Option<Timestamp>, keep: Duration) -> bool {
    let due = trashed.and_then(|at| at.checked_add(keep).ok());
    due.is_some_and(|due| due <= Timestamp::now())
}

const fn is_up(power: PowerState) -> bool {
    match power {
        PowerState::Running | PowerState::Blocked | PowerState::Paused => true,
        PowerState::NoState
        | PowerState::ShuttingDown
        | PowerState::Off
        | PowerState::Crashed
        | PowerState::Suspended => false,
    }
}

fn caller(tenant: Option<&TenantId>) -> Caller {
    Caller {
        account: None,
        tenant: tenant.cloned().unwrap_or_else(|| TenantId::new("gateway")),
        role: Role::Admin,
        vm_quota: None,
        dialect: "gateway",
        operation: "retention".to_owned(),
        request_id: "retention".to_owned(),
    }
}
