//! Hostile bytes: refused in the dialect where a request can be made out at all, and never a panic.

use std::time::Duration;

use babelvisor_server::Limits;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Toy, start};

#[tokio::test]
async fn path_tricks_are_bad_requests_in_the_dialect() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    for trick in [
        "/t/../etc/passwd",
        "/t/%2e%2e/x",
        "/t/.%2e/x",
        "/t/a%00b",
        "/t/%ff",
        "/t/a%0d%0ab",
        "/t/..%2fx",
        "/t/%",
        "/t/seen?a=%ff",
        "/t/seen?a=%00",
    ] {
        let answer = client.get(trick).await;
        assert_eq!(answer.status, 400, "{trick}");
        assert!(
            answer.body.starts_with("toy: the "),
            "{trick} is refused in the dialect: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn hosts_that_are_none_are_refused() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    client.send("GET /t/seen HTTP/1.1\r\nHost: a\"><b\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "toy: the Host header is not a host");
}

#[tokio::test]
async fn broken_framing_is_refused_and_the_server_lives() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    for broken in [
        "POST /t/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST /t/echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST /t/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "GET /t/se\0en HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /t/\u{ff}\u{fe} HTTQ/1.1\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let mut client = server.client().await;
        client.send(broken).await;
        assert_eq!(client.answer().await.status, 400, "{broken:?}");
        assert!(client.is_closed().await);
    }
    assert_eq!(server.client().await.get("/t/items/1").await.status, 200);
}

#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    let hidden = "GET /t/items/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    client
        .send(format!(
            "POST /t/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ))
        .await;
    let answer = client.answer().await;
    // Either refused outright, or read as chunks alone with nothing of the length left to mislead.
    assert!(answer.status == 400 || answer.body.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_body_in_chunks_is_put_together() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    client
        .send("POST /t/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    client.send("4\r\ndefg\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "abcdefg");
}

#[tokio::test]
async fn a_body_that_ends_early_reaches_no_handler() {
    let toy = Toy::new("toy");
    let server = start(vec![toy.mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    client
        .send("POST /t/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nshort")
        .await;
    client.stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(toy.finished.load(std::sync::atomic::Ordering::SeqCst), 0);
}

/// Requests that are nearly right reach further than noise does, so both are sent.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        Just("GET"),
        Just("POST"),
        Just("HEAD"),
        Just("PUT"),
        Just("BREW"),
        Just("")
    ];
    let path = prop_oneof![
        "/t/[a-z0-9%./?&=]{0,30}",
        "[ -~]{0,20}",
        Just("/t/echo".to_owned())
    ];
    let headers = prop::collection::vec("[A-Za-z-]{0,16}:[ -~]{0,24}", 0..6);
    let length = prop_oneof![
        Just(String::new()),
        "Content-Length: [0-9]{1,3}\r\n",
        "Transfer-Encoding: chunked\r\n"
    ];
    let body = prop::collection::vec(any::<u8>(), 0..80);
    (method, path, headers, length, body).prop_map(|(method, path, headers, length, body)| {
        let headers: String = headers.into_iter().map(|line| line + "\r\n").collect();
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}{length}\r\n").into_bytes();
        bytes.extend(body);
        bytes
    })
}

#[test]
fn random_bytes_never_stop_the_server() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let limits = Limits {
        header_time: Duration::from_millis(500),
        body_time: Duration::from_millis(500),
        ..Limits::default()
    };
    let server = runtime.block_on(start(vec![Toy::new("toy").mount("/t")], limits));
    let noise = prop::collection::vec(any::<u8>(), 0..300);
    let bytes = prop_oneof![noise, nearly_requests()];
    let config = Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&bytes, |bytes| {
        // A hung handler would exceed the patience, a dead server would refuse the second connection.
        runtime.block_on(async {
            let mut stream = TcpStream::connect(server.address()).await.unwrap();
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
                .await
                .unwrap();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            prop_assert!(!answer.contains(" 500 "), "{}", answer);
            prop_assert_eq!(server.client().await.get("/t/items/1").await.status, 200);
            Ok(())
        })
    });
    outcome.unwrap();
}
