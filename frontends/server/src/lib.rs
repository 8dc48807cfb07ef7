//! The HTTP server under every dialect: listeners, TLS, limits, routing, drain, admin.
//!
//! It exists so that a dialect holds no server code: a dialect is a [`Frontend`](babelvisor_core::frontend::Frontend)
//! (plain data in, plain data out), and everything that touches a socket, a clock or a limit is here, once.
//!
//! ```text
//!  Server ── listen ── conn (limits of one connection) ── port (one request, end to end)
//!                        │                                 ├ path     decode and vet the path
//!                       tls                                ├ mount    which dialect, which operation
//!                                                          ├ body     read within size and time
//!                                                          ├ work     the handler: time limit, panics, hang-ups
//!                                                          ├ wire     reply → bytes
//!                                                          └ observe  span, metrics, request ids
//!  Admin ─── listen ── conn ── admin (health, metrics, views for operators)
//! ```

mod admin;
mod body;
mod config;
mod conn;
mod contract_table;
mod error;
mod listen;
mod mount;
mod observe;
mod path;
mod port;
mod tls;
mod wire;
mod work;

pub use admin::{Admin, AdminConfig, AdminSource};
pub use config::{Limits, Listener, ServerConfig, TlsFiles};
pub use error::ServerError;
pub use listen::{Drained, Readiness, Server};
pub use mount::{Mount, RouteOutcome, RouteTable, TrailingSlash};
