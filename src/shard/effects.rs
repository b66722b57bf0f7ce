//! Carrying out what exchanges want.

use crate::base::time::Instant;
use crate::core::letter::{Asker, Claim, Letter, Settle, Why};
use crate::core::outcome::Outcome;
use crate::core::pulse::Spent;
use crate::core::slots::{Gate, Instance, Put, Seat};
use crate::exchange::{Effect, Effects, Event, Exchange, Side};
use crate::mesh::panics::guarded;
use crate::shard::engine::{Engine, Link, Shut};
use crate::shard::state::{ExchangeKey, Pending, Role, Shard, State};
use crate::wire::call::{Answer, Call};
use crate::wire::codec::{Cause, Close, Part, Stream};
use crate::wire::http1;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;

/// Exchanges kept for reuse.
const SPARE_MAX: usize = 1024;

impl<E: Engine> Shard<E> {
    /// Tells an exchange what happened; its effects are queued.
    pub(super) fn tell(&mut self, key: ExchangeKey, event: Event<'_>) {
        self.attempt(key, |exchange, now, effects| exchange.on(event, now, effects));
    }

    /// Lets an exchange act; if it panics, its connections close and nothing else.
    pub(super) fn attempt(
        &mut self,
        key: ExchangeKey,
        act: impl FnOnce(&mut Exchange, Instant, &mut Effects),
    ) {
        let Some(served) = self.exchanges.get_mut(key) else { return };
        let before = self.effects.len();
        let (now, effects) = (self.now, &mut self.effects);
        let exchange = &mut served.exchange;
        let told = guarded(|| act(exchange, now, effects));
        if told.is_err() {
            tracing::error!("an exchange panicked; its connections are closed");
            self.effects.truncate(before);
            self.abandon(key);
            return;
        }
        self.queue_effects(key);
    }

    pub(super) fn queue_effects(&mut self, key: ExchangeKey) {
        for effect in self.effects.drain(..) {
            self.todo.push_back((key, effect));
        }
        if let Some(served) = self.exchanges.get(key) {
            self.wheel.arm(served.node, served.exchange.wakeup());
        }
    }

    /// Carries out what refers to the part at hand; the rest follows when its codec is free again.
    pub(super) fn carry_out_with(&mut self, key: ExchangeKey, from: Side, part: Part<'_>) {
        for _ in 0..self.todo.len() {
            let (of, effect) = self.todo.pop_front().expect("counted");
            match (&effect, part) {
                (Effect::Forward(to, range), Part::Body(bytes)) if of == key => {
                    assert!(*to == from.other(), "bytes are forwarded to the other side");
                    let bytes = &bytes[range.start as usize..range.end as usize];
                    self.write(key, *to, Part::Body(bytes));
                    self.exchanges[key].owed[*to as usize] += range.end - range.start;
                }
                (Effect::End(to), Part::End(Some(_))) if of == key && *to == from.other() => {
                    self.write(key, *to, part);
                }
                _ => self.todo.push_back((of, effect)),
            }
        }
    }

    /// Carries out all that is queued.
    pub(super) fn carry_out(&mut self) {
        while let Some((key, effect)) = self.todo.pop_front() {
            if self.exchanges.contains_key(key) {
                self.carry(key, effect);
            }
        }
    }

    fn carry(&mut self, key: ExchangeKey, effect: Effect) {
        match effect {
            Effect::Reserve => self.reserve(key),
            Effect::Withdraw => self.withdraw(key),
            Effect::Open(fresh) => self.open(key, fresh),
            Effect::Call => self.call(key),
            Effect::Release(outcome) => {
                if let Some(seat) = self.exchanges[key].exchange.take_seat() {
                    self.give_back_seat(seat, outcome);
                }
            }
            Effect::Head(side) => self.write_head(key, side),
            Effect::Forward(..) => unreachable!("carried out while the bytes were at hand"),
            Effect::Text => self.write_text(key),
            Effect::End(side) => self.write(key, side, Part::End(None)),
            Effect::Cut(side) => self.cut(key, side),
            Effect::Room(side, bytes) => self.room(key, side, bytes),
            Effect::Done(outcome) => self.finish(key, outcome),
        }
    }

