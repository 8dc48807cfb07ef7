//! Who calls. Tokens come from the account store; a good one is remembered for a few seconds, so that a
//! client that polls does not cost a look-up in the store each time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use babelvisor_core::frontend::Request;
use babelvisor_core::model::{Account, Caller, Role, TenantId, Timestamp};
use babelvisor_core::secret::{PasswordForm, Secret, sha256_hex};
use babelvisor_core::{Error, ErrorKind};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::PveOpen;
use crate::decode::SignIn;
use crate::encode::Data;
use crate::error::{Code, Fault};
use crate::settings::Switch;

/// How long a token counts as good without asking the store: also how long one lives on that was taken back.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How many tokens are remembered at once.
const MOST_REMEMBERED: usize = 4096;
/// No token of ours is longer; what is, need not be hashed.
const LONGEST_TOKEN: usize = 256;
/// How many sign-ins are checked at once: each takes 19 MiB and some ten milliseconds of a core.
const SIGN_INS: usize = 4;

/// The tokens that were good a moment ago.
pub(crate) struct Tokens {
    /// By the SHA-256 of the token.
    known: RwLock<HashMap<String, Known>>,
    sign_ins: Semaphore,
}

struct Known {
    account: Arc<Account>,
    expires: Timestamp,
    until: Instant,
}

impl Known {
    fn good(&self) -> bool {
        self.until > Instant::now() && self.expires > Timestamp::now()
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
            sign_ins: Semaphore::new(SIGN_INS),
        }
    }
}

impl Tokens {
    fn recall(&self, hash: &str) -> Option<Arc<Account>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .get(hash)
            .filter(|known| known.good())
            .map(|known| known.account.clone())
    }

    fn remember(&self, hash: String, account: Arc<Account>, expires: Timestamp) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.retain(|_, known| known.good());
        }
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(
            hash,
            Known {
                account,
                expires,
                until: Instant::now() + REMEMBERED,
            },
        );
    }
}

/// A caller with what only this dialect asks about him.
pub(crate) struct Visitor {
    /// Towards the core.
    pub(crate) caller: Caller,
    /// Whether the account's holder was verified by name.
    pub(crate) verified: bool,
}

/// The answer to a sign-in in the newest edition. No `Debug`: it holds the token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    token: &'a str,
    /// Milliseconds.
    effective_time: u64,
}

impl PveOpen {
    /// Whoever sent the request.
    pub(crate) async fn visitor(&self, operation: &str, request: &Request) -> Result<Visitor, Fault> {
        let caller = |account: Option<&Account>| Caller {
            account: account.map(|account| account.id),
            tenant: account.map_or_else(
                || TenantId::new(&self.settings.tenant),
                |account| account.tenant.clone(),
            ),
            role: account.map_or(Role::User, |account| account.role),
            vm_quota: account.and_then(|account| account.vm_quota),
            dialect: self.contract.dialect().name(),
            operation: operation.to_owned(),
            request_id: request.request_id.clone(),
        };
        match self.settings.authentication {
            Switch::Off => Ok(Visitor {
                caller: caller(None),
                verified: false,
            }),
            Switch::On => {
                let account = self.account(request).await?;
                Ok(Visitor {
                    verified: account.identity_verified,
                    caller: caller(Some(&account)),
                })
            }
        }
    }

    async fn account(&self, request: &Request) -> Result<Arc<Account>, Fault> {
        let token = token(request).ok_or_else(|| {
            Fault::from(Error::new(
                ErrorKind::Unauthenticated,
                "no token was sent, or none that can be one",
            ))
        })?;
        let hash = sha256_hex(token);
        if let Some(account) = self.tokens.recall(&hash) {
            return Ok(account);
        }
        let (account, session) = self.core.registry().open_session(token).await?;
        let account = Arc::new(account);
        self.tokens.remember(hash, account.clone(), session.expires);
        Ok(account)
    }

    /// getToken: 1001 for an unknown account and a wrong key alike.
    pub(crate) async fn get_token(&self, sign_in: SignIn) -> Result<Data, Fault> {
        let SignIn {
            uuid,
            secret,
            first_edition,
        } = sign_in;
        let life = Duration::from_secs(self.settings.token_seconds);
        let _turn = self
            .tokens
            .sign_ins
            .acquire()
            .await
            .map_err(|_| Error::internal("sign-in is closed"))?;
        let signed_in = self
            .core
            .registry()
            .sign_in(&uuid, PasswordForm::Plain, secret, life)
            .await;
        let (_, token, _): (_, Secret, _) = signed_in.map_err(|error| match error.kind {
            ErrorKind::Unauthenticated => Fault::code(Code::NoPermission),
            _ => Fault::from(error),
        })?;
        if first_edition {
            return Data::of(&token.expose());
        }
        let effective_time = self.settings.token_seconds.saturating_mul(1000);
        Data::of(&Token {
            token: token.expose(),
            effective_time,
        })
    }
}

/// The token of a request: the newest edition's header, the second's, or the usual one.
fn token(request: &Request) -> Option<&str> {
    let bearer = request.header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    [
        request.header("finovy-access-token"),
        request.header("authorization-token"),
        bearer,
    ]
    .into_iter()
    .flatten()
    .map(str::trim)
    .find(|token| !token.is_empty())
    .filter(|token| token.len() <= LONGEST_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Arc<Account> {
        Arc::new(Account {
            id: babelvisor_core::model::AccountId::random(),
            name: "A1".to_owned(),
            tenant: TenantId::new("t"),
            role: Role::User,
            identity_verified: true,
            vm_quota: None,
            verifiers: Vec::new(),
            created: Timestamp::now(),
        })
    }

    #[test]
    fn a_token_is_not_remembered_past_its_end() {
        let tokens = Tokens::default();
        let hour = Timestamp::now() + Duration::from_secs(3600);
        tokens.remember("live".to_owned(), account(), hour);
        tokens.remember("dead".to_owned(), account(), Timestamp::now());
        assert!(tokens.recall("live").is_some());
        assert!(tokens.recall("dead").is_none());
        assert!(tokens.recall("unknown").is_none());
    }

    #[test]
    fn the_memory_of_tokens_is_bounded() {
        let tokens = Tokens::default();
        let (account, hour) = (account(), Timestamp::now() + Duration::from_secs(3600));
        for number in 0..MOST_REMEMBERED * 2 + 5 {
            tokens.remember(number.to_string(), account.clone(), hour);
        }
        assert!(tokens.known.read().unwrap().len() <= MOST_REMEMBERED);
    }

    #[test]
    fn the_token_is_read_from_three_headers() {
        let with = |name: &str, value: &str| Request {
            headers: vec![(name.to_owned(), value.to_owned())],
            ..Request::default()
        };
        for (name, value) in [
            ("finovy-access-token", "abc"),
            ("authorization-token", "abc"),
            ("authorization", "Bearer abc"),
            ("authorization", "bearer  abc "),
        ] {
            assert_eq!(token(&with(name, value)), Some("abc"), "{name}: {value}");
        }
        for (name, value) in [
            ("authorization", "Basic abc"),
            ("authorization", "abc"),
            ("finovy-access-token", " "),
        ] {
            assert_eq!(token(&with(name, value)), None, "{name}: {value}");
        }
        assert_eq!(token(&with("finovy-access-token", &"x".repeat(257))), None);
    }
}
