//! What must always hold, looked at from outside.

use super::MS;
use super::options::Trouble;
use super::world::{HEALING, World};
use std::collections::{BTreeMap, BTreeSet};
use waiter::base::ids::{InstanceId, RouterId};
use waiter::base::time::Instant;

/// After healing nobody waits longer beside an idle slot, in milliseconds.
pub(super) const IDLE_BESIDE_MAX: u64 = 1000;
/// And nothing lies idle for longer without being checked.
const UNCHECKED_MAX: u64 = 1500;

#[derive(Debug)]
struct Running {
    router: RouterId,
    number: u64,
    excused: bool,
    since: u64,
}

/// An account of its own of what runs where.
#[derive(Debug, Default)]
pub(super) struct Watch {
    running: BTreeMap<InstanceId, Vec<Running>>,
    at: BTreeMap<u64, InstanceId>,
    /// Since when an instance has had room.
    idle_since: BTreeMap<InstanceId, u64>,
    /// Since when nothing has run on an instance, or when it was last checked.
    unused_since: BTreeMap<InstanceId, u64>,
}

impl Watch {
    /// A request has ended, or its router has.
    pub(super) fn ended(&mut self, number: u64) {
        if let Some(id) = self.at.remove(&number) {
            self.running.entry(id).or_default().retain(|it| it.number != number);
        }
    }

    /// An instance is checked.
    pub(super) fn checked(&mut self, id: InstanceId, now: u64) {
        self.unused_since.insert(id, now);
    }

    /// These requests are excused.
    pub(super) fn excuse(&mut self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            let Some(id) = self.at.get(&number) else { continue };
            for it in self.running.entry(id.clone()).or_default() {
                it.excused |= it.number == number;
            }
        }
    }

    /// Requests that run on an instance and that no kill may take.
    pub(super) fn running(&self, id: &InstanceId) -> Vec<String> {
        let list = self.running.get(id).into_iter().flatten().filter(|it| !it.excused);
        list.map(|it| format!("{}#{}@{}", it.router, it.number, it.since / MS)).collect()
    }
}

impl World {
    /// A request begins to run.
    pub(super) fn began(&mut self, router: &RouterId, number: u64, id: InstanceId) {
        let excused = self.routers[router].requests[&number].excused;
        let running = Running { router: router.clone(), number, excused, since: self.now };
        self.watch.at.insert(number, id.clone());
        if Instant(self.now) > self.routers[router].peers.fence() {
            self.broken(&format!("{router} #{number} starts beyond the fence"));
        }
        let list = self.watch.running.entry(id.clone()).or_default();
        list.push(running);
        if list.len() <= usize::from(self.options.limit) || self.scheduler.is_dead(&id) {
            return;
        }
        if list.iter().any(|it| it.excused) {
            self.figures.excused += 1;
        } else {
            let on = self.watch.running(&id).join(" ");
            self.broken(&format!("over the limit: {id}: {on}"));
        }
    }

    /// Prints what befalls whom, for whoever replays a seed.
    #[expect(clippy::print_stdout, reason = "for people")]
    pub(super) fn tell_trouble(&self, kind: Trouble, victim: &RouterId, until: u64) {
        if std::env::var_os("WAITER_SEED").is_some() {
            println!("{} ms: {kind:?} {victim} until {} ms", self.now / MS, until / MS);
        }
    }

    /// Prints what every router believes, for whoever replays a seed.
    #[expect(clippy::print_stdout, reason = "for people")]
    pub(super) fn describe(&self) {
        for router in self.routers.values() {
            let (epoch, members) = router.peers.members();
            let members: Vec<_> = members.map(|it| it.id.as_str().to_owned()).collect();
            println!("{} epoch {epoch} members {members:?}", router.id);
            for it in router.peers.peers(Instant(self.now)) {
                println!("    {it:?}");
            }
            for place in &router.places {
                for it in router.peers.ownership(&place.id) {
                    println!("    {it:?}");
                }
                println!("    {} waiting {:?}", place.id, place.demand());
            }
        }
    }

    pub(super) fn broken(&mut self, what: &str) {
        self.figures.broken.push(format!("{} ms: {what}", self.now / MS));
    }

