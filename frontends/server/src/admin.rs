//! The operators' listener: health, metrics and views of the whole gateway, in no dialect.
//!
//! | route | answer |
//! |---|---|
//! | `/livez` | 200 while the process serves |
//! | `/readyz` | 200, or 503 with the reasons |
//! | `/metrics` | Prometheus text |
//! | `/_gw/version` `/_gw/coverage` | the build; operations with their state |
//! | `/_gw/vms` `/_gw/vms/{id}` | virtual machines across all backends |
//! | `/_gw/jobs` `/_gw/jobs/{id}` | jobs |
//!
//! GET and HEAD only; nothing can be changed here. It shows every tenant's machines without a sign-in, so it
//! listens on loopback unless the configuration says otherwise in words, and it refuses names in the `Host` header
//! that it was not told of: a web page whose name resolves to 127.0.0.1 (DNS rebinding) gets nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::ServerError;
use crate::config::Limits;
use crate::conn::{self, Stage};
use crate::wire::{self, Answer};
use crate::{path, port};

/// Connections at once; more wait.
const CONNECTIONS: usize = 64;

/// Where the admin listener stands.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Its address; 127.0.0.1:9080 by default.
    pub address: SocketAddr,
    /// Must be true for an address that is not loopback: everybody who can reach it sees every tenant's machines.
    pub open_to_network: bool,
    /// Names besides `localhost` and plain addresses that a `Host` header may hold.
    pub host_names: Vec<String>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9080)),
            open_to_network: false,
            host_names: Vec::new(),
        }
    }
}

/// What the admin listener shows. A text as error means that the answer cannot be had now and why (503).
#[async_trait]
pub trait AdminSource: Send + Sync {
    /// Whether traffic is wanted.
    ///
    /// # Errors
    /// Every reason why not.
    async fn ready(&self) -> Result<(), Vec<String>>;

    /// All metrics as Prometheus text.
    async fn metrics(&self) -> String;

    /// Operations with their state.
    async fn coverage(&self) -> Value;

    /// All virtual machines.
    ///
    /// # Errors
    /// Why they cannot be listed now.
    async fn vms(&self) -> Result<Value, String>;

    /// One virtual machine; `None` if there is none with this id.
    ///
    /// # Errors
    /// Why it cannot be looked up now.
    async fn vm(&self, id: &str) -> Result<Option<Value>, String>;

    /// All jobs.
    ///
    /// # Errors
    /// Why they cannot be listed now.
    async fn jobs(&self) -> Result<Value, String>;

    /// One job; `None` if there is none with this id.
    ///
    /// # Errors
    /// Why it cannot be looked up now.
    async fn job(&self, id: &str) -> Result<Option<Value>, String>;

    /// Name, version, commit.
    async fn version(&self) -> Value;
}

/// The bound admin listener.
pub struct Admin {
    socket: TcpListener,
    address: SocketAddr,
    desk: Arc<Desk>,
}

impl Admin {
    /// Binds the listener.
    ///
    /// # Errors
    /// [`ServerError`] if the address cannot be had, or is not loopback and not declared open.
    pub async fn bind(config: AdminConfig, source: Arc<dyn AdminSource>) -> Result<Self, ServerError> {
        let address = config.address;
        if !address.ip().is_loopback() && !config.open_to_network {
            return Err(ServerError::Config(format!(
                "the admin listener on {address} would show every tenant's machines to the network: \
                 choose a loopback address or declare it open"
            )));
        }
        let fault = |source| ServerError::Bind { address, source };
        let socket = TcpListener::bind(address).await.map_err(fault)?;
        let address = socket.local_addr().map_err(fault)?;
        Ok(Self {
            socket,
            address,
            desk: Arc::new(Desk {
                source,
                host_names: config.host_names,
            }),
        })
    }

    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` ends, then closes at once. Let it outlive the server, so that readiness and metrics
    /// can be read while that drains.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let stage = watch::Sender::new(Stage::Running);
        let accept = async {
            loop {
                let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                    return;
                };
                match self.socket.accept().await {
                    Ok((stream, _)) => {
                        let (desk, stage) = (Arc::clone(&self.desk), stage.subscribe());
                        tokio::spawn(async move {
                            serve(stream, desk, stage).await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection on the admin listener");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = shutdown => {}
        }
    }
}

async fn serve(stream: TcpStream, desk: Arc<Desk>, stage: watch::Receiver<Stage>) {
    let _ = stream.set_nodelay(true);
    let handler = |request| {
        let desk = Arc::clone(&desk);
        std::panic::AssertUnwindSafe(async move { desk.answer(&request).await })
            .catch_unwind()
            .map(|answer| answer.unwrap_or_else(|_| port::internal()))
    };
    conn::serve(stream, &Limits::default(), stage, handler).await;
}

struct Desk {
    source: Arc<dyn AdminSource>,
    host_names: Vec<String>,
}

impl Desk {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let host = request.headers().get(HOST);
        if !host.is_none_or(|host| self.is_known_host(host)) {
            return wire::neutral(
                StatusCode::MISDIRECTED_REQUEST,
                "unknown name in the Host header: use the address, or list the name in the configuration",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = wire::neutral(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only");
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let mut answer = match path::clean(request.uri().path()) {
            Ok(path) => self.route(&path).await,
            Err(reason) => wire::neutral(StatusCode::BAD_REQUEST, reason),
        };
        answer
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    async fn route(&self, path: &str) -> Answer {
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        let source = &self.source;
        match (parts.next(), parts.next(), parts.next()) {
            (Some("livez"), None, None) => data(StatusCode::OK, &json!({ "live": true })),
            (Some("readyz"), None, None) => match source.ready().await {
                Ok(()) => data(StatusCode::OK, &json!({ "ready": true })),
                Err(reasons) => data(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &json!({ "ready": false, "reasons": reasons }),
                ),
            },
            (Some("metrics"), None, None) => typed(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                source.metrics().await,
            ),
            (Some("_gw"), Some("version"), None) => data(StatusCode::OK, &source.version().await),
            (Some("_gw"), Some("coverage"), None) => data(StatusCode::OK, &source.coverage().await),
            (Some("_gw"), Some("vms"), None) => found("machines", source.vms().await.map(Some)),
            (Some("_gw"), Some("vms"), Some(id)) => found("machine", source.vm(id).await),
            (Some("_gw"), Some("jobs"), None) => found("jobs", source.jobs().await.map(Some)),
            (Some("_gw"), Some("jobs"), Some(id)) => found("job", source.job(id).await),
            _ => wire::neutral(
                StatusCode::NOT_FOUND,
                "here are /livez /readyz /metrics /_gw/version /_gw/coverage /_gw/vms /_gw/jobs",
            ),
        }
    }

    /// Addresses cannot be rebound; names must be known.
    fn is_known_host(&self, header: &HeaderValue) -> bool {
        let Ok(text) = header.to_str() else { return false };
        if text.parse::<SocketAddr>().is_ok() {
            return true;
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
        name.eq_ignore_ascii_case("localhost")
            || self
                .host_names
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn found(what: &str, outcome: Result<Option<Value>, String>) -> Answer {
    match outcome {
        Ok(Some(value)) => data(StatusCode::OK, &value),
        Ok(None) => wire::neutral(StatusCode::NOT_FOUND, &format!("there is no {what} with this id")),
        Err(reason) => wire::neutral(StatusCode::SERVICE_UNAVAILABLE, &reason),
    }
}

fn data(status: StatusCode, value: &Value) -> Answer {
    typed(status, "application/json", value.to_string())
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
