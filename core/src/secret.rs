//! Secrets. Plain text exists only in [`Secret`], which no log, error or serialiser can print; what is
//! stored is [`Sealed`] (AEAD under a key that the store never sees) or a [`Verifier`] (one-way).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// A secret in plain text, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// `length` random letters and digits.
    pub fn random(length: usize) -> Self {
        Self::new(random_text(length))
    }

    /// The plain text; the caller must not print or store it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `length` random characters of `A-Z a-z 0-9`, from the operating system's generator.
pub fn random_text(length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        for byte in random_bytes::<32>() {
            // 248 is the largest multiple of 62 in a byte: a plain remainder would favour some letters.
            if byte < 248
                && text.len() < length
                && let Some(letter) = ALPHABET.get(usize::from(byte % 62))
            {
                text.push(char::from(*letter));
            }
        }
    }
    text
}

/// `N` random bytes from the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

/// The SHA-256 of `text` in lower-case hex: how tokens are kept.
pub fn sha256_hex(text: &str) -> String {
    hex(&sha2::Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A secret as it is stored: AEAD text under one of the gateway's keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key.
    key: String,
    /// Nonce and text, base64.
    text: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(key {})", self.key)
    }
}

/// The keys that seal secrets: one current, older ones for reading.
pub struct Keyring {
    current: String,
    keys: BTreeMap<String, Zeroizing<[u8; 32]>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring(current {}, {} keys)", self.current, self.keys.len())
    }
}

impl Keyring {
    /// A ring with one fresh key, for tests and stores that live no longer than the process.
    pub fn ephemeral() -> Self {
        let id = random_text(8);
        Self {
            current: id.clone(),
            keys: BTreeMap::from([(id, Zeroizing::new(random_bytes()))]),
        }
    }

    /// Reads a key file: one `id:base64` per line, the first is current. If the file does not exist, makes
    /// one that only the owner can read.
    ///
    /// # Errors
    /// `Internal` when the file cannot be read, made or understood; the text names the file, never a key.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        let fault = |what: String| Error::internal(format!("key file {}: {what}", path.display()));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&Zeroizing::new(text)).map_err(|error| fault(error.detail)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let ring = Self::ephemeral();
                match ring.write(path) {
                    Ok(()) => Ok(ring),
                    // Another process was quicker: its key is the one.
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
                        Self::parse(&Zeroizing::new(text)).map_err(|error| fault(error.detail))
                    }
                    Err(error) => Err(fault(error.to_string())),
                }
            }
            Err(error) => Err(fault(error.to_string())),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut ring = Self {
            current: String::new(),
            keys: BTreeMap::new(),
        };
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let bad = || Error::internal(format!("line {} is not id:base64 of 32 bytes", number + 1));
            let (id, key) = line.trim().split_once(':').ok_or_else(bad)?;
            let key = Zeroizing::new(BASE64.decode(key).map_err(|_| bad())?);
            let key: [u8; 32] = key.as_slice().try_into().map_err(|_| bad())?;
            if ring.current.is_empty() {
                id.clone_into(&mut ring.current);
            }
            ring.keys.insert(id.to_owned(), Zeroizing::new(key));
        }
        if ring.keys.is_empty() {
            Err(Error::internal("it holds no key"))
        } else {
            Ok(ring)
        }
    }

    /// Makes the file whole or not at all: cut off in the middle it would be a key file without a key.
    fn write(&self, path: &Path) -> std::io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", random_text(8)));
        let draft = Path::new(&draft);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(draft)?;
        let written = self.keys.iter().try_for_each(|(id, key)| {
            let line = Zeroizing::new(format!("{id}:{}\n", BASE64.encode(key.as_slice())));
            file.write_all(line.as_bytes())
        });
        // A link, unlike a rename, takes nobody's place.
        let linked = written
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::hard_link(draft, path));
        std::fs::remove_file(draft)?;
        linked?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => std::fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// A digest of `text` that nobody can compute who has not the current key (HMAC-SHA-256), in lower-case hex: for
    /// texts that hold passwords, which a plain digest would let somebody guess.
    pub fn fingerprint(&self, text: &str) -> String {
        const BLOCK: usize = 64;
        let key = self.keys.get(&self.current);
        let padded = |pad: u8| {
            let key = key.iter().flat_map(|key| key.iter().copied());
            let block = key.chain(std::iter::repeat(0)).take(BLOCK);
            Zeroizing::new(block.map(|byte| byte ^ pad).collect::<Vec<u8>>())
        };
        let inner = sha2::Sha256::new()
            .chain_update(padded(0x36))
            .chain_update(text.as_bytes());
        let outer = sha2::Sha256::new()
            .chain_update(padded(0x5c))
            .chain_update(inner.finalize());
        hex(&outer.finalize())
    }

    /// Seals a secret under the current key.
    ///
    /// # Errors
    /// `Internal` if the cipher refuses, which it does only for texts of many gigabytes.
    pub fn seal(&self, secret: &Secret) -> Result<Sealed> {
        let key = self
            .keys
            .get(&self.current)
            .ok_or_else(|| Error::internal("the key ring has no current key"))?;
        let nonce: [u8; 24] = random_bytes();
        let cipher = XChaCha20Poly1305::new(&Key::from(**key));
        let text = cipher
            .encrypt(&XNonce::from(nonce), secret.expose().as_bytes())
            .map_err(|_| Error::internal("sealing failed"))?;
        Ok(Sealed {
            key: self.current.clone(),
            text: BASE64.encode([nonce.as_slice(), &text].concat()),
        })
    }

    /// Opens what this ring, or an earlier state of it, sealed.
    ///
    /// # Errors
    /// `Internal` when the key is not in the ring or the text was changed.
    pub fn open(&self, sealed: &Sealed) -> Result<Secret> {
        let failed = || {
            Error::internal(format!(
                "a secret sealed under key {} cannot be opened",
                sealed.key
            ))
        };
        let key = self.keys.get(&sealed.key).ok_or_else(failed)?;
        let bytes = BASE64.decode(&sealed.text).map_err(|_| failed())?;
        let (nonce, text) = bytes.split_at_checked(24).ok_or_else(failed)?;
        let nonce: [u8; 24] = nonce.try_into().map_err(|_| failed())?;
        let plain = XChaCha20Poly1305::new(&Key::from(**key))
            .decrypt(&XNonce::from(nonce), text)
            .map_err(|_| failed())?;
        String::from_utf8(plain).map(Secret::new).map_err(|_| failed())
    }
}

