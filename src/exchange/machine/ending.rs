//! How an exchange ends before its time: who was too slow, what the client is told, and the one way
//! out.

use super::{Exchange, Phase, rewrite};
use crate::base::fault::{Class, Fault};
use crate::base::time::{Duration, Instant};
use crate::core::outcome::Outcome;
use crate::exchange::{Effect, Effects, Side};
use crate::wire::codec::Cause;
use crate::wire::error_body;
use crate::wire::head::Length;
use http::{Method, StatusCode};

impl Exchange {
    /// Something moved: the next thing must happen in time.
    pub(super) fn moved(&mut self, now: Instant) {
        let patience = match self.phase {
            Phase::Streaming | Phase::Finishing => self.patience(),
            Phase::Tunnel => self.tunnel_patience(),
            Phase::Calling if self.asked.ended => self.limits.call_timeout,
            Phase::Calling => self.limits.body_idle_timeout,
            Phase::Fresh | Phase::Waiting | Phase::Opening | Phase::Done => return,
        };
        self.deadline = Some(now + patience);
    }

    /// How long the next byte may take. An instance that is silent has the time of its first byte
    /// also for every other (the original's socket timeout is one for both, control-plane §14.6);
    /// one that does not take what is sent to it has less.
    fn patience(&self) -> Duration {
        let tuning = &self.plan().tuning;
        if self.answered.under_way > 0 || self.awaits_client() {
            self.limits.body_idle_timeout.max(tuning.streaming_timeout)
        } else if self.asked.under_way > 0 {
            tuning.streaming_timeout
        } else {
            tuning.first_byte_timeout
        }
    }

    /// Nothing moved for too long: whose turn was it?
    pub(super) fn stalled(&mut self, out: &mut Effects) {
        if self.answered.under_way > 0 {
            out.push(Effect::Cut(Side::Client));
            self.end(Outcome::ClientError, out);
        } else if self.awaits_client() {
            self.fail(&client_stalled(), Outcome::ClientError, out);
        } else {
            let fault = instance_fault(&Cause::Idle, Class::InstanceTimeout);
            self.fail(&fault, Outcome::InstanceError, out);
        }
    }

    /// A call to the API was not answered, or not sent whole, in time.
    pub(super) fn call_stalled(&mut self, out: &mut Effects) {
        if self.asked.ended {
            let fault = Fault::new(Class::Internal, "The API did not answer in time");
            self.fail(&fault, Outcome::GenericError, out);
        } else {
            self.fail(&client_stalled(), Outcome::ClientError, out);
        }
    }

    fn awaits_client(&self) -> bool {
        !self.asked.ended && self.asked.under_way == 0 && !self.answered.head
    }

    /// There is nothing left to connect with. The instance has no part in it, and another could not
    /// be reached either.
    pub(super) fn exhausted(&mut self, out: &mut Effects) {
        let text = "No descriptor is left for a connection to the service backend";
        let fault = Fault::new(Class::ReserveBackPressure, text);
        self.fail(&fault, Outcome::GenericError, out);
    }

    /// Answers with a fault if nothing has been answered yet, else breaks off; then it is over.
    pub(super) fn fail(&mut self, fault: &Fault, outcome: Outcome, out: &mut Effects) {
        if self.answered.head {
            out.push(Effect::Cut(Side::Client));
        } else {
            self.write_problem(fault);
            self.answered.head = true;
            out.push(Effect::Head(Side::Client));
            if self.request.method != Method::HEAD {
                out.push(Effect::Text);
            }
            out.push(Effect::End(Side::Client));
        }
        self.end(outcome, out);
    }

    /// It is over; what the instance still says is not wanted.
    pub(super) fn end(&mut self, outcome: Outcome, out: &mut Effects) {
        use Phase::{Finishing, Opening, Streaming, Tunnel};
        if matches!(self.phase, Opening | Streaming | Tunnel | Finishing) {
            out.push(Effect::Cut(Side::Instance));
        }
        self.done(outcome, out);
    }

    /// The last thing an exchange says.
    pub(super) fn done(&mut self, outcome: Outcome, out: &mut Effects) {
        self.phase = Phase::Done;
        self.deadline = None;
        out.push(Effect::Done(outcome));
    }

    /// What a whole response says of its instance.
    pub(super) fn verdict(&self) -> Outcome {
        if self.phase == Phase::Finishing {
            Outcome::ClientGone
        } else if self.phase == Phase::Streaming
            && self.response.status == StatusCode::SERVICE_UNAVAILABLE
        {
            Outcome::InstanceBusy
        } else {
            Outcome::Success
        }
    }

    fn write_problem(&mut self, fault: &Fault) {
        let facts = error_body::Facts {
            head: &self.request,
            cid: &self.cid,
            service: self.plan.as_ref().map(|it| it.service.as_str()),
            instance: self.seat.as_ref().map(|it| it.instance().id(it.service())),
            date: self.visit.as_ref().map_or_else(Default::default, |it| it.date),
        };
        error_body::write(fault, &facts, &mut self.response, &mut self.text);
        self.response.fields.push(b"server", rewrite::PSEUDONYM.as_bytes());
        self.response.fields.push(b"x-cid", &self.cid);
        self.response.length = Length::Exact(self.text.len() as u64);
    }

    pub(super) fn queue_timeout_fault(&self, now: Instant) -> Fault {
        let seconds = (now - self.times.began).as_secs();
        Fault::new(
            Class::RequestTimeout,
            format!("After {seconds} seconds, no instance available to handle request."),
        )
    }
}

fn client_stalled() -> Fault {
    Fault::new(Class::ClientTimeout, "Timeout receiving bytes from client")
}

/// What the client is told when its instance failed.
pub(super) fn instance_fault(cause: &Cause, class: Class) -> Fault {
    let (class, message) = match cause {
        _ if class == Class::ConnectFailed => {
            (class, "Request failed to connect to service backend")
        }
        Cause::Idle => (Class::InstanceTimeout, "Request to service backend timed out"),
        _ => (class, "Request to service backend failed"),
    };
    let fault = Fault::new(class, message);
    match cause {
        Cause::Malformed(inner) => fault.with("reason", inner.message.clone()),
        Cause::Closed => fault.with("reason", "the instance closed the connection"),
        Cause::Broken => fault.with("reason", "the connection to the instance broke"),
        Cause::Idle => fault.with("reason", "the instance did not answer in time"),
        Cause::Exhausted | Cause::Abandoned => fault,
    }
}
