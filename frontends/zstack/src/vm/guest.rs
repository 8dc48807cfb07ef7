//! What a machine's guest is told: host name, SSH key, passwords of its accounts. The gateway delivers host names
//! and keys with the first-boot set-up of a new machine; set later they are remembered and shown.

use babelvisor_core::Error;

/// The longest key that is taken.
const LONGEST_KEY: usize = 16 << 10;

/// Refuses a host name that RFC 1123 does not allow.
pub(super) fn check_hostname(name: &str) -> Result<(), Error> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(Error::invalid(
        "hostname",
        "invalid field[hostname], a hostname conforms to RFC 1123: letters, digits and hyphens",
    ))
}

/// Refuses what is no public key: a kind and its data on one line.
pub(super) fn check_ssh_key(text: &str) -> Result<(), Error> {
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let data = words.next().unwrap_or_default();
    let kind_fits = ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| kind.starts_with(prefix));
    if kind_fits && !data.is_empty() && text.len() <= LONGEST_KEY && !text.contains(['\n', '\r', '\0']) {
        return Ok(());
    }
    Err(Error::invalid(
        "SshKey",
        "invalid field[SshKey], expected one public key on one line, such as ssh-ed25519 AAAA… name",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_conform_to_rfc_1123() {
        for name in ["web", "web-1", "1a", "web.example.com", "A"] {
            assert!(check_hostname(name).is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in ["", "-web", "web-", "we_b", "web..com", "web.", "wéb", long.as_str()] {
            assert!(check_hostname(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_public_key_is_one_line() {
        assert!(check_ssh_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 someone").is_ok());
        for text in ["", "ssh-rsa", "password", "ssh-rsa AAAA\nssh-rsa BBBB"] {
            assert!(check_ssh_key(text).is_err(), "{text}");
        }
    }
}
