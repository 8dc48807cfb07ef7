//! The protocol as its clients meet it: login and logout, the header, jobs and their polls, errors in their two
//! forms, action keys, tags, classes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::time::Duration;

use babelvisor_core::model::{JobId, Role};
use babelvisor_zstack::{Settings, Strictness, Zstack};
use serde_json::{Value, json};
use support::{LOGIN, MACHINES, Site, USER, actions, documented, location_of, machine, password_of, sha512};

const ABSENT: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn login_takes_both_spellings_and_the_digest_in_any_case() {
    let site = Site::new().await;
    let digest = sha512(&password_of(USER));
    for (key, password) in [
        ("logInByAccount", digest.clone()),
        ("loginByAccount", digest.clone()),
        ("loginByAccount", digest.to_uppercase()),
    ] {
        let body = json!({ key: {"accountName": USER, "password": password} });
        let answer = site.send("PUT", LOGIN, &[], &body.to_string()).await.good();
        documented("LogInByAccount", &answer);
        let session = answer["inventory"]["uuid"].as_str().unwrap();
        assert_eq!(session.len(), 32);
        assert_eq!(
            answer["inventory"]["accountUuid"],
            answer["inventory"]["userUuid"]
        );
        site.call_as(
            session,
            "GET",
            &format!("{}/console-addresses", machine(ABSENT)),
            &Value::Null,
        )
        .await;
    }
}

#[tokio::test]
async fn a_wrong_login_says_so_and_no_more() {
    let site = Site::new().await;
    let digest = sha512(&password_of(USER));
    for (name, password) in [
        (USER, sha512("something else")),
        ("nobody", digest),
        // The plain password is not what clients send.
        (USER, password_of(USER)),
    ] {
        let body = json!({"logInByAccount": {"accountName": name, "password": password}});
        let answer = site.send("PUT", LOGIN, &[], &body.to_string()).await;
        assert_eq!(answer.code(), "ID.1000");
        assert_eq!(answer.details(), "wrong account name or password");
    }
    let missing = json!({"logInByAccount": {"accountName": USER}});
    let answer = site.send("PUT", LOGIN, &[], &missing.to_string()).await;
    assert_eq!(answer.code(), "SYS.1007");
    assert_eq!(
        answer.details(),
        "field[password] of message[APILogInByAccountMsg] is mandatory, can not be null"
    );
}

#[tokio::test]
async fn logout_is_200_with_an_object_and_ends_the_session() {
    let site = Site::new().await;
    let session = site.log_in(USER).await;
    let target = format!("/zstack/v1/accounts/sessions/{session}");
    for _ in 0..2 {
        let answer = site.send("DELETE", &target, &[], "").await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
    }
    let console = format!("{}/console-addresses", machine(ABSENT));
    let answer = site.call_as(&session, "GET", &console, &Value::Null).await;
    assert_eq!(answer.code(), "ID.1001");
    assert_eq!(answer.details(), "Session expired");
    let answer = site
        .send("DELETE", "/zstack/v1/accounts/sessions/mine", &[], "")
        .await;
    assert_eq!(answer.code(), "SYS.1007", "no session can be called so");
}

