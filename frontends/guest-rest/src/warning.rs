//! Fields that are taken and do not do all that the document says: the client is told in a header, the operator
//! in the log and a counter. Which fields these are, and why, is the contract's table of dispositions.

use babelvisor_core::frontend::Reply;
use babelvisor_schemas::{Contract, Disposition};
use serde_json::Value;

/// The header with one sentence a field.
const WARNING: &str = "babelvisor-warning";

/// Adds the warnings about `fields` of `body` to a good answer.
pub(crate) fn add(reply: &mut Reply, contract: &Contract, operation: &str, body: &Value, settled: &[&str]) {
    let Some(fields) = body.as_object() else { return };
    let mut sentences = Vec::new();
    for field in fields.keys().filter(|field| !settled.contains(&field.as_str())) {
        let Some(fate) = contract.disposition(operation, &format!("body.{field}")) else {
            continue;
        };
        match fate.disposition {
            Disposition::Honoured | Disposition::Rejected => continue,
            Disposition::Emulated | Disposition::Recorded | Disposition::Ignored => {}
        }
        let word = fate.disposition.name();
        metrics::counter!("gateway_field_warnings_total", "dialect" => "guest-rest", "operation" => operation.to_owned(), "field" => field.clone(), "disposition" => word)
            .increment(1);
        tracing::debug!(
            operation,
            field,
            disposition = word,
            "a field does not do all that its document says"
        );
        sentences.push(format!(
            "{field} is {word}: {}",
            fate.reason.as_deref().unwrap_or("no reason is given")
        ));
    }
    if !sentences.is_empty() {
        reply.headers.push((WARNING, header_text(&sentences.join("; "))));
    }
}

/// Text that may stand in a header: printable ASCII, at most 512 characters.
pub(crate) fn header_text(text: &str) -> String {
    let safe = |letter: char| {
        if letter == ' ' || letter.is_ascii_graphic() {
            letter
        } else {
            '?'
        }
    };
    text.chars().take(512).map(safe).collect()
}
