//! An exchange on the bench: told events, its effects written down as text, its rules watched.

use crate::base::fault::Fault;
use crate::base::ids::ServiceId;
use crate::base::limits::Limits;
use crate::base::time::{Date, Duration, Instant};
use crate::core::outcome::Outcome;
use crate::core::service::{ClientAbort, Description, Tuning};
use crate::core::slots::{Instance, Seat, ServiceSlots};
use crate::exchange::{Effect, Event, Exchange, Plan, Side, Visit};
use crate::wire::codec::{Cause, Part};
use crate::wire::head::{Head, Length};
use http::{Method, StatusCode};
use std::sync::Arc;

pub(super) const WINDOW: u32 = 64;
pub(super) const START: Instant = Instant(1_000_000_000);

pub(super) struct Rig {
    pub(super) exchange: Exchange,
    pub(super) now: Instant,
    pub(super) instances: Vec<Arc<Instance>>,
    slots: Arc<ServiceSlots>,
    effects: Vec<Effect>,
    watch: Watch,
}

/// What must hold over the whole life of an exchange.
#[derive(Debug, Default)]
struct Watch {
    /// Seats given and not yet given back.
    seats: i32,
    waits: bool,
    opened: bool,
    opening: bool,
    done: Option<Outcome>,
    /// Room given to client and instance that they have not used.
    room: [u64; 2],
    /// Bytes sent to client and instance that they have not taken.
    under_way: [u64; 2],
    head: bool,
    ended: bool,
    called: bool,
}

pub(super) fn fields(head: &mut Head, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        head.fields.push(name.as_bytes(), value.as_bytes());
    }
}

pub(super) fn request(method: Method, length: Length) -> Head {
    let mut head = Head::default();
    head.method = method;
    head.length = length;
    head.set_target(b"/a?b");
    head.set_authority(b"bench");
    head.fields.push(b"x-cid", b"c");
    head
}

pub(super) fn response(status: u16, length: Length) -> Head {
    let mut head = Head::default();
    head.status = StatusCode::from_u16(status).expect("a status");
    head.length = length;
    head
}

fn visit() -> Visit {
    let peer = "10.9.9.9".parse().expect("an address");
    Visit { peer, trusted: false, unique: 7, date: Date(0) }
}

impl Rig {
    /// A request for a service has come.
    pub(super) fn begin(head: &Head, client_abort: ClientAbort) -> Self {
        Self::begin_with(head, client_abort, None)
    }

    fn begin_with(
        head: &Head,
        client_abort: ClientAbort,
        description: Option<Arc<Description>>,
    ) -> Self {
        let mut rig = Self::fresh();
        let limits = Limits { window_bytes: WINDOW, ..Limits::PRODUCTION };
        let plan = Plan {
            service: ServiceId::new("bench"),
            description,
            launched: true,
            client_abort,
            tuning: Tuning::new(&limits),
        };
        rig.exchange.begin(head, visit(), plan, rig.now, &mut rig.effects);
        rig.look();
        rig
    }

    /// A plain GET that has been read whole.
    pub(super) fn get() -> Self {
        let mut rig = Self::begin(&request(Method::GET, Length::Absent), ClientAbort::Cut);
        rig.client(Part::End(None));
        rig
    }

    /// A GET for a service that may be started.
    pub(super) fn described(description: Arc<Description>) -> Self {
        let head = request(Method::GET, Length::Absent);
        let mut rig = Self::begin_with(&head, ClientAbort::Cut, Some(description));
        rig.client(Part::End(None));
        rig
    }

    /// A GET that asks for another protocol, and has been read whole.
    pub(super) fn asking(client_abort: ClientAbort) -> Self {
        let mut head = request(Method::GET, Length::Absent);
        head.switches = true;
        let mut rig = Self::begin(&head, client_abort);
        rig.client(Part::End(None));
        rig
    }

