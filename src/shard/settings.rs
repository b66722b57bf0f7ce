//! What all shards of a router are told at their start, and never changes.

use crate::base::ids::{ServiceId, ShardId};
use crate::base::limits::Limits;
use crate::core::route::Hosts;
use crate::core::service::{Defaults, Description};
use crossbeam_utils::CachePadded;
use ipnet::IpNet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One router's settings, as its shards need them.
#[derive(Debug)]
pub struct Settings {
    /// Every bound.
    pub limits: Limits,
    /// Names and addresses of the router itself.
    pub hosts: Hosts,
    /// The OS user that runs the router; the requester of every request.
    pub user: String,
    /// What descriptions leave out.
    pub defaults: Defaults,
    /// Peers beyond loopback that may launch services.
    pub launch_from: Vec<IpNet>,
    /// Peers whose forwarding headers are believed.
    pub trust_forwarded: Vec<IpNet>,
    /// Whether services can be launched at all.
    pub launches: bool,
    /// Whether a client that has closed its sending side still wants its answer.
    pub half_close: HalfClose,
    /// Where routers that call are handed over, as a service of one server; none: it is alone.
    /// Nothing is counted for it, nobody waits for it, and its server never rests.
    pub peers: Option<Arc<Description>>,
    /// What all queues of the router hold together.
    pub queues: Queues,
    /// Clients of each shard, and whether they are spread.
    pub clients: Clients,
}

impl Settings {
    /// Whether this is what routers that call are handed over to.
    pub fn is_of_peers(&self, service: &ServiceId) -> bool {
        self.peers.as_ref().is_some_and(|it| it.id == *service)
    }
}

/// Requests that wait on this router, and their memory: two counts that all shards write, on lines
/// of their own. Only a request that waits touches them.
#[derive(Debug)]
pub struct Queues {
    waiting: CachePadded<AtomicUsize>,
    bytes: CachePadded<AtomicUsize>,
    waiting_max: usize,
    bytes_max: usize,
}

impl Queues {
    /// Queues that hold so much at most.
    pub fn new(limits: &Limits) -> Self {
        Self {
            waiting: CachePadded::default(),
            bytes: CachePadded::default(),
            waiting_max: limits.waiting_total,
            bytes_max: limits.queue_bytes,
        }
    }

    /// A request with so many bytes is to wait; whether there is room for it.
    pub fn enter(&self, bytes: usize) -> bool {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = waiting <= self.waiting_max && held <= self.bytes_max;
        if !fits {
            self.leave(bytes);
        }
        fits
    }

    /// It waits no longer.
    pub fn leave(&self, bytes: usize) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Requests that wait, and their memory in bytes.
    pub fn level(&self) -> (u64, u64) {
        let [waiting, bytes] =
            [&self.waiting, &self.bytes].map(|it| it.load(Ordering::Relaxed) as u64);
        (waiting, bytes)
    }
}

/// Clients that each shard has, on lines of their own. A shard writes its own count, and that of
/// the shard it hands a client to: it counts there from that moment, so that a burst is spread.
#[derive(Debug)]
pub struct Clients {
    counts: Box<[CachePadded<AtomicUsize>]>,
    accept: Accept,
}

impl Clients {
    /// No clients.
    pub fn new(shards: usize, accept: Accept) -> Self {
        Self { counts: (0..shards).map(|_| CachePadded::default()).collect(), accept }
    }

    /// A client connected to a shard.
    pub fn arrived(&self, shard: ShardId) {
        self.count(shard).fetch_add(1, Ordering::Relaxed);
    }

    /// A client of a shard has gone.
    pub fn left(&self, shard: ShardId) {
        let before = self.count(shard).fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a client left that never came");
    }

    /// A client is on its way from one shard to another.
    pub fn moved(&self, from: ShardId, to: ShardId) {
        self.arrived(to);
        self.left(from);
    }

    /// Clients of one shard, with those on their way to it.
    pub fn of(&self, shard: ShardId) -> usize {
        self.count(shard).load(Ordering::Relaxed)
    }

    /// Clients of all shards.
    pub fn all(&self) -> usize {
        self.counts.iter().map(|it| it.load(Ordering::Relaxed)).sum()
    }

    /// The shard that should rather have the client that has just connected to this one: the one
    /// with the fewest, if this has more than a tenth above the mean, and moving one helps.
    pub fn better_for(&self, shard: ShardId) -> Option<ShardId> {
        if self.accept == Accept::Plain {
            return None;
        }
        let (mut sum, mut fewest, mut to) = (0, usize::MAX, shard);
        for (at, count) in self.counts.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            sum += count;
            if count < fewest {
                (fewest, to) = (count, ShardId(u8::try_from(at).expect("at most 64")));
            }
        }
        let mine = self.of(shard);
        let above = 10 * self.counts.len() * mine > 11 * sum;
        (above && mine > fewest + 1).then_some(to)
    }

    fn count(&self, shard: ShardId) -> &AtomicUsize {
        &self.counts[usize::from(shard.0)]
    }
}

/// Which shard serves a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accept {
    /// The one that accepted it, unless that has more than its share: then the one with the fewest.
    Balanced,
    /// The one that accepted it.
    Plain,
}

/// What the end of a client's input means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HalfClose {
    /// The client is gone.
    Gone,
    /// No more requests; the answers at hand are still wanted.
    Allow,
}
