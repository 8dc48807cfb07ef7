//! Why a server could not start. Each text says what to change.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A listener that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another address or end the process that holds it")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate or key file cannot be used.
    #[error("TLS file {path}: {detail}; give a PEM certificate chain and its unencrypted PEM key")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
}
