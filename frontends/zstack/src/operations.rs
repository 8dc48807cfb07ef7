//! Every operation that is built: its id, and the function that answers it. A new operation is one row in the table
//! of its family and one small function there.
//!
//! A synchronous operation answers at once. An asynchronous one begins and is answered with the address of its job;
//! what the job's end is told as follows from the job itself when it is polled, so that any gateway can tell it.

use std::collections::HashMap;
use std::sync::LazyLock;

use babelvisor_core::Error;
use babelvisor_core::model::{Caller, Job};
use babelvisor_schemas::{Operation, Route};
use bytes::Bytes;
use futures_util::future::BoxFuture;

use babelvisor_core::frontend::Request;
use babelvisor_schemas::{Contract, Dialect, contract};
use serde_json::{Map, Value};

use crate::Zstack;
use crate::decode::{self, Call};
use crate::resources::{free_ip, ops};
use crate::{query, vm};

/// What a handler becomes.
pub(crate) type Answering<'a, T> = BoxFuture<'a, Result<T, Error>>;
/// Answers a synchronous call with the whole body.
pub(crate) type Read = for<'a> fn(&'a Zstack, &'a Call) -> Answering<'a, Bytes>;
/// Begins an asynchronous call.
pub(crate) type Begin = for<'a> fn(&'a Zstack, &'a Call) -> Answering<'a, Started>;
/// Tells the success of a job.
pub(crate) type Tell = for<'a> fn(&'a Zstack, &'a Caller, &'a Job) -> Answering<'a, Told>;

/// What a poll of a job that succeeded is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// The whole body.
    Result(Bytes),
    /// Something else that belongs to the call still runs.
    NotYet,
}

/// What became of an asynchronous call.
#[derive(Debug)]
pub(crate) enum Started {
    /// A job of the core works on it.
    Job(Box<Job>),
    /// It is done, because no hypervisor had to be asked: this is the whole body.
    Done(Value),
}

/// How an operation is answered.
#[derive(Clone, Copy)]
pub(crate) enum How {
    /// In the answer itself, without a session: login, logout, poll.
    Door(Door),
    /// In the answer itself.
    Sync(Read),
    /// By a job.
    Async(Begin, Tell),
}

/// Calls that deal with sessions and jobs themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    LogIn,
    LogOut,
    Poll,
}

/// One operation.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) how: How,
}

/// A row of a synchronous operation: `sync("QueryZone", query_zone)`.
pub(crate) const fn sync(id: &'static str, read: Read) -> Row {
    Row {
        id,
        how: How::Sync(read),
    }
}

/// A row of an asynchronous operation: how it begins, and what its success is told as.
pub(crate) const fn job(id: &'static str, begin: Begin, tell: Tell) -> Row {
    Row {
        id,
        how: How::Async(begin, tell),
    }
}

/// Boxes an async function so that it can stand in a table: `boxed!(function)`.
macro_rules! boxed {
    ($function:path) => {
        |zstack, call| Box::pin($function(zstack, call))
    };
    ($function:path, told) => {
        |zstack, caller, job| Box::pin($function(zstack, caller, job))
    };
}
pub(crate) use boxed;

const DOORS: [Row; 3] = [
    Row {
        id: "LogInByAccount",
        how: How::Door(Door::LogIn),
    },
    Row {
        id: "LogOut",
        how: How::Door(Door::LogOut),
    },
    Row {
        id: "GetApiJob",
        how: How::Door(Door::Poll),
    },
];

/// The tables of all families.
const TABLES: &[&[Row]] = &[&DOORS, vm::ROWS, query::ROWS, free_ip::ROWS];

/// Every row.
fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().chain(ops::TABLES).flat_map(|table| table.iter())
}

/// The row of an operation; none if it is not built.
pub(crate) fn row(id: &str) -> Option<&'static Row> {
    static BY_ID: LazyLock<HashMap<&'static str, &'static Row>> =
        LazyLock::new(|| rows().map(|row| (row.id, row)).collect());
    BY_ID.get(id).copied()
}

/// Which operation a request means. Many share one address (`PUT /vm-instances/{uuid}/actions` has 23) and are told
/// apart by the top-level key of the body. `None` if the address has several and the body names none of them.
///
/// An address with a single operation needs no key: some SDK calls send a blank one or `null`.
pub(crate) fn operation(request: &Request, body: &Map<String, Value>) -> Option<&'static Operation> {
    let contract: &'static Contract = contract(Dialect::Zstack);
    match contract.route(&request.method, &request.path) {
        Route::Found { operation, .. } => Some(operation),
        Route::Candidates(candidates) => {
            let mut all = candidates.operations();
            if let (Some(only), None) = (all.next(), all.next()) {
                return Some(only);
            }
            let key = decode::action_key(body)?;
            candidates.pick(key).map(|(operation, _)| operation)
        }
        Route::WrongMethod { .. } | Route::UnknownPath => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_the_contract_calls_built_has_a_row_and_nothing_else_has() {
        let contract = contract(Dialect::Zstack);
        let operations = contract.operations().iter();
        let built: BTreeSet<&str> = operations
            .filter(|operation| operation.built)
            .map(|operation| operation.id.as_str())
            .collect();
        let rows: Vec<&str> = rows().map(|row| row.id).collect();
        let here: BTreeSet<&str> = rows.iter().copied().collect();
        assert_eq!(here.len(), rows.len(), "an operation has two rows");
        assert_eq!(here, built);
    }

    #[test]
    fn what_the_document_calls_asynchronous_is_answered_by_a_job() {
        let contract = contract(Dialect::Zstack);
        for row in rows() {
            let operation = contract.operation(row.id).unwrap();
            let asynchronous = operation.kind == babelvisor_schemas::OperationKind::Async;
            assert_eq!(matches!(row.how, How::Async(..)), asynchronous, "{}", row.id);
        }
    }
}
