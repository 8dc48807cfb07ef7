//! Two good calls for every documented field of every built operation that differ in that field alone.

use serde_json::{Value, json};

use super::seeds::{KEY, LARGE, LARGE_RENTAL, RENTAL, SMALL, USER};
use super::{Site, seeds};

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: &'static str,
    pub target: String,
    pub body: Option<Value>,
}

/// A field and two requests that differ in it.
#[derive(Debug, Clone)]
pub struct Case {
    pub operation: &'static str,
    /// `body.cpu`, as in the dispositions.
    pub field: &'static str,
    pub one: Call,
    pub other: Call,
}

fn bare(method: &'static str, target: &str) -> Call {
    Call {
        method,
        target: target.to_owned(),
        body: None,
    }
}

fn with(method: &'static str, target: &str, body: Value) -> Call {
    Call {
        body: Some(body),
        ..bare(method, target)
    }
}

/// `base` with the members of `changes`.
fn changed(base: &Value, changes: &Value) -> Value {
    let mut body = base.clone();
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// What an operation needs before it can be called well.
pub async fn prepare(site: &Site, operation: &str) {
    if operation == "pve.getToken" {
        seeds::account(site.core.registry()).await;
    }
}

/// One good call of the operation.
pub fn good(operation: &str) -> Call {
    if operation == "pve.image" {
        return bare("GET", "/v1/pve/open/image");
    }
    let case = cases().into_iter().find(|case| case.operation == operation);
    case.unwrap_or_else(|| panic!("{operation} has no call")).one
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    guest_create(&mut cases);
    guest_others(&mut cases);
    pve_create(&mut cases);
    pve_others(&mut cases);
    cases
}

fn guest_create(cases: &mut Vec<Case>) {
    let wish = json!({
        "cpu": 1, "memory": 1, "os_template_id": 1, "quantity": 1, "name": "fresh", "password": "made-up",
        "lease_term": 100,
    });
    for (field, changes) in [
        ("body.cpu", json!({"cpu": 2})),
        ("body.memory", json!({"memory": 2})),
        ("body.os_template_id", json!({"os_template_id": 2})),
        ("body.quantity", json!({"quantity": 2})),
        ("body.name", json!({"name": "other"})),
        ("body.password", json!({"password": "another"})),
        ("body.lease_term", json!({"lease_term": 200})),
    ] {
        cases.push(Case {
            operation: "guest.create",
            field,
            one: with("POST", "/api/guest", wish.clone()),
            other: with("POST", "/api/guest", changed(&wish, &changes)),
        });
    }
}

fn guest_others(cases: &mut Vec<Case>) {
    let mut add = |operation, field, one, other| {
        cases.push(Case {
            operation,
            field,
            one,
            other,
        });
    };
    add(
        "guest.get",
        "path.uuid",
        bare("GET", "/api/guest/{web}"),
        bare("GET", "/api/guest/{db}"),
    );
    let remark =
        |machine: &str, text: &str| with("PATCH", &format!("/api/guest/{machine}"), json!({"remark": text}));
    add(
        "guest.update",
        "path.uuid",
        remark("{web}", "shop"),
        remark("{db}", "shop"),
    );
    add(
        "guest.update",
        "body.remark",
        remark("{web}", "shop"),
        remark("{web}", "mail"),
    );
    for (operation, word, one, other) in [
        ("guest.reboot", "_reboot", "web", "db"),
        ("guest.force_reboot", "_force_reboot", "web", "db"),
        ("guest.shutdown", "_shutdown", "web", "db"),
        ("guest.force_shutdown", "_force_shutdown", "web", "db"),
        ("guest.suspend", "_suspend", "web", "db"),
        ("guest.boot", "_boot", "cold", "spare"),
        ("guest.resume", "_resume", "napping", "dozing"),
    ] {
        let to = |machine: &str| bare("PUT", &format!("/api/guests/{word}/{{{machine}}}"));
        add(operation, "path.uuids", to(one), to(other));
    }
    let delete = |machine: &str| bare("DELETE", &format!("/api/guests/{machine}"));
    add("guest.delete", "path.uuids", delete("{cold}"), delete("{spare}"));

    for (operation, path, select) in [
        ("guest.list", "/api/guests?", ""),
        ("guest.search", "/api/guests/_search?", "keyword=e&"),
    ] {
        let get = |query: &str| bare("GET", &format!("{path}{select}{query}"));
        for (field, one, other) in [
            ("query.offset", "offset=0", "offset=1"),
            ("query.limit", "limit=2", "limit=1"),
            ("query.page", "page=1&page_size=1", "page=2&page_size=1"),
            ("query.page_size", "page_size=2", "page_size=1"),
            ("query.order_by", "order_by=id", "order_by=name"),
            ("query.order", "order=asc", "order=desc"),
        ] {
            add(operation, field, get(one), get(other));
        }
    }
    let get = |query: &str| bare("GET", query);
    add(
        "guest.list",
        "query.filter",
        get("/api/guests?filter=name:eq:web"),
        get("/api/guests?filter=name:eq:db"),
    );
    add(
        "guest.search",
        "query.keyword",
        get("/api/guests/_search?keyword=web"),
        get("/api/guests/_search?keyword=db"),
    );
}

fn pve_create(cases: &mut Vec<Case>) {
    let path = "/v1/pve/open/createquantity";
    let by_use = json!({"packageId": SMALL, "imageId": "1"});
    for (field, changes) in [
        ("body.packageId", json!({"packageId": LARGE})),
        ("body.imageId", json!({"imageId": "2"})),
    ] {
        cases.push(Case {
            operation: "pve.createquantity",
            field,
            one: with("POST", path, by_use.clone()),
            other: with("POST", path, changed(&by_use, &changes)),
        });
    }
    let path = "/v1/pve/open/createRent";
    let rent = json!({"packageId": RENTAL, "imageId": "1", "periodNumber": 1, "periodType": 1});
    for (field, changes) in [
        ("body.packageId", json!({"packageId": LARGE_RENTAL})),
        ("body.imageId", json!({"imageId": "2"})),
        ("body.periodNumber", json!({"periodNumber": 2})),
        ("body.periodType", json!({"periodType": 2})),
    ] {
        cases.push(Case {
            operation: "pve.createRent",
            field,
            one: with("POST", path, rent.clone()),
            other: with("POST", path, changed(&rent, &changes)),
        });
    }
}

fn pve_others(cases: &mut Vec<Case>) {
    for (operation, field, method, one, other) in [
        (
            "pve.operate",
            "path.id",
            "GET",
            "operate/{cold}?type=1",
            "operate/{spare}?type=1",
        ),
        (
            "pve.operate",
            "query.type",
            "GET",
            "operate/{cold}?type=1",
            "operate/{cold}?type=0",
        ),
        ("pve.reboot", "path.id", "GET", "reboot/{web}", "reboot/{db}"),
        ("pve.one", "path.id", "GET", "one/{web}", "one/{db}"),
        (
            "pve.mypage",
            "query.page",
            "GET",
            "mypage?page=1&pageSize=2",
            "mypage?page=2&pageSize=2",
        ),
        (
            "pve.mypage",
            "query.pageSize",
            "GET",
            "mypage?page=1&pageSize=2",
            "mypage?page=1&pageSize=3",
        ),
        (
            "pve.delete",
            "path.id",
            "DELETE",
            "delete/{cold}",
            "delete/{spare}",
        ),
        ("pve.packAge", "path.type", "GET", "packAge/0", "packAge/1"),
    ] {
        let to = |target: &str| bare(method, &format!("/v1/pve/open/{target}"));
        cases.push(Case {
            operation,
            field,
            one: to(one),
            other: to(other),
        });
    }
    let sign_in = json!({"uuid": USER, "secret": KEY});
    for (field, one, other) in [
        ("body.uuid", json!({}), json!({"uuid": "A10000002"})),
        ("body.secret", json!({}), json!({"secret": "a wrong one"})),
        ("body.nonce", json!({"nonce": "a"}), json!({"nonce": "b"})),
        ("body.timeMap", json!({"timeMap": "a"}), json!({"timeMap": "b"})),
    ] {
        let to = |changes: &Value| with("POST", "/v1/auth/getToken", changed(&sign_in, changes));
        cases.push(Case {
            operation: "pve.getToken",
            field,
            one: to(&one),
            other: to(&other),
        });
    }
}
