//! Documented examples: sent as printed with what must be replaced replaced, and their answers compared by shape.

use std::collections::BTreeMap;

use serde_json::Value;

use super::client::Got;
use super::corpus::Example;
use super::diff::{Difference, DifferenceKind, shape};
use super::path::{JsonPath, written};
use super::scenario::{ExampleSpec, RequestSpec};
use super::vars::Vars;

/// An example ready to be sent and judged: its texts replaced, its variables filled.
#[derive(Debug)]
pub(crate) struct Golden {
    pub(crate) request: RequestSpec,
    status: Option<u16>,
    body: Option<Value>,
    same: Vec<String>,
    differs: BTreeMap<String, String>,
}

impl Golden {
    /// Makes it from the document and the step.
    ///
    /// # Errors
    /// A variable that is not set, or an example without a request.
    pub(crate) fn new(
        spec: &ExampleSpec,
        example: &Example,
        method: &str,
        template: &str,
        vars: &Vars,
    ) -> Result<Golden, String> {
        let mut replace = BTreeMap::new();
        for (printed, live) in &spec.replace {
            replace.insert(printed.clone(), vars.fill(live)?);
        }
        let request = example.request.as_ref();
        let path = request
            .and_then(|request| request.path.as_deref())
            .unwrap_or(template);
        let Value::String(path) = replaced(&Value::String(path.to_owned()), &replace) else {
            return Err("a path was replaced by something that is no text".to_owned());
        };
        let mut query = request
            .and_then(|request| request.query.clone())
            .unwrap_or_default();
        for (name, value) in &spec.query {
            query.insert(name.clone(), vars.fill(value)?);
        }
        let printed = request.and_then(|request| request.body.as_ref());
        let body = match (&spec.body, printed) {
            (Some(body), _) => Some(vars.fill(body)?),
            (None, Some(printed)) => Some(replaced(printed, &replace)),
            (None, None) => None,
        };
        let answer = example.response.as_ref();
        Ok(Golden {
            request: RequestSpec {
                method: method.to_owned(),
                path,
                query,
                headers: BTreeMap::new(),
                body,
                text: None,
            },
            status: answer.and_then(|answer| answer.status),
            body: answer
                .and_then(|answer| answer.body.as_ref())
                .map(|body| replaced(body, &replace)),
            same: spec.same.clone(),
            differs: spec.differs.clone(),
        })
    }

    /// Compares the live answer with the printed one.
    pub(crate) fn judge(&self, got: &Got) -> Vec<Difference> {
        let mut found = Vec::new();
        if let Some(status) = self.status.filter(|status| *status != got.status) {
            let received = Value::from(got.status);
            found.push(Difference::new(
                "status",
                DifferenceKind::OtherValue,
                status.to_string(),
                Some(&received),
            ));
        }
        let Some(printed) = &self.body else { return found };
        let Some(live) = &got.json else {
            found.push(Difference::new("$", DifferenceKind::OtherType, "JSON", None));
            return found;
        };
        let mut shapes = Vec::new();
        shape(printed, live, "$", &mut shapes);
        found.extend(
            shapes
                .into_iter()
                .filter(|one| !self.differs.contains_key(&one.path)),
        );
        for path in &self.same {
            let at = |value: &Value| JsonPath::parse(path).ok().and_then(|path| path.find(value));
            let (wanted, there) = (at(printed), at(live));
            if wanted != there {
                let wanted = wanted.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
                found.push(Difference::new(
                    path,
                    DifferenceKind::OtherValue,
                    wanted,
                    there.as_ref(),
                ));
            }
        }
        found
    }
}

/// A printed value with the replacements made: a text that is wholly printed takes the live value with its type.
fn replaced(value: &Value, replace: &BTreeMap<String, Value>) -> Value {
    match value {
        Value::String(text) => match replace.get(text) {
            Some(live) => live.clone(),
            None => Value::String(replace.iter().fold(text.clone(), |text, (printed, live)| {
                text.replace(printed.as_str(), &written(live))
            })),
        },
        Value::Array(items) => Value::Array(items.iter().map(|item| replaced(item, replace)).collect()),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, member)| (name.clone(), replaced(member, replace)))
                .collect(),
        ),
        other => other.clone(),
    }
}
