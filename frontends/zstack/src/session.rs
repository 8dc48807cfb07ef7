//! Who calls: login, logout, and the session that every other call names in `Authorization: OAuth <uuid>`.
//!
//! A session lives two hours from its last call. The store is asked and written to at most every few seconds for
//! one session, so that a client that polls does not cost a write each time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use babelvisor_core::frontend::Request;
use babelvisor_core::model::{Account, Caller, Timestamp};
use babelvisor_core::registry::{SessionOptions, TokenForm};
use babelvisor_core::secret::{PasswordForm, Secret, sha256_hex};
use babelvisor_core::{Error, ErrorKind};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Zstack;
use crate::error::{self, Fault};
use crate::{decode, encode};

/// How long a session counts as good without asking the store: also how long one lives on that was ended on
/// another gateway.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How many sessions are remembered at once.
const MOST_REMEMBERED: usize = 4096;
/// What is longer is no session of ours and need not be hashed.
const LONGEST: usize = 256;
/// The scheme of the header.
const SCHEME: &str = "OAuth";

/// The sessions that were good a moment ago, by the SHA-256 of their token.
#[derive(Default)]
pub(crate) struct Sessions(RwLock<HashMap<String, Known>>);

struct Known {
    account: Arc<Account>,
    until: Instant,
}

impl Sessions {
    fn recall(&self, hash: &str) -> Option<Arc<Account>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known
            .get(hash)
            .filter(|known| known.until > Instant::now())
            .map(|known| known.account.clone())
    }

    fn remember(&self, hash: String, account: Arc<Account>, life: Duration) {
        let now = Instant::now();
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.retain(|_, known| known.until > now);
        }
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        // Far shorter than its life, so that one in use is renewed in time.
        let until = now + REMEMBERED.min(life / 4);
        known.insert(hash, Known { account, until });
    }

    fn forget(&self, hash: &str) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(hash);
    }
}

/// The session as login answers it. No `Debug`: it holds the token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionInventory<'a> {
    uuid: &'a str,
    account_uuid: String,
    user_uuid: String,
    expired_date: String,
    create_date: String,
}

/// The session uuid of the header.
///
/// # Errors
/// Faults of the REST layer: no header, or one of another scheme.
pub(crate) fn token(request: &Request) -> Result<&str, Fault> {
    let header = request
        .header("authorization")
        .ok_or_else(|| Fault::bad_request("missing header 'Authorization'"))?;
    let token = header.trim().strip_prefix(SCHEME).and_then(|rest| {
        // The manual prints a colon in some places; the original wants a blank.
        let rest = rest.strip_prefix(':').unwrap_or(rest);
        rest.strip_prefix(' ').map(str::trim)
    });
    token.ok_or_else(|| Fault::bad_request("Authorization type must be 'OAuth'"))
}

impl Zstack {
    /// Whoever the token belongs to; every call lengthens the session's life.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that is unknown or has expired.
    pub(crate) async fn caller(
        &self,
        token: &str,
        operation: &str,
        request: &Request,
    ) -> Result<Caller, Error> {
        let account = self.account(token).await?;
        Ok(Caller {
            account: Some(account.id),
            tenant: account.tenant.clone(),
            role: account.role,
            vm_quota: account.vm_quota,
            dialect: self.contract.dialect().name(),
            operation: operation.to_owned(),
            request_id: request.request_id.clone(),
        })
    }

