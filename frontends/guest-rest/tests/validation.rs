//! Validation of a create call: which failure answers, with which code and which field.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use serde_json::json;
use support::{ISO, Site, send, uuid_of, wish, wish_with, wish_without};

#[tokio::test]
async fn the_first_failure_in_the_documents_order_answers() {
    let site = Site::new().await;
    let order = [
        "cpu",
        "memory",
        "os_template_id",
        "quantity",
        "name",
        "password",
        "lease_term",
    ];
    for (place, field) in order.iter().enumerate() {
        let mut body = wish();
        for later in &order[place..] {
            body[*later] = json!({});
        }
        let answer = site.post(&body).await;
        assert!(
            answer
                .refused("412/41202")
                .sub_text()
                .ends_with(&format!("源自字段 {field}")),
            "{}",
            answer.body
        );
    }
    // A limit of the site has its place in that order, too.
    let answer = site.post(&wish_with(json!({"quantity": 101, "name": 5}))).await;
    assert!(
        answer
            .refused("412/41203")
            .sub_text()
            .starts_with("quantity参数值超出合理范围"),
        "{}",
        answer.body
    );
    let answer = site
        .post(&wish_with(json!({"os_template_id": 99, "lease_term": "x"})))
        .await;
    answer.refused("412/41202");
    // Then the template, then room.
    let answer = site
        .post(&wish_with(json!({"os_template_id": 99, "memory": 65536})))
        .await;
    assert_eq!(
        answer.refused("404/40450").sub_text(),
        "目标操作系统模板未找到: 99"
    );
    site.post(&wish_with(json!({"memory": 65536})))
        .await
        .refused("503/50350");
    site.post(&wish_with(json!({"os_template_id": ISO})))
        .await
        .refused("404/40450");
    assert!(site.core.now().vms.is_empty() && site.changes().is_empty());
}

#[tokio::test]
async fn fields_are_missing_of_the_wrong_type_or_out_of_range() {
    let site = Site::new().await;
    for field in ["cpu", "memory", "os_template_id", "quantity", "lease_term"] {
        let answer = site.post(&wish_without(field)).await;
        assert_eq!(answer.refused("412/41201").sub_text(), format!("缺少参数{field}"));
        for wrong in [
            json!("4"),
            json!(4.0),
            json!(4.5),
            json!(true),
            json!(null),
            json!([4]),
            json!(u64::MAX),
        ] {
            let answer = site.post(&wish_with(json!({field: wrong}))).await;
            assert!(
                answer.refused("412/41202").sub_text().ends_with(field),
                "{field} {wrong}"
            );
        }
    }
    for field in ["name", "password"] {
        for wrong in [json!(4), json!(null), json!(false), json!({})] {
            site.post(&wish_with(json!({field: wrong})))
                .await
                .refused("412/41202");
        }
        for odd in ["a\u{1}b", "a\nb", &"x".repeat(256)] {
            let answer = site.post(&wish_with(json!({field: odd}))).await;
            assert!(
                answer.refused("412/41203").sub_text().starts_with(field),
                "{field}"
            );
        }
    }
    for field in ["cpu", "memory", "os_template_id", "quantity"] {
        for absurd in [0, -1, i64::MIN] {
            let answer = site.post(&wish_with(json!({field: absurd}))).await;
            assert!(
                answer.refused("412/41203").sub_text().starts_with(field),
                "{field} {absurd}"
            );
        }
    }
    for (field, absurd) in [
        ("cpu", 1_000_000_000_000_000_000),
        ("memory", i64::MAX),
        ("quantity", 1_000_000),
    ] {
        site.post(&wish_with(json!({field: absurd})))
            .await
            .refused("412/41203");
    }
    assert!(site.core.now().vms.is_empty() && site.changes().is_empty());
}

#[tokio::test]
async fn any_integer_is_a_lease_and_unknown_fields_are_ignored() {
    let site = Site::new().await;
    for lease in [0, -5, 100, i64::MAX] {
        let guest = site
            .post(&wish_with(json!({"lease_term": lease, "colour": "blue"})))
            .await
            .good()[0]
            .clone();
        assert_eq!(site.vm(&uuid_of(&guest)).record.lease_term, Some(lease));
    }
}

#[tokio::test]
async fn hostile_names_are_names() {
    let site = Site::new().await;
    for name in [
        "<name>&\"'",
        "../../etc/passwd",
        "x; rm -rf /",
        "名字",
        " ",
        "{{7*7}}",
        "a".repeat(255).as_str(),
    ] {
        let uuid = site.guest(name).await;
        let guest = site.get(&format!("/api/guest/{uuid}")).await.good().clone();
        assert_eq!(guest["name"], name);
    }
    let raw = site.get("/api/guests").await.bytes;
    assert!(
        String::from_utf8(raw).unwrap().contains("名字"),
        "text beyond ASCII is sent as it is"
    );
}

#[tokio::test]
async fn bodies_that_are_no_json_object() {
    let site = Site::new().await;
    let cases: [(&[u8], &str); 8] = [
        (b"", "400"),
        (b"{\"cpu\": 4", "400"),
        (b"cpu=4&memory=4", "400"),
        (b"{\"cpu\": 4, \"cpu\": 5}", "400"),
        (b"\xff\xfe{}", "400"),
        (b"{} {}", "400"),
        (b"[]", "412/41202"),
        (b"{}", "412/41201"),
    ];
    for (body, code) in cases {
        site.send("POST", "/api/guest", body).await.refused(code);
    }
    let deep = "[".repeat(10_000);
    site.send("POST", "/api/guest", deep.as_bytes())
        .await
        .refused("400");
    // Without a content type an empty body is one without fields, and a good one is read all the same.
    let answer = send(&*site.frontend, "POST", "/api/guest", &[], b"").await;
    assert_eq!(answer.refused("412/41201").sub_text(), "缺少参数cpu");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    send(
        &*site.frontend,
        "POST",
        "/api/guest",
        &form,
        wish().to_string().as_bytes(),
    )
    .await
    .good();
}
