//! Instances that fail, clients that leave, and defects: the slot comes home, and who can be told
//! is told.

use super::world::{Habit, Setup, World};
use crate::base::limits::Limits;
use crate::base::time::{Duration, Instant};
use crate::core::letter::Command;
use crate::core::slots::Gate;
use crate::wire::call::Answer;
use crate::wire::codec::{Codec, Input, Needs, Part, Read, Stream};
use crate::wire::head::{Head, Length};
use crate::wire::http1;

const GET: &str = "GET / HTTP/1.1\r\nhost: bench\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: 3\r\n\r\nabc";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const TWO: &str = "bench=10.0.0.1:80,10.0.0.2:80";

fn two() -> World {
    World::new(Setup { service: TWO, ..Setup::default() })
}

#[test]
fn another_instance_is_tried_where_one_refuses() {
    let mut world = two();
    let first = world.instances[0].clone();
    world.habits.insert(first.address, Habit::Refuses);
    let client = world.client(0);
    world.send(client, POST);
    let instance = world.asked()[0];
    let second = world.instances[1].address;
    assert_eq!(world.remote(instance).address, Some(second));
    world.answer(instance, OK);
    assert!(world.take(client).ends_with("hi"));
    assert!(first.word.is(Gate::Ejected), "it rests");
    world.pass(Duration::from_millis(10_100));
    assert!(!first.word.is(Gate::Ejected), "for ten seconds");
    world.end_of_play();
}

#[test]
fn a_second_refusal_is_told_and_so_is_the_only_one() {
    for service in [TWO, "bench=10.0.0.1:80"] {
        for shards in [1, 2] {
            let setup = Setup { service, shards, habit: Habit::Refuses, ..Setup::default() };
            let mut world = World::new(setup);
            for shard in 0..shards {
                let client = world.client(shard);
                world.send(client, GET);
                let got = world.take(client);
                assert!(got.starts_with("HTTP/1.1 502 "), "{service} on {shard}: {got}");
                assert!(!world.is_closed(client));
            }
            world.pass(Duration::from_secs(60));
            world.end_of_play();
        }
    }
}

#[test]
fn a_connection_that_does_not_open_is_given_up() {
    let mut world = two();
    let first = world.instances[0].address;
    world.habits.insert(first, Habit::Silent);
    let client = world.client(0);
    world.send(client, GET);
    world.pass(Duration::from_millis(5100));
    let instance = world.asked()[0];
    world.answer(instance, OK);
    assert!(world.take(client).ends_with("hi"), "the other one");
    assert_eq!(world.upstream(), [instance]);
    world.end_of_play();
}

#[test]
fn a_stale_connection_is_tried_anew_where_that_is_safe() {
    for (request, again) in [(GET, true), (POST, false)] {
        let mut world = World::usual(Habit::Manual);
        let client = world.client(0);
        world.send(client, GET);
        let first = world.asked()[0];
        world.answer(first, OK);
        world.take(client);
        // The instance closes just as the next request is sent.
        world.send(client, request);
        world.end(first);
        assert!(world.is_closed(first));
        if again {
            let second = world.asked()[0];
            world.answer(second, OK);
            assert!(world.take(client).ends_with("hi"));
        } else {
            assert!(world.take(client).starts_with("HTTP/1.1 502 "));
        }
        world.end_of_play();
    }
}

#[test]
fn only_one_stale_connection_is_forgiven() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, GET);
    let first = world.asked()[0];
    world.answer(first, OK);
    world.take(client);
    world.send(client, GET);
    world.reset(first);
    let second = world.asked()[0];
    world.end(second);
    assert!(world.take(client).starts_with("HTTP/1.1 502 "));
    world.end_of_play();
}

