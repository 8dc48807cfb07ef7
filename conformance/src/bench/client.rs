//! One keep-alive connection that costs as little as it can, so that the server is what is measured.

use super::Outcome;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is read at once: large enough that a long answer needs few reads.
const BUFFER: usize = 256 * 1024;
/// The Host header of every request. Lists print it in their links, so it must be the same for all.
const HOST: &str = "bench";

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of an answer, and how much of the body came with it.
struct Head {
    status: u16,
    length: usize,
    /// Where in the buffer the body begins, and where what was read ends.
    body: std::ops::Range<usize>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER],
        })
    }

    /// Sends a prepared request and reads the whole answer; gives the length of its body. Anything but 200 is an
    /// error, so that no refusal is measured by mistake.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Outcome<usize> {
        let head = self.begin(request).await?;
        if head.status != 200 {
            return Err(format!("{} was answered {}", first_line(request), head.status).into());
        }
        let mut missing = head.length.saturating_sub(head.body.len());
        while missing > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                return Err("the server hung up within an answer".into());
            }
            missing = missing.saturating_sub(read);
        }
        Ok(head.length)
    }

    /// The body of an answer to a request without one.
    pub(crate) async fn call(&mut self, method: &str, path: &str) -> Outcome<Vec<u8>> {
        self.body(&prepare(method, path, ""))
            .await
            .map_err(|error| format!("{method} {path}: {error}").into())
    }

    /// The body of an answer to a prepared request.
    pub(crate) async fn body(&mut self, request: &[u8]) -> Outcome<Vec<u8>> {
        let head = self.begin(request).await?;
        let mut body = self.buffer.get(head.body).unwrap_or_default().to_vec();
        while body.len() < head.length {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                return Err("the server hung up within an answer".into());
            }
            body.extend_from_slice(self.buffer.get(..read).unwrap_or_default());
        }
        if head.status != 200 {
            let text = String::from_utf8_lossy(&body).into_owned();
            return Err(format!("{} {text}", head.status).into());
        }
        Ok(body)
    }

    async fn begin(&mut self, request: &[u8]) -> Outcome<Head> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(room).await?;
            if read == 0 {
                return Err("the server hung up, or its head is too long".into());
            }
            filled += read;
            let so_far = self.buffer.get(..filled).unwrap_or_default();
            // A head is far shorter than this; the body behind it need not be searched.
            let front = so_far.get(..filled.min(4096)).unwrap_or_default();
            if let Some(end) = front.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = std::str::from_utf8(front.get(..end).unwrap_or_default())?;
                let status = text.split(' ').nth(1).ok_or("no status")?.parse()?;
                let length = text
                    .lines()
                    .filter_map(|line| line.split_once(':'))
                    .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                    .ok_or("no content-length")?
                    .1
                    .trim()
                    .parse()?;
                return Ok(Head {
                    status,
                    length,
                    body: end + 4..filled,
                });
            }
        }
    }
}

/// A request without a body, as bytes; `more` are further lines of its head.
pub(crate) fn prepare(method: &str, path: &str, more: &str) -> Vec<u8> {
    let body = if method == "GET" {
        ""
    } else {
        "Content-Length: 0\r\n"
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\nAccept: */*\r\n{more}{body}\r\n"
    )
    .into_bytes()
}

fn first_line(request: &[u8]) -> String {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}
