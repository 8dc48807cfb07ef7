//! Where a URL leads, and whether the site allows it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cidr::IpCidr;
use hyper::Uri;

use super::OutboundSettings;
use crate::error::{Error, Result};

/// The longest URL that is taken.
const LONGEST: usize = 2048;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To tell somebody of an end.
    WebHook,
    /// To fetch an image.
    Image,
}

impl Purpose {
    /// The canonical field that holds the URL.
    pub const fn field(self) -> &'static str {
        match self {
            Self::WebHook => "hook",
            Self::Image => "url",
        }
    }

    const fn setting(self) -> &'static str {
        match self {
            Self::WebHook => "webhook.allow",
            Self::Image => "image.allow",
        }
    }

    fn ranges(self, settings: &OutboundSettings) -> &AllowList {
        match self {
            Self::WebHook => &settings.webhook,
            Self::Image => &settings.image,
        }
    }
}

/// Ranges of addresses. An empty one allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(Vec<IpCidr>);

impl AllowList {
    /// Reads ranges like `192.0.2.0/24`, `2001:db8::/32`, or single addresses.
    ///
    /// # Errors
    /// `InvalidInput` naming the text that is no range.
    pub fn parse<T: AsRef<str>>(ranges: &[T]) -> Result<Self> {
        let parse = |text: &T| {
            let text = text.as_ref();
            text.parse::<IpCidr>().map_err(|error| {
                Error::invalid("allow", format!("{text:?} is no range of addresses: {error}"))
            })
        };
        ranges.iter().map(parse).collect::<Result<_>>().map(Self)
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of the ranges. An IPv4 address that is wrapped in an IPv6 one counts as itself.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }
}

/// A URL that was found good, with the address that was.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) tls: bool,
    /// The name or address, as TLS must prove it.
    pub(super) host: String,
    /// What is connected to.
    pub(super) address: SocketAddr,
    /// What the `Host` header says.
    pub(super) authority: String,
    pub(super) path: String,
    /// Scheme, host and port, for people: paths and queries hold keys.
    pub(super) origin: String,
}

impl Target {
    /// Reads a URL, resolves its host, and takes the first address that is allowed.
    pub(super) async fn find(purpose: Purpose, url: &str, settings: &OutboundSettings) -> Result<Self> {
        let refused = |text: String| Error::invalid(purpose.field(), text);
        let ranges = purpose.ranges(settings);
        if ranges.is_empty() {
            let text = format!(
                "this gateway connects to no such address: its operator allows none ([outbound] {})",
                purpose.setting()
            );
            return Err(refused(text));
        }
        if url.len() > LONGEST {
            return Err(refused(format!("the URL has more than {LONGEST} bytes")));
        }
        let unfit = || refused("not a URL like http://host:port/path".to_owned());
        let uri: Uri = url.parse().map_err(|_| unfit())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(other) => return Err(refused(format!("scheme {other:?} is neither http nor https"))),
            None => return Err(unfit()),
        };
        let authority = uri.authority().ok_or_else(unfit)?;
        if authority.as_str().contains('@') {
            return Err(refused(
                "a URL with a user name or password is not taken".to_owned(),
            ));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(unfit());
        }
        let port = match (authority.port_u16(), tls) {
            (Some(port), _) => port,
            // A port that is no number of 16 bits is none to the parser.
            (None, _) if authority.as_str() != authority.host() => return Err(unfit()),
            (None, true) => 443,
            (None, false) => 80,
        };
        let addresses = resolve(host, port, settings.connect).await.map_err(refused)?;
        let allowed = addresses.into_iter().find(|address| ranges.allows(address.ip()));
        let address = allowed.ok_or_else(|| {
            refused(format!(
                "host {host} is outside the addresses that this gateway's operator allows ([outbound] {})",
                purpose.setting()
            ))
        })?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            tls,
            host: host.to_owned(),
            address,
            authority: authority.as_str().to_owned(),
            // `http://host?query` has an empty path.
            path: if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            },
            origin: format!("{}://{authority}", if tls { "https" } else { "http" }),
        })
    }
}

async fn resolve(host: &str, port: u16, patience: Duration) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match tokio::time::timeout(patience, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(_)) => Err(format!("host {host} cannot be resolved")),
        Err(_) => Err(format!("host {host} cannot be resolved within {patience:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ranges: &[&str]) -> OutboundSettings {
        OutboundSettings {
            webhook: AllowList::parse(ranges).unwrap(),
            ..OutboundSettings::default()
        }
    }

    async fn refusal(url: &str, ranges: &[&str]) -> String {
        let error = Target::find(Purpose::WebHook, url, &settings(ranges))
            .await
            .unwrap_err();
        assert_eq!(error.field.as_deref(), Some("hook"));
        error.detail
    }

    #[tokio::test]
    async fn what_is_in_no_range_is_refused() {
        let loopback = ["127.0.0.0/8"];
        for url in [
            "http://10.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest",
        ] {
            assert!(
                refusal(url, &loopback).await.contains("outside the addresses"),
                "{url}"
            );
        }
        assert!(refusal("http://127.0.0.1/", &[]).await.contains("webhook.allow"));
        assert!(
            refusal("http://localhost/", &["192.0.2.0/24"])
                .await
                .contains("outside")
        );
    }

    #[tokio::test]
    async fn what_is_no_plain_web_address_is_refused() {
        let all = ["0.0.0.0/0", "::/0"];
        for url in [
            "",
            "/path",
            "host",
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "http://",
            "http://127.0.0.1:99999/",
        ] {
            refusal(url, &all).await;
        }
        let with_password = refusal("http://me:hunter2@127.0.0.1/", &all).await;
        assert!(!with_password.contains("hunter2"), "{with_password}");
        assert!(
            refusal(&format!("http://127.0.0.1/{}", "a".repeat(3000)), &all)
                .await
                .contains("2048")
        );
    }

    #[tokio::test]
    async fn an_allowed_address_is_found_with_its_port_and_path() {
        let found = async |url: &str| {
            let ranges = settings(&["127.0.0.0/8", "::1"]);
            Target::find(Purpose::WebHook, url, &ranges).await.unwrap()
        };
        let target = found("http://127.0.0.1:8080/a?b=c#d").await;
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((target.path.as_str(), target.tls), ("/a?b=c", false));
        assert_eq!(target.origin, "http://127.0.0.1:8080");
        assert_eq!(found("https://[::1]").await.address, "[::1]:443".parse().unwrap());
        assert_eq!(found("http://127.0.0.1?x=1").await.path, "/?x=1");
        assert!(found("http://localhost/").await.address.ip().is_loopback());
        assert_eq!(found("http://[::ffff:127.0.0.1]/").await.address.port(), 80);
    }

    #[test]
    fn a_text_that_is_no_range_is_named() {
        let error = AllowList::parse(&["10.0.0.0/8", "10.0.0.1/8"]).unwrap_err();
        assert!(error.detail.contains("10.0.0.1/8"), "{error}");
    }
}
