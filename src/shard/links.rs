//! What happens to connections: bytes to parts, parts to exchanges, needs to the driver.

use crate::base::address::SocketAddr;
use crate::base::fault::{Class, Fault};
use crate::base::time::Instant;
use crate::exchange::{Event, Exchange, Side, Visit};
use crate::mesh::panics::guarded;
use crate::shard::admission::{Admission, Admissions};
use crate::shard::engine::{Engine, Happening, Link, Shut};
use crate::shard::settings::HalfClose;
use crate::shard::state::{Connection, Draining, ExchangeKey, Role, Served, Shard, State, Subject};
use crate::wire::codec::{Cause, Close, Codec, Due, Input, Needs, Part, Read, Stream};
use crate::wire::head::Head;
use crate::wire::http1;

impl<E: Engine> Shard<E> {
    /// Something happened to a link.
    pub fn happened(&mut self, happening: Happening<'_>, now: Instant) {
        self.at(now);
        match happening {
            Happening::Accepted(link, peer) => self.arrived(link, peer),
            Happening::Opened(link) => self.opened(link),
            Happening::OpenFailed(link, cause) => self.lost(link, &cause),
            Happening::Received(link, bytes) => self.read_all(link, Input::Bytes(bytes)),
            Happening::Ended(link) => self.read_all(link, Input::End),
            Happening::Sent(link, bytes) => self.sent(link, bytes),
            Happening::Passed(link, passed) => self.passed(link, passed),
            Happening::Broken(link) => self.lost(link, &Cause::Broken),
        }
        self.after_event();
    }

    /// A client connected, speaking what its codec speaks.
    pub fn accepted(&mut self, link: Link, peer: SocketAddr, codec: Box<dyn Codec>) {
        self.settings.clients.arrived(self.post.me);
        self.welcome(link, peer, codec);
        self.settle_links();
    }

    /// What a client speaks.
    pub(super) fn greet(&self) -> Box<dyn Codec> {
        Box::new(http1::Server::new(&self.settings.limits, self.now))
    }

    /// Serves a client that has been counted.
    pub(super) fn welcome(&mut self, link: Link, peer: SocketAddr, mut codec: Box<dyn Codec>) {
        if self.draining != Draining::No {
            codec.retire(); // it was on its way when the end began
        }
        self.clients += 1;
        self.insert(link, Role::Client(peer), codec, State::Open);
        self.touch(link);
    }

    pub(super) fn insert(&mut self, link: Link, role: Role, codec: Box<dyn Codec>, state: State) {
        let node = self.wheel.add(Subject::Link(link));
        let connection = Connection {
            codec: Some(codec),
            role,
            streams: Vec::new(),
            begun: 0,
            output: Vec::new(),
            unsent: 0,
            node,
            moved: self.now,
            state,
            intake: (usize::MAX, Due::Message),
            passes: 0,
            touched: false,
        };
        self.connections.insert(link, connection);
    }

    fn opened(&mut self, link: Link) {
        let Some(connection) = self.connections.get_mut(link) else { return };
        connection.state = State::Open;
        let waiting = connection.streams.first().copied();
        if let Some((_, key)) = waiting {
            self.tell(key, Event::Opened { reused: false });
            self.carry_out();
        }
        self.touch(link);
    }

    /// The connection is of no use any more.
    pub(super) fn lost(&mut self, link: Link, cause: &Cause) {
        self.let_go(link, Shut::Now, cause);
    }

    /// Forgets a connection and tells its exchanges.
    fn let_go(&mut self, link: Link, how: Shut, cause: &Cause) {
        let Some(connection) = self.connections.get_mut(link) else { return };
        let streams = std::mem::take(&mut connection.streams);
        let opening = connection.state == State::Opening;
        let side = side(&connection.role);
        self.drop_link(link, how);
        for (_, key) in streams {
            self.detach(key, side);
            let event = if opening {
                Event::OpenFailed(cause.clone())
            } else {
                Event::From(side, Part::Cut(cause))
            };
            self.tell(key, event);
            self.carry_out();
        }
    }

