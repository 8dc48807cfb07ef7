//! Answers: a body that is JSON already, an error object, or a sentence of the REST layer.

use babelvisor_core::Error;
use babelvisor_core::frontend::Reply;
use babelvisor_schemas::{Dialect, contract};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::error::Fault;

/// The answer of a call that has nothing to say. Never an empty body: a client fails on that.
pub(crate) fn nothing() -> Bytes {
    Bytes::from_static(b"{}")
}

/// `{"inventory": …}` around an encoded resource.
pub(crate) fn inventory(resource: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(resource.len() + 16);
    body.extend_from_slice(b"{\"inventory\":");
    body.extend_from_slice(resource);
    body.push(b'}');
    body.into()
}

/// `{"inventories":[…]}` around encoded resources, with `total` where it was asked for.
pub(crate) fn inventories<R: AsRef<[u8]>>(
    resources: impl IntoIterator<Item = R>,
    total: Option<usize>,
) -> Bytes {
    let mut body = Vec::with_capacity(1024);
    body.extend_from_slice(b"{\"inventories\":[");
    for (place, resource) in resources.into_iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(resource.as_ref());
    }
    body.push(b']');
    if let Some(total) = total {
        body.extend_from_slice(format!(",\"total\":{total}").as_bytes());
    }
    body.push(b'}');
    body.into()
}

/// A value as JSON.
///
/// # Errors
/// `Internal` for a value that cannot be written, which our types never are.
pub(crate) fn json_of(value: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::internal(format!("an answer cannot be encoded: {error}")))
}

/// A body that is JSON already.
pub(crate) fn reply(status: u16, body: Bytes) -> Reply {
    Reply {
        status,
        headers: vec![
            (
                "content-type",
                contract(Dialect::Zstack).settings().content_type.clone(),
            ),
            ("cache-control", "no-store".to_owned()),
        ],
        body,
        operation: None,
    }
}

/// A failure: a sentence for those of the REST layer, an error object for all others.
pub(crate) fn failure(fault: &Fault) -> Reply {
    if fault.outcome.row.plain_text {
        return Reply {
            status: fault.outcome.status,
            headers: vec![("content-type", "text/plain; charset=utf-8".to_owned())],
            body: fault.details.clone().into(),
            operation: None,
        };
    }
    let body = json!({ "error": fault.object() });
    reply(fault.outcome.status, body.to_string().into())
}
