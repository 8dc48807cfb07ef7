//! Calls in the two dialects, as their clients make them.

use std::net::SocketAddr;
use std::time::Duration;

use babelvisor_conformance::testbed::http::{Answer, call, get, post};
use babelvisor_conformance::testbed::{Gateway, eventually};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// A client of both dialects, who may also look at the operators' listener.
#[derive(Clone, Copy)]
pub struct Client {
    address: SocketAddr,
    admin: SocketAddr,
}

impl Client {
    pub fn of(gateway: &Gateway) -> Self {
        Self {
            address: gateway.address(),
            admin: gateway.admin(),
        }
    }

    /// The newest job of an operation, as operators see it; null without one.
    pub async fn newest_job(self, operation: &str) -> Value {
        let jobs = get(self.admin, "/_gw/jobs").send().await.unwrap().json().unwrap();
        let jobs = jobs["jobs"].as_array().unwrap().clone();
        jobs.into_iter()
            .find(|job| job["operation"] == operation)
            .unwrap_or(Value::Null)
    }

    /// Waits until the newest job of an operation has ended, and returns it.
    pub async fn job_ended(self, operation: &str) -> Value {
        eventually(&format!("the job of {operation} ends"), MINUTE * 2, || async {
            let job = self.newest_job(operation).await;
            job["ended"].is_string().then_some(job)
        })
        .await
        .unwrap()
    }

    pub async fn post(self, path: &str, body: &Value) -> Value {
        post(self.address, path, body)
            .deadline(MINUTE)
            .send()
            .await
            .unwrap()
            .json()
            .unwrap()
    }

    pub async fn get(self, path: &str) -> Value {
        get(self.address, path)
            .deadline(MINUTE)
            .send()
            .await
            .unwrap()
            .json()
            .unwrap()
    }

    pub async fn send(self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let request = call(self.address, method, path).deadline(MINUTE);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().await.unwrap()
    }

    /// A Guest REST call that must answer `"200"`.
    pub async fn guest(self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.send(method, path, body).await.json().unwrap();
        assert_eq!(answer["state"]["code"], "200", "{method} {path}: {answer}");
        answer
    }

    /// A pve-open call that must answer code 0.
    pub async fn pve(self, method: &str, path: &str) -> Value {
        let answer = self.send(method, path, None).await.json().unwrap();
        assert_eq!(answer["code"], 0, "{method} {path}: {answer}");
        answer["data"].clone()
    }

    /// Creates one guest through Guest REST and returns its uuid; it may still be under way.
    pub async fn create_guest(self, name: &str) -> String {
        let body = json!({"cpu": 1, "memory": 1, "os_template_id": 1, "quantity": 1, "name": name,
                          "password": "Reef-lamp-7", "lease_term": 100});
        self.guest("POST", "/api/guest", Some(&body)).await;
        let row = self.guest_named(name).await;
        row["uuid"].as_str().unwrap().to_owned()
    }

    /// The row of a name; null without one.
    pub async fn guest_named(self, name: &str) -> Value {
        let list = self
            .guest("GET", &format!("/api/guests?filter=name:eq:{name}"), None)
            .await;
        list["data"].get(0).cloned().unwrap_or(Value::Null)
    }

    /// Waits until a guest has this status in Guest REST.
    pub async fn until_status(self, uuid: &str, status: i64) {
        let what = format!("guest {uuid} has status {status}");
        eventually(&what, MINUTE * 2, || async {
            let answer = self
                .send("GET", &format!("/api/guest/{uuid}"), None)
                .await
                .json()
                .unwrap();
            (answer["data"]["status"] == status).then_some(())
        })
        .await
        .unwrap();
    }

    /// Waits until Guest REST does not know the guest.
    pub async fn until_gone(self, uuid: &str) {
        eventually(&format!("guest {uuid} is gone"), MINUTE * 2, || async {
            let answer = self
                .send("GET", &format!("/api/guest/{uuid}"), None)
                .await
                .json()
                .unwrap();
            (answer["state"]["sub"]["code"] == "40401").then_some(())
        })
        .await
        .unwrap();
    }

    /// Creates a machine through pve-open and returns its id.
    pub async fn create_machine(self) -> String {
        let before = self.machines().await;
        let package = self.pve("GET", "/v1/pve/open/packAge/0").await[0]["packageId"].clone();
        let image = self.pve("GET", "/v1/pve/open/image").await[0]["imageId"].clone();
        let body = json!({"packageId": package, "imageId": image});
        let answer = self.post("/v1/pve/open/createquantity", &body).await;
        assert_eq!(answer["code"], 0, "{answer}");
        self.new_machine(&before).await
    }

    /// The id that is in `mypage` now and was not in `before`.
    pub async fn new_machine(self, before: &[String]) -> String {
        eventually("the machine is in mypage", MINUTE, || async {
            self.machines().await.into_iter().find(|id| !before.contains(id))
        })
        .await
        .unwrap()
    }

    /// The ids of all machines on the first page.
    pub async fn machines(self) -> Vec<String> {
        let page = self.pve("GET", "/v1/pve/open/mypage?page=1&pageSize=25").await;
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until a machine has this status in pve-open.
    pub async fn until_machine(self, id: &str, status: &str) {
        eventually(
            &format!("machine {id} has status {status}"),
            MINUTE * 2,
            || async {
                let machine = self.pve("GET", &format!("/v1/pve/open/one/{id}")).await;
                (machine["status"] == status).then_some(())
            },
        )
        .await
        .unwrap();
    }
}
