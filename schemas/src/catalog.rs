//! The catalogue files as they are written: operations and structures with their fields.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::operation::OperationKind;

/// Where a request field travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Location {
    Path,
    Query,
    Body,
    Header,
}

impl Location {
    /// The word used in front of a field name in `dispositions.json`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Location::Path => "path",
            Location::Query => "query",
            Location::Body => "body",
            Location::Header => "header",
        }
    }
}

/// One row of a table of fields. All but the name may be absent, so that the same shape serves as an amendment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) name: String,
    #[serde(rename = "in")]
    pub(crate) location: Option<Location>,
    pub(crate) wrapper: Option<String>,
    #[serde(rename = "type")]
    pub(crate) type_name: Option<String>,
    pub(crate) required: Option<bool>,
    #[serde(rename = "enum")]
    pub(crate) allowed: Option<Vec<Value>>,
    pub(crate) default: Option<Value>,
    pub(crate) unit: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) pattern: Option<String>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) minimum: Option<i64>,
    pub(crate) maximum: Option<i64>,
    /// Only in amendments: the name that replaces the printed one.
    pub(crate) rename: Option<String>,
}

impl Field {
    /// The full dotted name: wrapper and name.
    pub(crate) fn full_name(&self) -> String {
        match &self.wrapper {
            Some(wrapper) => format!("{wrapper}.{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// One operation as the catalogue or the companions print it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CatalogOperation {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) title: String,
    pub(crate) kind: OperationKind,
    pub(crate) action: Option<String>,
    #[serde(default)]
    pub(crate) request: Vec<Field>,
    #[serde(default)]
    pub(crate) response: Vec<Field>,
    #[serde(default)]
    pub(crate) source: Option<String>,
}

/// A named structure.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Structure {
    pub(crate) fields: Vec<Field>,
}

/// `catalog.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Catalog {
    pub(crate) dialect: String,
    pub(crate) source: String,
    pub(crate) operations: Vec<CatalogOperation>,
    pub(crate) structures: HashMap<String, Structure>,
}

/// `companions.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Companions {
    pub(crate) operations: Vec<CatalogOperation>,
    /// What their answers hold, where the catalogue has no structure of that name.
    #[serde(default)]
    pub(crate) structures: HashMap<String, Structure>,
}
