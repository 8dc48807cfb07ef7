//! The envelope of every answer ("Output" of the original's documents).

use babelvisor_core::frontend::Reply;
use serde::Serialize;
use serde_json::{Map, Value};

/// The envelope. The types are strict: a client in Go gives up on a number written as text.
#[derive(Debug, Serialize)]
pub(crate) struct Output {
    /// 0 for success, otherwise the code of the failure.
    pub(crate) scode: i64,
    /// The case, in English.
    pub(crate) desc: String,
    /// The code's text, in English.
    pub(crate) message: String,
    /// The code's text, in Chinese.
    pub(crate) message_cn: String,
    /// Where the failure came from; null without one.
    pub(crate) stack: Option<Vec<String>>,
    /// The result, `{}` without one.
    pub(crate) data: Value,
}

impl Output {
    /// A failure without a result.
    pub(crate) fn failure(scode: i64, desc: String, message: String, message_cn: String) -> Self {
        let stack = Some(vec![desc.clone()]);
        Self {
            scode,
            desc,
            message,
            message_cn,
            stack,
            data: Value::Object(Map::new()),
        }
    }

    /// The envelope as a reply. Clients refuse any content type but JSON.
    pub(crate) fn reply(&self, status: u16, content_type: &str) -> Reply {
        // Texts, numbers and a JSON value cannot fail to be written.
        let body = serde_json::to_vec(self).unwrap_or_default();
        let headers = vec![("content-type", content_type.to_owned())];
        Reply {
            status,
            headers,
            body: body.into(),
            operation: None,
        }
    }
}
