//! What agents are answered, and the JSON form of a refused exchange. Agents print the status and ignore the rest: it
//! is for whoever reads along.

use babelvisor_core::frontend::Reply;
use babelvisor_core::mailbox::Task;
use babelvisor_core::model::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

/// How times are written, without a zone.
const PRINTED: &str = "%Y-%m-%d %H:%M:%S";

/// A failure: what happened, and to which operation if one is known.
pub(crate) fn failure(status: u16, text: &str, operation: Option<&'static str>, content_type: &str) -> Reply {
    let body = match operation {
        Some(operation) => json!({ "error": text, "operation": operation }),
        None => json!({ "error": text }),
    };
    reply(status, &body, operation, content_type)
}

/// A report was taken.
pub(crate) fn taken(operation: &'static str, content_type: &str) -> Reply {
    reply(200, &json!({}), Some(operation), content_type)
}

/// What a poll is answered: the agent needs exactly this key, and an empty list when there is nothing.
pub(crate) fn tasks(tasks: &[Task], zone: &TimeZone, operation: &'static str, content_type: &str) -> Reply {
    let tasks: Vec<Value> = tasks.iter().map(|one| task(one, zone)).collect();
    reply(200, &json!({ "body": tasks }), Some(operation), content_type)
}

/// A task in the order in which the document prints its members.
pub(crate) fn task(task: &Task, zone: &TimeZone) -> Value {
    let mut members = Map::new();
    let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
    add("id", task.id.into());
    add("create_time", local(task.created, zone).into());
    // Never 0: an agent takes whole seconds, and with none left it would refuse at once.
    add("age", task.age_ms.div_ceil(1000).max(1).into());
    add("type", task.kind.into());
    for (name, value) in &task.fields {
        add(name, value.clone());
    }
    let father = task.father.map(|father| format!("{}-{}", father.kind, father.id));
    add("father_id", father.unwrap_or_else(|| "0-0".to_owned()).into());
    Value::Object(members)
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime(PRINTED).to_string()
}

fn reply(status: u16, body: &Value, operation: Option<&'static str>, content_type: &str) -> Reply {
    Reply {
        status,
        headers: vec![("content-type", content_type.to_owned())],
        body: body.to_string().into(),
        operation,
    }
}
