//! What operators see of requests: ids, durations, counts. Labels are bounded: dialect, operation and status only,
//! never an id, a path or a name; paths are not logged either, since some hold a session id.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use hyper::header::HeaderValue;
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram,
};
use metrics::{gauge, histogram};

const DURATION: &str = "http_server_request_duration_seconds";
const ACTIVE: &str = "http_server_active_requests";
const CONNECTIONS: &str = "http_server_open_connections";
const TURNED_AWAY: &str = "http_server_connections_turned_away_total";
const CUT: &str = "http_server_connections_cut_total";
const TLS_FAILURES: &str = "http_server_tls_failures_total";
const PANICS: &str = "http_server_handler_panics_total";

/// The operation label of requests that reached none.
pub(crate) const NO_OPERATION: &str = "none";

/// Longest request id that is taken over from a caller.
const MAX_ID: usize = 128;

/// Makes request ids and judges those of callers.
pub(crate) struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        // One random part per process keeps ids of several gateways apart; a counter is enough within one.
        let random = uuid::Uuid::new_v4().simple().to_string();
        let prefix = random.get(..12).unwrap_or(&random).to_owned();
        Self {
            prefix,
            next: AtomicU64::new(1),
        }
    }

    /// The caller's id if it is sane (letters, digits, `.`, `_`, `-`), otherwise one of ours.
    pub(crate) fn accept_or_make(&self, given: Option<&HeaderValue>) -> String {
        let sane = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        given
            .filter(|value| (1..=MAX_ID).contains(&value.len()) && value.as_bytes().iter().all(sane))
            .and_then(|value| value.to_str().ok())
            .map_or_else(|| self.make(), str::to_owned)
    }

    fn make(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number:06x}", self.prefix)
    }
}

/// Counts that belong to no dialect.
pub(crate) struct ServerMetrics {
    pub(crate) active_requests: Gauge,
    pub(crate) open_connections: Gauge,
    pub(crate) turned_away: Counter,
    pub(crate) cut: Counter,
    pub(crate) tls_failures: Counter,
}

impl ServerMetrics {
    pub(crate) fn new() -> Self {
        describe_histogram!(
            DURATION,
            Unit::Seconds,
            "Time from the head of a request to its answer"
        );
        describe_gauge!(ACTIVE, "Requests under way");
        describe_gauge!(CONNECTIONS, "Connections open");
        describe_counter!(
            TURNED_AWAY,
            "Connections closed at once because too many were open"
        );
        describe_counter!(
            CUT,
            "Connections closed because the peer was too slow or idle for too long"
        );
        describe_counter!(TLS_FAILURES, "TLS handshakes that failed");
        describe_counter!(PANICS, "Handlers that panicked");
        Self {
            active_requests: gauge!(ACTIVE),
            open_connections: gauge!(CONNECTIONS),
            turned_away: counter!(TURNED_AWAY),
            cut: counter!(CUT),
            tls_failures: counter!(TLS_FAILURES),
        }
    }
}

/// Raises a gauge for as long as it lives.
pub(crate) struct Raised<'a>(&'a Gauge);

impl<'a> Raised<'a> {
    pub(crate) fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Durations of one dialect's requests. The handles are kept, since looking one up by name for every request
/// would cost more than routing it.
pub(crate) struct DialectMetrics {
    dialect: &'static str,
    durations: RwLock<HashMap<(&'static str, u16), Histogram>>,
}

impl DialectMetrics {
    pub(crate) fn new(dialect: &'static str) -> Self {
        Self {
            dialect,
            durations: RwLock::default(),
        }
    }

    pub(crate) fn answered(&self, operation: &'static str, status: u16, took: Duration) {
        let key = (operation, status);
        let known = self
            .durations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        let histogram = known.unwrap_or_else(|| {
            let new = histogram!(
                DURATION,
                "dialect" => self.dialect, "operation" => operation, "status" => status.to_string()
            );
            let mut durations = self.durations.write().unwrap_or_else(PoisonError::into_inner);
            durations.entry(key).or_insert(new).clone()
        });
        histogram.record(took);
    }

    pub(crate) fn panicked(&self) {
        counter!(PANICS, "dialect" => self.dialect).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        let ids = RequestIds::new();
        let given = |text: &'static str| ids.accept_or_make(Some(&HeaderValue::from_static(text)));
        assert_eq!(given("abc-1.2_3"), "abc-1.2_3");
        for insane in ["", "a b", "a\"b", "<x>", "a/b"] {
            assert_ne!(given(insane), insane);
        }
        let long = HeaderValue::from_str(&"x".repeat(MAX_ID + 1)).unwrap();
        assert!(ids.accept_or_make(Some(&long)).len() < MAX_ID);
        assert_ne!(ids.accept_or_make(None), ids.accept_or_make(None));
    }
}
