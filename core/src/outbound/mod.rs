//! The gateway as a client of addresses that users name: web hooks that are told of ends, and images that are
//! fetched. A user who chooses where the gateway connects to must not reach what only the gateway can: so every
//! address is checked against the site's ranges, resolved once, and connected to as it was checked. Redirects are
//! not followed, and answers are bounded in size and time.

mod client;
mod download;
#[cfg(test)]
#[path = "../../tests/support/receiver.rs"]
pub(crate) mod receiver;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use download::Download;
pub use target::{AllowList, Purpose};

use bytes::Bytes;
use tokio::sync::OnceCell;

use self::target::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Hook;

/// Where the gateway may connect to, and how long it waits.
#[derive(Debug, Clone)]
pub struct OutboundSettings {
    /// Where web hooks may go; nowhere without.
    pub webhook: AllowList,
    /// Where images may come from; from nowhere without.
    pub image: AllowList,
    /// A PEM file of certificate authorities that are trusted besides the system's.
    pub trust: Option<PathBuf>,
    /// How long a connection, TLS included, may take to come about.
    pub connect: Duration,
    /// How long a web hook may take to answer.
    pub answer: Duration,
    /// How long a download may pause.
    pub idle: Duration,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            webhook: AllowList::default(),
            image: AllowList::default(),
            trust: None,
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            idle: Duration::from_secs(60),
        }
    }
}

/// The client. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outbound {
    settings: Arc<OutboundSettings>,
    /// Read once, at the first https address.
    tls: Arc<OnceCell<Arc<rustls::ClientConfig>>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbound({:?})", self.settings)
    }
}

impl Outbound {
    /// A client with these settings.
    pub fn new(settings: OutboundSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            tls: Arc::default(),
        }
    }

    /// Refuses an address that the client would not connect to.
    ///
    /// # Errors
    /// `InvalidInput` with the purpose's field: no URL of http or https, a URL with a password, a name that cannot be
    /// resolved, an address outside the allowed ranges, or https where no certificate authority is known.
    pub async fn check(&self, purpose: Purpose, url: &str) -> Result<()> {
        let target = Target::find(purpose, url, &self.settings).await?;
        if target.tls {
            self.tls_config()
                .await
                .map_err(|error| Error::invalid(purpose.field(), error.detail))?;
        }
        Ok(())
    }

    /// As [`Outbound::check`] for a web hook.
    ///
    /// # Errors
    /// As [`Outbound::check`], field `hook`.
    pub async fn check_hook(&self, hook: &Hook) -> Result<()> {
        self.check(Purpose::WebHook, &hook.url).await
    }

    /// Posts a web hook and returns the status that it was answered with; the answer's body is not read.
    ///
    /// # Errors
    /// As [`Outbound::check`]; `BackendUnavailable` or `Timeout` when the other side does not answer; `Internal` for
    /// headers that cannot be sent. No error repeats the URL's path or query.
    pub async fn post(&self, hook: &Hook, headers: &[(String, String)], body: Bytes) -> Result<u16> {
        let target = Target::find(Purpose::WebHook, &hook.url, &self.settings).await?;
        let origin = target.origin.clone();
        let post = client::post(self, &target, headers, body);
        let late = || Error::new(ErrorKind::Timeout, format!("{origin} did not answer in time"));
        tokio::time::timeout(self.settings.answer, post)
            .await
            .map_err(|_| late())?
    }

    /// Opens an image to read it from its beginning to its end. `watch` is told how many bytes have come, and how
    /// many there will be if that is known. Reading fails after `most` bytes, after a pause of
    /// [`OutboundSettings::idle`], and when the other side ends early.
    ///
    /// # Errors
    /// As [`Outbound::check`], field `url`; `BackendUnavailable` or `Timeout` when the other side does not answer;
    /// `InvalidInput` when it answers anything but 200, or has more than `most` bytes.
    pub async fn open(
        &self,
        url: &str,
        most: u64,
        watch: impl Fn(u64, Option<u64>) + Send + 'static,
    ) -> Result<Download> {
        let target = Target::find(Purpose::Image, url, &self.settings).await?;
        let origin = target.origin.clone();
        let get = client::get(self, &target);
        let late = || Error::new(ErrorKind::Timeout, format!("{origin} did not answer in time"));
        let answer = tokio::time::timeout(self.settings.idle, get)
            .await
            .map_err(|_| late())??;
        Download::begin(answer, origin, most, self.settings.idle, Box::new(watch))
    }

    /// Fetches an image into `sink` and returns how many bytes it has. As [`Outbound::open`].
    ///
    /// # Errors
    /// As [`Outbound::open`]; `BackendUnavailable` when the other side ends early or pauses too long; `InvalidInput`
    /// for more than `most` bytes; `Internal` when the sink fails.
    pub async fn fetch<W>(
        &self,
        url: &str,
        most: u64,
        sink: &mut W,
        watch: impl Fn(u64, Option<u64>) + Send + 'static,
    ) -> Result<u64>
    where
        W: tokio::io::AsyncWrite + Unpin + Send,
    {
        let download = self.open(url, most, watch).await?;
        download.copy_to(sink).await
    }

    async fn tls_config(&self) -> Result<Arc<rustls::ClientConfig>> {
        let config = self
            .tls
            .get_or_try_init(|| client::tls_config(self.settings.trust.clone()));
        config.await.cloned()
    }
}
