//! Accounts: who may sign in.

use std::sync::LazyLock;

use tokio::sync::Semaphore;

use super::{Registry, decode, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Account, AccountId, AccountInfo, ApiKey, ApiKeyId, Role, TenantId, Timestamp};
use crate::secret::{PasswordForm, Secret, Verifier, verifiers, verify};
use crate::store::{Expect, RecordKind, Write};

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

    /// All accounts, without proofs of passwords. One that this release cannot read is left out.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn accounts(&self) -> Result<Vec<AccountInfo>> {
        let records = self.store.load(RecordKind::Account).await?;
        let accounts = records
            .iter()
            .filter_map(|record| match decode::<Account>(record) {
                Ok(account) => Some(AccountInfo::from(&account)),
                Err(error) => {
                    tracing::error!(%error, "an account is left out");
                    None
                }
            });
        Ok(accounts.collect())
    }

    /// The API key with this SHA-256 (lower-case hex), with its version.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn api_key_of_hash(&self, hash: &str) -> Result<Option<(ApiKey, u64)>> {
        let alias = self
            .store
            .get(RecordKind::Alias, &format!("api-key:{hash}"))
            .await?;
        match alias.as_ref().map(decode::<ApiKeyId>).transpose()? {
            Some(id) => self.entry(id).await,
            None => Ok(None),
        }
    }

    /// The account named `name`, if what the client sent in `form` proves its password.
    ///
    /// # Errors
    /// `Unauthenticated`, the same for an unknown name and a wrong password; those of the store.
    pub async fn check_password(&self, name: &str, form: PasswordForm, sent: Secret) -> Result<Account> {
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
        account.ok_or_else(refused)
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
