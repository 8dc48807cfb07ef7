//! The faults: what a hurried change to a frontend gets wrong. A field renamed or lost, a status or code changed, a
//! rule dropped, a unit off by 1024, a parameter that is not looked at.

use babelvisor_core::frontend::{Reply, Request};
use babelvisor_schemas::Dialect;
use serde_json::{Value, json};

/// Where a fault sits. Functions that alter say whether they did.
#[derive(Clone, Copy)]
pub enum Plant {
    /// The request is read wrongly.
    Request(fn(&mut Request) -> bool),
    /// Status or headers are wrong.
    Reply(fn(&mut Reply) -> bool),
    /// The body is wrong.
    Body(fn(&mut Value)),
}

/// One fault.
#[derive(Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    pub dialect: Dialect,
    pub operation: &'static str,
    pub plant: Plant,
}

/// All of them.
pub fn faults() -> Vec<Fault> {
    let guest = guest().into_iter().map(|row| (Dialect::GuestRest, row));
    let pve = pve().into_iter().map(|row| (Dialect::PveOpen, row));
    guest
        .chain(pve)
        .map(|(dialect, (name, operation, plant))| Fault {
            name,
            dialect,
            operation,
            plant,
        })
        .collect()
}

/// Faults that the suite does not find, and what it would have to look at. This list may only shrink: a fault that is
/// found must leave it, and now it is empty.
pub const GAPS: [(&str, &str); 0] = [];

type Row = (&'static str, &'static str, Plant);

/// Applies `change` to every guest or machine of an answer.
fn each(body: &mut Value, change: impl Fn(&mut Value)) {
    let place = if body["data"]["data"].is_array() {
        &mut body["data"]["data"]
    } else {
        &mut body["data"]
    };
    match place {
        Value::Array(items) => items.iter_mut().for_each(change),
        Value::Object(_) => change(place),
        _ => {}
    }
}

fn renamed(item: &mut Value, from: &str, to: &str) {
    if let Some(value) = item.as_object_mut().and_then(|item| item.shift_remove(from)) {
        item[to] = value;
    }
}

fn lost(item: &mut Value, name: &str) {
    if let Some(item) = item.as_object_mut() {
        item.shift_remove(name);
    }
}

fn scaled(item: &mut Value, name: &str, by: impl Fn(i64) -> i64) {
    if let Some(number) = item[name].as_i64() {
        item[name] = json!(by(number));
    }
}

/// Replaces text of the query; a parameter that nobody knows is ignored.
fn query(request: &mut Request, from: &str, to: &str) -> bool {
    let altered = request.query.replace(from, to);
    let struck = altered != request.query;
    request.query = altered;
    struck
}

/// Alters the body of a request where it is an object.
fn asked(request: &mut Request, change: impl Fn(&mut Value)) -> bool {
    let Ok(before) = serde_json::from_slice::<Value>(&request.body) else {
        return false;
    };
    if !before.is_object() {
        return false;
    }
    let mut body = before.clone();
    change(&mut body);
    let struck = body != before;
    request.body = body.to_string().into_bytes().into();
    struck
}

fn guest() -> Vec<Row> {
    vec![
        (
            "host under another name",
            "guest.get",
            Plant::Body(|body| each(body, |guest| renamed(guest, "on_host", "host"))),
        ),
        (
            "remark lost",
            "guest.search",
            Plant::Body(|body| each(body, |guest| lost(guest, "remark"))),
        ),
        (
            "memory in MiB",
            "guest.create",
            Plant::Body(|body| each(body, |guest| scaled(guest, "memory", |gib| gib * 1024))),
        ),
        (
            "creation time in milliseconds as text",
            "guest.search",
            Plant::Body(|body| {
                each(body, |guest| {
                    guest["create_time"] = json!(guest["create_time"].to_string())
                });
            }),
        ),
        (
            "codes as numbers",
            "guest.update",
            Plant::Body(|body| {
                if let Some(code) = body["state"]["code"].as_str() {
                    body["state"]["code"] = json!(code.parse::<u16>().unwrap());
                }
            }),
        ),
        (
            "no paging",
            "guest.search",
            Plant::Body(|body| lost(body, "paging")),
        ),
        (
            "a missing guest is no error",
            "guest.update",
            Plant::Reply(|reply| {
                let struck = reply.status == 404;
                if struck {
                    reply.status = 200;
                }
                struck
            }),
        ),
        (
            "a refusal is a 400",
            "guest.create",
            Plant::Reply(|reply| {
                let struck = reply.status == 412;
                if struck {
                    reply.status = 400;
                }
                struck
            }),
        ),
        (
            "a branch without its trunk's text",
            "guest.reboot",
            Plant::Body(|body| {
                if body["state"].get("sub").is_some() {
                    body["state"]["zh-cn"] = json!("出错了");
                }
            }),
        ),
        (
            "no template is no guest",
            "guest.create",
            Plant::Body(|body| {
                if body["state"]["sub"]["code"] == "40450" {
                    body["state"]["sub"]["code"] = json!("40401");
                }
            }),
        ),
        (
            "no lower bound of cpu",
            "guest.create",
            Plant::Request(|request| {
                asked(request, |body| {
                    if body["cpu"].as_i64().is_some_and(|cpu| cpu < 1) {
                        body["cpu"] = json!(1);
                    }
                })
            }),
        ),
        (
            "quantity has a default",
            "guest.create",
            Plant::Request(|request| {
                asked(request, |body| {
                    if body.get("quantity").is_none() {
                        body["quantity"] = json!(1);
                    }
                })
            }),
        ),
        (
            "quantity not looked at",
            "guest.create",
            Plant::Request(|request| {
                asked(request, |body| {
                    if body["quantity"].as_i64().is_some_and(|several| several > 1) {
                        body["quantity"] = json!(1);
                    }
                })
            }),
        ),
        (
            "order not looked at",
            "guest.list",
            Plant::Request(|request| query(request, "order=desc", "order=asc")),
        ),
        (
            "keyword not looked at",
            "guest.search",
            Plant::Request(|request| query(request, "keyword=", "keyword=&word=")),
        ),
        (
            "page size not looked at",
            "guest.list",
            Plant::Request(|request| query(request, "page_size=", "pagesize=")),
        ),
        (
            "remark cut",
            "guest.update",
            Plant::Request(|request| {
                asked(request, |body| {
                    if let Some(text) = body["remark"].as_str().filter(|text| !text.is_empty()) {
                        let cut: String = text.chars().take(1).collect();
                        body["remark"] = json!(cut);
                    }
                })
            }),
        ),
    ]
}