    /// A tunnel that is open.
    pub(super) fn tunnel() -> Self {
        let mut rig = Self::asking(ClientAbort::Finish);
        rig.reach(false).instance(Part::Head(&response(101, Length::Absent)));
        rig
    }

    /// A POST of unknown length.
    pub(super) fn post() -> Self {
        Self::begin(&request(Method::POST, Length::Unknown), ClientAbort::Cut)
    }

    /// A request for the API.
    pub(super) fn call(head: &Head) -> (Self, String) {
        let mut rig = Self::fresh();
        rig.exchange.call(head, visit(), rig.now, &mut rig.effects);
        let said = rig.look();
        (rig, said)
    }

    /// A request that is refused.
    pub(super) fn refuse(head: &Head, fault: &Fault) -> (Self, String) {
        let mut rig = Self::fresh();
        rig.exchange.refuse(head, visit(), fault, rig.now, &mut rig.effects);
        let said = rig.look();
        (rig, said)
    }

    fn fresh() -> Self {
        let limits = Limits { window_bytes: WINDOW, call_bytes: 16, ..Limits::PRODUCTION };
        let address = "10.0.0.1:80".parse().expect("an address");
        let instances =
            ["a", "b", "c"].map(|it| Arc::new(Instance::new(it, address, Date(0), 1))).to_vec();
        Self {
            exchange: Exchange::new(Arc::new(limits)),
            now: START,
            instances,
            slots: Arc::default(),
            effects: Vec::new(),
            watch: Watch::default(),
        }
    }

    /// It gets a slot of the instance at this place.
    pub(super) fn seat(&mut self, at: usize) -> String {
        let instance = self.instances[at].clone();
        assert!(instance.word.take(), "the test gives a free slot");
        self.watch.seats += 1;
        let seat = Seat::new(ServiceId::new("bench"), instance, self.slots.clone());
        self.on(Event::Seated(seat))
    }

    /// Seated and opened.
    pub(super) fn reach(&mut self, reused: bool) -> &mut Self {
        self.seat(0);
        self.on(Event::Opened { reused });
        self
    }

    pub(super) fn client(&mut self, part: Part<'_>) -> String {
        self.on(Event::From(Side::Client, part))
    }

    pub(super) fn instance(&mut self, part: Part<'_>) -> String {
        self.on(Event::From(Side::Instance, part))
    }

    pub(super) fn room(&mut self, side: Side, bytes: u32) -> String {
        self.on(Event::Room(side, bytes))
    }

    pub(super) fn pass(&mut self, time: Duration) -> String {
        self.now += time;
        self.exchange.tick(self.now, &mut self.effects);
        self.look()
    }

    /// Something happens; what it wants then, as text.
    pub(super) fn on(&mut self, event: Event<'_>) -> String {
        match &event {
            Event::From(side, Part::Body(bytes)) => {
                let room = &mut self.watch.room[*side as usize];
                *room = room.checked_sub(bytes.len() as u64).expect("the test keeps to the room");
            }
            Event::Room(side, bytes) => {
                let under_way = &mut self.watch.under_way[*side as usize];
                *under_way = under_way.saturating_sub(u64::from(*bytes));
            }
            Event::Opened { .. } => self.watch.opened = true,
            Event::Refused(_) | Event::Seated(_) | Event::NoOther => self.watch.waits = false,
            _ => {}
        }
        self.exchange.on(event, self.now, &mut self.effects);
        self.look()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.watch.done
    }

    /// Room that a side has for body.
    pub(super) fn room_of(&self, side: Side) -> u64 {
        self.watch.room[side as usize]
    }

    pub(super) fn under_way_to(&self, side: Side) -> u64 {
        self.watch.under_way[side as usize]
    }

