//! Path templates: literal segments and named parameters.

use std::fmt;

use crate::settings::Slash;

/// One part of a path between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Text that must be there as it is.
    Literal(String),
    /// A parameter, by name. Takes any text but the empty one.
    Param(String),
}

/// A documented path such as `/api/guest/{uuid}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
}

/// The values of the parameters of a path, in the order of the path.
///
/// Values are as they stand in the path, percent signs included: decoding is the caller's, because only it knows
/// whether a decoded slash is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl PathTemplate {
    /// Reads a template. With [`Slash::Both`] one slash at the end is dropped.
    pub fn parse(text: &str, slash: Slash) -> PathTemplate {
        let segments = split(text, slash)
            .map(
                |part| match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                    Some(name) => Segment::Param(name.to_owned()),
                    None => Segment::Literal(part.to_owned()),
                },
            )
            .collect();
        PathTemplate {
            text: text.to_owned(),
            segments,
        }
    }

    /// The template as documented.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The names of the parameters in order.
    pub fn param_names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Param(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// The parameters of `path` if it fits this template.
    pub fn matches(&self, path: &str, slash: Slash) -> Option<Params> {
        let mut params = Vec::new();
        let mut parts = split(path, slash);
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(text) if text == part => {}
                Segment::Param(name) if !part.is_empty() => params.push((name.clone(), part.to_owned())),
                Segment::Literal(_) | Segment::Param(_) => return None,
            }
        }
        parts.next().is_none().then_some(Params(params))
    }

    /// Names the values that a router collected for this template.
    pub(crate) fn bind(&self, values: &[String]) -> Params {
        Params(
            self.param_names()
                .map(str::to_owned)
                .zip(values.iter().cloned())
                .collect(),
        )
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Params {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Names and values in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The parts of a path without its leading slash.
pub(crate) fn split(path: &str, slash: Slash) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = match slash {
        Slash::Both => path.strip_suffix('/').unwrap_or(path),
        Slash::Exact => path,
    };
    path.split('/')
}
