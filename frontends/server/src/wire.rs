//! Replies into HTTP, and the few answers that belong to no dialect.

use babelvisor_core::frontend::Reply;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{Response, StatusCode};

/// What goes out.
pub(crate) type Answer = Response<Full<Bytes>>;

/// The header that carries a request's id, in and out.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static JSON: HeaderValue = HeaderValue::from_static("application/json");
static CLOSE: HeaderValue = HeaderValue::from_static("close");

/// A dialect's reply as an HTTP response. None if its status or one of its headers cannot be sent, which is a
/// fault of the dialect. Framing headers are the server's own and are left out.
pub(crate) fn answer(reply: Reply) -> Option<Answer> {
    let status = StatusCode::from_u16(reply.status)
        .ok()
        .filter(|status| !status.is_informational())?;
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING || name == CONNECTION {
            continue;
        }
        headers.append(name, HeaderValue::try_from(value).ok()?);
    }
    Some(response)
}

/// An answer that belongs to no dialect, as JSON: the status and one sentence.
pub(crate) fn neutral(status: StatusCode, sentence: &str) -> Answer {
    let body = serde_json::json!({ "error": sentence }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON.clone());
    response
}

/// Adds what every answer carries.
pub(crate) fn finish(answer: &mut Answer, request_id: &str, close: bool) {
    let headers = answer.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    if close {
        headers.insert(CONNECTION, CLOSE.clone());
    }
}
