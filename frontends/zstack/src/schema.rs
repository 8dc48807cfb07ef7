//! The `schema` member, which the Java SDK asks for with `X-JSON-Schema: true`: for each object of an answer its
//! path and its class, parents before children. Which object is of which class is read from the contract: an
//! answer's schema names the structure of every member.

use babelvisor_schemas::{Layer, Operation, Part};
use bytes::Bytes;
use serde_json::{Map, Value};

/// Packages of the original's classes; a class has its structure's name.
const PACKAGES: [(&str, &str); 29] = [
    ("AffinityGroupInventory", "org.zstack.header.affinitygroup"),
    ("AffinityGroupUsageInventory", "org.zstack.header.affinitygroup"),
    ("AccountInventory", "org.zstack.header.identity"),
    ("BackupStorageInventory", "org.zstack.header.storage.backup"),
    ("CloneVmInstanceInventory", "org.zstack.header.vm"),
    ("CloneVmInstanceResults", "org.zstack.header.vm"),
    ("ClusterInventory", "org.zstack.header.cluster"),
    ("DiskOfferingInventory", "org.zstack.header.configuration"),
    ("ErrorCode", "org.zstack.header.errorcode"),
    ("FreeIpInventory", "org.zstack.header.network.l3"),
    ("HostInventory", "org.zstack.header.host"),
    ("ImageBackupStorageRefInventory", "org.zstack.header.image"),
    ("ImageInventory", "org.zstack.header.image"),
    ("InstanceOfferingInventory", "org.zstack.header.configuration"),
    ("IpRangeInventory", "org.zstack.header.network.l3"),
    ("L2NetworkInventory", "org.zstack.header.network.l2"),
    ("L3NetworkInventory", "org.zstack.header.network.l3"),
    ("L3NetworkHostRouteInventory", "org.zstack.header.network.l3"),
    (
        "NetworkServiceL3NetworkRefInventory",
        "org.zstack.header.network.service",
    ),
    ("PrimaryStorageInventory", "org.zstack.header.storage.primary"),
    ("SchedulerInventory", "org.zstack.header.core.scheduler"),
    ("SessionInventory", "org.zstack.header.identity"),
    ("VmInstanceInventory", "org.zstack.header.vm"),
    ("VmNicInventory", "org.zstack.header.vm"),
    ("VolumeInventory", "org.zstack.header.volume"),
    (
        "VolumeSnapshotBackupStorageRefInventory",
        "org.zstack.header.storage.snapshot",
    ),
    ("VolumeSnapshotInventory", "org.zstack.header.storage.snapshot"),
    (
        "VolumeSnapshotTreeInventory",
        "org.zstack.header.storage.snapshot",
    ),
    ("ZoneInventory", "org.zstack.header.zone"),
];

/// `body`, the answer of `operation`, with its `schema` member. Left as it is if it has no object of a class.
pub(crate) fn described(operation: &Operation, body: Bytes) -> Bytes {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(&body) else {
        return body;
    };
    let document = operation.schema(Part::Answer, Layer::Document);
    let mut classes = Map::new();
    for (name, value) in &answer {
        let Some(member) = document.get("properties").and_then(|members| members.get(name)) else {
            continue;
        };
        walk(document, member, name, value, &mut classes);
    }
    if classes.is_empty() {
        return body;
    }
    answer.insert("schema".to_owned(), Value::Object(classes));
    serde_json::to_vec(&answer).map_or(body, Bytes::from)
}

fn walk(root: &Value, schema: &Value, path: &str, value: &Value, classes: &mut Map<String, Value>) {
    match value {
        Value::Object(members) => {
            let (structure, schema) = resolve(root, schema);
            if let Some(class) = structure.and_then(class) {
                classes.insert(path.to_owned(), Value::from(class));
            }
            let properties = schema.get("properties");
            for (name, value) in members.iter().filter(|(_, value)| !is_plain(value)) {
                if let Some(member) = properties.and_then(|properties| properties.get(name)) {
                    walk(root, member, &format!("{path}.{name}"), value, classes);
                }
            }
        }
        Value::Array(items) => {
            let (_, schema) = resolve(root, schema);
            let Some(item) = schema.get("items") else { return };
            for (place, value) in items.iter().enumerate() {
                walk(root, item, &format!("{path}[{place}]"), value, classes);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

const fn is_plain(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

/// Follows a reference; the structure's name with it.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> (Option<&'s str>, &'s Value) {
    let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
        return (None, schema);
    };
    let target = reference.strip_prefix('#').and_then(|path| root.pointer(path));
    (reference.rsplit('/').next(), target.unwrap_or(schema))
}

fn class(structure: &str) -> Option<String> {
    let (name, package) = PACKAGES.iter().find(|(name, _)| *name == structure)?;
    Some(format!("{package}.{name}"))
}

#[cfg(test)]
mod tests {
    use babelvisor_schemas::{Dialect, contract};
    use serde_json::json;

    use super::*;

    #[test]
    fn every_object_has_its_class_and_parents_come_first() {
        let operation = contract(Dialect::Zstack).operation("QueryVmInstance").unwrap();
        let body = json!({"inventories": [
            {"uuid": "a", "vmNics": [{"uuid": "n"}], "allVolumes": [{"uuid": "v"}]},
            {"uuid": "b", "vmNics": []},
        ]});
        let described = described(operation, body.to_string().into());
        let described: Value = serde_json::from_slice(&described).unwrap();
        let schema = described["schema"].as_object().unwrap();
        let vm = "org.zstack.header.vm.VmInstanceInventory";
        let rows: Vec<(&str, &str)> = schema
            .iter()
            .map(|(path, class)| (path.as_str(), class.as_str().unwrap()))
            .collect();
        assert_eq!(
            rows,
            [
                ("inventories[0]", vm),
                ("inventories[0].vmNics[0]", "org.zstack.header.vm.VmNicInventory"),
                (
                    "inventories[0].allVolumes[0]",
                    "org.zstack.header.volume.VolumeInventory"
                ),
                ("inventories[1]", vm),
            ]
        );
        assert_eq!(described["inventories"], body["inventories"]);
    }

    #[test]
    fn an_answer_without_objects_stays_as_it_is() {
        let operation = contract(Dialect::Zstack).operation("QueryVmInstance").unwrap();
        let body = Bytes::from_static(b"{\"total\":3}");
        assert_eq!(described(operation, body.clone()), body);
    }
}
