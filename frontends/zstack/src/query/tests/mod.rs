//! The engine against the plain reading of the language, on random worlds and random questions; and random text
//! against everything.

mod world;

use babelvisor_core::model::TenantId;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::eval;
use super::index::{Index, Indexes};
use super::parse::Question;
use super::plan::Plan;
use super::reference::{Asked, Everything, sort};
use super::render;
use super::table::{Resource, World};
use crate::resources::{self, Row};
use world::{
    Seed, TENANTS, at, flavor_id, host_id, image_id, many, moment, network_id, seed, vm_id, volume_id, world,
};

const PARTS: [(&str, &Resource); 9] = [
    ("vm", &resources::VM_INSTANCE),
    ("nic", &resources::VM_NIC),
    ("volume", &resources::VOLUME),
    ("host", &resources::HOST),
    ("zone", &resources::ZONE),
    ("cluster", &resources::CLUSTER),
    ("image", &resources::IMAGE),
    ("offering", &resources::INSTANCE_OFFERING),
    ("l3", &resources::L3_NETWORK),
];

fn as_json(world: &World<'_>, resource: &'static Resource, row: Row<'_>) -> Map<String, Value> {
    let mut bytes = Vec::new();
    render::row(world, resource, row, &mut bytes);
    serde_json::from_slice(&bytes).unwrap()
}

/// Everything that a caller sees, as answers would show it.
fn everything(world: &World<'_>) -> Everything {
    let all = Plan::new(&resources::ZONE, &Question::default(), world.zone).unwrap();
    let mut everything = Everything::default();
    for (name, resource) in PARTS {
        let rows = eval::find(world, resource, &all).rows;
        for row in &rows {
            let json = as_json(world, resource, *row);
            let uuid = json["uuid"].as_str().unwrap().to_owned();
            let texts = |system| -> Vec<String> {
                resources::tags(world, *row, system)
                    .into_iter()
                    .map(|tag| match tag {
                        super::value::Value::Text(text) => text.into_owned(),
                        other => panic!("{other:?} is no tag"),
                    })
                    .collect()
            };
            everything.system_tags.insert(uuid.clone(), texts(true));
            everything.user_tags.insert(uuid, texts(false));
        }
        let rows = rows.into_iter().map(|row| as_json(world, resource, row));
        everything.rows.insert(name, rows.collect());
    }
    everything
}

/// Paths of conditions on machines, interfaces and hosts with a kind of value.
const PATHS: [(&str, &str, &str); 39] = [
    ("vm", "name", "text"),
    ("vm", "description", "text"),
    ("vm", "state", "state"),
    ("vm", "uuid", "vm"),
    ("vm", "hostUuid", "host"),
    ("vm", "lastHostUuid", "host"),
    ("vm", "zoneUuid", "zone"),
    ("vm", "clusterUuid", "zone"),
    ("vm", "imageUuid", "image"),
    ("vm", "instanceOfferingUuid", "image"),
    ("vm", "rootVolumeUuid", "vm"),
    ("vm", "cpuNum", "number"),
    ("vm", "memorySize", "number"),
    ("vm", "createDate", "date"),
    ("vm", "__systemTag__", "tag"),
    ("vm", "__userTag__", "tag"),
    ("vm", "vmNics.ip", "ip"),
    ("vm", "vmNics.deviceId", "number"),
    ("vm", "vmNics.l3Network.name", "net"),
    ("vm", "allVolumes.size", "number"),
    ("vm", "allVolumes.isShareable", "flag"),
    ("vm", "rootVolume.deviceId", "number"),
    ("vm", "host.name", "hostname"),
    ("vm", "host.zone.name", "zonename"),
    ("vm", "zone.name", "zonename"),
    ("vm", "image.name", "text"),
    ("vm", "instanceOffering.name", "text"),
    ("nic", "ip", "ip"),
    ("nic", "vmInstanceUuid", "vm"),
    ("nic", "vmInstance.state", "state"),
    ("nic", "l3NetworkUuid", "network"),
    ("volume", "vmInstance.name", "text"),
    ("volume", "name", "text"),
    ("volume", "uuid", "volume"),
    ("volume", "vmInstanceUuid", "vm"),
    ("volume", "size", "number"),
    ("volume", "isShareable", "flag"),
    ("host", "vmInstance.name", "text"),
    ("zone", "vmInstance.vmNics.ip", "ip"),
];

