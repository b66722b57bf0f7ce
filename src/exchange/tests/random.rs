//! Random lives: whatever happens in whatever order, each byte that leaves is justified, and the
//! slot comes home exactly once. A failure prints its seed.

use super::rig::{Rig, WINDOW, closed, request, response};
use crate::base::fault::{Class, Fault};
use crate::base::time::Duration;
use crate::core::letter::Why;
use crate::core::service::ClientAbort;
use crate::exchange::{Event, Side};
use crate::wire::codec::{Cause, Part};
use crate::wire::head::{Head, Length};
use http::Method;

const SEEDS: u64 = 20_000;
const STEPS: usize = 60;

struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (it ^ (it >> 31)) % end
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

/// What the world around the exchange knows of it, so that only what can happen does.
#[derive(Debug)]
struct World {
    waits: bool,
    opening: bool,
    way: bool,
    client: bool,
    asked: bool,
    answered: bool,
    /// The protocol may be switched.
    switches: bool,
    tunnel: bool,
    instance_ended: bool,
    seats: usize,
}

impl World {
    fn hear(&mut self, said: &str) {
        for effect in said.split(", ") {
            match effect {
                "reserve" => self.waits = true,
                "withdraw" => self.waits = false,
                "open" | "open new" => (self.opening, self.way) = (true, false),
                "cut instance" => (self.opening, self.way) = (false, false),
                "end to client" if self.tunnel => {}
                "cut client" | "end to client" => self.client = false,
                _ => {}
            }
        }
    }

    fn step(&mut self, rig: &mut Rig, chance: &mut Chance) {
        let said = match chance.below(14) {
            0 if self.waits && self.seats < 3 => {
                self.waits = false;
                self.seats += 1;
                rig.seat(self.seats - 1)
            }
            1 if self.waits => {
                self.waits = false;
                let why = chance.one(&[Why::Gone, Why::Draining, Why::QueueFull(1)]);
                rig.on(Event::Refused(why))
            }
            2 if self.waits && self.seats > 0 => {
                self.waits = false;
                rig.on(Event::NoOther)
            }
            3 | 4 if self.opening => {
                (self.opening, self.way) = (false, true);
                rig.on(Event::Opened { reused: chance.below(2) == 0 })
            }
            5 if self.opening => {
                self.opening = false;
                rig.on(Event::OpenFailed(chance.one(&[
                    Cause::Broken,
                    Cause::Idle,
                    Cause::Exhausted,
                ])))
            }
            6 if self.client && !self.asked => {
                self.asked = true;
                rig.client(Part::End(None))
            }
            7 if self.client && chance.below(6) == 0 => {
                self.client = false;
                let malformed = Cause::Malformed(Fault::new(Class::BadRequest, "no"));
                let cause = if self.asked { closed() } else { chance.one(&[closed(), malformed]) };
                rig.client(Part::Cut(&cause))
            }
            8 => self.body(rig, chance),
            9 if self.way && !self.answered => self.answer(rig, chance),
            10 if self.way && self.answered && !self.instance_ended && chance.below(3) == 0 => {
                self.way = self.tunnel;
                self.instance_ended = true;
                rig.instance(Part::End(None))
            }
            11 if self.way && chance.below(4) == 0 => {
                self.way = false;
                let causes = [Cause::Closed, Cause::Broken, Cause::Idle];
                rig.instance(Part::Cut(&chance.one(&causes)))
            }
            12 => self.take(rig, chance),
            13 => rig.pass(Duration::from_millis(chance.below(40_000))),
            _ => return,
        };
        self.hear(&said);
        assert!(rig.room_of(Side::Client) + rig.under_way_to(Side::Instance) <= WINDOW.into());
        assert!(rig.room_of(Side::Instance) + rig.under_way_to(Side::Client) <= WINDOW.into());
    }

    fn answer(&mut self, rig: &mut Rig, chance: &mut Chance) -> String {
        let switch = if self.switches && self.asked { 101 } else { 200 };
        let status = chance.one(&[103, 200, 204, 503, switch, switch]);
        self.answered = status != 103;
        if status == 101 {
            (self.tunnel, self.asked) = (true, false);
        }
        rig.instance(Part::Head(&response(status, Length::Unknown)))
    }

    /// A side sends within its room.
    fn body(&mut self, rig: &mut Rig, chance: &mut Chance) -> String {
        let side = chance.one(&[Side::Client, Side::Instance]);
        let can = match side {
            Side::Client => self.client && !self.asked,
            Side::Instance => self.way && self.answered && !self.instance_ended,
        };
        let room = rig.room_of(side);
        if !can || room == 0 {
            return String::new();
        }
        let bytes = vec![b'x'; 1 + chance.below(room) as usize];
        rig.on(Event::From(side, Part::Body(&bytes)))
    }

    /// A side takes what was sent to it.
    fn take(&mut self, rig: &mut Rig, chance: &mut Chance) -> String {
        let side = chance.one(&[Side::Client, Side::Instance]);
        let can = if side == Side::Client { self.client } else { self.way };
        let under_way = rig.under_way_to(side);
        if !can || under_way == 0 {
            return String::new();
        }
        rig.room(side, u32::try_from(1 + chance.below(under_way)).expect("a window"))
    }
}

fn live(seed: u64) {
    let mut chance = Chance(seed);
    let lengths = [Length::Absent, Length::Exact(100), Length::Unknown];
    let methods = [Method::GET, Method::PUT, Method::POST];
    let mut head: Head = request(chance.one(&methods), chance.one(&lengths));
    head.switches = chance.below(3) == 0;
    let abort = chance.one(&[ClientAbort::Cut, ClientAbort::Finish]);
    let mut rig = Rig::begin(&head, abort);
    let mut world = World {
        waits: true,
        opening: false,
        way: false,
        client: true,
        asked: false,
        answered: false,
        switches: head.switches,
        tunnel: false,
        instance_ended: false,
        seats: 0,
    };
    for _ in 0..STEPS {
        world.step(&mut rig, &mut chance);
        if rig.outcome().is_some() {
            break;
        }
    }
    // Left alone, it ends by itself.
    for _ in 0..4 {
        let said = rig.pass(Duration::from_secs(1000));
        world.hear(&said);
    }
    assert!(rig.outcome().is_some(), "it never ends: {world:?}");
    assert!(rig.instances.iter().all(|it| it.word.used() == 0), "a slot was lost");
}

#[test]
fn random_lives_end_and_lose_nothing() {
    for seed in 0..SEEDS {
        let lived = std::panic::catch_unwind(|| live(seed));
        assert!(lived.is_ok(), "replay with seed {seed}");
    }
}
