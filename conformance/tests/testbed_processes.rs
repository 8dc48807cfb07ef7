//! The other parts of the test bed: Redis, child processes, HTTP, and waiting.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

use babelvisor_conformance::testbed::http::{call, get, post, raw};
use babelvisor_conformance::testbed::process::Process;
use babelvisor_conformance::testbed::{Gateway, Redis, TestbedError, eventually};
use serde_json::json;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[test]
fn redis_keeps_what_it_acknowledged_over_kill_9() {
    let mut redis = Redis::start().unwrap();
    assert!(redis.command("SET colour blue").unwrap().starts_with("+OK"));
    redis.kill9();
    redis.command("PING").unwrap_err();
    redis.restart().unwrap();
    assert!(redis.command("GET colour").unwrap().contains("blue"));
    assert!(redis.command("CONFIG GET appendonly").unwrap().contains("yes"));
}

#[test]
fn redis_is_gone_when_its_value_is() {
    let redis = Redis::start().unwrap();
    let address = redis.address();
    drop(redis);
    std::net::TcpStream::connect(address).unwrap_err();
}

#[test]
fn a_process_that_ends_early_shows_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "echo 'port taken' >&2; exit 3"]);
    let mut process = Process::start(command, &directory.path().join("log")).unwrap();
    let error = process.wait_ready(Duration::from_secs(10), || false).unwrap_err();
    let TestbedError::EndedEarly { status, log, .. } = error else {
        panic!("{error}")
    };
    assert!(
        status.contains('3') && log.contains("port taken"),
        "{status} {log}"
    );
}

#[test]
fn a_missing_binary_is_named() {
    let error = Gateway::builder("/nonexistent/babelvisor").start().unwrap_err();
    assert!(error.to_string().contains("/nonexistent/babelvisor"), "{error}");
}

#[test]
fn the_gateway_gets_free_ports_a_state_directory_and_the_same_again_after_a_restart() {
    // A stand-in that answers /readyz and prints its command line, since this crate does not build the gateway.
    let directory = tempfile::tempdir().unwrap();
    let stand_in = directory.path().join("stand-in");
    let program = r#"#!/usr/bin/perl
use strict; use Socket;
my %option = (@ARGV[1..$#ARGV]);
my ($host, $port) = split /:/, $option{'--admin'};
open(my $file, '>>', $option{'--state-dir'} . '/starts'); print $file "start\n"; close $file;
$| = 1; print "@ARGV mood=$ENV{MOOD}\n";
socket(my $server, PF_INET, SOCK_STREAM, 0); setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
bind($server, sockaddr_in($port, inet_aton($host))) or die; listen($server, 5);
while (accept(my $client, $server)) { sysread($client, my $request, 4096);
  syswrite($client, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); close $client }
"#;
    std::fs::write(&stand_in, program).unwrap();
    std::fs::set_permissions(&stand_in, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let mut gateway = Gateway::builder(&stand_in)
        .config("listen = '{listen}'\nextra = {port}\n")
        .args(["--libvirt", "test:///default"])
        .env("MOOD", "calm")
        .start()
        .unwrap();
    let (listen, admin) = (gateway.address(), gateway.admin());
    assert!(
        gateway.log().contains("--libvirt test:///default mood=calm"),
        "{}",
        gateway.log()
    );
    gateway.kill9();
    gateway.set_env("MOOD", Some("wild"));
    gateway.restart().unwrap();
    assert_eq!((gateway.address(), gateway.admin()), (listen, admin));
    assert!(gateway.log().contains("mood=wild"));
    assert_eq!(
        std::fs::read_to_string(gateway.state_dir().join("starts")).unwrap(),
        "start\nstart\n"
    );
}

/// Accepts one connection, reads until `until` is in it, answers with `answer`, and gives what it read.
async fn one_answer(
    until: &'static str,
    answer: &'static str,
) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reader = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut seen, mut buffer) = (String::new(), [0; 1024]);
        while !seen.contains(until) {
            let length = stream.read(&mut buffer).await.unwrap();
            assert_ne!(length, 0, "closed after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        seen
    });
    (address, reader)
}

#[tokio::test]
async fn requests_go_out_as_told_and_answers_come_back_whole() {
    let (address, seen) = one_answer(
        "{\"cpu\":4}",
        "HTTP/1.1 412 Odd\r\nX-Kind: a\r\nContent-Length: 13\r\n\r\n{\"state\":412}",
    )
    .await;
    let answer = post(address, "/api/guest?q=%20", &json!({"cpu": 4}))
        .header("x-mine", "b")
        .send()
        .await
        .unwrap();
    assert_eq!((answer.status, answer.header("x-kind")), (412, Some("a")));
    assert_eq!(answer.json().unwrap(), json!({"state": 412}));
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("POST /api/guest?q=%20 HTTP/1.1\r\n"), "{seen}");
    assert!(
        seen.contains("x-mine: b") && seen.contains("content-type: application/json"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_silent_server_and_a_broken_answer_are_errors() {
    let (address, _held) = one_answer("never sent", "").await;
    let error = get(address, "/")
        .deadline(Duration::from_millis(100))
        .send()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no whole answer"), "{error}");

    let (address, _held) = one_answer("\r\n\r\n", "nonsense\r\n\r\n").await;
    call(address, "GET", "/").send().await.unwrap_err();
}

#[tokio::test]
async fn raw_bytes_are_sent_unchanged() {
    let (address, seen) = one_answer("\0", "whatever").await;
    let answer = raw(address, b"GET /\0", true, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(
        (answer.as_slice(), seen.await.unwrap().as_str()),
        (b"whatever".as_slice(), "GET /\0")
    );
}

#[tokio::test]
async fn waiting_ends_with_the_value_or_with_the_name_of_what_did_not_happen() {
    let mut calls = 0;
    let value = eventually("the third call", Duration::from_secs(10), || {
        calls += 1;
        let now = calls;
        async move { (now == 3).then_some("done") }
    });
    assert_eq!(value.await.unwrap(), "done");
    let error = eventually("rain", Duration::from_millis(30), || async { None::<()> })
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("rain did not happen within"),
        "{error}"
    );
}
