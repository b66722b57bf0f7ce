//! The pretended shells: what `shard::effects` and `shard::desk` do around the rules.

use crate::options::Planted;
use crate::world::{Event, Phase, Request, World};
use std::sync::Arc;
use waiter::base::ids::{ServiceId, ShardId, Ticket};
use waiter::base::time::Instant;
use waiter::core::letter::{Asker, Claim, Letter, Settle, Why};
use waiter::core::outcome::Outcome;
use waiter::core::reserver::{Reply, Reserver};
use waiter::core::slots::{Gate, Instance, Put, Seat, ServiceSlots};
use waiter::core::world::Service;

/// A shard as the rules name it.
pub(crate) fn shard_id(shard: usize) -> ShardId {
    ShardId(u8::try_from(shard).expect("few"))
}

/// A request's life on its shard.
impl World {
    pub(crate) fn arrive(&mut self) {
        let service = self.chance.below(self.places.len());
        let shard = match self.options.lone {
            true => (self.places[service].home + 1) % self.options.shards,
            false => self.chance.below(self.options.shards),
        };
        let number = self.arrived;
        self.arrived += 1;
        let state = Phase::Waiting;
        let request = Request { shard, service, state, began: self.now, not: Vec::new(), tries: 0 };
        self.requests.insert(number, request);
        self.reserve(number);
        if !self.options.lone {
            self.next_arrival(self.options.gap_ns());
        }
    }

    fn next_arrival(&mut self, mean_ns: f64) {
        if self.arrived < self.options.requests {
            let gap = self.chance.exponential(mean_ns);
            self.at(gap, Event::Arrive);
        }
    }

    /// A slot at once if nobody waits and one is free; else a claim at home.
    pub(crate) fn reserve(&mut self, number: u64) {
        let salt = self.chance.number();
        let request = self.requests.get_mut(&number).expect("it exists");
        request.tries += 1;
        let shard = request.shard;
        let place = &self.places[request.service];
        if let Some(service) = &place.views[shard]
            && (!service.slots.waiting.any() || self.options.planted == Some(Planted::TakeBlindly))
        {
            let slots = service.slots.clone();
            if self.options.planted == Some(Planted::GateBeforeSwap) {
                return self.look_then_swap(number, &slots);
            }
            if let Some(instance) = slots.take(shard_id(shard), &request.not, salt) {
                self.watch.taken_locally(&slots, &instance);
                let seat = Seat::new(place.id.clone(), instance, slots);
                self.seat(number, seat);
                return;
            }
        }
        self.claim(number);
    }

    fn claim(&mut self, number: u64) {
        let ticket = self.ticket(number);
        let request = &self.requests[&number];
        let (shard, tries) = (request.shard, request.tries);
        let place = &self.places[request.service];
        let known = place.views[request.shard].is_some();
        let claim = Claim {
            ticket,
            service: place.id.clone(),
            description: (!known).then(|| place.description.clone()),
            not: request.not.clone(),
            since: Instant(self.now),
            asker: Asker::Request,
        };
        self.send(shard, place.home, Letter::Claim(claim));
        if let Some(patience) = self.options.patience {
            self.at(patience.as_nanos() as u64, Event::Impatient(number, tries));
        }
    }

    fn look_then_swap(&mut self, number: u64, slots: &Arc<ServiceSlots>) {
        let roster = slots.roster();
        match roster.instances().iter().find(|it| it.word.has_room()) {
            Some(instance) => self.at(50_000, Event::LateSwap(number, instance.clone())),
            None => self.claim(number),
        }
    }

    /// The planted defect: room is looked at in the swap, gates are not.
    pub(crate) fn late_swap(&mut self, number: u64, instance: &Arc<Instance>) {
        let closed: Vec<Gate> = [Gate::Ejected, Gate::Locked, Gate::Retired]
            .into_iter()
            .filter(|it| instance.word.is(*it))
            .collect();
        closed.iter().for_each(|it| instance.word.open(*it));
        let taken = instance.word.take();
        closed.iter().for_each(|it| instance.word.close(*it));
        let place = &self.places[self.requests[&number].service];
        match place.control.slots.clone().filter(|_| taken) {
            Some(slots) => {
                let seat = Seat::new(place.id.clone(), instance.clone(), slots);
                self.seat(number, seat);
            }
            None if taken => instance.word.release(),
            None => self.claim(number),
        }
    }

