//! What a site may choose about this dialect: the keys of its table in the configuration.

use babelvisor_core::model::Role;
use serde::Deserialize;

/// What becomes of a name that another guest has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameConflict {
    /// It is replaced by eight random letters and digits, as the original does.
    #[default]
    Random,
    /// The request is refused with 409/40901.
    Refuse,
}

/// A shared secret that every request must carry in a header. The original knows no sign-in; this is for sites
/// that put the dialect on an open network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The header's name; letter case does not matter.
    pub header: String,
    /// SHA-256 of the value, in hexadecimal: the secret itself stays out of the configuration.
    pub sha256: String,
}

/// The dialect's settings. Every key has a default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// To whom guests belong that are created through this dialect.
    pub tenant: String,
    /// What its callers may do. `admin` sees every guest, as the original does; `user` and `viewer` see those of
    /// `tenant`; `viewer` changes nothing and is not shown passwords.
    pub role: Role,
    /// What `manage_network` shows; the guest's own network without.
    pub manage_network: Option<String>,
    /// What becomes of a name that is taken.
    pub name_conflict: NameConflict,
    /// Most guests that one create call may ask for.
    pub max_quantity: u32,
    /// Root disk of new guests in GiB; an image that is larger decides. 0 follows the image.
    pub root_disk_gib: u32,
    /// The login whose password is set in new guests; the image's own without.
    pub admin_user: Option<String>,
    /// Whether the gateway enforces leases. Here it only decides whether a client is warned that it does not.
    pub leases_enforced: bool,
    /// A secret that every request must carry; none by default.
    pub credential: Option<Credential>,
    /// Most memory for encoded guests in MiB. They hold passwords in clear, as the answers do.
    pub cache_mib: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tenant: "default".to_owned(),
            role: Role::Admin,
            manage_network: None,
            name_conflict: NameConflict::Random,
            max_quantity: 100,
            root_disk_gib: 0,
            admin_user: None,
            leases_enforced: false,
            credential: None,
            cache_mib: 128,
        }
    }
}
