//! Accounts and sessions: who may sign in, and which tokens are alive. Tokens are kept as SHA-256 only.

use serde::{Deserialize, Serialize};

use super::{Registry, decode, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Account, AccountId, Role, TenantId, Timestamp};
use crate::secret::{PasswordForm, Secret, random_text, sha256_hex, verifiers, verify};
use crate::store::{Expect, RecordKind, Write};

/// How many live sessions one account may have; the oldest gives way to a new one.
const SESSIONS_PER_ACCOUNT: usize = 500;

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
        let stored = account
            .as_ref()
            .map_or_else(Vec::new, |account| account.verifiers.clone());
        tokio::task::spawn_blocking(move || {
            if stored.is_empty() {
                // As much work as for a known name, so that names cannot be told apart by time.
                verifiers(&sent)
                    .map(|_| ())
                    .and(Err(Error::new(ErrorKind::Unauthenticated, "")))
            } else {
                verify(&stored, form, &sent)
            }
        })
        .await
        .map_err(|_| Error::internal("hashing was interrupted"))?
        .map_err(|_| refused())?;
        let account = account.ok_or_else(refused)?;
        self.bound_sessions(&account.name).await?;
        let token = Secret::new(random_text(22));
        let created = Timestamp::now();
        let expires = created
            .checked_add(life)
            .map_err(|_| Error::internal("a session's life is beyond the calendar"))?;
        let session = Session {
            account: account.name.clone(),
            created,
            expires,
        };
        let write = Write {
            kind: RecordKind::Session,
            key: sha256_hex(token.expose()),
            expect: Expect::Absent,
            value: Some(encode(&session)?),
        };
        self.store.commit(vec![write]).await?;
        Ok((account, token, session))
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

    /// Removes stale sessions, and the oldest ones of an account that has too many.
    async fn bound_sessions(&self, account: &str) -> Result<()> {
        let now = Timestamp::now();
        let mut drop = Vec::new();
        let mut own = Vec::new();
        for record in self.store.load(RecordKind::Session).await? {
            let session: Session = decode(&record)?;
            if session.expires <= now {
                drop.push(record.key);
            } else if session.account == account {
                own.push((session.created, record.key));
            }
        }
        own.sort();
        let surplus = (own.len() + 1).saturating_sub(SESSIONS_PER_ACCOUNT);
        drop.extend(own.into_iter().take(surplus).map(|(_, key)| key));
        let writes = drop
            .into_iter()
            .map(|key| Write {
                kind: RecordKind::Session,
                key,
                expect: Expect::Any,
                value: None,
            })
            .collect::<Vec<_>>();
        if !writes.is_empty() {
            self.store.commit(writes).await?;
        }
        Ok(())
    }
}