const OPERATORS: [&str; 12] = [
    "=", "!=", ">", ">=", "<", "<=", "?=", "!?=", "~=", "!~=", "is null", "not null",
];

fn value_of(kind: &'static str) -> BoxedStrategy<String> {
    let pick = |texts: Vec<String>| proptest::sample::select(texts).boxed();
    let texts = |texts: &[&str]| pick(texts.iter().map(|text| (*text).to_owned()).collect());
    match kind {
        "text" => texts(&["web-1", "web%", "WEB-_", "%b%", "ÜNÏX", "null", "", "zzz", "d"]),
        "state" => texts(&["Running", "running", "Stopped", "Destroyed", "%ing", "Nothing"]),
        "number" => texts(&["0", "1", "2", "3.0", "1073741824", "2.147483648E9"]),
        "flag" => texts(&["true", "false", "nonsense"]),
        "date" => {
            let dates = (0..6).map(|day| crate::dates::print(at(day), &TimeZone::UTC));
            pick(dates.chain(["2017-07-15 02:40:00".to_owned()]).collect())
        }
        "tag" => texts(&["hostname::web-1", "hostname::%", "team::db", "team::%", "null"]),
        "ip" => texts(&["10.0.0.1", "10.0.0.3", "10.0.0.%", "11.0.0.1"]),
        "net" => texts(&["net-0", "net-1", "net-%", "NET-0"]),
        "hostname" => texts(&["host-0", "host-2", "host-%", "nohost"]),
        "zonename" => texts(&["zone-0", "zone-1", "zone-_"]),
        "vm" => pick(
            (1..4)
                .map(|number| vm_id(number).simple())
                .chain(["nonsense".to_owned()])
                .collect(),
        ),
        "volume" => pick(
            (1..6)
                .map(|number| volume_id(number).simple())
                .chain(["x".to_owned()])
                .collect(),
        ),
        "host" => pick(
            (0..3)
                .map(|number| host_id(number).simple().to_uppercase())
                .collect(),
        ),
        "image" => pick(
            (0..2)
                .flat_map(|n| [image_id(n).simple(), flavor_id(n).simple()])
                .collect(),
        ),
        "network" => pick((0..3).map(|number| network_id(number).simple()).collect()),
        "zone" => {
            let now = moment(&[], 0);
            let ids = now
                .hosts
                .values()
                .flat_map(|host| [host.zone_id().simple(), host.cluster_id().simple()]);
            pick(ids.collect())
        }
        other => panic!("{other} is no kind"),
    }
}

fn condition(of: &'static str) -> impl Strategy<Value = Asked> {
    let paths: Vec<_> = PATHS.iter().filter(|(resource, ..)| *resource == of).collect();
    proptest::sample::select(paths).prop_flat_map(|(_, path, kind)| {
        let operators = OPERATORS.into_iter().filter(|operator| match *kind {
            // Patterns are for text; a date or number is compared.
            "number" | "flag" => !operator.contains('~'),
            // A printed date has a comma of its own, which the plain reading does not know.
            "date" => !operator.contains(['~', '?']),
            _ => true,
        });
        // Half of all conditions are of the kind that an index can help with: it must not lose anything.
        let operators: Vec<&str> = operators.chain(["=", "?="].repeat(3)).collect();
        let operators: Vec<&str> = operators
            .into_iter()
            .filter(|operator| *kind != "date" || *operator != "?=")
            .collect();
        let values = proptest::collection::vec(value_of(kind), 1..3);
        (
            Just((*path).to_owned()),
            proptest::sample::select(operators),
            values,
        )
            .prop_map(|(path, operator, values)| {
                let value = match operator {
                    "is null" | "not null" => String::new(),
                    "?=" | "!?=" => values.join(","),
                    _ => values.into_iter().next().unwrap(),
                };
                (path, operator, value)
            })
    })
}

/// The condition as a client writes it.
fn written((path, operator, value): &Asked) -> String {
    match *operator {
        "is null" | "not null" => format!("{path} {operator}"),
        symbol => format!("{path}{symbol}{value}"),
    }
}

