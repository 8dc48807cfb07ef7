//! The query language as clients use it, over machines on a simulated hypervisor.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::model::Role;
use serde_json::{Value, json};
use support::{MACHINES, Site, documented, machine, uuid_of};

const NICS: &str = "/zstack/v1/vm-instances/nics";

fn names(answer: &Value) -> Vec<&str> {
    let rows = answer["inventories"].as_array().expect("inventories");
    rows.iter()
        .map(|row| row["name"].as_str().expect("a name"))
        .collect()
}

/// Three machines: one that runs, one that is off, one with tags.
async fn three() -> (Site, [String; 3]) {
    let site = Site::new().await;
    let web = site.running("web-1").await;
    let off = site.stopped("web-2").await;
    let body = json!({
        "params": site.wanted("db"),
        "systemTags": ["hostname::db-host"],
        "userTags": ["colour::red"],
    });
    let db = site.done("POST", MACHINES, &body).await.good();
    let db = uuid_of(&db["inventory"]);
    (site, [web, off, db])
}

#[tokio::test]
async fn conditions_are_joined_by_and_in_all_spellings() {
    let (site, [web, ..]) = three().await;
    for (query, expected) in [
        ("", &["web-1", "web-2", "db"][..]),
        ("?q=name=web-1", &["web-1"]),
        ("?q=name=WEB-1", &["web-1"]),
        ("?condition=name=web-1", &["web-1"]),
        ("?q=name%3Dweb-1&q=state%3DRunning", &["web-1"]),
        ("?q=name~=web%25&q=state=Stopped", &["web-2"]),
        ("?q=state!=Running", &["web-2"]),
        ("?q=name?=web-2,db,nothing", &["web-2", "db"]),
        ("?q=name!?=web-2,db", &["web-1"]),
        ("?q=name!~=web-_", &["db"]),
        ("?q=hostUuid=null", &["web-2"]),
        ("?q=hostUuid%20is%20null", &["web-2"]),
        ("?q=hostUuid+not+null", &["web-1", "db"]),
        (
            "?q=cpuNum>=1&q=memorySize<=1.073741824E9",
            &["web-1", "web-2", "db"],
        ),
        ("?q=__systemTag__=hostname::db-host", &["db"]),
        ("?q=__userTag__~=colour::%25", &["db"]),
        ("?q=__userTag__!=colour::red", &["web-1", "web-2"]),
        ("?q=host.name=host-1&q=host.zone.name=default", &["web-1", "db"]),
        (
            "?q=image.name=debian&q=instanceOffering.cpuNum=1",
            &["web-1", "web-2", "db"],
        ),
        (
            "?q=vmNics.l3Network.name=default&q=vmNics.deviceId=0&q=name=db",
            &["db"],
        ),
        (
            "?q=rootVolume.type=Root&q=allVolumes.size>0&sort=-name",
            &["web-2", "web-1", "db"],
        ),
        ("?q=createDate>Jan 1, 2020 1:00:00 AM&sort=name&limit=1", &["db"]),
        ("?q=createDate>2099-01-01 00:00:00", &[]),
        ("?uuid=ignored&sessionId=ignored&q=name=db", &["db"]),
    ] {
        let answer = site
            .get(&format!("{MACHINES}{}", query.replace(' ', "%20")))
            .await
            .good();
        documented("QueryVmInstance", &answer);
        assert_eq!(names(&answer), expected, "{query}");
    }
    let by_uuid = site.get(&format!("{MACHINES}?q=uuid={web}")).await.good();
    assert_eq!(names(&by_uuid), ["web-1"]);
}

