//! One connection to another router, from its first byte to its end.

use crate::base::ids::{ID_BYTES_MAX, RouterId};
use crate::base::time::{Date, Instant};
use crate::control::cluster::Heard;
use crate::core::peers::Document;
use crate::core::peers::counters::Counters;
use crate::wire::peer::{
    Channels, FRAME_BYTES_MAX, Hello, Mistrust, Nonce, PATH, PROTOCOL, Secret, Tag, Welcome,
};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Most bytes kept of somebody who has not proved himself.
const GREETING_MAX: usize = 8 << 10;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// Bytes read before others have their turn.
const TURN: usize = 1 << 20;
/// A frame's bytes beside its payload.
const FRAME_MORE: usize = 64;
/// What a payload is.
const DOCUMENT: u8 = 1;
const COUNTERS: u8 = 2;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Fault {
    /// The network, or the other's end.
    Broken(io::Error),
    /// It did not answer as a router of this version does: its first line.
    NoRouter(String),
    /// It is not believed.
    Mistrusted(Mistrust),
    /// What it proved to have said cannot be read: another version.
    Unreadable,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "{error}"),
            Self::NoRouter(line) => write!(f, "it does not answer as a router: {line}"),
            Self::Mistrusted(Mistrust::Forged) => f.write_str(
                "it does not prove the secret of this cluster: compare --cluster-secret-file and \
                 --cluster of both routers",
            ),
            Self::Mistrusted(Mistrust::Skewed) => f.write_str(
                "its clock is more than a minute off: set the clocks of both hosts right",
            ),
            Self::Mistrusted(Mistrust::OtherRouter) => {
                f.write_str("another router listens there: look at --advertise of both")
            }
            Self::Mistrusted(it) => write!(f, "it is not believed: {it:?}"),
            Self::Unreadable => f.write_str("it speaks another version"),
        }
    }
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// TCP is being opened.
    Opening,
    /// The other is asked to switch to the protocol of peers.
    Asked,
    /// It has heard who calls.
    Greeted(Hello),
    /// Somebody calls, and has not asked yet.
    Called,
    /// He is to say who he is.
    Answered,
    /// He is to prove it.
    Welcomed(Hello, Welcome),
    /// Both have proved themselves.
    Proven(Channels),
}

/// One connection.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) stage: Stage,
    /// Who is called, or has proved to be there.
    pub(super) peer: Option<RouterId>,
    /// Whether this router calls.
    pub(super) calls: bool,
    /// When its present stage began, and when it was last heard.
    pub(super) since: Instant,
    pub(super) heard: Instant,
    /// When the greeting began, which ends within its time, stage by stage or not.
    pub(super) begun: Instant,
    place: String,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    sent: usize,
    document: Option<Box<Document>>,
    counters: Option<Box<Counters>>,
    /// Frames that have arrived whole, and that were begun.
    pub(super) frames: (u64, u64),
    /// Bytes that have arrived, and that have left.
    pub(super) bytes: (u64, u64),
}

/// Who this router is.
pub(super) struct Own<'a> {
    pub(super) me: &'a RouterId,
    pub(super) secret: &'a Secret,
    pub(super) now: Instant,
    pub(super) date: Date,
}

impl Connection {
    /// To a router that is being called.
    pub(super) fn call(socket: TcpStream, peer: RouterId, place: String, now: Instant) -> Self {
        Self { peer: Some(peer), calls: true, ..Self::of(socket, Stage::Opening, place, now) }
    }

    /// Of somebody who calls.
    pub(super) fn called(socket: TcpStream, now: Instant) -> Self {
        Self::of(socket, Stage::Called, String::new(), now)
    }

    fn of(socket: TcpStream, stage: Stage, place: String, now: Instant) -> Self {
        Self {
            socket,
            stage,
            peer: None,
            calls: false,
            since: now,
            heard: now,
            begun: now,
            place,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            document: None,
            counters: None,
            frames: (0, 0),
            bytes: (0, 0),
        }
    }

