//! The floor of any HTTP server here: hyper on one thread that answers every request with the same bytes.

use super::Outcome;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::TcpListener;

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
                    let kind = HeaderValue::from_static("application/json; charset=utf-8");
                    response.headers_mut().insert(CONTENT_TYPE, kind);
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
