//! Signatures of entries.
//!
//! A signature covers a [`fingerprint`]: the kind of the entry, its whole name (with key and generation) and the SHA-256 of its
//! bytes. It is therefore useless under another name or as a signature of a store path, even if the same key signs both. It does
//! not prove that an entry is the newest: anyone who can delete entries can bring an older one back.

use crate::base::digest::Sha;
use crate::remote::Kind;

pub use super::key::{KeyError, PublicKey, Signature, SignatureError, SigningKey};

/// Largest number of signing keys: the old and the new one during a key rotation, and one to spare.
pub const MAX_SIGNING_KEYS: usize = 3;

/// The signed text of an entry of this kind and name, whose bytes without signatures have this digest.
#[must_use]
pub fn fingerprint(kind: Kind, name: &str, digest: Sha) -> String {
    format!("nix-cache;1;{};{name};sha256:{digest}", kind.word())
}

/// Why an entry is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// A signature is required, and no key is trusted.
    #[error("`require-signatures` is set, but `trusted-public-keys` is empty.")]
    NoKeys,
    /// It is not signed.
    #[error("it is not signed, but `trusted-public-keys` requires a signature.")]
    Unsigned,
    /// It is signed only by keys that are not trusted.
    #[error("it is signed by {0}, which `trusted-public-keys` does not name.")]
    Unknown(String),
    /// It has a signature of a trusted key that does not match.
    #[error("its signature by {0} does not match: its bytes or its name are not those that were signed.")]
    Wrong(String),
}

/// The keys of a job: those that sign what it saves, and those that must have signed what it restores.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    signing: Vec<SigningKey>,
    trusted: Vec<PublicKey>,
    is_required: bool,
}

impl Keyring {
    /// Parses keys as Nix writes them, separated by white space. A job that signs trusts its own signature and no entry without
    /// one: otherwise it would sign what it restored from others.
    ///
    /// # Errors
    /// When a text is not a key, or there are more than [`MAX_SIGNING_KEYS`] signing keys.
    pub fn new(signing: &str, trusted: &str) -> Result<Self, KeyError> {
        let signing = signing.split_whitespace().map(str::parse).collect::<Result<Vec<SigningKey>, _>>()?;
        if signing.len() > MAX_SIGNING_KEYS {
            return Err(KeyError::TooMany(signing.len()));
        }
        let trusted = trusted.split_whitespace().map(str::parse).collect::<Result<Vec<PublicKey>, _>>()?;
        let own = signing.iter().map(SigningKey::public);
        let trusted = own.chain(trusted).collect();
        Ok(Self { signing, trusted, is_required: false })
    }

