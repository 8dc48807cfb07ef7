//! Routing by the contracts: the operation tables of the schemas crate, as the server wants them.

use std::sync::Arc;

use babelvisor_core::frontend::{Frontend, Routed};
use babelvisor_schemas::{Candidates, Contract, Dialect, Operation, Params, Route, contract};

use crate::mount::{Mount, RouteOutcome, RouteTable, TrailingSlash};

/// The operation table of one dialect's contract.
struct ContractTable(&'static Contract);

impl Mount {
    /// Mounts `frontend` with the operations, prefixes and slash form of its dialect's contract.
    pub fn from_contract(dialect: Dialect, frontend: Arc<dyn Frontend>) -> Self {
        let contract = contract(dialect);
        Self {
            frontend,
            table: Arc::new(ContractTable(contract)),
            prefixes: contract.settings().base_paths.clone(),
            // The contract's own router knows its slash form.
            trailing_slash: TrailingSlash::Exact,
        }
    }
}

impl RouteTable for ContractTable {
    fn route(&self, method: &str, path: &str) -> RouteOutcome {
        match self.0.route(method, path) {
            Route::Found { operation, params } if operation.built => RouteOutcome::Found(Routed {
                operations: vec![&operation.id],
                params: bound(operation, &params).collect(),
            }),
            Route::Found { operation, .. } => RouteOutcome::NotBuilt {
                operation: &operation.id,
            },
            Route::Candidates(candidates) => choose(&candidates),
            Route::WrongMethod { allowed } => RouteOutcome::WrongMethod { allowed },
            Route::UnknownPath => RouteOutcome::UnknownPath,
        }
    }
}

/// Operations that share an address: the dialect picks, once it has read the body, if any of them is built.
fn choose(candidates: &Candidates<'static>) -> RouteOutcome {
    if !candidates.operations().any(|operation| operation.built) {
        let general = candidates.general().map(|(operation, _)| operation);
        let named = general.or_else(|| candidates.operations().next());
        return named.map_or(RouteOutcome::UnknownPath, |operation| RouteOutcome::NotBuilt {
            operation: &operation.id,
        });
    }
    let mut routed = Routed::default();
    for operation in candidates.operations() {
        routed.operations.push(&operation.id);
        // The same segment may have another name in each of them; all names are given.
        let picked = operation
            .action
            .as_deref()
            .map_or_else(|| candidates.general(), |key| candidates.pick(key));
        for (name, value) in picked
            .iter()
            .flat_map(|(operation, params)| bound(operation, params))
        {
            if !routed.params.iter().any(|(known, _)| *known == name) {
                routed.params.push((name, value));
            }
        }
    }
    RouteOutcome::Found(routed)
}

/// Parameters under the names that live as long as the contract.
fn bound<'p>(
    operation: &'static Operation,
    params: &'p Params,
) -> impl Iterator<Item = (&'static str, String)> + use<'p> {
    params.iter().filter_map(move |(name, value)| {
        let mut names = operation.paths().flat_map(|path| path.param_names());
        names
            .find(|known| *known == name)
            .map(|known| (known, value.to_owned()))
    })
}
