//! The server over real sockets, with a client of our own that can misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod admin;
mod bad_input;
mod contract;
mod drain;
mod limits;
mod observe;
mod requests;
mod support;
mod tls;
