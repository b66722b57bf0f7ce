//! What must always hold (design §4), looked at from outside after every event.

use crate::options::Planted;
use crate::world::{Phase, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use waiter::base::ids::Ticket;
use waiter::base::time::Instant;
use waiter::core::letter::{Avoided, Letter};
use waiter::core::slots::{Gate, Instance, Seat, ServiceSlots};
use waiter::core::world::Member;

/// The slow checks are made once in so many events.
const SLOW: u64 = 16;

/// An account of its own of who waits and who holds what.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Every instance there ever was; its suffix is its number.
    pub(crate) instances: Vec<Arc<Instance>>,
    /// Who waits at home, in the order of arrival there.
    queues: BTreeMap<usize, Vec<(Ticket, Avoided)>>,
    /// What was used of each instance after the last event.
    used: Vec<u16>,
    /// Use that a lowered limit has found, and lets fall.
    excess: BTreeMap<usize, u16>,
    alarms: BTreeSet<(usize, u64)>,
}

impl Watch {
    /// Who waits for a service.
    pub(crate) fn queue(&mut self, service: usize) -> &mut Vec<(Ticket, Avoided)> {
        self.queues.entry(service).or_default()
    }

    /// Whether this alarm is new.
    pub(crate) fn alarm(&mut self, service: usize, at: Instant) -> bool {
        self.alarms.insert((service, at.0))
    }

    /// A shard took a slot by itself.
    pub(crate) fn taken_locally(&self, slots: &ServiceSlots, instance: &Instance) {
        assert!(!slots.waiting.any(), "a shard took a slot while somebody waits");
        check_holds(instance);
    }

    /// Home gives a seat.
    pub(crate) fn granted(
        &mut self,
        service: usize,
        ticket: Ticket,
        seat: &Seat,
        slots: &ServiceSlots,
    ) {
        check_holds(seat.instance());
        assert!(std::ptr::eq(&**seat.slots(), slots), "the seat of a former life is passed on");
        let queue = self.queue(service);
        let at = queue.iter().position(|(it, _)| *it == ticket);
        let at = at.expect("an answer goes to a ticket that waits");
        for (earlier, not) in &queue[..at] {
            let passed_over = slots.accepts(seat.instance(), not);
            assert!(!passed_over, "{earlier:?} came before {ticket:?} and would have taken it");
        }
        let (_, not) = queue.remove(at);
        let same = |it: &Arc<Instance>| Arc::ptr_eq(it, seat.instance());
        let serves = slots.roster().instances().iter().any(same);
        let fits = serves && slots.accepts(seat.instance(), &not);
        assert!(fits, "{ticket:?} gets what does not serve, or what it avoids");
    }

    /// Home gives no seat.
    pub(crate) fn refused(&mut self, service: usize, ticket: Ticket) {
        let queue = self.queue(service);
        let at = queue.iter().position(|(it, _)| *it == ticket);
        queue.remove(at.expect("an answer goes to a ticket that waits"));
    }

    /// Home has set a limit.
    pub(crate) fn limit_changed(&mut self, instance: &Instance) {
        let (used, limit) = (instance.word.used(), instance.word.limit());
        if used > limit {
            self.excess.insert(number(instance), used);
        }
    }
}

impl World {
    /// The invariants.
    pub(crate) fn check(&mut self) {
        self.check_words();
        for service in 0..self.places.len() {
            self.check_queue(service);
        }
        let late_swaps = self.options.planted == Some(Planted::GateBeforeSwap);
        if self.figures.events.is_multiple_of(SLOW) && !late_swaps {
            self.check_tickets();
            self.check_connections();
        }
    }

    /// `used` is what runs and what is in a message; it grows only through an open gate, and never
    /// above the limit.
    fn check_words(&mut self) {
        let held = self.held();
        let watch = &mut self.watch;
        watch.used.resize(watch.instances.len(), 0);
        for (number, instance) in watch.instances.iter().enumerate() {
            let (used, limit) = (instance.word.used(), instance.word.limit());
            let before = std::mem::replace(&mut watch.used[number], used);
            let excess = watch.excess.get(&number).copied().unwrap_or(0);
            if excess > 0 {
                watch.excess.insert(number, excess.min(used));
            }
            let held = held.get(&number).copied().unwrap_or(0);
            assert_eq!(used, held, "instance {number}: used is not running + in a message");
            assert!(used <= limit.max(excess), "instance {number}: {used} used of {limit}");
            let open = instance.word.is_open();
            assert!(used <= before || open, "instance {number}: taken through a closed gate");
        }
    }

