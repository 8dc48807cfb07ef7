//! Listeners, from binding to the last closed connection.
//!
//! Going down: not ready → (`drain_delay`) → listeners closed, kept-alive connections told to close, requests under
//! way finished → after `drain_time` whatever is left is cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::{Limits, ServerConfig};
use crate::conn::{self, End, Stage};
use crate::mount::Mounts;
use crate::observe::{Raised, RequestIds, ServerMetrics};
use crate::port::{self, Peer, Port, Shared};
use crate::{ServerError, tls};

/// Connections above the limit that are still told so before they are closed.
const SURPLUS: usize = 64;
/// Pause after accepting failed, which happens when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for tasks to notice that they have been cut.
const CUT_TIME: Duration = Duration::from_secs(1);

/// A bound server. Connections wait in the system's queue until [`Server::run`].
pub struct Server {
    listeners: Vec<Bound>,
    shared: Arc<Shared>,
    connections: Arc<Semaphore>,
    surplus: Arc<Semaphore>,
    stage: watch::Sender<Stage>,
    readiness: Readiness,
}

struct Bound {
    socket: TcpListener,
    port: Arc<Port>,
    tls: Option<TlsAcceptor>,
}

/// Tells whether the server still wants traffic; for a readiness probe.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// True from the moment the server was told to go down.
    pub fn is_draining(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How draining went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All requests under way were finished.
    Finished,
    /// Time ran out with this many requests under way; they were cut.
    Cut {
        /// How many.
        requests: usize,
    },
}

impl Server {
    /// Binds every address of every listener and loads certificates.
    ///
    /// Install the metrics recorder before: handles are made here.
    ///
    /// # Errors
    /// [`ServerError`] if an address cannot be had, a certificate cannot be used, or mounts contradict each other.
    pub async fn bind(config: ServerConfig) -> Result<Self, ServerError> {
        let limits = checked(config.limits)?;
        let connections = Arc::new(Semaphore::new(limits.connections));
        let shared = Arc::new(Shared {
            requests: Arc::new(Semaphore::new(limits.requests)),
            limits,
            ids: RequestIds::new(),
            metrics: ServerMetrics::new(),
        });
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            if listener.mounts.is_empty() || listener.addresses.is_empty() {
                let text = "a listener needs at least one address and one dialect";
                return Err(ServerError::Config(text.to_owned()));
            }
            let tls = listener.tls.as_ref().map(tls::acceptor).transpose()?;
            for &address in &listener.addresses {
                let fault = |source| ServerError::Bind { address, source };
                let socket = TcpListener::bind(address).await.map_err(fault)?;
                let port = Port {
                    shared: Arc::clone(&shared),
                    mounts: Mounts::new(&listener.mounts)?,
                    scheme: if tls.is_some() { "https" } else { "http" },
                    address: socket.local_addr().map_err(fault)?,
                };
                listeners.push(Bound {
                    socket,
                    port: Arc::new(port),
                    tls: tls.clone(),
                });
            }
        }
        Ok(Self {
            listeners,
            shared,
            connections,
            surplus: Arc::new(Semaphore::new(SURPLUS)),
            stage: watch::Sender::new(Stage::Running),
            readiness: Readiness::default(),
        })
    }

    /// The addresses in use, in the order of the configuration.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|bound| bound.port.address).collect()
    }

    /// A handle that outlives [`Server::run`] and says when draining has begun.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves until `shutdown` ends, then drains. Dropping the future closes everything at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        for Bound { socket, port, tls } in self.listeners {
            let acceptor = Acceptor {
                port,
                tls,
                connections: Arc::clone(&self.connections),
                surplus: Arc::clone(&self.surplus),
                stage: self.stage.subscribe(),
            };
            tokio::spawn(acceptor.run(socket));
        }
        shutdown.await;
        let limits = &self.shared.limits;
        self.readiness.0.store(true, Ordering::Relaxed);
        tokio::time::sleep(limits.drain_delay).await;
        self.stage.send_replace(Stage::Draining);
        // Connections first: while requests are waited for, no new one gets a permit.
        let quiet = async {
            all(&self.connections, limits.connections).await;
            all(&self.surplus, SURPLUS).await;
            all(&self.shared.requests, limits.requests).await;
        };
        let finished = timeout(limits.drain_time, quiet).await.is_ok();
        let left = limits
            .requests
            .saturating_sub(self.shared.requests.available_permits());
        self.stage.send_replace(Stage::Closed);
        if finished {
            return Drained::Finished;
        }
        tracing::warn!(requests = left, "draining took too long; what is left is cut");
        let _ = timeout(CUT_TIME, all(&self.connections, limits.connections)).await;
        Drained::Cut { requests: left }
    }
}