    fn sent(&mut self, link: Link, bytes: usize) {
        if !self.connections.contains_key(link) {
            return;
        }
        // Of what a connection needs this changes its intake alone. That it moved is seen when its
        // deadline comes.
        if self.is_choked(link) {
            self.touch(link);
        }
        let connection = &mut self.connections[link];
        connection.unsent = connection.unsent.saturating_sub(bytes);
        connection.moved = self.now;
        let (side, unsent) = (side(&connection.role), connection.unsent);
        // Room is given back when at least half of what a stream sent has left.
        for at in 0.. {
            let Some((_, key)) = self.connections.get(link).and_then(|it| it.streams.get(at))
            else {
                break;
            };
            let key = *key;
            let served = &mut self.exchanges[key];
            let owed = &mut served.owed[side as usize];
            let kept = u32::try_from(unsent).unwrap_or(u32::MAX).min(*owed);
            if *owed > 0 && kept <= *owed / 2 {
                let paid = *owed - kept;
                *owed = kept;
                self.tell(key, Event::Room(side, paid));
                self.carry_out();
            }
        }
    }

    /// Lets a connection's codec read until it has nothing more to say.
    pub(super) fn read_all(&mut self, link: Link, input: Input<'_>) {
        let mut input = input;
        loop {
            let Some(connection) = self.connections.get_mut(link) else { return };
            if connection.state == State::Broken {
                return;
            }
            let mut codec = connection.codec.take().expect("no codec reads while it reads");
            let mut output = std::mem::take(&mut connection.output);
            let now = self.now;
            let read = read_guarded(&mut *codec, input, now, &mut output);
            let more = match read {
                Ok(Read { used, part }) => {
                    let more = part.is_some() && !is_last(&input, used, part);
                    if let Some((stream, part)) = part {
                        self.deliver(link, stream, part);
                    }
                    input = rest(input, used);
                    more
                }
                Err(_) => {
                    tracing::error!("a codec panicked; its connection is closed");
                    self.give_back(link, codec, output);
                    self.lost(link, &Cause::Broken);
                    return;
                }
            };
            self.give_back(link, codec, output);
            self.touch(link);
            self.carry_out();
            if !more {
                return;
            }
        }
    }

    fn give_back(&mut self, link: Link, codec: Box<dyn Codec>, output: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(link) {
            assert!(connection.output.is_empty(), "who writes while a codec reads waits for it");
            connection.codec = Some(codec);
            connection.output = output;
        }
    }

    /// A part came: to the exchange of its stream, or to a new one.
    fn deliver(&mut self, link: Link, stream: Stream, part: Part<'_>) {
        let connection = &self.connections[link];
        let side = side(&connection.role);
        let known = connection.streams.iter().find(|(it, _)| *it == stream).map(|(_, key)| *key);
        match (known, part) {
            (Some(key), part) => {
                self.tell(key, Event::From(side, part));
                self.carry_out_with(key, side, part);
            }
            (None, Part::Head(head)) if side == Side::Client => {
                self.begin(link, stream, head, None);
            }
            (None, Part::Refused(head, fault)) if side == Side::Client => {
                self.begin(link, stream, head, Some(fault));
            }
            // The exchange has ended; what its stream still says is not wanted.
            (None, _) => {}
        }
    }

    /// A request came, or one that is refused as it was read.
    fn begin(&mut self, link: Link, stream: Stream, head: &Head, fault: Option<&Fault>) {
        let Role::Client(peer) = self.connections[link].role else {
            unreachable!("requests come from clients")
        };
        let visit = Visit {
            peer: peer.ip(),
            trusted: self.settings.trust_forwarded.iter().any(|it| it.contains(&peer.ip())),
            unique: self.next_unique(),
            date: self.date(),
        };
        let admission = match fault {
            Some(fault) => Admission::Refused(fault.clone()),
            None => self.admit(head, peer),
        };
        let service = admission.service().cloned();
        let key = self.serve((link, stream), service.is_some());
        if let Some(service) = service {
            self.tallies.begins(service).arrived(self.now);
        }
        self.connections[link].streams.push((stream, key));
        self.attempt(key, |exchange, now, effects| match admission {
            Admission::Call => exchange.call(head, visit, now, effects),
            Admission::Service(plan) | Admission::Peer(plan) => {
                exchange.begin(head, visit, plan, now, effects);
            }
            Admission::Refused(fault) => exchange.refuse(head, visit, &fault, now, effects),
        });
    }

