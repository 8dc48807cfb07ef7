//! First-boot settings: from the document's form to what guests read.

use babelvisor_core::layers::CreateRequest;
use babelvisor_core::secret::Secret;
use serde_json::{Map, Value};

use crate::error::Fault;

/// Under which name they are recorded, sealed: they hold passwords.
pub(crate) const RECORDED: &str = "compute.cloud_init_data";

/// What stands in `user_data` under a name of the product's own → what guests call it. `{"value": x}` is x.
const NAMES: [(&str, &[&str], &str); 8] = [
    ("set_passwd", &["ssh_pwauth"], "ssh_pwauth"),
    ("set_passwd", &["chpasswd"], "chpasswd"),
    ("time_zone", &["timezone"], "timezone"),
    ("ssh", &["disable_root"], "disable_root"),
    ("ssh", &["ssh_authorized_keys"], "ssh_authorized_keys"),
    ("users", &[], "users"),
    ("runcmd", &[], "runcmd"),
    ("growpart", &[], "growpart"),
];

/// Puts the settings into a creation.
///
/// # Errors
/// 10001 for settings that are no object.
pub(super) fn apply(data: &Value, request: &mut CreateRequest) -> Result<(), Fault> {
    let Value::Object(_) = data else {
        return Err(Fault::parameter("cloud_init_data: expected object"));
    };
    let text = |pointer: &str| {
        let text = data.pointer(pointer).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    };
    if let Some(name) = text("/meta_data/hostname") {
        request.hostname = Some(name.to_owned());
    }
    let keys = text("/meta_data/public_keys/key").unwrap_or_default();
    request.ssh_keys.extend(
        keys.lines()
            .filter(|key| !key.trim().is_empty())
            .map(str::to_owned),
    );
    if let Some(config) = data
        .get("user_data")
        .map(cloud_config)
        .filter(|config| !config.is_empty())
    {
        // JSON is YAML.
        let config = format!("#cloud-config\n{}\n", Value::Object(config));
        request.user_data = Some(Secret::new(config));
    }
    Ok(())
}

fn cloud_config(user_data: &Value) -> Map<String, Value> {
    let mut config = Map::new();
    for (section, path, name) in NAMES {
        let found = path.iter().try_fold(user_data.get(section), |value, step| {
            value.map(|value| value.get(step))
        });
        if let Some(value) = found.flatten().map(plain).filter(|value| !says_nothing(value)) {
            config.insert(name.to_owned(), value);
        }
    }
    // Guests want the list of passwords as lines.
    if let Some(Value::Array(lines)) = config.get("chpasswd").and_then(|change| change.get("list")) {
        let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
        let lines = lines.join("\n");
        if let Some(Value::Object(change)) = config.get_mut("chpasswd") {
            change.insert("list".to_owned(), lines.into());
        }
    }
    config
}

/// Takes the wrapping of single values away, at every depth.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) => match (members.len(), members.get("value")) {
            (1, Some(value)) => plain(value),
            _ => Value::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.clone(), plain(value)))
                    .collect(),
            ),
        },
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        _ => value.clone(),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_become_what_a_guest_reads() {
        let data = json!({
            "meta_data": {"hostname": "web", "public_keys": {"key": "ssh-ed25519 AAAA ann\n\nssh-ed25519 BBBB bob"}},
            "user_data": {
                "set_passwd": {
                    "ssh_pwauth": {"value": true},
                    "chpasswd": {"expire": {"value": false}, "list": ["root:Reef-7", "ann:Lamp-8"]},
                },
                "time_zone": {"timezone": "Asia/Shanghai"}, "ssh": {"disable_root": {"value": false}},
                "users": {}, "runcmd": {}, "growpart": {"mode": "auto"},
            },
        });
        let mut request = CreateRequest::default();
        assert!(apply(&data, &mut request).is_ok());
        assert_eq!(request.hostname.as_deref(), Some("web"));
        assert_eq!(request.ssh_keys, ["ssh-ed25519 AAAA ann", "ssh-ed25519 BBBB bob"]);
        let text = request.user_data.unwrap();
        let (head, body) = text.expose().split_once('\n').unwrap();
        assert_eq!(head, "#cloud-config");
        assert_eq!(
            serde_json::from_str::<Value>(body).unwrap(),
            json!({
                "ssh_pwauth": true, "chpasswd": {"expire": false, "list": "root:Reef-7\nann:Lamp-8"},
                "timezone": "Asia/Shanghai", "disable_root": false, "growpart": {"mode": "auto"},
            })
        );
    }

    #[test]
    fn settings_that_say_nothing_ask_for_nothing() {
        let mut request = CreateRequest::default();
        assert!(
            apply(
                &json!({"meta_data": {}, "user_data": {"users": {}}}),
                &mut request
            )
            .is_ok()
        );
        assert!(request.user_data.is_none() && request.ssh_keys.is_empty());
        assert!(apply(&json!("x"), &mut request).is_err());
    }
}