fn pve() -> Vec<Row> {
    vec![
        (
            "code as text",
            "pve.image",
            Plant::Body(|body| body["code"] = json!(body["code"].to_string())),
        ),
        (
            "no trace id",
            "pve.one",
            Plant::Body(|body| lost(body, "traceId")),
        ),
        (
            "memory under another name",
            "pve.one",
            Plant::Body(|body| each(body, |machine| renamed(machine, "memory", "ram"))),
        ),
        (
            "creation time in seconds",
            "pve.one",
            Plant::Body(|body| each(body, |machine| scaled(machine, "createTime", |ms| ms / 1000))),
        ),
        (
            "status as a number",
            "pve.mypage",
            Plant::Body(|body| {
                each(body, |machine| {
                    if let Some(status) = machine["status"].as_str() {
                        machine["status"] = json!(status.parse::<u8>().unwrap());
                    }
                });
            }),
        ),
        (
            "no total",
            "pve.mypage",
            Plant::Body(|body| lost(&mut body["data"], "totalCounts")),
        ),
        (
            "a machine that is off is not running",
            "pve.reboot",
            Plant::Body(|body| {
                if body["code"] == 7002 {
                    body["code"] = json!(7004);
                }
            }),
        ),
        (
            "an unknown machine is no error",
            "pve.operate",
            Plant::Body(|body| {
                if body["code"] == 1021 {
                    body["code"] = json!(0);
                }
            }),
        ),
        (
            "an unknown machine has another text",
            "pve.reboot",
            Plant::Body(|body| {
                if body["code"] == 1021 {
                    body["msg"] = json!("没有");
                }
            }),
        ),
        (
            "business codes with a status of their own",
            "pve.createquantity",
            Plant::Reply(|reply| {
                let struck = reply.body.starts_with(b"{\"code\":1");
                if struck {
                    reply.status = 400;
                }
                struck
            }),
        ),
        (
            "answers may be kept",
            "pve.one",
            Plant::Reply(|reply| {
                let before = reply.headers.len();
                reply.headers.retain(|(name, _)| *name != "cache-control");
                reply.headers.len() < before
            }),
        ),
        (
            "any type switches on",
            "pve.operate",
            Plant::Request(|request| {
                let known = ["type=0", "type=1"].iter().any(|known| request.query == *known);
                let struck = !known && request.query.contains("type=");
                if struck {
                    request.query = "type=1".to_owned();
                }
                struck
            }),
        ),
        (
            "periods count double",
            "pve.createRent",
            Plant::Request(|request| {
                asked(request, |body| {
                    scaled(
                        body,
                        "periodNumber",
                        |number| {
                            if number > 0 { number * 2 } else { number }
                        },
                    );
                })
            }),
        ),
        (
            "page size has a default",
            "pve.mypage",
            Plant::Request(|request| {
                let struck = !request.query.contains("pageSize=");
                if struck {
                    request.query.push_str("&pageSize=10");
                }
                struck
            }),
        ),
        (
            "packages in MiB",
            "pve.packAge",
            Plant::Body(|body| {
                each(body, |package| {
                    scaled(package, "memoryNumber", |gib| gib * 1024);
                });
            }),
        ),
    ]
}
