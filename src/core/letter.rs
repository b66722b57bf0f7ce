//! What the rooms say to each other: plain values that cross cores in mailboxes.
//!
//! Shard to shard, shard to control, control to shard. FIFO per pair; nothing relies on order
//! between pairs. Crossing messages need no cases: a ticket gets exactly one answer unless it was
//! withdrawn, and a grant for a ticket that is gone is settled unused.

use crate::base::address::SocketAddr;
use crate::base::ids::{InstanceId, ServiceId, ShardId, Ticket};
use crate::base::socket::Socket;
use crate::base::time::Instant;
use crate::core::outcome::Outcome;
use crate::core::pulse::Pulse;
use crate::core::service::Description;
use crate::core::slots::{Instance, Seat, ServiceSlots};
use std::sync::Arc;

/// Instances a claim avoids, because a connection to them just failed.
pub type Avoided = Vec<Arc<Instance>>;

/// Shard to shard.
#[derive(Debug)]
pub enum Letter {
    /// To home: a request waits for a slot.
    Claim(Claim),
    /// To home: it waits no longer.
    Withdraw(ServiceId, Ticket),
    /// To home: a request ended, and home must know. If somebody waits, the seat may have the idle
    /// connection with it that the request used.
    Settle(Settle),
    /// To home: a slot became free while somebody began to wait.
    LookAgain(ServiceId),
    /// From home: the ticket has a seat, which may have an idle connection with it.
    Grant(Ticket, Seat),
    /// From home: the ticket gets none.
    Refuse(Ticket, Why),
    /// Close an idle connection to this instance, if there are more connections than slots.
    CloseIdle(Arc<Instance>),
    /// A client that connected to a shard which has more than its share: serve it.
    Client(Socket, SocketAddr),
}

/// A request that waits.
#[derive(Debug)]
pub struct Claim {
    /// Who asks.
    pub ticket: Ticket,
    /// For which service.
    pub service: ServiceId,
    /// How to start it, if it is not known yet.
    pub description: Option<Arc<Description>>,
    /// Not these instances.
    pub not: Avoided,
    /// Since when it waits.
    pub since: Instant,
    /// Who would use the slot.
    pub asker: Asker,
}

/// Who asks home for a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asker {
    /// A request. Among requests the order is that of arrival at home.
    Request,
    /// Another router, of which a request has waited since then: it comes before whoever waits for
    /// a shorter time, and gets no slot that is itself borrowed.
    Router,
}

/// The end of a request that home must hear of.
#[derive(Debug)]
pub struct Settle {
    /// The slot, still counted as used.
    pub seat: Seat,
    /// How the request ended.
    pub outcome: Outcome,
}

/// Why a ticket gets no seat.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Why {
    /// `max-queue-length` requests wait already; the number.
    QueueFull(u32),
    /// The router as a whole has too many requests waiting.
    RouterFull,
    /// The service is gone: resolve the request again.
    Gone,
    /// The service cannot be started: key and text.
    Deployment(&'static str, Arc<str>),
    /// The router is ending.
    Draining,
}

/// Control to shard.
#[derive(Debug)]
pub enum Command {
    /// There is a new world.
    Published,
    /// To home: lock an instance for a kill, and say which. The answer is [`Notice::Locked`].
    Lock(ServiceId),
    /// To home: the service is to be collected; lock all its instances if nothing is in use and
    /// nobody waits. The answer is [`Notice::LockedAll`].
    LockAll(ServiceId),
    /// To home: the kill is over; `true` if the instance is gone.
    Unlock(ServiceId, InstanceId, bool),
    /// To home: a slot became free that no shard gave back.
    LookAgain(ServiceId),
    /// To home: name an instance that could be killed, but none of these; it is not locked. The
    /// answer is [`Notice::Chosen`].
    Choose(ServiceId, Vec<InstanceId>),
    /// To home: lock this instance, if nothing is in use on it. The answer is
    /// [`Notice::LockedThis`].
    LockThis(ServiceId, InstanceId),
    /// To home: the service is not to be collected; it serves again.
    UnlockAll(ServiceId),
    /// To home: another router waits for a slot. The answer is [`Notice::Granted`] or
    /// [`Notice::Denied`].
    Claim(Claim),
    /// To home: it waits no longer.
    Withdraw(ServiceId, Ticket),
    /// To home: a slot that another router had comes back.
    Settle(Seat),
    /// Close an idle connection to this instance, if there are more connections than slots.
    CloseIdle(Arc<Instance>),
    /// No new requests; idle connections close.
    Drain,
    /// The time for draining is over: whoever still waits is refused.
    Cut,
}

/// Shard to control.
#[derive(Debug)]
pub enum Notice {
    /// A request waits for a service that is not known.
    Create(Arc<Description>, Arc<ServiceSlots>),
    /// A first request waits and no slot is free: growth is urgent.
    Waiting(ServiceId),
    /// The answer to [`Command::Lock`]: what was locked, if anything could be.
    Locked(ServiceId, Option<InstanceId>),
    /// The answer to [`Command::LockAll`]: whether all instances are locked.
    LockedAll(ServiceId, bool),
    /// The answer to [`Command::Choose`]: what could be killed, if anything.
    Chosen(ServiceId, Option<InstanceId>),
    /// The answer to [`Command::LockThis`].
    LockedThis(InstanceId, bool),
    /// The answer to [`Command::Claim`]: the ticket of this number has a seat.
    Granted(u64, Seat),
    /// The answer to [`Command::Claim`]: it gets none.
    Denied(u64),
    /// So many requests wait at home, the first of them since then. Told when it changes, where
    /// routers share instances.
    Demand(ServiceId, u32, Option<Instant>),
    /// Consecutive failures of an instance; zero after a success.
    Failures(ServiceId, InstanceId, u32),
    /// What changed on a shard since the last pulse.
    Pulse(ShardId, Box<Pulse>),
    /// The shard has no exchange in flight (after a drain).
    Drained(ShardId),
}