    /// At most one router may decide.
    pub(super) fn watch_leaders(&mut self) {
        let awake = self.routers.values().filter(|it| self.now >= it.stopped);
        let leads: Vec<_> =
            awake.filter(|it| it.lease.leads(1, Instant(self.now))).map(|it| &it.id).collect();
        if leads.len() > 1 {
            let text = format!("two leaders: {leads:?}");
            self.broken(&text);
        }
    }

    /// Nobody waits for long beside an idle slot.
    pub(super) fn watch_waiting(&mut self) {
        let limit = usize::from(self.options.limit);
        let mut idle: BTreeMap<usize, u64> = BTreeMap::new();
        for at in 0..self.scheduler.services.len() {
            let (service, ids) = self.scheduler.listing(at);
            // Where it closes, who comes waits.
            let closes = self.routers.values().any(|it| it.closing.contains_key(&service));
            for id in ids {
                let running = self.watch.running.get(&id).map_or(0, Vec::len);
                // Everybody has known it for a while, and nobody wants to kill it.
                let free = running < limit && self.scheduler.is_settled(&id, self.now);
                if !free || closes || self.orders.concern(&id) {
                    self.watch.idle_since.remove(&id);
                    self.watch.unused_since.remove(&id);
                    continue;
                }
                if self.options.is_fuller {
                    self.watch_checks(&id, running);
                }
                let since = *self.watch.idle_since.entry(id).or_insert(self.now);
                idle.entry(at).and_modify(|it| *it = since.min(*it)).or_insert(since);
            }
        }
        let mut longest = (0, String::new());
        for router in self.routers.values().filter(|it| !it.has_left) {
            let waits = router.requests.iter().filter(|(_, it)| it.seat.is_none());
            for (number, it) in waits {
                let Some(since) = idle.get(&it.service) else { continue };
                let beside = self.now - it.since.max(*since);
                if beside / MS > longest.0 {
                    longest = (beside / MS, format!("{} #{number}", router.id));
                }
            }
        }
        self.figures.idle_beside = self.figures.idle_beside.max(longest.0);
        if longest.0 > IDLE_BESIDE_MAX {
            let (time, who) = longest;
            self.broken(&format!("{who} waits beside an idle slot for {time} ms"));
        }
    }

    /// What is not used is checked.
    fn watch_checks(&mut self, id: &InstanceId, running: usize) {
        if running > 0 {
            self.watch.unused_since.remove(id);
            return;
        }
        // It was not looked at before all was healed.
        let healed = (self.options.troubled + HEALING) * MS;
        let since = *self.watch.unused_since.entry(id.clone()).or_insert(self.now);
        let since = since.max(healed);
        if self.now - since > UNCHECKED_MAX * MS {
            self.broken(&format!("{id} is not used, and has not been checked for long"));
        }
    }

    /// Pages can be shown at any time, whatever routers say of each other; what is lent is in use.
    pub(super) fn look_at_pages(&self) {
        if !(self.now / MS).is_multiple_of(20) {
            return;
        }
        for router in self.routers.values() {
            std::hint::black_box(router.peers.peers(Instant(self.now)));
            let all = router.places.iter().flat_map(|it| router.peers.ownership(&it.id));
            for it in all {
                assert!(it.lent <= it.used.into(), "{}: {it:?}", router.id);
            }
        }
    }

    /// Everything has come home.
    pub(super) fn watch_end(&mut self) {
        let mut left = BTreeSet::new();
        for router in self.routers.values() {
            if router.is_leaving && !router.has_left {
                left.insert(format!("{} has not left", router.id));
            }
            if !router.closing.is_empty() {
                left.insert(format!("{} keeps closed {:?}", router.id, router.closing));
            }
            if router.peers.marks() != (0, 0) {
                left.insert(format!("{} keeps marks {:?}", router.id, router.peers.marks()));
            }
            if router.peers.loans() != (0, 0) {
                left.insert(format!("{} has loans {:?}", router.id, router.peers.loans()));
            }
            for place in &router.places {
                for (id, it) in &place.instances {
                    let limit = self.options.limit;
                    let own = router.peers.checks(id);
                    let wanted = if own { limit } else { 0 };
                    if it.word.used() > 0 || (it.word.limit() != wanted && !router.is_leaving) {
                        let (used, limit) = (it.word.used(), it.word.limit());
                        left.insert(format!("{}: {id} {used} of {limit}", router.id));
                    }
                }
            }
        }
        if let Some(first) = left.first() {
            let text = format!("not all came home: {first} and {} more", left.len() - 1);
            self.broken(&text);
        }
    }
}
