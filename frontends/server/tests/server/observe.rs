//! What operators see: bounded labels, request ids in the log, and nothing of what clients keep secret.

use std::io;
use std::sync::{Arc, Mutex};

use babelvisor_server::Limits;
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Toy, start};

#[tokio::test]
async fn durations_are_counted_by_dialect_operation_and_status_only() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // The test's runtime has one thread, so that the server meets this recorder and no other test does.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    for id in ["secret-1", "secret-2"] {
        assert_eq!(client.get(&format!("/t/items/{id}")).await.status, 200);
        assert_eq!(client.get(&format!("/t/nothing/{id}")).await.status, 404);
    }
    assert_eq!(client.post("/t/later", "").await.status, 501);
    assert_eq!(client.get("/t/panic").await.status, 500);
    let text = handle.render();
    for line in [
        r#"http_server_request_duration_seconds_count{dialect="toy",operation="item",status="200"} 2"#,
        r#"http_server_request_duration_seconds_count{dialect="toy",operation="none",status="404"} 2"#,
        r#"http_server_request_duration_seconds_count{dialect="toy",operation="later",status="501"} 1"#,
        r#"http_server_request_duration_seconds_count{dialect="toy",operation="panic",status="500"} 1"#,
        r#"http_server_handler_panics_total{dialect="toy"} 1"#,
        "http_server_active_requests 0",
        "http_server_open_connections 1",
    ] {
        assert!(text.contains(line), "{line} is missing from\n{text}");
    }
    assert!(!text.contains("secret"), "no id becomes a label:\n{text}");
}

#[tokio::test]
async fn the_log_names_request_and_operation_and_keeps_secrets() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let server = start(vec![Toy::new("toy").mount("/t")], Limits::default()).await;
    let mut client = server.client().await;
    client
        .send(
            "POST /t/echo?token=hush-query HTTP/1.1\r\nHost: a\r\nX-Request-Id: seen-id\r\n\
             Authorization: OAuth hush-header\r\nContent-Length: 9\r\n\r\nhush-body",
        )
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.get("/t/items/hush-path").await.status, 200);
    drop(guard);
    let text = log.text();
    let ours: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("babelvisor_server"))
        .collect();
    assert!(
        ours.iter()
            .any(|line| line.contains("seen-id") && line.contains("echo") && line.contains("status=200")),
        "{text}"
    );
    assert!(ours.iter().all(|line| !line.contains("hush")), "{text}");
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
