//! Reports as agents send them: without a content type, numbers as text, blanks in keys. The contract's leniencies turn
//! them into the documented form; what is left is judged here.

use babelvisor_core::mailbox::TaskReport;
use babelvisor_schemas::{JsonLimits, Operation, Part, Violation, parse_json};
use serde_json::Value;

/// Longest serial number that is taken.
const MAX_SERIAL: usize = 64;

/// The frame of a report: `{"req": kind, "sn": serial number, "body": [entries]}`.
#[derive(Debug)]
pub(crate) struct Frame {
    /// `vm.conf`, `host.status` …
    pub(crate) kind: String,
    /// The serial number.
    pub(crate) serial: String,
    /// All of it, as sent.
    pub(crate) report: Value,
}

/// Reads the frame.
///
/// # Errors
/// Which part is missing or wrong.
pub(crate) fn frame(body: &[u8]) -> Result<Frame, String> {
    let report = parse_json(body, JsonLimits::default()).map_err(|fault| fault.to_string())?;
    let Value::Object(members) = &report else {
        return Err("it is not an object".to_owned());
    };
    let member = |name: &str| {
        let trimmed = || members.iter().find(|(key, _)| key.trim() == name);
        let found = members.get(name).or_else(|| trimmed().map(|(_, value)| value));
        found.ok_or_else(|| format!("`{name}` is missing"))
    };
    let Value::String(kind) = member("req")? else {
        return Err("`req` is not a text".to_owned());
    };
    let serial = match member("sn")? {
        Value::String(serial) if (1..=MAX_SERIAL).contains(&serial.chars().count()) => serial,
        _ => return Err(format!("`sn` is not a text of 1 to {MAX_SERIAL} characters")),
    };
    if !member("body")?.is_array() {
        return Err("`body` is not a list".to_owned());
    }
    let (kind, serial) = (kind.clone(), serial.clone());
    Ok(Frame { kind, serial, report })
}

/// The entries of a report in the documented form.
///
/// # Errors
/// What in it cannot be taken.
pub(crate) fn entries(operation: &Operation, report: Value) -> Result<Vec<Value>, String> {
    let (mut report, verdict) = operation.normalise(Part::Body, report);
    if let Err(violations) = verdict {
        let words = violations.first().map_or_else(String::new, Violation::to_string);
        return Err(words);
    }
    let entries = match report.get_mut("body").map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let named = operation.id.starts_with("report.vm.");
    for (place, entry) in entries.iter().enumerate() {
        if !entry.is_object() {
            return Err(format!("/body/{place} is not an object"));
        }
        if named
            && entry
                .get("name")
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
        {
            return Err(format!(
                "/body/{place} has no name: machines are told apart by theirs"
            ));
        }
    }
    if !named && entries.is_empty() {
        return Err("`body` has no entry for the host".to_owned());
    }
    Ok(entries)
}

/// What the entries of a `host.task_status` say. Entries without a task's number say nothing.
pub(crate) fn task_reports(entries: &[Value]) -> Vec<TaskReport> {
    let tasks = entries
        .iter()
        .filter_map(|entry| entry.get("task")?.as_array())
        .flatten();
    tasks.filter_map(task_report).collect()
}

fn task_report(entry: &Value) -> Option<TaskReport> {
    let percent = entry.get("percent").and_then(Value::as_f64);
    let kind = entry.get("type").and_then(Value::as_u64);
    Some(TaskReport {
        id: entry.get("id")?.as_u64()?,
        kind: kind.and_then(|kind| u16::try_from(kind).ok()),
        status: entry.get("status")?.as_i64()?,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between 0 and 100"
        )]
        percent: percent.map(|percent| percent.clamp(0.0, 100.0) as u8),
        message: entry
            .get("msg")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    })
}
