//! Accounts and callers.

use serde::{Deserialize, Serialize};

use super::{AccountId, TenantId, Timestamp};
use crate::secret::Verifier;

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything in every tenant.
    Admin,
    /// Everything in its own tenant.
    User,
    /// Reads in its own tenant.
    Viewer,
}

/// Somebody who can sign in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// The account's id.
    pub id: AccountId,
    /// Login name (in some dialects an account number).
    pub name: String,
    /// Whose objects it sees.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// Whether the account holder's identity was verified by name.
    pub identity_verified: bool,
    /// Most VMs the tenant may have through this account; none is no limit.
    #[serde(default)]
    pub vm_quota: Option<u32>,
    /// Proofs of the password in every form that a dialect sends.
    pub verifiers: Vec<Verifier>,
    /// When it was made.
    pub created: Timestamp,
}

/// An account without the proofs of its password: what lists show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountInfo {
    /// The account's id.
    pub id: AccountId,
    /// Login name.
    pub name: String,
    /// Whose objects it sees.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// Whether the account holder's identity was verified by name.
    pub identity_verified: bool,
    /// Most VMs the tenant may have through this account; none is no limit.
    #[serde(default)]
    pub vm_quota: Option<u32>,
    /// When it was made.
    pub created: Timestamp,
}

impl From<&Account> for AccountInfo {
    fn from(account: &Account) -> Self {
        Self {
            id: account.id,
            name: account.name.clone(),
            tenant: account.tenant.clone(),
            role: account.role,
            identity_verified: account.identity_verified,
            vm_quota: account.vm_quota,
            created: account.created,
        }
    }
}

/// Who calls, and through what: what the layers judge by.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The account; none for an anonymous caller of an open dialect.
    pub account: Option<AccountId>,
    /// Whose objects the caller sees.
    pub tenant: TenantId,
    /// What the caller may do.
    pub role: Role,
    /// Most VMs the tenant may have.
    pub vm_quota: Option<u32>,
    /// The dialect's name, for audit and metrics only.
    pub dialect: &'static str,
    /// The operation's id, for audit and metrics only.
    pub operation: String,
    /// The request's id.
    pub request_id: String,
}