    /// The text of an answer of the router's own.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.exchange.text()).into_owned()
    }

    /// Watches the rules over the new effects, and writes them down.
    fn look(&mut self) -> String {
        let effects = std::mem::take(&mut self.effects);
        let said: Vec<_> = effects.iter().map(|it| self.carry(it)).collect();
        let is_done = self.watch.done.is_some();
        assert!(!is_done || self.exchange.wakeup().is_none(), "the dead do not wake");
        said.join(", ")
    }

    fn carry(&mut self, effect: &Effect) -> String {
        let watch = &mut self.watch;
        assert!(watch.done.is_none(), "nothing is said after Done: {effect:?}");
        match effect {
            Effect::Reserve => assert!(!std::mem::replace(&mut watch.waits, true), "once"),
            Effect::Withdraw => assert!(std::mem::take(&mut watch.waits), "only if it waits"),
            Effect::Open(_) => {
                assert!(self.exchange.seat().is_some(), "one opens from a seat");
                watch.opening = true;
                watch.opened = false;
                watch.room = [watch.room[0], 0];
                watch.under_way[1] = 0;
            }
            Effect::Call => assert!(!std::mem::replace(&mut watch.called, true), "once"),
            Effect::Head(Side::Client) => {
                watch.answers(self.exchange.head_for(Side::Client).status);
            }
            Effect::Forward(side, range) => {
                assert!(*side == Side::Instance || watch.head, "a head comes first");
                watch.under_way[*side as usize] += u64::from(range.end - range.start);
                assert!(watch.under_way[*side as usize] <= u64::from(WINDOW), "the window");
            }
            Effect::Text => assert!(watch.head, "a head comes first"),
            Effect::Room(side, bytes) => {
                assert!(*side == Side::Client || watch.opened || watch.called, "before Opened");
                watch.room[*side as usize] += u64::from(*bytes);
            }
            Effect::End(Side::Client) => {
                assert!(watch.head && !std::mem::replace(&mut watch.ended, true), "one end");
            }
            Effect::Cut(side) => watch.under_way[*side as usize] = 0,
            Effect::Head(Side::Instance) | Effect::End(Side::Instance) => {
                assert!(watch.opened, "nothing leaves before Opened: {effect:?}");
            }
            Effect::Release(outcome) => self.give_back(*outcome),
            Effect::Done(outcome) => {
                assert!(!watch.waits, "it leaves the queue first");
                watch.done = Some(*outcome);
                self.give_back(*outcome);
            }
        }
        brief(effect)
    }

    fn give_back(&mut self, outcome: Outcome) {
        if let Some(seat) = self.exchange.take_seat() {
            assert!(
                outcome != Outcome::Unused || !self.watch.opened,
                "a used seat is no unused one"
            );
            self.watch.seats -= 1;
            seat.release();
        }
        assert_eq!(self.watch.seats, 0, "the slot comes home once");
    }
}

impl Watch {
    fn answers(&mut self, status: StatusCode) {
        assert!(!self.head, "one final head");
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        self.head = is_switch || !status.is_informational();
        if is_switch {
            self.room[0] = 0; // what the request did not use is void
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(seat) = self.exchange.take_seat() {
            seat.release(); // the test ended before the exchange
        }
    }
}

/// An effect as the stories write it.
fn brief(effect: &Effect) -> String {
    let side = |it: &Side| if *it == Side::Client { "client" } else { "instance" };
    match effect {
        Effect::Reserve => "reserve".into(),
        Effect::Withdraw => "withdraw".into(),
        Effect::Open(false) => "open".into(),
        Effect::Open(true) => "open new".into(),
        Effect::Call => "call".into(),
        Effect::Release(outcome) => format!("release {}", outcome.name()),
        Effect::Head(it) => format!("head to {}", side(it)),
        Effect::Forward(it, range) => format!("{} to {}", range.end - range.start, side(it)),
        Effect::Text => "text".into(),
        Effect::End(it) => format!("end to {}", side(it)),
        Effect::Cut(it) => format!("cut {}", side(it)),
        Effect::Room(it, bytes) => format!("room {bytes} for {}", side(it)),
        Effect::Done(outcome) => format!("done {}", outcome.name()),
    }
}

pub(super) fn closed() -> Cause {
    Cause::Closed
}
