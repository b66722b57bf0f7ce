//! A router: one shard with real reservers and words, the real peers, and a pretended shell.

use super::MS;
use super::options::{LATE, Options};
use super::zookeeper::{Answer, Ask};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use waiter::base::ids::{InstanceId, RouterId, ServiceId, ShardId, Ticket};
use waiter::base::limits::Limits;
use waiter::base::time::{Date, Duration, Instant};
use waiter::core::letter::{Asker, Claim, Settle};
use waiter::core::outcome::Outcome;
use waiter::core::peers::{Division, Document, Effect, Lease, Peers, Rules, Settings};
use waiter::core::reserver::{Reply, Reserver};
use waiter::core::service::{Description, LoadBalancing};
use waiter::core::slots::{Instance, Put, Roster, Seat, ServiceSlots};
use waiter::core::world::{Member, Service};

/// Tickets of the machine, as against those of requests.
const PEERS: ShardId = ShardId(1);

/// Time between two checks of an instance, and how long one takes, in milliseconds.
const CHECK_EVERY: u64 = 400;
const CHECK: u64 = 10;

/// A service here.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: ServiceId,
    description: Arc<Description>,
    pub(super) slots: Arc<ServiceSlots>,
    reserver: Reserver,
    pub(super) instances: BTreeMap<InstanceId, Arc<Instance>>,
    /// A version that home has not looked at yet.
    version: Option<Arc<Service>>,
}

/// A request here.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) service: usize,
    pub(super) since: u64,
    pub(super) work: u64,
    pub(super) seat: Option<(Seat, InstanceId, u64)>,
    /// It was in flight, or started, while its router was where the design excuses it.
    pub(super) excused: bool,
}

/// How far the shell is with a service that is to be closed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Closing {
    /// Home is asked at that time.
    Ask(u64),
    /// The answer of home arrives at that time.
    Answered(u64, bool),
}

/// What a router's act means to the world.
#[derive(Debug)]
pub(super) enum News {
    Send(RouterId, Box<Document>),
    Consent(u64, InstanceId, bool),
    Began(u64, InstanceId),
    Ended(u64),
    /// An instance is checked.
    Checked(InstanceId),
}

/// A router.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) id: RouterId,
    pub(super) peers: Peers,
    pub(super) places: Vec<Place>,
    pub(super) requests: BTreeMap<u64, Request>,
    pub(super) lease: Lease,
    pub(super) is_registered: bool,
    /// When it came.
    pub(super) since: u64,
    pub(super) is_leaving: bool,
    pub(super) has_left: bool,
    pub(super) next_poll: u64,
    /// Stopped by the kernel, cut from ZooKeeper, cut from everybody, until then.
    pub(super) stopped: u64,
    pub(super) cut_from_zookeeper: u64,
    pub(super) cut_from_all: u64,
    pub(super) excused_until: u64,
    pub(super) burials: BTreeSet<RouterId>,
    /// Services that somebody wants to delete: what home is asked, or what it has answered.
    pub(super) closing: BTreeMap<ServiceId, Closing>,
    pub(super) news: Vec<News>,
    /// When an instance is checked next, and the slots in which some are checked now.
    next_checks: BTreeMap<InstanceId, u64>,
    checks: Vec<(Seat, u64)>,
    session: u64,
    limits: Limits,
}

impl Place {
    pub(super) fn demand(&self) -> (u32, Option<Instant>) {
        self.reserver.demand()
    }
}

impl Router {
    pub(super) fn new(id: RouterId, options: &Options, now: u64) -> Self {
        let settings = Settings {
            isolated: options.isolated,
            idle_keep: Duration::from_millis(700),
            ahead_every: Duration::from_millis(200),
            lock_hold: Duration::from_millis(LATE),
            lock_linger: Duration::ZERO,
            ..Settings::new(Duration::from_millis(options.session))
        };
        let rules = options.without.map_or(Rules::ALL, Rules::without);
        let peers = Peers::with_rules(id.clone(), settings, rules, Instant(now));
        Self {
            id,
            peers,
            places: Vec::new(),
            requests: BTreeMap::new(),
            lease: Lease::new(1),
            is_registered: false,
            since: now,
            is_leaving: false,
            has_left: false,
            next_poll: now,
            stopped: 0,
            cut_from_zookeeper: 0,
            cut_from_all: 0,
            excused_until: 0,
            burials: BTreeSet::new(),
            closing: BTreeMap::new(),
            news: Vec::new(),
            next_checks: BTreeMap::new(),
            checks: Vec::new(),
            session: options.session,
            limits: Limits::PRODUCTION,
        }
    }

