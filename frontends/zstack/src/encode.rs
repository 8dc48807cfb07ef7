//! The two forms of a ZStack failure.

use babelvisor_core::frontend::Reply;
use serde_json::json;

/// A failure of the REST layer: a status and a sentence.
pub(crate) fn plain(status: u16, sentence: String) -> Reply {
    let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
    Reply {
        status,
        headers,
        body: sentence.into(),
        operation: None,
    }
}

/// Any other failure: `description` is fixed per code, `details` is the text of this case.
pub(crate) fn error_object(
    status: u16,
    code: &str,
    description: &str,
    details: &str,
    content_type: &str,
) -> Reply {
    let body = json!({ "error": { "code": code, "description": description, "details": details } });
    let headers = vec![("content-type", content_type.to_owned())];
    Reply {
        status,
        headers,
        body: body.to_string().into(),
        operation: None,
    }
}
