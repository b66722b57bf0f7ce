//! An instance, as the shards know it: one record, shared by all versions of its service.
//!
//! Everything else that is known of an instance (log directory, exit code, message) stays on the
//! control thread.

use crate::base::address::SocketAddr;
use crate::base::ids::{InstanceId, SHARDS_MAX, ServiceId, ShardId};
use crate::base::time::Date;
use crate::core::slots::Word;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One running copy of a service: its slots, its address, and who has connections to it.
#[derive(Debug)]
pub struct Instance {
    /// Its slots.
    pub word: Word,
    /// Where it listens.
    pub address: SocketAddr,
    /// When it was started; orders the instances of a service.
    pub started_at: Date,
    suffix: Box<str>,
    /// Its place in the newest roster; checked against it before use.
    pub(in crate::core::slots) place: AtomicU32,
    connections: AtomicU32,
    shards: AtomicU64,
}

const _: () = assert!(size_of::<Instance>() <= 128);

impl Instance {
    /// An instance with `limit` free slots.
    pub fn new(suffix: &str, address: SocketAddr, started_at: Date, limit: u16) -> Self {
        Self {
            word: Word::new(limit),
            address,
            started_at,
            suffix: suffix.into(),
            place: AtomicU32::new(u32::MAX),
            connections: AtomicU32::new(0),
            shards: AtomicU64::new(0),
        }
    }

    /// Its id without the service-id.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Its id.
    pub fn id(&self, service: &ServiceId) -> InstanceId {
        InstanceId::new(service, &self.suffix)
    }

    /// Whether this shard has a connection to it, idle or in use.
    pub fn is_near(&self, shard: ShardId) -> bool {
        self.shards.load(Ordering::Relaxed) & bit(shard) != 0
    }

    /// A shard opens a connection. Returns whether there are now more connections than slots: then
    /// an idle one elsewhere must go, for an instance that serves one connection at a time would
    /// let the new one wait for it.
    pub fn connection_opened(&self, shard: ShardId) -> bool {
        self.shards.fetch_or(bit(shard), Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::AcqRel) >= u32::from(self.word.limit())
    }

    /// The prober opens a connection. Returns whether there are now more than slots.
    pub fn probe_opened(&self) -> bool {
        self.connections.fetch_add(1, Ordering::AcqRel) >= u32::from(self.word.limit())
    }

    /// The prober closed its connection.
    pub fn probe_closed(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// A shard closed a connection; `last` if it has no other to this instance.
    pub fn connection_closed(&self, shard: ShardId, last: bool) {
        self.connection_left(shard, last);
        self.connection_lost();
    }

    /// A shard let go of a connection that goes on to another; it stays counted. `last` if it has
    /// no other to this instance.
    pub fn connection_left(&self, shard: ShardId, last: bool) {
        if last {
            self.shards.fetch_and(!bit(shard), Ordering::Relaxed);
        }
    }

    /// A shard took over a connection that another let go of.
    pub fn connection_joined(&self, shard: ShardId) {
        self.shards.fetch_or(bit(shard), Ordering::Relaxed);
    }

    /// A connection that no shard has was closed.
    pub(in crate::core::slots) fn connection_lost(&self) {
        let before = self.connections.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a connection was closed that nobody opened");
    }

    /// How many connections there are: those of all shards, of the prober, and on their way.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Acquire)
    }

    /// Whether all connections together exceed the slots.
    pub fn is_crowded(&self) -> bool {
        self.connections() > u32::from(self.word.limit())
    }

    /// The shards that have connections to it.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let mut bits = self.shards.load(Ordering::Relaxed);
        std::iter::from_fn(move || {
            let shard = u8::try_from(bits.trailing_zeros()).expect("at most 64");
            bits &= bits.wrapping_sub(1);
            (usize::from(shard) < SHARDS_MAX).then_some(ShardId(shard))
        })
    }
}

fn bit(shard: ShardId) -> u64 {
    1 << shard.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_and_their_shards_named() {
        let it = Instance::new("a", "127.0.0.1:1".parse().expect("address"), Date(1), 1);
        assert!(!it.connection_opened(ShardId(3)) && !it.is_crowded());
        assert!(it.connection_opened(ShardId(63)) && it.is_crowded());
        assert_eq!(it.shards().collect::<Vec<_>>(), [ShardId(3), ShardId(63)]);
        it.connection_closed(ShardId(3), true);
        assert!(!it.is_near(ShardId(3)) && it.is_near(ShardId(63)) && !it.is_crowded());
        it.connection_left(ShardId(63), true);
        assert!(!it.is_near(ShardId(63)) && it.connections() == 1, "on its way it is counted");
        it.connection_joined(ShardId(5));
        assert_eq!(it.shards().collect::<Vec<_>>(), [ShardId(5)]);
    }
}
