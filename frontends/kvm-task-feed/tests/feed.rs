//! The dialect with a mailbox on a real store: what agents send, and what they are answered.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::frontend::{Frontend, Reply, Request, Routed};
use babelvisor_core::mailbox::{Father, Mailbox, NewTask, TaskState};
use babelvisor_core::secret::sha256_hex;
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_kvm_task_feed::{Agent, Credential, KvmTaskFeed, Settings};
use serde_json::{Map, Value, json};

const SERIAL: &str = "CAS1000000000";

struct Site {
    feed: Arc<dyn Frontend>,
    mailbox: Arc<Mailbox>,
    _directory: tempfile::TempDir,
}

fn agent(serial: &str) -> Agent {
    Agent {
        serial: serial.to_owned(),
        source: None,
        credential: None,
    }
}

fn site(agents: Vec<Agent>) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&directory.path().join("store.redb")).unwrap();
    let mailbox = Mailbox::new(Arc::new(store));
    let settings = Settings {
        time_zone: Some("Asia/Shanghai".to_owned()),
    };
    Site {
        feed: KvmTaskFeed::new(mailbox.clone(), &settings, agents),
        mailbox,
        _directory: directory,
    }
}

impl Site {
    async fn report(&self, body: &str) -> Reply {
        self.send("/api/kvm/", "feed.report", "", body, &[]).await
    }

    async fn poll(&self, serial: &str) -> Reply {
        self.send(&format!("/api/task/{serial}/"), "feed.task", serial, "", &[])
            .await
    }

    async fn send(
        &self,
        path: &str,
        operation: &'static str,
        serial: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let request = Request {
            method: "POST".to_owned(),
            path: path.to_owned(),
            body: body.to_owned().into(),
            headers: headers.iter().map(own).collect(),
            peer: "127.0.0.1:40000".to_owned(),
            ..Request::default()
        };
        let routed = Routed {
            operations: vec![operation],
            params: vec![("sn", serial.to_owned())],
        };
        self.feed.answer(routed, request).await
    }

    async fn put(&self, kind: u16, father: Option<Father>) -> u64 {
        let task = NewTask {
            serial: SERIAL.to_owned(),
            kind,
            turn: 0,
            fields: Map::from_iter([
                ("vm_name".to_owned(), json!("web")),
                ("action".to_owned(), json!("start")),
            ]),
            father,
            job: None,
            age: Duration::from_secs(3600),
            finish: Duration::from_secs(60),
        };
        let id = self.mailbox.reserve().await.unwrap();
        self.mailbox.put(id, task).await.unwrap().id
    }
}

