//! Accounts, tenants and API keys as frontends see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Heard;
use crate::model::{AccountId, AccountInfo, ApiKey, ApiKeyId, Caller, Role, TenantId, Timestamp};
use crate::query;
use crate::secret::{Secret, sha256_hex};

/// How many API keys one account may have.
const KEYS_PER_ACCOUNT: usize = 100;

impl Core {
    /// The accounts that the caller may see, by name: an administrator all, others their own.
    pub fn accounts(&self, caller: &Caller) -> Vec<Arc<AccountInfo>> {
        let now = self.now();
        let accounts = now.accounts.values();
        let seen =
            accounts.filter(|account| caller.role == Role::Admin || caller.account == Some(account.id));
        seen.cloned().collect()
    }

    /// The tenants that the caller may see: an administrator all that have accounts or VMs, others their own.
    pub fn tenants(&self, caller: &Caller) -> BTreeSet<TenantId> {
        match query::scope(caller) {
            Some(own) => BTreeSet::from([own.clone()]),
            None => {
                let now = self.now();
                let of_accounts = now.accounts.values().map(|account| account.tenant.clone());
                let with_vms = now.by_tenant.keys().cloned();
                of_accounts
                    .chain(with_vms)
                    .chain([caller.tenant.clone()])
                    .collect()
            }
        }
    }

    /// Makes an API key for the caller's account: a UUID in its usual form. A viewer may have one, too: it can do
    /// no more with it than without.
    ///
    /// # Errors
    /// `Unauthenticated` for an anonymous caller, `QuotaExceeded` for an account that has a hundred; those of
    /// the store.
    pub async fn create_api_key(&self, caller: &Caller) -> Result<(Arc<ApiKey>, Secret)> {
        let account = self.own_account(caller).await?;
        if self.api_keys(caller).len() >= KEYS_PER_ACCOUNT {
            let text = format!("an account has at most {KEYS_PER_ACCOUNT} API keys: remove one first");
            return Err(Error::new(ErrorKind::QuotaExceeded, text).about(AccountId::NOUN, &account.name));
        }
        let secret = Secret::new(Uuid::new_v4().to_string());
        let key = ApiKey {
            id: ApiKeyId::random(),
            account: account.id,
            account_name: account.name.clone(),
            tenant: account.tenant.clone(),
            hash: sha256_hex(secret.expose()),
            key: self.seal(&secret)?,
            created: Timestamp::now(),
        };
        tracing::info!(
            target: "audit",
            request = caller.request_id,
            account = account.name,
            key = %key.id,
            "an API key is made"
        );
        let (key, version) = self.registry.add_entry(key).await?;
        self.inventory.entries(vec![Heard::written(key.clone(), version)]);
        Ok((Arc::new(key), secret))
    }

    /// The caller's own API keys, oldest first. [`Core::open`] opens what they seal; they are removed by
    /// [`Core::remove_entry`].
    pub fn api_keys(&self, caller: &Caller) -> Vec<Arc<ApiKey>> {
        let mut keys = self.entries::<ApiKey>(caller);
        keys.sort_by_key(|key| (key.created, key.id));
        keys
    }

    /// The account that an API key belongs to.
    ///
    /// # Errors
    /// `Unauthenticated` for a key that is unknown or was removed; those of the store.
    pub async fn session_by_api_key(&self, key: &str) -> Result<Arc<AccountInfo>> {
        let unknown = || {
            Error::new(
                ErrorKind::Unauthenticated,
                "the API key is unknown or was removed",
            )
        };
        let hash = sha256_hex(key);
        let known = self.now().api_key_of_hash(&hash).cloned();
        let key = match known {
            Some(key) => key,
            // Another gateway may have made it a moment ago.
            None => {
                let found = self.registry.api_key_of_hash(&hash).await?;
                let (key, version) = found.ok_or_else(unknown)?;
                self.inventory.entries(vec![Heard::written(key.clone(), version)]);
                Arc::new(key)
            }
        };
        let account = self.account_named(&key.account_name).await?;
        // Another account may have the name meanwhile.
        account
            .filter(|account| account.id == key.account)
            .ok_or_else(unknown)
    }

    async fn account_named(&self, name: &str) -> Result<Option<Arc<AccountInfo>>> {
        if let Some(account) = self.now().accounts.get(name) {
            return Ok(Some(account.clone()));
        }
        let account = self.registry.account(name).await?;
        Ok(account.map(|account| Arc::new(AccountInfo::from(&account))))
    }

    async fn own_account(&self, caller: &Caller) -> Result<Arc<AccountInfo>> {
        let id = caller.account.ok_or_else(|| {
            Error::new(
                ErrorKind::Unauthenticated,
                "only an account has API keys, sign in first",
            )
        })?;
        let now = self.now();
        let known = now.accounts.values().find(|account| account.id == id).cloned();
        match known {
            Some(account) => Ok(account),
            // Another process may have made it a moment ago.
            None => {
                let all = self.registry.accounts().await?;
                let own = all.into_iter().find(|account| account.id == id);
                own.map(Arc::new)
                    .ok_or_else(|| Error::not_found(AccountId::NOUN, id))
            }
        }
    }
}