    /// Takes up an exchange that has been used before, or a new one.
    fn serve(&mut self, client: (Link, Stream), counted: bool) -> ExchangeKey {
        let (spare, wheel, limits) = (&mut self.spare, &mut self.wheel, &self.limits);
        self.exchanges.insert_with_key(|key| {
            let subject = Subject::Exchange(key);
            let (exchange, node) = match spare.pop() {
                Some((exchange, node)) => {
                    wheel.hand_on(node, subject);
                    (exchange, node)
                }
                None => (Box::new(Exchange::new(limits.clone())), wheel.add(subject)),
            };
            Served {
                exchange,
                client: Some(client),
                instance: None,
                node,
                owed: [0; 2],
                answer: None,
                counted,
                waits: None,
            }
        })
    }

    /// Where a request goes. A defect in that is the answer to this request alone; what was
    /// remembered of others is not trusted any more.
    fn admit(&mut self, head: &Head, peer: SocketAddr) -> Admission {
        let (settings, world) = (&self.settings, &self.world);
        let admitted = guarded(|| self.admissions.admit(head, peer, settings, world));
        match admitted {
            // It would stay for good.
            Ok(Admission::Peer(_)) if self.draining != Draining::No => {
                let text = "This router is ending, and calls the others itself";
                Admission::Refused(Fault::new(Class::Draining, text))
            }
            Ok(admission) => admission,
            Err(_) => {
                tracing::error!("admission panicked; one request is refused");
                self.admissions = Admissions::default();
                Admission::Refused(Fault::new(Class::Internal, "A defect of the router"))
            }
        }
    }

    /// Flushes every connection touched, and tells the driver what each needs.
    pub(super) fn settle_links(&mut self) {
        while let Some(link) = self.touched.pop() {
            let Some(connection) = self.connections.get_mut(link) else { continue };
            connection.touched = false;
            match connection.state {
                State::Opening => {
                    self.arm(link, None);
                    continue;
                }
                State::Broken => {
                    self.lost(link, &Cause::Broken);
                    continue;
                }
                State::Open | State::Idle { .. } => {}
            }
            let needs = connection.codec.as_ref().expect("nothing reads now").needs();
            let may_read = needs.close != Close::Now && !self.is_choked(link);
            if needs.ready && may_read {
                self.read_all(link, Input::Bytes(&[]));
                self.touch(link);
                continue;
            }
            self.settle(link, needs);
        }
    }

    fn settle(&mut self, link: Link, needs: Needs) {
        if needs.peer_ended && self.client_left(link) {
            self.touch(link);
            return;
        }
        self.flush(link);
        match needs.close {
            Close::Now => return self.let_go(link, Shut::Now, &Cause::Closed),
            Close::Flush => return self.let_go(link, Shut::Flush, &Cause::Closed),
            Close::Open => {}
        }
        if needs.own_ended {
            self.engine.finish(link);
        }
        let waits = self.is_choked(link) || self.passes(link, needs.plain);
        let intake = if waits { 0 } else { needs.intake };
        let connection = &mut self.connections[link];
        if connection.output.capacity() > 0 {
            self.engine.outputs().take_back(std::mem::take(&mut connection.output));
        }
        if connection.intake != (intake, needs.due) {
            connection.intake = (intake, needs.due);
            self.engine.receive(link, intake, needs.due);
        }
        self.arm(link, needs.wakeup);
    }

    /// A reader that does not take its output gets nothing more to answer.
    fn is_choked(&self, link: Link) -> bool {
        let connection = &self.connections[link];
        let waiting = connection.unsent + connection.output.len();
        connection.streams.is_empty() && waiting > self.limits.window_bytes as usize
    }

    /// A client that has closed its side after a whole request has gone away, unless told
    /// otherwise.
    fn client_left(&mut self, link: Link) -> bool {
        if self.settings.half_close == HalfClose::Allow {
            return false;
        }
        let connection = &self.connections[link];
        if !matches!(connection.role, Role::Client(_)) {
            return false;
        }
        let present =
            |(_, key): &&(Stream, ExchangeKey)| self.exchanges[*key].exchange.heeds_half_close();
        let Some((_, key)) = connection.streams.iter().find(present).copied() else {
            return false;
        };
        self.tell(key, Event::From(Side::Client, Part::Cut(&Cause::Closed)));
        self.carry_out();
        true
    }

    pub(super) fn flush(&mut self, link: Link) {
        let connection = &mut self.connections[link];
        if !connection.output.is_empty() {
            if connection.unsent == 0 {
                connection.moved = self.now;
            }
            connection.unsent += connection.output.len();
            self.engine.send(link, &mut connection.output);
        }
    }

