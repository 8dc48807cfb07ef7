//! A toy dialect, a server around it, and a raw client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_server::{
    Drained, Limits, Listener, Mount, Readiness, RouteOutcome, RouteTable, Server, ServerConfig, TlsFiles,
    TrailingSlash,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest that anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A dialect whose refusals are its own name and the reason, and whose `hold` operation waits to be let go.
pub(crate) struct Toy {
    name: &'static str,
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) entered: Arc<Semaphore>,
    pub(crate) finished: Arc<AtomicUsize>,
}

impl Toy {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            gate: Arc::new(Semaphore::new(0)),
            entered: Arc::new(Semaphore::new(0)),
            finished: Arc::default(),
        })
    }

    /// Waits until `count` more handlers hold.
    pub(crate) async fn wait_entered(&self, count: u32) {
        timeout(PATIENCE, self.entered.acquire_many(count))
            .await
            .unwrap()
            .unwrap()
            .forget();
    }

    pub(crate) fn mount(self: &Arc<Self>, prefix: &'static str) -> Mount {
        Mount {
            frontend: Arc::clone(self) as Arc<dyn Frontend>,
            table: Arc::new(ToyTable(prefix)),
            prefixes: vec![prefix.to_owned()],
            trailing_slash: TrailingSlash::Exact,
        }
    }
}

#[async_trait]
impl Frontend for Toy {
    fn dialect(&self) -> &'static str {
        self.name
    }

    async fn answer(&self, routed: Routed, request: Request) -> Reply {
        let body = match routed.operations.first().copied().unwrap_or_default() {
            "echo" => request.body.clone(),
            "item" => format!("item={}", routed.param("id")).into(),
            "seen" => format!(
                "{} {} {} {} {} {}",
                request.scheme,
                request.host,
                request.method,
                request.path,
                request.query,
                request.header("x-one").unwrap_or("-")
            )
            .into(),
            "panic" => panic!("a fault in a handler"),
            "bad-reply" => {
                return Reply {
                    status: 99,
                    ..Reply::default()
                };
            }
            "hold" => {
                self.entered.add_permits(1);
                self.gate.acquire().await.unwrap().forget();
                "held".into()
            }
            other => panic!("not an operation: {other}"),
        };
        self.finished.fetch_add(1, Ordering::SeqCst);
        Reply {
            status: 200,
            headers: vec![("content-type", "text/plain".to_owned())],
            body,
            operation: None,
        }
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply {
        assert!(!request.path.contains("refusal-panics"), "a fault in a refusal");
        let (status, text) = match refusal {
            Refusal::UnknownPath => (404, format!("unknown path {}", request.path)),
            Refusal::WrongMethod { allowed } => (405, format!("wrong method, use {}", allowed.join(","))),
            Refusal::NotBuilt { operation } => {
                (501, format!("not built: {operation}, body {:?}", request.body))
            }
            Refusal::BodyTooLarge { limit } => (413, format!("body over {limit}")),
            Refusal::BadRequest(reason) => (400, reason),
            Refusal::Timeout => (408, "too slow".to_owned()),
            Refusal::Overloaded => (503, "overloaded".to_owned()),
            Refusal::Internal => (500, "fault".to_owned()),
        };
        let body = format!("{}: {text}", self.name).into();
        Reply {
            status,
            headers: Vec::new(),
            body,
            operation: None,
        }
    }
}

struct ToyTable(&'static str);

impl RouteTable for ToyTable {
    fn route(&self, method: &str, path: &str) -> RouteOutcome {
        let found = |id, params| {
            RouteOutcome::Found(Routed {
                operations: vec![id],
                params,
            })
        };
        let Some(rest) = path.strip_prefix(self.0) else {
            return RouteOutcome::UnknownPath;
        };
        let only = |right: &str, outcome: RouteOutcome| {
            if method == right {
                outcome
            } else {
                RouteOutcome::WrongMethod {
                    allowed: vec![right.to_owned()],
                }
            }
        };
        match rest {
            "/echo" => only("POST", found("echo", Vec::new())),
            "/seen" => only("GET", found("seen", Vec::new())),
            "/hold" => only("GET", found("hold", Vec::new())),
            "/panic" => only("GET", found("panic", Vec::new())),
            "/bad-reply" => only("GET", found("bad-reply", Vec::new())),
            "/later" => only("POST", RouteOutcome::NotBuilt { operation: "later" }),
            "/slash/" => only("GET", found("seen", Vec::new())),
            _ => match rest.strip_prefix("/items/") {
                Some(id) if !id.contains('/') => only("GET", found("item", vec![("id", id.to_owned())])),
                _ => RouteOutcome::UnknownPath,
            },
        }
    }
}

/// A server that runs until it is told to stop.
pub(crate) struct Running {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) readiness: Readiness,
    stop: Option<oneshot::Sender<()>>,
    run: JoinHandle<Drained>,
}

impl Running {
    /// Tells the server to go down; the returned task ends when it has.
    pub(crate) fn stop(mut self) -> JoinHandle<Drained> {
        self.stop.take().unwrap().send(()).unwrap();
        self.run
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) async fn client(&self) -> Raw<TcpStream> {
        Raw::connect(self.address()).await
    }
}

pub(crate) async fn start(mounts: Vec<Mount>, limits: Limits) -> Running {
    start_with(mounts, limits, None).await
}

pub(crate) async fn start_with(mounts: Vec<Mount>, limits: Limits, tls: Option<TlsFiles>) -> Running {
    let addresses = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let listeners = vec![Listener {
        addresses,
        tls,
        mounts,
    }];
    let server = Server::bind(ServerConfig { listeners, limits }).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    Running {
        addresses: server.local_addrs(),
        readiness: server.readiness(),
        stop: Some(stop),
        run: tokio::spawn(server.run(async {
            // A dropped sender means that the test is over: keep serving until the runtime goes.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        })),
    }
}

/// One answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// A client that sends what it is told, byte by byte.
pub(crate) struct Raw<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl Raw<TcpStream> {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Raw<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: toy.test\r\n\r\n"))
            .await;
        self.answer().await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: toy.test\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
        self.answer().await
    }

    /// Reads one whole answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.read(true).await
    }

    /// Reads the answer to a HEAD, which has no body whatever its length says.
    pub(crate) async fn answer_to_head(&mut self) -> Answer {
        self.read(false).await
    }

    async fn read(&mut self, with_body: bool) -> Answer {
        let head_end = loop {
            match self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at,
                None => assert!(self.more().await, "closed before an answer: {:?}", self.buffer),
            }
        };
        let head = String::from_utf8(self.buffer.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let length: usize = if with_body { length } else { 0 };
        while self.buffer.len() < length {
            assert!(self.more().await, "closed inside a body");
        }
        let body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        Answer {
            status,
            headers,
            body,
        }
    }

    /// True when the server closes (or has reset) the connection without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await
    }

    async fn more(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let read = timeout(PATIENCE, self.stream.read(&mut chunk))
            .await
            .expect("the server stays silent");
        let count = read.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..count]);
        count > 0
    }
}
