//! What may be given out here, and what is owed: the rules of ownership, loans and debts.
//!
//! Must hold: the limit of an instance that is owned is its slots less what others owe; use counts
//! everything that runs here by whatever right, and what is lent. The limit of any other instance
//! is the number of loans on which a request may start.

use crate::base::ids::{InstanceId, RouterId};
use crate::base::time::{Duration, Instant};
use crate::core::peers::document::Member;
use crate::core::peers::link::{Held, Link, all_of};
use crate::core::peers::machine::{Effect, Isolated, Peers};
use crate::core::peers::membership::Vanished;
use crate::core::peers::rules::Rule;
use crate::core::peers::table::{LoanId, Shared};
use crate::core::slots::Gate;

/// Silence after which a router is no longer lent to, or counted as heard.
pub(super) const RECENT: Duration = Duration::from_millis(500);

impl Peers {
    /// Adopts a newer epoch, in which instances have other owners.
    pub(super) fn adopt(&mut self, epoch: u64, members: &[Member], now: Instant) {
        if !self.membership.adopt(&self.me, epoch, members, now) {
            return;
        }
        let moved = self.table.reown(&self.me, &self.membership.members);
        self.follow_doom();
        self.judge_rights(now);
        for id in moved {
            self.count_debts(&id);
            self.refresh(&id);
        }
        for link in self.links.values_mut() {
            link.dirty = true;
        }
        for id in self.membership.others(&self.me) {
            let since = self.last_seq;
            self.links.entry(id).or_insert_with(|| Link::after(since)).dirty = true;
        }
    }

    /// Looks whether own slots may be given out, and whose loans may be used.
    pub(super) fn judge_rights(&mut self, now: Instant) {
        let stopped = self.settings.isolated == Isolated::Stop
            && self.proof.is_none_or(|it| now >= it + self.settings.session * 2 / 3);
        let shut = self.away.is_some() || stopped;
        if shut != self.shut {
            self.shut = shut;
            let ids: Vec<_> = {
                let all = self.table.instances.iter();
                all.filter(|(_, it)| it.own).map(|(id, _)| id.clone()).collect()
            };
            ids.iter().for_each(|it| self.refresh(it));
            self.links.values_mut().for_each(|it| it.reclaims = true);
        }
        let lenders: Vec<RouterId> = self.links.keys().cloned().collect();
        for lender in lenders {
            let trusted = self.is_trusted(&lender, now);
            let link = self.links.get_mut(&lender).expect("it was just listed");
            if link.trusted != trusted {
                link.trusted = trusted;
                for id in self.borrowed_from(&lender) {
                    self.refresh(&id);
                }
            }
        }
    }

    /// Whether a request may start on a loan of this router: it is a member, and its newest word is
    /// young and not of an older epoch.
    fn is_trusted(&self, lender: &RouterId, now: Instant) -> bool {
        let link = &self.links[lender];
        let Some(heard) = &link.heard else { return false };
        // A little less than what the fence allows, so that the fence is never what ends it.
        let young = self.settings.session / 3 - self.settings.session / 24;
        let is_young = now < heard.proved + young || !self.rules.has(Rule::YoungWord);
        self.away.is_none()
            && self.membership.is_member(lender)
            && heard.document.epoch >= self.membership.epoch
            && is_young
    }

    pub(super) fn borrowed_from(&self, lender: &RouterId) -> Vec<InstanceId> {
        self.held.range(all_of(lender)).map(|(_, it)| it.instance.clone()).collect()
    }

    /// Sums what others owe of an instance.
    pub(super) fn count_debts(&mut self, id: &InstanceId) {
        let Some(it) = self.table.instances.get_mut(id) else { return };
        let slots = it.slots;
        let owed: u32 = self.links.values().map(|link| link.owes(id, slots)).sum();
        it.owed = if it.doomed { owed.max(u32::from(slots)) } else { owed };
    }

