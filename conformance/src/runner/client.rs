//! The client: sends what a step says, byte for byte, and reads what comes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::contracts::Sent;
use super::path::written;
use super::scenario::{RawSpec, RequestSpec};
use super::vars::Vars;
use crate::testbed::http;

/// What stands in a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':')
    .remove(b',');

/// The longest time for one exchange.
const DEADLINE: Duration = Duration::from_secs(60);

/// The longest time that bytes as they are wait for the other side to close.
const RAW_DEADLINE: Duration = Duration::from_secs(5);

/// An address that a run sends to.
#[derive(Debug, Clone)]
pub struct Address {
    socket: SocketAddr,
    host: String,
    prefix: String,
}

impl Address {
    /// Reads `http://host:port/prefix` and looks the host up.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn resolve(url: &str) -> Result<Address, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            format!("`{url}`: an address begins with http:// (put a proxy before a target with TLS)")
        })?;
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = if authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let socket = tokio::net::lookup_host(&with_port)
            .await
            .map_err(|error| format!("`{url}`: {error}"))?
            .next()
            .ok_or_else(|| format!("`{url}`: the host has no address"))?;
        Ok(Address {
            socket,
            host: authority.to_owned(),
            prefix: prefix.trim_end_matches('/').to_owned(),
        })
    }

    /// Host and port as the address has them: what the `Host` header says.
    pub(crate) fn authority(&self) -> &str {
        &self.host
    }

    /// The host without the port.
    pub(crate) fn host(&self) -> &str {
        self.host.rsplit_once(':').map_or(&*self.host, |(host, _)| host)
    }

    /// Whether something listens there.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn reachable(&self) -> Result<(), String> {
        let connect = tokio::net::TcpStream::connect(self.socket);
        match tokio::time::timeout(Duration::from_secs(10), connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{} cannot be reached: {error}", self.host)),
            Err(_) => Err(format!("{} does not answer within 10 s", self.host)),
        }
    }

    /// A GET outside of any scenario, for what a run wants to know beforehand: status and body.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let sent = Sent {
            method: "GET".to_owned(),
            path: path.to_owned(),
            ..Sent::default()
        };
        let got = self.send(&sent).await?;
        Ok((got.status, got.text))
    }

    pub(crate) async fn send(&self, sent: &Sent) -> Result<Got, String> {
        let path = format!("{}{}", self.prefix, self.below(&sent.path)?);
        let mut call = http::call(self.socket, &sent.method, &path).deadline(DEADLINE);
        if !sent
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            call = call.header("host", &self.host);
        }
        for (name, value) in &sent.headers {
            call = call.header(name, value);
        }
        if let Some(body) = &sent.body {
            call = call.body(body.clone());
        }
        let start = Instant::now();
        let answer = call.send().await.map_err(|error| error.to_string())?;
        let headers = answer.headers.iter();
        let headers = headers.map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        Ok(Got::new(
            answer.status,
            headers.collect(),
            answer.text(),
            start.elapsed(),
        ))
    }

    /// The path of an address that the target gave out itself; a path stays as it is.
    ///
    /// # Errors
    /// The address leads elsewhere. Clients of some originals then cannot follow it.
    pub(crate) fn below<'a>(&self, address: &'a str) -> Result<&'a str, String> {
        if !address.contains("://") {
            return Ok(address);
        }
        let own = format!("http://{}{}", self.host, self.prefix);
        let rest = address.strip_prefix(&own).filter(|rest| rest.starts_with('/'));
        rest.ok_or_else(|| format!("`{address}` does not lead to {own}, where the request was sent"))
    }

    pub(crate) async fn raw(&self, spec: &RawSpec, vars: &Vars) -> Result<Got, String> {
        let bytes = vars.text(&spec.bytes)?.replace("{host}", &self.host);
        let start = Instant::now();
        let answer = http::raw(self.socket, bytes.as_bytes(), spec.half_close, RAW_DEADLINE)
            .await
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let status = status.ok_or("the connection was closed without an answer")?;
        Ok(Got::new(
            status,
            headers.collect(),
            body.to_owned(),
            start.elapsed(),
        ))
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) json: Option<Value>,
    pub(crate) took: Duration,
}

impl Got {
    fn new(status: u16, headers: Vec<(String, String)>, text: String, took: Duration) -> Got {
        let json = serde_json::from_str(&text).ok();
        Got {
            status,
            headers,
            text,
            json,
            took,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<Value> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| Value::String(value.clone()))
    }
}

/// Puts a request together; `session` are the headers that it has unless it says otherwise.
///
/// # Errors
/// A variable that is not set.
pub(crate) fn prepare(spec: &RequestSpec, vars: &Vars, session: &[(String, String)]) -> Result<Sent, String> {
    let mut path = vars.text(&spec.path)?;
    for (name, value) in &spec.query {
        let value = vars.fill(value)?;
        let values = match value {
            Value::Array(many) => many,
            one => vec![one],
        };
        for value in values {
            let mark = if path.contains('?') { '&' } else { '?' };
            // Some clients write a name without value and without `=`.
            if value.is_null() {
                path.push_str(&format!("{mark}{name}"));
                continue;
            }
            let encoded = utf8_percent_encode(&written(&value), PLAIN).to_string();
            path.push_str(&format!("{mark}{name}={encoded}"));
        }
    }
    let body = match (&spec.body, &spec.text) {
        (Some(body), _) => Some(vars.fill(body)?.to_string()),
        (None, Some(text)) => Some(vars.text(text)?),
        (None, None) => None,
    };
    let mut headers = Vec::new();
    let typed = spec
        .headers
        .keys()
        .any(|name| name.eq_ignore_ascii_case("content-type"));
    if body.is_some() && !typed {
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    let said = |name: &str| spec.headers.keys().any(|own| own.eq_ignore_ascii_case(name));
    headers.extend(session.iter().filter(|(name, _)| !said(name)).cloned());
    for (name, value) in &spec.headers {
        let value = vars.text(value)?;
        // An empty value: the header is left out, a default, too.
        if !value.is_empty() {
            headers.push((name.clone(), value));
        }
    }
    Ok(Sent {
        method: vars.text(&spec.method)?,
        path,
        headers,
        body,
    })
}