    /// A listing: a service has these instances.
    pub(super) fn list(
        &mut self,
        at: usize,
        (id, limit): (&ServiceId, u16),
        ids: &[InstanceId],
        options: &Options,
        now: u64,
    ) {
        if self.places.len() <= at {
            let slots = Arc::<ServiceSlots>::default();
            self.places.push(Place {
                id: id.clone(),
                description: Arc::new(waiter::core::service::testing::description(id.as_str())),
                slots,
                reserver: Reserver::new(id.clone(), None, ShardId(0)),
                instances: BTreeMap::new(),
                version: None,
            });
        }
        let place = &mut self.places[at];
        place.instances.retain(|it, _| ids.contains(it));
        for it in ids {
            place.instances.entry(it.clone()).or_insert_with(|| {
                let address = "10.0.0.1:80".parse().expect("an address");
                Arc::new(Instance::new(it.suffix(), address, Date(1), 0))
            });
        }
        let instances: Vec<_> = place.instances.values().cloned().collect();
        let roster = Roster::new(instances.clone(), instances.len(), LoadBalancing::Oldest);
        place.slots.publish(Arc::new(roster));
        let version = Arc::new(Service {
            description: place.description.clone(),
            slots: place.slots.clone(),
            members: instances.iter().map(|it| listed(it.clone())).collect(),
            deployment_error: None,
        });
        let division = Division {
            slots: place.slots.clone(),
            concurrency: limit,
            balanced: options.balanced,
            instances,
        };
        let id = place.id.clone();
        self.peers.service(&id, &division, Instant(now));
        self.places[at].version = Some(version);
    }

    /// Homes look at what is new, and close what is to be closed.
    pub(super) fn homes_turn(&mut self, now: u64) {
        for at in 0..self.places.len() {
            if let Some(version) = self.places[at].version.take() {
                self.home(at, now, |it, replies| it.adopt(Some(&version), replies));
            }
        }
        let closing = self.closing.clone();
        for (service, state) in closing {
            let next = match state {
                Closing::Ask(when) if when <= now => {
                    let at = self.at(&service);
                    // The answer takes a while, in which more may happen.
                    Closing::Answered(now + 10 * MS, self.places[at].reserver.lock_all())
                }
                Closing::Answered(when, locked) if when <= now => {
                    if locked {
                        self.peers.closed(&service);
                    }
                    Closing::Ask(now + 90 * MS)
                }
                Closing::Ask(_) | Closing::Answered(..) => continue,
            };
            self.closing.insert(service, next);
        }
    }

    /// Checks that were begun come to their end.
    pub(super) fn end_checks(&mut self, now: u64) {
        let over = self.checks.extract_if(.., |(_, end)| *end <= now);
        let over: Vec<Seat> = over.map(|(seat, _)| seat).collect();
        for seat in over {
            let (at, slots) = (self.at(seat.service()), seat.slots().clone());
            seat.release();
            if slots.waiting.any() {
                self.home(at, now, Reserver::look_again);
            }
        }
    }

    /// Checks what this router owns, where there is a slot for it.
    pub(super) fn begin_checks(&mut self, now: u64) {
        let mut due = Vec::new();
        for place in &self.places {
            for (id, it) in place.instances.iter().filter(|(id, _)| self.peers.checks(id)) {
                let next = self.next_checks.entry(id.clone()).or_insert(now);
                if *next <= now {
                    *next = now + CHECK_EVERY * MS;
                    due.push((id.clone(), it.clone(), place.id.clone(), place.slots.clone()));
                }
            }
        }
        for (id, instance, service, slots) in due {
            if instance.word.take() {
                self.check(Seat::new(service, instance, slots), now);
            } else {
                self.peers.unchecked(&id);
            }
        }
    }

