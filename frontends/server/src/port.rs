//! One request on one port, end to end: vet, route, limit, read, hand over, answer.
//!
//! The order is a promise to clients: what cannot be read is refused first, then what has no route, then what is
//! too much; a body is only read for an operation that exists. Every refusal is worded by the dialect that owns
//! the path; only a path that no dialect owns is answered in neutral words.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::frontend::{Refusal, Reply, Request, Routed};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{EXPECT, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, Span};

use crate::body::{self, BodyFault};
use crate::config::Limits;
use crate::mount::{self, Mounted, Mounts, RouteOutcome};
use crate::observe::{NO_OPERATION, Raised, RequestIds, ServerMetrics};
use crate::wire::{self, Answer};
use crate::work::{self, Done};
use crate::{path, wire::REQUEST_ID};

/// Longest time spent on throwing away the body of a refused request.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// What all ports of a server share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) ids: RequestIds,
    pub(crate) metrics: ServerMetrics,
}

/// One port.
pub(crate) struct Port {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mounts: Mounts,
    pub(crate) scheme: &'static str,
    pub(crate) address: SocketAddr,
}

/// Who is at the other end of a connection.
pub(crate) struct Peer {
    pub(crate) address: String,
    /// The connection is one too many: its requests are refused and it is closed.
    pub(crate) surplus: bool,
}

/// A reply before it is put on the wire.
struct Verdict {
    reply: Reply,
    operation: &'static str,
    /// The body was not read to its end, so that the connection cannot go on.
    close: bool,
}

impl Port {
    /// Answers one request. Never fails: whatever goes wrong is an answer.
    pub(crate) async fn answer(&self, peer: &Peer, incoming: hyper::Request<Incoming>) -> Answer {
        let started = Instant::now();
        let _active = Raised::new(&self.shared.metrics.active_requests);
        let (head, mut body) = incoming.into_parts();
        let request_id = self.shared.ids.accept_or_make(head.headers.get(&REQUEST_ID));
        let vetted = vet(&head, &self.shared.limits);
        let (owner, outcome) = match &vetted {
            Ok(path) => match self.mounts.route(head.method.as_str(), path) {
                Some((owner, outcome)) => (Some(owner), outcome),
                None => (None, RouteOutcome::UnknownPath),
            },
            Err(_) => (self.mounts.owner(head.uri.path()), RouteOutcome::UnknownPath),
        };
        let Some(mounted) = owner else {
            let close = !self.discard(&head, &mut body).await;
            let mut answer = match vetted {
                Ok(_) => wire::neutral(StatusCode::NOT_FOUND, "no API answers at this path on this port"),
                Err(reason) => wire::neutral(StatusCode::BAD_REQUEST, reason),
            };
            wire::finish(&mut answer, &request_id, close || peer.surplus);
            return answer;
        };
        let call = Call {
            port: self,
            mounted,
            head: &head,
            peer,
            request_id: &request_id,
            span: Span::none(),
        };
        let verdict = match vetted {
            _ if peer.surplus => call.refuse(Refusal::Overloaded, &mut body).await,
            Err(reason) => {
                call.refuse(Refusal::BadRequest(reason.to_owned()), &mut body)
                    .await
            }
            Ok(path) => call.dispatch(outcome, &path, &mut body).await,
        };
        let status = verdict.reply.status;
        mounted
            .metrics
            .answered(verdict.operation, status, started.elapsed());
        let answer = wire::answer(verdict.reply);
        if answer.is_none() {
            tracing::error!(
                request_id,
                operation = verdict.operation,
                status,
                "a reply cannot be sent"
            );
        }
        let mut answer = answer.unwrap_or_else(internal);
        wire::finish(&mut answer, &request_id, verdict.close || peer.surplus);
        answer
    }

    /// Throws a body away; false if the connection must be closed because some of it is left.
    async fn discard(&self, head: &Parts, body: &mut Incoming) -> bool {
        if head.headers.contains_key(EXPECT) {
            // The peer waits for a word before it sends the body; the refusal is that word.
            return hyper::body::Body::is_end_stream(body);
        }
        let limits = &self.shared.limits;
        body::discard(
            body,
            limits.body_bytes.saturating_mul(2),
            limits.body_time.min(DISCARD_TIME),
        )
        .await
    }
}

/// The answer of last resort.
pub(crate) fn internal() -> Answer {
    wire::neutral(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal error; the log has the details under the request id",
    )
}

/// One request that has an owner.
struct Call<'a> {
    port: &'a Port,
    mounted: &'a Mounted,
    head: &'a Parts,
    peer: &'a Peer,
    request_id: &'a str,
    span: Span,
}

