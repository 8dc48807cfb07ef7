//! What a hostile or broken client sends to the real binary, in both dialects: every answer is in the dialect, the
//! gateway goes on, and nothing has changed on the hypervisor.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::time::Duration;

use babelvisor_conformance::testbed::http::{call, raw};
use babelvisor_conformance::testbed::{Gateway, eventually};
use common::calls::Client;
use common::gateway;
use common::setup::{Setup, Which};
use serde_json::{Value, json};

const SECONDS: Duration = Duration::from_secs(20);

/// Bodies that are no good for any call.
fn broken_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let deep = [vec![b'['; 5000], vec![b']'; 5000]].concat();
    vec![
        ("empty", Vec::new()),
        ("truncated", br#"{"cpu": 1, "memory": "#.to_vec()),
        ("duplicate key", br#"{"cpu":1,"cpu":2,"memory":1,"os_template_id":1,"quantity":1,"lease_term":1,"packageId":"a","packageId":"b","imageId":"1"}"#.to_vec()),
        ("an array", b"[1,2,3]".to_vec()),
        ("a number", b"42".to_vec()),
        ("null", b"null".to_vec()),
        ("not UTF-8", b"{\"name\":\"\xff\xfe\"}".to_vec()),
        ("a lone surrogate", br#"{"name":"\ud800","packageId":"\ud800","imageId":"1"}"#.to_vec()),
        ("NUL", b"{\"name\":\"a\0b\"}".to_vec()),
        ("escaped NUL", br#"{"cpu":1,"memory":1,"os_template_id":1,"quantity":1,"name":"a\u0000b","password":"","lease_term":1,"packageId":"a\u0000","imageId":"1"}"#.to_vec()),
        ("too deep", deep),
        ("not JSON", b"<domain/>".to_vec()),
    ]
}

/// Bodies that are JSON and ask for nonsense; the field that is wrong, as Guest REST names it.
fn nonsense_for_guest_rest() -> Vec<(Value, &'static str)> {
    let good = || json!({"cpu": 1, "memory": 1, "os_template_id": 1, "quantity": 1, "name": "x", "password": "", "lease_term": 1});
    let with = |field: &str, value: Value| {
        let mut body = good();
        body[field] = value;
        body
    };
    vec![
        (with("cpu", json!("1")), "cpu"),
        (with("cpu", json!(true)), "cpu"),
        (with("cpu", json!(0)), "cpu"),
        (with("cpu", json!(1_000_000_000_000_000_000_i64)), "cpu"),
        (with("memory", json!(-4)), "memory"),
        (with("memory", json!(4.5)), "memory"),
        (with("memory", json!(9_000_000_000_000_000_000_i64)), "memory"),
        (with("quantity", json!(0)), "quantity"),
        (with("quantity", json!(1_000_000)), "quantity"),
        (with("name", json!({"a": 1})), "name"),
        (with("lease_term", json!("soon")), "lease_term"),
    ]
}

struct Bench {
    setup: Setup,
    gateway: Gateway,
}

impl Bench {
    fn start(which: Which) -> Self {
        let setup = Setup::start(which);
        let gateway = gateway().config(&setup.config()).start().unwrap();
        Self { setup, gateway }
    }

    fn world(&self) -> (Vec<String>, Vec<String>) {
        (
            self.setup.domains(self.gateway.state_dir()),
            self.setup.volumes(self.gateway.state_dir()),
        )
    }

    /// The Guest REST answer, which must be in its envelope with a status that equals its code.
    async fn guest(&self, method: &str, path: &str, body: &[u8]) -> Value {
        let request = call(self.gateway.address(), method, path).body(body.to_vec());
        let answer = request
            .header("content-type", "application/json")
            .deadline(SECONDS)
            .send()
            .await
            .unwrap();
        let json = answer
            .json()
            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", answer.text()));
        let code = json["state"]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("{method} {path}: {json}"));
        assert_eq!(code, answer.status.to_string(), "{method} {path}: {json}");
        json
    }

    /// The pve-open answer, which must be in its envelope.
    async fn pve(&self, method: &str, path: &str, body: &[u8]) -> Value {
        let request = call(self.gateway.address(), method, path)
            .body(body.to_vec())
            .deadline(SECONDS);
        let answer = request.send().await.unwrap();
        let json = answer
            .json()
            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {}", answer.text()));
        assert!(
            json["code"].is_i64() && json["msg"].is_string(),
            "{method} {path}: {json}"
        );
        json
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_nonsensical_bodies_are_refused_in_the_dialect_and_change_nothing() {
    let bench = Bench::start(Which::Memory);
    let before = bench.world();
    for (what, body) in broken_bodies() {
        let answer = bench.guest("POST", "/api/guest", &body).await;
        assert_ne!(answer["state"]["code"], "200", "{what}: {answer}");
        assert_ne!(answer["state"]["code"], "500", "{what}: {answer}");
        for path in [
            "/v1/pve/open/createquantity",
            "/v1/pve/open/createRent",
            "/v1/auth/getToken",
        ] {
            let answer = bench.pve("POST", path, &body).await;
            assert_ne!(answer["code"], 0, "{what} to {path}: {answer}");
            assert_ne!(answer["code"], 500, "{what} to {path}: {answer}");
        }
    }
    for (body, field) in nonsense_for_guest_rest() {
        let answer = bench
            .guest("POST", "/api/guest", body.to_string().as_bytes())
            .await;
        assert_eq!(answer["state"]["code"], "412", "{body}: {answer}");
        let text = answer["state"]["sub"]["zh-cn"].as_str().unwrap();
        assert!(text.contains(field), "{body}: {text} does not name {field}");
    }
    assert_eq!(bench.world(), before);
    assert_eq!(
        Client::of(&bench.gateway).guest("GET", "/api/guests", None).await["paging"]["total"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn path_tricks_unknown_ids_and_wrong_methods_are_refused_in_the_dialect() {
    let bench = Bench::start(Which::Memory);
    let unknown = "00000000-0000-4000-8000-000000000000";
    for path in [
        "/api/guest/%2e%2e".to_owned(),
        "/api/guest/%00".to_owned(),
        "/api/guest/%ff%fe".to_owned(),
        "/api/guests/".to_owned(),
        "/api/guest/short".to_owned(),
        format!("/api/guest/{unknown}"),
        format!("/api/guest/{}", "a".repeat(6000)),
        "/api/guests?page=0".to_owned(),
        "/api/guests?page=99999999999999999999".to_owned(),
        "/api/guests?order_by=id%3Bdrop%20table".to_owned(),
    ] {
        let answer = bench.guest("GET", &path, b"").await;
        let code = answer["state"]["code"].as_str().unwrap();
        assert!(["400", "404", "412"].contains(&code), "{path}: {answer}");
    }
    let two = format!("/api/guests/_boot/{unknown},{unknown}");
    assert_eq!(
        bench.guest("PUT", &two, b"").await["state"]["sub"]["code"],
        "40401"
    );
    assert_eq!(
        bench.guest("DELETE", "/api/guest", b"").await["state"]["code"],
        "405"
    );
    assert_eq!(
        bench.pve("GET", "/v1/pve/open/one/QzyHraLXEr", b"").await["code"],
        1021
    );
    assert_eq!(
        bench
            .pve("GET", "/v1/pve/open/operate/QzyHraLXEr?type=7", b"")
            .await["code"],
        1007
    );
    for (method, path, status) in [
        ("GET", "/v1/pve/open/nothing", 404),
        ("POST", "/v1/pve/open/image", 405),
    ] {
        let answer = call(bench.gateway.address(), method, path).send().await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_ne!(answer.json().unwrap()["code"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_and_slow_bodies_cost_their_sender_only() {
    let bench = Bench::start(Which::Memory);
    let huge = vec![b' '; 5 << 20];
    let answer = bench.guest("POST", "/api/guest", &huge).await;
    assert_eq!(answer["state"]["code"], "400", "{answer}");
    // A body that never comes: while it hangs, others are served.
    let head = b"POST /api/guest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let address = bench.gateway.address();
    let slow = tokio::spawn(async move { raw(address, head, false, Duration::from_secs(3)).await });
    let client = Client::of(&bench.gateway);
    for _ in 0..20 {
        client.guest("GET", "/api/guests", None).await;
    }
    let _ = slow.await.unwrap();
    client.guest("GET", "/api/guests", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_xml_stays_a_name() {
    let bench = Bench::start(Which::Qemu);
    let client = Client::of(&bench.gateway);
    let name = "</name><devices><hostdev/></devices>&amp;'\"]]>";
    let body = json!({"cpu": 1, "memory": 1, "os_template_id": 1, "quantity": 1, "name": name,
                      "password": "a'b\"c<d>&", "lease_term": 100});
    let made = client.guest("POST", "/api/guest", Some(&body)).await;
    let uuid = made["data"][0]["uuid"].as_str().unwrap().to_owned();
    client.until_status(&uuid, 1).await;
    let guest = client.guest("GET", &format!("/api/guest/{uuid}"), None).await["data"].clone();
    assert_eq!(
        (guest["name"].as_str(), guest["password"].as_str()),
        (Some(name), Some("a'b\"c<d>&"))
    );
    let libvirtd = bench.setup.libvirtd().unwrap();
    let xml = libvirtd.virsh(&["dumpxml", &uuid]).unwrap();
    assert!(!xml.contains("<hostdev"), "{xml}");
    assert!(xml.contains("&lt;/name&gt;") || !xml.contains("hostdev"), "{xml}");
    client.guest("DELETE", &format!("/api/guests/{uuid}"), None).await;
    client.until_gone(&uuid).await;
    eventually("the domain is gone", SECONDS, || async {
        (!libvirtd
            .virsh(&["list", "--all", "--uuid"])
            .unwrap()
            .contains(&uuid))
        .then_some(())
    })
    .await
    .unwrap();
}
