//! The frame of a report: `{"req": kind, "sn": serial number, "body": [entries]}`, sent without a content type.

use babelvisor_schemas::{JsonLimits, parse_json};
use serde_json::Value;

/// Longest serial number that is taken.
const MAX_SERIAL: usize = 64;

/// Checks the frame and returns the kind of the report.
///
/// # Errors
/// Which part is missing or wrong.
pub(crate) fn report_kind(body: &[u8]) -> Result<String, String> {
    let report = parse_json(body, JsonLimits::default()).map_err(|fault| fault.to_string())?;
    let Value::Object(members) = report else {
        return Err("it is not an object".to_owned());
    };
    let member = |name: &str| members.get(name).ok_or_else(|| format!("`{name}` is missing"));
    let Value::String(kind) = member("req")? else {
        return Err("`req` is not a text".to_owned());
    };
    match member("sn")? {
        Value::String(serial) if (1..=MAX_SERIAL).contains(&serial.chars().count()) => {}
        _ => return Err(format!("`sn` is not a text of 1 to {MAX_SERIAL} characters")),
    }
    if !member("body")?.is_array() {
        return Err("`body` is not a list".to_owned());
    }
    Ok(kind.clone())
}
