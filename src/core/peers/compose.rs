//! A document is written: all that concerns its reader, as it is now.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::peers::document::{
    DEBTS_BYTES_MAX, DEBTS_MAX, Debts, Document, LOANS_MAX, Lend, ORDERS_MAX, ROUTERS_MAX,
    WANTS_MAX, Want,
};
use crate::core::peers::link::{Link, age_ms, all_of};
use crate::core::peers::machine::{Effect, Peers};
use crate::core::peers::rights::RECENT;
use crate::core::peers::rules::Rule;
use std::cmp::Reverse;

/// Of a debt beside the id, at most: the length of that, and how many slots.
const DEBT_BYTES: usize = 2 + 5;

impl Peers {
    /// Writes every document that is due.
    pub(super) fn write(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.membership.epoch == 0 {
            return;
        }
        for to in self.membership.others(&self.me) {
            let since = self.last_seq;
            let link = self.links.entry(to.clone()).or_insert_with(|| Link::after(since));
            if now < due(link, &self.settings) {
                continue;
            }
            let mut document = self.document(&to, now);
            let bytes = rough_bytes(&document);
            let link = self.links.get_mut(&to).expect("it was just there");
            let seq = link.sends(bytes, now);
            document.seq = seq;
            for lent in link.lent.values_mut() {
                lent.born.get_or_insert(seq);
            }
            self.say_dying(&to, seq);
            self.closing.say(&to, seq);
            effects.push(Effect::Send(to, Box::new(document)));
        }
    }

    pub(super) fn due(&self, link: &Link) -> Instant {
        due(link, &self.settings)
    }

    pub(super) fn is_addressed(&self, id: &RouterId) -> bool {
        self.membership.is_member(id) || self.membership.vanished.contains_key(id)
    }

    fn document(&mut self, to: &RouterId, now: Instant) -> Document {
        let kills = self.kills_of(to, now);
        let mut doomed: Vec<InstanceId> = self.known_doom(to).into_iter().cloned().collect();
        let untold = doomed.len() > ORDERS_MAX;
        doomed.truncate(ORDERS_MAX);
        let link = &self.links[to];
        let shown = link.epoch() >= self.membership.epoch;
        let members = self.membership.members.values().take(ROUTERS_MAX).cloned().collect();
        let is_heard = |id: &RouterId| {
            let heard = self.links.get(id).and_then(|it| it.heard.as_ref());
            heard.is_some_and(|it| now - it.at < RECENT)
        };
        let mut ghosts = self.membership.ghosts(is_heard);
        ghosts.truncate(ROUTERS_MAX);
        Document {
            seq: 0,
            ack: link.heard_seq,
            epoch: self.membership.epoch,
            members: (!shown).then_some(members),
            ghosts,
            wants: self.wants_of(to, now),
            presses: self.presses_on(to, now),
            debts: if untold { Debts::Everything } else { self.debts_to(to) },
            lends: self.lends_to(to),
            holds: self.held.range(all_of(to)).map(|(loan, _)| loan.1).take(LOANS_MAX).collect(),
            kills,
            dying: self.dying().take(ORDERS_MAX).cloned().collect(),
            doomed,
            consents: self.consents_to(to),
            deleting: self.closing.deleting().take(ORDERS_MAX).cloned().collect(),
            closing: self.closing.closed().take(ORDERS_MAX).cloned().collect(),
        }
    }

    /// What is wanted of an owner: slots for those who wait, beyond the loans that are free.
    fn wants_of(&self, to: &RouterId, now: Instant) -> Vec<Want> {
        let mut wants = Vec::new();
        if self.leaving && self.needy.is_empty() {
            return wants;
        }
        for service in &self.needy {
            let Some(entry) = self.table.services.get(service) else { continue };
            let Some(oldest) = entry.oldest.filter(|_| entry.owners.contains_key(to)) else {
                continue;
            };
            let free = self.free_loans(service);
            let count = entry.waiting.saturating_sub(free);
            if count > 0 {
                wants.push(Want { service: service.clone(), count, age_ms: age_ms(oldest, now) });
            }
        }
        bounded(wants)
    }

