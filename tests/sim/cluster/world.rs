//! A world: routers, the network between them, ZooKeeper, and troubles.

use super::MS;
use super::options::{KINDS, Options, Trouble, work};
use super::orders::{Orders, Scheduler};
use super::router::{News, Router};
use super::watch::Watch;
use super::zookeeper::{Answer, Ask, ZooKeeper};
use crate::options::Chance;
use std::collections::{BTreeMap, BTreeSet};
use waiter::base::ids::RouterId;
use waiter::base::time::Instant;
use waiter::core::peers::{Document, Peers};

/// Time passes in steps of so many milliseconds.
const STEP: u64 = 5;
/// A request waits for so many milliseconds at most.
const PATIENCE: u64 = 8000;
/// After the troubles: all settles; it is looked at whether anybody waits in vain; nothing arrives
/// any more, and everything comes home.
pub(super) const HEALING: u64 = 11_000;
const LOOKED_AT: u64 = 3000;
const DRAINING: u64 = 15_000;

/// What is under way, to whom.
#[derive(Debug)]
enum Mail {
    Document(RouterId, RouterId, Box<Document>),
    /// To ZooKeeper, asked then.
    Ask(RouterId, Ask, u64),
    Answer(RouterId, Ask, Answer, u64),
    /// A listing of a service reaches a router.
    Listing(RouterId, usize),
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) served: u64,
    pub(super) gave_up: u64,
    pub(super) excused: u64,
    pub(super) documents: u64,
    pub(super) bytes: u64,
    pub(super) kills: u64,
    pub(super) deletions: u64,
    pub(super) refusals: u64,
    pub(super) unproven: u64,
    /// Longest time somebody waited beside an idle slot after healing, in milliseconds.
    pub(super) idle_beside: u64,
    /// Broken rules, in words.
    pub(super) broken: Vec<String>,
}

/// A world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) options: Options,
    pub(super) chance: Chance,
    pub(super) now: u64,
    pub(super) zookeeper: ZooKeeper,
    pub(super) routers: BTreeMap<RouterId, Router>,
    pub(super) scheduler: Scheduler,
    pub(super) orders: Orders,
    pub(super) watch: Watch,
    pub(super) figures: Figures,
    links: BTreeMap<(RouterId, RouterId), u64>,
    mail: BTreeMap<(u64, u64), Mail>,
    number: u64,
    next_arrival: u64,
    pub(super) next_trouble: u64,
    zookeeper_up: u64,
    born: usize,
}

