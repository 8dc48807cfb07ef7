//! The life of VMs, one file for each family of operations.
//!
//! ```text
//! words       state, ga_state and action in the dialect's words
//! belonging   cluster, zone, tenant, group, user of a VM
//! entry       a VM as lists print it          details, devices   as inspect prints it
//! filter      which VMs a list shows          counts             how many are in which state
//! list, inspect, power, removal …             the operations
//! ```
//! What is legal in which state is core's table and nobody else's: a call is refused by it before anything is done.

mod batch;
mod belonging;
pub(crate) mod clone;
pub(crate) mod cloud_init;
mod counts;
mod create;
pub(crate) mod details;
mod devices;
pub(crate) mod disk;
pub(crate) mod entry;
mod export;
mod filter;
mod hardware;
mod inspect;
mod interface;
mod list;
mod longwork;
mod media;
mod migrate;
mod power;
mod removal;
mod request;
mod shown;
mod template;
#[cfg(test)]
mod testing;
mod wanted;
mod words;

use babelvisor_core::inventory::FragmentCache;

use crate::operations::{Row, row};
use crate::settings::Settings;

/// What this part of the dialect holds.
pub(crate) struct Life {
    /// Encoded entries of the list.
    entries: FragmentCache<list::Stamp>,
}

impl Life {
    /// Holds nothing yet.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            entries: FragmentCache::new(settings.cache_bytes),
        }
    }
}

/// The operations on VMs.
pub(crate) const ROWS: &[Row] = &[
    row!("compute.list", list),
    row!("compute.state_summary", state_summary),
    row!("compute.inspect", inspect),
    row!("compute.detail", detail),
    row!("compute.vm_create_support_config", support_config),
    row!("compute.unified_create", unified_create),
    row!("compute.create", unified_create),
    row!("compute.unified_import", unified_import),
    row!("compute.start", power),
    row!("compute.batch_start", batch_power),
    row!("compute.shutdown", power),
    row!("compute.batch_shutdown", batch_power),
    row!("compute.shutoff", power),
    row!("compute.batch_shutoff", batch_power),
    row!("compute.reboot", power),
    row!("compute.batch_reboot", batch_power),
    row!("compute.reboot_ga", power),
    row!("compute.batch_reboot_ga", batch_power),
    row!("compute.reset", power),
    row!("compute.batch_reset", batch_power),
    row!("compute.suspend", power),
    row!("compute.batch_suspend", batch_power),
    row!("compute.resume", power),
    row!("compute.batch_resume", batch_power),
    row!("compute.save", power),
    row!("compute.batch_save", batch_power),
    row!("compute.restore", power),
    row!("compute.batch_restore", batch_power),
    row!("compute.delete", delete),
    row!("compute.batch_delete", batch_delete),
    row!("compute.create_from_template", create_from_template),
    row!("compute.clone", clone_machine),
    row!("compute.clone_progress", clone_progress),
    row!("compute.disk_export", disk_export),
    row!("compute.disk_export_progress", disk_export_progress),
    row!("compute.import_progress", import_progress),
    row!("compute.import_abort", import_abort),
    row!("compute.migrate", migrate),
    row!("compute.migrate_abort", migrate_abort),
    row!("compute.vcpu_set", vcpu_set),
    row!("compute.vmemory_set", vmemory_set),
    row!("compute.balloon_set", balloon_set),
    row!("compute.bootorder_set", bootorder_set),
    row!("compute.graphics_password_set", graphics_password_set),
    row!("compute.video_attach", video_attach),
    row!("compute.video_detach", video_detach),
    row!("compute.video_edit", video_edit),
    row!("compute.cdrom_attach", cdrom_attach),
    row!("compute.cdrom_detach", cdrom_detach),
    row!("compute.floppy_attach", floppy_attach),
    row!("compute.floppy_detach", floppy_detach),
    row!("compute.disk_attach", disk_attach),
    row!("compute.disk_update", disk_update),
    row!("compute.disk_detach", disk_detach),
    row!("compute.interface_attach", interface_attach),
    row!("compute.modify_network", modify_network),
    row!("compute.interface_detach", interface_detach),
    row!("compute.interface_mac_update", interface_mac_update),
    row!("compute.interface_setqos", interface_setqos),
    row!("compute.ip_mac_bind_update", ip_mac_bind_update),
];
