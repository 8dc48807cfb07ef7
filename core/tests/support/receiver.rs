//! An HTTP server of the test's own on the loopback: notes what it is sent and answers what the test says.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Request line and fields, lower case.
    pub head: String,
    /// Body.
    pub body: String,
    /// When it had come in full.
    pub at: Instant,
}

/// A running server; it ends with this value.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// A server that answers request number `n` (from 0) with the bytes `answer(n)`, and closes.
    pub async fn start(answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), answer).await
    }

    /// The same at a given address.
    pub async fn on(address: SocketAddr, answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (received.clone(), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, answer) = (noted.clone(), answer.clone());
                tokio::spawn(serve(stream, noted, answer));
            }
        });
        Self {
            address,
            received,
            task,
        }
    }

    /// A server that answers every request with this status.
    pub async fn answering(status: u16) -> Self {
        Self::start(move |_| status_line(status)).await
    }

    /// The address of `path` on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What has come so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// What has come, once it is `count` requests.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let received = self.received();
            if received.len() >= count {
                return received;
            }
            assert!(
                Instant::now() < until,
                "{} of {count} requests came",
                received.len()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer without a body.
pub fn status_line(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Word\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

async fn serve(
    mut stream: TcpStream,
    noted: Arc<Mutex<Vec<Received>>>,
    answer: Arc<dyn Fn(usize) -> Vec<u8> + Send + Sync>,
) {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < head + length {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    }
    let number = {
        let mut noted = noted.lock().unwrap();
        noted.push(Received {
            head: text,
            body: String::from_utf8_lossy(&bytes[head..]).into_owned(),
            at: Instant::now(),
        });
        noted.len() - 1
    };
    let _ = stream.write_all(&answer(number)).await;
    let _ = stream.shutdown().await;
}
