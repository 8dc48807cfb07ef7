//! Backend for libvirt hosts: any URI that libvirt understands, through the crate `virt`.
//!
//! [`connection`] keeps calls from waiting for each other, [`xml`] reads and edits definitions without losing what it
//! does not know, [`ffi`] holds all `unsafe`, [`seed`] makes first-boot media.

pub mod connection;
pub mod ffi;
pub mod seed;
pub mod xml;
