//! The JSON form of a refused exchange. Agents print the status and ignore the body: it is for whoever reads along.

use babelvisor_core::frontend::Reply;
use serde_json::json;

/// A failure: what happened, and to which operation if one is known.
pub(crate) fn failure(status: u16, text: &str, operation: Option<&'static str>, content_type: &str) -> Reply {
    let body = match operation {
        Some(operation) => json!({ "error": text, "operation": operation }),
        None => json!({ "error": text }),
    };
    let headers = vec![("content-type", content_type.to_owned())];
    Reply {
        status,
        headers,
        body: body.to_string().into(),
        operation,
    }
}
