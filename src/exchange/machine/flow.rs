//! How much body is under way, and who may send more.

use super::{Exchange, Phase};
use crate::base::time::Instant;
use crate::exchange::{Effect, Effects, Side};

impl Exchange {
    /// Whether the body of the response may go to the client as it comes, and nothing else is left
    /// to be done.
    pub fn lets_pass(&self) -> bool {
        self.phase == Phase::Streaming && self.answered.head && self.asked.ended
    }

    pub(super) fn instance_took(&mut self, bytes: u32, now: Instant, out: &mut Effects) {
        let bytes = bytes.min(self.asked.under_way);
        self.asked.under_way -= bytes;
        let goes_on = matches!(self.phase, Phase::Streaming | Phase::Tunnel);
        if bytes > 0 && !self.asked.ended && goes_on {
            out.push(Effect::Room(Side::Client, bytes));
        }
        self.moved(now);
    }

    /// What the instance sent and the client did not take yet is under way, as ever; but it needs
    /// no room.
    pub(super) fn passed(&mut self, taken: u32, given: u32, now: Instant) {
        if self.lets_pass() {
            self.answered.under_way = (self.answered.under_way + taken).saturating_sub(given);
            self.answered.sent += u64::from(taken);
            self.moved(now);
        }
    }

    pub(super) fn client_took(&mut self, bytes: u32, now: Instant, out: &mut Effects) {
        let bytes = bytes.min(self.answered.under_way);
        self.answered.under_way -= bytes;
        if bytes > 0 && !self.answered.ended {
            out.push(Effect::Room(Side::Instance, bytes));
        }
        self.moved(now);
    }
}
