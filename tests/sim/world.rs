//! A world: what is due when, who exists, and the letters under way. Rules are the product's own.

use crate::options::{Chance, Options, Planted};
use crate::travel::Connections;
use crate::watch::Watch;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use waiter::base::ids::{ServiceId, ShardId, Ticket};
use waiter::base::limits::Limits;
use waiter::base::time::{Duration, Instant};
use waiter::core::letter::{Letter, Why};
use waiter::core::outcome::Outcome;
use waiter::core::reserver::Reserver;
use waiter::core::service::Description;
use waiter::core::slots::{Instance, Seat, ServiceSlots};
use waiter::core::world::Service;
use waiter::shard::engine::Link;

/// All that can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request arrives somewhere, and the next is due.
    Arrive,
    /// A request has run its time.
    End(u64),
    /// A request is no longer patient; which of its tries.
    Impatient(u64, u32),
    /// A letter arrives.
    Deliver(u64),
    /// A shard learns of a version of a service.
    Adopt(usize, usize, Option<Arc<Service>>),
    /// Rests end at a service's home.
    Tick(usize),
    /// The control thread does something.
    Churn,
    /// The control thread creates a service that was asked for.
    Create(usize, Arc<ServiceSlots>),
    /// The control thread wants an instance locked.
    Lock(usize),
    /// A kill is over: service, instance, whether it is gone.
    KillEnds(usize, Arc<Instance>, bool),
    /// Home hears of that.
    Unlock(usize, Arc<Instance>, bool),
    /// A defective shard swaps after it has looked.
    LateSwap(u64, Arc<Instance>),
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) shard: usize,
    pub(crate) service: usize,
    pub(crate) state: Phase,
    pub(crate) began: u64,
    pub(crate) not: Vec<Arc<Instance>>,
    /// How often it asked for a slot.
    pub(crate) tries: u32,
}

/// Where a request is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its ticket is with home.
    Waiting,
    /// It runs.
    Running(Seat, Link),
}

/// A letter under way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) to: usize,
    pub(crate) letter: Letter,
}

/// A service, as its home and the control thread know it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: ServiceId,
    pub(crate) description: Arc<Description>,
    pub(crate) home: usize,
    /// At home.
    pub(crate) reserver: Option<Reserver>,
    pub(crate) awaited: bool,
    /// What each shard knows.
    pub(crate) views: Vec<Option<Arc<Service>>>,
    /// What the control thread knows.
    pub(crate) control: crate::control::Control,
}

/// What a run cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) served: u64,
    pub(crate) refused: u64,
    pub(crate) impatient: u64,
    pub(crate) travelled: u64,
    pub(crate) waits: Vec<u64>,
    /// ∫ min(requests that wait, slots that are idle) dt, in nanoseconds.
    pub(crate) idle_beside_waiting: f64,
}

/// A world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) chance: Chance,
    pub(crate) now: u64,
    pub(crate) limits: Limits,
    pub(crate) places: Vec<Place>,
    pub(crate) requests: BTreeMap<u64, Request>,
    pub(crate) flights: BTreeMap<u64, Flight>,
    pub(crate) figures: Figures,
    pub(crate) watch: Watch,
    /// Of each shard.
    pub(crate) connections: Vec<Connections>,
    pub(crate) running: u64,
    pub(crate) arrived: u64,
    due: BinaryHeap<Reverse<Due>>,
    order: u64,
    /// When the last letter of each ordered pair arrives; control is the last sender.
    arrivals: Vec<u64>,
}

