//! `choices.json`: what was chosen where sources differ, and how a choice changes the catalogue.
//!
//! The catalogue keeps what the document prints, mistakes included. A choice that alters a field says so as an
//! amendment, which is applied before any schema is made; so the reason and the effect stand in one place.

use std::collections::HashMap;

use serde::Deserialize;

use crate::catalog::{CatalogOperation, Field, Structure};
use crate::contract::ContractError;

/// One decision, with its reason and sources.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Short name, unique in its dialect.
    pub id: String,
    /// What the sources leave open.
    pub question: String,
    /// What the gateway does.
    pub choice: String,
    /// Why.
    pub reason: String,
    /// The documents and files that were weighed.
    pub sources: Vec<String>,
    #[serde(default)]
    pub(crate) amend: Vec<Amendment>,
}

/// The effect of a choice on the tables of fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Amendment {
    Structure {
        structure: String,
        fields: Vec<Field>,
    },
    Operation {
        operation: String,
        part: AmendedPart,
        fields: Vec<Field>,
    },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AmendedPart {
    Request,
    Response,
}

/// Applies all amendments, in the order of the file.
///
/// # Errors
/// A choice that names an operation or structure which does not exist, or adds a field without a type.
pub(crate) fn apply(
    choices: &[Choice],
    operations: &mut [CatalogOperation],
    structures: &mut HashMap<String, Structure>,
) -> Result<(), ContractError> {
    for choice in choices {
        for amendment in &choice.amend {
            let (target, fields) = match amendment {
                Amendment::Structure { structure, fields } => (
                    structures
                        .get_mut(structure)
                        .map(|found| &mut found.fields)
                        .ok_or_else(|| unknown(choice, structure))?,
                    fields,
                ),
                Amendment::Operation {
                    operation,
                    part,
                    fields,
                } => {
                    let found = operations
                        .iter_mut()
                        .find(|candidate| candidate.id == *operation)
                        .ok_or_else(|| unknown(choice, operation))?;
                    let target = match part {
                        AmendedPart::Request => &mut found.request,
                        AmendedPart::Response => &mut found.response,
                    };
                    (target, fields)
                }
            };
            for field in fields {
                merge(choice, target, field)?;
            }
        }
    }
    Ok(())
}

fn unknown(choice: &Choice, name: &str) -> ContractError {
    ContractError::Choice {
        choice: choice.id.clone(),
        detail: format!("`{name}` does not exist"),
    }
}

/// Changes every row that the amendment names, or adds a row where none is there.
fn merge(choice: &Choice, rows: &mut Vec<Field>, patch: &Field) -> Result<(), ContractError> {
    let mut found = false;
    for row in rows.iter_mut().filter(|row| names(row, patch)) {
        found = true;
        overlay(row, patch);
    }
    if found {
        return Ok(());
    }
    if patch.type_name.is_none() {
        let detail = format!("`{}` is a new field and needs a type", patch.name);
        return Err(ContractError::Choice {
            choice: choice.id.clone(),
            detail,
        });
    }
    rows.push(patch.clone());
    Ok(())
}

fn names(row: &Field, patch: &Field) -> bool {
    row.name == patch.name
        && (patch.location.is_none() || patch.location == row.location)
        && (patch.wrapper.is_none() || patch.wrapper == row.wrapper)
}

fn overlay(row: &mut Field, patch: &Field) {
    fn set<T: Clone>(target: &mut Option<T>, value: &Option<T>) {
        if value.is_some() {
            target.clone_from(value);
        }
    }
    set(&mut row.type_name, &patch.type_name);
    set(&mut row.required, &patch.required);
    set(&mut row.allowed, &patch.allowed);
    set(&mut row.default, &patch.default);
    set(&mut row.unit, &patch.unit);
    set(&mut row.note, &patch.note);
    set(&mut row.pattern, &patch.pattern);
    set(&mut row.min_length, &patch.min_length);
    set(&mut row.max_length, &patch.max_length);
    set(&mut row.minimum, &patch.minimum);
    set(&mut row.maximum, &patch.maximum);
    if let Some(name) = &patch.rename {
        row.name.clone_from(name);
    }
}
