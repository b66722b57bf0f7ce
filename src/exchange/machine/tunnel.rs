//! After the protocol was switched: bytes both ways, each with an end of its own.
//!
//! Holds always: the request was whole before; its slot is held until both ends have been passed on
//! or one side breaks. What a tunnel carries is not judged: neither its bytes nor how it ends say
//! anything of the instance, except that it answered.

use super::{Exchange, Phase};
use crate::base::time::{Duration, Instant};
use crate::core::outcome::Outcome;
use crate::exchange::{Effect, Effects, Side};
use crate::wire::head::Head;

impl Exchange {
    /// The instance has switched to the protocol that was asked for.
    pub(super) fn switch(&mut self, head: &Head, now: Instant, out: &mut Effects) {
        if self.phase == Phase::Finishing {
            return self.end(Outcome::ClientGone, out); // nobody is there to talk
        }
        let is_asked = self.phase == Phase::Streaming && self.asked.ended && self.request.switches;
        assert!(is_asked, "a protocol is switched behind a whole request that asks for it");
        self.answered.heard = true;
        self.response.clone_from(head);
        self.final_head(now);
        self.phase = Phase::Tunnel;
        self.asked.ended = false;
        out.push(Effect::Head(Side::Client));
        out.push(Effect::Room(Side::Instance, self.limits.window_bytes));
        // What is left of the request on its way counts.
        let room = self.limits.window_bytes - self.asked.under_way;
        if room > 0 {
            out.push(Effect::Room(Side::Client, room));
        }
        self.moved(now);
    }

    /// One side has said everything; the other one is told, and may go on.
    pub(super) fn tunnel_end(&mut self, from: Side, now: Instant, out: &mut Effects) {
        out.push(Effect::End(from.other()));
        if self.asked.ended && self.answered.ended {
            self.done(Outcome::Success, out);
        } else {
            self.moved(now);
        }
    }

    /// One side is lost, or both have been silent for too long.
    pub(super) fn break_tunnel(&mut self, outcome: Outcome, out: &mut Effects) {
        out.push(Effect::Cut(Side::Client));
        self.end(outcome, out);
    }

    /// How long nothing may move. If the instance has ended, only the client's end is missing: it
    /// must not hold the slot of an instance that may be gone.
    pub(super) fn tunnel_patience(&self) -> Duration {
        let idle_timeout = self.plan().tuning.tunnel_idle_timeout;
        if self.answered.ended {
            self.limits.body_idle_timeout.min(idle_timeout)
        } else {
            idle_timeout
        }
    }
}
