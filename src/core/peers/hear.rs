//! A document arrives. The epoch is adopted before anything else of it is used.

use crate::base::ids::{InstanceId, RouterId};
use crate::base::time::Instant;
use crate::core::peers::document::{Debts, Document, Lend, Want};
use crate::core::peers::link::{Held, Link, age_ms, all_of};
use crate::core::peers::machine::{Effect, Peers};
use crate::core::peers::rules::Rule;
use crate::core::peers::table::LoanId;
use std::collections::{BTreeMap, BTreeSet};

impl Peers {
    /// A document of this router arrived, by a connection on which it has proved itself. An older
    /// one than the newest is nothing.
    pub fn heard(
        &mut self,
        from: &RouterId,
        document: Document,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.links.get(from).map_or(0, |it| it.heard_seq);
        if *from == self.me || document.seq <= known {
            return;
        }
        match &document.members {
            Some(members) => self.adopt(document.epoch, members, now),
            // Its members will come with a later document: until then this says nothing.
            None if document.epoch > self.membership.epoch => return,
            None => {}
        }
        if !self.membership.is_member(from) {
            self.membership.spoke(from, now);
        }
        for it in &document.ghosts {
            self.membership.told_of(&self.me, &it.router, it.epoch, now);
        }
        let mut owed = self.owed_by(from);
        let since = self.last_seq;
        let link = self.links.entry(from.clone()).or_insert_with(|| Link::after(since));
        let known = link.heard.as_ref().map_or(&[][..], |it| &it.document.dying);
        let is_news = *known != document.dying;
        link.hears(document, now);
        if is_news {
            self.dirty_all(); // it is told on
        }
        owed.extend(self.owed_by(from));
        if !self.membership.is_member(from) {
            self.follow_doom();
        }
        self.judge_rights(now);
        self.loans_ended(from, effects);
        self.loans_given(from);
        self.pressed(from, now);
        for id in owed {
            self.count_debts(&id);
            self.refresh(&id);
        }
        self.hear_kills(from, now, effects);
        self.flush(effects);
    }

    /// The instances of which a router owes something, or all that are owned here.
    pub(super) fn owed_by(&self, from: &RouterId) -> BTreeSet<InstanceId> {
        let Some(heard) = self.links.get(from).and_then(|it| it.heard.as_ref()) else {
            return BTreeSet::new();
        };
        match heard.document.debts {
            Debts::Of(_) => heard.debts.keys().chain(&heard.dying).cloned().collect(),
            Debts::Everything => {
                let all = self.table.instances.iter().filter(|(_, it)| it.own);
                all.map(|(id, _)| id.clone()).collect()
            }
        }
    }

    /// A loan is over when its borrower has seen the document that first listed it, and does not
    /// hold it.
    fn loans_ended(&mut self, from: &RouterId, effects: &mut Vec<Effect>) {
        let link = &self.links[from];
        let heard = link.heard.as_ref().expect("it was just heard");
        let ack = heard.document.ack;
        let over: Vec<u64> = {
            let seen = link.lent.iter().filter(|(_, it)| it.born.is_some_and(|born| born <= ack));
            seen.filter(|(loan, _)| !heard.holds.contains(loan)).map(|(loan, _)| *loan).collect()
        };
        for loan in over {
            self.end_loan(from, loan, effects);
        }
    }

    /// What the other lends: a loan that is seen open is held from now on; one that is closing, or
    /// that was refused once, is not.
    fn loans_given(&mut self, from: &RouterId) {
        let link = &self.links[from];
        let document = &link.heard.as_ref().expect("it was just heard").document;
        let may = self.membership.is_member(from)
            && document.epoch >= self.membership.epoch
            && !self.leaving;
        let lends: Vec<Lend> = document.lends.clone();
        let listed: BTreeMap<u64, bool> = lends.iter().map(|it| (it.loan, it.open)).collect();
        let stays_dead = self.rules.has(Rule::StaysDead);
        let link = self.links.get_mut(from).expect("it was just heard");
        link.dead.retain(|it| stays_dead && listed.contains_key(it));
        for it in lends {
            let known = self.held.contains_key(&(from.clone(), it.loan));
            let link = self.links.get_mut(from).expect("it was just heard");
            if known || link.dead.contains(&it.loan) {
                continue;
            }
            link.dirty = true;
            let shared = self.table.instances.get(&it.instance);
            if may && it.open && shared.is_some_and(|it| !it.own && it.present) {
                self.hold(from, &it);
            } else {
                let link = self.links.get_mut(from).expect("it was just heard");
                link.dead.insert(it.loan);
            }
        }
        self.return_all(|loan, _| loan.0 == *from && listed.get(&loan.1) != Some(&true));
    }

    fn hold(&mut self, from: &RouterId, lend: &Lend) {
        let loan = (from.clone(), lend.loan);
        let it = self.table.instances.get_mut(&lend.instance).expect("the caller has seen it");
        let held =
            Held { instance: lend.instance.clone(), service: it.service.clone(), returning: false };
        it.loans.push(loan.clone());
        self.held.insert(loan, held);
        self.table.watched.insert(lend.instance.clone());
        self.refresh(&lend.instance);
    }

    /// Somebody waits longer than anybody here, at a lender or at another whom it cannot serve: as
    /// many loans go back.
    fn pressed(&mut self, from: &RouterId, now: Instant) {
        let document = &self.links[from].heard.as_ref().expect("it was just heard").document;
        let presses: Vec<Want> = document.presses.clone();
        for press in presses {
            let entry = self.table.services.get(&press.service);
            let own_age = entry.and_then(|it| it.oldest).map(|it| age_ms(it, now));
            let slack = u32::try_from(self.settings.fair_slack.as_millis()).unwrap_or(u32::MAX);
            // A slot that moves is idle on its way: where all wait long, small differences must not
            // send it round.
            let slack = slack.saturating_add(press.age_ms / 8);
            if own_age.is_some_and(|it| it.saturating_add(slack) >= press.age_ms) {
                continue;
            }
            let chosen = self.most_dispensable(from, &press);
            self.return_all(|loan, _| chosen.contains(loan));
        }
    }

    /// Loans to be returned for those who wait: as many as are idle, then of those in use as many
    /// as are not on their way already.
    fn most_dispensable(&self, from: &RouterId, press: &Want) -> BTreeSet<LoanId> {
        let count = press.count as usize;
        let held = self.held.range(all_of(from)).filter(|(_, it)| it.service == press.service);
        let going = held.clone().filter(|(_, it)| it.returning).count();
        let is_idle = |held: &Held| {
            let shared = &self.table.instances[&held.instance];
            usize::from(shared.instance.word.used()) < shared.loans.len()
        };
        let (idle, busy): (Vec<_>, Vec<_>) =
            held.filter(|(_, it)| !it.returning).partition(|(_, it)| is_idle(it));
        let idle = idle.into_iter().take(count);
        let more = count.saturating_sub(going + idle.len());
        idle.chain(busy.into_iter().take(more)).map(|(loan, _)| loan.clone()).collect()
    }
}
