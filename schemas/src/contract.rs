//! A dialect's contract: its files read, joined and made ready, once per process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::amend::{self, Choice};
use crate::catalog::{Catalog, CatalogOperation, Companions};
use crate::dialect::Dialect;
use crate::disposition::{Dispositions, FieldDisposition};
use crate::errors::{ErrorFile, ErrorTable};
use crate::leniency::{Leniencies, Leniency, LeniencyKind};
use crate::operation::{AnswerWhen, Operation, OperationKind, Origin, Part, Shared};
use crate::path::PathTemplate;
use crate::router::{Route, Router};
use crate::schema;
use crate::settings::{Operations, PathCase, Promise, Settings, Slash};

/// Why the data of a dialect cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// A file is not what its reader expects.
    #[error("{dialect}/{file}: {detail}")]
    File {
        /// The dialect.
        dialect: Dialect,
        /// Name of the file.
        file: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// A choice amends something that is not there.
    #[error("choice `{choice}`: {detail}")]
    Choice {
        /// The id of the choice.
        choice: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// Everything that is written down about one dialect.
#[derive(Debug)]
pub struct Contract {
    dialect: Dialect,
    settings: Settings,
    source: String,
    operations: Vec<Operation>,
    by_id: HashMap<String, usize>,
    router: Router,
    errors: ErrorTable,
    dispositions: Dispositions,
    leniencies: Vec<Leniency>,
    choices: Vec<Choice>,
    fault: Option<String>,
}

/// The texts of the files of one dialect.
#[derive(Clone, Copy)]
struct Files<'t> {
    catalog: &'t str,
    companions: &'t str,
    operations: &'t str,
    leniencies: &'t str,
    errors: &'t str,
    dispositions: &'t str,
    choices: &'t str,
}

macro_rules! files {
    ($folder:literal) => {
        Files {
            catalog: include_str!(concat!("../", $folder, "/catalog.json")),
            companions: include_str!(concat!("../", $folder, "/companions.json")),
            operations: include_str!(concat!("../", $folder, "/operations.json")),
            leniencies: include_str!(concat!("../", $folder, "/leniencies.json")),
            errors: include_str!(concat!("../", $folder, "/errors.json")),
            dispositions: include_str!(concat!("../", $folder, "/dispositions.json")),
            choices: include_str!(concat!("../", $folder, "/choices.json")),
        }
    };
}

fn files(dialect: Dialect) -> Files<'static> {
    match dialect {
        Dialect::GuestRest => files!("guest-rest"),
        Dialect::V1Compute => files!("v1-compute"),
        Dialect::Zstack => files!("zstack"),
        Dialect::PveOpen => files!("pve-open"),
        Dialect::KvmTaskFeed => files!("kvm-task-feed"),
    }
}

/// The contract of a dialect. Read on first use, then shared.
pub fn contract(dialect: Dialect) -> &'static Contract {
    static CONTRACTS: [OnceLock<Contract>; 5] = [const { OnceLock::new() }; 5];
    static NONE: OnceLock<Contract> = OnceLock::new();
    let cell = CONTRACTS.get(dialect.index()).unwrap_or(&NONE);
    cell.get_or_init(|| {
        Contract::read(dialect, files(dialect))
            .unwrap_or_else(|error| Contract::broken(dialect, error.to_string()))
    })
}

/// All operations of all dialects, companions included.
pub fn all_operations() -> impl Iterator<Item = &'static Operation> {
    Dialect::ALL
        .into_iter()
        .flat_map(|dialect| contract(dialect).operations())
}

