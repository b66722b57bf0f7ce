//! The slot word: how many requests an instance serves, and whether it may take another.
//!
//! One word per instance, shared by all shards: `used:16 limit:16 gate:8`. Any shard
//! [`take`](Word::take)s and [`put`](Word::put)s; only the service's home shard changes the limit
//! or opens a gate. Use, limit and gates change in one compare-and-swap, so no shard can act on
//! half of a decision.
//!
//! Invariants: `used` never exceeds the limit at a take; once a closing gate is set, no take
//! succeeds; with [`Waiting`], a request never waits beside a free slot. `tests/loom` walks every
//! interleaving of a releaser, a newcomer and the home shard; this file therefore stands alone, and
//! takes its atomics from the module that includes it there.

#[cfg(loom)]
use super::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

const USED: u64 = 0xffff;
const LIMIT_SHIFT: u32 = 16;
const GATE_SHIFT: u32 = 32;
const CLOSING: u64 = 0b0111;

/// Something that is said of an instance in its word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// It failed, and rests. Closing.
    Ejected = 0b0001,
    /// It is about to be killed. Closing.
    Locked = 0b0010,
    /// The scheduler no longer knows it. Closing.
    Retired = 0b0100,
    /// It failed lately: home wants to hear of its next success. Not closing.
    Failing = 0b1000,
    /// Another router owns it: its slots here are borrowed, and not for other routers. Not closing.
    Foreign = 0b1_0000,
}

/// The slots of one instance.
#[derive(Debug)]
pub struct Word(AtomicU64);

/// How many requests of one service wait at its home shard; read by all, written by home.
#[derive(Debug, Default)]
pub struct Waiting(AtomicU32);

/// What a shard must tell the home shard after it put a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum After {
    /// Nothing.
    Free,
    /// The slot is still counted as used: home passes it on.
    PassOn,
    /// The slot is free, and somebody began to wait meanwhile: home looks again.
    LookAgain,
}

impl Word {
    /// A word with `limit` slots, none of them used.
    pub fn new(limit: u16) -> Self {
        Self(AtomicU64::new(u64::from(limit) << LIMIT_SHIFT))
    }

    /// Takes a slot, if there is room and no closing gate is set.
    pub fn take(&self) -> bool {
        self.change(|word| (closing(word) == 0 && used(word) < limit(word)).then_some(word + 1))
    }

    /// Takes a slot for another router: only an owner lends.
    pub fn take_own(&self) -> bool {
        let shut = CLOSING << GATE_SHIFT | bit(Gate::Foreign);
        self.change(|word| (word & shut == 0 && used(word) < limit(word)).then_some(word + 1))
    }

    /// Puts a slot back, unless somebody waits: then it stays counted, for home to pass on. `hint`
    /// says where room may be looked for, and whether that was news.
    pub fn put(&self, waiting: &Waiting, hint: impl FnOnce() -> bool) -> After {
        if waiting.any() {
            return After::PassOn;
        }
        self.release();
        // Pairs with the fence in `Waiting::announce`: either home sees the slot free, or we see
        // that somebody waits. Without it both may miss, and a request waits beside a free slot.
        fence(Ordering::SeqCst);
        // Home looks where hints are, so the hint comes before our look at who waits.
        if hint() {
            fence(Ordering::SeqCst);
        }
        if waiting.any() { After::LookAgain } else { After::Free }
    }

    /// Puts a slot back without a look at who waits.
    pub fn release(&self) {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        assert!(used(before) > 0, "a slot was put back that nobody took");
    }

    /// Whether a slot that is counted as used may go from one request to the next. Home only.
    pub fn may_pass(&self) -> bool {
        let word = self.0.load(Ordering::Acquire);
        closing(word) == 0 && used(word) <= limit(word)
    }

    /// Sets a gate. Any shard: from here on no take succeeds (if it is a closing one).
    pub fn close(&self, gate: Gate) {
        self.0.fetch_or(bit(gate), Ordering::AcqRel);
    }

