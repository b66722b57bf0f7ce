//! Routers that share instances: who gives slots out, who lends, who may kill.
//!
//! [`Peers`] is one router among its peers, as a machine: no socket, no clock. Each instance has
//! one owner, the router of rank 0 over the members of the newest epoch; only the owner gives its
//! slots out, to its own requests or as loans. Routers tell each other their state in
//! [`Document`]s; the newest wins, so what is lost, doubled or overtaken does no harm. [`Lease`]
//! says whether this router leads; [`counters::Exchange`] is what they tell of load and health.
//!
//! # Slots
//!
//! A loan is an ordinary slot on both sides. At the lender the borrower is one more waiter in the
//! home reserver's queue ([`Asker::Router`](crate::core::letter::Asker::Router), at the place its
//! age gives it), and what it is granted is a [`Seat`](crate::core::slots::Seat) that this machine
//! holds; so a lent slot is in use in the instance's word, and cannot be given twice. At the
//! borrower the limit in the instance's word is the number of loans on which requests may start;
//! the home reserver and all shards take from it as from any other. The gate
//! [`Foreign`](crate::core::slots::Gate::Foreign) keeps borrowed slots from being lent on.
//!
//! # How a shell drives it
//!
//! On one thread, the one that publishes worlds. All times are those of CLOCK_BOOTTIME.
//!
//! - **Every turn begins with [`tick`](Peers::tick)**, and comes at [`wakeup`](Peers::wakeup) at
//!   the latest. After each turn [`fence`](Peers::fence) is put where every shard reads it; a shard
//!   whose own turn begins later than that starts nothing and grants nothing, until it has moved.
//!   So a process that was stopped does nothing by rights it had before.
//! - **The machine alone writes limits.** The publisher makes a shared instance with the limit 0
//!   and the gate `Foreign` closed, then calls [`service`](Peers::service), before the roster with
//!   it is published or after; an instance keeps its word while the machine knows it.
//! - **Homes** are told [`Effect::Claim`], [`Effect::Withdraw`], [`Effect::Settle`] (a settlement
//!   as [`Unused`](crate::core::outcome::Outcome::Unused)), [`Effect::LookAgain`] (hint every
//!   instance of the service first), [`Effect::Lock`] and [`Effect::Unlock`], and answer with
//!   [`granted`](Peers::granted), [`refused`](Peers::refused), [`locked`](Peers::locked). A ticket
//!   needs a shard of its own in its [`Ticket`](crate::base::ids::Ticket), so that the reply finds
//!   back. A grant for a claim that was withdrawn meanwhile comes back as a settlement. Whenever
//!   [`Reserver::demand`](crate::core::reserver::Reserver::demand) has changed at the end of a
//!   home's turn, it goes to [`demand`](Peers::demand): how soon it does is how soon others hear.
//! - **ZooKeeper.** [`registering`](Peers::registering) before each request that creates this
//!   router's node; the roster's node was created before. Every sixth of a session a round trip on
//!   that very session, with a write or a sync in it, then `exists`, children, `exists` until both
//!   `pzxid` agree, then the roster: [`zookeeper`](Peers::zookeeper), and
//!   [`Lease::round_trip`] with the same beginning. [`Effect::Bury`] is kept until it can be done:
//!   delete the router's node in the roster unless it is registered. A router that leaves calls
//!   [`leave`](Peers::leave), removes its node, finishes, and when
//!   [`owes_nothing`](Peers::owes_nothing) its own node in the roster.
//! - **Peers.** One connection to each of those in [`addressed`](Peers::addressed), proved by
//!   [`wire::peer`](crate::wire::peer). What arrives is decoded and given to
//!   [`heard`](Peers::heard) in the name that the connection has proved. A document that could not
//!   be written when the next comes is replaced by it.
//! - **Kills**: [`ask_kill`](Peers::ask_kill) with the time of the order, [`Effect::Consent`], then
//!   the lease again ([`Lease::order`]), the order, and [`kill_over`](Peers::kill_over) when its
//!   end is proved; if it is not ordered, at once. **Deletions**: [`delete`](Peers::delete) until
//!   [`may_delete`](Peers::may_delete), then [`delete_over`](Peers::delete_over).
//! - **Checks** of what this router [`checks`](Peers::checks) take a slot. Where there is none,
//!   [`unchecked`](Peers::unchecked); [`Effect::Check`] brings one, if it lay idle elsewhere.
//!
//! # What must hold
//!
//! No request starts above an instance's limit, unless a router is out of ZooKeeper and cannot talk
//! to the owner. It follows from these, each with a line of its own in [`Rule`]:
//!
//! - use is read after the limit was written, and what is stated covers both;
//! - who wins an instance gives nothing of it out before every other member has shown the epoch
//!   (and with it its debts), and everybody who vanished has, or is silent;
//! - whatever runs here is counted here, lent by a member, or stated as a debt to the owner;
//! - a loan begins when its borrower sees it, ends when its lender sees that the borrower, having
//!   seen it, does not hold it, and never begins again.
//!
//! No kill and no deletion takes a request that was started:
//!
//! - an owner consents where nothing is in use, on loan or owed, and keeps its lock; all members
//!   know of a kill before it is ordered, and go on to count it, and to tell of it, for a hold
//!   after its leader is written off;
//! - what is stated to be closed takes nothing before nobody wants to delete it any more.
//!
//! Whatever another router says, no sum overflows and nothing panics: it has proved who it is, not
//! that it is right.
//!
//! `tests/sim/cluster` runs worlds of these machines, and leaves each rule out once.

mod checks;
mod closing;
mod compose;
pub mod counters;
pub mod document;
mod doom;
mod hear;
mod kills;
mod lease;
mod lending;
mod link;
mod machine;
mod membership;
mod rights;
mod rules;
pub mod status;
mod table;

pub use document::{Document, Member};
pub use lease::Lease;
pub use machine::{Division, Effect, Isolated, Peers, Settings};
pub use membership::View;
pub use rules::{Rule, Rules};

#[cfg(test)]
mod tests;
