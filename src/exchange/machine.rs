//! The exchange's states and what each event does in them. The picture is in the room's `mod.rs`.

mod ending;
mod flow;
mod tunnel;

use self::ending::instance_fault;
use crate::base::fault::{Class, Fault};
use crate::base::limits::Limits;
use crate::base::time::Instant;
use crate::core::letter::{Avoided, Why};
use crate::core::outcome::Outcome;
use crate::core::service::ClientAbort;
use crate::core::slots::{Instance, Seat};
use crate::exchange::{Effect, Effects, Event, Plan, Side, Times, Visit, plain_fault, rewrite};
use crate::wire::codec::{Cause, Part};
use crate::wire::head::{Head, Length};
use http::{Method, StatusCode};
use std::sync::Arc;

/// Memory for texts that an exchange keeps between two requests; bodies of calls may be larger.
const TEXT_BYTES: usize = 16 << 10;
/// Memory for each head that it keeps.
const HEAD_BYTES: usize = 4 << 10;

/// One request and its response. Reused for many: [`Exchange::clear`] keeps its memory.
#[derive(Debug)]
pub struct Exchange {
    limits: Arc<Limits>,
    phase: Phase,
    request: Head,
    response: Head,
    text: Vec<u8>,
    plan: Option<Plan>,
    seat: Option<Seat>,
    avoided: Avoided,
    visit: Option<Visit>,
    cid: Vec<u8>,
    asked: Asked,
    answered: Answered,
    way: Way,
    deadline: Option<Instant>,
    times: Times,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Fresh,
    Waiting,
    Opening,
    Streaming,
    Tunnel,
    Finishing,
    Calling,
    Done,
}

/// How far the request has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Asked {
    /// The client has said everything.
    ended: bool,
    /// Body bytes that have left for the instance.
    sent: u64,
    /// Body bytes sent to the instance that it has not taken.
    under_way: u32,
}

/// How far the response has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Answered {
    /// A final head has been sent to the client.
    head: bool,
    /// The instance has said everything.
    ended: bool,
    /// The instance has said something: it has seen the request.
    heard: bool,
    /// Body bytes sent to the client that it has not taken.
    under_way: u32,
    /// Body bytes that have left for the client.
    sent: u64,
}

/// How the instance was reached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Way {
    reused: bool,
    retried: bool,
    failed_once: bool,
}

