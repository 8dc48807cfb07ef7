//! What a site may choose about this dialect: the keys of its table in the configuration.

use babelvisor_core::model::Role;
use babelvisor_schemas::Strictness;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

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
    /// SHA-256 of the value, 64 hexadecimal digits: the secret itself stays out of the configuration.
    #[serde(deserialize_with = "digest")]
    pub sha256: String,
}

/// A digest that cannot be one would silently refuse every request.
fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let digits = String::deserialize(deserializer)?;
    if digits.len() == 64 && digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
        Ok(digits)
    } else {
        Err(D::Error::custom(
            "sha256 must be 64 hexadecimal digits, as `sha256sum` prints them",
        ))
    }
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
    /// What becomes of fields that would be ignored.
    pub strictness: Strictness,
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
            strictness: Strictness::Warn,
            credential: None,
            cache_mib: 128,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(settings: Value) -> Result<Settings, serde_json::Error> {
        serde_json::from_value(settings)
    }

    #[test]
    fn every_key_has_a_default_and_unknown_ones_are_refused() {
        assert_eq!(read(json!({})).unwrap(), Settings::default());
        let strict = read(json!({"name_conflict": "refuse", "role": "user", "tenant": "lab"})).unwrap();
        assert_eq!(
            (strict.name_conflict, strict.role),
            (NameConflict::Refuse, Role::User)
        );
        assert!(read(json!({"tennant": "lab"})).is_err());
    }

    #[test]
    fn a_credential_is_a_digest_and_never_the_secret() {
        let with = |sha256: &str| read(json!({"credential": {"header": "x-key", "sha256": sha256}}));
        assert!(
            with("made-up secret")
                .unwrap_err()
                .to_string()
                .contains("64 hexadecimal digits")
        );
        assert!(with(&"0a".repeat(32)).is_ok());
    }
}