    async fn account(&self, token: &str) -> Result<Arc<Account>, Error> {
        if token.is_empty() || token.len() > LONGEST {
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                "no session can be named so",
            ));
        }
        let hash = sha256_hex(token);
        if let Some(account) = self.sessions.recall(&hash) {
            return Ok(account);
        }
        let life = self.session_life();
        let (account, _) = self.core.registry().renew_session(token, life).await?;
        let account = Arc::new(account);
        self.sessions.remember(hash, account.clone(), life);
        Ok(account)
    }

    /// `LogInByAccount`. The password is the SHA-512 of the plain one.
    pub(crate) async fn log_in(&self, body: &Map<String, Value>) -> Result<Bytes, Error> {
        let text = |name: &str| {
            let value = body.get(name).and_then(Value::as_str);
            value.ok_or_else(|| error::mandatory("LogInByAccount", name))
        };
        let (name, password) = (text("accountName")?, text("password")?);
        let sent = Secret::new(password.to_ascii_lowercase());
        let options = SessionOptions {
            token: TokenForm::UuidSimple,
            life: self.session_life(),
            renew: true,
        };
        let (account, token, session) = self
            .core
            .registry()
            .sign_in(name, PasswordForm::Sha512Hex, sent, options)
            .await?;
        let uuid = account.id.simple();
        encode::json_of(&Wrapped {
            inventory: SessionInventory {
                uuid: token.expose(),
                account_uuid: uuid.clone(),
                user_uuid: uuid,
                expired_date: self.date(session.expires),
                create_date: self.date(session.created),
            },
        })
    }

    /// `LogOut`. A session that is not there is as good as ended, if its uuid is one.
    pub(crate) async fn log_out(&self, token: &str) -> Result<Bytes, Error> {
        if decode::uuid(token).is_none() {
            return Err(Error::invalid(
                "uuid",
                "invalid field[uuid], a session's uuid has 32 hexadecimal digits",
            ));
        }
        self.sessions.forget(&sha256_hex(token));
        self.core.registry().sign_out(token).await?;
        Ok(encode::nothing())
    }

    fn session_life(&self) -> Duration {
        Duration::from_secs(self.settings.session_seconds)
    }

    /// A date as this dialect prints it.
    pub(crate) fn date(&self, at: Timestamp) -> String {
        crate::dates::print(at, &self.zone)
    }
}

#[derive(Serialize)]
struct Wrapped<'a> {
    inventory: SessionInventory<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(header: &str) -> Request {
        Request {
            headers: vec![("authorization".to_owned(), header.to_owned())],
            ..Request::default()
        }
    }

    #[test]
    fn the_header_has_one_scheme() {
        for header in ["OAuth abc", "OAuth  abc ", "OAuth: abc"] {
            assert_eq!(token(&with(header)).ok(), Some("abc"), "{header}");
        }
        for header in ["Bearer abc", "oauth abc", "OAuthabc", "abc", ""] {
            let fault = token(&with(header)).unwrap_err();
            assert_eq!(fault.outcome.status, 400, "{header}");
            assert_eq!(fault.details, "Authorization type must be 'OAuth'", "{header}");
        }
        let fault = token(&Request::default()).unwrap_err();
        assert_eq!(fault.details, "missing header 'Authorization'");
    }

    #[test]
    fn the_memory_of_sessions_is_bounded_and_forgets() {
        let sessions = Sessions::default();
        let account = Arc::new(Account {
            id: babelvisor_core::model::AccountId::random(),
            name: "admin".to_owned(),
            tenant: babelvisor_core::model::TenantId::new("t"),
            role: babelvisor_core::model::Role::User,
            identity_verified: true,
            vm_quota: None,
            verifiers: Vec::new(),
            created: Timestamp::now(),
        });
        let hour = Duration::from_secs(3600);
        for number in 0..MOST_REMEMBERED * 2 + 5 {
            sessions.remember(number.to_string(), account.clone(), hour);
        }
        assert!(sessions.0.read().unwrap().len() <= MOST_REMEMBERED);
        sessions.remember("mine".to_owned(), account.clone(), hour);
        assert!(sessions.recall("mine").is_some());
        sessions.forget("mine");
        assert!(sessions.recall("mine").is_none());
        sessions.remember("dead".to_owned(), account, Duration::ZERO);
        assert!(sessions.recall("dead").is_none(), "not longer than it lives");
    }
}