    /// Whether both sides have proved themselves.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.stage, Stage::Proven(_))
    }

    /// Whether the other has said something since it proved itself.
    pub(super) fn has_spoken(&self) -> bool {
        self.frames.0 > 0
    }

    /// Whether something waits to be written.
    pub(super) fn wants_to_write(&self) -> bool {
        matches!(self.stage, Stage::Opening) || self.sent < self.outbox.len()
    }

    /// A state to send; it replaces one that was not begun.
    pub(super) fn put_document(&mut self, document: Box<Document>) -> Result<(), Fault> {
        self.document = Some(document);
        self.write()
    }

    /// Changes to send; they replace those that were not begun.
    pub(super) fn put_counters(&mut self, counters: Box<Counters>) -> Result<(), Fault> {
        self.counters = Some(counters);
        self.write()
    }

    /// The socket can be written to.
    pub(super) fn writable(&mut self, own: &Own<'_>) -> Result<(), Fault> {
        if matches!(self.stage, Stage::Opening) {
            if let Some(error) = self.socket.take_error().map_err(Fault::Broken)? {
                return Err(Fault::Broken(error));
            }
            let ask = format!(
                "GET {PATH} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\n\
                 upgrade: {PROTOCOL}\r\n\r\n",
                self.place
            );
            self.outbox.extend_from_slice(ask.as_bytes());
            self.begun = own.now;
            self.goes_on(Stage::Asked, own.now);
        }
        self.write()
    }

    /// The socket can be read; returns whether more may be there.
    pub(super) fn readable(
        &mut self,
        own: &Own<'_>,
        nonce: impl Fn() -> Nonce,
        mut hear: impl FnMut(Heard),
    ) -> Result<bool, Fault> {
        let mut total = 0;
        while total < TURN {
            let before = self.inbox.len();
            self.inbox.resize(before + CHUNK, 0);
            let read = self.socket.read(&mut self.inbox[before..]);
            self.inbox.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(Fault::Broken(ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    total += count;
                    self.bytes.0 += count as u64;
                    self.heard = own.now;
                    self.look(own, &nonce, &mut hear)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Broken(error)),
            }
        }
        Ok(true)
    }

    /// Looks at what has arrived, as far as it is whole.
    fn look(
        &mut self,
        own: &Own<'_>,
        nonce: &impl Fn() -> Nonce,
        hear: &mut impl FnMut(Heard),
    ) -> Result<(), Fault> {
        let inbox = std::mem::take(&mut self.inbox);
        let mut used = 0;
        loop {
            let rest = &inbox[used..];
            if let Stage::Proven(channels) = &mut self.stage {
                let opened = channels.inward.open(rest).map_err(Fault::Mistrusted)?;
                let Some((payload, count)) = opened else { break };
                let peer = self.peer.clone().expect("who has proved himself has a name");
                hear(read(peer, payload)?);
                self.frames.0 += 1;
                used += count;
                continue;
            }
            let next = if self.calls {
                self.greet(rest, own, nonce)
            } else {
                self.answer(rest, own, nonce)
            };
            let Some((next, count)) = next? else { break };
            used += count;
            self.goes_on(next, own.now);
        }
        self.inbox = inbox;
        self.inbox.drain(..used);
        if self.inbox.is_empty() {
            self.inbox.shrink_to(CHUNK); // few documents are so long
        }
        let bound = if self.is_proven() { FRAME_BYTES_MAX + FRAME_MORE } else { GREETING_MAX };
        if self.inbox.len() > bound + CHUNK {
            return Err(Fault::Mistrusted(Mistrust::TooLong));
        }
        self.write()
    }

    /// This router calls: what follows from the other's words, and how many bytes they were; none
    /// if they are not whole.
    fn greet(
        &mut self,
        rest: &[u8],
        own: &Own<'_>,
        nonce: &impl Fn() -> Nonce,
    ) -> Result<Option<(Stage, usize)>, Fault> {
        if let Stage::Greeted(hello) = &self.stage {
            let Some((answer, tag)) = two(rest) else { return Ok(None) };
            let welcome = Welcome { nonce: answer, tag };
            let proved = own.secret.prove(hello, &welcome);
            let (proof, channels) = proved.map_err(Fault::Mistrusted)?;
            self.outbox.extend_from_slice(&proof);
            return Ok(Some((Stage::Proven(channels), 64)));
        }
        if matches!(self.stage, Stage::Opening) {
            return Err(Fault::NoRouter("it speaks first".into()));
        }
        let Some(count) = head_end(rest) else { return Ok(None) };
        if !rest.starts_with(b"HTTP/1.1 101 ") {
            return Err(Fault::NoRouter(first_line(rest)));
        }
        let to = self.peer.as_ref().expect("who is called has a name").as_str();
        let (from, to) = (own.me.as_str().to_owned(), to.to_owned());
        let hello = Hello { from, to, nonce: nonce(), date: own.date };
        let mut bytes = Vec::new();
        hello.write(&mut bytes);
        let length = u16::try_from(bytes.len()).expect("names of routers are short");
        self.outbox.extend_from_slice(&length.to_be_bytes());
        self.outbox.extend_from_slice(&bytes);
        Ok(Some((Stage::Greeted(hello), count)))
    }

    /// The same, of one who has called.
    fn answer(
        &mut self,
        rest: &[u8],
        own: &Own<'_>,
        nonce: &impl Fn() -> Nonce,
    ) -> Result<Option<(Stage, usize)>, Fault> {
        match &self.stage {
            Stage::Answered => {
                let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
                let length = usize::from(u16::from_be_bytes(*length));
                let Some(bytes) = rest.get(..length) else { return Ok(None) };
                let hello = Hello::read(bytes).map_err(Fault::Mistrusted)?;
                if hello.from.len() > ID_BYTES_MAX {
                    return Err(Fault::Mistrusted(Mistrust::Malformed));
                }
                let welcome = own.secret.welcome(&hello, own.me.as_str(), nonce(), own.date);
                let welcome = welcome.map_err(Fault::Mistrusted)?;
                self.outbox.extend_from_slice(&welcome.nonce);
                self.outbox.extend_from_slice(&welcome.tag);
                Ok(Some((Stage::Welcomed(hello, welcome), 2 + length)))
            }
            Stage::Welcomed(hello, welcome) => {
                let Some(proof) = rest.first_chunk::<32>() else { return Ok(None) };
                let channels = own.secret.accept(hello, welcome, proof);
                let channels = channels.map_err(Fault::Mistrusted)?;
                self.peer = Some(RouterId::new(&hello.from));
                Ok(Some((Stage::Proven(channels), 32)))
            }
            _ => {
                let Some(count) = head_end(rest) else { return Ok(None) };
                if !rest.starts_with(format!("GET {PATH} ").as_bytes()) {
                    return Err(Fault::NoRouter(first_line(rest)));
                }
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                     upgrade: {PROTOCOL}\r\n\r\n"
                );
                self.outbox.extend_from_slice(answer.as_bytes());
                Ok(Some((Stage::Answered, count)))
            }
        }
    }

    fn goes_on(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
    }

    /// Writes what can be written; what is next is put into a frame when the last one has left.
    fn write(&mut self) -> Result<(), Fault> {
        loop {
            while self.sent < self.outbox.len() {
                match self.socket.write(&self.outbox[self.sent..]) {
                    Ok(0) => return Err(Fault::Broken(ErrorKind::WriteZero.into())),
                    Ok(count) => {
                        self.sent += count;
                        self.bytes.1 += count as u64;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(Fault::Broken(error)),
                }
            }
            self.outbox.clear();
            self.outbox.shrink_to(CHUNK);
            self.sent = 0;
            let Stage::Proven(channels) = &mut self.stage else { return Ok(()) };
            let mut payload = Vec::new();
            if let Some(document) = self.document.take() {
                payload.push(DOCUMENT);
                payload.extend(document.encode());
            } else if let Some(counters) = self.counters.take() {
                payload.push(COUNTERS);
                payload.extend(counters.encode());
            } else {
                return Ok(());
            }
            if payload.len() > FRAME_BYTES_MAX {
                tracing::error!(bytes = payload.len(), "a document is too long for a frame");
                continue;
            }
            channels.out.seal(&payload, &mut self.outbox);
            self.frames.1 += 1;
        }
    }
}