/// Reads every contract and reports the faults; the gateway does not start on any.
///
/// # Errors
/// One line per dialect whose data cannot be used.
pub fn check() -> Result<(), Vec<String>> {
    let faults: Vec<String> = Dialect::ALL
        .into_iter()
        .filter_map(|dialect| contract(dialect).fault().map(str::to_owned))
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

impl Contract {
    /// The dialect.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What holds for the dialect as a whole.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The document that the catalogue was transcribed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// All operations: the catalogue's in its order, then the companions.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation of that id.
    pub fn operation(&self, id: &str) -> Option<&Operation> {
        self.by_id.get(id).and_then(|index| self.operations.get(*index))
    }

    /// Finds the operations for a method (in capitals) and a path without query string, as it stands on the wire.
    pub fn route(&self, method: &str, path: &str) -> Route<'_> {
        self.router
            .route(&self.operations, self.settings.slash, method, path)
    }

    /// The length of the longest base path that `path` lies under, or `None` if the dialect does not own it.
    /// On a port with several dialects the greatest answers unknown paths.
    pub fn owns(&self, path: &str) -> Option<usize> {
        self.settings
            .base_paths
            .iter()
            .filter(|base| {
                path.strip_prefix(base.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
            .map(String::len)
            .max()
    }

    /// Codes, texts and the way out for every canonical error.
    pub fn errors(&self) -> &ErrorTable {
        &self.errors
    }

    /// What happens to a documented request field (`body.cpu`) of a built operation.
    pub fn disposition(&self, operation: &str, field: &str) -> Option<&FieldDisposition> {
        self.dispositions.operations.get(operation)?.get(field)
    }

    /// All dispositions: operation id → field → disposition.
    pub fn dispositions(&self) -> &BTreeMap<String, BTreeMap<String, FieldDisposition>> {
        &self.dispositions.operations
    }

    /// What is taken beyond the document.
    pub fn leniencies(&self) -> &[Leniency] {
        &self.leniencies
    }

    /// Whether a leniency of this kind holds for this part of this operation.
    pub fn lenient(&self, kind: LeniencyKind, part: Part, operation: &str) -> bool {
        self.leniencies
            .iter()
            .any(|leniency| leniency.kind == kind && leniency.concerns(part, operation))
    }

    /// The decisions made where sources differ.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// Why the data could not be used, if so. Such a contract has no operations.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn read(dialect: Dialect, files: Files<'_>) -> Result<Contract, ContractError> {
        let mut catalog: Catalog = parse(dialect, "catalog.json", files.catalog)?;
        let mut companions: Companions = parse(dialect, "companions.json", files.companions)?;
        let promises: Operations = parse(dialect, "operations.json", files.operations)?;
        let leniencies: Leniencies = parse(dialect, "leniencies.json", files.leniencies)?;
        let errors: ErrorFile = parse(dialect, "errors.json", files.errors)?;
        let dispositions: Dispositions = parse(dialect, "dispositions.json", files.dispositions)?;
        let choices: ChoiceFile = parse(dialect, "choices.json", files.choices)?;
        if catalog.dialect != dialect.name() {
            return Err(fault(
                dialect,
                "catalog.json",
                format!("belongs to `{}`", catalog.dialect),
            ));
        }

        let documented = catalog.operations.len();
        let mut rows = catalog.operations;
        rows.append(&mut companions.operations);
        for (name, structure) in companions.structures {
            catalog.structures.entry(name).or_insert(structure);
        }
        amend::apply(&choices.choices, &mut rows, &mut catalog.structures)?;
        let tables = rows.iter().flat_map(|row| [&row.request, &row.response]);
        let tables = tables.chain(catalog.structures.values().map(|structure| &structure.fields));
        for fields in tables {
            if let Some(detail) = schema::unknown_type(fields, &catalog.structures) {
                return Err(fault(dialect, "catalog.json", detail));
            }
        }

        let shared = Arc::new(Shared {
            structures: catalog.structures,
            leniencies: leniencies.leniencies.clone(),
            settings: promises.settings.clone(),
        });
        let mut promises_by_id = promises.operations;
        let mut operations = Vec::with_capacity(rows.len());
        for (index, row) in rows.into_iter().enumerate() {
            let promise = promises_by_id
                .remove(&row.id)
                .ok_or_else(|| fault(dialect, "operations.json", format!("`{}` is missing", row.id)))?;
            let origin = if index < documented {
                Origin::Documented
            } else {
                Origin::Companion
            };
            operations.push(join(dialect, origin, row, promise, &shared, &catalog.source));
        }
        if let Some(id) = promises_by_id.keys().next() {
            return Err(fault(
                dialect,
                "operations.json",
                format!("`{id}` is not in the catalogue"),
            ));
        }
        let mut by_id = HashMap::with_capacity(operations.len());
        for (index, operation) in operations.iter().enumerate() {
            if by_id.insert(operation.id.clone(), index).is_some() {
                return Err(fault(
                    dialect,
                    "catalog.json",
                    format!("`{}` is there twice", operation.id),
                ));
            }
        }
        let errors = ErrorTable::build(errors).map_err(|detail| fault(dialect, "errors.json", detail))?;
        Ok(Contract {
            dialect,
            router: Router::new(&operations),
            settings: promises.settings,
            source: catalog.source,
            operations,
            by_id,
            errors,
            dispositions,
            leniencies: leniencies.leniencies,
            choices: choices.choices,
            fault: None,
        })
    }

    fn broken(dialect: Dialect, fault: String) -> Contract {
        Contract {
            dialect,
            settings: Settings {
                base_paths: Vec::new(),
                slash: Slash::Exact,
                path_case: PathCase::Exact,
                default_port: None,
                plain_integers: false,
                content_type: "application/json".to_owned(),
                time_zone: "unix".to_owned(),
                headers: Vec::new(),
            },
            source: String::new(),
            operations: Vec::new(),
            by_id: HashMap::new(),
            router: Router::default(),
            errors: ErrorTable::empty(),
            dispositions: Dispositions::default(),
            leniencies: Vec::new(),
            choices: Vec::new(),
            fault: Some(fault),
        }
    }
}

#[derive(serde::Deserialize)]
struct ChoiceFile {
    choices: Vec<Choice>,
}

fn parse<T: DeserializeOwned>(dialect: Dialect, file: &'static str, text: &str) -> Result<T, ContractError> {
    serde_json::from_str(text).map_err(|error| fault(dialect, file, error.to_string()))
}

fn fault(dialect: Dialect, file: &'static str, detail: String) -> ContractError {
    ContractError::File {
        dialect,
        file,
        detail,
    }
}

/// Joins a row of the catalogue with what is promised about it.
fn join(
    dialect: Dialect,
    origin: Origin,
    row: CatalogOperation,
    promise: Promise,
    shared: &Arc<Shared>,
    source: &str,
) -> Operation {
    let PathCase::Exact = shared.settings.path_case;
    let slash = shared.settings.slash;
    let by_kind = match row.kind {
        OperationKind::Async => AnswerWhen::Accepted,
        OperationKind::Sync | OperationKind::Batch => AnswerWhen::Done,
    };
    Operation {
        dialect,
        path: PathTemplate::parse(&row.path, slash),
        also: promise
            .also
            .iter()
            .map(|path| PathTemplate::parse(path, slash))
            .collect(),
        state_changing: promise.state_changing.unwrap_or(row.method != "GET"),
        id: row.id,
        method: row.method,
        action: row.action.or(promise.action),
        action_aliases: promise.action_aliases,
        origin,
        title: row.title,
        source: row.source.unwrap_or_else(|| source.to_owned()),
        kind: row.kind,
        built: promise.built,
        answer_when: promise.answer_when.unwrap_or(by_kind),
        longest_wait: Duration::from_millis(promise.longest_wait_ms.unwrap_or(0)),
        accepts_blindly: promise.accepts_blindly.unwrap_or(false),
        capabilities: promise.capabilities,
        request: row.request,
        response: row.response,
        shared: Arc::clone(shared),
        compiled: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::{ErrorKind, TransportFault};

    const PVE: Dialect = Dialect::PveOpen;

    fn refused(file: &str, from: &str, to: &str) -> String {
        let original = files(PVE);
        let text = match file {
            "catalog" => original.catalog,
            "operations" => original.operations,
            "choices" => original.choices,
            "errors" => original.errors,
            other => panic!("no file `{other}`"),
        };
        assert!(text.contains(from), "{file}.json has no `{from}`");
        let altered = text.replacen(from, to, 1);
        let files = match file {
            "catalog" => Files {
                catalog: &altered,
                ..original
            },
            "operations" => Files {
                operations: &altered,
                ..original
            },
            "choices" => Files {
                choices: &altered,
                ..original
            },
            _ => Files {
                errors: &altered,
                ..original
            },
        };
        Contract::read(PVE, files).unwrap_err().to_string()
    }

    #[test]
    fn a_slip_in_a_file_is_named() {
        for (file, from, to, expected) in [
            (
                "catalog",
                "\"pve.one\"",
                "\"pve.two\"",
                "`pve.one` does not exist",
            ),
            (
                "catalog",
                "\"pve-open\"",
                "\"guest-rest\"",
                "belongs to `guest-rest`",
            ),
            (
                "catalog",
                "\"type\": \"string\"",
                "\"type\": \"strnig\"",
                "unknown type `strnig`",
            ),
            ("operations", "\"pve.one\"", "\"pve.two\"", "`pve.one` is missing"),
            ("operations", "\"built\"", "\"bulit\"", "unknown field `bulit`"),
            (
                "choices",
                "\"structure\": \"Machine\"",
                "\"structure\": \"Macine\"",
                "`Macine` does not exist",
            ),
            ("errors", "\"NotFound\"", "\"NotFond\"", "`NotFound` is missing"),
            (
                "errors",
                "\"unknown_path\"",
                "\"unknown_pth\"",
                "`unknown_path` is missing",
            ),
            (
                "errors",
                "\"code\": \"1021\"",
                "\"code\": \"1022\"",
                "unknown code `1021`",
            ),
        ] {
            let fault = refused(file, from, to);
            assert!(fault.contains(expected), "{file}: {from} → {to}: {fault}");
        }
    }

    #[test]
    fn a_contract_that_could_not_be_read_answers_nothing_as_success() {
        let broken = Contract::broken(PVE, "made up".to_owned());
        assert_eq!(broken.fault(), Some("made up"));
        assert!(matches!(
            broken.route("GET", "/v1/pve/open/image"),
            Route::UnknownPath
        ));
        assert_eq!(broken.errors().for_kind(ErrorKind::NotFound).status, 500);
        assert_eq!(broken.errors().for_fault(TransportFault::UnknownPath).status, 500);
    }
}
