//! Keys of checkpoints: Ed25519, in the PEM forms that other tools read too (PKCS#8 and SubjectPublicKeyInfo). Where keys are kept is not
//! known here.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::mutants::{self, Mutant};
use crate::secret::Secret;
use lifeboat_store::Digest;

/// What stands before the 32 secret bytes in PKCS#8 (RFC 8410, section 7).
const PRIVATE_HEAD: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// What stands before the 32 public bytes (RFC 8410, section 4).
const PUBLIC_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key that signs. Its `Debug` tells only its public id.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: [u8; 32],
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl SigningKey {
    /// A new key, from the system's chance.
    ///
    /// # Errors
    /// Where the system has none to give.
    pub fn generate() -> Result<Self, String> {
        let mut seed = [0u8; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| "the system gives no random numbers".to_owned())?;
        Self::of(seed)
    }

    fn of(seed: [u8; 32]) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| format!("is no Ed25519 key: {error}"))?;
        Ok(Self { pair, seed })
    }

    /// Reads the PEM form, as `lifeboat audit keygen` and `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// What does not fit; never the key itself.
    pub fn from_pem(pem: &Secret) -> Result<Self, String> {
        let bytes = unwrapped(pem.reveal(), "PRIVATE KEY")?;
        let seed = bytes.strip_prefix(&PRIVATE_HEAD).and_then(|seed| seed.try_into().ok());
        Self::of(seed.ok_or("is no Ed25519 key in PKCS#8")?)
    }

    /// The PEM form.
    #[must_use]
    pub fn to_pem(&self) -> Secret {
        Secret::new(wrapped("PRIVATE KEY", &[&PRIVATE_HEAD[..], &self.seed].concat()))
    }

    /// The key that others check with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }
}

/// A key that checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads the PEM form.
    ///
    /// # Errors
    /// What does not fit.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let bytes = unwrapped(pem, "PUBLIC KEY")?;
        let key = bytes.strip_prefix(&PUBLIC_HEAD).and_then(|key| key.try_into().ok());
        Ok(Self(key.ok_or("is no Ed25519 public key")?))
    }

    /// The PEM form.
    #[must_use]
    pub fn to_pem(&self) -> String {
        wrapped("PUBLIC KEY", &[&PUBLIC_HEAD[..], &self.0].concat())
    }

    /// Its short name: the first 16 hexadecimal digits of its SHA-256.
    #[must_use]
    pub fn id(&self) -> String {
        Digest::of(&self.0).to_string().chars().take(16).collect()
    }

    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(text, signature).is_ok() || mutants::is(Mutant::SignatureUnchecked)
    }
}

fn wrapped(label: &str, bytes: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", data_encoding::BASE64.encode(bytes))
}

fn unwrapped(pem: &str, label: &str) -> Result<Vec<u8>, String> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let inner = pem.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).map(|(inner, _)| inner);
    let inner: String = inner.ok_or_else(|| format!("has no {begin}"))?.split_whitespace().collect();
    data_encoding::BASE64.decode(inner.as_bytes()).map_err(|_| "is no PEM: its base64 cannot be read".into())
}

/// The pair of RFC 8032, section 7.1, test 1, as `openssl pkey` writes it.
#[cfg(test)]
pub(super) const PAIR: (&str, &str) = (
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n",
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_written_in_the_forms_of_other_tools() {
        let key = SigningKey::from_pem(&Secret::new(PAIR.0.into())).unwrap();
        assert_eq!(key.public().to_pem(), PAIR.1);
        assert_eq!(key.to_pem().reveal(), PAIR.0);
        assert_eq!(PublicKey::from_pem(PAIR.1).unwrap(), key.public());
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for bad in ["", "hunter2", PAIR.1, "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n"] {
            let why = SigningKey::from_pem(&Secret::new(bad.into())).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert!(PublicKey::from_pem(PAIR.0).is_err());
        assert!(!format!("{:?}", SigningKey::generate().unwrap()).contains("seed"));
    }
}
