//! Which operation a request means: a report is told by its kind, a poll is one operation whatever it will be given.

use babelvisor_core::frontend::Request;
use babelvisor_schemas::{Candidates, Dialect, Route, contract};

use crate::decode;

/// The operation's id.
///
/// # Errors
/// What is wrong with the report that should name it.
pub(crate) fn name(request: &Request) -> Result<Option<&'static str>, String> {
    match contract(Dialect::KvmTaskFeed).route(&request.method, &request.path) {
        Route::Found { operation, .. } => Ok(Some(&operation.id)),
        Route::Candidates(candidates) if takes_reports(&candidates) => {
            let kind = decode::frame(&request.body)?.kind;
            match candidates.pick(&kind) {
                Some((operation, _)) => Ok(Some(&operation.id)),
                None => Err(format!(
                    "`req` is no known kind of report; known are {}",
                    kinds(&candidates)
                )),
            }
        }
        Route::Candidates(candidates) => Ok(candidates.general().map(|(operation, _)| operation.id.as_str())),
        Route::WrongMethod { .. } | Route::UnknownPath => Ok(None),
    }
}

/// Polls carry no body, reports do.
fn takes_reports(candidates: &Candidates<'_>) -> bool {
    candidates
        .operations()
        .any(|operation| operation.id.starts_with("report."))
}

fn kinds(candidates: &Candidates<'_>) -> String {
    let kinds: Vec<&str> = candidates
        .operations()
        .filter_map(|operation| operation.action.as_deref())
        .collect();
    kinds.join(", ")
}
