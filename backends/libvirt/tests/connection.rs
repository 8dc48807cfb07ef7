//! The connections of a host: exclusive, bounded, abandoned at the deadline, and without leaks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use babelvisor_libvirt::connection::events::HostEvent;
use babelvisor_libvirt::connection::{CallError, Host, HostOptions};
use babelvisor_libvirt::ffi;
use babelvisor_libvirt::raw::{EventSink, RawEvent};
use babelvisor_libvirt::xml::XmlError;
use support::eventually;
use virt::connect::Connect;

fn host(change: impl FnOnce(&mut HostOptions)) -> Host {
    let mut options = HostOptions::new("t", "test:///default");
    change(&mut options);
    Host::start(options).unwrap()
}

fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_lane_never_runs_more_calls_than_it_has_connections() {
    let host = host(|o| o.fast = 3);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let calls: Vec<_> = (0..24)
        .map(|_| {
            let (host, running, most) = (host.clone(), running.clone(), most.clone());
            tokio::spawn(async move {
                host.fast(soon(20), move |c| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(c.hostname()?)
                })
                .await
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_call_that_is_left_behind_gives_its_place_away_but_not_its_connection() {
    let host = host(|o| o.slow = 1);
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let late = host
        .slow(Instant::now() + Duration::from_millis(200), move |_| {
            let _ = wait.recv();
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(matches!(late, CallError::Timeout(_)), "{late}");
    assert_eq!(host.abandoned_calls(), 1);
    // The only place of the lane is free again, on a fresh connection.
    host.slow(soon(10), |c| Ok(c.hostname()?)).await.unwrap();
    release.send(()).unwrap();
    eventually("the call that was left behind ends", 10, async || {
        (host.abandoned_calls() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_its_call_behind_too() {
    let host = host(|_| {});
    host.wait_up(soon(10)).await.unwrap();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let caller = tokio::spawn({
        let host = host.clone();
        async move {
            host.slow(soon(60), move |_| {
                let _ = wait.recv();
                Ok(())
            })
            .await
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    caller.abort();
    eventually("it is left behind", 10, async || {
        (host.abandoned_calls() == 1).then_some(())
    })
    .await;
    release.send(()).unwrap();
    eventually("it ends", 10, async || {
        (host.abandoned_calls() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn waiting_for_a_busy_lane_ends_at_the_deadline() {
    let host = host(|o| o.slow = 1);
    host.wait_up(soon(10)).await.unwrap();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let first = tokio::spawn({
        let host = host.clone();
        async move {
            host.slow(soon(60), move |_| {
                let _ = wait.recv();
                Ok(())
            })
            .await
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let busy = host
        .slow(Instant::now() + Duration::from_millis(200), |_| Ok(()))
        .await
        .unwrap_err();
    assert!(
        matches!(
            busy,
            CallError::Busy {
                lane: "slow",
                limit: 1,
                ..
            }
        ),
        "{busy}"
    );
    release.send(()).unwrap();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_inside_a_call_is_an_error_and_the_lane_goes_on() {
    let host = host(|o| o.fast = 1);
    let crashed = host
        .fast::<(), _>(soon(10), |_| panic!("on purpose"))
        .await
        .unwrap_err();
    assert!(matches!(crashed, CallError::Crashed), "{crashed}");
    host.fast(soon(10), |c| Ok(c.hostname()?)).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_opened_again_when_needed() {
    let host = host(|o| o.idle = Duration::from_millis(50));
    for _ in 0..3 {
        host.fast(soon(10), |c| Ok(c.hostname()?)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
}

#[tokio::test]
async fn a_nul_byte_is_refused_before_it_reaches_libvirt() {
    let refused = Host::start(HostOptions::new("t", "test:///\0default")).unwrap_err();
    assert!(
        matches!(refused, CallError::Xml(XmlError::BadCharacter { code: 0, .. })),
        "{refused}"
    );
}

#[tokio::test]
async fn subscribers_hear_of_the_connection_and_of_domains() {
    let host = host(|_| {});
    let mut events = host.subscribe();
    host.wait_up(soon(10)).await.unwrap();
    host.slow(soon(10), |c| {
        let xml =
            "<domain type='test'><name>heard</name><memory>1024</memory><os><type>hvm</type></os></domain>";
        c.define_domain_xml(xml)?.undefine()?;
        Ok(())
    })
    .await
    .unwrap();
    let mut heard = 0;
    while heard < 2 {
        let event = tokio::time::timeout(Duration::from_secs(10), events.recv())
            .await
            .expect("an event")
            .unwrap();
        if let HostEvent::Raw(RawEvent::Domain { name, .. }) = event
            && name == "heard"
        {
            heard += 1;
        }
    }
}

/// Statistics keep references to the connection until they are freed: a state that survives the last close is a leak.
#[test]
fn statistics_and_events_leak_no_connection() {
    ffi::start_event_loop().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node.xml");
    let domains: String = (0..50)
        .map(|n| {
            format!(
                "<domain type='test'><name>d{n}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
            )
        })
        .collect();
    std::fs::write(&node, format!("<node>{domains}</node>")).unwrap();
    let dropped = Arc::new(());
    let uri = format!("test://{}", node.display());
    for _ in 0..20 {
        let connection = Connect::open(Some(&uri)).unwrap();
        let records = ffi::all_domain_stats(&connection, virt_sys::VIR_DOMAIN_STATS_STATE, 0).unwrap();
        assert_eq!(records.len(), 50);
        assert!(records.iter().all(|r| r.unsigned("state.state").is_some()));
        let token = dropped.clone();
        let sink: EventSink = Arc::new(move |_| drop(token.clone()));
        let events = ffi::EventConnection::subscribe(connection, &sink).unwrap();
        drop(sink);
        drop(events);
    }
    // libvirt frees a callback's context on its event loop, soon after it was taken back.
    let deadline = soon(10);
    while Arc::strong_count(&dropped) > 1 {
        assert!(
            Instant::now() < deadline,
            "{} callbacks were never freed",
            Arc::strong_count(&dropped) - 1
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = resident_kib();
    let connection = Connect::open(Some(&uri)).unwrap();
    for _ in 0..4000 {
        ffi::all_domain_stats(&connection, virt_sys::VIR_DOMAIN_STATS_STATE, 0).unwrap();
    }
    let grown = resident_kib().saturating_sub(before);
    // Leaked records would be some 50 MB.
    assert!(grown < 20_000, "resident memory grew by {grown} KiB");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