#[test]
fn an_idle_connection_that_the_instance_closes_is_forgotten() {
    let mut world = World::usual(Habit::Answers(OK));
    let client = world.client(0);
    for _ in 0..3 {
        world.send(client, GET);
        assert!(world.take(client).ends_with("hi"));
        let instance = world.upstream()[0];
        world.end(instance);
        assert!(world.upstream().is_empty());
    }
    world.end_of_play();
}

#[test]
fn a_response_that_breaks_off_breaks_the_clients_off() {
    for tail in ["ab", ""] {
        let mut world = World::usual(Habit::Manual);
        let client = world.client(0);
        world.send(client, GET);
        let instance = world.asked()[0];
        world.answer(instance, format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{tail}"));
        world.end(instance);
        assert!(world.is_closed(client), "a whole response must not be believed");
        assert!(world.take(client).ends_with(tail));
        world.end_of_play();
    }
}

#[test]
fn what_is_no_response_is_a_502() {
    for response in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", ""] {
        let mut world = World::usual(Habit::Manual);
        let client = world.client(0);
        world.send(client, GET);
        let instance = world.asked()[0];
        world.answer(instance, response);
        world.end(instance);
        assert!(world.take(client).starts_with("HTTP/1.1 502 "), "{response}");
        assert!(!world.is_closed(client));
        world.end_of_play();
    }
}

#[test]
fn a_503_of_an_instance_is_passed_on() {
    let mut world = two();
    let client = world.client(0);
    world.send(client, GET);
    let instance = world.asked()[0];
    world.answer(instance, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy");
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 503 ") && got.ends_with("busy"), "{got}");
    world.end_of_play();
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, GET);
    let instance = world.asked()[0];
    world.reset(client);
    assert!(world.is_closed(instance));
    world.end_of_play();
}

#[test]
fn an_instance_that_cannot_stop_is_read_to_its_end() {
    let service = "bench=10.0.0.1:80;client-abort=finish";
    for leaves_by_reset in [true, false] {
        let mut world = World::new(Setup { service, ..Setup::default() });
        let client = world.client(0);
        world.send(client, GET);
        let instance = world.asked()[0];
        if leaves_by_reset {
            world.reset(client)
        } else {
            world.end(client)
        }
        assert!(!world.is_closed(instance));
        assert_eq!(world.instances[0].word.used(), 1, "it works on");
        let body = "x".repeat(1_000_000);
        world.answer(instance, format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{body}"));
        assert_eq!(world.instances[0].word.used(), 0);
        assert!(!world.is_closed(instance), "and its connection is good");
        world.end_of_play();
    }
}

#[test]
fn an_instance_that_says_nothing_is_a_504() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, "GET / HTTP/1.1\r\nhost: bench\r\nx-waiter-timeout: 1000\r\n\r\n");
    world.pass(Duration::from_millis(900));
    assert_eq!(world.got(client), "");
    world.pass(Duration::from_millis(200));
    assert!(world.take(client).starts_with("HTTP/1.1 504 "));
    world.end_of_play();
}

#[test]
fn a_client_that_does_not_send_its_body_is_a_408() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, &POST[..POST.len() - 1]);
    world.pass(Duration::from_secs(29));
    assert_eq!(world.got(client), "");
    world.pass(Duration::from_secs(2));
    assert!(world.take(client).starts_with("HTTP/1.1 408 "));
    assert!(world.is_closed(client) && world.upstream().is_empty());
    world.end_of_play();
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, GET);
    world.remote(client).reads = false;
    let instance = world.asked()[0];
    let body = "x".repeat(1_000_000);
    world.answer(instance, format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{body}"));
    assert!(world.queued_most <= Limits::PRODUCTION.window_bytes as usize + 1024);
    world.pass(Duration::from_secs(31));
    assert!(world.is_closed(client) && world.upstream().is_empty());
    world.end_of_play();
}

