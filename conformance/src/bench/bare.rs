//! The floor of any HTTP server here: hyper that answers every request with the same bytes.

use super::Outcome;
use babelvisor_conformance::testbed::process::{self, free_address};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

/// Serves until the process is ended.
pub(crate) async fn serve(address: SocketAddr, body: Vec<u8>) -> Outcome<()> {
    let body = Bytes::from(body);
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |_: Request<Incoming>| {
                let body = body.clone();
                async move {
                    let mut response = Response::new(Full::new(body));
                    response.headers_mut().insert(
                        hyper::header::CONTENT_TYPE,
                        hyper::header::HeaderValue::from_static("application/json; charset=utf-8"),
                    );
                    Ok::<_, Infallible>(response)
                }
            });
            // A client that hangs up is no news here.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

/// This program as a bare server in a process of its own, so that it has the same share of the machine as the gateway.
pub(crate) struct Process {
    _process: process::Process,
    _directory: TempDir,
    address: SocketAddr,
}

impl Process {
    /// Starts it with the body that it shall return.
    pub(crate) fn start(body: &[u8]) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("body");
        std::fs::write(&file, body)?;
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare", &address.to_string()]).arg(&file);
        let mut process = process::Process::start(command, &directory.path().join("log"))?;
        process.wait_ready(Duration::from_secs(10), || {
            std::net::TcpStream::connect(address).is_ok()
        })?;
        Ok(Self {
            _process: process,
            _directory: directory,
            address,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A keep-alive connection of a client.
pub(crate) async fn connect(
    address: SocketAddr,
) -> Outcome<hyper::client::conn::http1::SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