    /// Writes an instance's limit.
    pub(super) fn refresh(&mut self, id: &InstanceId) {
        let Some(it) = self.table.instances.get(id) else { return };
        let shut = self.rules.has(Rule::ClosedIsShut) && self.closing.is_closed(&it.service);
        let limit = match it.own {
            _ if shut => 0,
            true => self.own_limit(it),
            false => self.usable_loans(it),
        };
        let word = &it.instance.word;
        let raised = limit > word.limit();
        if it.own {
            word.set_limit(limit);
            // What is called back is not lent again, as if it were borrowed.
            if it.recalled {
                word.close(Gate::Foreign);
            } else {
                word.open(Gate::Foreign);
            }
        } else {
            word.close(Gate::Foreign);
            word.set_limit(limit);
        }
        if raised {
            self.raised.insert(it.service.clone());
        }
    }

    fn own_limit(&self, it: &Shared) -> u16 {
        if self.shut {
            return 0;
        }
        let owed = if self.rules.has(Rule::CountDebts) { it.owed } else { 0 };
        let limit = it.slots.saturating_sub(u16::try_from(owed).unwrap_or(u16::MAX));
        if self.rules.has(Rule::CountAll) {
            limit
        } else {
            limit + it.inherited.min(it.instance.word.used())
        }
    }

    fn usable_loans(&self, it: &Shared) -> u16 {
        let usable = |loan: &&LoanId| {
            !self.held[*loan].returning && self.links.get(&loan.0).is_some_and(|it| it.trusted)
        };
        u16::try_from(it.loans.iter().filter(usable).count()).unwrap_or(u16::MAX)
    }

    /// What this router owes of an instance: what runs here, or is lent, without a loan that counts
    /// elsewhere; all of it, if it is locked for a kill, or about to be killed by whomever.
    pub(super) fn debt(&self, it: &Shared) -> u32 {
        if (it.dying || it.locked || it.doomed) && self.rules.has(Rule::LockIsDebt) {
            return u32::from(it.slots);
        }
        let twice = self.rules.has(Rule::StateTwice);
        let covered = it.loans.iter().filter(|loan| !twice || self.counts(loan)).count();
        u32::from(it.instance.word.used()).saturating_sub(u32::try_from(covered).expect("bounded"))
    }

    /// Whether a loan counts in its lender's account, and whoever owns the instance knows that: the
    /// lender is a member and has shown this epoch.
    fn counts(&self, loan: &LoanId) -> bool {
        let shown = self.links.get(&loan.0).map_or(0, Link::epoch);
        self.membership.is_member(&loan.0) && shown >= self.membership.epoch
    }

    /// Takes over what was won, as soon as nobody else can still use it.
    pub(super) fn settle(&mut self, now: Instant) {
        let waits = self.anew.is_some() || !self.membership.is_member(&self.me);
        if self.table.won.is_empty() || waits {
            return;
        }
        let stated = self.stated_closed(now);
        let is_deleted = |id: &&InstanceId| {
            let service = &self.table.instances[*id].service;
            let closing = self.closing.is_closing(service) || stated.contains(service);
            closing && self.rules.has(Rule::WonWhileDeleted)
        };
        let won: Vec<InstanceId> = {
            let won = self.table.won.iter();
            won.filter(|it| !is_deleted(it)).cloned().collect()
        };
        if won.is_empty() || !self.is_settled(now) {
            return;
        }
        for id in won {
            self.table.won.remove(&id);
            self.table.take_over(&id);
            self.count_debts(&id);
            self.refresh(&id);
            self.give_back(&id);
        }
        self.links.values_mut().for_each(|it| it.reclaims = true);
    }

