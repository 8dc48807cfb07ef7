//! Backend for libvirt hosts: any URI that libvirt understands, through the crate `virt`.
//!
//! [`backend`] is what the core sees. Behind it, [`connection`] keeps calls from waiting for each other, [`xml`] reads
//! and edits definitions without losing what it does not know, [`seed`] makes first-boot media, and [`ffi`] holds all
//! `unsafe`.

pub mod backend;
pub mod capability;
mod change;
pub mod config;
pub mod connection;
mod console;
mod convert;
mod copying;
mod define;
pub mod error;
pub mod ffi;
mod firstboot;
mod longjob;
mod migration;
mod networks;
mod plan;
mod qcow;
mod qos;
pub mod quirks;
pub mod raw;
mod read;
mod screen;
pub mod seed;
mod shared;
mod snapshots;
mod tasks;
mod upload;
mod usage;
mod volumes;
mod watch;
pub mod xml;

pub use backend::LibvirtBackend;
pub use config::{Accel, LibvirtConfig};

/// What the backend declares at its fullest, on libvirt's QEMU driver: for reports that are made without a host.
pub fn declared() -> babelvisor_core::capability::CapabilitySet {
    capability::of(quirks::Driver::Qemu)
}