    /// A slot at once if nobody waits and one is free; else a claim at home.
    fn reserve(&mut self, key: ExchangeKey) {
        let now = self.now;
        let served = &self.exchanges[key];
        let plan = served.exchange.plan();
        let avoided = served.exchange.avoided();
        if let Some(service) = self.world.get(&plan.service)
            && service.deployment_error.is_none()
            && !service.slots.waiting.any()
        {
            let salt = self.unique;
            if let Some(instance) = service.slots.take(self.post.me, avoided, salt) {
                let seat = Seat::new(plan.service.clone(), instance, service.slots.clone());
                self.seated(key, seat);
                return;
            }
        }
        if self.has_no_other(key) {
            self.tell(key, Event::NoOther);
            return;
        }
        if self.settings.is_of_peers(&self.exchanges[key].exchange.plan().service) {
            self.tell(key, Event::Refused(Why::RouterFull)); // it calls again
            return;
        }
        let bytes = served.exchange.queued_bytes();
        if !self.settings.queues.enter(bytes) {
            self.tell(key, Event::Refused(Why::RouterFull));
            return;
        }
        let ticket = self.ticket(key);
        let claim = Claim {
            ticket,
            service: plan.service.clone(),
            description: plan.description.clone(),
            not: avoided.to_vec(),
            since: now,
            asker: Asker::Request,
        };
        let home = self.home(&claim.service);
        self.tallies.begins(claim.service.clone()).began_to_wait();
        self.exchanges[key].waits = Some(bytes);
        self.post.send(home, Letter::Claim(claim));
    }

    /// A request has a slot. Nobody gets one above the limit; that it is so is counted here, where
    /// all seats come by.
    pub(super) fn seated(&mut self, key: ExchangeKey, seat: Seat) {
        self.over_limit += u64::from(seat.instance().word.is_over());
        self.tell(key, Event::Seated(seat));
    }

    /// Whether a request that failed on an instance could only wait for that very instance, or for
    /// one that rests: then it is better told at once.
    fn has_no_other(&self, key: ExchangeKey) -> bool {
        let exchange = &self.exchanges[key].exchange;
        let avoided = exchange.avoided();
        if avoided.is_empty() {
            return false;
        }
        if exchange.plan().launched {
            return false; // another is on its way, or will be
        }
        let Some(service) = self.world.get(&exchange.plan().service) else { return false };
        let roster = service.slots.roster();
        let serves = |it: &Arc<Instance>| {
            !avoided.iter().any(|not| Arc::ptr_eq(not, it))
                && ![Gate::Ejected, Gate::Locked, Gate::Retired].iter().any(|at| it.word.is(*at))
        };
        !roster.instances().is_empty() && !roster.instances().iter().any(serves)
    }

    fn withdraw(&mut self, key: ExchangeKey) {
        let service = self.exchanges[key].exchange.plan().service.clone();
        self.stopped_waiting(key);
        let letter = Letter::Withdraw(service.clone(), self.ticket(key));
        let home = self.home(&service);
        self.post.send(home, letter);
    }

    pub(super) fn stopped_waiting(&mut self, key: ExchangeKey) {
        let served = &mut self.exchanges[key];
        if let Some(bytes) = served.waits.take() {
            self.settings.queues.leave(bytes);
            let service = &served.exchange.plan().service;
            if let Some(counters) = self.tallies.ends(service) {
                counters.stopped_waiting();
            }
        }
    }

    /// A way to the instance of the seat: an idle connection, or a new one.
    fn open(&mut self, key: ExchangeKey, fresh: bool) {
        let seat = self.exchanges[key].exchange.seat().expect("one opens from a seat");
        let instance = seat.instance().clone();
        // The connection that proved stale goes first, for its place is wanted.
        if let Some((link, _)) = self.exchanges[key].instance.take() {
            self.unbind(link, key);
            self.drop_link(link, Shut::Now);
        }
        if !fresh && let Some(link) = self.pool.take(&instance) {
            self.bind(link, key);
            self.tell(key, Event::Opened { reused: true });
            return;
        }
        let crowded = self.pool.opening(&instance);
        let link = self.engine.connect(instance.address);
        let codec = http1::Client::new(&self.settings.limits);
        self.insert(link, Role::Instance(instance.clone()), Box::new(codec), State::Opening);
        self.bind(link, key);
        if crowded {
            self.make_room_at(&instance);
        }
    }

    /// Too many connections to an instance: idle ones must go, here or elsewhere.
    fn make_room_at(&mut self, instance: &Arc<Instance>) {
        if let Some(link) = self.pool.surplus(instance) {
            self.drop_link(link, Shut::Now);
            return;
        }
        for shard in instance.shards() {
            if shard != self.post.me {
                self.post.send(shard, Letter::CloseIdle(instance.clone()));
            }
        }
    }