    /// A request begins to run.
    pub(crate) fn seat(&mut self, number: u64, mut seat: Seat) {
        let link = self.open(self.requests[&number].shard, &mut seat);
        let request = self.requests.get_mut(&number).expect("it waits");
        request.state = Phase::Running(seat, link);
        self.figures.waits.push(self.now - request.began);
        self.running += 1;
        let work = self.chance.work(self.options.work, self.options.work_mean);
        self.at(work, Event::End(number));
    }

    /// A request's time on its instance is over, one way or another.
    pub(crate) fn end(&mut self, number: u64) {
        let fate = self.chance.share();
        let options = &self.options;
        let outcome = match fate {
            it if it < options.errors => Outcome::InstanceError,
            it if it < options.errors + options.busy => Outcome::InstanceBusy,
            it if it < options.errors + options.busy + options.gone => Outcome::ClientGone,
            _ => Outcome::Success,
        };
        let request = self.requests.get_mut(&number).expect("it runs");
        let Phase::Running(seat, link) = std::mem::replace(&mut request.state, Phase::Waiting)
        else {
            panic!("it runs");
        };
        self.running -= 1;
        let (shard, instance) = (request.shard, seat.instance().clone());
        // Half of the failures are connections that do not open: another instance is tried, once.
        let again =
            outcome == Outcome::InstanceError && request.not.is_empty() && self.chance.is(0.5);
        let reusable = outcome == Outcome::Success && self.chance.is(0.8);
        self.keep_or_close(shard, link, reusable);
        self.give_back(shard, seat, outcome);
        if again {
            self.requests.get_mut(&number).expect("it goes on").not.push(instance);
            self.reserve(number);
        } else {
            self.figures.served += 1;
            self.finish(number);
        }
    }

    /// The one exit.
    pub(crate) fn finish(&mut self, number: u64) {
        let request = self.requests.remove(&number).expect("it ends once");
        assert!(matches!(request.state, Phase::Waiting), "its seat was given back");
        if self.options.lone {
            self.next_arrival(1000.0);
        }
    }

    pub(crate) fn impatient(&mut self, number: u64, tries: u32) {
        let Some(request) = self.requests.get(&number) else { return };
        if request.tries != tries || !matches!(request.state, Phase::Waiting) {
            return;
        }
        let place = &self.places[request.service];
        let letter = Letter::Withdraw(place.id.clone(), self.ticket(number));
        self.send(request.shard, place.home, letter);
        self.figures.impatient += 1;
        self.finish(number);
    }

    /// Gives a slot back; home hears of it if it must.
    pub(crate) fn give_back(&mut self, shard: usize, seat: Seat, outcome: Outcome) {
        let id = seat.service().clone();
        let home = self.places[self.service(&id)].home;
        if outcome == Outcome::InstanceError {
            seat.instance().word.close(Gate::Ejected);
        }
        if outcome.is_failure() {
            return self.send(shard, home, Letter::Settle(Settle { seat, outcome }));
        }
        if self.options.planted == Some(Planted::PutBlindly) {
            return seat.release();
        }
        match seat.put() {
            Put::Free => {}
            Put::PassOn(mut seat) => {
                if home != shard && seat.slots().waiting.any() {
                    self.send_along(shard, &mut seat);
                }
                self.send(shard, home, Letter::Settle(Settle { seat, outcome }));
            }
            Put::LookAgain => self.send(shard, home, Letter::LookAgain(id)),
        }
    }
}

