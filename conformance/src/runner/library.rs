//! Where scenarios come from: those built into the library, or a directory in their place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use babelvisor_schemas::Dialect;

use super::scenario::{Fixture, Scenario, Session, read};
use super::vars::has_variable;

/// The files under `scenarios/`, as they were when the library was built.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));

/// Why scenarios cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// A file or directory cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Files say what the format does not have; one line for each, with file and line.
    #[error("{}", .0.join("\n"))]
    Format(Vec<String>),
}

/// A scenario with its name: the file's, without `.yaml`.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) scenario: Scenario,
}

/// All scenarios of a dialect with what they share.
#[derive(Debug)]
pub struct Library {
    pub(crate) dialect: Dialect,
    pub(crate) scenarios: Vec<Named>,
    pub(crate) fixtures: BTreeMap<String, (String, Fixture)>,
    pub(crate) sessions: BTreeMap<String, (String, Session)>,
    pub(crate) untestable: BTreeMap<String, String>,
}

impl Library {
    /// The scenarios that are built in.
    ///
    /// # Errors
    /// [`LibraryError::Format`]: then the build itself is at fault; a test holds that it is not.
    pub fn built_in(dialect: Dialect) -> Result<Library, LibraryError> {
        let prefix = format!("{}/", dialect.name());
        let files = BUILT_IN
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Library::of(dialect, files)
    }

    /// The scenarios under `<root>/<dialect>/`.
    ///
    /// # Errors
    /// A file that cannot be read or is not in the format.
    pub fn read(root: &Path, dialect: Dialect) -> Result<Library, LibraryError> {
        let mut files = Vec::new();
        collect(root, &root.join(dialect.name()), &mut files)?;
        files.sort();
        Library::of(dialect, files.into_iter())
    }

    fn of(dialect: Dialect, files: impl Iterator<Item = (String, String)>) -> Result<Library, LibraryError> {
        let mut library = Library {
            dialect,
            scenarios: Vec::new(),
            fixtures: BTreeMap::new(),
            sessions: BTreeMap::new(),
            untestable: BTreeMap::new(),
        };
        let mut wrong = Vec::new();
        for (file, text) in files {
            if let Err(why) = library.take(&file, &text) {
                wrong.push(why);
            }
        }
        for named in &library.scenarios {
            for fixture in &named.scenario.fixtures {
                if !library.fixtures.contains_key(fixture) {
                    wrong.push(format!("{}: there is no fixture `{fixture}`", named.file));
                }
            }
            let needs = named.scenario.needs.get(super::site::OPERATIONS);
            for id in needs.into_iter().flatten() {
                if babelvisor_schemas::contract(dialect).operation(id).is_none() {
                    wrong.push(format!("{}: there is no operation `{id}`", named.file));
                }
            }
            for session in library.whose(named) {
                let known = library.sessions.contains_key(session) || session == super::session::NOBODY;
                if !known && !has_variable(session) {
                    wrong.push(format!("{}: there is no session `{session}`", named.file));
                }
            }
        }
        if wrong.is_empty() {
            Ok(library)
        } else {
            Err(LibraryError::Format(wrong))
        }
    }

    fn take(&mut self, file: &str, text: &str) -> Result<(), String> {
        let inside = file
            .strip_prefix(&format!("{}/", self.dialect.name()))
            .unwrap_or(file)
            .trim_end_matches(".yaml");
        if inside == "untestable" {
            self.untestable = read(file, text)?;
            if let Some((id, _)) = self
                .untestable
                .iter()
                .find(|(_, reason)| reason.trim().is_empty())
            {
                return Err(format!("{file}: `{id}` needs a reason"));
            }
        } else if let Some(name) = inside.strip_prefix("sessions/") {
            let session: Session = read(file, text)?;
            session.check(file)?;
            self.sessions.insert(name.to_owned(), (file.to_owned(), session));
        } else if let Some(name) = inside.strip_prefix("fixtures/") {
            let fixture: Fixture = read(file, text)?;
            fixture.check(file)?;
            self.fixtures.insert(name.to_owned(), (file.to_owned(), fixture));
        } else {
            let scenario: Scenario = read(file, text)?;
            scenario.check(file)?;
            self.scenarios.push(Named {
                name: inside.to_owned(),
                file: file.to_owned(),
                scenario,
            });
        }
        Ok(())
    }

    /// The operations that a scenario needs and the gateway does not have yet.
    pub(crate) fn unbuilt<'l>(&'l self, named: &'l Named) -> impl Iterator<Item = &'l str> {
        let contract = babelvisor_schemas::contract(self.dialect);
        let needs = named.scenario.needs.get(super::site::OPERATIONS);
        let needs = needs.into_iter().flatten().map(String::as_str);
        needs.filter(move |id| contract.operation(id).is_none_or(|operation| !operation.built))
    }

    /// The names of the scenarios that need nothing which the gateway does not have yet.
    pub fn playable(&self) -> impl Iterator<Item = &str> {
        let playable = self
            .scenarios
            .iter()
            .filter(|named| self.unbuilt(named).next().is_none());
        playable.map(|named| named.name.as_str())
    }

    /// The sessions that a scenario and its fixtures name.
    pub(crate) fn whose<'l>(&'l self, named: &'l Named) -> impl Iterator<Item = &'l str> {
        let scenario = &named.scenario;
        let own = scenario
            .setup
            .iter()
            .chain(&scenario.steps)
            .chain(&scenario.cleanup);
        let fixtures = scenario
            .fixtures
            .iter()
            .filter_map(|name| self.fixtures.get(name));
        let theirs = fixtures.flat_map(|(_, fixture)| fixture.setup.iter().chain(&fixture.cleanup));
        scenario
            .as_
            .as_deref()
            .into_iter()
            .chain(own.chain(theirs).filter_map(|step| step.value.as_.as_deref()))
    }

    /// The names of the scenarios, with what they say about themselves.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.scenarios
            .iter()
            .map(|named| (named.name.as_str(), named.scenario.desc.as_str()))
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> Result<(), LibraryError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LibraryError::Read { path, source }
    };
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|kind| kind == "yaml") {
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            files.push((name, std::fs::read_to_string(&path).map_err(failed(&path))?));
        }
    }
    Ok(())
}