#[test]
fn an_instance_that_does_not_take_a_body_is_a_504() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, "POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: 1000000\r\n\r\n");
    let instance = world.asked()[0];
    world.remote(instance).reads = false;
    world.send(client, "x".repeat(1_000_000));
    assert!(world.queued_most <= Limits::PRODUCTION.window_bytes as usize + 1024);
    world.pass(Duration::from_secs(21));
    assert!(world.take(client).starts_with("HTTP/1.1 504 "));
    world.end_of_play();
}

/// A codec that panics when it reads or writes a certain byte.
#[derive(Debug)]
pub(super) struct Fragile(pub(super) http1::Server);

impl Codec for Fragile {
    fn read<'a>(&'a mut self, input: Input<'a>, now: Instant, out: &mut Vec<u8>) -> Read<'a> {
        if let Input::Bytes(bytes) = input {
            assert!(!bytes.contains(&b'!'), "a defect, on purpose");
        }
        self.0.read(input, now, out)
    }

    fn write(&mut self, stream: Stream, part: Part<'_>, now: Instant, out: &mut Vec<u8>) {
        self.0.write(stream, part, now, out);
        let fatal = matches!(part, Part::Body(bytes) if bytes.contains(&b'!'));
        assert!(!fatal, "a defect, on purpose");
    }

    fn room(&mut self, stream: Stream, bytes: u32, out: &mut Vec<u8>) {
        self.0.room(stream, bytes, out);
    }

    fn needs(&self) -> Needs {
        self.0.needs()
    }

    fn retire(&mut self) {
        self.0.retire();
    }
}

#[test]
fn a_codec_that_panics_loses_its_connection_only() {
    let mut world = World::usual(Habit::Manual);
    let fragile = Fragile(http1::Server::new(&Limits::PRODUCTION, world.now));
    let (unlucky, other) = (world.client_with(0, Box::new(fragile)), world.client(0));
    world.send(other, GET);
    let instance = world.asked()[0];
    world.send(unlucky, &POST[..POST.len() - 1]);
    assert_eq!(world.instances[0].word.used(), 2);
    world.send(unlucky, "!");
    assert!(world.is_closed(unlucky));
    assert_eq!(world.instances[0].word.used(), 1);
    world.answer(instance, OK);
    assert!(world.take(other).ends_with("hi"));
    world.end_of_play();
}

#[test]
fn a_codec_that_panics_while_it_writes_loses_its_connection_only() {
    let mut world = World::usual(Habit::Manual);
    let fragile = Fragile(http1::Server::new(&Limits::PRODUCTION, world.now));
    let (unlucky, other) = (world.client_with(0, Box::new(fragile)), world.client(0));
    world.send(unlucky, GET);
    let first = world.asked()[0];
    world.send(other, GET);
    let second = world.asked().into_iter().find(|it| *it != first).expect("another");
    world.answer(first, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbad");
    assert!(world.take(unlucky).ends_with("bad"), "so far it is well");
    world.answer(first, "!");
    assert!(world.take(unlucky).is_empty(), "what it wrote is taken back");
    assert!(world.is_closed(unlucky));
    assert_eq!(world.instances[0].word.used(), 1);
    world.answer(second, OK);
    assert!(world.take(other).ends_with("hi"));
    world.end_of_play();
}

/// A codec that breaks the contract: a second head on the same stream is a defect in the exchange.
#[derive(Debug)]
struct Twice(Head, u32);

impl Codec for Twice {
    fn read<'a>(&'a mut self, input: Input<'a>, _: Instant, _: &mut Vec<u8>) -> Read<'a> {
        let Input::Bytes([_, ..]) = input else { return Read { used: 0, part: None } };
        self.1 += 1;
        let stream = Stream(self.1 / 2);
        Read { used: 1, part: Some((stream, Part::Head(&self.0))) }
    }

    fn write(&mut self, _: Stream, _: Part<'_>, _: Instant, _: &mut Vec<u8>) {}

    fn room(&mut self, _: Stream, _: u32, _: &mut Vec<u8>) {}

    fn needs(&self) -> Needs {
        Needs { intake: 1, ..Needs::default() }
    }

    fn retire(&mut self) {}
}

#[test]
fn an_exchange_that_panics_gives_its_slot_back() {
    let mut world =
        World::new(Setup { service: "bench=10.0.0.1:80;concurrency-level=2", ..Setup::default() });
    let mut head = Head::default();
    head.set_authority(b"bench");
    head.length = Length::Absent;
    let client = world.client_with(0, Box::new(Twice(head, 0)));
    // Streams 0 and 1; then a second head of stream 1.
    world.send(client, "ab");
    assert_eq!(world.instances[0].word.used(), 2);
    world.send(client, "c");
    assert!(world.is_closed(client) && world.upstream().is_empty(), "with both its streams");
    world.end_of_play();
}

const PAGE: &str = "POST /apps HTTP/1.1\r\nhost: localhost\r\n";

#[test]
fn a_call_goes_to_the_api_and_its_answer_comes_back() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, "GET /apps?x HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let call = world.calls.try_recv().expect("a call");
    assert_eq!((call.head.target(), call.body.len()), (&b"/apps?x"[..], 0));
    let mut head = Head::default();
    head.length = Length::Unknown;
    head.fields.push(b"content-type", b"text/plain");
    let pieces = vec![b"one ".to_vec(), Vec::new(), vec![b'x'; 600_000], b" end".to_vec()];
    world.answers[0].send(Answer { ticket: call.ticket, head, pieces }).expect("a shard");
    world.settle();
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.contains("one "), "{got}");
    assert!(got.matches('x').count() >= 600_000 && got.ends_with("\r\n0\r\n\r\n"));
    assert!(world.queued_most <= Limits::PRODUCTION.window_bytes as usize + 2048);
    world.end_of_play();
}

