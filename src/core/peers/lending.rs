//! To whom slots are lent: on demand, by the age of who waits; and ahead of demand, in the shares
//! that the scheme `balanced` would have given.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::Instant;
use crate::core::distribution::{balanced, rank};
use crate::core::peers::document::LOANS_MAX;
use crate::core::peers::link::Lent;
use crate::core::peers::machine::{Effect, Peers};
use crate::core::peers::rights::RECENT;
use crate::core::peers::table::Shares;
use crate::core::slots::Seat;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Peers {
    /// Home gives a slot to a router for which it was claimed.
    pub fn granted(&mut self, ticket: u64, seat: Seat, now: Instant, effects: &mut Vec<Effect>) {
        let claim = self.forget_ticket(ticket);
        let id = seat.instance().id(seat.service());
        let shared = self.table.instances.get(&id);
        let may_lend = shared.is_some_and(|it| it.own && !it.recalled && !self.shut);
        match claim.filter(|(to, _)| may_lend && self.may_borrow(to, now)) {
            Some((to, _)) => self.lend(&to, id, seat),
            None => effects.push(Effect::Settle(seat)),
        }
    }

    /// Home gives none.
    pub fn refused(&mut self, ticket: u64) {
        self.forget_ticket(ticket);
    }

    fn forget_ticket(&mut self, ticket: u64) -> Option<(RouterId, ServiceId)> {
        let (to, service) = self.tickets.remove(&ticket)?;
        let link = self.links.get_mut(&to)?;
        link.reclaims = true;
        if let Some(list) = link.claims.get_mut(&service) {
            list.retain(|it| *it != ticket);
            if list.is_empty() {
                link.claims.remove(&service);
            }
        }
        Some((to, service))
    }

    fn lend(&mut self, to: &RouterId, instance: InstanceId, seat: Seat) {
        let loan = self.number();
        let shared = self.table.instances.get_mut(&instance).expect("the caller has seen it");
        shared.lent += 1;
        let service = seat.service().clone();
        let link = self.links.get_mut(to).expect("who borrows has a link");
        link.lends(loan, Lent { seat, instance, service, born: None, called: false });
    }

    /// Whether slots may be lent to this router: it was heard lately, and if it is no member it has
    /// shown that it knows.
    pub(super) fn may_borrow(&self, to: &RouterId, now: Instant) -> bool {
        let Some(link) = self.links.get(to) else { return false };
        let Some(heard) = link.heard.as_ref().filter(|it| now - it.at < RECENT) else {
            return false;
        };
        let vanished = self.membership.vanished.get(to);
        self.membership.is_member(to) || vanished.is_some_and(|it| heard.document.epoch >= it.epoch)
    }

    /// Makes claims at home what other routers want of it.
    pub(super) fn reclaim_all(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let routers: Vec<RouterId> = self.links.keys().cloned().collect();
        for to in routers {
            let may = !self.shut && self.may_borrow(&to, now);
            let link = self.links.get_mut(&to).expect("it was just listed");
            if !std::mem::take(&mut link.reclaims) && link.may_borrow == may {
                continue;
            }
            link.may_borrow = may;
            let wanted = link.heard.iter().flat_map(|it| it.wants.keys());
            let services: BTreeSet<ServiceId> = wanted.chain(link.claims.keys()).cloned().collect();
            for service in services {
                let target = if may { self.missing(&to, &service, now) } else { 0 };
                self.reclaim(&to, &service, target, effects);
            }
        }
    }

    /// Slots that a router still misses of a service.
    fn missing(&mut self, to: &RouterId, service: &ServiceId, now: Instant) -> usize {
        let link = &self.links[to];
        let Some(entry) = self.table.services.get_mut(service) else { return 0 };
        let Some((count, _)) = link.wants(service).filter(|(count, _)| *count > 0) else {
            return 0;
        };
        entry.interest.insert(to.clone(), now);
        let missing = count.saturating_sub(link.unseen(service)).min(entry.own_slots) as usize;
        missing.min(LOANS_MAX.saturating_sub(link.lent.len()))
    }

    fn reclaim(
        &mut self,
        to: &RouterId,
        service: &ServiceId,
        target: usize,
        effects: &mut Vec<Effect>,
    ) {
        let link = self.links.get_mut(to).expect("the caller has seen it");
        let since = link.wants(service).map(|(_, since)| since);
        let list = link.claims.entry(service.clone()).or_default();
        while list.len() > target {
            let ticket = list.pop().expect("there are more than none");
            self.tickets.remove(&ticket);
            effects.push(Effect::Withdraw(ticket, service.clone()));
        }
        while list.len() < target {
            self.next_number += 1;
            let ticket = self.next_number;
            list.push(ticket);
            self.tickets.insert(ticket, (to.clone(), service.clone()));
            let since = since.expect("a target without a want is none");
            effects.push(Effect::Claim(ticket, service.clone(), since));
        }
        if list.is_empty() {
            link.claims.remove(service);
        }
    }

    /// Nobody claims for this router any more.
    pub(super) fn drop_claims(&mut self, to: &RouterId, effects: &mut Vec<Effect>) {
        let services: Vec<ServiceId> =
            self.links.get(to).map_or_else(Vec::new, |it| it.claims.keys().cloned().collect());
        for service in services {
            self.reclaim(to, &service, 0, effects);
        }
    }

    /// Lends ahead of demand to who asked lately, as long as nobody waits.
    pub(super) fn lend_ahead(&mut self, now: Instant) {
        if self.shut {
            return;
        }
        let late = self.settings.ahead_every * 10;
        let mut services = Vec::new();
        for (id, entry) in &mut self.table.services {
            entry.interest.retain(|_, at| now - *at <= late);
            let closing = self.closing.is_closing(id);
            let calm = entry.waiting == 0 && entry.own_slots > 0 && !closing;
            if entry.balanced && calm && !entry.interest.is_empty() {
                services.push(id.clone());
            }
        }
        for service in services {
            let claimed = self.links.values().any(|it| it.claims.contains_key(&service));
            if !claimed {
                self.lend_shares(&service, now);
            }
        }
    }

    fn lend_shares(&mut self, service: &ServiceId, now: Instant) {
        let interest: Vec<RouterId> =
            self.table.services[service].interest.keys().cloned().collect();
        for (to, shares) in self.known_shares(service).iter() {
            if !interest.contains(to) || !self.may_borrow(to, now) {
                continue;
            }
            for (instance, count) in shares {
                self.lend_share(to, service, instance, *count);
            }
        }
    }

    /// The shares, computed anew only in a new epoch or of other instances: they take an MD5 for
    /// each router and instance.
    fn known_shares(&mut self, service: &ServiceId) -> Arc<Shares> {
        let epoch = self.membership.epoch;
        let known = self.table.services.get(service).and_then(|it| it.shares.as_ref());
        if let Some((_, it)) = known.filter(|(at, _)| *at == epoch) {
            return it.clone();
        }
        let shares = Arc::new(self.shares(service));
        if let Some(entry) = self.table.services.get_mut(service) {
            entry.shares = Some((epoch, shares.clone()));
        }
        shares
    }

    fn lend_share(&mut self, to: &RouterId, service: &ServiceId, id: &InstanceId, count: u32) {
        let link = &self.links[to];
        let has = link.lent.values().filter(|it| it.instance == *id).count();
        let room = LOANS_MAX.saturating_sub(link.lent.len());
        let missing = (count as usize).saturating_sub(has).min(room);
        for _ in 0..missing {
            let Some(it) = self.table.instances.get(id).filter(|it| it.own) else { return };
            let Some(entry) = self.table.services.get(service) else { return };
            let slots = entry.slots.clone();
            // What does not serve is of no use to anybody but its check.
            let serves = slots.accepts(&it.instance, &[]);
            if !serves || slots.waiting.any() || !it.instance.word.take_own() {
                return;
            }
            let seat = Seat::new(service.clone(), it.instance.clone(), slots);
            self.lend(to, id.clone(), seat);
        }
    }

    /// The shares of `balanced`: of each member, the instances of this service and how many slots.
    /// What the original would have given out, and what is shown to people.
    pub fn shares(&self, service: &ServiceId) -> Vec<(RouterId, Vec<(InstanceId, u32)>)> {
        let Some(entry) = self.table.services.get(service) else { return Vec::new() };
        let routers: Vec<&str> = self.membership.members.keys().map(RouterId::as_str).collect();
        let names: Vec<&str> = entry.instances.iter().map(InstanceId::as_str).collect();
        let slots = entry.instances.first().map_or(0, |it| self.table.instances[it].slots);
        let ranked = rank(&routers, &names);
        let shares = balanced(&routers, &ranked, names.len(), u32::from(slots));
        let named = |share: Vec<(usize, u32)>| {
            share.into_iter().map(|(at, count)| (entry.instances[at].clone(), count)).collect()
        };
        self.membership.members.keys().cloned().zip(shares.into_iter().map(named)).collect()
    }
}
