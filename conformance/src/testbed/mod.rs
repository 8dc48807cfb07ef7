//! The test bed: real processes for tests, started on demand and gone afterwards.
//!
//! Every part is a value: making it starts a process, dropping it ends the process and removes its files. Starting and
//! ending block the calling thread (a second or two at most); the HTTP client is asynchronous.
//!
//! A process that a killed test leaves behind would spoil the next run, so each one is also tied to a pipe that the test
//! process holds: when the test process is gone, so are they.

pub mod agent;
pub mod error;
pub mod eventually;
pub mod gateway;
pub mod guest;
pub mod http;
pub mod libvirtd;
pub mod process;
pub mod redis;

pub use error::{Result, TestbedError};
pub use eventually::{eventually, eventually_blocking};
pub use gateway::{Gateway, GatewayBuilder};
pub use libvirtd::{Libvirtd, NetworkScope};
pub use redis::Redis;
