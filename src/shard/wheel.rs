//! One wheel of deadlines per shard.
//!
//! A subject has one node for its whole life and arms it as often as it likes. Most deadlines are
//! put off again and again and never come: one that is put off leaves its node where it is, and is
//! looked at when that slot's time comes. So arming writes one number, but for a deadline that is
//! nearer than before. Deadlines are kept in ticks of about 16 ms and fire up to one tick late,
//! never early.
//!
//! Must hold: a node is in at most one slot, and not in a later one than its deadline's; a subject
//! that was removed never fires.

use crate::base::time::Instant;

/// 2^24 ns.
const TICK_SHIFT: u32 = 24;
const SLOTS: usize = 4096;
const NONE: u32 = u32::MAX;

/// A subject's place in the wheel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Node(u32);

/// Deadlines of many subjects.
#[derive(Debug)]
pub struct Wheel<K> {
    slots: Box<[u32]>,
    nodes: Vec<Entry<K>>,
    free: Vec<u32>,
    tick: u64,
    armed: usize,
}

#[derive(Debug)]
struct Entry<K> {
    subject: K,
    /// The deadline.
    tick: Option<u64>,
    /// The slot it is in.
    slot: Option<u64>,
    previous: u32,
    next: u32,
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel.
    pub fn new(now: Instant) -> Self {
        Self {
            slots: vec![NONE; SLOTS].into(),
            nodes: Vec::new(),
            free: Vec::new(),
            tick: tick_of(now),
            armed: 0,
        }
    }

    /// Gives a subject its node, not armed.
    pub fn add(&mut self, subject: K) -> Node {
        let entry = Entry { subject, tick: None, slot: None, previous: NONE, next: NONE };
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = entry;
                Node(at)
            }
            None => {
                self.nodes.push(entry);
                Node(u32::try_from(self.nodes.len() - 1).expect("bounded by connections"))
            }
        }
    }

    /// Takes a subject out. Its node must not be used again.
    pub fn remove(&mut self, node: Node) {
        self.unlink(node.0);
        self.free.push(node.0);
    }

    /// Gives a node to another subject; what was armed is not any more.
    pub fn hand_on(&mut self, node: Node, subject: K) {
        let entry = &mut self.nodes[node.0 as usize];
        entry.subject = subject;
        entry.tick = None;
    }

    /// Sets or clears a subject's deadline.
    pub fn arm(&mut self, node: Node, deadline: Option<Instant>) {
        let entry = &mut self.nodes[node.0 as usize];
        entry.tick = deadline.map(|it| (tick_of(it) + 1).max(self.tick + 1));
        let Some(tick) = entry.tick else { return };
        if entry.slot.is_none_or(|it| it > tick) {
            self.unlink(node.0);
            self.link(node.0, tick);
        }
    }

    /// Collects the subjects whose deadline has come; they are no longer armed.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<K>) {
        let until = tick_of(now);
        if self.armed == 0 {
            self.tick = self.tick.max(until);
            return;
        }
        // After a long sleep one round over all slots sees everything.
        let from = self.tick.max(until.saturating_sub(SLOTS as u64)) + 1;
        for tick in from..=until {
            let mut at = self.slots[slot_of(tick)];
            while at != NONE {
                let next = self.nodes[at as usize].next;
                if self.nodes[at as usize].slot.is_some_and(|it| it <= until) {
                    self.unlink(at);
                    let entry = &mut self.nodes[at as usize];
                    match entry.tick.take_if(|it| *it <= until) {
                        Some(_) => due.push(entry.subject),
                        None => {
                            if let Some(tick) = entry.tick {
                                self.link(at, tick); // it was put off
                            }
                        }
                    }
                }
                at = next;
            }
        }
        self.tick = self.tick.max(until);
    }

    fn link(&mut self, at: u32, tick: u64) {
        let first = std::mem::replace(&mut self.slots[slot_of(tick)], at);
        let entry = &mut self.nodes[at as usize];
        entry.slot = Some(tick);
        entry.previous = NONE;
        entry.next = first;
        if first != NONE {
            self.nodes[first as usize].previous = at;
        }
        self.armed += 1;
    }

    fn unlink(&mut self, at: u32) {
        let entry = &mut self.nodes[at as usize];
        let Some(tick) = entry.slot.take() else { return };
        let (previous, next) = (entry.previous, entry.next);
        match previous {
            NONE => self.slots[slot_of(tick)] = next,
            previous => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.armed -= 1;
    }
}

fn tick_of(at: Instant) -> u64 {
    at.0 >> TICK_SHIFT
}

fn slot_of(tick: u64) -> usize {
    tick as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    fn due(wheel: &mut Wheel<u8>, millis: u64) -> Vec<u8> {
        let mut due = Vec::new();
        wheel.expire(at(millis), &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn deadlines_fire_once_never_early_at_most_a_tick_late() {
        for deadline in [1, 16, 17, 100, 1000, 70_000, 200_000] {
            let mut wheel = Wheel::new(at(5));
            let node = wheel.add(1);
            wheel.arm(node, Some(at(5 + deadline)));
            let mut fired = None;
            for now in (0..300_000).step_by(3) {
                if !due(&mut wheel, now).is_empty() {
                    assert_eq!(fired, None, "twice");
                    fired = Some(now);
                }
            }
            let late = fired.expect("fires") - (5 + deadline);
            assert!(late <= 37, "{deadline}: late by {late} ms");
        }
    }

    #[test]
    fn arming_again_moves_and_removing_silences() {
        let mut wheel = Wheel::new(at(0));
        let nodes: Vec<_> = (0..4).map(|it| wheel.add(it)).collect();
        for node in &nodes {
            wheel.arm(*node, Some(at(100)));
        }
        wheel.arm(nodes[0], Some(at(500)));
        wheel.arm(nodes[1], None);
        wheel.remove(nodes[2]);
        assert_eq!(due(&mut wheel, 200), [3]);
        assert_eq!(due(&mut wheel, 600), [0]);
        let again = wheel.add(9);
        wheel.arm(again, Some(at(600) + Duration::from_millis(1)));
        assert_eq!(due(&mut wheel, 700), [9]);
    }

    #[test]
    fn one_that_was_put_off_fires_when_it_is_due() {
        let mut wheel = Wheel::new(at(0));
        let node = wheel.add(1);
        for now in (0..2000).step_by(100) {
            wheel.arm(node, Some(at(now + 500)));
            assert!(due(&mut wheel, now + 90).is_empty());
        }
        assert!(due(&mut wheel, 2350).is_empty());
        assert_eq!(due(&mut wheel, 2500), [1]);
        wheel.arm(node, Some(at(3000)));
        wheel.arm(node, None);
        wheel.arm(node, Some(at(4000)));
        wheel.hand_on(node, 2);
        assert!(due(&mut wheel, 5000).is_empty(), "handed on, and not armed since");
        wheel.arm(node, Some(at(6000)));
        assert_eq!(due(&mut wheel, 7000), [2]);
    }

    #[test]
    fn a_long_sleep_loses_nothing() {
        let mut wheel = Wheel::new(at(0));
        let node = wheel.add(1);
        wheel.arm(node, Some(at(50)));
        assert_eq!(due(&mut wheel, 10_000_000), [1]);
    }
}
