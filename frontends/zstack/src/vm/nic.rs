//! Interfaces.

/// A MAC address in the canonical spelling: lower case with colons. None for what is none, or no address of a
/// single interface.
pub(super) fn mac(text: &str) -> Option<String> {
    let plain = text.trim().to_ascii_lowercase().replace('-', ":");
    let bytes: Vec<u8> = plain
        .split(':')
        .map(|part| match part.len() {
            2 => u8::from_str_radix(part, 16).ok(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let group = bytes.first().is_some_and(|first| first & 1 == 1);
    (bytes.len() == 6 && !group).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_has_one_spelling() {
        for text in ["fa:00:37:ee:9f:00", "FA:00:37:EE:9F:00", "fa-00-37-ee-9f-00"] {
            assert_eq!(mac(text).as_deref(), Some("fa:00:37:ee:9f:00"), "{text}");
        }
        for text in ["", "fa:00:37:ee:9f", "fa:00:37:ee:9f:0g", "ff:ff:ff:ff:ff:ff", "fa:0:37:ee:9f:00"] {
            assert_eq!(mac(text), None, "{text}");
        }
    }
}