    fn check(&mut self, seat: Seat, now: u64) {
        self.news.push(News::Checked(seat.instance().id(seat.service())));
        self.checks.push((seat, now + CHECK * MS));
    }

    /// A request arrives.
    pub(super) fn arrive(&mut self, number: u64, service: usize, work: u64, now: u64) {
        let request = Request { service, since: now, work, seat: None, excused: false };
        self.requests.insert(number, request);
        let place = &self.places[service];
        let free = !place.slots.waiting.any();
        if let Some(instance) = free.then(|| place.slots.take(ShardId(0), &[], 0)).flatten() {
            let seat = Seat::new(place.id.clone(), instance, place.slots.clone());
            self.begin(number, seat, now);
            return;
        }
        let claim = Claim {
            ticket: Ticket { shard: ShardId(0), number },
            service: place.id.clone(),
            description: None,
            not: Vec::new(),
            since: Instant(now),
            asker: Asker::Request,
        };
        self.home(service, now, |it, replies| it.claim(claim, replies));
    }

    fn begin(&mut self, number: u64, seat: Seat, now: u64) {
        let request = self.requests.get_mut(&number).expect("it waits");
        let id = seat.instance().id(seat.service());
        request.seat = Some((seat, id.clone(), now + request.work * MS));
        request.excused = self.excused_until >= now;
        self.news.push(News::Began(number, id));
    }

    /// Requests that have run their time end; those that waited too long give up.
    pub(super) fn end_requests(&mut self, patience: u64, now: u64) -> u64 {
        let over = |it: &Request| match &it.seat {
            Some((_, _, end)) => *end <= now,
            None => now - it.since > patience * MS,
        };
        let ended: Vec<u64> =
            self.requests.iter().filter(|(_, it)| over(it)).map(|(number, _)| *number).collect();
        let mut gave_up = 0;
        for number in ended {
            // An end may have served somebody who was about to give up.
            if !over(&self.requests[&number]) {
                continue;
            }
            let request = self.requests.remove(&number).expect("it was just listed");
            match request.seat {
                Some((seat, ..)) => {
                    self.news.push(News::Ended(number));
                    self.put(request.service, seat, now);
                }
                None => {
                    gave_up += 1;
                    let ticket = Ticket { shard: ShardId(0), number };
                    self.home(request.service, now, |it, _| it.withdraw(ticket));
                }
            }
        }
        gave_up
    }

    fn put(&mut self, service: usize, seat: Seat, now: u64) {
        match seat.put() {
            Put::Free => {}
            Put::LookAgain => self.home(service, now, Reserver::look_again),
            Put::PassOn(seat) => self.settle(service, seat, Outcome::Success, now),
        }
    }

    fn settle(&mut self, service: usize, seat: Seat, outcome: Outcome, now: u64) {
        let limits = self.limits.clone();
        let settle = Settle { seat, outcome };
        self.home(service, now, |it, replies| it.settle(settle, &limits, Instant(now), replies));
    }

    /// Lets the home reserver hear of something, and does what it replies.
    fn home(&mut self, at: usize, now: u64, act: impl FnOnce(&mut Reserver, &mut Vec<Reply>)) {
        let mut replies = Vec::new();
        act(&mut self.places[at].reserver, &mut replies);
        for reply in replies {
            match reply {
                Reply::Grant(ticket, seat) if ticket.shard == PEERS => {
                    self.tell(now, |it, effects| {
                        it.granted(ticket.number, seat, Instant(now), effects);
                    });
                }
                Reply::Grant(ticket, seat) => self.begin(ticket.number, seat, now),
                Reply::Refuse(ticket, _) if ticket.shard == PEERS => {
                    self.peers.refused(ticket.number);
                }
                Reply::Refuse(ticket, why) => panic!("{ticket:?} is refused: {why:?}"),
                Reply::Create | Reply::Urgent | Reply::Failures(..) => {}
            }
        }
    }

