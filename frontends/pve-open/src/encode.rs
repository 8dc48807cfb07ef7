//! The envelope around every answer: `{"code":0,"data":…,"msg":"success","success":true,"traceId":"…"}`.

use babelvisor_core::frontend::Reply;
use babelvisor_schemas::Contract;
use bytes::Bytes;
use serde::Serialize;

use crate::error::Fault;

/// What a good answer carries.
#[derive(Clone)]
pub(crate) enum Data {
    /// `true` or `false`.
    Flag(bool),
    /// A value that is JSON already. May hold passwords: this type has no `Debug`.
    Json(Bytes),
}

impl Data {
    /// A value, encoded.
    pub(crate) fn of(value: &impl Serialize) -> Result<Self, Fault> {
        serde_json::to_vec(value)
            .map(|json| Self::Json(json.into()))
            .map_err(unwritable)
    }
}

/// A value that cannot be written as JSON, which our types never are.
pub(crate) fn unwritable(error: serde_json::Error) -> Fault {
    babelvisor_core::Error::internal(format!("an answer cannot be encoded: {error}")).into()
}

/// Code 0.
pub(crate) fn good(contract: &Contract, data: &Data, trace: &str) -> Reply {
    let row = contract.errors().success();
    let msg = row.zh.as_deref().unwrap_or("success");
    let data: &[u8] = match data {
        Data::Flag(true) => b"true",
        Data::Flag(false) => b"false",
        Data::Json(json) => json,
    };
    reply(contract, row.status, envelope(&row.code, data, msg, true, trace))
}

/// Any other code; `data` is null.
pub(crate) fn bad(contract: &Contract, fault: &Fault, trace: &str) -> Reply {
    let status = fault.outcome.status;
    let body = envelope(&fault.outcome.row.code, b"null", &fault.message(), false, trace);
    let mut reply = reply(contract, status, body);
    if status == 401 {
        reply.headers.push(("www-authenticate", "Bearer".to_owned()));
    }
    reply
}

fn reply(contract: &Contract, status: u16, body: Vec<u8>) -> Reply {
    Reply {
        status,
        headers: vec![
            ("content-type", contract.settings().content_type.clone()),
            // Two GET calls change state and most answers hold a password or a token: none may be kept.
            ("cache-control", "no-store".to_owned()),
        ],
        body: body.into(),
        operation: None,
    }
}

/// Written by hand around `data`, so that machines that were encoded before need not be parsed again.
fn envelope(code: &str, data: &[u8], msg: &str, success: bool, trace: &str) -> Vec<u8> {
    // A code is a number on the wire; the contract writes codes as text.
    let code = code.parse::<i64>().unwrap_or(500);
    let mut body = Vec::with_capacity(data.len() + 128);
    body.extend_from_slice(format!("{{\"code\":{code},\"data\":").as_bytes());
    body.extend_from_slice(data);
    body.extend_from_slice(b",\"msg\":");
    body.extend_from_slice(quoted(msg).as_bytes());
    body.extend_from_slice(format!(",\"success\":{success},\"traceId\":").as_bytes());
    body.extend_from_slice(quoted(trace).as_bytes());
    body.push(b'}');
    body
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
