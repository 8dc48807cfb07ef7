//! One request on one connection. There is no pool: a connection is checked for one request.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsConnector;

use super::{Outbound, Target};
use crate::error::{Error, ErrorKind, Result};

/// Most bytes and fields of an answer's head.
const HEAD: usize = 64 << 10;
const FIELDS: usize = 100;

const AGENT: &str = concat!("babelvisor/", env!("CARGO_PKG_VERSION"));

/// The task that moves a connection's bytes; it ends with this value.
pub(super) struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer whose body has not been read.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) connection: Connection,
}

/// Posts `body` and returns the answer's status.
pub(super) async fn post(
    outbound: &Outbound,
    target: &Target,
    headers: &[(String, String)],
    body: Bytes,
) -> Result<u16> {
    let unfit = |name: &str| Error::internal(format!("header {name:?} of a web hook cannot be sent"));
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = Method::POST;
    for (name, value) in headers {
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit(name))?;
        let value = HeaderValue::from_str(value).map_err(|_| unfit(name))?;
        request.headers_mut().append(field, value);
    }
    request.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    let answer = send(outbound, target, request).await?;
    Ok(answer.response.status().as_u16())
}

/// Asks for what is at the target.
pub(super) async fn get(outbound: &Outbound, target: &Target) -> Result<Answer> {
    send(outbound, target, Request::new(Full::default())).await
}

async fn send(outbound: &Outbound, target: &Target, mut request: Request<Full<Bytes>>) -> Result<Answer> {
    *request.uri_mut() = target
        .path
        .parse()
        .map_err(|_| Error::internal("the path of a checked URL cannot be read"))?;
    let host = HeaderValue::from_str(&target.authority)
        .map_err(|_| Error::internal("the host of a checked URL cannot be sent"))?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    let request = request.map(|body| body.boxed());

    let patience = outbound.settings.connect;
    let late = || {
        Error::new(
            ErrorKind::Timeout,
            format!("{} cannot be reached in time", target.origin),
        )
    };
    let connected = tokio::time::timeout(patience, connect(outbound, target)).await;
    let (mut sender, task) = connected.map_err(|_| late())??;
    let connection = Connection(task.abort_handle());
    let answered = sender.send_request(request).await;
    let response = answered.map_err(|error| unreachable(target, &error))?;
    Ok(Answer { response, connection })
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;
type Connected = (http1::SendRequest<Body>, JoinHandle<()>);

async fn connect(outbound: &Outbound, target: &Target) -> Result<Connected> {
    let stream = TcpStream::connect(target.address)
        .await
        .map_err(|error| unreachable(target, &error))?;
    if !target.tls {
        return handshake(target, stream).await;
    }
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| Error::invalid("url", format!("host {} cannot have a certificate", target.host)))?;
    let connector = TlsConnector::from(outbound.tls_config().await?);
    let stream = connector.connect(name, stream).await;
    handshake(target, stream.map_err(|error| unreachable(target, &error))?).await
}

async fn handshake<S>(target: &Target, stream: S) -> Result<Connected>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(target, &error))?;
    let task = tokio::spawn(async move {
        // What goes wrong here is told to whoever waits for the answer.
        let _ = connection.await;
    });
    Ok((sender, task))
}

fn unreachable(target: &Target, why: &dyn std::error::Error) -> Error {
    let mut text = why.to_string();
    let mut cause = why.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Error::new(
        ErrorKind::BackendUnavailable,
        format!("{}: {text}", target.origin),
    )
}

/// Trusts what the system trusts, and what the file holds.
pub(super) async fn tls_config(trust: Option<PathBuf>) -> Result<Arc<ClientConfig>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        if let Some(path) = trust {
            let fault =
                |what: String| Error::internal(format!("[outbound] trust {}: {what}", path.display()));
            let own = CertificateDer::pem_file_iter(&path).map_err(|error| fault(error.to_string()))?;
            for certificate in own {
                let certificate = certificate.map_err(|error| fault(error.to_string()))?;
                roots.add(certificate).map_err(|error| fault(error.to_string()))?;
            }
        }
        if roots.is_empty() {
            return Err(Error::internal(
                "https cannot be used: this system has no certificate authorities; install them, or name a file in \
                 [outbound] trust",
            ));
        }
        Ok(roots)
    });
    let roots = read
        .await
        .map_err(|_| Error::internal("reading certificate authorities panicked"))??;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(format!("TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
