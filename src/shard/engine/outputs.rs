//! Memory for output, shared by all connections of a shard.
//!
//! What was sent last is lent first, for it is still in the core's cache. So a connection holds
//! memory only while it has something to send, and one that is idle holds none.
//!
//! Must hold: what is kept is empty, and together no larger than the bound.

/// Bytes kept for reuse. They serve some thousand small messages, or the heads and windows of a few
/// streams, at once; what is beyond them is allocated and freed.
const KEPT_BYTES: usize = 4 << 20;

/// Memory that waits to be used again.
#[derive(Debug, Default)]
pub struct Outputs {
    kept: Vec<Vec<u8>>,
    bytes: usize,
}

impl Outputs {
    /// Empty memory, warm if there is some.
    pub fn lend(&mut self) -> Vec<u8> {
        let Some(output) = self.kept.pop() else { return Vec::new() };
        self.bytes -= output.capacity();
        output
    }

    /// What has been sent, or will not be.
    pub fn take_back(&mut self, mut output: Vec<u8>) {
        let bytes = self.bytes + output.capacity();
        if output.capacity() > 0 && bytes <= KEPT_BYTES {
            output.clear();
            self.bytes = bytes;
            self.kept.push(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_is_lent_first_and_no_more_is_kept_than_the_bound() {
        let mut outputs = Outputs::default();
        assert_eq!(outputs.lend().capacity(), 0);
        for capacity in [100, 200] {
            let mut output = Vec::with_capacity(capacity);
            output.push(1);
            outputs.take_back(output);
        }
        outputs.take_back(Vec::new());
        let last = outputs.lend();
        assert!(last.is_empty() && last.capacity() >= 200);
        for _ in 0..10 {
            outputs.take_back(Vec::with_capacity(KEPT_BYTES / 4));
        }
        let kept: usize =
            std::iter::from_fn(|| Some(outputs.lend().capacity())).take_while(|it| *it > 0).sum();
        assert!((KEPT_BYTES / 2..=KEPT_BYTES).contains(&kept), "{kept}");
        assert_eq!(outputs.bytes, 0);
    }
}