    /// Every other member has shown this epoch, or was silent for two sessions, and everybody who
    /// vanished has shown it too, or is silent.
    fn is_settled(&mut self, now: Instant) -> bool {
        let mut unproven = 0;
        for id in self.membership.members.keys().filter(|it| **it != self.me) {
            let shown = self.links.get(id).map_or(0, Link::epoch);
            if shown < self.membership.epoch && self.rules.has(Rule::Settle) {
                if now - self.membership.learned < self.settings.session * 2 {
                    return false;
                }
                unproven += 1;
            }
        }
        let over = |it: &Vanished| {
            // Of this epoch, not only of that in which it was missed: debts are told to the owner
            // alone, and who that was may have changed since.
            let link = self.links.get(&it.router.id);
            let shown = link.is_some_and(|it| it.epoch() >= self.membership.epoch);
            shown
                || self.is_silent(&it.router.id, it.since, now)
                || now - it.since >= self.settings.session * 2
        };
        let settled =
            !self.rules.has(Rule::SettleVanished) || self.membership.vanished.values().all(over);
        self.unproven += if settled { unproven } else { 0 };
        settled
    }

    /// Nobody has heard a vanished router for the grace.
    fn is_silent(&self, id: &RouterId, since: Instant, now: Instant) -> bool {
        let heard = self.links.get(id).and_then(|it| it.heard.as_ref()).map(|it| it.at);
        let quiet = now - heard.map_or(since, |it| it.max(since)) >= self.settings.grace;
        quiet && !self.is_heard_by_others(id, now)
    }

    fn is_heard_by_others(&self, id: &RouterId, now: Instant) -> bool {
        self.links.iter().any(|(other, link)| {
            let Some(heard) = &link.heard else { return false };
            self.membership.is_member(other)
                && now - heard.at < RECENT
                && heard.document.ghosts.iter().any(|it| it.router.id == *id && it.heard)
        })
    }