/// The desk of a home shard.
impl World {
    pub(crate) fn claimed(&mut self, at: usize, claim: Claim) {
        let service = self.service(&claim.service);
        let place = &mut self.places[service];
        assert!(place.home == at, "a letter came to the wrong home");
        if place.views[at].is_none() {
            place.awaited |= claim.description.is_some();
            if !place.awaited {
                let to = usize::from(claim.ticket.shard.0);
                return self.send(at, to, Letter::Refuse(claim.ticket, Why::Gone));
            }
        }
        self.watch.queue(service).push((claim.ticket, claim.not.clone()));
        self.home(service, |it, replies| it.claim(claim, replies));
    }

    pub(crate) fn withdrawn(&mut self, id: &ServiceId, ticket: Ticket) {
        let service = self.service(id);
        let queue = self.watch.queue(service);
        let found = queue.iter().position(|(it, _)| *it == ticket);
        let mut victim = ticket;
        if self.options.planted == Some(Planted::WithdrawByShard)
            && let Some((last, _)) = queue.iter().rfind(|(it, _)| it.shard == ticket.shard)
        {
            victim = *last;
        }
        if let Some(at) = found {
            queue.remove(at);
        }
        if let Some(reserver) = &mut self.places[service].reserver {
            reserver.withdraw(victim);
        }
    }

    pub(crate) fn settled(&mut self, settle: Settle) {
        let service = self.service(settle.seat.service());
        let (limits, now) = (self.limits.clone(), Instant(self.now));
        self.home(service, |it, replies| it.settle(settle, &limits, now, replies));
    }

    pub(crate) fn adopt(&mut self, shard: usize, service: usize, version: Option<Arc<Service>>) {
        let place = &mut self.places[service];
        if place.home != shard {
            place.views[shard] = version;
            return self.close_orphans(shard);
        }
        place.control.adopted_at_home();
        place.awaited &= version.is_none();
        self.set_limits(service);
        // A reserver that is made now knows the version before.
        self.home(service, |it, replies| it.adopt(version.as_ref(), replies));
        self.places[service].views[shard] = version;
        self.close_orphans(shard);
    }

    pub(crate) fn lock(&mut self, service: usize) {
        let mut locked = None;
        self.home(service, |it, _| locked = it.lock_for_kill());
        let Some(instance) = locked else { return };
        assert_eq!(instance.word.used(), 0, "an instance in use was locked");
        let (delay, gone) = (self.chance.exponential(3e6), self.chance.is(0.6));
        self.at(delay, Event::KillEnds(service, instance, gone));
    }

    /// Lets the reserver of a service hear of something, and posts its replies.
    pub(crate) fn home(
        &mut self,
        service: usize,
        act: impl FnOnce(&mut Reserver, &mut Vec<Reply>),
    ) {
        let place = &mut self.places[service];
        let home = place.home;
        let mut reserver = place.reserver.take().unwrap_or_else(|| {
            Reserver::new(place.id.clone(), place.views[home].clone(), shard_id(home))
        });
        let mut replies = Vec::new();
        act(&mut reserver, &mut replies);
        let slots = reserver.slots().clone();
        for reply in replies {
            match reply {
                Reply::Grant(ticket, mut seat) => {
                    self.watch.granted(service, ticket, &seat, &slots);
                    let to = usize::from(ticket.shard.0);
                    if to != home {
                        self.send_along(home, &mut seat);
                    }
                    self.send(home, to, Letter::Grant(ticket, seat));
                }
                Reply::Refuse(ticket, why) => {
                    self.watch.refused(service, ticket);
                    self.send(home, usize::from(ticket.shard.0), Letter::Refuse(ticket, why));
                }
                Reply::Create => {
                    let delay = self.chance.exponential(1e6);
                    self.at(delay, Event::Create(service, slots.clone()));
                }
                Reply::Urgent | Reply::Failures(..) => {}
            }
        }
        if let Some(at) = reserver.wakeup() {
            self.wake(service, at);
        }
        let idle = reserver.is_idle();
        self.places[service].reserver = (!idle).then_some(reserver);
    }

    fn wake(&mut self, service: usize, at: Instant) {
        if self.watch.alarm(service, at) {
            self.at(at.0.saturating_sub(self.now), Event::Tick(service));
        }
    }
}
