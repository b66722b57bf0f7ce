//! One turn of a shard beside its sockets: mail, the newest world, deadlines.

use crate::base::time::{Duration, Instant};
use crate::core::letter::{Command, Letter, Notice, Settle, Why};
use crate::core::outcome::Outcome;
use crate::core::slots::Seat;
use crate::exchange::Event;
use crate::mesh::clock;
use crate::shard::engine::{Engine, Link, Shut};
use crate::shard::state::{Draining, Shard, Subject};
use std::sync::Arc;

/// Deadlines are looked at this often.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// Ticks between two pulses.
const TICKS_PER_PULSE: u32 = 5;
/// Letters read before the sockets have their turn again.
const LETTERS: usize = 1024;

impl<E: Engine> Shard<E> {
    /// Reads its mail; whether some is left.
    pub fn mail(&mut self, now: Instant) -> bool {
        self.at(now);
        self.adopt();
        while let Some(command) = self.post.command() {
            self.obey(command);
        }
        for _ in 0..LETTERS {
            let Some(letter) = self.post.letter() else { break };
            self.read_letter(letter);
        }
        while let Ok(answer) = self.answers.try_recv() {
            self.answered(answer);
        }
        self.after_event();
        self.desk.tell_demand(&mut self.post);
        self.say_if_drained();
        let flushed = self.post.flush();
        !flushed || self.post.has_mail()
    }

    /// Fires the deadlines that have come.
    pub fn tick(&mut self, now: Instant) {
        self.at(now);
        self.dated = (now, clock::date());
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        for subject in due.drain(..) {
            match subject {
                Subject::Link(link) => self.link_due(link),
                Subject::Exchange(key) => {
                    self.attempt(key, |exchange, now, effects| exchange.tick(now, effects));
                }
            }
            self.carry_out();
        }
        self.due = due;
        self.desk.tick(now, &mut self.post);
        let world = self.world.clone();
        self.desk.resume(&world, &mut self.post);
        self.after_event();
        self.say_if_drained();
        self.post.flush();
    }

    /// It is now this late. Beyond the fence nothing starts: the rights that it was given may have
    /// gone to others while it did not run.
    pub(super) fn at(&mut self, now: Instant) {
        self.now = now;
        self.desk.pause(now > self.post.fence());
    }

    /// The tick of this number since the start, of which some are pulses too.
    pub(super) fn tick_or_beat(&mut self, number: u32, now: Instant) {
        self.tick(now);
        if number.is_multiple_of(TICKS_PER_PULSE) {
            self.beat(now);
        }
    }

    /// Tells the control thread what changed.
    pub fn beat(&mut self, now: Instant) {
        self.access.hand_over();
        let pulse = self.pulse(now);
        let me = self.post.me;
        self.post.tell(Notice::Pulse(me, Box::new(pulse)));
    }

    /// Reads the letters this shard has sent to itself, and settles the links touched.
    pub(super) fn after_event(&mut self) {
        self.hand_out();
        self.settle_links();
        while let Some(letter) = self.post.own_letter() {
            self.read_letter(letter);
            self.settle_links();
        }
    }

    fn adopt(&mut self) {
        let newest = self.worlds.load();
        if newest.version == self.world.version {
            return;
        }
        let newest = arc_swap::Guard::into_inner(newest);
        let older = std::mem::replace(&mut self.world, newest);
        let world = self.world.clone();
        let (me, shards) = (self.post.me, self.post.shards);
        let (desk, post) = (&mut self.desk, &mut self.post);
        world.changes(&older, |id, new| {
            if id.home(shards) == me {
                desk.adopt(id, older.get(id), new, post);
            }
        });
        let orphans: Vec<Link> = self.pool.orphans().collect();
        for link in orphans {
            self.drop_link(link, Shut::Now);
        }
        drop(older); // the control thread still holds it, so nothing is freed here
        self.post.acknowledge(world.version);
    }

    fn obey(&mut self, command: Command) {
        let world = self.world.clone();
        match command {
            Command::Published => {}
            Command::Lock(id) => self.desk.lock(&id, &world, &mut self.post),
            Command::Unlock(id, instance, gone) => {
                self.desk.unlock(&id, instance.suffix(), gone, (&world, &mut self.post));
            }
            Command::LookAgain(id) => self.desk.look_again(&id, &world, &mut self.post),
            Command::CloseIdle(instance) => self.close_idle(&instance),
            Command::LockAll(id) => self.desk.lock_all(&id, &world, &mut self.post),
            Command::Choose(id, not) => self.desk.choose((&id, &not), &world, &mut self.post),
            Command::LockThis(id, instance) => {
                self.desk.lock_this(&id, instance, (&world, &mut self.post));
            }
            Command::UnlockAll(id) => self.desk.unlock_all(&id, &world, &mut self.post),
            Command::Claim(claim) => self.desk.claim(claim, &world, &mut self.post),
            Command::Withdraw(id, ticket) => self.desk.withdraw(&id, ticket),
            Command::Settle(seat) => {
                let settle = Settle { seat, outcome: Outcome::Unused };
                let limits = &self.settings.limits;
                self.desk.settle(settle, (&world, limits), self.now, &mut self.post);
            }
            Command::Drain => self.drain(),
            Command::Cut => self.desk.cut(&mut self.post),
        }
    }

    fn read_letter(&mut self, letter: Letter) {
        let world = self.world.clone();
        let limits = &self.settings.limits;
        match letter {
            Letter::Claim(claim) => self.desk.claim(claim, &world, &mut self.post),
            Letter::Withdraw(id, ticket) => self.desk.withdraw(&id, ticket),
            Letter::Settle(settle) => {
                self.desk.settle(settle, (&world, limits), self.now, &mut self.post);
            }
            Letter::LookAgain(id) => self.desk.look_again(&id, &world, &mut self.post),
            Letter::Grant(ticket, mut seat) => match self.key_of(ticket) {
                Some(key) => {
                    self.stopped_waiting(key);
                    self.take_in(&mut seat);
                    self.seated(key, seat);
                    self.carry_out();
                }
                None => self.unused(seat),
            },
            Letter::Refuse(ticket, why) => self.refused(ticket, why),
            Letter::CloseIdle(instance) => self.close_idle(&instance),
            Letter::Client(socket, peer) => self.handed(socket, peer),
        }
        self.hand_out();
    }

    /// A seat came for a request that has gone.
    fn unused(&mut self, seat: Seat) {
        self.give_back_seat(seat, Outcome::Unused);
    }

    fn refused(&mut self, ticket: crate::base::ids::Ticket, why: Why) {
        if let Some(key) = self.key_of(ticket) {
            self.stopped_waiting(key);
            self.tell(key, Event::Refused(why));
            self.carry_out();
        }
    }

    fn close_idle(&mut self, instance: &Arc<crate::core::slots::Instance>) {
        if let Some(link) = self.pool.surplus(instance) {
            self.drop_link(link, Shut::Now);
        }
    }

    fn say_if_drained(&mut self) {
        // A client that another shard has handed over is counted before it is here.
        let clients = self.settings.clients.of(self.post.me);
        if self.draining != Draining::Yes || !self.exchanges.is_empty() || clients > 0 {
            return;
        }
        let idle: Vec<Link> = self.pool.idle().collect();
        for link in idle {
            self.drop_link(link, Shut::Now);
        }
        // Answers that have been given may still be on their way out.
        if self.engine.is_quiet() {
            self.draining = Draining::Told;
            self.access.hand_over();
            let me = self.post.me;
            self.post.tell(Notice::Drained(me));
        }
    }
}
