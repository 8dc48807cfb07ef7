//! One call as a handler gets it: who asks for what, and its parameters by name. What a client left out, left empty or
//! spelled in a way that names nothing is told apart here, once for all handlers.

use babelvisor_core::Error;
use babelvisor_core::frontend::Routed;
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::Caller;
use babelvisor_schemas::Operation;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::decode::{Content, shown, uuid};
use crate::error;

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is asked for.
    pub(crate) operation: &'static Operation,
    /// Who asks.
    pub(crate) caller: Caller,
    /// How its job is to be taken: under which id, and whom its end is told.
    pub(crate) options: SubmitOptions,
    /// Path parameters.
    pub(crate) path: Routed,
    /// The query, decoded, in its order. Aliases are resolved: `condition` is `q`.
    pub(crate) query: Vec<(String, String)>,
    /// What the wrapper holds.
    pub(crate) body: Map<String, Value>,
    /// `systemTags`.
    pub(crate) system_tags: Vec<String>,
    /// `userTags`.
    pub(crate) user_tags: Vec<String>,
}

impl Call {
    pub(crate) fn new(
        operation: &'static Operation,
        caller: Caller,
        options: SubmitOptions,
        path: Routed,
        content: Content,
    ) -> Self {
        Self {
            operation,
            caller,
            options,
            path,
            query: content.query,
            body: content.body,
            system_tags: content.system_tags,
            user_tags: content.user_tags,
        }
    }

    /// A path parameter.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.path.param(name)
    }

    /// A path parameter as an id. What cannot be one names nothing: `noun` is not found.
    pub(crate) fn path_id(&self, name: &str, noun: &str) -> Result<Uuid, Error> {
        let text = self.path(name);
        uuid(text).ok_or_else(|| error::no_resource(name, noun, &shown(text)))
    }

    /// The first value of a query parameter; empty is as good as absent.
    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        let mut named = self.query.iter().filter(|(key, _)| key == name);
        named
            .next()
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a query parameter.
    pub(crate) fn asked_all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.query
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A text of the wrapper; empty is as good as absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.body
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }

    /// A text of the wrapper that must be there.
    pub(crate) fn needed(&self, name: &str) -> Result<&str, Error> {
        self.text(name)
            .ok_or_else(|| error::mandatory(&self.operation.id, name))
    }

    /// A list of texts of the wrapper.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        let items = self.body.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// A whole number of the wrapper, however the client spelled it (`1.0`, `8.58E9`).
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        let value = self.body.get(name)?;
        let whole = |number: f64| (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i64);
        value.as_i64().or_else(|| value.as_f64().and_then(whole))
    }

    /// A flag of the wrapper.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.body.get(name).and_then(Value::as_bool)
    }

    /// An id of the wrapper that names a `noun`; none if the member is absent.
    pub(crate) fn id(&self, name: &str, noun: &str) -> Result<Option<Uuid>, Error> {
        let named = self
            .text(name)
            .map(|text| uuid(text).ok_or_else(|| error::no_resource(name, noun, &shown(text))));
        named.transpose()
    }

    /// An id of the wrapper that must be there.
    pub(crate) fn needed_id(&self, name: &str, noun: &str) -> Result<Uuid, Error> {
        self.id(name, noun)?
            .ok_or_else(|| error::mandatory(&self.operation.id, name))
    }

    /// The ids of a list of the wrapper.
    pub(crate) fn ids(&self, name: &str, noun: &str) -> Result<Vec<Uuid>, Error> {
        let texts = self.texts(name).into_iter();
        texts
            .map(|text| uuid(text).ok_or_else(|| error::no_resource(name, noun, &shown(text))))
            .collect()
    }
}