    /// Writes off what vanished routers have, once they are silent and what their borrowers owe is
    /// known.
    pub(super) fn write_off(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let shown = |epoch: u64| {
            let others = self.membership.members.keys().filter(|it| **it != self.me);
            !self.rules.has(Rule::OthersShown)
                || others
                    .into_iter()
                    .all(|it| self.links.get(it).is_some_and(|link| link.epoch() >= epoch))
        };
        let over: Vec<RouterId> = {
            let vanished = self.membership.vanished.iter();
            vanished
                .filter(|(id, it)| self.is_silent(id, it.since, now) && shown(it.epoch))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in over {
            self.bury(&id, now, effects);
        }
    }

    fn bury(&mut self, id: &RouterId, now: Instant, effects: &mut Vec<Effect>) {
        self.membership.bury(id, now);
        self.drop_claims(id, effects);
        self.orphan_locks(id);
        let owed = self.owed_by(id);
        let Some(link) = self.links.get_mut(id) else { return };
        let loans: Vec<u64> = link.lent.keys().copied().collect();
        for loan in loans {
            self.end_loan(id, loan, effects);
        }
        self.begin_hold(id, now);
        let link = self.links.get_mut(id).expect("it was just there");
        link.trusted = false;
        link.heard = None;
        for it in owed {
            self.count_debts(&it);
            self.refresh(&it);
        }
        self.return_all(|loan, _| loan.0 == *id);
        effects.push(Effect::Bury(id.clone()));
        self.dirty_all();
    }

    /// Drops what is known of routers to which nothing is said any more: who was written off, and
    /// has nothing of this router, nor this router of it.
    pub(super) fn drop_links(&mut self) {
        let over: Vec<RouterId> = {
            let ids = self.links.iter().filter(|(id, link)| {
                let is_free = link.lent.is_empty() && link.claims.is_empty();
                let answered = self.answers.keys().any(|(from, _)| from == *id);
                let held = self.held.range(all_of(id)).next().is_some();
                is_free && !answered && !held && !self.is_addressed(id)
            });
            ids.map(|(id, _)| id.clone()).collect()
        };
        for id in over {
            let link = self.links.remove(&id).expect("it was just listed");
            self.last_seq = self.last_seq.max(link.seq);
        }
    }

    /// A loan that was given is over.
    pub(super) fn end_loan(&mut self, to: &RouterId, loan: u64, effects: &mut Vec<Effect>) {
        let lent = self.links.get_mut(to).expect("it has the loan").ends(loan);
        if let Some(it) = self.table.instances.get_mut(&lent.instance) {
            it.lent -= 1;
        }
        let effect = self.came_home(to, &lent.instance, lent.seat);
        effects.push(effect);
    }

    /// These loans are to go back.
    pub(super) fn return_all(&mut self, which: impl Fn(&(RouterId, u64), &Held) -> bool) {
        let mut ids = Vec::new();
        for (_, held) in self.held.iter_mut().filter(|(loan, it)| which(loan, it)) {
            if !std::mem::replace(&mut held.returning, true) {
                ids.push(held.instance.clone());
            }
        }
        for id in ids {
            self.refresh(&id);
            self.give_back(&id);
        }
    }

    /// Gives loans back that nothing here needs. Their limit has been lowered before. What is owned
    /// needs no loan: use counts against the own limit.
    pub(super) fn give_back(&mut self, id: &InstanceId) {
        while let Some(loan) = self.dispensable(id) {
            let it = self.table.instances.get_mut(id).expect("it was just looked at");
            it.loans.retain(|at| *at != loan);
            self.spared.push(it.instance.clone());
            self.held.remove(&loan);
            if let Some(link) = self.links.get_mut(&loan.0) {
                link.dead.insert(loan.1);
                link.dirty = true;
            }
        }
    }

    /// A loan of an instance that is to go back and that nothing here needs. Requests are not tied
    /// to loans; so one that counts goes back only if what is in use fits into the others that
    /// count: else a request would live on by a right that is known to nobody.
    fn dispensable(&self, id: &InstanceId) -> Option<LoanId> {
        let it = self.table.instances.get(id)?;
        let used = usize::from(it.instance.word.used());
        let counting = it.loans.iter().filter(|loan| self.counts(loan)).count();
        let may_go = |loan: &&LoanId| {
            let enough = if self.counts(loan) { counting } else { it.loans.len() };
            it.own || (self.held[*loan].returning && used < enough)
        };
        it.loans.iter().find(may_go).cloned()
    }

    /// Looks at what may have come to an end on some shard: nobody says so.
    pub(super) fn look(&mut self, now: Instant) {
        let mut urgent = !self.needy.is_empty();
        let watched: Vec<InstanceId> = self.table.watched.iter().cloned().collect();
        for id in watched {
            self.give_back(&id);
            urgent |= self.look_at(&id, now);
        }
        let keep = self.settings.idle_keep;
        let services = &self.table.services;
        let idle: Vec<_> = {
            let is_idle = |held: &Held| {
                let unused = services.get(&held.service).is_none_or(|it| now - it.active > keep);
                unused || self.closing.is_closing(&held.service)
            };
            let held = self.held.iter().filter(|(_, it)| !it.returning && is_idle(it));
            held.map(|(loan, _)| loan.clone()).collect()
        };
        if !idle.is_empty() {
            self.return_all(|loan, _| idle.contains(loan));
        }
        let settings = &self.settings;
        self.next_look = now + if urgent { settings.look_every } else { settings.look_idle };
    }

    /// Looks at one instance; returns whether somebody may wait for it.
    fn look_at(&mut self, id: &InstanceId, now: Instant) -> bool {
        let Some(it) = self.table.instances.get(id) else {
            self.table.watched.remove(id);
            return false;
        };
        let (used, own) = (it.instance.word.used(), it.own);
        let debt = if own { 0 } else { self.debt(it) };
        let returning = it.loans.iter().any(|loan| self.held[loan].returning);
        if used > 0
            && !it.loans.is_empty()
            && let Some(entry) = self.table.services.get_mut(&it.service)
        {
            entry.active = now;
        }
        let owner = it.owner.clone();
        let marked = it.locked || it.dying || it.doomed;
        let idle = used == 0 && it.loans.is_empty() && !marked && it.lent == 0;
        let it = self.table.instances.get_mut(id).expect("it was just seen");
        if std::mem::replace(&mut it.debt, debt) != debt
            && let Some(link) = owner.and_then(|it| self.links.get_mut(&it))
        {
            link.dirty = true;
        }
        if idle || own {
            self.table.watched.remove(id);
            self.table.forget(id);
        }
        debt > 0 || returning
    }
}
