//! The error atlas: for every failure inside the gateway, what each dialect says on the wire, as one page. Written
//! from the error tables, so that it cannot say anything else than they do.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::contract::{Contract, contract};
use crate::dialect::Dialect;
use crate::errors::{ErrorKind, ErrorRow, Outcome, TransportFault};
use crate::validate::Problem;

const HEAD: &str = "# Error atlas

Inside, the gateway knows fifteen kinds of failure, six failures of transport and eight ways in which a request can
break its schema. Each dialect has one total table that says what they become on the wire; this page is all of them.
`babelvisor atlas` prints it from the tables (`schemas/*/errors.json`), and a test holds that the two are equal.

Of the dialects that are built, tests provoke every line, in both directions: each failure answers as shown, and each
documented code is either reached or says why no call reaches it. Two things no client can bring about: `schema: other`
(no schema of theirs can fail so, which a test holds), and `IllegalState` in guest-rest (a store that fails with it does).
The others' tables are complete and checked, but nothing sends them yet.
";

/// The whole atlas as Markdown.
pub fn atlas() -> String {
    let mut page = HEAD.to_owned();
    glance(&mut page);
    for dialect in Dialect::ALL {
        chapter(&mut page, contract(dialect));
    }
    page
}

/// Every kind of failure against every dialect: status and code.
fn glance(page: &mut String) {
    line(page, "\n## At a glance\n");
    line(page, "HTTP status and code; the texts stand below.\n");
    let names: Vec<&str> = Dialect::ALL.iter().map(|dialect| dialect.name()).collect();
    line(page, &format!("| failure | {} |", names.join(" | ")));
    line(page, "|---|---|---|---|---|---|");
    let mut row = |name: &str, pick: &dyn Fn(&'static Contract) -> &'static Outcome| {
        let cells: Vec<String> = Dialect::ALL
            .into_iter()
            .map(|dialect| {
                let outcome = pick(contract(dialect));
                format!("{} · {}", outcome.status, outcome.row.code)
            })
            .collect();
        line(page, &format!("| `{name}` | {} |", cells.join(" | ")));
    };
    for kind in ErrorKind::ALL {
        row(kind.name(), &|contract| contract.errors().for_kind(*kind));
    }
    for fault in TransportFault::ALL {
        row(fault.name(), &|contract| contract.errors().for_fault(*fault));
    }
    for problem in Problem::ALL {
        row(&violation(problem), &|contract| {
            contract.errors().for_problem(problem)
        });
    }
}

fn chapter(page: &mut String, contract: &'static Contract) {
    let errors = contract.errors();
    let built = contract.operations().iter().any(|operation| operation.built);
    line(page, &format!("\n## {}\n", contract.dialect()));
    line(
        page,
        if built {
            "Built: what it says is provoked by tests."
        } else {
            "Not built yet: the table is checked, nothing sends it."
        },
    );
    line(page, "\nThe body of a failure (`?`: may be absent):\n");
    line(page, &format!("```\n{}\n```\n", shape(errors.body_schema())));
    if errors.rows().any(|row| row.plain_text) {
        line(page, "Where the body is called text, it is plain text instead.\n");
    }

    line(
        page,
        "| failure | status | code | English | Chinese | body | why this code |",
    );
    line(page, "|---|---|---|---|---|---|---|");
    for kind in ErrorKind::ALL {
        outcome(page, kind.name(), errors.for_kind(*kind));
    }
    for fault in TransportFault::ALL {
        outcome(page, fault.name(), errors.for_fault(*fault));
    }
    for problem in Problem::ALL {
        outcome(page, &violation(problem), errors.for_problem(problem));
    }

    line(page, "\nAll codes of the dialect:\n");
    line(
        page,
        "| code | status | English | Chinese | meaning | source | answered |",
    );
    line(page, "|---|---|---|---|---|---|---|");
    for row in errors.rows() {
        let answered = match (&row.unreachable, built) {
            (Some(reason), _) => format!("never: {reason}"),
            (None, true) => "by a test".to_owned(),
            (None, false) => "not built".to_owned(),
        };
        let code = if row.chosen {
            format!("{} (ours)", row.code)
        } else {
            row.code.clone()
        };
        cells(
            page,
            &[
                &code,
                &row.status.to_string(),
                row.en.as_deref().unwrap_or("–"),
                row.zh.as_deref().unwrap_or("–"),
                &row.meaning,
                &row.source,
                &answered,
            ],
        );
    }
}

/// One way out, with the texts of the trunk where the code is a branch.
fn outcome(page: &mut String, name: &str, outcome: &Outcome) {
    let texts = |pick: fn(&ErrorRow) -> Option<&String>| {
        let both = [outcome.parent.as_deref(), Some(&*outcome.row)];
        let texts: Vec<&str> = both
            .into_iter()
            .flatten()
            .filter_map(pick)
            .map(String::as_str)
            .collect();
        if texts.is_empty() {
            "–".to_owned()
        } else {
            texts.join(" / ")
        }
    };
    let code = match &outcome.parent {
        Some(parent) => format!("{} / {}", parent.code, outcome.row.code),
        None => outcome.row.code.clone(),
    };
    cells(
        page,
        &[
            &format!("`{name}`"),
            &outcome.status.to_string(),
            &code,
            &texts(|row| row.en.as_ref()),
            &texts(|row| row.zh.as_ref()),
            if outcome.row.plain_text { "text" } else { "JSON" },
            &outcome.reason,
        ],
    );
}

/// Kept apart from the faults of transport, which have names of the same kind.
fn violation(problem: Problem) -> String {
    format!("schema: {}", problem.name())
}

fn cells(page: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| cell.replace('|', "\\|").replace('\n', " "))
        .collect();
    line(page, &format!("| {} |", cells.join(" | ")));
}

