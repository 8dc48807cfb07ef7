//! What a well-behaved client meets: routing, refusals in the dialect, ids, keep-alive, shared ports.

use babelvisor_server::{Limits, TrailingSlash};

use crate::support::{Toy, start};

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    for number in 0..20 {
        assert_eq!(
            client.get(&format!("/t/items/{number}")).await.body,
            format!("item={number}")
        );
        assert_eq!(client.post("/t/echo", "hello").await.body, "hello");
    }
}

#[tokio::test]
async fn two_requests_sent_at_once_are_answered_in_order() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    let one = |id: u8| format!("GET /t/items/{id} HTTP/1.1\r\nHost: toy.test\r\n\r\n");
    client.send(one(1) + &one(2)).await;
    assert_eq!(client.answer().await.body, "item=1");
    assert_eq!(client.answer().await.body, "item=2");
}

#[tokio::test]
async fn unknown_path_wrong_method_and_not_built_are_three_answers_in_the_dialect() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    let unknown = client.get("/t/nothing").await;
    assert_eq!(
        (unknown.status, unknown.body.as_str()),
        (404, "toy: unknown path /t/nothing")
    );
    let wrong = client.get("/t/echo").await;
    assert_eq!(
        (wrong.status, wrong.body.as_str()),
        (405, "toy: wrong method, use POST")
    );
    let later = client.post("/t/later", "{}").await;
    assert_eq!(
        (later.status, later.body.as_str()),
        (501, "toy: not built: later, body b\"{}\"")
    );
}

#[tokio::test]
async fn head_and_options_are_wrong_methods() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    client
        .send("OPTIONS /t/echo HTTP/1.1\r\nHost: toy.test\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 405);
    client
        .send("HEAD /t/seen HTTP/1.1\r\nHost: toy.test\r\n\r\n")
        .await;
    assert_eq!(client.answer_to_head().await.status, 405);
    assert_eq!(
        client.get("/t/items/1").await.status,
        200,
        "the connection is in step after a HEAD"
    );
}

#[tokio::test]
async fn the_dialect_sees_the_request_as_it_was_sent() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    client
        .send("GET /t/seen?a=%41&b HTTP/1.1\r\nHost: toy.test:81\r\nX-One: 1\r\n\r\n")
        .await;
    assert_eq!(
        client.answer().await.body,
        "http toy.test:81 GET /t/seen a=%41&b 1"
    );
    client
        .send("GET /t/seen HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.body, format!("http {} GET /t/seen  -", server.address()));
}

#[tokio::test]
async fn request_ids_are_made_or_taken_over() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    let first = client.get("/t/items/1").await.headers["x-request-id"].clone();
    let second = client.get("/t/nothing").await.headers["x-request-id"].clone();
    assert_ne!(first, second);
    client
        .send("GET /t/items/1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-1\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.headers["x-request-id"], "mine-1");
    client
        .send("GET /t/items/1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: <no>\r\n\r\n")
        .await;
    assert_ne!(client.answer().await.headers["x-request-id"], "<no>");
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_connection_goes_on() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    let fault = client.get("/t/panic").await;
    assert_eq!((fault.status, fault.body.as_str()), (500, "toy: fault"));
    assert_eq!(client.get("/t/refusal-panics").await.status, 500);
    assert_eq!(client.get("/t/bad-reply").await.status, 500);
    assert_eq!(client.get("/t/items/1").await.status, 200);
}

#[tokio::test]
async fn on_a_shared_port_the_longest_prefix_owns_a_path() {
    let (short, long) = (Toy::new("short"), Toy::new("long"));
    let server = start(
        vec![short.mount("/api"), long.mount("/api/deep")],
        Limits::default(),
    )
    .await;
    let mut client = server.client().await;
    assert_eq!(
        client.get("/api/nothing").await.body,
        "short: unknown path /api/nothing"
    );
    assert_eq!(
        client.get("/api/deep/nothing").await.body,
        "long: unknown path /api/deep/nothing"
    );
    assert_eq!(
        client.get("/api/deepest").await.body,
        "short: unknown path /api/deepest"
    );
    assert_eq!(client.get("/api/deep/%zz").await.status, 400);
    assert_eq!(client.get("/api/deep/items/7").await.body, "item=7");
    let nobody = client.get("/elsewhere").await;
    assert_eq!(nobody.status, 404);
    assert!(
        nobody.body.starts_with("{\"error\":"),
        "neutral, not in a dialect: {}",
        nobody.body
    );
    assert_eq!(client.get("/%zz").await.status, 400);
}

#[tokio::test]
async fn a_dialect_alone_on_a_port_owns_every_path() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    assert_eq!(
        server.client().await.get("/elsewhere").await.body,
        "toy: unknown path /elsewhere"
    );
}

#[tokio::test]
async fn slash_forms_follow_the_mount() {
    let exact = Toy::new("exact").mount("/exact");
    let mut both = Toy::new("both").mount("/both");
    both.trailing_slash = TrailingSlash::Both;
    let server = start(vec![exact, both], Limits::default()).await;
    let mut client = server.client().await;
    assert_eq!(client.get("/exact/seen/").await.status, 404);
    assert_eq!(client.get("/exact/slash").await.status, 404);
    assert_eq!(client.get("/both/seen/").await.status, 200);
    assert_eq!(client.get("/both/slash").await.status, 200);
}

#[tokio::test]
async fn an_encoded_slash_reaches_the_parameter() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    assert_eq!(client.get("/t/items/a%2Fb").await.body, "item=a/b");
    assert_eq!(client.get("/t/items/%E4%BA%91").await.body, "item=云");
}
