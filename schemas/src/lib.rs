//! The contracts of the five dialects, as data and as a small library that serves them.
//!
//! Why a crate of its own: routing, validation, error texts, reports and the OpenAPI documents must all speak from
//! one source, and a frontend must not carry a second copy of its document. Every dialect has a folder of JSON
//! files beside `src/`:
//!
//! | file | what it says |
//! |---|---|
//! | `catalog.json` | the operations and structures as the document prints them |
//! | `companions.json` | calls that real clients need and the document lacks |
//! | `operations.json` | what is built, when it answers, what it needs |
//! | `choices.json` | what was chosen where sources differ; a choice may amend the catalogue |
//! | `leniencies.json` | what is taken beyond the document, each with its source |
//! | `errors.json` | codes, texts, and the way out for every canonical error |
//! | `dispositions.json` | what happens to each documented request field |
//!
//! From these the crate computes two layers of JSON Schema for each part of an operation: [`Layer::Document`] is the
//! document with its choices, [`Layer::Accept`] is that relaxed by the leniencies. The second is never written down.
//!
//! The data is compiled in and read once per dialect, on first use. A file that cannot be read yields an empty
//! contract whose [`Contract::fault`] says why; [`check`] lets the gateway refuse to start then.

mod amend;
mod atlas;
mod catalog;
mod contract;
mod dialect;
mod disposition;
mod errors;
mod json;
mod leniency;
mod normalise;
mod operation;
mod path;
mod router;
mod schema;
mod settings;
mod strictness;
mod validate;

pub use amend::Choice;
pub use atlas::atlas;
pub use contract::{Contract, ContractError, all_operations, check, contract};
pub use dialect::Dialect;
pub use disposition::{BackendDisposition, Disposition, FieldDisposition};
pub use errors::{ErrorKind, ErrorRow, ErrorTable, Outcome, TransportFault};
pub use json::{JsonFault, JsonLimits, parse_json};
pub use leniency::{Leniency, LeniencyKind};
pub use operation::{AnswerWhen, Layer, Operation, OperationKind, Origin, Part};
pub use path::{Params, PathTemplate, Segment};
pub use router::{Candidates, Route};
pub use settings::{Settings, Slash};
pub use strictness::{Remarks, Strictness, WARNING_HEADER, header_text};
pub use validate::{Problem, Violation};