/// Waits until every permit is free.
async fn all(semaphore: &Semaphore, permits: usize) {
    let permits = u32::try_from(permits).unwrap_or(u32::MAX);
    // Closed semaphores do not occur: nothing closes them.
    let _ = semaphore.acquire_many(permits).await;
}

fn checked(limits: Limits) -> Result<Limits, ServerError> {
    let counts = [
        ("connections", limits.connections),
        ("requests", limits.requests),
        ("header_count", limits.header_count),
        ("header_bytes", limits.header_bytes),
        ("target_bytes", limits.target_bytes),
    ];
    for (name, value) in counts {
        if value == 0 || value > 1 << 24 {
            return Err(ServerError::Config(format!(
                "limit {name} is {value}: choose 1 to 16777216"
            )));
        }
    }
    Ok(limits)
}

/// Ends when draining begins, or when the server was dropped.
async fn going_down(stage: &mut watch::Receiver<Stage>) {
    let _ = stage.wait_for(|stage| *stage > Stage::Running).await;
}

/// Takes connections from one socket.
struct Acceptor {
    port: Arc<Port>,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
    surplus: Arc<Semaphore>,
    stage: watch::Receiver<Stage>,
}

impl Acceptor {
    async fn run(self, socket: TcpListener) {
        let mut stage = self.stage.clone();
        loop {
            tokio::select! {
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer),
                    Err(error) => {
                        tracing::warn!(%error, address = %self.port.address, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = going_down(&mut stage) => return,
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let permit = Arc::clone(&self.connections).try_acquire_owned();
        let surplus = permit.is_err();
        let Ok(permit) = permit.or_else(|_| Arc::clone(&self.surplus).try_acquire_owned()) else {
            self.port.shared.metrics.turned_away.increment(1);
            return;
        };
        // Answers are small and complete: waiting for more to send only adds delay.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            port: Arc::clone(&self.port),
            peer: Arc::new(Peer {
                address: peer.to_string(),
                surplus,
            }),
            stage: self.stage.clone(),
            _permit: permit,
        };
        let tls = self.tls.clone();
        tokio::spawn(async move {
            match tls {
                None => connection.serve(stream).await,
                Some(tls) => connection.secure(&tls, stream).await,
            }
        });
    }
}

struct Connection {
    port: Arc<Port>,
    peer: Arc<Peer>,
    stage: watch::Receiver<Stage>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn secure(self, tls: &TlsAcceptor, stream: TcpStream) {
        let shared = Arc::clone(&self.port.shared);
        let mut stage = self.stage.clone();
        let handshake = timeout(shared.limits.header_time, tls.accept(stream));
        let outcome = tokio::select! {
            outcome = handshake => outcome,
            () = going_down(&mut stage) => return,
        };
        match outcome {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, peer = self.peer.address, "TLS handshake failed");
                shared.metrics.tls_failures.increment(1);
            }
            Err(_) => shared.metrics.tls_failures.increment(1),
        }
    }

    async fn serve<I: AsyncRead + AsyncWrite + Unpin>(self, io: I) {
        let shared = Arc::clone(&self.port.shared);
        let _open = Raised::new(&shared.metrics.open_connections);
        let handler = |request| {
            let (port, peer) = (Arc::clone(&self.port), Arc::clone(&self.peer));
            let answer = async move { port.answer(&peer, request).await };
            // Handlers are guarded on their own; this is for a dialect that panics while it refuses.
            std::panic::AssertUnwindSafe(answer)
                .catch_unwind()
                .map(|answer| answer.unwrap_or_else(|_| port::internal()))
        };
        if conn::serve(io, &shared.limits, self.stage.clone(), handler).await == End::Cut {
            shared.metrics.cut.increment(1);
        }
    }
}