/// A payload of a router that has proved itself.
fn read(from: RouterId, payload: &[u8]) -> Result<Heard, Fault> {
    match payload.split_first() {
        Some((&DOCUMENT, bytes)) => {
            let it = Document::decode(bytes).map_err(|_| Fault::Unreadable)?;
            Ok(Heard::Document(from, Box::new(it)))
        }
        Some((&COUNTERS, bytes)) => {
            let it = Counters::decode(bytes).map_err(|_| Fault::Unreadable)?;
            Ok(Heard::Counters(from, Box::new(it)))
        }
        _ => Err(Fault::Unreadable),
    }
}

/// Where a head of HTTP ends.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|it| it == b"\r\n\r\n").map(|it| it + 4)
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|it| *it == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned()
}

fn two(bytes: &[u8]) -> Option<(Nonce, Tag)> {
    let (first, rest) = bytes.split_first_chunk::<32>()?;
    Some((*first, *rest.first_chunk::<32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Date;
    use proptest::prelude::*;
    use std::net::TcpListener;

    /// A connection of a caller, and the caller's end.
    fn called() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let far = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (near, _) = listener.accept().expect("somebody connected");
        near.set_nonblocking(true).expect("an option");
        (Connection::called(near, Instant(0)), far)
    }

    const ASK: &[u8] = b"GET /waiter-peers HTTP/1.1\r\n\r\n";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever strangers say: they prove nothing, nothing is heard of them, and what is kept
        /// of them has a bound.
        #[test]
        fn strangers_are_not_heard(
            asks in any::<bool>(),
            said in prop::collection::vec(any::<u8>(), 0..20_000),
        ) {
            let (mut near, mut far) = called();
            let bytes = if asks { [ASK, &said].concat() } else { said };
            far.write_all(&bytes).expect("it is read from or fits");
            let secret = Secret::new(b"0123456789abcdef").expect("long enough");
            let me = RouterId::new("me");
            let own = Own { me: &me, secret: &secret, now: Instant(1), date: Date(1) };
            let _ = near.readable(&own, || [7; 32], |it| panic!("heard {it:?}"));
            prop_assert!(!near.is_proven() && near.inbox.len() <= GREETING_MAX + CHUNK);
        }
    }
}
