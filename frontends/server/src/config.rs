//! What a server is told: where it listens, which dialects answer there, and the limits that hold before any
//! dialect sees a request.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Mount;

/// Everything that [`Server::bind`](crate::Server::bind) needs.
#[derive(Clone)]
pub struct ServerConfig {
    /// Ports and what answers on each.
    pub listeners: Vec<Listener>,
    /// Limits, the same on every listener. Counts of connections and requests are shared by all listeners.
    pub limits: Limits,
}

/// One port, or several that answer alike.
#[derive(Clone)]
pub struct Listener {
    /// Addresses; port 0 takes a free one, see [`Server::local_addrs`](crate::Server::local_addrs).
    pub addresses: Vec<SocketAddr>,
    /// HTTPS if set, plain HTTP otherwise.
    pub tls: Option<TlsFiles>,
    /// The dialects on this port. One alone owns every path; of several, the longest prefix owns a path.
    pub mounts: Vec<Mount>,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM file: the certificate, then those that sign it.
    pub certificate: PathBuf,
    /// PEM file: the key, unencrypted.
    pub key: PathBuf,
}

/// Limits of requests, connections and time.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of path and query together. Default 8 KiB.
    pub target_bytes: usize,
    /// Bytes of all header names and values together. Default 32 KiB.
    pub header_bytes: usize,
    /// Number of headers. Default 100.
    pub header_count: usize,
    /// Bytes of a request body. Default 4 MiB.
    pub body_bytes: usize,
    /// Connections at once, all listeners together. A few more are told so in the dialect, the rest are closed.
    /// Default 4096.
    pub connections: usize,
    /// Requests at once, all listeners together; one more is refused as overload. Default 1024.
    pub requests: usize,
    /// Time for the head of a request from its first byte, and for the TLS handshake. Default 10 s.
    pub header_time: Duration,
    /// Time for the whole body. Default 30 s.
    pub body_time: Duration,
    /// Time for the handler. What it began goes on after the refusal for as long again. Default 60 s.
    pub handler_time: Duration,
    /// Time that a peer may leave an answer unread. Default 30 s.
    pub write_time: Duration,
    /// Time that a connection may lie idle between requests. Default 75 s.
    pub idle_time: Duration,
    /// Time between "not ready" and the end of accepting, for load balancers to notice. Default 0.
    pub drain_delay: Duration,
    /// Time that requests under way get to finish once draining began. Default 30 s.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target_bytes: 8 * 1024,
            header_bytes: 32 * 1024,
            header_count: 100,
            body_bytes: 4 * 1024 * 1024,
            connections: 4096,
            requests: 1024,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            handler_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
            drain_delay: Duration::ZERO,
            drain_time: Duration::from_secs(30),
        }
    }
}