impl World {
    pub(super) fn new(options: Options, mut chance: Chance) -> Self {
        let scheduler = Scheduler::new(&options, &mut chance);
        let mut world = Self {
            now: MS,
            zookeeper: ZooKeeper::default(),
            routers: BTreeMap::new(),
            scheduler,
            orders: Orders::default(),
            watch: Watch::default(),
            figures: Figures::default(),
            links: BTreeMap::new(),
            mail: BTreeMap::new(),
            number: 0,
            next_arrival: 2000 * MS,
            next_trouble: 4000 * MS,
            zookeeper_up: 0,
            born: 0,
            options,
            chance,
        };
        for _ in 0..world.options.routers {
            world.join();
        }
        world
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> Figures {
        let healed = self.options.troubled + HEALING;
        let calm = healed + LOOKED_AT;
        while self.now < (calm + DRAINING) * MS && self.figures.broken.is_empty() {
            self.now += STEP * MS;
            self.trouble();
            self.zookeeper.tick(self.options.session, self.now);
            self.wake();
            self.deliver();
            if self.now < calm * MS {
                self.arrivals();
            }
            self.turns();
            self.orders_turn(self.now < calm * MS);
            self.deletions_turn(self.now < calm * MS);
            self.look_at_pages();
            self.watch_leaders();
            if (healed * MS..calm * MS).contains(&self.now) {
                self.watch_waiting();
            }
        }
        if self.figures.broken.is_empty() {
            self.watch_end();
        }
        if std::env::var_os("WAITER_SEED").is_some() && !self.figures.broken.is_empty() {
            self.describe();
        }
        for (_, router) in std::mem::take(&mut self.routers) {
            self.figures.unproven += router.peers.unproven();
            router.dismantle();
        }
        self.figures
    }

    pub(super) fn join(&mut self) {
        self.born += 1;
        let id = RouterId::new(&format!("r{}-{}", self.chance.below(1000), self.born));
        let mut router = Router::new(id.clone(), &self.options, self.now);
        for at in 0..self.scheduler.services.len() {
            let (service, ids) = self.scheduler.listing(at);
            router.list(at, (&service, self.options.limit), &ids, &self.options, self.now);
        }
        self.routers.insert(id, router);
    }

    /// A listing of a service will reach every router, sooner or later.
    pub(super) fn relist(&mut self, service: usize) {
        let ids: Vec<RouterId> = self.routers.keys().cloned().collect();
        for id in ids {
            let delay = 20 + self.chance.below(500) as u64;
            self.post(delay, Mail::Listing(id, service));
        }
    }

    fn post(&mut self, delay: u64, mail: Mail) {
        self.number += 1;
        self.mail.insert((self.now + delay * MS, self.number), mail);
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.mail.first_entry().filter(|it| it.key().0 <= self.now) {
            match entry.remove() {
                Mail::Document(from, to, document) => self.deliver_document(from, to, document),
                Mail::Ask(who, ask, began) => {
                    if self.reaches_zookeeper(&who) {
                        let answer = self.zookeeper.ask(&who, ask, self.now);
                        // One that was long on its way tells of a membership of then.
                        let delay = if self.chance.is(0.04) { 1300 } else { 3 };
                        let delay = if self.chance.is(0.25) { delay / 5 } else { delay };
                        self.post(delay, Mail::Answer(who, ask, answer, began));
                    }
                }
                Mail::Answer(who, ask, answer, began) => {
                    self.deliver_answer(who, ask, answer, began);
                }
                Mail::Listing(who, service) => self.deliver_listing(who, service),
            }
        }
    }

    fn deliver_document(&mut self, from: RouterId, to: RouterId, document: Box<Document>) {
        let now = self.now;
        let Some(router) = self.routers.get_mut(&to) else { return };
        if now < router.stopped {
            let delay = (router.stopped - now) / MS + STEP;
            self.post(delay, Mail::Document(from, to, document));
            return;
        }
        router.tell(now, |it, effects| it.heard(&from, *document, Instant(now), effects));
        self.gather(&to);
    }

    fn deliver_answer(&mut self, who: RouterId, ask: Ask, answer: Answer, began: u64) {
        let Some(router) = self.routers.get_mut(&who) else { return };
        if self.now < router.cut_from_zookeeper.max(router.cut_from_all) {
            return;
        }
        if self.now < router.stopped {
            let delay = (router.stopped - self.now) / MS + STEP;
            self.post(delay, Mail::Answer(who, ask, answer, began));
            return;
        }
        router.answered(ask, &answer, began, self.now);
        self.gather(&who);
    }

    fn deliver_listing(&mut self, who: RouterId, service: usize) {
        let (id, ids) = self.scheduler.listing(service);
        let Some(router) = self.routers.get_mut(&who) else { return };
        if self.now < router.stopped {
            let delay = (router.stopped - self.now) / MS + STEP;
            self.post(delay, Mail::Listing(who, service));
            return;
        }
        router.list(service, (&id, self.options.limit), &ids, &self.options, self.now);
        self.gather(&who);
    }

    fn reaches_zookeeper(&self, who: &RouterId) -> bool {
        let cut = |it: &Router| self.now < it.cut_from_zookeeper.max(it.cut_from_all);
        !self.zookeeper.is_down && !self.routers.get(who).is_none_or(cut)
    }

    fn can_talk(&self, a: &RouterId, b: &RouterId) -> bool {
        let alone =
            |it: &RouterId| self.routers.get(it).is_some_and(|it| self.now < it.cut_from_all);
        let cut = self.links.get(&pair(a, b)).is_some_and(|until| self.now < *until);
        !alone(a) && !alone(b) && !cut
    }

    fn arrivals(&mut self) {
        while self.next_arrival <= self.now {
            let gap = self.options.gap() * MS as f64;
            self.next_arrival += self.chance.exponential(gap);
            let able: Vec<RouterId> = {
                let able = self
                    .routers
                    .values()
                    .filter(|it| !it.is_leaving && self.now >= it.stopped && it.is_registered);
                able.map(|it| it.id.clone()).collect()
            };
            if able.is_empty() {
                continue;
            }
            let to = able[self.chance.below(able.len())].clone();
            let service = self.chance.below(self.options.services);
            let work = work(&mut self.chance);
            self.number += 1;
            let router = self.routers.get_mut(&to).expect("it was just listed");
            router.arrive(self.number, service, work, self.now);
            self.gather(&to);
        }
    }

    /// Who was stopped goes on. Before anything else the machine has a turn: its fence lies in the
    /// past, so no shard has started anything.
    fn wake(&mut self) {
        let now = self.now;
        let stopped = self.routers.values().filter(|it| (1..=now).contains(&it.stopped));
        let ids: Vec<RouterId> = stopped.map(|it| it.id.clone()).collect();
        for id in ids {
            let router = self.routers.get_mut(&id).expect("it was just listed");
            router.stopped = 0;
            router.tell(now, |it, effects| it.tick(Instant(now), effects));
            self.gather(&id);
        }
    }

    /// Every router has a turn of its loop.
    fn turns(&mut self) {
        let ids: Vec<RouterId> = self.routers.keys().cloned().collect();
        let is_over = self.now >= (self.options.troubled + HEALING + LOOKED_AT) * MS;
        for id in ids {
            self.excuse(&id);
            let now = self.now;
            let reaches = self.reaches_zookeeper(&id);
            let router = self.routers.get_mut(&id).expect("it was just listed");
            if now < router.stopped {
                continue;
            }
            // First of all the machine: nothing starts on what was right before a long stop.
            let act = |it: &mut Peers, effects: &mut Vec<_>| it.tick(Instant(now), effects);
            router.tell(now, act);
            self.figures.gave_up += router.end_requests(PATIENCE, now);
            router.homes_turn(now);
            router.end_checks(now);
            if self.options.is_fuller && !is_over {
                router.begin_checks(now);
            }
            router.tell_demand(now);
            if reaches {
                for it in std::mem::take(&mut router.burials) {
                    self.zookeeper.bury(&it);
                }
            }
            let asks = now >= router.next_poll && !router.has_left;
            if asks {
                router.next_poll = now + self.options.session / 6 * MS;
                let ask = router.next_ask(now);
                let delay = if self.chance.is(0.03) { 150 } else { 3 };
                self.post(delay, Mail::Ask(id.clone(), ask, now));
            }
            self.gather(&id);
            self.end_if_left(&id);
        }
    }

    fn end_if_left(&mut self, id: &RouterId) {
        let router = &self.routers[id];
        let done = router.has_left && router.requests.is_empty() && router.peers.owes_nothing();
        if done && self.reaches_zookeeper(id) {
            self.zookeeper.bury(id);
            self.end(id);
        }
    }

    /// A router ends.
    fn end(&mut self, id: &RouterId) {
        let router = self.routers.remove(id).expect("it lives");
        self.figures.unproven += router.peers.unproven();
        for number in router.dismantle() {
            self.watch.ended(number);
        }
    }

    /// What a router has done reaches the world.
    pub(super) fn gather(&mut self, id: &RouterId) {
        let Some(router) = self.routers.get_mut(id) else { return };
        for news in std::mem::take(&mut router.news) {
            match news {
                News::Send(to, document) => self.send(id, to, document),
                News::Consent(order, instance, given) => {
                    self.consented(id, order, &instance, given);
                }
                News::Began(number, instance) => self.began(id, number, instance),
                News::Checked(instance) => self.watch.checked(instance, self.now),
                News::Ended(number) => {
                    self.figures.served += 1;
                    self.watch.ended(number);
                }
            }
        }
    }

    fn send(&mut self, from: &RouterId, to: RouterId, document: Box<Document>) {
        // What is sent is what is read.
        let bytes = document.encode();
        self.figures.documents += 1;
        self.figures.bytes += bytes.len() as u64;
        if !self.can_talk(from, &to) || self.chance.is(0.05) {
            return;
        }
        let copies = if self.chance.is(0.03) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = [1, 3, 10, 20, 40][self.chance.below(5)];
            let delay = if self.chance.is(0.02) { 200 } else { delay };
            let document = Document::decode(&bytes).expect("it was just written");
            self.post(delay, Mail::Document(from.clone(), to.clone(), Box::new(document)));
        }
    }

