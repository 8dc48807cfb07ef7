//! Which operation a request means. Many share one address (`PUT /vm-instances/{uuid}/actions` has 23) and are told
//! apart by the top-level key of the body.

use babelvisor_core::frontend::Request;
use babelvisor_schemas::{Dialect, Route, contract};

use crate::decode;

/// The operation's id. `None` if the address has several and the body names none of them.
///
/// An address with a single operation needs no key: some SDK calls send a blank one or `null`.
pub(crate) fn name(request: &Request) -> Option<&'static str> {
    match contract(Dialect::Zstack).route(&request.method, &request.path) {
        Route::Found { operation, .. } => Some(&operation.id),
        Route::Candidates(candidates) => {
            let mut all = candidates.operations();
            if let (Some(only), None) = (all.next(), all.next()) {
                return Some(&only.id);
            }
            let key = decode::action_key(request)?;
            candidates.pick(&key).map(|(operation, _)| operation.id.as_str())
        }
        Route::WrongMethod { .. } | Route::UnknownPath => None,
    }
}
