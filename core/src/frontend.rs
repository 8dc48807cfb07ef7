//! The trait that a dialect implements. Requests and replies are plain data: the one HTTP server that all
//! dialects share lives in the server crate, and a dialect is tested without it.

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::Vm;

/// One request, read in full and within the limits.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `POST` …
    pub method: String,
    /// Path, percent-decoded once per segment; never contains `.` or `..` segments or NUL.
    pub path: String,
    /// Query string as sent, without the question mark.
    pub query: String,
    /// Header names in lower case with their values, in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The `Host` header, or the listener's address without one.
    pub host: String,
    /// The peer's address.
    pub peer: String,
    /// The id under which logs and answers name this request.
    pub request_id: String,
}

impl Request {
    /// The first value of header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What the router found: the operations that share this method and path (one, except where an action key in
/// the body decides) and the path's parameters.
#[derive(Debug, Clone, Default)]
pub struct Routed {
    /// Ids of the candidate operations.
    pub operations: Vec<&'static str>,
    /// Path parameters, decoded.
    pub params: Vec<(&'static str, String)>,
}

impl Routed {
    /// The path parameter `name`; empty if the path has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value.as_str())
    }
}

/// One reply.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers besides those of the connection.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Bytes,
    /// The operation's id, for logs and metrics.
    pub operation: Option<&'static str>,
}

/// Why the server refuses without asking the dialect for more than the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No operation has this path.
    UnknownPath,
    /// Operations have this path, with these other methods.
    WrongMethod {
        /// The methods that exist.
        allowed: Vec<String>,
    },
    /// The operation is documented but not built yet.
    NotBuilt {
        /// Its id.
        operation: &'static str,
    },
    /// The body is larger than the limit in bytes.
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The path, query or headers cannot be taken; the text says why.
    BadRequest(String),
    /// The client was too slow, or the handler was.
    Timeout,
    /// Too many requests are under way, or the gateway is going down.
    Overloaded,
    /// A fault of ours.
    Internal,
}

/// A dialect.
#[async_trait]
pub trait Frontend: Send + Sync {
    /// Its name: `guest-rest`, `v1-compute`, `zstack`, `pve-open`, `kvm-task-feed`.
    fn dialect(&self) -> &'static str;

    /// Answers a request for an operation that is built.
    async fn answer(&self, routed: Routed, request: Request) -> Reply;

    /// Says no in the dialect's own form. The body of `request` may be empty.
    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply;

    /// One VM as the dialect shows it to its owner; `None` where the dialect has nothing built that shows a VM, or cannot
    /// show this one. It may hold secrets, as the dialect's answers do: whoever shows it further hides them.
    fn view(&self, vm: &Vm) -> Option<serde_json::Value> {
        let _ = vm;
        None
    }
}
