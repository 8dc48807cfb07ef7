//! Accounts and sessions: who may sign in, and which tokens are alive. Tokens are kept as SHA-256 only.
//!
//! Beside each session's own record there is one list for each account, written in the same transaction, so that a
//! sign-in can bound its account's sessions without reading everybody's.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Registry, decode, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Account, AccountId, Role, TenantId, Timestamp};
use crate::secret::{PasswordForm, Secret, Verifier, random_text, sha256_hex, verifiers, verify};
use crate::store::{Expect, RecordKind, Write};

/// How many live sessions one account may have; the one that ends first gives way to a new one.
const SESSIONS_PER_ACCOUNT: usize = 500;
/// How often a session is tried to be stored while others sign in to the same account.
const TRIES: usize = 64;

/// A live session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// The account's name.
    pub account: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// What a new account is made of.
#[derive(Debug)]
pub struct NewAccount {
    /// Login name.
    pub name: String,
    /// Whose objects it sees.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// Whether the holder's identity was verified.
    pub identity_verified: bool,
    /// Most VMs, none for no limit.
    pub vm_quota: Option<u32>,
    /// The password.
    pub password: Secret,
}

impl Registry {
    /// Makes an account.
    ///
    /// # Errors
    /// `AlreadyExists` for a taken name, `InvalidInput` for an empty name or password.
    pub async fn add_account(&self, new: NewAccount) -> Result<Account> {
        if new.name.is_empty() || new.name.len() > 128 || new.name.chars().any(char::is_control) {
            return Err(Error::invalid(
                "name",
                "an account's name has 1 to 128 printable characters",
            ));
        }
        if new.password.expose().is_empty() {
            return Err(Error::invalid("password", "the password must not be empty"));
        }
        let password = new.password.clone();
        let verifiers = tokio::task::spawn_blocking(move || verifiers(&password))
            .await
            .map_err(|_| Error::internal("hashing was interrupted"))??;
        let account = Account {
            id: AccountId::random(),
            name: new.name,
            tenant: new.tenant,
            role: new.role,
            identity_verified: new.identity_verified,
            vm_quota: new.vm_quota,
            verifiers,
            created: Timestamp::now(),
        };
        let write = Write {
            kind: RecordKind::Account,
            key: account.name.clone(),
            expect: Expect::Absent,
            value: Some(encode(&account)?),
        };
        match self.store.commit(vec![write]).await {
            Ok(_) => Ok(account),
            Err(error) if error.kind == ErrorKind::Conflict => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("account {} exists already", account.name),
            )
            .about("account", &account.name)),
            Err(error) => Err(error),
        }
    }

    /// The account named `name`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn account(&self, name: &str) -> Result<Option<Account>> {
        let found = self.store.get(RecordKind::Account, name).await?;
        found.as_ref().map(decode).transpose()
    }

    /// Signs in: checks what the client sent in `form` and opens a session that lives for `life`. Returns the
    /// account and the token, which is not kept.
    ///
    /// # Errors
    /// `Unauthenticated`, the same for an unknown name and a wrong password.
    pub async fn sign_in(
        &self,
        name: &str,
        form: PasswordForm,
        sent: Secret,
        life: std::time::Duration,
    ) -> Result<(Account, Secret, Session)> {
        let refused = || Error::new(ErrorKind::Unauthenticated, "wrong account name or password");
        let account = self.account(name).await?;
        // As many at once as leave a core for everything else; the others wait their turn without a thread.
        let turn = CHECKS
            .acquire()
            .await
            .map_err(|_| Error::internal("sign-ins are closed"))?;
        let stored = account.as_ref().map(|account| account.verifiers.clone());
        let fits = tokio::task::spawn_blocking(move || match stored {
            Some(stored) => verify(&stored, form, &sent),
            // The same work as for a known name, so that names cannot be told apart by time.
            None => verify(decoy(), form, &sent).and(Err(Error::new(ErrorKind::Unauthenticated, ""))),
        });
        let fits = fits
            .await
            .map_err(|_| Error::internal("hashing was interrupted"))?;
        drop(turn);
        fits.map_err(|_| refused())?;
        let account = account.ok_or_else(refused)?;
        let created = Timestamp::now();
        let expires = created
            .checked_add(life)
            .map_err(|_| Error::internal("a session's life is beyond the calendar"))?;
        let session = Session {
            account: account.name.clone(),
            created,
            expires,
        };
        let token = self.store_session(&session).await?;
        Ok((account, token, session))
    }

    /// Stores a session under a new token, and drops the account's stale ones and, if it has too many, oldest.
    async fn store_session(&self, session: &Session) -> Result<Secret> {
        let list_key = format!("sessions:{}", session.account);
        let mut last = None;
        for _ in 0..TRIES {
            let token = Secret::new(random_text(22));
            let key = sha256_hex(token.expose());
            let old = self.store.get(RecordKind::Setting, &list_key).await?;
            let expect = old
                .as_ref()
                .map_or(Expect::Absent, |old| Expect::Version(old.version));
            let mut listed: Vec<Listed> = old.as_ref().map(decode).transpose()?.unwrap_or_default();
            listed.sort_by_key(|listed| listed.expires);
            let stale = listed
                .iter()
                .take_while(|listed| listed.expires <= session.created)
                .count();
            let surplus = (listed.len() + 1).saturating_sub(SESSIONS_PER_ACCOUNT);
            let dropped: Vec<Listed> = listed.drain(..stale.max(surplus)).collect();
            listed.push(Listed {
                key: key.clone(),
                expires: session.expires,
            });
            let mut writes = vec![
                Write {
                    kind: RecordKind::Session,
                    key,
                    expect: Expect::Absent,
                    value: Some(encode(session)?),
                },
                Write {
                    kind: RecordKind::Setting,
                    key: list_key.clone(),
                    expect,
                    value: Some(encode(&listed)?),
                },
            ];
            writes.extend(dropped.into_iter().map(|dropped| removal(dropped.key)));
            match self.store.commit(writes).await {
                Ok(_) => return Ok(token),
                // Somebody else signed in to the same account at the same time.
                Err(error) if error.kind == ErrorKind::Conflict => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("a session was not tried to be stored")))
    }

    /// Removes the sessions that have expired, of accounts, too, that nobody signs in to any more. Reads all
    /// sessions: for an hourly round, not for a request. Returns how many it removed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn purge_sessions(&self) -> Result<usize> {
        let now = Timestamp::now();
        let mut stale = Vec::new();
        for record in self.store.load(RecordKind::Session).await? {
            // What cannot be read is no session of this release, and its expiry is not known.
            if decode::<Session>(&record).is_ok_and(|session| session.expires <= now) {
                stale.push(record.key);
            }
        }
        for batch in stale.chunks(256) {
            let writes = batch.iter().cloned().map(removal).collect();
            self.store.commit(writes).await?;
        }
        Ok(stale.len())
    }

    /// The account behind a token.
    ///
    /// # Errors
    /// `Unauthenticated` for an unknown or stale token.
    pub async fn session(&self, token: &str) -> Result<Account> {
        self.open_session(token).await.map(|(account, _)| account)
    }

    /// The account behind a token, and the session itself for callers that remember it until it ends.
    ///
    /// # Errors
    /// `Unauthenticated` for an unknown or stale token.
    pub async fn open_session(&self, token: &str) -> Result<(Account, Session)> {
        let stale = || {
            Error::new(
                ErrorKind::Unauthenticated,
                "the session is unknown or has expired, sign in again",
            )
        };
        let record = self
            .store
            .get(RecordKind::Session, &sha256_hex(token))
            .await?
            .ok_or_else(stale)?;
        let session: Session = decode(&record)?;
        if session.expires <= Timestamp::now() {
            return Err(stale());
        }
        let account = self.account(&session.account).await?.ok_or_else(stale)?;
        Ok((account, session))
    }
}

/// A session in its account's list.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    key: String,
    expires: Timestamp,
}

fn removal(key: String) -> Write {
    Write {
        kind: RecordKind::Session,
        key,
        expect: Expect::Any,
        value: None,
    }
}

/// How many passwords are checked at once, by all dialects: each takes 19 MiB and some ten milliseconds of a
/// core, and whoever sends many must not take the cores from everybody else.
static CHECKS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Semaphore::new((cores / 2).clamp(1, 8))
});

/// Verifiers of a password that nobody has.
fn decoy() -> &'static [Verifier] {
    static DECOY: LazyLock<Vec<Verifier>> =
        LazyLock::new(|| verifiers(&Secret::random(32)).unwrap_or_default());
    &DECOY
}
