//! What can be read from a ZStack body before any operation is known.

use babelvisor_core::frontend::Request;
use babelvisor_schemas::{JsonLimits, parse_json};
use serde_json::Value;

/// Members that stand beside the action key in any body.
const BESIDE: [&str; 3] = ["systemTags", "userTags", "params"];

/// The action key of a body: its only top-level key that is not a tag list. `None` if there is none.
pub(crate) fn action_key(request: &Request) -> Option<String> {
    let Ok(Value::Object(members)) = parse_json(&request.body, JsonLimits::default()) else {
        return None;
    };
    members
        .into_iter()
        .map(|(key, _)| key)
        .find(|key| !BESIDE.contains(&key.as_str()))
}