    /// Borrowed slots of a service on which a request could start.
    fn free_loans(&self, service: &ServiceId) -> u32 {
        let of = self.table.services[service].instances.iter();
        let shared = of.filter_map(|it| self.table.instances.get(it));
        let borrowed = shared.filter(|it| !it.own && !it.loans.is_empty());
        let free = |word: &crate::core::slots::Word| {
            if word.is_open() { word.limit().saturating_sub(word.used()) } else { 0 }
        };
        borrowed.map(|it| u32::from(free(&it.instance.word))).sum()
    }

    /// Who waits here for services of which the reader has loans: requests, and other routers.
    fn presses_on(&self, to: &RouterId, now: Instant) -> Vec<Want> {
        let link = &self.links[to];
        let mut presses = Vec::new();
        for service in link.lent_of.keys() {
            let Some(entry) = self.table.services.get(service) else { continue };
            let (mut count, mut oldest) = (entry.waiting, entry.oldest);
            for (_, other) in self.links.iter().filter(|(id, _)| *id != to) {
                let claims = other.claims.get(service).map_or(0, Vec::len);
                if claims > 0 {
                    count += u32::try_from(claims).expect("bounded");
                    let since = other.wants(service).map(|(_, since)| since);
                    oldest = oldest.into_iter().chain(since).min();
                }
            }
            if let Some(oldest) = oldest.filter(|_| count > 0) {
                let age_ms = age_ms(oldest, now);
                presses.push(Want { service: service.clone(), count, age_ms });
            }
        }
        bounded(presses)
    }

    /// What is owed to the owner of an instance, read after its limit was written.
    fn debts_to(&self, to: &RouterId) -> Debts {
        let (mut list, mut bytes) = (Vec::new(), 0);
        for id in &self.table.watched {
            let Some(it) = self.table.instances.get(id).filter(|it| !it.own) else { continue };
            let debt = if it.owner.as_ref() == Some(to) { self.debt(it) } else { 0 };
            if debt > 0 {
                bytes += id.as_str().len() + DEBT_BYTES;
                list.push((id.clone(), debt));
            }
        }
        let fits = list.len() <= DEBTS_MAX && bytes <= DEBTS_BYTES_MAX;
        if fits { Debts::Of(list) } else { Debts::Everything }
    }

    fn lends_to(&self, to: &RouterId) -> Vec<Lend> {
        let closes = self.rules.has(Rule::ListClosing);
        let lends = self.links[to].lent.iter().map(|(loan, it)| {
            let shared = self.table.instances.get(&it.instance);
            let own = shared.is_some_and(|it| it.own && !it.recalled);
            Lend { loan: *loan, instance: it.instance.clone(), open: own && !it.called || !closes }
        });
        lends.take(LOANS_MAX).collect()
    }
}

/// When the next document is due: soon if something changed, but never more often than its size
/// allows; else by the rhythm.
fn due(link: &Link, settings: &super::machine::Settings) -> Instant {
    let Some(sent) = link.sent_at else { return Instant(0) };
    if !link.dirty {
        return sent + settings.document_every;
    }
    let nanos = link.sent_bytes as u64 * 1_000_000_000 / settings.bytes_per_second.max(1);
    sent + settings.coalesce.max(Duration::from_nanos(nanos)).min(settings.document_every)
}

/// Those that have waited longest.
fn bounded(mut wants: Vec<Want>) -> Vec<Want> {
    if wants.len() > WANTS_MAX {
        wants.sort_by_key(|it| Reverse(it.age_ms));
        wants.truncate(WANTS_MAX);
    }
    wants
}

/// About as many bytes as the document will have.
fn rough_bytes(it: &Document) -> usize {
    let debts = match &it.debts {
        Debts::Of(list) => list.len(),
        Debts::Everything => 0,
    };
    let members = it.members.as_ref().map_or(0, Vec::len) + it.ghosts.len();
    let lines = members
        + it.wants.len()
        + it.presses.len()
        + debts
        + it.lends.len()
        + it.dying.len()
        + it.doomed.len();
    32 + lines * 64 + it.holds.len() * 4
}
