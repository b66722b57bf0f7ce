//! The codec's face is enough for a protocol with many streams: a toy one on the client's side.
//!
//! A frame is `stream: u8, kind: u8, length: u16, payload`. Kinds from the client: `h` (payload:
//! the authority) begins a request, `b` is body, `e` ends it, `r` breaks it off, `w` grants window
//! (payload: u32) for its response. To the client: `h` (payload: the status), `b`, `e`, `r`, and
//! `w` for the request's body.

use super::world::{Habit, Id, Setup, World};
use crate::base::limits::Limits;
use crate::base::time::Instant;
use crate::wire::codec::{Cause, Close, Codec, Input, Needs, Part, Read, Stream};
use crate::wire::head::{Head, Length};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Toy {
    kept: Vec<u8>,
    taken: usize,
    head: Head,
    /// Room for the bodies of requests, by stream.
    room: BTreeMap<u32, u32>,
    ended: bool,
    retiring: bool,
    broken: bool,
}

impl Toy {
    fn frame(stream: u32, kind: u8, payload: &[u8], out: &mut Vec<u8>) {
        out.push(u8::try_from(stream).expect("few streams"));
        out.push(kind);
        out.extend_from_slice(&u16::try_from(payload.len()).expect("small").to_be_bytes());
        out.extend_from_slice(payload);
    }

    fn part(&mut self, from: usize, to: usize) -> Option<(Stream, Part<'_>)> {
        const CUT: Cause = Cause::Closed;
        let (stream, kind) = (u32::from(self.kept[from]), self.kept[from + 1]);
        let payload = &self.kept[from + 4..to];
        let part = match kind {
            b'h' => {
                self.head.clear();
                self.head.set_authority(payload);
                self.head.set_target(b"/");
                self.head.length = Length::Unknown;
                self.head.method = http::Method::POST;
                self.room.insert(stream, 0);
                Part::Head(&self.head)
            }
            b'b' => {
                let room = self.room.get_mut(&stream).expect("of a stream that began");
                let length = u32::try_from(payload.len()).expect("small");
                *room = room.checked_sub(length).expect("the client keeps to its window");
                Part::Body(payload)
            }
            b'e' => Part::End(None),
            b'r' => Part::Cut(&CUT),
            other => panic!("no such frame: {other}"),
        };
        Some((Stream(stream), part))
    }
}

impl Codec for Toy {
    fn read<'a>(&'a mut self, input: Input<'a>, _: Instant, _: &mut Vec<u8>) -> Read<'a> {
        let used = match input {
            Input::Bytes(bytes) => {
                self.kept.drain(..std::mem::take(&mut self.taken));
                self.kept.extend_from_slice(bytes);
                bytes.len()
            }
            Input::End => {
                self.ended = true;
                0
            }
            Input::Tick => 0,
        };
        let from = self.taken;
        let Some(head) = self.kept.get(from..from + 4) else { return Read { used, part: None } };
        let to = from + 4 + usize::from(u16::from_be_bytes([head[2], head[3]]));
        if self.kept.len() < to {
            return Read { used, part: None };
        }
        self.taken = to;
        Read { used, part: self.part(from, to) }
    }

    fn write(&mut self, stream: Stream, part: Part<'_>, _: Instant, out: &mut Vec<u8>) {
        match part {
            Part::Head(head) => Self::frame(stream.0, b'h', head.status.as_str().as_bytes(), out),
            Part::Body(bytes) => {
                for piece in bytes.chunks(1000) {
                    Self::frame(stream.0, b'b', piece, out);
                }
            }
            Part::End(_) => Self::frame(stream.0, b'e', b"", out),
            Part::Cut(_) | Part::Refused(..) => Self::frame(stream.0, b'r', b"", out),
        }
    }

    fn room(&mut self, stream: Stream, bytes: u32, out: &mut Vec<u8>) {
        if let Some(room) = self.room.get_mut(&stream.0) {
            *room += bytes;
            Self::frame(stream.0, b'w', &bytes.to_be_bytes(), out);
        }
    }

    fn needs(&self) -> Needs {
        Needs {
            intake: if self.ended { 0 } else { 4096 },
            peer_ended: self.ended,
            close: if self.ended || self.retiring || self.broken {
                Close::Flush
            } else {
                Close::Open
            },
            ..Needs::default()
        }
    }

    fn retire(&mut self) {
        self.retiring = true;
    }
}

/// What the client saw of one stream.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    status: String,
    body: Vec<u8>,
    over: Option<char>,
    room: u32,
}

fn send(world: &mut World, client: Id, frames: &[(u8, u8, &[u8])]) {
    let mut bytes = Vec::new();
    for (stream, kind, payload) in frames {
        Toy::frame(u32::from(*stream), *kind, payload, &mut bytes);
    }
    world.send(client, bytes);
}

fn seen(world: &mut World, client: Id) -> BTreeMap<u8, Seen> {
    let mut all = BTreeMap::<u8, Seen>::new();
    let mut rest = &world.remote(client).got[..];
    while let [stream, kind, high, low, more @ ..] = rest {
        let (payload, more) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        let it = all.entry(*stream).or_default();
        assert_eq!(it.over, None, "nothing follows an end");
        match kind {
            b'h' => it.status = String::from_utf8_lossy(payload).into_owned(),
            b'b' => it.body.extend_from_slice(payload),
            b'w' => it.room += u32::from_be_bytes(payload.try_into().expect("four bytes")),
            end => it.over = Some(char::from(*end)),
        }
        rest = more;
    }
    assert!(rest.is_empty(), "whole frames");
    all
}

