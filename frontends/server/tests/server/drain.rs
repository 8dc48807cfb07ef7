//! Going down: what is under way is finished, what is new is refused, and there is an end to it.

use std::time::Duration;

use babelvisor_server::{Drained, Limits};
use tokio::net::TcpStream;

use crate::support::{Toy, start};

#[tokio::test]
async fn draining_finishes_what_is_under_way_and_refuses_what_is_new() {
    let toy = Toy::new("toy");
    let server = start(vec![toy.mount("/t")], Limits::default()).await;
    let address = server.address();
    let mut idle = server.client().await;
    assert_eq!(idle.get("/t/items/1").await.status, 200);
    let mut busy = server.client().await;
    busy.send("GET /t/hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    toy.wait_entered(1).await;
    let readiness = server.readiness.clone();
    assert!(!readiness.is_draining());

    let run = server.stop();
    assert!(idle.is_closed().await, "an idle connection is closed at once");
    assert!(readiness.is_draining());
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );

    toy.gate.add_permits(1);
    assert_eq!(busy.answer().await.body, "held");
    assert!(busy.is_closed().await);
    assert_eq!(run.await.unwrap(), Drained::Finished);
}

#[tokio::test]
async fn draining_ends_even_if_a_handler_does_not() {
    let toy = Toy::new("toy");
    let limits = Limits {
        drain_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = start(vec![toy.mount("/t")], limits).await;
    let mut busy = server.client().await;
    busy.send("GET /t/hold HTTP/1.1\r\nHost: a\r\n\r\n").await;
    toy.wait_entered(1).await;
    assert_eq!(server.stop().await.unwrap(), Drained::Cut { requests: 1 });
    assert!(busy.is_closed().await);
}

#[tokio::test]
async fn between_not_ready_and_the_end_of_accepting_requests_are_served() {
    let limits = Limits {
        drain_delay: Duration::from_secs(2),
        ..Limits::default()
    };
    let server = start(vec![Toy::new("toy").mount("/t")], limits).await;
    let (address, readiness) = (server.address(), server.readiness.clone());
    let run = server.stop();
    while !readiness.is_draining() {
        tokio::task::yield_now().await;
    }
    let mut late = crate::support::Raw::connect(address).await;
    assert_eq!(late.get("/t/items/1").await.status, 200);
    assert_eq!(run.await.unwrap(), Drained::Finished);
}
