//! Conformance: what holds the product to its contracts.
//!
//! [`kit`] judges any backend by what it declares. [`runner`] plays scenarios over plain HTTP and reports. [`testbed`] starts the real things that tests need beside the product: a private libvirtd with QEMU guests, a Redis
//! server, and the gateway's own binary. Nothing of it touches what the machine runs already, and all of it ends with the
//! test process, however that ends.

pub mod kit;
pub mod runner;
pub mod testbed;