    fn bind(&mut self, link: Link, key: ExchangeKey) {
        let connection = &mut self.connections[link];
        if connection.state != State::Opening {
            connection.state = State::Open;
        }
        connection.begun += 1;
        let stream = Stream(connection.begun);
        connection.streams.push((stream, key));
        self.exchanges[key].instance = Some((link, stream));
        self.touch(link);
    }

    pub(super) fn unbind(&mut self, link: Link, key: ExchangeKey) {
        if let Some(connection) = self.connections.get_mut(link) {
            connection.streams.retain(|(_, it)| *it != key);
        }
    }

    fn write_head(&mut self, key: ExchangeKey, side: Side) {
        let served = &self.exchanges[key];
        let Some((link, stream)) = served.way(side) else { return };
        let Some(connection) = self.connections.get_mut(link) else { return };
        let (head, now) = (Part::Head(served.exchange.head_for(side)), self.now);
        connection.furnish(&mut self.engine);
        connection.say(|codec, out| codec.write(stream, head, now, out));
        self.touch(link);
    }

    fn write_text(&mut self, key: ExchangeKey) {
        let served = &self.exchanges[key];
        let Some((link, stream)) = served.way(Side::Client) else { return };
        let Some(connection) = self.connections.get_mut(link) else { return };
        let (text, now) = (Part::Body(served.exchange.text()), self.now);
        connection.furnish(&mut self.engine);
        connection.say(|codec, out| codec.write(stream, text, now, out));
        self.touch(link);
    }

    pub(super) fn write(&mut self, key: ExchangeKey, side: Side, part: Part<'_>) {
        let Some((link, stream)) = self.exchanges[key].way(side) else { return };
        let Some(connection) = self.connections.get_mut(link) else { return };
        let now = self.now;
        connection.furnish(&mut self.engine);
        connection.say(|codec, out| codec.write(stream, part, now, out));
        self.touch(link);
    }

    fn cut(&mut self, key: ExchangeKey, side: Side) {
        let Some((link, _)) = self.exchanges[key].way(side) else { return };
        let opening = self.connections.get(link).is_some_and(|it| it.state == State::Opening);
        if opening {
            self.detach(key, side);
            self.drop_link(link, Shut::Now);
        } else {
            self.write(key, side, Part::Cut(&Cause::Abandoned));
        }
    }

    fn room(&mut self, key: ExchangeKey, side: Side, bytes: u32) {
        if side == Side::Instance && self.exchanges[key].answer.is_some() {
            return self.answer_on(key, bytes);
        }
        let Some((link, stream)) = self.exchanges[key].way(side) else { return };
        let Some(connection) = self.connections.get_mut(link) else { return };
        connection.say(|codec, out| codec.room(stream, bytes, out));
        self.touch(link);
    }

    /// Hands a request to the API.
    fn call(&mut self, key: ExchangeKey) {
        let ticket = self.ticket(key);
        let exchange = &self.exchanges[key].exchange;
        let call = Call {
            ticket,
            head: exchange.head_for(Side::Instance).clone(),
            body: exchange.text().to_vec(),
            peer: exchange.visit().expect("it has begun").peer,
            cid: exchange.cid().to_vec(),
        };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.calls.try_send(call)
        {
            self.tell(key, Event::Refused(Why::RouterFull));
        }
    }

