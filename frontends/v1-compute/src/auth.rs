//! Who calls. A call carries a token, a key, or both; one that is good is enough. A good token is remembered for a
//! few seconds, so that a client that polls does not cost a look-up in the store each time; keys are known to the
//! inventory.
//!
//! The original's tokens are JWTs. Ours are random text: clients only send a token back, nothing in it is read by
//! any of them, and a random one can be taken back by a logout, which a JWT cannot.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use babelvisor_core::frontend::Request;
use babelvisor_core::model::{AccountInfo, Caller, Role, TenantId, Timestamp};
use babelvisor_core::registry::SessionOptions;
use babelvisor_core::secret::{PasswordForm, Secret, sha256_hex};
use babelvisor_core::{Error, ErrorKind};
use serde::Serialize;
use uuid::Uuid;

use crate::V1Compute;
use crate::call::Call;
use crate::encode::Data;
use crate::error::{Code, Fault};
use crate::operations::{Row, row};
use crate::place;
use crate::settings::Switch;

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!(open "auth.login", login),
    row!("auth.logout", logout),
    row!("apikey.list", list_keys),
    row!("apikey.create", create_key),
];

/// How long a token counts as good without asking the store: also how long one lives on that another
/// gateway took back.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How many are remembered at once.
const MOST_REMEMBERED: usize = 4096;
/// No token or key of ours is longer; what is, need not be hashed.
const LONGEST: usize = 256;

/// The tokens that were good a moment ago.
#[derive(Default)]
pub(crate) struct Visitors {
    /// By the SHA-256 of the token.
    known: RwLock<HashMap<String, Known>>,
}

struct Known {
    account: Arc<AccountInfo>,
    expires: Timestamp,
    until: Instant,
}

impl Known {
    fn good(&self) -> bool {
        self.until > Instant::now() && self.expires > Timestamp::now()
    }
}

impl Visitors {
    fn recall(&self, hash: &str) -> Option<Arc<AccountInfo>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known
            .get(hash)
            .filter(|known| known.good())
            .map(|known| known.account.clone())
    }

    fn remember(&self, hash: String, account: Arc<AccountInfo>, expires: Timestamp) {
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

    fn forget(&self, hash: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(hash);
    }
}

/// The members of the management cluster as this client can reach them: the one that it called.
#[derive(Serialize)]
struct Members<'a> {
    leader: &'a str,
    candidates: [&'a str; 1],
}

/// The answer to a login. No `Debug`: it holds the token.
#[derive(Serialize)]
struct LoggedIn<'a> {
    user_role: &'static str,
    token: &'a str,
    user_uuid: String,
    user_name: &'a str,
    ldap_enabled: bool,
    tenant_uuid: String,
    default_cluster_uuid: String,
    is_deploy_mode: bool,
    system_member_list: Members<'a>,
}

/// A key. No `Debug`: who has it can act as its account.
#[derive(Serialize)]
struct Key<'a> {
    uuid: &'a str,
}

#[derive(Serialize)]
struct Keys<'a> {
    list: Vec<Key<'a>>,
    total_count: usize,
}

/// The name of a role in this dialect.
pub(crate) const fn role(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::User => "user",
        Role::Viewer => "audit",
    }
}

