//! How strict the dialects with sign-in are, over every operation that is built: a field that the document does not have,
//! and every documented one that would be ignored, is refused by its name where the site wants that, before anything is done.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod site;

use babelvisor_schemas::{Dialect, Disposition, Layer, Operation, Part, Strictness, contract};
use serde_json::{Map, Value, json};
use site::{Answer, SIGNED_IN, Site, built_of, send};

/// A name that no document has.
const STRANGER: &str = "favouriteColour";
/// A machine that there is not.
const NOBODY: &str = "0123456789abcdef0123456789abcdef";

/// Operations that begin or end a session, or that the server answers without a look at what is sent.
const DOORS: [&str; 5] = [
    "LogInByAccount",
    "LogOut",
    "GetApiJob",
    "auth.login",
    "auth.logout",
];

struct Client<'s> {
    site: &'s Site,
    dialect: Dialect,
    header: (&'static str, String),
}

impl Client<'_> {
    async fn send(&self, method: &str, target: &str, body: &Value) -> Answer {
        let headers = [(self.header.0, self.header.1.as_str())];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let frontend = self.site.frontend(self.dialect);
        let answer = send(frontend, self.dialect, method, target, &headers, body.as_bytes()).await;
        if self.dialect != Dialect::Zstack || answer.status != 202 {
            return answer;
        }
        // Even what is refused is told at the job's address.
        let job = answer.body["location"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        let target = format!("/zstack/v1/api-jobs/{job}");
        send(frontend, self.dialect, "GET", &target, &headers, b"").await
    }
}

fn target(operation: &Operation) -> String {
    let mut path = operation.path.as_str().to_owned();
    for name in operation.path.param_names() {
        path = path.replace(&format!("{{{name}}}"), NOBODY);
    }
    path
}

/// Where an operation's fields stand in its body; none for one without a body.
fn wrapper(operation: &Operation) -> Option<String> {
    if operation.dialect == Dialect::Zstack {
        let fields = operation.documented_fields();
        let wrapped = fields.iter().find_map(|field| {
            let field = field.strip_prefix("body.")?;
            let (wrapper, _) = field.split_once('.')?;
            Some(wrapper.to_owned())
        });
        return operation.action.clone().or(wrapped);
    }
    None
}

/// A call of the operation with this field, and what it cannot do without.
fn with(operation: &Operation, name: &str, value: Value) -> (String, Value) {
    let mut path = target(operation);
    let mut members = Map::new();
    let query = operation.schema(Part::Query, Layer::Document);
    for (needed, value) in required(query) {
        let mark = if path.contains('?') { '&' } else { '?' };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        path = format!("{path}{mark}{needed}={text}");
    }
    if operation.method == "GET" || operation.method == "DELETE" {
        let mark = if path.contains('?') { '&' } else { '?' };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return (format!("{path}{mark}{name}={text}"), Value::Null);
    }
    let body = operation.schema(Part::Body, Layer::Document);
    let body = match wrapper(operation) {
        Some(wrapper) => &body["properties"][&wrapper],
        None => body,
    };
    members.extend(required(body));
    members.insert(name.to_owned(), value);
    let body = match wrapper(operation) {
        Some(wrapper) => json!({ wrapper: members }),
        None => Value::Object(members),
    };
    (path, body)
}

/// What a schema requires, with values that fit.
fn required(schema: &Value) -> Vec<(String, Value)> {
    let names = schema.get("required").and_then(Value::as_array);
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    names
        .map(|name| {
            let value = sample(&schema["properties"][name]);
            (name.to_owned(), value.unwrap_or_else(|| json!("x")))
        })
        .collect()
}

/// Refused, and the field named.
fn refused_by_name(answer: &Answer, field: &str) -> Result<(), String> {
    let good = match answer.body.get("scode") {
        Some(code) => code == 0,
        None => answer.status == 200,
    };
    let text = answer.body.to_string();
    if good || !text.contains(field) {
        return Err(format!("{} {text}", answer.status));
    }
    Ok(())
}

async fn clients(site: &Site) -> Vec<Client<'_>> {
    let mut clients = Vec::new();
    for dialect in SIGNED_IN {
        clients.push(Client {
            site,
            dialect,
            header: site.signed_in(dialect).await,
        });
    }
    clients
}