fn world(window_bytes: u32) -> (World, Id) {
    let limits = Limits { window_bytes, ..Limits::PRODUCTION };
    let mut world = World::new(Setup { limits, ..Setup::default() });
    let client = world.client_with(0, Box::<Toy>::default());
    (world, client)
}

#[test]
fn two_requests_are_interleaved_on_one_connection() {
    let (mut world, client) = world(1000);
    send(&mut world, client, &[(1, b'h', b"bench"), (2, b'h', b"bench")]);
    send(
        &mut world,
        client,
        &[(1, b'b', b"on"), (2, b'b', b"two"), (1, b'b', b"e"), (2, b'e', b"")],
    );
    let [first, second] = world.asked()[..] else { panic!("two connections, one each") };
    assert!(world.got(second).ends_with("two\r\n0\r\n\r\n"));
    world.answer(second, "HTTP/1.1 202 Accepted\r\ncontent-length: 6\r\n\r\nsec");
    send(&mut world, client, &[(1, b'e', b"")]);
    assert!(world.got(first).ends_with("on\r\n1\r\ne\r\n0\r\n\r\n"));
    world.answer(first, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst");
    world.send(second, "ond");
    let seen = seen(&mut world, client);
    let expected = |status: &str, body: &[u8]| (status.to_owned(), body.to_vec(), Some('e'));
    let told = |at: u8| (seen[&at].status.clone(), seen[&at].body.clone(), seen[&at].over);
    assert_eq!(told(1), expected("200", b"first"));
    assert_eq!(told(2), expected("202", b"second"));
    assert!(!world.is_closed(client));
    world.end_of_play();
}

#[test]
fn each_stream_has_a_window_of_its_own() {
    let (mut world, client) = world(1000);
    send(&mut world, client, &[(1, b'h', b"bench"), (2, b'h', b"bench")]);
    let [first, second] = world.asked()[..] else { panic!("two connections, one each") };
    world.remote(first).reads = false;
    let kilobyte = [b'x'; 1000];
    send(&mut world, client, &[(1, b'b', &kilobyte), (2, b'b', &kilobyte)]);
    let rooms = |world: &mut World| {
        let seen = seen(world, client);
        (seen[&1].room, seen[&2].room)
    };
    assert_eq!(rooms(&mut world), (1000, 2000), "who reads gets more");
    world.remote(first).reads = true;
    world.settle();
    assert_eq!(rooms(&mut world), (2000, 2000));
    for stream in [1, 2] {
        send(&mut world, client, &[(stream, b'e', b"")]);
    }
    for instance in [first, second] {
        world.answer(instance, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
    world.end_of_play();
}

#[test]
fn a_client_that_does_not_read_holds_all_its_streams_and_their_instances() {
    let (mut world, client) = world(1000);
    send(&mut world, client, &[(1, b'h', b"bench"), (2, b'h', b"bench")]);
    send(&mut world, client, &[(1, b'e', b""), (2, b'e', b"")]);
    world.remote(client).reads = false;
    let body = "x".repeat(100_000);
    for instance in world.asked() {
        world.answer(instance, format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{body}"));
    }
    assert!(world.queued_most < 2500, "two windows: {}", world.queued_most);
    world.remote(client).reads = true;
    world.settle();
    let seen = seen(&mut world, client);
    assert_eq!((seen[&1].body.len(), seen[&2].body.len()), (100_000, 100_000));
    world.end_of_play();
}

#[test]
fn a_stream_that_is_broken_off_leaves_the_other_alone() {
    let (mut world, client) = world(1000);
    send(&mut world, client, &[(1, b'h', b"bench"), (2, b'h', b"bench"), (2, b'e', b"")]);
    let [first, second] = world.asked()[..] else { panic!("two connections, one each") };
    send(&mut world, client, &[(1, b'r', b"")]);
    assert!(world.is_closed(first) && !world.is_closed(client));
    world.answer(second, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    let seen = seen(&mut world, client);
    assert_eq!((seen[&1].over, seen[&2].over), (Some('r'), Some('e')));
    world.end_of_play();
}

#[test]
fn the_end_of_the_connection_ends_all_its_streams() {
    for by_reset in [true, false] {
        let (mut world, client) = world(1000);
        send(&mut world, client, &[(1, b'h', b"bench"), (2, b'h', b"bench"), (2, b'e', b"")]);
        if by_reset {
            world.reset(client)
        } else {
            world.end(client)
        }
        assert!(world.is_closed(client) && world.upstream().is_empty());
        world.end_of_play();
    }
}

#[test]
fn a_refused_stream_is_told_so() {
    let (mut world, client) = world(1000);
    world.habits.values_mut().for_each(|it| *it = Habit::Refuses);
    send(&mut world, client, &[(1, b'h', b"bench"), (3, b'h', b"nobody")]);
    let seen = seen(&mut world, client);
    assert_eq!((seen[&1].status.as_str(), seen[&3].status.as_str()), ("502", "400"));
    world.end_of_play();
}
