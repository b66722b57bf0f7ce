//! Encryption at rest: what is stored is sealed by a key, and bound to the name it is stored under.

use crate::control::chance;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use sha2::{Digest, Sha256};

/// The first byte of a sealed value; no JSON begins so.
const SEALED: u8 = 1;
const NONCE_BYTES: usize = 12;
/// Shortest key that is accepted.
const KEY_BYTES_MIN: usize = 16;

/// Keys: the first seals, all open. Without any, values are as they are.
#[derive(Clone, Default)]
pub struct Keys(Vec<ChaCha20Poly1305>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// From a file's text: a key per line, each of 16 bytes or more.
    ///
    /// # Errors
    /// There is none, or one is too short.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let lines = text.split(|it| *it == b'\n').map(<[u8]>::trim_ascii);
        let mut keys = Vec::new();
        for line in lines.filter(|it| !it.is_empty()) {
            if line.len() < KEY_BYTES_MIN {
                return Err(format!("a key is shorter than {KEY_BYTES_MIN} bytes"));
            }
            let key = Sha256::digest([b"waiter store 1 ".as_slice(), line].concat());
            keys.push(ChaCha20Poly1305::new(Key::from_slice(&key)));
        }
        if keys.is_empty() { Err("it holds no key".to_owned()) } else { Ok(Self(keys)) }
    }

    /// Seals a value that is stored under this name.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        let Some(key) = self.0.first() else { return Ok(value.to_vec()) };
        let mut nonce = [0; NONCE_BYTES];
        chance::fill(&mut nonce).map_err(|error| format!("no random bytes: {error}"))?;
        let payload = Payload { msg: value, aad: name.as_bytes() };
        let sealed = key.encrypt(Nonce::from_slice(&nonce), payload);
        let sealed = sealed.map_err(|_| "the value cannot be encrypted".to_owned())?;
        Ok([&[SEALED], nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed under this name.
    ///
    /// # Errors
    /// No key opens it, or it is not sealed though keys are given.
    pub fn open(&self, name: &str, stored: &[u8]) -> Result<Vec<u8>, String> {
        let sealed = stored.strip_prefix(&[SEALED]);
        if self.0.is_empty() {
            return match sealed {
                None => Ok(stored.to_vec()),
                Some(_) => Err(format!("{name} is encrypted; see --store-keys-file")),
            };
        }
        let Some((nonce, sealed)) = sealed.and_then(|it| it.split_at_checked(NONCE_BYTES)) else {
            return Err(format!("{name} is not encrypted; export and import it again"));
        };
        let payload = |key: &ChaCha20Poly1305| {
            let payload = Payload { msg: sealed, aad: name.as_bytes() };
            key.decrypt(Nonce::from_slice(nonce), payload).ok()
        };
        self.0.iter().find_map(payload).ok_or_else(|| format!("none of the keys opens {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_changed_one_router_after_the_other() {
        let old = Keys::read(b"0123456789abcdef\n").expect("a key");
        let both = Keys::read(b"fedcba9876543210\n0123456789abcdef\n").expect("two keys");
        let new = Keys::read(b"\nfedcba9876543210").expect("a key");
        let first = old.seal("k", b"value").expect("sealed");
        assert_eq!(both.open("k", &first).as_deref(), Ok(&b"value"[..]));
        let second = both.seal("k", b"value").expect("sealed");
        assert_eq!(new.open("k", &second).as_deref(), Ok(&b"value"[..]));
        assert!(new.open("k", &first).is_err() && old.open("k", &second).is_err());
        assert!(old.open("other", &first).is_err(), "bound to its name");
        assert_ne!(first, old.seal("k", b"value").expect("sealed"), "never twice the same");
    }

    #[test]
    fn what_is_plain_and_what_is_sealed_are_not_mistaken() {
        let (keys, none) = (Keys::read(b"0123456789abcdef").expect("a key"), Keys::default());
        assert_eq!(none.open("k", b"{}").as_deref(), Ok(&b"{}"[..]));
        assert!(keys.open("k", b"{}").is_err());
        let mut sealed = keys.seal("k", b"{}").expect("sealed");
        assert!(none.open("k", &sealed).unwrap_err().contains("--store-keys-file"));
        *sealed.last_mut().expect("bytes") ^= 1;
        assert!(keys.open("k", &sealed).is_err());
        assert!(Keys::read(b"short").is_err() && Keys::read(b"\n \n").is_err());
    }
}
