//! Names for things. Each is its own type, so a shard can never be passed for an instance.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One core's share of the data plane: its number, from 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId(pub u8);

impl ShardId {
    /// No shard: the control thread, where it asks for a slot as if it were one.
    pub const CONTROL: Self = Self(u8::MAX);
}

/// Longest id that another router is believed, in bytes; no router has a longer one.
pub const ID_BYTES_MAX: usize = 255;

/// Most shards one router can have (an instance keeps one bit for each).
pub const SHARDS_MAX: usize = 64;

/// The id of a service: `<prefix>[<name>-]<md5>`; its hash is computed once.
///
/// Cheap to clone. Equality compares the text, so two ids with one hash stay two services.
#[derive(Clone)]
pub struct ServiceId {
    text: Arc<str>,
    hash: u64,
}

impl ServiceId {
    /// Names a service. The text must not hold a `.`; instance ids are cut there.
    pub fn new(text: &str) -> Self {
        assert!(!text.contains('.'), "a service-id holds no dot: {text}");
        Self { hash: fixed_hash(text.as_bytes()), text: text.into() }
    }

    /// Reads an id that somebody typed; none if it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains('.')).then(|| Self::new(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A hash that is the same on every router and in every run.
    pub fn hash64(&self) -> u64 {
        self.hash
    }

    /// The shard that keeps this service's queue.
    pub fn home(&self, shards: usize) -> ShardId {
        assert!((1..=SHARDS_MAX).contains(&shards));
        ShardId((self.hash % shards as u64) as u8)
    }
}

impl Hash for ServiceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for ServiceId {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for ServiceId {}

impl PartialOrd for ServiceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ServiceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The id of an instance: `<service-id>.<suffix>`. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// What stands between the service-id and the suffix.
    pub const SEPARATOR: char = '.';

    /// Names an instance of `service`.
    pub fn new(service: &ServiceId, suffix: &str) -> Self {
        Self(format!("{service}.{suffix}").into())
    }

    /// Reads an id back from text; none without a dot.
    pub fn parse(text: &str) -> Option<Self> {
        text.contains('.').then(|| Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the service-id.
    pub fn suffix(&self) -> &str {
        self.0.split_once('.').map_or("", |(_, suffix)| suffix)
    }

    /// The id of the service it belongs to, as text.
    pub fn service(&self) -> &str {
        self.0.split_once('.').map_or(&self.0, |(service, _)| service)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a router; new with each process. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RouterId(Arc<str>);

impl RouterId {
    /// Names a router.
    pub fn new(text: &str) -> Self {
        assert!(text.len() <= ID_BYTES_MAX, "the id of a router is short: {text}");
        Self(text.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RouterId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ServiceId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

impl Serialize for InstanceId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

impl Serialize for RouterId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ServiceId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = short(from)?;
        if text.contains(InstanceId::SEPARATOR) {
            return Err(D::Error::custom("a service-id holds no dot"));
        }
        Ok(Self::new(text))
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(short(from)?).ok_or_else(|| D::Error::custom("an instance-id holds a dot"))
    }
}

impl<'de> Deserialize<'de> for RouterId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::new(short(from)?))
    }
}

/// The text of an id that another router sent; borrowed from its bytes.
fn short<'de, D: Deserializer<'de>>(from: D) -> Result<&'de str, D::Error> {
    let text = <&str>::deserialize(from)?;
    let fits = text.len() <= ID_BYTES_MAX;
    fits.then_some(text).ok_or_else(|| D::Error::custom("an id is too long"))
}

/// One request that waits for, or holds, a slot: the shard it is on and its key there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket {
    /// Where the request is, and where its answer must go.
    pub shard: ShardId,
    /// The request's key on that shard; never used twice.
    pub number: u64,
}

/// FNV-1a with a final mix: small, and fixed for all time (homes and static ids depend on it).
pub fn fixed_hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_cut_at_the_first_dot() {
        let id = InstanceId::new(&ServiceId::new("waiter-service-x"), "127-0-0-1-8080");
        assert_eq!((id.service(), id.suffix()), ("waiter-service-x", "127-0-0-1-8080"));
        assert_eq!(InstanceId::parse("no-dot"), None);
    }

    #[test]
    fn homes_spread() {
        let mut count = [0; 8];
        for n in 0..8000 {
            count[usize::from(ServiceId::new(&format!("waiter-service-{n}")).home(8).0)] += 1;
        }
        assert!(count.iter().all(|it| (800..1200).contains(it)), "{count:?}");
    }
}