fn question(asked: &[Asked]) -> Question {
    let texts: Vec<String> = asked.iter().map(written).collect();
    Question::read(texts.iter().map(|text| ("q", text.as_str()))).unwrap()
}

fn machines() -> impl Strategy<Value = Vec<Option<Seed>>> {
    proptest::collection::vec(proptest::option::weighted(0.9, seed()), 0..8)
}

fn found(world: &World<'_>, resource: &'static Resource, question: &Question) -> Vec<Map<String, Value>> {
    let plan = Plan::new(resource, question, world.zone).unwrap();
    let rows = eval::find(world, resource, &plan).rows;
    rows.into_iter()
        .map(|row| as_json(world, resource, row))
        .collect()
}

const ASKED: [(&str, &Resource); 5] = [
    ("vm", &resources::VM_INSTANCE),
    ("nic", &resources::VM_NIC),
    ("volume", &resources::VOLUME),
    ("host", &resources::HOST),
    ("zone", &resources::ZONE),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// The index has followed from another moment: machines came, went, changed, were trashed and recovered.
    #[test]
    fn the_engine_finds_what_the_plain_reading_finds(
        before in machines(),
        after in machines(),
        tenant in proptest::option::of(0..2_usize),
        (of, asked) in proptest::sample::select(vec![0, 0, 0, 1, 1, 2, 2, 3, 4]).prop_flat_map(|place| {
            (Just(place), proptest::collection::vec(condition(ASKED[place].0), 0..4))
        }),
    ) {
        let zone = TimeZone::UTC;
        let indexes = Indexes::default();
        indexes.of(&moment(&before, 1));
        let now = moment(&after, 2);
        let index = indexes.of(&now);
        let tenant = tenant.map(|place| TenantId::new(TENANTS[place]));
        let world = world(&now, &index, tenant.as_ref(), &zone);
        let (name, resource) = ASKED[of];
        let expected = everything(&world).find(name, &asked);
        prop_assert_eq!(found(&world, resource, &question(&asked)), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn pages_orders_and_counts_are_those_of_the_plain_reading(
        machines in machines(),
        asked in proptest::collection::vec(condition("vm"), 0..2),
        sorted in proptest::option::of((proptest::sample::select(vec!["name", "cpuNum", "createDate", "description", "state"]), any::<bool>())),
        group in proptest::option::of(proptest::sample::select(vec!["name", "state", "cpuNum", "imageUuid"])),
        (start, limit) in (0..4_usize, 0..5_usize),
        (count, with_count) in any::<(bool, bool)>(),
    ) {
        let zone = TimeZone::UTC;
        let indexes = Indexes::default();
        let now = moment(&machines, 1);
        let index = indexes.of(&now);
        let world = world(&now, &index, None, &zone);
        let mut expected = everything(&world).find("vm", &asked);
        let total = expected.len();
        let mut question = question(&asked);
        (question.start, question.limit) = (start, limit);
        (question.count, question.reply_with_count) = (count, with_count);
        if let Some((field, down)) = sorted {
            sort(&mut expected, field, down);
            question.sort = Some((field.to_owned(), down));
        }
        if let Some(field) = group {
            let mut seen: Vec<Option<String>> = Vec::new();
            expected.retain(|row| {
                let value = row.get(field).map(|value| value.to_string().to_lowercase());
                let new = !seen.contains(&value);
                seen.push(value);
                new
            });
            question.group_by = Some(field.to_owned());
        }
        let plan = Plan::new(&resources::VM_INSTANCE, &question, &zone).unwrap();
        let found = eval::find(&world, &resources::VM_INSTANCE, &plan);
        prop_assert_eq!(found.total, (count || with_count).then_some(total));
        let rows: Vec<_> = found.rows.into_iter().map(|row| as_json(&world, &resources::VM_INSTANCE, row)).collect();
        let page: Vec<_> = expected.into_iter().skip(start).take(limit).collect();
        prop_assert_eq!(rows, if count { Vec::new() } else { page });
    }

    #[test]
    fn no_question_panics_whatever_it_says(
        machines in machines(),
        texts in proptest::collection::vec(("[a-zA-Z_.]{0,24}", "[=!?~<>]{0,3}", "\\PC{0,12}"), 0..4),
        (sort, group, fields) in ("\\PC{0,8}", "\\PC{0,8}", "\\PC{0,12}"),
        numbers in ("\\PC{0,4}", "[0-9]{0,25}"),
    ) {
        let zone = TimeZone::UTC;
        let now = moment(&machines, 1);
        let index = Indexes::default().of(&now);
        let world = world(&now, &index, None, &zone);
        let conditions: Vec<String> = texts.iter().map(|(name, operator, value)| format!("{name}{operator}{value}")).collect();
        let mut pairs: Vec<(&str, &str)> = conditions.iter().map(|text| ("q", text.as_str())).collect();
        pairs.extend([("sort", sort.as_str()), ("groupBy", &group), ("fields", &fields)]);
        pairs.extend([("start", numbers.0.as_str()), ("limit", &numbers.1)]);
        for resource in super::RESOURCES {
            let Ok(question) = Question::read(pairs.iter().copied()) else { continue };
            if let Ok(plan) = Plan::new(resource, &question, &zone) {
                eval::find(&world, resource, &plan);
            }
        }
    }

    /// Names that exist with values that may fit nothing: this gets past the names.
    #[test]
    fn no_value_panics_on_any_field_of_any_resource(
        machines in machines(),
        operator in proptest::sample::select(OPERATORS.to_vec()),
        value in "\\PC{0,12}",
    ) {
        let zone = TimeZone::UTC;
        let now = moment(&machines, 1);
        let index = Indexes::default().of(&now);
        let world = world(&now, &index, None, &zone);
        for resource in super::RESOURCES {
            let own = resource.fields.iter().map(|field| field.name.to_owned());
            let joined = resource.relations.iter().flat_map(|relation| {
                relation.to.fields.iter().map(move |field| format!("{}.{}", relation.name, field.name))
            });
            for path in own.chain(joined) {
                let text = written(&(path, operator, value.clone()));
                let Ok(question) = Question::read([("q", text.as_str())]) else { continue };
                if let Ok(plan) = Plan::new(resource, &question, &zone) {
                    eval::find(&world, resource, &plan);
                }
            }
        }
    }
}

#[test]
fn every_relation_leads_to_rows_of_its_resource_and_every_indexed_join_has_its_field() {
    for resource in super::RESOURCES {
        for relation in resource.relations {
            if let super::table::Join::Key(name) = relation.join {
                let field = resource.field(name).expect("the field of the join");
                assert!(field.key.is_some(), "{}.{} is indexed", resource.class, name);
                assert!(relation.to.field("uuid").is_some());
            }
        }
        let mut names: Vec<&str> = resource.fields.iter().map(|field| field.name).collect();
        names.extend(resource.relations.iter().map(|relation| relation.name));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{} has a name twice", resource.class);
    }
}

#[test]
fn answers_show_the_documented_fields_of_each_structure() {
    use babelvisor_schemas::{Dialect, Layer, Part, contract};
    let contract = contract(Dialect::Zstack);
    for (row, resource) in super::ROWS.iter().zip(super::RESOURCES) {
        let schema = contract
            .operation(row.id)
            .unwrap()
            .schema(Part::Answer, Layer::Document);
        let reference = schema
            .pointer("/properties/inventories/items/$ref")
            .and_then(Value::as_str);
        let reference = reference.unwrap_or_else(|| panic!("{} has no structure", row.id));
        assert!(
            reference.ends_with(resource.inventory()),
            "{} {reference}",
            row.id
        );
        let structure = schema.pointer(reference.trim_start_matches('#')).unwrap();
        let documented: Vec<&String> = structure["properties"].as_object().unwrap().keys().collect();
        let mut missing: Vec<&String> = documented
            .into_iter()
            .filter(|name| resource.field(name).is_none() && resource.relation(name).is_none())
            .collect();
        // Nothing here has network services or host routes, and snapshots are on no backup storage.
        missing
            .retain(|name| !["networkServices", "hostRoute", "backupStorageRefs"].contains(&name.as_str()));
        assert!(missing.is_empty(), "{}: {missing:?}", row.id);
    }
}

#[test]
fn unknown_names_are_refused_in_the_originals_words() {
    let zone = TimeZone::UTC;
    let refused = |pairs: &[(&'static str, &'static str)]| {
        let question = Question::read(pairs.iter().copied()).unwrap();
        Plan::new(&resources::VM_INSTANCE, &question, &zone)
            .err()
            .unwrap()
            .detail
    };
    assert_eq!(
        refused(&[("q", "nonsense=1")]),
        "condition name[nonsense] is invalid, no such field on inventory class[org.zstack.header.vm.VmInstanceInventory]"
    );
    assert!(refused(&[("q", "nothing.name=1")]).starts_with("cannot find field[nothing] on class["));
    assert!(refused(&[("q", "host.nonsense=1")]).contains("org.zstack.header.host.HostInventory"));
    assert!(refused(&[("sort", "vmNics")]).starts_with("illegal sortBy[vmNics]"));
    assert!(refused(&[("groupBy", "nonsense")]).starts_with("illegal groupBy[nonsense]"));
    assert!(
        refused(&[("fields", "uuid,vmNics")])
            .starts_with("field[vmNics] is not a primitive of the inventory VmInstanceInventory")
    );
    assert!(refused(&[("fields", "__systemTag__")]).starts_with("field[__systemTag__] is not a primitive"));
    assert!(refused(&[("q", "cpuNum=many")]).starts_with("failed to parse value[many] of condition[cpuNum]"));
    assert!(refused(&[("q", "createDate>soon")]).starts_with("failed to parse value[soon]"));
}

#[test]
fn indexed_conditions_look_at_the_machines_that_can_fulfil_them_and_at_no_others() {
    let (now, zone) = (many(), TimeZone::UTC);
    let index = Indexes::default().of(&now);
    let world = world(&now, &index, None, &zone);
    let host = host_id(2).simple();
    let zone_2 = now.hosts[&host_id(2)].zone_id().simple();
    let (image, flavor, network) = (
        image_id(1).simple(),
        flavor_id(1).simple(),
        network_id(1).simple(),
    );
    let (one, volume) = {
        let vm = Index::vm(&now, 8).unwrap();
        let disk = &vm.facts.as_ref().unwrap().disks[0];
        (vm.id.simple(), resources::native_volume(vm, disk).simple())
    };
    let vms: &[(String, usize)] = &[
        ("name=DB".to_owned(), 5),
        ("name?=db,nothing".to_owned(), 5),
        ("state=stopped".to_owned(), 5),
        (format!("uuid?={one}"), 1),
        (format!("hostUuid={host}"), 5),
        (format!("lastHostUuid={host}"), 5),
        (format!("zoneUuid={zone_2}"), 5),
        (format!("imageUuid={image}"), 5),
        (format!("instanceOfferingUuid={flavor}"), 5),
        (format!("rootVolumeUuid={volume}"), 1),
        (format!("vmNics.l3NetworkUuid={network}"), 5),
        ("vmNics.mac=52:54:00:00:08:00".to_owned(), 1),
        (format!("allVolumes.uuid={volume}"), 1),
        (format!("image.uuid={image}"), 5),
        ("lastHost.name=host-2".to_owned(), 5),
        ("zone.name~=zone-1".to_owned(), 5),
        ("vmNics.l3Network.name=net-1".to_owned(), 5),
        ("name=nothing".to_owned(), 0),
    ];
    let candidates = |resource: &'static Resource, text: &str| {
        let question = Question::read(text.split('&').map(|text| ("q", text))).unwrap();
        let plan = Plan::new(resource, &question, &zone).unwrap();
        let numbers = eval::narrowed(&world, resource, &plan.all);
        numbers.unwrap_or_else(|| panic!("{text} is not indexed")).len()
    };
    for (text, most) in vms {
        let found = candidates(&resources::VM_INSTANCE, text);
        assert!(found <= *most, "{text} looks at {found} machines");
    }
    let parts: &[(&'static Resource, String)] = &[
        (&resources::VM_NIC, format!("vmInstanceUuid={one}")),
        (&resources::VM_NIC, "vmInstance.name=db".to_owned()),
        (&resources::VM_NIC, format!("l3NetworkUuid={network}")),
        (&resources::VOLUME, format!("vmInstanceUuid={one}")),
        (&resources::VOLUME, format!("uuid={volume}")),
        (&resources::VOLUME, "vmInstance.state=Stopped".to_owned()),
    ];
    for (resource, text) in parts {
        let found = candidates(resource, text);
        assert!(found <= 5, "{text} looks at {found} machines");
    }
}