    /// Requests of a router that is out of ZooKeeper and cut from another, or stopped, are excused.
    fn excuse(&mut self, id: &RouterId) {
        let router = &self.routers[id];
        let is_out = !self.zookeeper.is_member(id) && !router.has_left;
        let stopped = self.now < router.stopped;
        let cut = self.routers.keys().any(|it| it != id && !self.can_talk(id, it));
        let now = self.now;
        let router = self.routers.get_mut(id).expect("it lives");
        if is_out && cut {
            // It takes a moment until those who can talk again have.
            router.excused_until = now + 1000 * MS;
        }
        if (is_out && stopped) || router.excused_until >= now {
            router.requests.values_mut().filter(|it| it.seat.is_some()).for_each(|it| {
                it.excused = true;
            });
            self.watch
                .excuse(router.requests.iter().filter(|(_, it)| it.seat.is_some()).map(|it| *it.0));
        }
    }

    fn trouble(&mut self) {
        if self.zookeeper.is_down && self.now >= self.zookeeper_up {
            self.zookeeper.up(self.now);
        }
        let (_, kinds) = KINDS[self.options.kind];
        if self.now < self.next_trouble || kinds.is_empty() {
            return;
        }
        if self.now > self.options.troubled * MS {
            self.next_trouble = u64::MAX;
            return;
        }
        self.next_trouble = self.now + (300 + self.chance.below(6000) as u64) * MS;
        let kind = kinds[self.chance.below(kinds.len())];
        let live: Vec<RouterId> = {
            let live = self.routers.values().filter(|it| !it.is_leaving);
            live.map(|it| it.id.clone()).collect()
        };
        let most = (self.options.troubled * MS).saturating_sub(self.now) / MS;
        let until = self.now + (300 + self.chance.below(9000) as u64).min(most.max(300)) * MS;
        self.befall(kind, &live, until);
    }