    /// Slots that are held: by requests that run, and by letters.
    fn held(&self) -> BTreeMap<usize, u16> {
        let running = self.requests.values().filter_map(|it| match &it.state {
            Phase::Running(seat, _) => Some(seat),
            Phase::Waiting => None,
        });
        let under_way = self.flights.values().filter_map(|it| match &it.letter {
            Letter::Grant(_, seat) => Some(seat),
            Letter::Settle(settle) => Some(&settle.seat),
            _ => None,
        });
        let mut held = BTreeMap::new();
        for seat in running.chain(under_way) {
            *held.entry(number(seat.instance())).or_default() += 1;
        }
        held
    }

    /// Home's queue is ours, its length is what all shards read, and nobody in it waits beside a
    /// slot he may have, unless home is about to hear of it.
    fn check_queue(&mut self, service: usize) {
        let place = &self.places[service];
        let queue = self.watch.queues.get(&service).map_or(&[][..], Vec::as_slice);
        let Some(reserver) = &place.reserver else {
            assert!(queue.is_empty(), "nobody keeps the queue");
            return;
        };
        let slots = reserver.slots();
        assert_eq!(reserver.waiting(), queue.len(), "home's queue");
        assert_eq!(slots.waiting.count() as usize, queue.len(), "what shards read of the queue");
        if queue.is_empty() || place.control.is_under_way() {
            return;
        }
        let roster = slots.roster();
        let free: Vec<_> = roster.instances().iter().filter(|it| it.word.has_room()).collect();
        let beside = queue.iter().find(|(_, not)| free.iter().any(|it| slots.accepts(it, not)));
        if let Some((ticket, _)) = beside {
            let told = self.flights.values().any(|it| match &it.letter {
                Letter::LookAgain(id) => *id == place.id,
                // It may close a gate, and so leave an avoided instance as the only one.
                Letter::Settle(it) => *it.seat.service() == place.id && it.outcome.is_failure(),
                _ => false,
            });
            assert!(told, "{ticket:?} waits beside a free slot");
        }
    }

    /// Every request that waits has its ticket in a queue, or in a letter.
    fn check_tickets(&self) {
        let under_way = self.flights.values().filter_map(|it| match &it.letter {
            Letter::Claim(claim) => Some(claim.ticket),
            Letter::Grant(ticket, _) | Letter::Refuse(ticket, _) => Some(*ticket),
            _ => None,
        });
        let queued = self.watch.queues.values().flatten().map(|(ticket, _)| *ticket);
        let known: BTreeSet<u64> = under_way.chain(queued).map(|it| it.number).collect();
        for (number, request) in &self.requests {
            let waits = matches!(request.state, Phase::Waiting);
            assert!(!waits || known.contains(number), "request {number} is forgotten");
        }
    }

    /// Nothing is due any more: all has been drained.
    pub(crate) fn check_end(&mut self) {
        self.check_words();
        self.check_crowds();
        assert!(self.requests.is_empty(), "{} requests never ended", self.requests.len());
        assert!(self.flights.is_empty(), "letters are left");
        for instance in &self.watch.instances {
            assert_eq!(instance.word.used(), 0, "a slot is lost");
            let same = |it: &Member| Arc::ptr_eq(&it.instance, instance);
            let listed = self.places.iter().any(|it| it.control.members().iter().any(same));
            let retired = instance.word.is(Gate::Retired);
            assert!(listed || retired, "{} left and is open", instance.suffix());
        }
        for place in &self.places {
            let waiting = place.control.slots.as_ref().map_or(0, |it| it.waiting.count());
            assert_eq!(waiting, 0, "shards believe that somebody waits");
            for member in place.control.members() {
                for gate in [Gate::Ejected, Gate::Locked, Gate::Retired] {
                    let closed = member.instance.word.is(gate);
                    assert!(!closed, "{} stays {gate:?} for ever", member.instance.suffix());
                }
            }
        }
        assert!(self.watch.queues.values().all(Vec::is_empty), "somebody waits for ever");
    }
}

/// What must hold of an instance when somebody gets a slot of it.
fn check_holds(instance: &Instance) {
    assert!(instance.word.is_open(), "a slot is given out through a closed gate");
    let (used, limit) = (instance.word.used(), instance.word.limit());
    assert!((1..=limit).contains(&used), "a slot is given out with {used} used of {limit}");
}

fn number(instance: &Instance) -> usize {
    instance.suffix().parse().expect("suffixes are numbers here")
}