#[tokio::test]
async fn pages_counts_groups_and_fields_are_answered_as_asked() {
    let (site, _) = three().await;
    let get = async |query: &str| site.get(&format!("{MACHINES}?{query}")).await.good();
    assert_eq!(get("count=true").await, json!({"total": 3}));
    assert_eq!(get("count=true&q=state=Running").await, json!({"total": 2}));
    let page = get("replyWithCount=true&start=1&limit=1").await;
    assert_eq!((names(&page), &page["total"]), (vec!["web-2"], &json!(3)));
    assert!(get("limit=2").await.get("total").is_none());
    assert_eq!(get("limit=0").await, json!({"inventories": []}));
    for sort in ["sort=%2Bname", "sort=+name", "sort=name"] {
        assert_eq!(names(&get(sort).await), ["db", "web-1", "web-2"], "{sort}");
    }
    assert_eq!(names(&get("sort=-name").await), ["web-2", "web-1", "db"]);
    for fields in ["fields=name,state", "fields=name&fields=state"] {
        let answer = get(&format!("{fields}&q=name=db")).await;
        assert_eq!(
            answer,
            json!({"inventories": [{"name": "db", "state": "Running"}]})
        );
    }
    let grouped = get("groupBy=state&fields=state&sort=state").await;
    assert_eq!(
        grouped,
        json!({"inventories": [{"state": "Running"}, {"state": "Stopped"}]})
    );
}

#[tokio::test]
async fn one_by_uuid_is_a_list_of_one_or_none() {
    let (site, [web, ..]) = three().await;
    let one = site.get(&machine(&web)).await.good();
    documented("QueryVmInstance", &one);
    assert_eq!(names(&one), ["web-1"]);
    assert_eq!(one.as_object().unwrap().len(), 1, "{one}");
    for nothing in ["8c7a2f0e4b8d4a0cb5c5e1f3d2a19b07", "no-uuid"] {
        let none = site.get(&machine(nothing)).await.good();
        assert_eq!(none, json!({"inventories": []}), "{nothing}");
    }
}

#[tokio::test]
async fn interfaces_and_volumes_are_shown_as_their_machine_shows_them() {
    let (site, [web, ..]) = three().await;
    let one = site.get(&machine(&web)).await.good();
    let shown = &one["inventories"][0];
    let nics = site.get(&format!("{NICS}?q=vmInstanceUuid={web}")).await.good();
    documented("QueryVmNic", &nics);
    assert_eq!(nics["inventories"], shown["vmNics"]);
    let ip = nics["inventories"][0]["ip"].as_str().unwrap();
    let by_ip = site.get(&format!("{MACHINES}?q=vmNics.ip={ip}")).await.good();
    assert_eq!(names(&by_ip), ["web-1"]);
    let nic = nics["inventories"][0]["uuid"].as_str().unwrap();
    let by_nic = site.get(&format!("{NICS}/{nic}")).await.good();
    assert_eq!(by_nic["inventories"], shown["vmNics"]);

    let volumes = site
        .get("/zstack/v1/volumes?q=vmInstance.name=web-1")
        .await
        .good();
    documented("QueryVolume", &volumes);
    assert_eq!(volumes["inventories"], shown["allVolumes"]);
    let root = shown["rootVolumeUuid"].as_str().unwrap();
    let by_uuid = site.get(&format!("/zstack/v1/volumes/{root}")).await.good();
    assert_eq!(by_uuid["inventories"][0], shown["allVolumes"][0]);
    let whole = site
        .get(&format!("{MACHINES}?q=rootVolumeUuid={root}"))
        .await
        .good();
    assert_eq!(names(&whole), ["web-1"]);
}

#[tokio::test]
async fn every_field_of_a_machine_finds_it_by_its_own_value() {
    let (site, [web, ..]) = three().await;
    let one = site.get(&machine(&web)).await.good();
    let mut asked = 0;
    for (name, value) in one["inventories"][0].as_object().unwrap() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        let text = text.replace(' ', "%20");
        let answer = site
            .get(&format!("{MACHINES}?q={name}={text}&q=uuid={web}"))
            .await
            .good();
        assert_eq!(names(&answer), ["web-1"], "{name}={text}");
        let answer = site
            .get(&format!("{MACHINES}?fields={name}&q=uuid={web}"))
            .await
            .good();
        assert_eq!(answer["inventories"][0][name], *value, "{name}");
        asked += 1;
    }
    assert!(asked > 15, "{asked}");
}