#[test]
fn a_call_that_is_too_long_is_refused() {
    let long = "x".repeat(1024 * 1024 + 1);
    for framing in [
        format!("content-length: {}\r\n\r\n{long}", long.len()),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len()),
    ] {
        // From this machine, so that it may change something.
        let mut world = World::usual(Habit::Manual);
        let client = world.local_client(0);
        world.send(client, format!("{PAGE}{framing}"));
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 400 "), "{got}");
        assert!(world.calls.try_recv().is_err() && world.is_closed(client));
        world.end_of_play();
    }
}

#[test]
fn an_api_that_does_not_answer_is_told() {
    let mut world = World::usual(Habit::Manual);
    let client = world.local_client(0);
    world.send(client, format!("{PAGE}content-length: 3\r\n\r\nabc"));
    let call = world.calls.try_recv().expect("a call");
    assert_eq!(call.body, b"abc");
    world.pass(Duration::from_secs(61));
    assert!(world.take(client).starts_with("HTTP/1.1 500 "));
    // Its answer comes too late, and harms nobody.
    let answer = Answer { ticket: call.ticket, head: Head::default(), pieces: Vec::new() };
    world.answers[0].send(answer).expect("a shard");
    world.settle();
    world.end_of_play();
}

#[test]
fn a_kill_locks_only_what_is_idle() {
    let mut world = World::new(Setup { service: "bench=10.0.0.1:80", ..Setup::default() });
    let id = world.service().id().clone();
    let client = world.client(0);
    world.send(client, GET);
    world.command(0, Command::Lock(id.clone()));
    assert!(!world.instances[0].word.is(Gate::Locked), "it is in use");
    let instance = world.asked()[0];
    world.answer(instance, OK);
    world.take(client);
    world.command(0, Command::Lock(id.clone()));
    assert!(world.instances[0].word.is(Gate::Locked));
    world.send(client, GET);
    assert!(world.asked().is_empty(), "it waits");
    world.command(0, Command::Unlock(id.clone(), world.instances[0].id(&id), false));
    let instance = world.asked()[0];
    world.answer(instance, OK);
    assert!(world.take(client).ends_with("hi"));
    world.end_of_play();
}