    /// The API answered.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Some(key) = self.key_of(answer.ticket) else { return };
        let pieces = answer.pieces.into();
        self.exchanges[key].answer = Some(Box::new(Pending { pieces, room: 0 }));
        self.tell(key, Event::From(Side::Instance, Part::Head(&answer.head)));
        self.carry_out();
    }

    /// Sends on of the API's answer as far as there is room.
    fn answer_on(&mut self, key: ExchangeKey, bytes: u32) {
        let Some(pending) = &mut self.exchanges[key].answer else { return };
        pending.room += bytes;
        while pending.pieces.front().is_some_and(Vec::is_empty) {
            pending.pieces.pop_front();
        }
        let Some(mut piece) = pending.pieces.pop_front() else {
            if self.exchanges[key].answer.take().is_some() {
                self.tell(key, Event::From(Side::Instance, Part::End(None)));
            }
            return;
        };
        let fits = piece.len().min(pending.room as usize);
        if fits == 0 {
            pending.pieces.push_front(piece);
            return;
        }
        pending.room -= u32::try_from(fits).expect("at most the room");
        let rest = piece.split_off(fits);
        if !rest.is_empty() {
            pending.pieces.push_front(rest);
        }
        let part = Part::Body(&piece);
        self.tell(key, Event::From(Side::Instance, part));
        self.carry_out_with(key, Side::Instance, part);
        self.todo.push_back((key, Effect::Room(Side::Instance, 0)));
    }

    /// The one exit of an exchange.
    pub(super) fn finish(&mut self, key: ExchangeKey, outcome: Outcome) {
        self.stopped_waiting(key);
        let Some(mut served) = self.exchanges.remove(key) else { return };
        if let Some((link, _)) = served.client {
            self.unbind(link, key);
            self.touch(link);
        }
        // The connection first, then the slot: whoever gets the slot may want the connection.
        if let Some((link, _)) = served.instance {
            self.unbind(link, key);
            self.keep_or_close(link);
        }
        if served.counted
            && let Some(service) = served.exchange.service()
            && let Some(counters) = self.tallies.ends(service)
        {
            let times = served.exchange.times();
            let seated = times.seated.filter(|_| outcome == Outcome::Success);
            let spent = |at| Spent { queue: at - times.began, service: self.now - at };
            counters.ended(seated.map(spent), self.now);
        }
        self.access.ended(&served.exchange, outcome, self.now);
        if let Some(seat) = served.exchange.take_seat() {
            self.give_back_seat(seat, outcome);
        }
        if self.spare.len() < SPARE_MAX {
            served.exchange.clear();
            self.wheel.arm(served.node, None);
            self.spare.push((served.exchange, served.node));
        } else {
            self.wheel.remove(served.node);
        }
    }

    fn keep_or_close(&mut self, link: Link) {
        let Some(connection) = self.connections.get_mut(link) else { return };
        let Role::Instance(instance) = &connection.role else { return };
        if connection.state == State::Broken {
            return self.drop_link(link, Shut::Now);
        }
        let instance = instance.clone();
        let needs = connection.codec.as_ref().expect("nothing reads now").needs();
        if connection.state == State::Open && needs.idle && self.pool.keep(link, &instance) {
            self.connections[link].state = State::Idle { since: self.now };
            self.touch(link);
        } else if needs.close == Close::Flush {
            self.drop_link(link, Shut::Flush); // the last bytes of a tunnel are on their way
        } else {
            self.drop_link(link, Shut::Now);
        }
    }

    /// Gives a slot back; home hears of it if it must.
    pub(super) fn give_back_seat(&mut self, seat: Seat, outcome: Outcome) {
        // What strangers do where routers meet says nothing of those they are handed over to: these
        // never rest, not even until home is asked, or anybody could keep the routers apart.
        let is_of_peers = self.settings.is_of_peers(seat.service());
        let outcome = if is_of_peers { Outcome::Unused } else { outcome };
        let home = self.home(seat.service());
        let plain = !outcome.is_failure();
        if matches!(outcome, Outcome::InstanceError | Outcome::Unreachable) {
            seat.instance().word.close(Gate::Ejected);
        }
        if !plain {
            self.post.send(home, Letter::Settle(Settle { seat, outcome }));
            return;
        }
        let service = seat.service().clone();
        match seat.put() {
            Put::Free => {}
            Put::PassOn(mut seat) => {
                // At home it stays in the pool until it is known who gets the slot.
                if home != self.post.me && seat.slots().waiting.any() {
                    self.send_along(&mut seat);
                }
                self.post.send(home, Letter::Settle(Settle { seat, outcome }));
            }
            Put::LookAgain => self.post.send(home, Letter::LookAgain(service)),
        }
    }

    /// An exchange panicked: both connections close, the slot is given back.
    fn abandon(&mut self, key: ExchangeKey) {
        self.todo.retain(|(of, _)| *of != key);
        let ways = [Side::Client, Side::Instance].map(|side| self.exchanges[key].way(side));
        self.withdraw_if_waiting(key);
        self.detach(key, Side::Client);
        self.detach(key, Side::Instance);
        for (link, _) in ways.into_iter().flatten() {
            self.unbind(link, key);
            self.lost(link, &Cause::Broken); // with all other streams on it
        }
        self.finish(key, Outcome::GenericError);
    }

    fn withdraw_if_waiting(&mut self, key: ExchangeKey) {
        if self.exchanges[key].waits.is_some() {
            self.withdraw(key);
        }
    }
}