#[tokio::test]
async fn machines_in_the_trash_are_shown_as_destroyed() {
    let (site, [_, off, _]) = three().await;
    site.done("DELETE", &machine(&off), &Value::Null).await.good();
    let destroyed = site.get(&format!("{MACHINES}?q=state=Destroyed")).await.good();
    assert_eq!(names(&destroyed), ["web-2"]);
    let all = site.get(MACHINES).await.good();
    assert_eq!(names(&all), ["web-1", "web-2", "db"], "in their order");
    site.act(&off, "recoverVmInstance", json!({})).await.good();
    let stopped = site
        .get(&format!("{MACHINES}?q=state=Stopped&q=name=web-2"))
        .await
        .good();
    assert_eq!(names(&stopped), ["web-2"]);
    let none = site
        .get(&format!("{MACHINES}?count=true&q=state=Destroyed"))
        .await
        .good();
    assert_eq!(none, json!({"total": 0}));
}

#[tokio::test]
async fn a_tenant_sees_its_own_and_joins_lead_nowhere_else() {
    let (site, [web, ..]) = three().await;
    site.account("guest", "away", Role::User, None).await;
    let guest = site.log_in("guest").await;
    let get = async |target: &str| site.call_as(&guest, "GET", target, &Value::Null).await.good();
    assert_eq!(get(MACHINES).await, json!({"inventories": []}));
    assert_eq!(get(&machine(&web)).await, json!({"inventories": []}));
    assert_eq!(
        get(&format!("{MACHINES}?count=true&q=name=web-1")).await,
        json!({"total": 0})
    );
    assert_eq!(get(NICS).await, json!({"inventories": []}));
    assert_eq!(get("/zstack/v1/volumes").await, json!({"inventories": []}));
    let hosts = get("/zstack/v1/hosts?q=vmInstance.name=web-1").await;
    assert_eq!(
        hosts,
        json!({"inventories": []}),
        "the host is seen, its machine is not"
    );
    assert_eq!(names(&get("/zstack/v1/hosts").await), ["host-1"]);
    assert_eq!(names(&get("/zstack/v1/accounts").await), ["guest"]);
    let offerings = get("/zstack/v1/instance-offerings?sort=name").await;
    assert_eq!(names(&offerings), ["large", "small"], "those of everybody");
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_in_the_originals_words() {
    let site = Site::new().await;
    let get = async |query: &str| site.get(&format!("{MACHINES}?{query}")).await;
    let unknown = get("q=nonsense=1").await;
    assert_eq!(unknown.code(), "SYS.1007");
    assert_eq!(
        unknown.details(),
        "condition name[nonsense] is invalid, no such field on inventory class[org.zstack.header.vm.VmInstanceInventory]"
    );
    for query in [
        "q=host.nonsense=1",
        "q=nothing.name=1",
        "sort=nonsense",
        "groupBy=nonsense",
        "fields=vmNics",
    ] {
        assert_eq!(get(query).await.code(), "SYS.1007", "{query}");
    }
    assert_eq!(get("q=cpuNum=many").await.code(), "SYS.1007");
    for query in [
        "q=0c917562d5954544b37bf5e0ed0735a6",
        "q==1",
        "limit=many",
        "start=-1",
        "q=%ff=1",
    ] {
        let answer = get(query).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        assert_eq!(answer.body, Value::Null, "plain text: {query}");
    }
    let nothing = get("q=0c917562d5954544b37bf5e0ed0735a6").await;
    assert!(
        nothing.text.starts_with(
            "Invalid query parameter. The '0c917562d5954544b37bf5e0ed0735a6' in the parameter[q]"
        ),
        "{}",
        nothing.text
    );
}

#[tokio::test]
async fn the_class_of_each_object_is_told_when_asked_for() {
    let (site, [web, ..]) = three().await;
    let oauth = format!("OAuth {}", site.session);
    let headers = [("authorization", oauth.as_str()), ("x-json-schema", "true")];
    let answer = site.send("GET", &machine(&web), &headers, "").await.good();
    assert_eq!(
        answer["schema"],
        json!({
            "inventories[0]": "org.zstack.header.vm.VmInstanceInventory",
            "inventories[0].vmNics[0]": "org.zstack.header.vm.VmNicInventory",
            "inventories[0].allVolumes[0]": "org.zstack.header.volume.VolumeInventory",
        })
    );
}