impl Call<'_> {
    async fn dispatch(mut self, outcome: RouteOutcome, path: &str, body: &mut Incoming) -> Verdict {
        let limits = &self.port.shared.limits;
        let operation = match &outcome {
            RouteOutcome::Found(routed) => routed.operations.first().copied().unwrap_or(NO_OPERATION),
            RouteOutcome::NotBuilt { operation } => operation,
            RouteOutcome::WrongMethod { .. } | RouteOutcome::UnknownPath => NO_OPERATION,
        };
        self.span = tracing::info_span!(
            "request",
            request_id = self.request_id,
            dialect = self.mounted.frontend.dialect(),
            operation,
        );
        let begun = Instant::now();
        let exists = matches!(outcome, RouteOutcome::Found(_) | RouteOutcome::NotBuilt { .. });
        let mut verdict = if !exists {
            match mount::refusal(&outcome) {
                Some(refusal) => self.refuse(refusal, body).await,
                None => self.refuse(Refusal::Internal, body).await,
            }
        } else if let Ok(permit) = Arc::clone(&self.port.shared.requests).try_acquire_owned() {
            match body::read(body, limits.body_bytes, limits.body_time).await {
                Ok(bytes) => self.hand_over(outcome, path, bytes, permit).await,
                Err(BodyFault::TooLarge) => {
                    self.refuse(
                        Refusal::BodyTooLarge {
                            limit: limits.body_bytes,
                        },
                        body,
                    )
                    .await
                }
                Err(BodyFault::TooSlow) => self.words(Refusal::Timeout, true),
                Err(BodyFault::Broken) => self.words(
                    Refusal::BadRequest("the body ended early or is not framed".to_owned()),
                    true,
                ),
            }
        } else {
            self.refuse(Refusal::Overloaded, body).await
        };
        if verdict.operation == NO_OPERATION {
            verdict.operation = operation;
        } else if verdict.operation != operation {
            self.span.record("operation", verdict.operation);
        }
        // On the event and not on the span: a span's fields are put into words whether anybody logs or not.
        tracing::debug!(
            parent: &self.span,
            status = verdict.reply.status,
            duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            "answered"
        );
        verdict
    }

    /// Lets the dialect answer, within the handler's time.
    async fn hand_over(
        &self,
        outcome: RouteOutcome,
        path: &str,
        body: Bytes,
        permit: OwnedSemaphorePermit,
    ) -> Verdict {
        let mut request = self.request(path);
        request.body = body;
        let mut routed: Routed = match outcome {
            RouteOutcome::Found(routed) => routed,
            other => {
                let refusal = mount::refusal(&other).unwrap_or(Refusal::Internal);
                return Verdict::new(self.mounted.frontend.refuse(refusal, &request), false);
            }
        };
        for (_, value) in &mut routed.params {
            path::restore_slashes(value);
        }
        let frontend = Arc::clone(&self.mounted.frontend);
        let work = async move {
            // Held by the work, not by the caller: what runs on after a hang-up still counts.
            let _permit = permit;
            frontend.answer(routed, request).await
        };
        let limit = self.port.shared.limits.handler_time;
        match work::run(work.instrument(self.span.clone()), limit).await {
            Done::Answered(reply) => Verdict::new(reply, false),
            Done::TooSlow => {
                tracing::warn!(parent: &self.span, "the handler took longer than its limit");
                self.words(Refusal::Timeout, false)
            }
            Done::Panicked => {
                tracing::error!(parent: &self.span, "the handler panicked; the request is answered as a fault");
                self.mounted.metrics.panicked();
                self.words(Refusal::Internal, false)
            }
        }
    }

    /// Refuses, throwing the body away.
    async fn refuse(&self, refusal: Refusal, body: &mut Incoming) -> Verdict {
        let close = !self.port.discard(self.head, body).await;
        self.words(refusal, close)
    }

    /// Refuses in the dialect's words.
    fn words(&self, refusal: Refusal, close: bool) -> Verdict {
        let path = vet(self.head, &self.port.shared.limits);
        // A path that cannot be decoded is shown to the dialect as it came: it is text, only not to be trusted.
        let request = self.request(path.as_deref().unwrap_or(self.head.uri.path()));
        Verdict::new(self.mounted.frontend.refuse(refusal, &request), close)
    }

    /// The request as plain data, without its body.
    fn request(&self, path: &str) -> Request {
        let headers = &self.head.headers;
        let authority = self.head.uri.authority().map(|authority| authority.as_str());
        let host = authority.or_else(|| headers.get(HOST).and_then(|value| value.to_str().ok()));
        Request {
            method: self.head.method.as_str().to_owned(),
            path: path::printable(path),
            query: self.head.uri.query().unwrap_or_default().to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            body: Bytes::new(),
            scheme: self.port.scheme,
            host: host.map_or_else(|| self.port.address.to_string(), str::to_owned),
            peer: self.peer.address.clone(),
            request_id: self.request_id.to_owned(),
        }
    }
}

impl Verdict {
    fn new(reply: Reply, close: bool) -> Self {
        let operation = reply.operation.unwrap_or(NO_OPERATION);
        Self {
            reply,
            operation,
            close,
        }
    }
}

/// A header value as text: UTF-8 if it is, otherwise byte by byte (ISO 8859-1, as HTTP once had it), so that no two
/// values become one.
fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    std::str::from_utf8(bytes).map_or_else(
        |_| bytes.iter().map(|byte| char::from(*byte)).collect(),
        str::to_owned,
    )
}

/// Looks at everything before the body. Returns the decoded path, or why the request cannot be taken.
fn vet<'a>(head: &'a Parts, limits: &Limits) -> Result<Cow<'a, str>, &'static str> {
    if head.method == Method::CONNECT {
        return Err("CONNECT is not for this server");
    }
    let target = head
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > limits.target_bytes {
        return Err("the path and query are too long");
    }
    if head.headers.len() > limits.header_count {
        return Err("there are too many headers");
    }
    let size: usize = head
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if size > limits.header_bytes {
        return Err("the headers are too large");
    }
    if head
        .headers
        .get(HOST)
        .is_some_and(|host| !is_host(host.as_bytes()))
    {
        return Err("the Host header is not a host");
    }
    let path = path::clean(head.uri.path())?;
    path::vet_query(head.uri.query().unwrap_or_default())?;
    Ok(path)
}

/// Whether these are the characters of a host with an optional port. Dialects print it in links.
fn is_host(bytes: &[u8]) -> bool {
    let fine =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    bytes.iter().all(fine)
}