#[tokio::test]
async fn a_session_lives_as_long_as_it_is_used() {
    let settings = Settings {
        session_seconds: 2,
        ..Settings::default()
    };
    let site = Site::with(settings).await;
    let session = site.log_in(USER).await;
    let console = format!("{}/console-addresses", machine(ABSENT));
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(3500) {
        let answer = site.call_as(&session, "GET", &console, &Value::Null).await;
        assert_eq!(answer.code(), "SYS.1003", "after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let idle = site.log_in(USER).await;
    // Asking would keep it alive.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let answer = site.call_as(&idle, "GET", &console, &Value::Null).await;
    assert_eq!(answer.code(), "ID.1001");
}

#[tokio::test]
async fn the_header_is_asked_for_in_plain_text() {
    let site = Site::new().await;
    for (method, target, body) in [
        (
            "GET",
            format!("{}/console-addresses", machine(ABSENT)),
            String::new(),
        ),
        (
            "POST",
            MACHINES.to_owned(),
            json!({ "params": site.wanted("web") }).to_string(),
        ),
        ("DELETE", machine(ABSENT), String::new()),
        ("GET", format!("/zstack/v1/api-jobs/{ABSENT}"), String::new()),
    ] {
        let missing = site.send(method, &target, &[], &body).await;
        assert_eq!(
            (missing.status, missing.text.as_str()),
            (400, "missing header 'Authorization'"),
            "{method} {target}"
        );
        let bearer = [("authorization", "Bearer abc")];
        let other = site.send(method, &target, &bearer, &body).await;
        assert_eq!(
            (other.status, other.text.as_str()),
            (400, "Authorization type must be 'OAuth'"),
            "{method} {target}"
        );
        assert!(other.header("content-type").unwrap().starts_with("text/plain"));
    }
}

#[tokio::test]
async fn a_stale_session_fails_a_query_at_once_and_a_change_at_the_poll() {
    let site = Site::new().await;
    let console = format!("{}/console-addresses", machine(ABSENT));
    let answer = site.call_as(ABSENT, "GET", &console, &Value::Null).await;
    assert_eq!(answer.code(), "ID.1001");

    let body = json!({ "params": site.wanted("web") });
    let accepted = site.call_as(ABSENT, "POST", MACHINES, &body).await;
    assert_eq!(accepted.status, 202);
    let polled = site.end_of(ABSENT, &accepted).await;
    assert_eq!(polled.code(), "ID.1001");
    assert!(site.core.now().vms.is_empty());
}

#[tokio::test]
async fn validation_fails_the_poll_and_a_wrong_type_the_call() {
    let site = Site::new().await;
    let mut wanted = site.wanted("web");
    wanted.as_object_mut().unwrap().remove("name");
    let missing = site.done("POST", MACHINES, &json!({ "params": wanted })).await;
    assert_eq!(missing.code(), "SYS.1007");
    assert_eq!(
        missing.details(),
        "field[name] of message[APICreateVmInstanceMsg] is mandatory, can not be null"
    );
    wanted["name"] = json!(["web"]);
    let typed = site.call("POST", MACHINES, &json!({ "params": wanted })).await;
    assert_eq!(typed.status, 400, "{}", typed.text);
    assert!(typed.text.contains("field[name]"), "{}", typed.text);
    assert_eq!(typed.body, Value::Null, "plain text");
}

#[tokio::test]
async fn a_job_has_the_uuid_that_the_client_chose() {
    let site = Site::new().await;
    let oauth = format!("OAuth {}", site.session);
    let body = json!({ "params": site.wanted("web") }).to_string();
    let named = "d0345d3ddcae485f8170572b15a2b581";
    let headers = [("authorization", oauth.as_str()), ("x-job-uuid", named)];
    let accepted = site.send("POST", MACHINES, &headers, &body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert!(location_of(&accepted).ends_with(named));
    let first = site.end_of(&site.session, &accepted).await.good();

    let again = site.send("POST", MACHINES, &headers, &body).await;
    assert_eq!(again.status, 202, "the same call is the same job: {}", again.text);
    let second = site.end_of(&site.session, &again).await.good();
    assert_eq!(first["inventory"]["uuid"], second["inventory"]["uuid"]);
    assert_eq!(site.core.now().vms.len(), 1);

    let other = json!({ "params": site.wanted("other") }).to_string();
    let other = site.send("POST", MACHINES, &headers, &other).await;
    assert_eq!(other.status, 400, "{}", other.text);
    assert!(
        other.text.starts_with("Invalid header[X-Job-UUID]"),
        "{}",
        other.text
    );

    for wrong in ["abc", "d0345d3d-dcae-485f-8170-572b15a2b581", ""] {
        let headers = [("authorization", oauth.as_str()), ("x-job-uuid", wrong)];
        let refused = site.send("POST", MACHINES, &headers, &body).await;
        assert_eq!(refused.status, 400, "{wrong}");
        assert!(
            refused.text.starts_with("Invalid header[X-Job-UUID]"),
            "{}",
            refused.text
        );
    }
    let letters = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";
    let headers = [("authorization", oauth.as_str()), ("x-job-uuid", letters)];
    let accepted = site.send("DELETE", &machine(ABSENT), &headers, "").await;
    assert!(location_of(&accepted).ends_with(letters));
    assert_eq!(site.end_of(&site.session, &accepted).await.good(), json!({}));
}

#[tokio::test]
async fn a_job_that_is_not_there_is_404_in_plain_text() {
    let site = Site::new().await;
    for uuid in [ABSENT, "nonsense"] {
        let answer = site.get(&format!("/zstack/v1/api-jobs/{uuid}")).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (404, "the job has been expired")
        );
    }
}

#[tokio::test]
async fn work_that_goes_on_is_told_with_its_location_and_nothing_else_has_one() {
    let site = Site::new().await;
    let accepted = site
        .call("POST", MACHINES, &json!({ "params": site.wanted("web") }))
        .await;
    assert_eq!(accepted.body.as_object().unwrap().len(), 1);
    let ended = site.end_of(&site.session, &accepted).await.good();
    assert!(ended.get("location").is_none());
    documented("CreateVmInstance", &ended);
}

#[tokio::test]
async fn an_action_is_named_by_the_key_of_the_body() {
    let site = Site::new().await;
    let uuid = site.stopped("web").await;
    for nameless in ["{}", "", r#"{"systemTags":[]}"#, r#"{"fly":{}}"#, "[]", "no json"] {
        let oauth = format!("OAuth {}", site.session);
        let headers = [("authorization", oauth.as_str())];
        let answer = site.send("PUT", &actions(&uuid), &headers, nameless).await;
        assert_eq!(answer.status, 400, "{nameless}: {}", answer.text);
        assert_eq!(answer.body, Value::Null, "plain text: {nameless}");
    }
    let no_key = site.call("PUT", &actions(&uuid), &json!({})).await;
    assert_eq!(
        no_key.text,
        format!(
            "the body doesn't contain action mapping to the URL[{}]",
            actions(&uuid)
        )
    );
    let repeated = json!({"startVmInstance": {"uuid": uuid, "sessionId": "x", "systemTags": null}});
    let answer = site.done("PUT", &actions(&uuid), &repeated).await;
    assert_eq!(answer.good()["inventory"]["state"], "Running");
}

#[tokio::test]
async fn what_is_unknown_is_told_apart() {
    let site = Site::new().await;
    let unknown = site.get("/zstack/v1/nothing").await;
    assert_eq!(
        (unknown.status, unknown.text.as_str()),
        (404, "no api mapping to /zstack/v1/nothing")
    );
    let method = site.call("PATCH", MACHINES, &json!({})).await;
    assert_eq!(method.status, 405);
    assert_eq!(method.header("allow"), Some("GET, POST"));
    let not_built = site
        .call(
            "PUT",
            &actions(ABSENT),
            &json!({"changeVmImage": {"imageUuid": ABSENT}}),
        )
        .await;
    assert_eq!(not_built.code(), "SYS.1014");
    assert_eq!(
        not_built.details(),
        "the operation ChangeVmImage is not implemented yet"
    );
}

#[tokio::test]
async fn a_client_that_asks_is_told_the_class_of_every_object() {
    let site = Site::new().await;
    let accepted = site
        .call("POST", MACHINES, &json!({ "params": site.wanted("web") }))
        .await;
    site.end_of(&site.session, &accepted).await.good();
    let oauth = format!("OAuth {}", site.session);
    let headers = [("authorization", oauth.as_str()), ("x-json-schema", "true")];
    let answer = site
        .send("GET", &location_of(&accepted), &headers, "")
        .await
        .good();
    assert_eq!(
        answer["schema"]["inventory"],
        "org.zstack.header.vm.VmInstanceInventory"
    );
    assert_eq!(
        answer["schema"]["inventory.vmNics[0]"],
        "org.zstack.header.vm.VmNicInventory"
    );
    assert_eq!(
        answer["schema"]["inventory.allVolumes[0]"],
        "org.zstack.header.volume.VolumeInventory"
    );
}

#[tokio::test]
async fn a_field_that_is_ignored_is_told_or_refused() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let body = json!({"stopVmInstance": {"stopHA": "true"}});
    let accepted = site.call("PUT", &actions(&uuid), &body).await;
    assert!(
        accepted.header("babelvisor-warning").unwrap().contains("stopHA"),
        "{:?}",
        accepted.headers
    );
    let strict = Site::with(Settings {
        strictness: Strictness::Enforce,
        ..Settings::default()
    })
    .await;
    let uuid = strict.running("web").await;
    let refused = strict.done("PUT", &actions(&uuid), &body).await;
    assert_eq!(refused.code(), "SYS.1007");
    assert!(refused.details().contains("stopHA"));
}

#[tokio::test]
async fn who_may_only_look_changes_nothing() {
    let site = Site::new().await;
    site.account("viewer", "home", Role::Viewer, None).await;
    let viewer = site.log_in("viewer").await;
    let uuid = site.running("web").await;
    for body in [
        json!({"stopVmInstance": {}}),
        json!({"updateVmInstance": {"name": "x"}}),
    ] {
        let refused = site.done_as(&viewer, "PUT", &actions(&uuid), &body).await;
        assert_eq!(refused.code(), "ID.1002", "{}", refused.text);
    }
    let console = format!("{}/console-addresses", machine(&uuid));
    site.call_as(&viewer, "GET", &console, &Value::Null).await.good();
    let password = format!("{}/console-passwords", machine(&uuid));
    let refused = site.call_as(&viewer, "GET", &password, &Value::Null).await;
    assert_eq!(refused.code(), "ID.1002", "a password is a way in");
}

#[tokio::test]
async fn a_quota_is_told_by_its_own_code() {
    let site = Site::new().await;
    site.account("small", "elsewhere", Role::User, Some(0)).await;
    let small = site.log_in("small").await;
    let body = json!({ "params": site.wanted("web") });
    let refused = site.done_as(&small, "POST", MACHINES, &body).await;
    assert_eq!(refused.code(), "ID.1003", "{}", refused.text);
}

#[tokio::test]
async fn a_web_hook_is_told_what_a_poll_would_answer() {
    let site = Site::new().await;
    let hooks = Zstack::hooks(site.core.clone(), Settings::default());
    let header = |message: &babelvisor_core::jobs::HookMessage, name: &str| {
        let found = message.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let oauth = format!("OAuth {}", site.session);
    let mut call = site.wanted("web");
    for (uuid, expected) in [
        ("d0345d3ddcae485f8170572b15a2b581", "true"),
        ("e0345d3ddcae485f8170572b15a2b581", "false"),
    ] {
        let headers = [("authorization", oauth.as_str()), ("x-job-uuid", uuid)];
        let body = json!({ "params": call }).to_string();
        let accepted = site.send("POST", MACHINES, &headers, &body).await;
        let polled = site.end_of(&site.session, &accepted).await;
        let id: JobId = uuid.parse().unwrap();
        let ended = site
            .core
            .poll(Some(&support::administrator()), id)
            .await
            .unwrap()
            .unwrap();
        let message = hooks.encode(&ended).await.unwrap();
        assert_eq!(header(&message, "X-Job-UUID").as_deref(), Some(uuid));
        assert_eq!(header(&message, "X-Job-Success").as_deref(), Some(expected));
        assert_eq!(
            serde_json::from_slice::<Value>(&message.body).unwrap(),
            polled.body
        );
        call["imageUuid"] = json!(ABSENT);
    }
}

#[tokio::test]
async fn who_has_not_signed_in_makes_the_gateway_post_nothing() {
    use babelvisor_core::store::RecordKind;
    let site = Site::new().await;
    let store = site.core.registry().store();
    let oauth = format!("OAuth {ABSENT}");
    let mine = format!("OAuth {}", site.session);
    for (authorization, due) in [(oauth, 0), (mine, 1)] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-web-hook", "http://127.0.0.1:9/hook"),
        ];
        let answer = site.send("DELETE", &machine(ABSENT), &headers, "").await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(store.load(RecordKind::Hook).await.unwrap().len(), due);
    }
}

#[tokio::test]
async fn a_web_hook_that_the_site_does_not_allow_is_refused_at_once() {
    let site = Site::new().await;
    let oauth = format!("OAuth {}", site.session);
    for address in ["http://192.0.2.1/hook", "ftp://somewhere", "nonsense"] {
        let headers = [("authorization", oauth.as_str()), ("x-web-hook", address)];
        let body = json!({ "params": site.wanted("web") }).to_string();
        let refused = site.send("POST", MACHINES, &headers, &body).await;
        assert_eq!(refused.status, 400, "{address}: {}", refused.text);
        assert!(
            refused.text.starts_with("Invalid header[X-Web-Hook]"),
            "{}",
            refused.text
        );
    }
    assert!(site.core.now().vms.is_empty());
}