/// The host part of the request's `Host` header: what the client compares with the address that it called. An IPv6
/// address keeps its brackets, as it has them in the client's URL.
pub(crate) fn host(request: &Request) -> &str {
    let host = request.host.as_str();
    match host.rfind(']') {
        Some(end) => host.get(..=end).unwrap_or(host),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

impl V1Compute {
    /// Nobody in particular: whoever has yet to sign in.
    pub(crate) fn nobody(&self, operation: &str, request: &Request) -> Caller {
        Caller {
            account: None,
            tenant: TenantId::new(&self.settings.tenant),
            role: Role::Viewer,
            vm_quota: None,
            dialect: self.contract.dialect().name(),
            operation: operation.to_owned(),
            request_id: request.request_id.clone(),
        }
    }

    /// Whoever sent the request.
    pub(crate) async fn visitor(&self, operation: &str, request: &Request) -> Result<Caller, Fault> {
        let nobody = self.nobody(operation, request);
        let account = match (self.account(request).await, self.settings.authentication) {
            (Ok(account), _) => account,
            (Err(_), Switch::Off) => {
                let role = Role::User;
                return Ok(Caller { role, ..nobody });
            }
            (Err(fault), Switch::On) => return Err(fault),
        };
        Ok(Caller {
            account: Some(account.id),
            tenant: account.tenant.clone(),
            role: account.role,
            vm_quota: account.vm_quota,
            ..nobody
        })
    }

    /// The account behind the request's token, or behind its key.
    async fn account(&self, request: &Request) -> Result<Arc<AccountInfo>, Fault> {
        let mut refused = Error::new(ErrorKind::Unauthenticated, "neither a token nor a key was sent");
        if let Some(token) = token(request) {
            let hash = sha256_hex(token);
            if let Some(account) = self.visitors.recall(&hash) {
                return Ok(account);
            }
            match self.core.registry().open_session(token).await {
                Ok((account, session)) => {
                    let account = Arc::new(AccountInfo::from(&account));
                    self.visitors.remember(hash, account.clone(), session.expires);
                    return Ok(account);
                }
                Err(error) if error.kind == ErrorKind::Unauthenticated => refused = error,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(key) = key(request) {
            match self.core.session_by_api_key(&key).await {
                Ok(account) => return Ok(account),
                Err(error) => refused = error,
            }
        }
        Err(refused.into())
    }

    /// `auth.login`: 10183 for an unknown user, another tenant's user and a wrong password alike.
    pub(crate) async fn login(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        let (tenant, user) = (params.text("tenant"), params.text("user"));
        let password = Secret::new(params.text("password"));
        if params.flag("is_ldap") {
            return Err(Fault::saying(
                Code::Unsupported,
                "is_ldap: accounts of a directory are not served, sign in without it",
            ));
        }
        let registry = self.core.registry();
        let proved = registry
            .check_password(user, PasswordForm::Md5Hex, password)
            .await;
        let account = proved.map_err(|error| match error.kind {
            ErrorKind::Unauthenticated => Fault::code(Code::NoUser),
            _ => Fault::from(error),
        })?;
        if !place::names_tenant(tenant, &account.tenant) {
            return Err(Fault::code(Code::NoUser));
        }
        let options = SessionOptions::from(Duration::from_secs(self.settings.token_seconds));
        let (token, _) = registry.begin_session(&account, &options).await?;
        let cluster = place::clusters(&self.core.now()).into_iter().next();
        let host = host(call.request);
        Data::of(&LoggedIn {
            user_role: role(account.role),
            token: token.expose(),
            user_uuid: account.id.to_string(),
            user_name: &account.name,
            ldap_enabled: false,
            tenant_uuid: place::tenant_uuid(&account.tenant).to_string(),
            default_cluster_uuid: cluster.map(|area| area.uuid.to_string()).unwrap_or_default(),
            is_deploy_mode: false,
            system_member_list: Members {
                leader: host,
                candidates: [host],
            },
        })
    }

    /// `auth.logout`: the token of the request is worth nothing any more; a key stays.
    pub(crate) async fn logout(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        if let Some(token) = token(call.request) {
            self.visitors.forget(&sha256_hex(token));
            self.core.registry().sign_out(token).await?;
        }
        Ok(Data::no_text())
    }

    /// `apikey.list`: the keys of the caller's account. One that cannot be opened any more is left out.
    pub(crate) async fn list_keys(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let keys = self.core.api_keys(&call.caller);
        let opened = keys.iter().filter_map(|key| {
            let opened = self.core.open(&key.key);
            opened
                .map_err(|error| tracing::error!(key = %key.id, %error, "key not shown"))
                .ok()
        });
        let opened: Vec<Secret> = opened.collect();
        let list: Vec<Key<'_>> = opened.iter().map(|key| Key { uuid: key.expose() }).collect();
        Data::of(&Keys {
            total_count: list.len(),
            list,
        })
    }

    /// `apikey.create`.
    pub(crate) async fn create_key(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (_, key) = self.core.create_api_key(&call.caller).await?;
        Data::of(&Key { uuid: key.expose() })
    }
}

/// The token that the request carries, if it can be one of ours.
fn token(request: &Request) -> Option<&str> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    let token = token.trim();
    let fits = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LONGEST;
    fits.then_some(token)
}

/// The key that the request carries, in its one spelling.
fn key(request: &Request) -> Option<String> {
    let sent = request.header("apikey")?.trim();
    Uuid::try_parse(sent).ok().map(|key| key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Request {
        Request {
            headers: vec![(name.to_owned(), value.to_owned())],
            ..Request::default()
        }
    }

    #[test]
    fn the_leader_is_the_host_part_of_the_host_header() {
        for (sent, host) in [
            ("hci.example:9990", "hci.example"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7:8080", "192.0.2.7"),
            ("[2001:db8::1]:9990", "[2001:db8::1]"),
        ] {
            let request = Request {
                host: sent.to_owned(),
                ..Request::default()
            };
            assert_eq!(super::host(&request), host, "{sent}");
        }
    }

    #[test]
    fn a_token_is_read_after_the_word_bearer_only() {
        assert_eq!(token(&with("authorization", "Bearer abc")), Some("abc"));
        assert_eq!(token(&with("authorization", "bearer  abc ")), Some("abc"));
        for value in ["abc", "Basic abc", "Bearer ", ""] {
            assert_eq!(token(&with("authorization", value)), None, "{value}");
        }
        let long = format!("Bearer {}", "x".repeat(LONGEST + 1));
        assert_eq!(token(&with("authorization", &long)), None);
    }
}
