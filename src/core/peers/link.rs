//! What is between this router and one other: the newest document of each, loans both ways.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::Instant;
use crate::core::peers::document::{Debts, Document, Want};
use crate::core::slots::Seat;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Documents whose time of sending is remembered.
const SENT_MAX: usize = 64;

/// A slot that is lent: it is in use here, by the borrower.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) seat: Seat,
    pub(super) instance: InstanceId,
    pub(super) service: ServiceId,
    /// The document that first listed it.
    pub(super) born: Option<u64>,
    /// It is called back, so that its instance can be checked.
    pub(super) called: bool,
}

/// A slot that is borrowed.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) instance: InstanceId,
    pub(super) service: ServiceId,
    /// Nothing starts on it; it goes back as soon as nothing needs it.
    pub(super) returning: bool,
}

/// The newest document of the other, and when.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    /// It was written after this: it acknowledges a document of ours sent then.
    pub(super) proved: Instant,
    pub(super) document: Document,
    pub(super) debts: HashMap<InstanceId, u32, foldhash::fast::FixedState>,
    /// What it says is about to be killed, by itself or others: owed as a whole.
    pub(super) dying: BTreeSet<InstanceId>,
    pub(super) holds: BTreeSet<u64>,
    /// Its requests that wait for a service, and since when the first does.
    pub(super) wants: BTreeMap<ServiceId, (u32, Instant)>,
}

/// One other router.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The newest document sent.
    pub(super) seq: u64,
    /// Something changed since.
    pub(super) dirty: bool,
    pub(super) sent_at: Option<Instant>,
    pub(super) sent_bytes: usize,
    sent: VecDeque<(u64, Instant)>,
    /// The newest document seen; outlives what it said.
    pub(super) heard_seq: u64,
    pub(super) heard: Option<Heard>,
    pub(super) lent: BTreeMap<u64, Lent>,
    /// How many of them each service has.
    pub(super) lent_of: BTreeMap<ServiceId, u32>,
    /// Its loans that were refused or returned, as long as it lists them.
    pub(super) dead: BTreeSet<u64>,
    /// Requests may start on its loans.
    pub(super) trusted: bool,
    /// Claims made for it at home, by service.
    pub(super) claims: BTreeMap<ServiceId, Vec<u64>>,
    /// Something changed that claims depend on.
    pub(super) reclaims: bool,
    /// It was lent to when claims were last looked at.
    pub(super) may_borrow: bool,
}

impl Link {
    /// A link of which the documents are numbered on from there: should the other have heard of
    /// this router before, its next document is newer than any it knows.
    pub(super) fn after(seq: u64) -> Self {
        Self { seq, ..Self::default() }
    }

    /// A document goes out.
    pub(super) fn sends(&mut self, bytes: usize, now: Instant) -> u64 {
        self.seq += 1;
        self.dirty = false;
        self.sent_at = Some(now);
        self.sent_bytes = bytes;
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.seq, now));
        self.seq
    }

    /// A document came that is newer than any before.
    pub(super) fn hears(&mut self, document: Document, now: Instant) {
        self.heard_seq = document.seq;
        let debts = named(&document.debts);
        let dying = document.dying.iter().chain(&document.doomed).cloned().collect();
        let holds = document.holds.iter().copied().collect();
        while self.sent.front().is_some_and(|(seq, _)| *seq < document.ack) {
            self.sent.pop_front();
        }
        let acked = self.sent.front().filter(|(seq, _)| *seq == document.ack).map(|(_, at)| *at);
        let before = self.heard.as_ref().map_or(Instant(0), |it| it.proved);
        let proved = acked.unwrap_or(before);
        let want = |it: &Want| (it.service.clone(), (it.count, since(now, it.age_ms)));
        let wants = document.wants.iter().map(want).collect();
        self.heard = Some(Heard { at: now, proved, document, debts, dying, holds, wants });
        self.reclaims = true;
    }

    /// A slot is lent.
    pub(super) fn lends(&mut self, loan: u64, lent: Lent) {
        *self.lent_of.entry(lent.service.clone()).or_default() += 1;
        self.lent.insert(loan, lent);
        (self.dirty, self.reclaims) = (true, true);
    }

    /// It is no more.
    pub(super) fn ends(&mut self, loan: u64) -> Lent {
        let lent = self.lent.remove(&loan).expect("the caller has seen it");
        let count = self.lent_of.get_mut(&lent.service).expect("it was counted");
        *count -= 1;
        if *count == 0 {
            self.lent_of.remove(&lent.service);
        }
        (self.dirty, self.reclaims) = (true, true);
        lent
    }

    /// The newest epoch the other has shown; none if it was not heard.
    pub(super) fn epoch(&self) -> u64 {
        self.heard.as_ref().map_or(0, |it| it.document.epoch)
    }

    /// What it owes of an instance with so many slots.
    pub(super) fn owes(&self, id: &InstanceId, slots: u16) -> u32 {
        let Some(heard) = &self.heard else { return 0 };
        match heard.document.debts {
            Debts::Of(_) if !heard.dying.contains(id) => {
                heard.debts.get(id).map_or(0, |it| (*it).min(u32::from(slots)))
            }
            Debts::Everything | Debts::Of(_) => u32::from(slots),
        }
    }

    /// Slots lent that the other had not seen when it wrote its newest document.
    pub(super) fn unseen(&self, service: &ServiceId) -> u32 {
        if !self.lent_of.contains_key(service) {
            return 0;
        }
        let ack = self.heard.as_ref().map_or(0, |it| it.document.ack);
        let unseen = |it: &&Lent| it.service == *service && it.born.is_none_or(|born| born > ack);
        u32::try_from(self.lent.values().filter(unseen).count()).expect("bounded")
    }

    /// Its requests that wait for a service, and since when the first does.
    pub(super) fn wants(&self, service: &ServiceId) -> Option<(u32, Instant)> {
        self.heard.as_ref()?.wants.get(service).copied()
    }
}

/// The time that lies so many milliseconds before.
pub(super) fn since(now: Instant, age_ms: u32) -> Instant {
    Instant(now.0.saturating_sub(u64::from(age_ms) * 1_000_000))
}

/// How long ago that was, in milliseconds.
pub(super) fn age_ms(since: Instant, now: Instant) -> u32 {
    u32::try_from((now - since).as_millis()).unwrap_or(u32::MAX)
}

/// All loans of a lender, as a range of keys.
pub(super) fn all_of(lender: &RouterId) -> std::ops::RangeInclusive<(RouterId, u64)> {
    (lender.clone(), 0)..=(lender.clone(), u64::MAX)
}

fn named(debts: &Debts) -> HashMap<InstanceId, u32, foldhash::fast::FixedState> {
    match debts {
        Debts::Of(list) => list.iter().cloned().collect(),
        Debts::Everything => HashMap::default(),
    }
}
