//! Where room may be: one bit for each instance of a roster. The slot word decides.
//!
//! Invariant: while an instance has room its bit is set, or somebody is about to set it who then
//! looks whether anybody waits, or takes the room himself. A taker that finds a word full clears
//! the bit, then looks at the word once more; who puts a slot puts it first and then sets the bit.
//! With a fence between each pair one of the two sees the other. `tests/loom` walks the
//! interleavings; this file therefore needs nothing but the word.

use super::word::Word;

#[cfg(loom)]
use super::atomic::{AtomicU64, Ordering, fence};
use std::ops::Range;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Hints for the instances of one roster, by place.
#[derive(Debug)]
pub struct Room(Box<[AtomicU64]>);

impl Room {
    /// Hints for `len` places, each of which is taken to have room.
    pub fn new(len: usize) -> Self {
        Self((0..len.div_ceil(64)).map(|word| AtomicU64::new(below(len, word))).collect())
    }

    /// Takes a slot of the instance at this place, whose word this is.
    pub fn take(&self, at: usize, word: &Word) -> bool {
        loop {
            if word.take() {
                return true;
            }
            self.0[at / 64].fetch_and(!(1 << (at % 64)), Ordering::AcqRel);
            fence(Ordering::SeqCst);
            // Room that appeared meanwhile: whoever put it may have seen the bit still set. While
            // it was not, home may have looked in vain; so we may not leave that room behind.
            if !word.has_room() {
                return false;
            }
            self.hint(at);
        }
    }

    /// Says that there is room at this place. Returns whether that was news.
    pub fn hint(&self, at: usize) -> bool {
        let (word, bit) = (&self.0[at / 64], 1_u64 << (at % 64));
        // Most slots are put while their bit is set: then the line stays shared.
        word.load(Ordering::Acquire) & bit == 0 && word.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Places in the range that may have room, upwards; each word is read when it is reached.
    pub fn up(&self, range: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let mut word = range.start / 64;
        let mut bits = self.bits(word).unwrap_or(0) & (u64::MAX << (range.start % 64));
        std::iter::from_fn(move || {
            while bits == 0 {
                word += 1;
                bits = self.bits(word)?;
            }
            let at = word * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            (at < range.end).then_some(at)
        })
    }

    /// Places below `end` that may have room, downwards.
    pub fn down(&self, end: usize) -> impl Iterator<Item = usize> + '_ {
        let (mut word, mut bits) = (end.div_ceil(64), 0);
        std::iter::from_fn(move || {
            while bits == 0 {
                word = word.checked_sub(1)?;
                bits = self.bits(word)? & below(end, word);
            }
            let bit = 63 - bits.leading_zeros() as usize;
            bits &= !(1 << bit);
            Some(word * 64 + bit)
        })
    }

    fn bits(&self, word: usize) -> Option<u64> {
        self.0.get(word).map(|it| it.load(Ordering::Acquire))
    }
}

/// The bits of `word` that lie below place `end`.
fn below(end: usize, word: usize) -> u64 {
    match end.saturating_sub(word * 64) {
        0 => 0,
        rest if rest >= 64 => u64::MAX,
        rest => (1 << rest) - 1,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn places_are_walked_both_ways() {
        for len in [0, 1, 63, 64, 65, 130] {
            let room = Room::new(len);
            assert_eq!(room.up(0..len).collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
            assert_eq!(room.down(len).collect::<Vec<_>>(), (0..len).rev().collect::<Vec<_>>());
        }
        let room = Room::new(130);
        assert_eq!(room.up(63..66).collect::<Vec<_>>(), [63, 64, 65]);
        assert_eq!(room.up(64..64).count(), 0);
        assert_eq!(room.down(2).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn a_full_place_is_skipped_until_it_is_hinted() {
        let (room, word) = (Room::new(1), Word::new(1));
        assert!(room.take(0, &word) && !room.take(0, &word));
        assert_eq!(room.up(0..1).count(), 0);
        word.release();
        assert!(room.hint(0) && !room.hint(0), "news once");
        assert!(room.take(0, &word));
    }
}
