//! Keys in Nix's format: `NAME:` and, in base64, the 32 bytes of a public ed25519 key, or for a secret key 32 bytes of seed
//! followed by the public key. `nix key generate-secret` creates them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// Longest name of a key in bytes.
const MAX_NAME: usize = 64;

/// A text that is not a key. The message never contains the text, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a secret key.
    #[error(
        "The signing key is not a secret key as Nix writes it: a name of at most {MAX_NAME} letters, digits and `._+@=/~-`, a colon, and 64 bytes in base64. \
         Make one with `nix key generate-secret --key-name NAME`."
    )]
    Signing,
    /// Too many signing keys.
    #[error("There are {0} signing keys, but at most {max} can be used at once.", max = crate::series::sign::MAX_SIGNING_KEYS)]
    TooMany(usize),
    /// Not a public key.
    #[error(
        "One of the trusted public keys is not a public key as Nix writes it: a name of at most {MAX_NAME} letters, digits and `._+@=/~-`, a colon, and 32 \
         bytes in base64. `nix key convert-secret-to-public` makes it from the secret key."
    )]
    Public,
}

/// Parses `NAME:BASE64`. Names are printed and also come from a cache, so their alphabet is limited, and a signature with another
/// name does not count.
pub(crate) fn split(text: &str) -> Option<(&str, Vec<u8>)> {
    let (name, encoded) = text.split_once(':')?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._+@=/~-".contains(&byte);
    let is_name = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(known);
    Some((name, STANDARD.decode(encoded).ok().filter(|_| is_name)?))
}

/// A key that signs.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    pair: Arc<Ed25519KeyPair>,
}

impl SigningKey {
    /// The corresponding public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey { name: self.name.clone(), bytes }
    }

    pub(crate) fn sign(&self, text: &str) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        Signature { key: self.name.clone(), bytes }
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, bytes) = split(text).filter(|(_, bytes)| bytes.len() == 64).ok_or(KeyError::Signing)?;
        let (seed, public) = bytes.split_at(32);
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| KeyError::Signing)?;
        Ok(Self { name: name.to_owned(), pair: Arc::new(pair) })
    }
}

/// Prints only the name.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.name)
    }
}

/// A key that verifies signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    bytes: [u8; 32],
}

impl PublicKey {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn verifies(&self, text: &str, signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(text.as_bytes(), signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, bytes) = split(text).ok_or(KeyError::Public)?;
        Ok(Self { name: name.to_owned(), bytes: bytes.try_into().map_err(|_| KeyError::Public)? })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.bytes))
    }
}

/// A signature, written as Nix writes those of store paths: the key's name, a colon, 64 bytes in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature {
    /// The name of the key that it claims to be from.
    pub key: String,
    pub(crate) bytes: [u8; 64],
}

/// A text that is not a signature.
#[derive(Debug, thiserror::Error)]
#[error("There is a signature that is not written as NAME:BASE64.")]
pub struct SignatureError;

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, STANDARD.encode(self.bytes))
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, bytes) = split(text).ok_or(SignatureError)?;
        Ok(Self { key: key.to_owned(), bytes: bytes.try_into().map_err(|_| SignatureError)? })
    }
}

impl TryFrom<String> for Signature {
    type Error = SignatureError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        signature.to_string()
    }
}
