//! Bytes that came too early, kept in order until they are wanted.
//!
//! Taken bytes stay in place until the next `fill`, so that what was taken can be lent to the
//! caller. A connection whose messages arrive whole never uses it.

use std::ops::Range;

#[derive(Debug, Default)]
pub(super) struct Stash {
    bytes: Vec<u8>,
    at: usize,
}

impl Stash {
    /// Keeps more bytes.
    pub(super) fn fill(&mut self, more: &[u8]) {
        if self.at > 0 && !more.is_empty() {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// Gives up the first `count` bytes; the range is good for [`Stash::lend`] until the next
    /// `fill`.
    pub(super) fn take(&mut self, count: usize) -> Range<usize> {
        let from = self.at;
        self.at = (from + count).min(self.bytes.len());
        from..self.at
    }

    /// Bytes just taken.
    pub(super) fn lend(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Gives memory back if nothing is held and more than `most` bytes of it lie idle.
    pub(super) fn shrink(&mut self, most: usize) {
        if self.is_empty() && self.bytes.capacity() > most {
            *self = Self::default();
        }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
