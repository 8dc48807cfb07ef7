//! The envelope of every answer ("Output" of the document) and the one of batch calls within it. The types are
//! strict: a client in Go gives up on a number written as text.

use babelvisor_core::frontend::Reply;
use babelvisor_schemas::Contract;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::Fault;
use crate::place::Area;

/// What a good answer carries, as JSON already. May hold passwords and tokens: this type has no `Debug`.
#[derive(Clone)]
pub(crate) struct Data(Bytes);

impl Data {
    /// A value, encoded.
    pub(crate) fn of(value: &impl Serialize) -> Result<Self, Fault> {
        serde_json::to_vec(value)
            .map(|json| Self(json.into()))
            .map_err(unwritable)
    }

    /// JSON that was encoded before.
    pub(crate) fn json(json: impl Into<Bytes>) -> Self {
        Self(json.into())
    }

    /// `{}`: there is nothing to say.
    pub(crate) fn empty() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// `""`: what a logout answers.
    pub(crate) fn no_text() -> Self {
        Self(Bytes::from_static(b"\"\""))
    }
}

/// A value that cannot be written as JSON, which our types never are.
pub(crate) fn unwritable(error: serde_json::Error) -> Fault {
    babelvisor_core::Error::internal(format!("an answer cannot be encoded: {error}")).into()
}

/// One envelope as a value: an item of a batch, or the outcome of one cluster in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// The result.
    pub(crate) data: Value,
}

impl Output {
    /// A success with `data`.
    pub(crate) fn success(data: Value) -> Self {
        Self {
            scode: 0,
            desc: String::new(),
            message: "success".to_owned(),
            message_cn: "成功".to_owned(),
            stack: None,
            data,
        }
    }

    /// A failure; `data` still says what it is about.
    pub(crate) fn failure(fault: &Fault, operation: &str, data: Value) -> Self {
        Self {
            scode: fault.scode(),
            desc: fault.desc().to_owned(),
            message: fault.message(),
            message_cn: fault.message_cn(),
            stack: Some(fault.stack(operation)),
            data,
        }
    }
}

/// The outcome of a call on several objects. The call itself is a success whatever became of them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct BatchOutput {
    success: usize,
    fail: usize,
    results: Vec<Output>,
}

impl BatchOutput {
    /// Adds the outcome of one object; `identity` names the object and is the `data` of a failure.
    pub(crate) fn push(&mut self, operation: &str, identity: Value, outcome: Result<Value, Fault>) {
        self.results.push(match outcome {
            Ok(data) => {
                self.success += 1;
                Output::success(data)
            }
            Err(fault) => {
                self.fail += 1;
                Output::failure(&fault, operation, identity)
            }
        });
    }
}

/// The outcome of a list in one cluster.
#[derive(Debug, Serialize)]
pub(crate) struct RangeState {
    cluster_uuid: String,
    cluster_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace_uuid: Option<String>,
    result: Output,
    total_count: usize,
}

impl RangeState {
    /// `cluster` was asked and has `total` that fit. The document's own example prints empty text as the data.
    pub(crate) fn good(cluster: &Area, total: usize) -> Self {
        Self {
            cluster_uuid: cluster.uuid.to_string(),
            cluster_name: cluster.name.clone(),
            namespace_uuid: None,
            result: Output::success(Value::String(String::new())),
            total_count: total,
        }
    }

    /// The same for one namespace of the cluster.
    pub(crate) fn of_namespace(cluster: &Area, namespace: Uuid, total: usize) -> Self {
        Self {
            namespace_uuid: Some(namespace.to_string()),
            ..Self::good(cluster, total)
        }
    }
}

/// Code 0.
pub(crate) fn good(contract: &Contract, data: &Data) -> Reply {
    let mut body = Vec::with_capacity(data.0.len() + 96);
    body.extend_from_slice(
        "{\"scode\":0,\"desc\":\"\",\"message\":\"success\",\"message_cn\":\"成功\",\"stack\":null,\"data\":"
            .as_bytes(),
    );
    body.extend_from_slice(&data.0);
    body.push(b'}');
    reply(contract, contract.errors().success().status, body)
}

/// Any other code; `data` is `{}`.
pub(crate) fn bad(contract: &Contract, fault: &Fault, operation: &str) -> Reply {
    let output = Output::failure(fault, operation, Value::Object(Map::new()));
    // Texts, numbers and a JSON value cannot fail to be written.
    let body = serde_json::to_vec(&output).unwrap_or_default();
    reply(contract, fault.status(), body)
}

fn reply(contract: &Contract, status: u16, body: Vec<u8>) -> Reply {
    Reply {
        status,
        headers: vec![
            // Clients refuse any other content type.
            ("content-type", contract.settings().content_type.clone()),
            // Answers hold tokens and console passwords.
            ("cache-control", "no-store".to_owned()),
        ],
        body: body.into(),
        operation: None,
    }
}

#[cfg(test)]
mod tests {
    use babelvisor_schemas::{Dialect, contract};
    use serde_json::json;

    use super::*;
    use crate::error::Code;

    #[test]
    fn success_is_the_envelope_that_the_document_prints() {
        let contract = contract(Dialect::V1Compute);
        let body = |data: Data| -> Value { serde_json::from_slice(&good(contract, &data).body).unwrap() };
        let printed = |data: Value| json!({"scode": 0, "desc": "", "message": "success", "message_cn": "成功", "stack": null, "data": data});
        assert_eq!(body(Data::empty()), printed(json!({})));
        assert_eq!(body(Data::no_text()), printed(json!("")));
        assert_eq!(
            body(Data::of(&json!({"n": 1})).unwrap_or_else(|_| Data::empty())),
            printed(json!({"n": 1}))
        );
        let row = contract.errors().success();
        assert_eq!(
            (row.en.as_deref(), row.zh.as_deref()),
            (Some("success"), Some("成功"))
        );
    }

    #[test]
    fn a_batch_counts_and_a_failed_item_still_names_its_object() {
        let mut batch = BatchOutput::default();
        batch.push(
            "compute.batch_start",
            json!({"compute_uuid": "a"}),
            Ok(json!({"compute_uuid": "a"})),
        );
        batch.push(
            "compute.batch_start",
            json!({"compute_uuid": "b"}),
            Err(Fault::code(Code::WrongState)),
        );
        let value = serde_json::to_value(&batch).unwrap();
        assert_eq!((&value["success"], &value["fail"]), (&json!(1), &json!(1)));
        assert_eq!(value["results"][0]["stack"], Value::Null);
        assert_eq!(value["results"][1]["scode"], 22003);
        assert_eq!(value["results"][1]["data"], json!({"compute_uuid": "b"}));
        assert!(value["results"][1]["stack"].is_array());
    }
}
