//! Limits of size, number and time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use babelvisor_server::{Drained, Limits};
use tokio::time::timeout;

use crate::support::{PATIENCE, Toy, start};

fn small() -> Limits {
    Limits {
        target_bytes: 200,
        header_bytes: 500,
        header_count: 10,
        body_bytes: 100,
        ..Limits::default()
    }
}

#[tokio::test]
async fn sizes_are_refused_in_the_dialect() {
    let server = start(vec![Toy::new("toy").mount("/t")], small()).await;
    let mut client = server.client().await;
    assert_eq!(
        client.get(&format!("/t/{}", "a".repeat(300))).await.body,
        "toy: the path and query are too long"
    );
    client
        .send(format!(
            "GET /t/seen HTTP/1.1\r\nHost: a\r\nX-Big: {}\r\n\r\n",
            "b".repeat(600)
        ))
        .await;
    assert_eq!(client.answer().await.body, "toy: the headers are too large");
    let many: String = (0..11).map(|number| format!("X-{number}: 1\r\n")).collect();
    client
        .send(format!("GET /t/seen HTTP/1.1\r\nHost: a\r\n{many}\r\n"))
        .await;
    assert_eq!(client.answer().await.body, "toy: there are too many headers");
    let big = client.post("/t/echo", &"c".repeat(101)).await;
    assert_eq!((big.status, big.body.as_str()), (413, "toy: body over 100"));
    assert_eq!(
        client.post("/t/echo", &"c".repeat(100)).await.status,
        200,
        "the limit itself is fine"
    );
}

#[tokio::test]
async fn a_huge_head_is_refused_before_it_is_held_in_memory() {
    let server = start(vec![Toy::new("toy").mount("/t")], small()).await;
    let mut client = server.client().await;
    client
        .send(format!(
            "GET /t/seen HTTP/1.1\r\nHost: a\r\nX-Big: {}\r\n\r\n",
            "b".repeat(40_000)
        ))
        .await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn a_body_in_chunks_is_limited_as_well() {
    let server = start(vec![Toy::new("toy").mount("/t")], small()).await;
    let mut client = server.client().await;
    client
        .send("POST /t/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("64\r\n{}\r\n", "d".repeat(100));
    client.send(format!("{chunk}{chunk}0\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_client_that_waits_for_leave_is_refused_before_it_sends() {
    let server = start(vec![Toy::new("toy").mount("/t")], small()).await;
    let mut client = server.client().await;
    let head = "POST /t/echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ";
    client.send(format!("{head}101\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 413);
    let mut client = server.client().await;
    client.send(format!("{head}5\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.body, "hello");
}

#[tokio::test]
async fn a_slow_head_is_cut() {
    let limits = Limits {
        header_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = start(vec![Toy::new("toy").mount("/t")], limits).await;
    let mut client = server.client().await;
    client.send("GET /t/seen HTTP/1.1\r\nHost:").await;
    assert!(client.is_closed().await);
    // The same on a connection that has already answered.
    let mut client = server.client().await;
    assert_eq!(client.get("/t/items/1").await.status, 200);
    client.send("GET /t").await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_outlives_the_head_limit_but_not_its_own() {
    let limits = Limits {
        header_time: Duration::from_millis(50),
        idle_time: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = start(vec![Toy::new("toy").mount("/t")], limits).await;
    let mut client = server.client().await;
    assert_eq!(client.get("/t/items/1").await.status, 200);
    let idle_since = Instant::now();
    assert!(client.is_closed().await);
    assert!(
        idle_since.elapsed() >= Duration::from_millis(900),
        "closed after {:?}",
        idle_since.elapsed()
    );
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_cut() {
    let limits = Limits {
        body_bytes: 32 << 20,
        write_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = start(vec![Toy::new("toy").mount("/t")], limits).await;
    let mut client = server.client().await;
    let size = 24 << 20; // more than the system holds for a peer that does not read
    client
        .send(format!(
            "POST /t/echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        ))
        .await;
    client.send(vec![b'x'; size]).await;
    let drained = timeout(PATIENCE, server.stop())
        .await
        .expect("only a cut ends this connection");
    assert_eq!(drained.unwrap(), Drained::Finished);
}

#[tokio::test]
async fn a_slow_body_is_refused_in_the_dialect() {
    let limits = Limits {
        body_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let toy = Toy::new("toy");
    let server = start(vec![toy.mount("/t")], limits).await;
    let mut client = server.client().await;
    client
        .send("POST /t/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nslow")
        .await;
    assert_eq!(client.answer().await.body, "toy: too slow");
    assert!(client.is_closed().await);
    assert_eq!(toy.finished.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_slow_handler_is_refused_and_still_finishes() {
    let limits = Limits {
        handler_time: Duration::from_secs(1),
        ..Limits::default()
    };
    let toy = Toy::new("toy");
    let server = start(vec![toy.mount("/t")], limits).await;
    let answer = server.client().await.get("/t/hold").await;
    assert_eq!(answer.body, "toy: too slow");
    toy.gate.add_permits(1);
    finished(&toy, 1).await;
}

#[tokio::test]
async fn hanging_up_cancels_nothing() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let toy = Toy::new("toy");
    let server = start(vec![toy.mount("/t")], limits).await;
    let mut client = server.client().await;
    client.send("GET /t/hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    toy.wait_entered(1).await;
    drop(client);
    // The only place is free again once the server has seen the hang-up.
    let deadline = Instant::now() + PATIENCE;
    while server.client().await.get("/t/items/1").await.status != 200 {
        assert!(Instant::now() < deadline, "the hang-up is not noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        toy.finished.load(Ordering::SeqCst),
        1,
        "only the second request has ended"
    );
    toy.gate.add_permits(1);
    finished(&toy, 2).await;
}

#[tokio::test]
async fn one_request_too_many_is_refused_in_the_dialect() {
    let limits = Limits {
        requests: 1,
        ..Limits::default()
    };
    let toy = Toy::new("toy");
    let server = start(vec![toy.mount("/t")], limits).await;
    let mut first = server.client().await;
    first.send("GET /t/hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    toy.wait_entered(1).await;
    let mut second = server.client().await;
    assert_eq!(second.get("/t/items/1").await.body, "toy: overloaded");
    assert_eq!(
        second.get("/t/nothing").await.status,
        404,
        "what needs no handler is still answered"
    );
    toy.gate.add_permits(1);
    assert_eq!(first.answer().await.body, "held");
    assert_eq!(second.get("/t/items/1").await.status, 200);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_closed() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let server = start(vec![Toy::new("toy").mount("/t")], limits).await;
    let mut first = server.client().await;
    assert_eq!(first.get("/t/items/1").await.status, 200);
    let mut second = server.client().await;
    assert_eq!(second.get("/t/items/1").await.body, "toy: overloaded");
    assert!(second.is_closed().await);
    assert_eq!(first.get("/t/items/1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_connections_at_once_meet_no_error() {
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let address = server.address();
    let clients = (0..64).map(|client| {
        tokio::spawn(async move {
            let mut raw = crate::support::Raw::connect(address).await;
            for number in 0..50 {
                let answer = raw.get(&format!("/t/items/{client}-{number}")).await;
                assert_eq!(answer.body, format!("item={client}-{number}"));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

/// Waits until `count` handlers have run to their end.
async fn finished(toy: &Toy, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while toy.finished.load(Ordering::SeqCst) < count {
        assert!(Instant::now() < deadline, "the handler was cancelled");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