fn read(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn a_report_is_kept_in_the_documented_form() {
    let site = site(vec![agent(SERIAL)]);
    // As the published agent sends it.
    let sent = json!({"req": "vm.status", "sn": SERIAL, "body": [{
        "name": "web", "update_time": "2016-07-01 12:00:00", "status": 1,
        "cpu_idle": "93.00", "mem_usage": "41.50", "disk": [],
        "net": [{"name": "eth0", "in": 1.25, "out": 0, "type": "service", "mac": "52:54:00:00:00:01", "ip": "10.0.0.7"}],
    }]});
    let reply = site.report(&sent.to_string()).await;
    assert_eq!((reply.status, read(&reply)), (200, json!({})));
    let kept = site.mailbox.reports(SERIAL).await.unwrap();
    assert_eq!(kept["vm.status"].body[0]["cpu_idle"], json!(93));
    // As the document prints it.
    let sent = r#"{"req":"host.hw","sn":"CAS1000000000","body":[{"architecture ":"x86_64","cpus ":"16","total_mem":1000}]}"#;
    assert_eq!(site.report(sent).await.status, 200);
    let kept = site.mailbox.reports(SERIAL).await.unwrap();
    assert_eq!(
        kept["host.hw"].body,
        json!([{"architecture": "x86_64", "cpus": 16, "total_mem": 1000}])
    );
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_the_reason_and_not_kept() {
    let site = site(vec![agent(SERIAL)]);
    let with = |kind: &str, body: Value| json!({"req": kind, "sn": SERIAL, "body": body}).to_string();
    for (sent, reason) in [
        ("{".to_owned(), "line 1"),
        (json!({"sn": SERIAL, "body": []}).to_string(), "`req` is missing"),
        (
            json!({"req": "vm.conf", "body": []}).to_string(),
            "`sn` is missing",
        ),
        (
            json!({"req": "vm.conf", "sn": SERIAL}).to_string(),
            "`body` is missing",
        ),
        (with("vm.fly", json!([])), "no known kind"),
        (with("vm.conf", json!([{"cpu_num": 1}])), "has no name"),
        (with("vm.conf", json!(["web"])), "/body/0"),
        (
            with("vm.status", json!([{"name": "web", "status": "on"}])),
            "/body/0/status",
        ),
        (with("host.status", json!([])), "no entry"),
    ] {
        let reply = site.report(&sent).await;
        let text = read(&reply)["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(reply.status, 400, "{sent}: {text}");
        assert!(text.contains(reason), "{sent}: {text}");
    }
    assert!(site.mailbox.reports(SERIAL).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_configured_agents_are_served_from_their_address_with_their_secret() {
    let bound = Agent {
        source: Some("10.9.9.9".parse().unwrap()),
        ..agent("CAS2")
    };
    let secret = Agent {
        credential: Some(Credential {
            header: "X-Feed-Key".to_owned(),
            sha256: sha256_hex("made up for this test"),
        }),
        ..agent("CAS3")
    };
    let here = Agent {
        source: Some("127.0.0.1".parse().unwrap()),
        ..agent("CAS4")
    };
    let site = site(vec![agent(SERIAL), bound, secret, here]);
    for (serial, status) in [
        (SERIAL, 200),
        ("CAS9", 403),
        ("CAS2", 403),
        ("CAS3", 403),
        ("CAS4", 200),
    ] {
        let reply = site.poll(serial).await;
        assert_eq!(reply.status, status, "{serial}");
        let report = json!({"req": "vm.conf", "sn": serial, "body": []}).to_string();
        assert_eq!(site.report(&report).await.status, status, "{serial}");
    }
    for (key, status) in [("made up for this test", 200), ("another", 403)] {
        let reply = site
            .send("/api/task/CAS3", "feed.task", "CAS3", "", &[("x-feed-key", key)])
            .await;
        assert_eq!(reply.status, status);
        assert!(!String::from_utf8_lossy(&reply.body).contains("made up"));
    }
}

#[tokio::test]
async fn a_poll_is_answered_with_each_task_once_in_the_hosts_time() {
    let site = site(vec![agent(SERIAL)]);
    assert_eq!(read(&site.poll(SERIAL).await), json!({"body": []}));
    let id = site.put(20, None).await;
    let father = Father { kind: 20, id };
    let child = site.put(3, Some(father)).await;
    let given = read(&site.poll(SERIAL).await);
    let task = given["body"][0].clone();
    assert_eq!(given["body"].as_array().unwrap().len(), 1, "the child waits");
    assert_eq!(
        task.as_object().unwrap().keys().collect::<Vec<_>>(),
        [
            "id",
            "create_time",
            "age",
            "type",
            "vm_name",
            "action",
            "father_id"
        ]
    );
    assert_eq!(
        (&task["id"], &task["type"], &task["age"], &task["father_id"]),
        (&json!(id), &json!(20), &json!(3600), &json!("0-0"))
    );
    let stored = site.mailbox.task(SERIAL, id).await.unwrap().unwrap();
    let zone = jiff::tz::TimeZone::get("Asia/Shanghai").unwrap();
    let there = stored
        .created
        .to_zoned(zone)
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string();
    assert_eq!(task["create_time"], json!(there));
    assert_eq!(read(&site.poll(SERIAL).await), json!({"body": []}), "once");

    let news = |status: &str| {
        json!({"req": "host.task_status", "sn": SERIAL, "body": [{"task": [
            {"id": id.to_string(), "type": 20, "status": status, "msg": "OK", "percent": "100.00", "consuming": 3}]}]})
        .to_string()
    };
    assert_eq!(site.report(&news("1")).await.status, 200);
    assert_eq!(site.report(&news("2")).await.status, 200);
    let ended = site.mailbox.task(SERIAL, id).await.unwrap().unwrap();
    assert!(matches!(ended.state, TaskState::Done { .. }));
    assert_eq!(ended.percent, 100);
    let given = read(&site.poll(SERIAL).await);
    assert_eq!(given["body"][0]["id"], json!(child));
    assert_eq!(given["body"][0]["father_id"], json!(format!("20-{id}")));
}
