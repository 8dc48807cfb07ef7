//! What the server costs above bare hyper: the same bytes, the same load, side by side, as a ratio.
//!
//! ```text
//! cargo run --release -p babelvisor-server --example floor
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement stops at the first fault and prints"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_schemas::Dialect;
use babelvisor_server::{Limits, Listener, Mount, Server, ServerConfig};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// Bytes of one answer: a virtual machine in full.
const BYTES: usize = 700;
/// Connections at once.
const CLIENTS: usize = 8;
/// Length of one round.
const ROUND: Duration = Duration::from_secs(2);
/// Rounds of each, taken in turn; the median counts.
const ROUNDS: usize = 5;

const REQUEST: &[u8] = b"GET /api/guest/6c1a52a0-0000-4000-8000-000000000001 HTTP/1.1\r\n\
    Host: 127.0.0.1:8080\r\nUser-Agent: floor\r\nAccept: */*\r\n\r\n";

struct Fixed(Bytes);

#[async_trait]
impl Frontend for Fixed {
    fn dialect(&self) -> &'static str {
        Dialect::GuestRest.name()
    }

    async fn answer(&self, _: Routed, _: Request) -> Reply {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Reply {
            status: 200,
            headers,
            body: self.0.clone(),
            operation: None,
        }
    }

    fn refuse(&self, _: Refusal, _: &Request) -> Reply {
        Reply {
            status: 500,
            ..Reply::default()
        }
    }
}

fn main() {
    let bare = on_own_thread(bare_hyper);
    let ours = on_own_thread(our_server);
    let (mut bare_rates, mut our_rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare_rates.push(load(bare));
        our_rates.push(load(ours));
    }
    let (bare, ours) = (median(bare_rates), median(our_rates));
    println!(
        "bare hyper {bare:.0} req/s, server {ours:.0} req/s, ratio {:.2}",
        ours / bare
    );
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Runs a server on a thread of its own and returns its address.
fn on_own_thread<F: Future<Output = ()>>(
    server: impl FnOnce(std::sync::mpsc::Sender<SocketAddr>) -> F + Send + 'static,
) -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(server(sender))
    });
    receiver.recv().unwrap()
}

async fn bare_hyper(address: std::sync::mpsc::Sender<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    address.send(listener.local_addr().unwrap()).unwrap();
    let body = Bytes::from(vec![b'x'; BYTES]);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let body = body.clone();
        let service = service_fn(move |_| {
            let answer = hyper::Response::new(Full::new(body.clone()));
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn our_server(address: std::sync::mpsc::Sender<SocketAddr>) {
    let frontend = Arc::new(Fixed(Bytes::from(vec![b'x'; BYTES])));
    let listener = Listener {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        tls: None,
        mounts: vec![Mount::from_contract(Dialect::GuestRest, frontend)],
    };
    let config = ServerConfig {
        listeners: vec![listener],
        limits: Limits::default(),
    };
    let server = Server::bind(config).await.unwrap();
    address
        .send(server.local_addrs().first().copied().unwrap())
        .unwrap();
    server.run(std::future::pending()).await;
}

/// Requests per second over all clients.
fn load(address: SocketAddr) -> f64 {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let begun = Instant::now();
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| tokio::spawn(client(address, begun)))
                .collect();
            let mut answered = 0;
            for client in clients {
                answered += client.await.unwrap();
            }
            f64::from(answered) / begun.elapsed().as_secs_f64()
        })
}

async fn client(address: SocketAddr, begun: Instant) -> u32 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 4096];
    let mut answered = 0;
    while begun.elapsed() < ROUND {
        stream.write_all(REQUEST).await.unwrap();
        let mut seen = 0;
        // An answer is its head and BYTES bytes of 'x', which a head does not end with.
        loop {
            let read = stream.read(buffer.get_mut(seen..).unwrap()).await.unwrap();
            assert_ne!(read, 0, "the server closed the connection");
            seen += read;
            let so_far = buffer.get(..seen).unwrap();
            let head = so_far.windows(4).position(|four| four == b"\r\n\r\n");
            if head.is_some_and(|head| seen == head + 4 + BYTES) {
                assert!(so_far.starts_with(b"HTTP/1.1 200"), "an answer that is not 200");
                break;
            }
        }
        answered += 1;
    }
    answered
}