    /// Clears a gate. Home only.
    pub fn open(&self, gate: Gate) {
        self.0.fetch_and(!bit(gate), Ordering::AcqRel);
    }

    /// Locks the instance for a kill, if nothing runs on it and it is not locked. Home only.
    pub fn lock_idle(&self) -> bool {
        let lock = bit(Gate::Locked);
        self.change(|word| (used(word) == 0 && word & lock == 0).then_some(word | lock))
    }

    /// Sets how many slots there are. One writer only: home, or, where routers share an instance,
    /// the control thread. Fewer than used: takes fail until use has fallen.
    pub fn set_limit(&self, slots: u16) {
        let slots = u64::from(slots) << LIMIT_SHIFT;
        self.change(|word| Some(word & !(USED << LIMIT_SHIFT) | slots));
    }

    /// Requests that hold a slot now.
    pub fn used(&self) -> u16 {
        used(self.0.load(Ordering::Acquire)) as u16
    }

    /// Slots there are.
    pub fn limit(&self) -> u16 {
        limit(self.0.load(Ordering::Acquire)) as u16
    }

    /// Whether more slots are used than there are.
    pub fn is_over(&self) -> bool {
        let word = self.0.load(Ordering::Acquire);
        used(word) > limit(word)
    }

    /// Whether this gate is set.
    pub fn is(&self, gate: Gate) -> bool {
        self.0.load(Ordering::Acquire) & bit(gate) != 0
    }

    /// Whether no closing gate is set.
    pub fn is_open(&self) -> bool {
        closing(self.0.load(Ordering::Acquire)) == 0
    }

    /// Whether a take would succeed now.
    pub fn has_room(&self) -> bool {
        let word = self.0.load(Ordering::Acquire);
        closing(word) == 0 && used(word) < limit(word)
    }

    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        while let Some(wanted) = next(word) {
            match self.0.compare_exchange(word, wanted, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }
}

impl Waiting {
    /// Says that `count` requests wait, before home looks for a slot once more. Home only.
    pub fn announce(&self, count: u32) {
        self.0.store(count, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Whether anybody waits: then no shard takes by itself.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// How many requests wait.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

fn bit(gate: Gate) -> u64 {
    (gate as u64) << GATE_SHIFT
}

fn used(word: u64) -> u64 {
    word & USED
}

fn limit(word: u64) -> u64 {
    (word >> LIMIT_SHIFT) & USED
}

fn closing(word: u64) -> u64 {
    (word >> GATE_SHIFT) & CLOSING
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn room_and_gates_decide() {
        let word = Word::new(2);
        assert!(word.take() && word.take() && !word.take());
        word.release();
        word.close(Gate::Ejected);
        assert!(!word.take(), "a closed gate holds although there is room");
        word.open(Gate::Ejected);
        word.close(Gate::Failing);
        assert!(word.take(), "failing is no closing gate");
    }

    #[test]
    fn a_busy_instance_is_not_locked_for_a_kill() {
        let word = Word::new(1);
        assert!(word.take() && !word.lock_idle());
        word.release();
        assert!(word.lock_idle() && !word.take() && !word.lock_idle());
    }

    #[test]
    fn a_lowered_limit_lets_use_fall_first() {
        let word = Word::new(3);
        assert!(word.take() && word.take());
        assert!(!word.is_over());
        word.set_limit(1);
        assert!(!word.may_pass() && word.is_over());
        word.release();
        assert!(!word.is_over());
        assert!(!word.take() && word.may_pass());
        word.release();
        assert!(word.take());
    }

    #[test]
    fn a_slot_is_passed_on_when_somebody_waits() {
        let (word, waiting) = (Word::new(1), Waiting::default());
        assert!(word.take());
        waiting.announce(1);
        assert_eq!(word.put(&waiting, || false), After::PassOn);
        assert_eq!(word.used(), 1, "still counted");
        waiting.announce(0);
        assert_eq!(word.put(&waiting, || false), After::Free);
    }
}