#[derive(Debug)]
struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl World {
    /// A world with its services, none of whose requests has arrived.
    pub(crate) fn new(options: Options, chance: Chance) -> Self {
        let limits = Limits {
            eject_base: Duration::from_millis(2),
            eject_max: Duration::from_millis(20),
            ..Limits::PRODUCTION
        };
        let mut world = Self {
            arrivals: vec![0; (options.shards + 1) * options.shards],
            chance,
            now: 0,
            limits,
            places: Vec::new(),
            requests: BTreeMap::new(),
            flights: BTreeMap::new(),
            figures: Figures::default(),
            watch: Watch::default(),
            connections: (0..options.shards).map(Connections::new).collect(),
            running: 0,
            arrived: 0,
            due: BinaryHeap::new(),
            order: 0,
            options,
        };
        world.found_services();
        world.at(0, Event::Arrive);
        if world.options.churn.is_some() {
            world.at(0, Event::Churn);
        }
        world
    }

    /// Runs until nothing is due; the invariants hold all the while.
    pub(crate) fn run(&mut self) {
        let budget = 20_000 + 200 * self.options.requests;
        while let Some(Reverse(Due { at, event, .. })) = self.due.pop() {
            self.pass_time(at);
            self.figures.events += 1;
            assert!(self.figures.events < budget, "it never ends: {event:?}");
            self.happen(event);
            if self.options.watched {
                self.check();
            }
        }
        self.check_end();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::End(number) => self.end(number),
            Event::Impatient(number, tries) => self.impatient(number, tries),
            Event::Deliver(order) => {
                let flight = self.flights.remove(&order).expect("it is under way");
                self.read(flight.to, flight.letter);
            }
            Event::Adopt(shard, service, version) => self.adopt(shard, service, version),
            Event::Tick(service) => {
                let now = Instant(self.now);
                self.home(service, |it, replies| it.tick(now, replies));
            }
            Event::Churn => self.churn(),
            Event::Create(service, slots) => self.create(service, Some(slots)),
            Event::Lock(service) => self.lock(service),
            Event::KillEnds(service, instance, gone) => self.kill_ends(service, instance, gone),
            Event::Unlock(service, instance, gone) => {
                self.home(service, |it, replies| it.unlock(instance.suffix(), gone, replies));
            }
            Event::LateSwap(number, instance) => self.late_swap(number, &instance),
        }
    }

    fn pass_time(&mut self, at: u64) {
        let waiting = self.requests.len() as u64 - self.running;
        let slots = (self.options.instances * usize::from(self.options.limit)) as u64;
        let idle = slots.saturating_sub(self.running);
        self.figures.idle_beside_waiting += (at - self.now) as f64 * waiting.min(idle) as f64;
        self.now = at;
    }

    /// Something is due in so many nanoseconds.
    pub(crate) fn at(&mut self, delay: u64, event: Event) {
        self.order += 1;
        self.due.push(Reverse(Due { at: self.now + delay, order: self.order, event }));
    }

    /// Sends a letter from shard to shard: at once to oneself, else by a hop; in order per pair.
    pub(crate) fn send(&mut self, from: usize, to: usize, letter: Letter) {
        if self.is_lost(&letter) {
            std::mem::forget(letter); // dropping a seat would be noticed by the seat itself
            return;
        }
        let delay = if from == to { 0 } else { self.hop(from, to) };
        // What closes connections is no part of what a slot costs.
        let of_slots = !matches!(letter, Letter::CloseIdle(_));
        self.figures.messages += u64::from(from != to && of_slots);
        self.at(delay, Event::Deliver(self.order + 1));
        self.flights.insert(self.order, Flight { to, letter });
    }

    /// The time a letter takes; control is sender number `shards`.
    pub(crate) fn hop(&mut self, from: usize, to: usize) -> u64 {
        let mean = self.options.hop_mean.as_nanos() as f64;
        let hop = (mean * (0.5 + self.chance.share())) as u64;
        let last = &mut self.arrivals[from * self.options.shards + to];
        *last = (self.now + hop).max(*last);
        *last - self.now
    }

    fn is_lost(&mut self, letter: &Letter) -> bool {
        let planted = match letter {
            Letter::Grant(..) => Planted::LostGrant,
            Letter::Settle(..) => Planted::LostSettle,
            _ => return false,
        };
        self.options.planted == Some(planted) && self.chance.is(0.02)
    }

    /// A ticket as its shard writes it.
    pub(crate) fn ticket(&self, number: u64) -> Ticket {
        let shard = u8::try_from(self.requests[&number].shard).expect("few");
        Ticket { shard: ShardId(shard), number }
    }

    /// What a shard is told of a ticket.
    pub(crate) fn read(&mut self, at: usize, letter: Letter) {
        match letter {
            Letter::Claim(claim) => self.claimed(at, claim),
            Letter::Withdraw(id, ticket) => self.withdrawn(&id, ticket),
            Letter::Settle(settle) => self.settled(settle),
            Letter::LookAgain(id) => {
                let service = self.service(&id);
                self.home(service, Reserver::look_again);
            }
            Letter::Grant(ticket, seat) => self.granted(at, ticket, seat),
            Letter::Refuse(ticket, why) => self.refused(ticket, &why),
            Letter::CloseIdle(instance) => self.close_idle(at, &instance),
            Letter::Client(..) => unreachable!("there are no clients here"),
        }
    }

    fn granted(&mut self, at: usize, ticket: Ticket, seat: Seat) {
        match self.requests.get(&ticket.number).map(|it| &it.state) {
            Some(Phase::Waiting) => self.seat(ticket.number, seat),
            Some(Phase::Running(..)) => panic!("{ticket:?} got two answers"),
            None => self.give_back(at, seat, Outcome::Unused),
        }
    }

    fn refused(&mut self, ticket: Ticket, why: &Why) {
        let Some(request) = self.requests.get(&ticket.number) else { return };
        assert!(matches!(request.state, Phase::Waiting), "{ticket:?} got two answers");
        // A service that is gone is resolved again, with the time that is left.
        if *why == Why::Gone && request.tries < 5 {
            self.reserve(ticket.number);
            return;
        }
        self.figures.refused += 1;
        self.finish(ticket.number);
    }

    /// The service of this id.
    pub(crate) fn service(&self, id: &ServiceId) -> usize {
        self.places.iter().position(|it| it.id == *id).expect("only these exist")
    }
}
