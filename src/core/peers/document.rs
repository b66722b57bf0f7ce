//! What one router tells another: its whole, numbered state as far as it concerns the other.
//!
//! The newest wins; loss, repetition and reordering are harmless, for nothing is said that a later
//! document does not say again. Every list has a bound; what would exceed it is either not needed
//! (wants, loans: fewer are given) or has a word for "all" ([`Debts::Everything`]).

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use serde::{Deserialize, Serialize};

/// Members of a cluster, at most.
pub const ROUTERS_MAX: usize = 256;
/// Services asked for in one document, at most; those that wait longest.
pub const WANTS_MAX: usize = 2048;
/// Loans from one router to another, at most.
pub const LOANS_MAX: usize = 4096;
/// Debts listed one by one, at most.
pub const DEBTS_MAX: usize = 65_536;
/// And their bytes: half of what a frame between routers takes. All other lists at their bounds are
/// well below the other half.
pub const DEBTS_BYTES_MAX: usize = 8 << 20;
/// Kills and deletions under way, at most.
pub const ORDERS_MAX: usize = 1024;

/// A router of the cluster.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Member {
    /// Its id.
    pub id: RouterId,
    /// Where its peers reach it: `host:port`.
    pub address: String,
    /// When it registered, in milliseconds since 1970.
    pub since: u64,
}

/// Requests that wait for a service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Want {
    /// The service.
    pub service: ServiceId,
    /// How many wait.
    pub count: u32,
    /// For how long the first of them has, in milliseconds.
    pub age_ms: u32,
}

/// A slot lent to the reader.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lend {
    /// Never used twice by one lender.
    pub loan: u64,
    /// Of which instance.
    pub instance: InstanceId,
    /// Requests may start on it; else it is to be returned.
    pub open: bool,
}

/// What the writer runs or has lent of instances that the reader owns.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Debts {
    /// Of these instances, so many slots.
    Of(Vec<(InstanceId, u32)>),
    /// More than can be listed: count every instance as wholly in use.
    Everything,
}

/// A router that is no member and was not written off yet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ghost {
    /// Which, and where.
    pub router: Member,
    /// The epoch in which it was missed.
    pub epoch: u64,
    /// Whether the writer hears it.
    pub heard: bool,
}

/// A kill that the writer wants to order, or has ordered and knows no end of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Kill {
    /// Never used twice by one router.
    pub order: u64,
    /// Which instance.
    pub instance: InstanceId,
    /// How long its order may take, in milliseconds.
    pub left_ms: u32,
}

/// The owner's answer to a [`Kill`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Consent {
    /// The asker's number.
    pub order: u64,
    /// Whether the instance is locked.
    pub given: bool,
}

/// A document.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Document {
    /// Counts the documents from this writer to this reader.
    pub seq: u64,
    /// The newest document of the reader that the writer has seen.
    pub ack: u64,
    /// The newest epoch the writer knows.
    pub epoch: u64,
    /// Its members; left out once the reader has shown that epoch.
    pub members: Option<Vec<Member>>,
    /// Routers that vanished.
    pub ghosts: Vec<Ghost>,
    /// What the writer needs of the reader.
    pub wants: Vec<Want>,
    /// Who waits at the writer for slots that the reader has on loan.
    pub presses: Vec<Want>,
    /// What the writer owes the reader.
    pub debts: Debts,
    /// What the writer lends the reader.
    pub lends: Vec<Lend>,
    /// Loans of the reader that the writer holds.
    pub holds: Vec<u64>,
    /// Kills of instances that the reader owns.
    pub kills: Vec<Kill>,
    /// Instances about to be killed by orders of the writer, whoever owns them: to be counted as
    /// wholly in use, also for a while after the writer has vanished.
    pub dying: Vec<InstanceId>,
    /// The same, by orders of others of whom the writer knows, but not of the reader.
    pub doomed: Vec<InstanceId>,
    /// Answers to the reader's.
    pub consents: Vec<Consent>,
    /// Services that the writer wants to delete.
    pub deleting: Vec<ServiceId>,
    /// Services that the writer has closed for that.
    pub closing: Vec<ServiceId>,
}

/// Why a document is not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// It is not one.
    Malformed,
    /// A list is longer than its bound.
    TooLong(&'static str),
}

impl Default for Debts {
    fn default() -> Self {
        Self::Of(Vec::new())
    }
}

impl Document {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("memory takes every document")
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are not one, or exceed a bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (it, rest): (Self, _) =
            postcard::take_from_bytes(bytes).map_err(|_| Unreadable::Malformed)?;
        if !rest.is_empty() {
            return Err(Unreadable::Malformed);
        }
        let debts = match &it.debts {
            Debts::Of(list) => list.len(),
            Debts::Everything => 0,
        };
        let lists = [
            ("members", it.members.as_ref().map_or(0, Vec::len), ROUTERS_MAX),
            ("ghosts", it.ghosts.len(), ROUTERS_MAX),
            ("wants", it.wants.len(), WANTS_MAX),
            ("presses", it.presses.len(), WANTS_MAX),
            ("debts", debts, DEBTS_MAX),
            ("lends", it.lends.len(), LOANS_MAX),
            ("holds", it.holds.len(), LOANS_MAX),
            ("kills", it.kills.len(), ORDERS_MAX),
            ("dying", it.dying.len(), ORDERS_MAX),
            ("doomed", it.doomed.len(), ORDERS_MAX),
            ("consents", it.consents.len(), ORDERS_MAX),
            ("deleting", it.deleting.len(), ORDERS_MAX),
            ("closing", it.closing.len(), ORDERS_MAX),
        ];
        match lists.iter().find(|(_, len, max)| len > max) {
            Some((name, _, _)) => Err(Unreadable::TooLong(name)),
            None => Ok(it),
        }
    }
}