    fn befall(&mut self, kind: Trouble, live: &[RouterId], until: u64) {
        let Some(at) = (!live.is_empty()).then(|| self.chance.below(live.len())) else { return };
        let mut victim = live[at].clone();
        if kind == Trouble::Crash && self.chance.is(0.6) {
            // Then it hurts most.
            let leader = self.orders.late_leader().filter(|it| live.contains(it));
            victim = leader.cloned().unwrap_or(victim);
        }
        if kind == Trouble::LinkCut && self.options.is_fuller && self.chance.is(0.6) {
            let deletes = self.orders.deletes().filter(|it| live.contains(it));
            victim = deletes.cloned().unwrap_or(victim);
        }
        self.tell_trouble(kind, &victim, until);
        let router = self.routers.get_mut(&victim).expect("it lives");
        match kind {
            Trouble::Join if live.len() < 6 => self.join(),
            Trouble::Leave if live.len() > 1 => {
                router.is_leaving = true;
                router.peers.leave();
            }
            Trouble::Crash if live.len() > 1 => {
                self.end(&victim);
                if self.chance.is(0.8) {
                    self.join();
                }
            }
            Trouble::Stopped => router.stopped = until,
            Trouble::ZooKeeperCut => router.cut_from_zookeeper = until,
            Trouble::SeveralCut => {
                router.cut_from_zookeeper = until;
                let kills = self.orders.kills().filter(|it| live.contains(it)).cloned();
                for other in kills.chain([live[(at + 1) % live.len()].clone()]) {
                    let router = self.routers.get_mut(&other).expect("it lives");
                    router.cut_from_zookeeper = until;
                }
            }
            Trouble::ZooKeeperDown => {
                self.zookeeper.is_down = true;
                self.zookeeper_up = until;
            }
            Trouble::Isolated => {
                router.cut_from_all = until;
                // The network to ZooKeeper may heal sooner or later than that to the others.
                if self.chance.is(0.5) {
                    router.cut_from_all = until.saturating_sub(400 * MS);
                    router.cut_from_zookeeper = until;
                } else {
                    for it in live.iter().filter(|it| **it != victim) {
                        self.links.insert(pair(it, &victim), until + 400 * MS);
                    }
                }
            }
            Trouble::LinkCut if live.len() > 1 => {
                let other = live[(at + 1 + self.chance.below(live.len() - 1)) % live.len()].clone();
                self.links.insert(pair(&victim, &other), until);
            }
            Trouble::Forgotten if live.len() > 1 => self.forget(&victim, live, until),
            Trouble::Join | Trouble::Leave | Trouble::Crash | Trouble::LinkCut => {}
            Trouble::Forgotten => self.join(),
        }
    }

    /// One router loses ZooKeeper; when that is known, all others end at once, and one comes.
    fn forget(&mut self, victim: &RouterId, live: &[RouterId], until: u64) {
        let router = self.routers.get_mut(victim).expect("it lives");
        if self.now < router.cut_from_zookeeper {
            if self.zookeeper.is_member(victim) {
                return;
            }
            let others: BTreeSet<_> = live.iter().filter(|it| *it != victim).cloned().collect();
            others.iter().for_each(|it| self.end(it));
            self.join();
        } else if live.iter().all(|it| self.now >= self.routers[it].cut_from_zookeeper) {
            let router = self.routers.get_mut(victim).expect("it lives");
            router.cut_from_zookeeper = until.max(self.now + 8000 * MS);
        }
    }
}

fn pair(a: &RouterId, b: &RouterId) -> (RouterId, RouterId) {
    let (a, b) = (a.clone(), b.clone());
    if a < b { (a, b) } else { (b, a) }
}