    /// Lets the machine hear of something, and does what it wants.
    pub(super) fn tell(&mut self, now: u64, act: impl FnOnce(&mut Peers, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        act(&mut self.peers, &mut effects);
        for effect in effects {
            self.carry_out(effect, now);
        }
    }

    fn carry_out(&mut self, effect: Effect, now: u64) {
        match effect {
            Effect::Send(to, document) => self.news.push(News::Send(to, document)),
            Effect::Claim(number, service, since) => {
                let claim = Claim {
                    ticket: Ticket { shard: PEERS, number },
                    service: service.clone(),
                    description: None,
                    not: Vec::new(),
                    since,
                    asker: Asker::Router,
                };
                self.home(self.at(&service), now, |it, replies| it.claim(claim, replies));
            }
            Effect::Withdraw(number, service) => {
                let ticket = Ticket { shard: PEERS, number };
                self.home(self.at(&service), now, |it, _| it.withdraw(ticket));
            }
            Effect::Settle(seat) => {
                self.settle(self.at(seat.service()), seat, Outcome::Unused, now);
            }
            Effect::LookAgain(service) => {
                let at = self.at(&service);
                let place = &self.places[at];
                place.instances.values().for_each(|it| {
                    place.slots.hint(it);
                });
                self.home(at, now, Reserver::look_again);
            }
            Effect::Lock(service, instance) => {
                let at = self.at(&service);
                let locked = self.places[at].reserver.lock(instance.suffix());
                self.tell(now, |it, effects| it.locked(&instance, locked, effects));
            }
            Effect::Unlock(service, instance, gone) => {
                let suffix = instance.suffix();
                self.home(self.at(&service), now, |it, replies| it.unlock(suffix, gone, replies));
            }
            Effect::Consent(order, instance, given) => {
                self.news.push(News::Consent(order, instance, given));
            }
            Effect::Bury(router) => {
                self.burials.insert(router);
            }
            Effect::Close(service) => {
                self.closing.insert(service, Closing::Ask(now));
            }
            Effect::Reopen(service) => {
                self.closing.remove(&service);
                self.home(self.at(&service), now, Reserver::unlock_all);
            }
            Effect::Check(seat) => self.check(seat, now),
            Effect::Spare(_) => {}
        }
    }

    fn at(&self, service: &ServiceId) -> usize {
        self.places.iter().position(|it| it.id == *service).expect("only these exist")
    }

    /// Tells the machine who waits.
    pub(super) fn tell_demand(&mut self, now: u64) {
        for place in &self.places {
            self.peers.demand(&place.id, place.reserver.demand(), Instant(now));
        }
    }

    /// ZooKeeper answers a question that was asked then.
    pub(super) fn answered(&mut self, ask: Ask, answer: &Answer, began: u64, now: u64) {
        match answer {
            Answer::Expired => {
                self.is_registered = false;
                self.lease.lost();
                self.next_poll = now;
            }
            Answer::Seen(view, is_first) => {
                if ask == Ask::Leave {
                    self.has_left = true;
                }
                if ask == Ask::Register {
                    self.is_registered = true;
                    self.lease.granted(Duration::from_millis(self.session));
                }
                self.lease.round_trip(Instant(began), *is_first && ask != Ask::Leave);
                self.peers.zookeeper(view, Instant(began), Instant(now));
            }
        }
    }

    /// What the shell asks of ZooKeeper next.
    pub(super) fn next_ask(&mut self, now: u64) -> Ask {
        if self.is_leaving {
            self.lease.lost();
            return Ask::Leave;
        }
        if self.is_registered {
            return Ask::Poll;
        }
        self.peers.registering(Instant(now));
        Ask::Register
    }

    /// The process ends: whatever it holds is gone with it.
    pub(super) fn dismantle(mut self) -> Vec<u64> {
        let numbers = self.requests.keys().copied().collect();
        for (_, request) in std::mem::take(&mut self.requests) {
            if let Some((seat, ..)) = request.seat {
                seat.release();
            }
        }
        self.checks.into_iter().for_each(|(seat, _)| seat.release());
        self.peers.into_seats().for_each(Seat::release);
        numbers
    }
}

fn listed(instance: Arc<Instance>) -> Member {
    Member { instance, healthy: true, expired: false, starting: false }
}
