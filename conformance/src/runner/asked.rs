//! An answer asked: whether it is as expected, and what is kept of it.

use serde_json::Value;

use super::client::Got;
use super::diff::Difference;
use super::path::JsonPath;
use super::predicate::Predicate;
use super::scenario::{Expect, NotIn, SaveSpec};
use super::vars::Vars;

/// Asks an expectation of an answer; what does not hold is returned.
///
/// # Errors
/// A variable that is not set, or an operand that is none once the variables are known.
pub(crate) fn expected(vars: &Vars, expect: &Expect, got: &Got) -> Result<Vec<Difference>, String> {
    let mut found = Vec::new();
    let ask = |wanted: &Value, there: Option<&Value>, path: &str, found: &mut Vec<Difference>| {
        let predicate = Predicate::parse(&vars.fill(wanted)?)?;
        predicate.check(there, path, found);
        Ok::<(), String>(())
    };
    if let Some(wanted) = &expect.status {
        ask(wanted, Some(&Value::from(got.status)), "status", &mut found)?;
    }
    for (name, wanted) in &expect.headers {
        ask(
            wanted,
            got.header(name).as_ref(),
            &format!("header:{name}"),
            &mut found,
        )?;
    }
    if let Some(wanted) = &expect.body {
        ask(wanted, got.json.as_ref(), "$", &mut found)?;
    }
    for (path, wanted) in &expect.paths {
        let path = vars.text(path)?;
        let there = got
            .json
            .as_ref()
            .and_then(|body| JsonPath::parse(&path).ok()?.find(body));
        ask(wanted, there.as_ref(), &path, &mut found)?;
    }
    if let Some(wanted) = &expect.text {
        ask(wanted, Some(&Value::String(got.text.clone())), "text", &mut found)?;
    }
    Ok(found)
}

/// What is to be kept of an answer.
///
/// # Errors
/// Nothing is there.
pub(crate) fn kept(vars: &Vars, spec: &SaveSpec, got: &Got) -> Result<Value, String> {
    let (SaveSpec::Path(path) | SaveSpec::NotIn(NotIn { path, .. })) = spec;
    let path = vars.text(path)?;
    let nothing = || format!("nothing is at {path}");
    let value = match path.strip_prefix("header:") {
        Some(header) => got.header(header),
        None => match &got.json {
            Some(body) => JsonPath::parse(&path)?.find(body),
            None => None,
        },
    };
    let value = value.ok_or_else(nothing)?;
    let SaveSpec::NotIn(not_in) = spec else {
        return Ok(value);
    };
    let others = vars.fill(&not_in.not_in)?;
    let others = others.as_array().ok_or("`not_in` is no list")?;
    let items = value.as_array().ok_or("the path needs [*]")?;
    let fresh = items.iter().find(|item| !others.contains(item));
    fresh.cloned().ok_or_else(|| format!("{path} has nothing new"))
}
