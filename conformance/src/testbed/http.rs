//! A small HTTP client for tests: it sends exactly what it is told, broken requests included.

use super::error::{Result, TestbedError};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(60);

/// A request that is being put together; [`Call::send`] sends it on a connection of its own.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `send`"]
pub struct Call {
    address: SocketAddr,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    deadline: Duration,
}

/// Begins a request with any method and a path with its query, as they shall appear on the wire.
pub fn call(address: SocketAddr, method: &str, path: &str) -> Call {
    Call {
        address,
        method: method.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: Bytes::new(),
        deadline: DEADLINE,
    }
}

/// Begins a GET.
pub fn get(address: SocketAddr, path: &str) -> Call {
    call(address, "GET", path)
}

/// Begins a POST with a JSON body.
pub fn post(address: SocketAddr, path: &str, body: &Value) -> Call {
    call(address, "POST", path).json(body)
}

impl Call {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body; no Content-Type is added.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a JSON body and its Content-Type.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// How long the whole exchange may take; 60 s unless told.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    /// [`TestbedError::Http`] when the request cannot be formed, the connection breaks or the deadline passes. A status
    /// of 400 or more is an answer, not an error.
    pub async fn send(self) -> Result<Answer> {
        let url = format!("http://{}{}", self.address, self.path);
        let (method, deadline) = (self.method.clone(), self.deadline);
        let broken = |reason: String| TestbedError::Http {
            method: method.clone(),
            url: url.clone(),
            reason,
        };
        match tokio::time::timeout(deadline, self.exchange()).await {
            Ok(outcome) => outcome.map_err(|error| broken(chain(error.as_ref()))),
            Err(_) => Err(broken(format!("no whole answer within {deadline:?}"))),
        }
    }

    async fn exchange(self) -> std::result::Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = Request::builder()
            .method(Method::from_bytes(self.method.as_bytes())?)
            .uri(&self.path);
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(self.body))?;
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        driver.abort();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`TestbedError::Answer`] with the body when it is no JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).map_err(|error| TestbedError::Answer {
            what: format!("a request for JSON ({error})"),
            answer: format!("{} {}", self.status, self.text()),
        })
    }

    /// A header as text, if it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Sends bytes as they are and gives all that comes back until the server closes or `deadline` passes.
///
/// `half_close` ends our side after the bytes, so that the server sees a truncated request at once.
///
/// # Errors
/// [`TestbedError::Http`] when no connection can be made or nothing can be written.
pub async fn raw(address: SocketAddr, bytes: &[u8], half_close: bool, deadline: Duration) -> Result<Vec<u8>> {
    let broken = |error: std::io::Error| TestbedError::Http {
        method: "raw".to_owned(),
        url: address.to_string(),
        reason: error.to_string(),
    };
    let mut stream = TcpStream::connect(address).await.map_err(broken)?;
    stream.write_all(bytes).await.map_err(broken)?;
    if half_close {
        stream.shutdown().await.map_err(broken)?;
    }
    let mut answer = Vec::new();
    // A reset after the answer is the server's right when it has not read all that we sent.
    let reading = async {
        let mut buffer = [0_u8; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
    };
    let _ = tokio::time::timeout(deadline, reading).await;
    Ok(answer)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