impl Exchange {
    /// An exchange that has not begun.
    pub fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            phase: Phase::Fresh,
            request: Head::default(),
            response: Head::default(),
            text: Vec::new(),
            plan: None,
            seat: None,
            avoided: Vec::new(),
            visit: None,
            cid: Vec::new(),
            asked: Asked::default(),
            answered: Answered::default(),
            way: Way::default(),
            deadline: None,
            times: Times::default(),
        }
    }

    /// Makes it fresh again. A seat must have been taken out before.
    pub fn clear(&mut self) {
        assert!(self.seat.is_none(), "a seat is given back before its exchange is reused");
        self.phase = Phase::Fresh;
        self.request.rest(HEAD_BYTES);
        self.response.rest(HEAD_BYTES);
        self.text.clear();
        self.text.shrink_to(TEXT_BYTES);
        self.plan = None;
        self.avoided.clear();
        self.visit = None;
        self.cid.clear();
        self.asked = Asked::default();
        self.answered = Answered::default();
        self.way = Way::default();
        self.deadline = None;
        self.times = Times::default();
    }

    /// The head of a request for a service came.
    pub fn begin(
        &mut self,
        head: &Head,
        visit: Visit,
        plan: Plan,
        now: Instant,
        out: &mut Effects,
    ) {
        self.enter(head, visit, now);
        let visit = self.visit.as_ref().expect("just set");
        let visit = (visit, &self.cid[..]);
        rewrite::request(&mut self.request, visit, plan.launched, &mut self.text);
        self.deadline = Some(now + plan.tuning.queue_timeout);
        self.plan = Some(plan);
        self.phase = Phase::Waiting;
        out.push(Effect::Reserve);
    }

    /// The head of a request for the API came.
    pub fn call(&mut self, head: &Head, visit: Visit, now: Instant, out: &mut Effects) {
        self.enter(head, visit, now);
        self.request.switches = false; // a page is shown, whatever else the client would like
        self.phase = Phase::Calling;
        self.moved(now);
        if matches!(head.length, Length::Exact(length) if length > self.limits.call_bytes.into()) {
            self.call_too_long(out);
        } else if has_body(&self.request) {
            // One byte more than allowed, so that one that is too long is noticed.
            out.push(Effect::Room(Side::Client, self.limits.call_bytes.saturating_add(1)));
        }
    }

    /// The head of a request came that goes nowhere.
    pub fn refuse(
        &mut self,
        head: &Head,
        visit: Visit,
        fault: &Fault,
        now: Instant,
        out: &mut Effects,
    ) {
        self.enter(head, visit, now);
        self.fail(fault, Outcome::ClientError, out);
    }

    /// Something happened.
    pub fn on(&mut self, event: Event<'_>, now: Instant, out: &mut Effects) {
        if self.phase == Phase::Done {
            if let Event::Seated(seat) = event {
                self.seat = Some(seat); // the shard gives it back
            }
            return;
        }
        match event {
            // The client has left; that it leaves again means nothing.
            Event::From(Side::Client, _) if self.phase == Phase::Finishing => {}
            Event::From(Side::Client, part) => self.client_said(part, now, out),
            Event::From(Side::Instance, part) => self.instance_said(part, now, out),
            Event::Room(Side::Instance, bytes) => self.instance_took(bytes, now, out),
            Event::Room(Side::Client, bytes) => self.client_took(bytes, now, out),
            Event::Passed { taken, given } => self.passed(taken, given, now),
            Event::Seated(seat) => self.seated(seat, now, out),
            Event::Refused(why) => self.refused(&why, out),
            Event::Opened { reused } => self.opened(reused, now, out),
            Event::OpenFailed(cause) => self.open_failed(&cause, now, out),
            Event::NoOther => self.no_other(out),
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant, out: &mut Effects) {
        if self.deadline.is_none_or(|it| now < it) {
            return;
        }
        match self.phase {
            Phase::Fresh | Phase::Done => self.deadline = None,
            Phase::Waiting => {
                out.push(Effect::Withdraw);
                let fault = self.queue_timeout_fault(now);
                self.fail(&fault, Outcome::Unused, out);
            }
            Phase::Opening => self.open_failed(&Cause::Idle, now, out),
            Phase::Calling => self.call_stalled(out),
            Phase::Finishing => self.end(Outcome::InstanceError, out),
            Phase::Streaming => self.stalled(out),
            Phase::Tunnel => self.break_tunnel(Outcome::Success, out),
        }
    }

    /// When `tick` has something to do.
    pub fn wakeup(&self) -> Option<Instant> {
        self.deadline
    }

    /// Where the request goes.
    pub fn plan(&self) -> &Plan {
        self.plan.as_ref().expect("asked of an exchange that reserves")
    }

    /// Instances that failed this request already.
    pub fn avoided(&self) -> &[Arc<Instance>] {
        &self.avoided
    }

    /// The seat, if one is held.
    pub fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// Takes the seat out, to give it back.
    pub fn take_seat(&mut self) -> Option<Seat> {
        self.seat.take()
    }

    /// The head to send to this side.
    pub fn head_for(&self, side: Side) -> &Head {
        match side {
            Side::Client => &self.response,
            Side::Instance => &self.request,
        }
    }

    /// The text to send to the client; of a call: the body it came with.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Correlation id.
    pub fn cid(&self) -> &[u8] {
        &self.cid
    }

    /// When what happened.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// The request's service, if it is one for a service.
    pub fn service(&self) -> Option<&crate::base::ids::ServiceId> {
        self.plan.as_ref().map(|it| &it.service)
    }

    /// Who asks.
    pub fn visit(&self) -> Option<&Visit> {
        self.visit.as_ref()
    }

    /// Whether a final head has been sent to the client.
    pub fn has_answered(&self) -> bool {
        self.answered.head
    }

    /// Whether the request waits for a slot.
    pub fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Memory that it holds while it waits, with what its connection may read ahead.
    pub fn queued_bytes(&self) -> usize {
        let read = self.limits.head_bytes + self.limits.ahead_bytes;
        self.request.memory() + read + size_of::<Self>()
    }

    /// Body bytes that left for the instance, and for the client.
    pub fn bytes(&self) -> (u64, u64) {
        (self.asked.sent, self.answered.sent)
    }

    /// Whether a client that has closed its sending side may have gone away. Not one that is known
    /// to be gone; and in a tunnel an end is passed on, whatever it means.
    pub fn heeds_half_close(&self) -> bool {
        !matches!(self.phase, Phase::Tunnel | Phase::Finishing | Phase::Done)
    }

    fn enter(&mut self, head: &Head, visit: Visit, now: Instant) {
        assert!(self.phase == Phase::Fresh, "an exchange begins once");
        self.request.clone_from(head);
        match head.fields.get(b"x-cid") {
            Some(cid) => self.cid.extend_from_slice(cid),
            None => rewrite::cid(&visit, &mut self.cid),
        }
        self.visit = Some(visit);
        self.times.began = now;
    }

    fn seated(&mut self, seat: Seat, now: Instant, out: &mut Effects) {
        // First kept, then looked at: a seat must outlive a defect.
        self.seat = Some(seat);
        assert!(self.phase == Phase::Waiting, "a seat comes to one that waits");
        self.times.seated.get_or_insert(now);
        self.phase = Phase::Opening;
        self.deadline = Some(now + self.limits.connect_timeout);
        out.push(Effect::Open(false));
    }

    fn refused(&mut self, why: &Why, out: &mut Effects) {
        if !matches!(self.phase, Phase::Waiting | Phase::Calling) {
            return;
        }
        if *why == Why::Gone && self.plan().description.is_some() {
            out.push(Effect::Reserve); // resolved again, with the time that is left
            return;
        }
        self.fail(&plain_fault(why), Outcome::Unused, out);
    }

    fn opened(&mut self, reused: bool, now: Instant, out: &mut Effects) {
        assert!(self.phase == Phase::Opening, "only what was to be opened opens");
        self.way.reused = reused;
        self.times.opened = Some(now);
        self.phase = Phase::Streaming;
        out.push(Effect::Head(Side::Instance));
        if self.asked.ended {
            out.push(Effect::End(Side::Instance));
        } else if has_body(&self.request) {
            out.push(Effect::Room(Side::Client, self.limits.window_bytes));
        }
        self.moved(now);
    }

    /// Before any request byte was sent: the instance rests, and another is tried, once.
    fn open_failed(&mut self, cause: &Cause, now: Instant, out: &mut Effects) {
        if self.phase != Phase::Opening {
            return;
        }
        match cause {
            Cause::Exhausted => return self.exhausted(out),
            Cause::Idle => out.push(Effect::Cut(Side::Instance)),
            _ => {}
        }
        // After a retry the request may have been read once already: it must not reach another.
        if self.way.failed_once || self.way.retried {
            let fault = instance_fault(cause, Class::ConnectFailed);
            self.fail(&fault, Outcome::Unreachable, out);
            return;
        }
        self.way.failed_once = true;
        let seat = self.seat.as_ref().expect("one opens the way from a seat");
        self.avoided.push(seat.instance().clone());
        self.phase = Phase::Waiting;
        let queue_timeout = self.plan().tuning.queue_timeout;
        self.deadline = Some((self.times.began + queue_timeout).max(now));
        out.push(Effect::Release(Outcome::Unreachable));
        out.push(Effect::Reserve);
    }

    /// There is no instance but the one that failed.
    fn no_other(&mut self, out: &mut Effects) {
        if self.phase == Phase::Waiting {
            let fault = instance_fault(&Cause::Abandoned, Class::ConnectFailed);
            self.fail(&fault, Outcome::Unused, out);
        }
    }

    fn client_said(&mut self, part: Part<'_>, now: Instant, out: &mut Effects) {
        match part {
            Part::Head(_) | Part::Refused(..) => {
                unreachable!("a request has one head, and it began the exchange")
            }
            Part::Body(bytes) if self.phase == Phase::Calling => self.body_of_call(bytes, now, out),
            Part::Body(bytes) => {
                let is_open = matches!(self.phase, Phase::Streaming | Phase::Tunnel);
                assert!(is_open, "no body without room");
                let length = u32::try_from(bytes.len()).expect("bounded by the window");
                self.asked.sent += u64::from(length);
                self.asked.under_way += length;
                out.push(Effect::Forward(Side::Instance, 0..length));
                self.moved(now);
            }
            Part::End(_) => {
                self.asked.ended = true;
                match self.phase {
                    Phase::Streaming => {
                        out.push(Effect::End(Side::Instance));
                        self.moved(now);
                    }
                    Phase::Tunnel => self.tunnel_end(Side::Client, now, out),
                    Phase::Calling => {
                        self.moved(now);
                        out.push(Effect::Call);
                    }
                    _ => {}
                }
            }
            Part::Cut(Cause::Malformed(fault)) if !self.answered.head => {
                let fault = fault.clone();
                self.leave_queue(out);
                self.fail(&fault, Outcome::ClientError, out);
            }
            Part::Cut(_) => self.client_gone(now, out),
        }
    }

    fn leave_queue(&self, out: &mut Effects) {
        if self.phase == Phase::Waiting {
            out.push(Effect::Withdraw);
        }
    }

    /// The body of a call is gathered, for the API gets a call whole.
    fn body_of_call(&mut self, bytes: &[u8], now: Instant, out: &mut Effects) {
        self.text.extend_from_slice(bytes);
        self.moved(now);
        if self.text.len() > self.limits.call_bytes as usize {
            self.call_too_long(out);
        }
    }

    fn call_too_long(&mut self, out: &mut Effects) {
        let most = self.limits.call_bytes;
        let text = format!("The body of a request to the router has at most {most} bytes");
        self.fail(&Fault::new(Class::BadRequest, text), Outcome::ClientError, out);
    }

    fn client_gone(&mut self, now: Instant, out: &mut Effects) {
        self.leave_queue(out);
        let finishes = self.phase == Phase::Streaming
            && self.asked.ended
            && self.plan().client_abort == ClientAbort::Finish;
        out.push(Effect::Cut(Side::Client));
        if finishes {
            self.phase = Phase::Finishing;
            // What was under way to the client is gone; the instance may go on.
            match std::mem::take(&mut self.answered.under_way) {
                0 => {}
                bytes => out.push(Effect::Room(Side::Instance, bytes)),
            }
            self.moved(now);
            return;
        }
        self.end(Outcome::ClientGone, out);
    }

    fn instance_said(&mut self, part: Part<'_>, now: Instant, out: &mut Effects) {
        let is_asked = !matches!(self.phase, Phase::Fresh | Phase::Waiting | Phase::Opening);
        assert!(is_asked, "an instance speaks when it has been asked");
        match part {
            Part::Refused(..) => unreachable!("a response is never a request"),
            Part::Head(head) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(head, now, out);
            }
            Part::Head(head) => self.answer(head, now, out),
            Part::Body(bytes) => {
                let length = u32::try_from(bytes.len()).expect("bounded by the window");
                if self.phase == Phase::Finishing {
                    out.push(Effect::Room(Side::Instance, length));
                } else {
                    self.answered.under_way += length;
                    self.answered.sent += u64::from(length);
                    out.push(Effect::Forward(Side::Client, 0..length));
                }
                self.moved(now);
            }
            Part::End(_) if self.phase == Phase::Tunnel => {
                self.answered.ended = true;
                self.tunnel_end(Side::Instance, now, out);
            }
            Part::End(_) => {
                if self.phase != Phase::Finishing {
                    assert!(self.answered.head, "a response begins with a head");
                    out.push(Effect::End(Side::Client));
                }
                let verdict = self.verdict();
                self.done(verdict, out);
            }
            Part::Cut(cause) => self.instance_cut(cause, now, out),
        }
    }

    fn answer(&mut self, head: &Head, now: Instant, out: &mut Effects) {
        let interim = head.status.is_informational();
        self.answered.heard = true;
        if self.phase == Phase::Finishing {
            self.moved(now);
            if !interim {
                out.push(Effect::Room(Side::Instance, self.limits.window_bytes));
            }
            return;
        }
        self.response.clone_from(head);
        if !interim {
            self.final_head(now);
        }
        out.push(Effect::Head(Side::Client));
        if !interim {
            out.push(Effect::Room(Side::Instance, self.limits.window_bytes));
        }
        self.moved(now);
    }

    /// The response is made what the client gets.
    fn final_head(&mut self, now: Instant) {
        self.answered.head = true;
        self.times.answered = Some(now);
        if self.phase == Phase::Calling {
            self.response.fields.push(b"server", rewrite::PSEUDONYM.as_bytes());
            self.response.fields.set(b"x-cid", &self.cid);
            return;
        }
        rewrite::response(&mut self.response, &self.cid, &mut self.text);
        if let (Some(plan), Some(seat)) = (&self.plan, &self.seat)
            && plan.tuning.debug
        {
            rewrite::debug(&mut self.response, plan, seat, &self.times);
        }
    }

    fn instance_cut(&mut self, cause: &Cause, now: Instant, out: &mut Effects) {
        let stale = self.way.reused
            && !self.way.retried
            && !self.answered.heard
            && self.asked.sent == 0
            // Room that was given cannot be taken back: its bytes would come with nowhere to go.
            && (self.asked.ended || !has_body(&self.request))
            && self.phase == Phase::Streaming
            && matches!(cause, Cause::Closed | Cause::Broken)
            && is_repeatable(&self.request);
        if stale {
            self.way.retried = true;
            self.phase = Phase::Opening;
            self.deadline = Some(now + self.limits.connect_timeout);
            out.push(Effect::Open(true));
            return;
        }
        if self.phase == Phase::Finishing {
            self.end(Outcome::InstanceError, out);
            return;
        }
        if self.phase == Phase::Tunnel {
            // The request was answered; how another protocol ends is its own affair.
            self.break_tunnel(Outcome::Success, out);
            return;
        }
        let fault = instance_fault(cause, Class::InstanceError);
        self.fail(&fault, Outcome::InstanceError, out);
    }
}

/// Whether a body follows for which room must be given.
fn has_body(head: &Head) -> bool {
    !matches!(head.length, Length::Absent | Length::Exact(0))
}

/// Whether the request may be sent twice without harm (RFC 9110 §9.2.2).
fn is_repeatable(head: &Head) -> bool {
    matches!(
        head.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}