    /// Sets when the connection must be looked at, whatever happens.
    fn arm(&mut self, link: Link, wakeup: Option<Instant>) {
        let connection = &self.connections[link];
        let limits = &self.settings.limits;
        // With a stream at hand its exchange knows how long to wait.
        let stalls = connection.unsent > 0 && connection.streams.is_empty();
        let stall = stalls.then(|| connection.moved + limits.body_idle_timeout);
        let idle = match connection.state {
            State::Idle { since } => Some(since + limits.upstream_idle_timeout),
            State::Opening | State::Open | State::Broken => None,
        };
        let deadline = [wakeup, stall, idle].into_iter().flatten().min();
        self.wheel.arm(connection.node, deadline);
    }

    /// A connection's deadline has come.
    pub(super) fn link_due(&mut self, link: Link) {
        let Some(connection) = self.connections.get(link) else { return };
        let limits = &self.settings.limits;
        let stalls = connection.unsent > 0 && connection.streams.is_empty();
        let stalled = stalls && connection.moved + limits.body_idle_timeout <= self.now;
        let idle = matches!(connection.state, State::Idle { since }
            if since + limits.upstream_idle_timeout <= self.now);
        if stalled {
            self.lost(link, &Cause::Idle);
        } else if idle {
            self.drop_link(link, Shut::Now);
        } else {
            self.read_all(link, Input::Tick);
            self.touch(link);
        }
    }

    /// The exchange no longer has a way to this side.
    pub(super) fn detach(&mut self, key: ExchangeKey, side: Side) {
        if let Some(served) = self.exchanges.get_mut(key) {
            match side {
                Side::Client => served.client = None,
                Side::Instance => served.instance = None,
            }
            if let Some((link, _)) = served.instance {
                self.stop_passing(link);
            }
        }
    }

    /// Routers that have called stay for good, and are not waited for: they are called from here
    /// now.
    fn cut_peers(&mut self) {
        let settings = &self.settings;
        let is_peer =
            |it: &Served| it.exchange.service().is_some_and(|it| settings.is_of_peers(it));
        let keys: Vec<ExchangeKey> = {
            let all = self.exchanges.iter();
            all.filter(|(_, it)| is_peer(it)).map(|(key, _)| key).collect()
        };
        for key in keys {
            self.tell(key, Event::From(Side::Client, Part::Cut(&Cause::Abandoned)));
            self.carry_out();
        }
    }

    /// Begins to end: idle connections close at once, others after what they have at hand.
    pub(super) fn drain(&mut self) {
        if self.draining != Draining::No {
            return;
        }
        self.draining = Draining::Yes;
        self.desk.drain(&mut self.post);
        self.cut_peers();
        let links: Vec<Link> = self.connections.keys().collect();
        for link in links {
            let connection = &mut self.connections[link];
            if matches!(connection.role, Role::Client(_)) {
                connection.codec.as_mut().expect("nothing reads now").retire();
            }
            self.touch(link);
        }
        self.settle_links();
    }
}

/// Reads once; a panic of the codec is caught here. It has touched nothing but its own state.
fn read_guarded<'a>(
    codec: &'a mut dyn Codec,
    input: Input<'a>,
    now: Instant,
    output: &mut Vec<u8>,
) -> std::thread::Result<Read<'a>> {
    guarded(move || {
        let moved = codec; // so that the closure gives the borrow away
        moved.read(input, now, output)
    })
}

pub(super) fn side(role: &Role) -> Side {
    match role {
        Role::Client(_) => Side::Client,
        Role::Instance(_) => Side::Instance,
    }
}

/// Whether nothing can follow: a message has ended, and with it all that came. What had been kept
/// of the next one is told by the codec's needs.
fn is_last(input: &Input<'_>, used: usize, part: Option<(Stream, Part<'_>)>) -> bool {
    matches!(part, Some((_, Part::End(_))))
        && matches!(input, Input::Bytes(bytes) if bytes.len() == used)
}

/// What is left of an input of which `used` bytes are done with.
fn rest(input: Input<'_>, used: usize) -> Input<'_> {
    match input {
        Input::Bytes(bytes) => Input::Bytes(&bytes[used..]),
        // The end and the tick are said once; what follows is what the codec kept.
        Input::End | Input::Tick => Input::Bytes(&[]),
    }
}
