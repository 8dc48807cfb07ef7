//! API keys: what an account's programs sign in with. A key does not expire; it ends when it is removed.

use serde::{Deserialize, Serialize};

use super::{AccountId, ApiKeyId, TenantId, Timestamp};
use crate::secret::Sealed;

/// A key of an account. The key itself is never here in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The record's id; says nothing about the key.
    pub id: ApiKeyId,
    /// The account.
    pub account: AccountId,
    /// The account's name.
    pub account_name: String,
    /// The account's tenant.
    pub tenant: TenantId,
    /// The SHA-256 of the key in lower-case hex: how it is found.
    pub hash: String,
    /// The key, sealed, for dialects that show it to its owner again.
    pub key: Sealed,
    /// When it was made.
    pub created: Timestamp,
}