    /// The same keyring, but entries without a signature are not used even if no key is trusted at all.
    #[must_use]
    pub fn requiring_signatures(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// A keyring that trusts the public keys in `keys` and signs nothing.
    #[must_use]
    pub fn trusting(keys: &[String]) -> Self {
        Self { trusted: keys.iter().filter_map(|key| key.parse().ok()).collect(), ..Self::default() }
    }

    /// Whether entries are signed.
    #[must_use]
    pub fn can_sign(&self) -> bool {
        !self.signing.is_empty()
    }

    /// Whether entries must be signed to be used. Without keys, everything is trusted.
    #[must_use]
    pub fn asks_for_signatures(&self) -> bool {
        self.is_required || !self.trusted.is_empty()
    }

    /// The trusted keys of this name, as Nix writes them.
    pub(crate) fn trusted_named(&self, name: &str) -> Vec<String> {
        self.trusted.iter().filter(|key| key.name() == name).map(ToString::to_string).collect()
    }

    /// Whether this key, as Nix writes it, is a trusted one.
    pub(crate) fn trusts(&self, key: &str) -> bool {
        self.trusted.iter().any(|trusted| trusted.to_string() == key)
    }

    /// The signatures of all signing keys.
    #[must_use]
    pub fn sign(&self, fingerprint: &str) -> Vec<Signature> {
        self.signing.iter().map(|key| key.sign(fingerprint)).collect()
    }

    /// Returns the name of the trusted key that made one of `signatures`; None if no signature is required.
    ///
    /// # Errors
    /// When a signature is required, and none of a trusted key matches.
    pub fn verify(&self, fingerprint: &str, signatures: &[Signature]) -> Result<Option<String>, Untrusted> {
        if !self.asks_for_signatures() {
            return Ok(None);
        }
        let mut why = match signatures {
            _ if self.trusted.is_empty() => Untrusted::NoKeys,
            [] => Untrusted::Unsigned,
            some => Untrusted::Unknown(some.iter().map(|one| one.key.as_str()).collect::<Vec<_>>().join(", ")),
        };
        for signature in signatures {
            for key in self.trusted.iter().filter(|key| key.name() == signature.key) {
                if key.verifies(fingerprint, &signature.bytes) {
                    return Ok(Some(signature.key.clone()));
                }
                why = Untrusted::Wrong(signature.key.clone());
            }
        }
        Err(why)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// Made by `nix key generate-secret --key-name cache.example-1` of Nix 2.8, for these tests only.
    const SECRET: &str =
        "cache.example-1:vtDeIhZvZAQXZ0+hV9aVlkR2Gt0g6ZdGjInwmONMI4ruaoxdqNZnDuEX9J/FMeSHDu6jCwCSd3l0HYTmehbyBA==";
    /// What `nix key convert-secret-to-public` makes of it.
    const PUBLIC: &str = "cache.example-1:7mqMXajWZw7hF/SfxTHkhw7uowsAknd5dB2E5noW8gQ=";

    fn other(name: &str, seed: u8) -> String {
        let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = ring::signature::KeyPair::public_key(&pair);
        format!("{name}:{}", STANDARD.encode([&[seed; 32], public.as_ref()].concat()))
    }

    #[test]
    fn keys_that_nix_made_work_and_the_public_half_is_the_same() {
        let signer = Keyring::new(SECRET, "").unwrap();
        assert_eq!(signer.signing[0].public().to_string(), PUBLIC);
        let reader = Keyring::new("", &format!("\n  {PUBLIC}\n")).unwrap();
        let signatures = signer.sign("text");
        assert_eq!(reader.verify("text", &signatures), Ok(Some("cache.example-1".into())));
        assert!(reader.asks_for_signatures() && !reader.can_sign());
    }

    #[test]
    fn a_known_signature_is_made_again() {
        // ed25519 has no randomness: the same key and text give the same signature everywhere. This one is OpenSSL's.
        let made = Keyring::new(&other("a", 7), "").unwrap().sign("nix-cache;1;snapshot;k#g1;sha256:00");
        assert_eq!(
            made[0].to_string(),
            "a:E1cHRWyd98gNIUkURvUF+en3YoZ4YD5T66E7tN80oXB7qSICBvxNOgVRphnOgGg/qd4ZQdpc7sWJU0coxw2nDg=="
        );
    }

    #[test]
    fn without_keys_everything_is_trusted_and_with_keys_only_what_they_signed() {
        let (a, b) = (Keyring::new(&other("a", 1), "").unwrap(), Keyring::new(&other("b", 2), "").unwrap());
        let (by_a, by_b) = (a.sign("text"), b.sign("text"));
        assert_eq!(Keyring::default().verify("text", &by_a), Ok(None));
        assert_eq!(Keyring::default().verify("text", &[]), Ok(None));
        assert_eq!(a.verify("text", &[]), Err(Untrusted::Unsigned));
        assert_eq!(a.verify("text", &by_b), Err(Untrusted::Unknown("b".into())));
        assert_eq!(a.verify("other", &by_a), Err(Untrusted::Wrong("a".into())));
        // Another key's signature under our name, and both together.
        let forged = [Signature { key: "a".into(), ..by_b[0].clone() }];
        assert_eq!(a.verify("text", &forged), Err(Untrusted::Wrong("a".into())));
        let both = [&by_b[..], &forged, &by_a].concat();
        assert_eq!(a.verify("text", &both), Ok(Some("a".into())));
        assert_eq!(b.verify("text", &both), Ok(Some("b".into())));
    }

    #[test]
    fn who_signs_trusts_the_own_signature_and_those_named_besides() {
        let (a, b) = (other("a", 1), other("b", 2));
        let public_b = b.parse::<SigningKey>().unwrap().public().to_string();
        let ring = Keyring::new(&a, &public_b).unwrap();
        for key in [&a, &b] {
            assert!(ring.verify("text", &Keyring::new(key, "").unwrap().sign("text")).is_ok());
        }
        assert!(Keyring::new(&b, "").unwrap().verify("text", &ring.sign("text")).is_err());
        let changing = Keyring::new(&format!("{a} {b}"), "").unwrap();
        assert_eq!(changing.sign("text").len(), 2);
        assert!(Keyring::new(&b, "").unwrap().verify("text", &changing.sign("text")).is_ok());
    }

    #[test]
    fn a_secret_key_is_shown_nowhere() {
        let words = ["x", "cache.example-1:", "cache.example-1:AAAA", PUBLIC, &format!("{SECRET}x"), &SECRET[..60]];
        for text in words {
            let error = Keyring::new(text, "").unwrap_err().to_string();
            let secret = text.split(':').nth(1).filter(|part| part.len() > 3);
            assert!(
                error.contains("nix key generate-secret") && secret.is_none_or(|part| !error.contains(part)),
                "{error}"
            );
        }
        let mixed = format!("cache.example-1:{}", STANDARD.encode([[1; 32], [2; 32]].concat()));
        assert!(Keyring::new(&mixed, "").is_err(), "the two halves do not belong together");
        // A secret key given for a public one is not shown either.
        let error = Keyring::new("", SECRET).unwrap_err().to_string();
        assert!(!error.contains(&SECRET[20..40]), "{error}");
        let shown = format!("{:?}", Keyring::new(SECRET, "").unwrap());
        assert!(!shown.contains(&SECRET[17..40]) && shown.contains("cache.example-1"), "{shown}");
        let four = [1, 2, 3, 4].map(|seed| other("k", seed)).join(" ");
        assert!(matches!(Keyring::new(&four, ""), Err(KeyError::TooMany(4))));
    }

    proptest! {
        #[test]
        fn any_change_of_text_or_signature_shows(text in ".{1,40}", at in 0_usize..64, bit in 0..8_u8, place in 0_usize..40) {
            let ring = Keyring::new(&other("a", 3), "").unwrap();
            let signed = ring.sign(&text);
            prop_assert!(ring.verify(&text, &signed).is_ok());
            let mut changed = signed.clone();
            changed[0].bytes[at] ^= 1_u8 << bit;
            prop_assert!(ring.verify(&text, &changed).is_err());
            let mut other: Vec<char> = text.chars().collect();
            let place = place % other.len();
            other[place] = if other[place] == 'a' { 'b' } else { 'a' };
            prop_assert!(ring.verify(&other.into_iter().collect::<String>(), &signed).is_err());
        }

        #[test]
        fn signatures_are_read_as_they_are_written(text in ".{0,20}", noise in ".{0,100}") {
            let signature = Keyring::new(&other("a.b-1", 3), "").unwrap().sign(&text).remove(0);
            prop_assert_eq!(signature.to_string().parse::<Signature>().unwrap(), signature);
            let _ = (noise.parse::<Signature>().is_ok(), noise.parse::<PublicKey>().is_ok(), noise.parse::<SigningKey>().is_ok());
        }
    }
}