/// Nothing was asked of the hypervisor, and no job is left.
async fn nothing_was_done(site: &Site) {
    let jobs = site.jobs(false).await;
    assert!(jobs.is_empty(), "a refused call left a job: {jobs:?}");
    assert_eq!(site.core.now().vms.len(), site::MACHINES.len());
}

#[tokio::test]
async fn a_stranger_is_refused_by_its_name_in_every_operation() {
    let site = Site::with(Strictness::Enforce).await;
    let mut faults = Vec::new();
    for client in clients(&site).await {
        for operation in built_of(&[client.dialect]).filter(|one| !DOORS.contains(&one.id.as_str())) {
            let (path, body) = with(operation, STRANGER, json!("red"));
            let answer = client.send(&operation.method, &path, &body).await;
            if let Err(fault) = refused_by_name(&answer, STRANGER) {
                faults.push(format!("{}: {fault}", operation.id));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    nothing_was_done(&site).await;
}

/// A value that fits a schema; none where it is not plain.
fn sample(schema: &Value) -> Option<Value> {
    if let Some(first) = schema
        .get("enum")
        .and_then(Value::as_array)
        .and_then(|all| all.first())
    {
        return Some(first.clone());
    }
    match schema.get("type").and_then(Value::as_str)? {
        "string" => Some(json!("x")),
        "integer" | "number" => Some(schema.get("minimum").cloned().unwrap_or(json!(1))),
        "boolean" => Some(json!(true)),
        "array" => Some(
            schema
                .get("items")
                .and_then(sample)
                .map_or(json!(["x"]), |item| json!([item])),
        ),
        _ => None,
    }
}

#[tokio::test]
async fn every_field_that_would_be_ignored_is_refused_by_its_name() {
    let site = Site::with(Strictness::Enforce).await;
    let (mut faults, mut tried) = (Vec::new(), 0);
    for client in clients(&site).await {
        for operation in built_of(&[client.dialect]).filter(|one| !DOORS.contains(&one.id.as_str())) {
            let fields = contract(client.dialect).dispositions().get(&operation.id);
            for (field, fate) in fields.into_iter().flatten() {
                if fate.on(Some("memory")).0 != Disposition::Ignored {
                    continue;
                }
                let Some(name) = field.strip_prefix("body.") else {
                    continue;
                };
                // Members of the wrapper, or of the body itself where there is none.
                let prefix = wrapper(operation).map(|wrapper| format!("{wrapper}."));
                let name = match &prefix {
                    Some(prefix) => name.strip_prefix(prefix.as_str()),
                    None => Some(name),
                };
                let Some(name) = name.filter(|name| !name.contains(['.', '[', '{'])) else {
                    continue;
                };
                let schema = operation.schema(Part::Body, Layer::Document);
                let schema = match wrapper(operation) {
                    Some(wrapper) => &schema["properties"][&wrapper]["properties"][name],
                    None => &schema["properties"][name],
                };
                let Some(value) = sample(schema) else { continue };
                tried += 1;
                let (path, body) = with(operation, name, value);
                let answer = client.send(&operation.method, &path, &body).await;
                if let Err(fault) = refused_by_name(&answer, name) {
                    faults.push(format!("{} {field}: {fault}", operation.id));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {tried}: {faults:#?}", faults.len());
    assert!(tried > 50, "only {tried} fields were tried");
    nothing_was_done(&site).await;
}

/// The key that names an operation is no stranger, also where the document prints nothing inside it.
#[tokio::test]
async fn the_name_of_an_operation_is_no_stranger() {
    let site = Site::with(Strictness::Enforce).await;
    let client = Client {
        site: &site,
        dialect: Dialect::Zstack,
        header: site.signed_in(Dialect::Zstack).await,
    };
    for operation in built_of(&[Dialect::Zstack]).filter(|one| !DOORS.contains(&one.id.as_str())) {
        let Some(action) = &operation.action else { continue };
        let body = json!({ action: {} });
        let answer = client.send(&operation.method, &target(operation), &body).await;
        let text = answer.body.to_string();
        assert!(!text.contains("is not known"), "{}: {text}", operation.id);
    }
}