fn line(page: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(page, "{text}");
}

/// A schema in the form of what it describes: `{"code": integer, "msg": string}`.
fn shape(schema: &Value) -> String {
    if let Some(members) = schema.get("properties").and_then(Value::as_object) {
        return object(schema, members);
    }
    if let Some(items) = schema.get("items") {
        return format!("[{}, …]", shape(items));
    }
    if let Some(only) = schema.get("const") {
        return only.to_string();
    }
    let named = match schema.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "anything".to_owned(),
    };
    match schema.get("pattern").and_then(Value::as_str) {
        Some(pattern) => format!("{named} /{pattern}/"),
        None => named,
    }
}

fn object(schema: &Value, members: &Map<String, Value>) -> String {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let members: Vec<String> = members
        .iter()
        .map(|(name, member)| {
            let optional = if required.contains(&name.as_str()) {
                ""
            } else {
                "?"
            };
            format!("\"{name}\"{optional}: {}", shape(member))
        })
        .collect();
    format!("{{{}}}", members.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shape_reads_like_what_it_describes() {
        let schema = json!({
            "type": "object", "required": ["code", "list"],
            "properties": {
                "code": {"type": "string", "pattern": "^[0-9]$"}, "ok": {"const": false}, "data": {},
                "list": {"type": "array", "items": {"type": ["string", "null"]}},
            },
        });
        assert_eq!(
            shape(&schema),
            r#"{"code": string /^[0-9]$/, "ok"?: false, "data"?: anything, "list": [string or null, …]}"#
        );
    }

    #[test]
    fn every_failure_has_a_line_in_every_chapter() {
        let page = atlas();
        for kind in ErrorKind::ALL {
            let lines = page.matches(&format!("| `{}` |", kind.name())).count();
            assert_eq!(lines, 1 + Dialect::ALL.len(), "{}", kind.name());
        }
        for dialect in Dialect::ALL {
            assert!(page.contains(&format!("\n## {dialect}\n")));
        }
    }
}
