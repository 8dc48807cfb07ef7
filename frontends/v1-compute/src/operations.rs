//! From an operation's id to the function that answers it, through the checks that all of them share. Each family
//! has a table of its own rows; this is where they come together.

use std::future::Future;
use std::pin::Pin;

use babelvisor_core::frontend::Request;
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas::Remarks;

use crate::V1Compute;
use crate::call::Call;
use crate::decode;
use crate::encode::Data;
use crate::error::Fault;
use crate::{
    auth, cloud, console, groups, images, life, log, lookups, meta, network, people, storage, trash,
};

/// What a function of a row returns.
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Result<Data, Fault>> + Send + 'a>>;

/// One operation that is built. Whether it is GET or POST, and single or batch, is the contract's to say.
pub(crate) struct Row {
    /// Its id in the contract.
    pub(crate) id: &'static str,
    /// Who may call it.
    pub(crate) door: Door,
    /// What answers it.
    pub(crate) run: for<'a, 'r> fn(&'a V1Compute, &'a mut Call<'r>) -> Answering<'a>,
}

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Whoever has signed in.
    SignedIn,
    /// Everybody: it is the sign-in itself.
    Open,
}

/// A row for a method of the dialect: `row!("compute.start", start)`.
macro_rules! row {
    ($id:literal, $method:ident) => {
        $crate::operations::Row {
            id: $id,
            door: $crate::operations::Door::SignedIn,
            run: |site, call| Box::pin(site.$method(call)),
        }
    };
    (open $id:literal, $method:ident) => {
        $crate::operations::Row {
            id: $id,
            door: $crate::operations::Door::Open,
            run: |site, call| Box::pin(site.$method(call)),
        }
    };
}
pub(crate) use row;

/// The tables of all families.
const TABLES: &[&[Row]] = &[
    auth::ROWS,
    lookups::ROWS,
    network::ROWS,
    storage::ROWS,
    images::ROWS,
    trash::ROWS,
    groups::ROWS,
    people::ROWS,
    meta::ROWS,
    cloud::ROWS,
    console::ROWS,
    log::ROWS,
    life::ROWS,
];

/// All operations that are built.
fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().flat_map(|table| table.iter())
}

impl V1Compute {
    /// Answers one call: signed in, parameters, then the call itself. With its data comes what the client should
    /// know about fields that did not do all.
    pub(crate) async fn call(
        &self,
        operation: Option<&'static str>,
        request: &Request,
    ) -> Result<(Data, Remarks<'static>), Fault> {
        let id = operation.unwrap_or_default();
        let not_built = || Error::new(ErrorKind::NotImplemented, id);
        let row = rows().find(|row| row.id == id).ok_or_else(not_built)?;
        let operation = self.contract.operation(id).ok_or_else(not_built)?;
        let caller = match row.door {
            Door::Open => self.nobody(id, request),
            Door::SignedIn => self.visitor(id, request).await?,
        };
        let remarks = decode::remarks(self.contract, operation, request, self.settings.strictness);
        if let Some(violation) = remarks.refusal() {
            return Err(Fault::violation(&[violation]));
        }
        let mut call = Call {
            caller,
            operation,
            request,
            params: decode::params(operation, request)?,
            remarks,
        };
        if operation.state_changing && row.door == Door::SignedIn {
            call.may_change()?;
        }
        let data = (row.run)(self, &mut call).await?;
        Ok((data, call.remarks))
    }
}

#[cfg(test)]
mod tests {
    use babelvisor_schemas::{Dialect, contract};

    use super::rows;

    #[test]
    fn what_the_contract_calls_built_has_a_function_and_nothing_else_has() {
        let contract = contract(Dialect::V1Compute);
        let mut built: Vec<&str> = contract
            .operations()
            .iter()
            .filter(|operation| operation.built)
            .map(|operation| operation.id.as_str())
            .collect();
        let mut here: Vec<&str> = rows().map(|row| row.id).collect();
        built.sort_unstable();
        here.sort_unstable();
        assert_eq!(here, built);
    }
}
