//! What a run is told about its target: which capabilities stand behind it, and the names of things that scenarios
//! need and cannot make (a template, an account). A scenario that needs what is not there is skipped, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use babelvisor_core::capability::Capability;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::scenario;

/// The group of needs that speaks of the site, not of a backend.
const SITE: &str = "site";

/// The group of needs that names operations which the gateway must have.
pub(crate) const OPERATIONS: &str = "operations";

/// What is known about a target.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// The capabilities, `group.method`; `None`: all of them are there, as in an original system.
    pub capabilities: Option<BTreeSet<String>>,
    /// Facts for `${site.name}`: `template` (number of a template that boots; 1 unless told), `accounts`…
    pub vars: Map<String, Value>,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            capabilities: None,
            vars: Map::from_iter([("template".to_owned(), Value::from(1))]),
        }
    }
}

impl Site {
    /// Reads a site file (YAML: `capabilities` and `vars`).
    ///
    /// # Errors
    /// A text with file and line.
    pub fn parse(file: &str, text: &str) -> Result<Site, String> {
        let read: Site = scenario::read(file, text)?;
        let mut site = Site::default();
        site.vars.extend(read.vars);
        for name in read.capabilities.iter().flatten() {
            known(name).map_err(|why| format!("{file}: {why}"))?;
        }
        site.capabilities = read.capabilities;
        Ok(site)
    }

    /// Keeps only these capabilities.
    ///
    /// # Errors
    /// A name that is no capability.
    pub fn only(&mut self, names: impl IntoIterator<Item = String>) -> Result<(), String> {
        let names: BTreeSet<String> = names.into_iter().collect();
        names.iter().try_for_each(|name| known(name))?;
        self.capabilities = Some(names);
        Ok(())
    }

    /// Takes the capabilities from a gateway's own coverage report (`/_gw/coverage`).
    ///
    /// A running gateway says what each of its backends can do now; a capability is there if all of them have it. A report
    /// without that counts what built operations need that are supported on every backend of `kinds`.
    ///
    /// # Errors
    /// A report of another form.
    pub fn from_coverage(&mut self, report: &Value, kinds: &[String]) -> Result<(), String> {
        if let Some(backends) = report.get("backends").and_then(Value::as_object) {
            self.capabilities = Some(common(backends));
            return Ok(());
        }
        let rows = |list: &str| {
            report
                .get(list)
                .and_then(Value::as_array)
                .ok_or_else(|| format!("the coverage report has no list `{list}`"))
        };
        let mut there = BTreeSet::new();
        for row in rows("operations")?.iter().chain(rows("companions")?) {
            let member = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
            let supported = kinds.iter().all(|kind| {
                let support = row
                    .pointer(&format!("/backends/{kind}/support"))
                    .and_then(Value::as_str);
                matches!(support, Some("native" | "emulated"))
            });
            let dialect = babelvisor_schemas::Dialect::ALL
                .into_iter()
                .find(|dialect| dialect.name() == member("dialect"));
            let operation =
                dialect.and_then(|dialect| babelvisor_schemas::contract(dialect).operation(member("id")));
            if let (true, Some(operation)) = (supported, operation) {
                there.extend(operation.capabilities.iter().cloned());
            }
        }
        self.capabilities = Some(there);
        Ok(())
    }

    /// What a scenario needs and this target lacks.
    pub(crate) fn lacks(&self, needs: &BTreeMap<String, Vec<String>>) -> Option<String> {
        for (group, names) in needs {
            for name in names {
                if group == OPERATIONS {
                    continue;
                } else if group == SITE {
                    if !self.vars.contains_key(name) {
                        return Some(format!("the site does not say `{name}`"));
                    }
                } else if let Some(there) = &self.capabilities {
                    let capability = format!("{group}.{name}");
                    if !there.contains(&capability) {
                        return Some(format!("the target lacks {capability}"));
                    }
                }
            }
        }
        None
    }
}

/// What all backends can do, from `backend → { capabilities: { name → support } }`.
fn common(backends: &Map<String, Value>) -> BTreeSet<String> {
    let of = |backend: &Value| -> BTreeSet<String> {
        let verdicts = backend.get("capabilities").and_then(Value::as_object);
        let can = verdicts.into_iter().flatten().filter(|(_, verdict)| {
            let support = verdict.get("support").and_then(Value::as_str);
            matches!(support, Some("native" | "emulated"))
        });
        can.map(|(name, _)| name.clone()).collect()
    };
    let mut sets = backends.values().map(of);
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |all, one| all.intersection(&one).cloned().collect())
}

/// Checks the names of needs.
pub(crate) fn check_needs(needs: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (group, names) in needs
        .iter()
        .filter(|(group, _)| ![SITE, OPERATIONS].contains(&group.as_str()))
    {
        for name in names {
            known(&format!("{group}.{name}"))?;
        }
    }
    Ok(())
}

fn known(name: &str) -> Result<(), String> {
    Capability::from_str(name)
        .map(|_| ())
        .map_err(|_| format!("`{name}` is no capability"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn needs(group: &str, name: &str) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(group.to_owned(), vec![name.to_owned()])])
    }

    #[test]
    fn what_is_not_told_is_lacking_and_says_so() {
        let site = Site::parse(
            "site.yaml",
            "capabilities: [power.start]\nvars: { account: A1 }\n",
        )
        .unwrap();
        assert_eq!(site.lacks(&needs("power", "start")), None);
        assert_eq!(
            site.lacks(&needs("power", "suspend")).unwrap(),
            "the target lacks power.suspend"
        );
        assert_eq!(site.lacks(&needs("site", "account")), None);
        assert!(site.lacks(&needs("site", "secret")).is_some());
        assert_eq!(site.vars.get("template"), Some(&json!(1)));
    }

    #[test]
    fn names_that_are_no_capability_are_refused() {
        assert!(Site::parse("site.yaml", "capabilities: [power.fly]").is_err());
        assert!(
            Site::parse("site.yaml", "capability: []")
                .unwrap_err()
                .contains("site.yaml:1")
        );
    }

    #[test]
    fn what_all_backends_can_do_now_is_there() {
        let mut site = Site::default();
        let can = |support: &str| json!({"capabilities": {"power.start": {"support": "native"}, "power.suspend": {"support": support}}});
        let report = json!({"backends": {"one": can("emulated"), "two": can("impossible")}});
        site.from_coverage(&report, &[]).unwrap();
        assert_eq!(site.lacks(&needs("power", "start")), None);
        assert_eq!(
            site.lacks(&needs("power", "suspend")).unwrap(),
            "the target lacks power.suspend"
        );
        let report = json!({"backends": {"one": can("emulated")}});
        site.from_coverage(&report, &[]).unwrap();
        assert_eq!(site.lacks(&needs("power", "suspend")), None);
    }

    #[test]
    fn a_coverage_report_tells_the_capabilities() {
        let mut site = Site::default();
        let row = |id: &str, support: &str| json!({"dialect": "guest-rest", "id": id, "backends": {"memory": {"support": support}}});
        let report = json!({"operations": [row("guest.boot", "native"), row("guest.suspend", "impossible")], "companions": []});
        site.from_coverage(&report, &["memory".to_owned()]).unwrap();
        assert_eq!(site.lacks(&needs("power", "start")), None);
        assert!(site.lacks(&needs("power", "suspend")).is_some());
    }
}