/// The form in which a dialect's clients send a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::EnumIter)]
#[serde(rename_all = "snake_case")]
pub enum PasswordForm {
    /// As typed.
    Plain,
    /// SHA-512, lower-case hex.
    Sha512Hex,
    /// MD5, lower-case hex.
    Md5Hex,
}

/// Proof of a password in one form: an argon2id hash in PHC text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    form: PasswordForm,
    hash: String,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.form)
    }
}

/// Verifiers for every form, made when the password is set, because a hash of one form cannot be checked
/// against another.
///
/// # Errors
/// `Internal` if argon2 refuses.
pub fn verifiers(password: &Secret) -> Result<Vec<Verifier>> {
    use strum::IntoEnumIterator as _;
    PasswordForm::iter()
        .map(|form| {
            let text = match form {
                PasswordForm::Plain => Zeroizing::new(password.expose().to_owned()),
                PasswordForm::Sha512Hex => {
                    Zeroizing::new(hex(&sha2::Sha512::digest(password.expose().as_bytes())))
                }
                PasswordForm::Md5Hex => Zeroizing::new(hex(&md5::Md5::digest(password.expose().as_bytes()))),
            };
            let salt = SaltString::encode_b64(&random_bytes::<16>()).map_err(|_| Error::internal("salt"))?;
            let hash = hasher()?
                .hash_password(text.as_bytes(), &salt)
                .map_err(|_| Error::internal("argon2 refused the password"))?;
            Ok(Verifier {
                form,
                hash: hash.to_string(),
            })
        })
        .collect()
}

/// Checks what a client sent in `form`; takes some ten milliseconds of CPU, so call it off the runtime.
///
/// # Errors
/// `Unauthenticated` when it does not fit.
pub fn verify(verifiers: &[Verifier], form: PasswordForm, sent: &Secret) -> Result<()> {
    let refused = || Error::new(ErrorKind::Unauthenticated, "wrong account name or password");
    let verifier = verifiers
        .iter()
        .find(|verifier| verifier.form == form)
        .ok_or_else(refused)?;
    let hash = PasswordHash::new(&verifier.hash).map_err(|_| refused())?;
    hasher()?
        .verify_password(sent.expose().as_bytes(), &hash)
        .map_err(|_| refused())
}

/// OWASP's smaller argon2id setting: 19 MiB, two passes.
fn hasher() -> Result<Argon2<'static>> {
    let params = Params::new(19 * 1024, 2, 1, None).map_err(|_| Error::internal("argon2 parameters"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_with_its_key_and_unchanged() {
        let ring = Keyring::ephemeral();
        let sealed = ring.seal(&Secret::new("swordfish")).unwrap();
        assert_eq!(ring.open(&sealed).unwrap().expose(), "swordfish");
        assert!(Keyring::ephemeral().open(&sealed).is_err());
        let mut bent = sealed.clone();
        bent.text
            .replace_range(40..41, if &sealed.text[40..41] == "A" { "B" } else { "A" });
        assert!(ring.open(&bent).is_err());
    }

    #[test]
    fn a_fingerprint_is_the_hmac_of_rfc_4231() {
        let mut key = vec![0x0b; 20];
        key.resize(32, 0);
        let ring = Keyring::parse(&format!("a:{}", BASE64.encode(key))).unwrap();
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(ring.fingerprint("Hi There"), expected);
    }

    #[test]
    fn a_key_file_is_made_once_for_the_owner_alone_and_read_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let sealed = Keyring::load_or_create(&path)
            .unwrap()
            .seal(&Secret::new("x"))
            .unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            Keyring::load_or_create(&path)
                .unwrap()
                .open(&sealed)
                .unwrap()
                .expose(),
            "x"
        );
    }

    #[test]
    fn a_password_verifies_in_every_form_and_no_other() {
        let stored = verifiers(&Secret::new("password")).unwrap();
        let md5 = Secret::new("5f4dcc3b5aa765d61d8327deb882cf99");
        assert!(verify(&stored, PasswordForm::Plain, &Secret::new("password")).is_ok());
        assert!(verify(&stored, PasswordForm::Md5Hex, &md5).is_ok());
        assert!(verify(&stored, PasswordForm::Plain, &md5).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let ring = Keyring::ephemeral();
        let secret = Secret::new("swordfish");
        let printed = format!("{secret:?} {:?} {ring:?}", ring.seal(&secret).unwrap());
        assert!(!printed.contains("swordfish"));
    }
}
