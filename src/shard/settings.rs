//! What all shards of a router are told at their start, and never changes.

use crate::base::limits::Limits;
use crate::core::route::Hosts;
use crate::core::service::Defaults;
use crossbeam_utils::CachePadded;
use ipnet::IpNet;
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
    /// What all queues of the router hold together.
    pub queues: Queues,
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

/// What the end of a client's input means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HalfClose {
    /// The client is gone.
    Gone,
    /// No more requests; the answers at hand are still wanted.
    Allow,
}
