//! The server over real sockets, with a client of our own that can misbehave.

mod admin;
mod bad_input;
mod contract;
mod drain;
mod limits;
mod requests;
mod support;
mod tls;
