//! The ring driver against real sockets, with every feature of the kernel and without each.

mod passing;

use super::features::{Feature, Features, probe};
use super::operation::{Op, Tag};
use super::{Event, Ring, Tuning};
use crate::base::address::SocketAddr;
use crate::base::limits::Limits;
use crate::base::time::Duration;
use crate::mesh::clock;
use crate::shard::engine::{Engine, Link, Passed, Shut};
use crate::wire::codec::Due;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// Few and small, so that they run out.
const SMALL_COUNT: u16 = 16;
const SMALL_BYTES: usize = 4096;

/// Longest time a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A driver with what it has told so far.
struct Rig {
    ring: Ring,
    address: SocketAddr,
    accepted: Vec<Link>,
    opened: Vec<Link>,
    failed: Vec<Link>,
    ended: Vec<Link>,
    broken: Vec<Link>,
    came: HashMap<Link, Vec<u8>>,
    sent: HashMap<Link, usize>,
    passed: HashMap<Link, Vec<Passed>>,
    /// In which order links said something for the first time.
    first: Vec<Link>,
    /// Room given anew after each piece, if any.
    room: usize,
    due: Due,
}

/// All features there are here, and all without one, and none.
fn sets() -> Vec<Features> {
    let all = probe().expect("tests run where io_uring is allowed");
    let mut sets = vec![all, Features::default()];
    sets.extend(Feature::ALL.map(|it| all.without(it)));
    sets
}

impl Rig {
    fn new(features: Features) -> Self {
        Self::with_depth(features, 64)
    }

    fn with_depth(features: Features, depth: u32) -> Self {
        let tuning = Tuning {
            features,
            depth,
            small_count: SMALL_COUNT,
            small_bytes: SMALL_BYTES,
            large_count: SMALL_COUNT,
            large_bytes: 4 * SMALL_BYTES,
            spin: Duration::ZERO,
        };
        let mut ring = Ring::new(tuning, &Limits::PRODUCTION, clock::now()).expect("a ring");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        ring.accept(listener).expect("a listener");
        Self {
            ring,
            address,
            accepted: Vec::new(),
            opened: Vec::new(),
            failed: Vec::new(),
            ended: Vec::new(),
            broken: Vec::new(),
            came: HashMap::new(),
            sent: HashMap::new(),
            passed: HashMap::new(),
            first: Vec::new(),
            room: 1 << 20,
            due: Due::Message,
        }
    }

    fn turn(&mut self) {
        self.ring.turn(Duration::from_millis(2));
        self.ring.passes(clock::now());
        while let Some(event) = self.ring.next_event() {
            self.told(event);
        }
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Arrived(socket, _) => {
                let link = self.ring.adopt(socket);
                self.accepted.push(link);
                self.ring.receive(link, self.room, self.due);
            }
            Event::Opened(link) => {
                self.opened.push(link);
                self.ring.receive(link, self.room, self.due);
            }
            Event::OpenFailed(link, _) => {
                self.failed.push(link);
                self.ring.close(link, Shut::Now);
            }
            Event::Received(link, mut lent) => {
                assert!(lent.bytes().len() <= self.room, "no more than the room");
                if !self.came.contains_key(&link) {
                    self.first.push(link);
                }
                self.came.entry(link).or_default().extend_from_slice(lent.bytes());
                self.ring.give_back(lent);
            }
            Event::Kept(link, bytes) => {
                assert!(bytes.len() <= self.room, "no more than the room");
                self.came.entry(link).or_default().extend_from_slice(&bytes);
            }
            Event::Ended(link) => self.ended.push(link),
            Event::Sent(link, bytes) => *self.sent.entry(link).or_default() += bytes,
            Event::Passed(link, passed) => self.passed.entry(link).or_default().push(passed),
            Event::Broken(link) => self.broken.push(link),
        }
    }

    /// Turns until it is so.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = clock::now() + PATIENCE;
        while !is_so(self) {
            assert!(clock::now() < end, "{what}");
            self.turn();
        }
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    /// A client of the driver, and the driver's end.
    fn client(&mut self) -> (TcpStream, Link) {
        let before = self.accepted.len();
        let client = TcpStream::connect(self.address).expect("it listens");
        self.until("it is accepted", |it| it.accepted.len() > before);
        (client, self.accepted[before])
    }

    fn has_come(&self, link: Link) -> usize {
        self.came.get(&link).map_or(0, Vec::len)
    }

    fn is_gone(&self) -> bool {
        self.ring.wires.is_empty() && self.ring.intake().buffers_taken == 0
    }

    /// Closes all, and sees that nothing stays.
    fn end(mut self, links: &[Link]) {
        for link in links {
            self.ring.close(*link, Shut::Now);
        }
        self.until("nothing stays", Self::is_gone);
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|it| (it * 7 % 251) as u8).collect()
}

#[test]
fn bytes_go_both_ways_whatever_the_kernel_can() {
    for features in sets() {
        let mut rig = Rig::new(features);
        let (mut client, link) = rig.client();
        let said = pattern(300_000);
        let reader = {
            let (mut client, said) = (client.try_clone().expect("a clone"), said.clone());
            std::thread::spawn(move || {
                client.write_all(&said).expect("it is read");
                let mut heard = vec![0; said.len()];
                client.read_exact(&mut heard).expect("it is sent");
                heard
            })
        };
        rig.until("all has come", |it| it.has_come(link) == said.len());
        assert_eq!(rig.came[&link], said, "{features}");
        rig.ring.send(link, &mut said.clone());
        rig.until("all has left", |it| it.sent.get(&link) == Some(&said.len()));
        assert_eq!(reader.join().expect("it ends"), said, "{features}");
        client.write_all(b"x").expect("it is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        rig.until("its end is told", |it| it.ended == [link]);
        assert_eq!(rig.has_come(link), said.len() + 1, "the end comes last");
        rig.end(&[link]);
    }
}

#[test]
fn no_more_comes_than_there_is_room_for_and_the_rest_comes_later_in_order() {
    for features in sets() {
        for due in [Due::Message, Due::More] {
            let mut rig = Rig::new(features);
            rig.room = 1000;
            rig.due = due;
            let (mut client, link) = rig.client();
            let said = pattern(50_000);
            client.write_all(&said).expect("it fits into the kernel");
            rig.until("it begins", |it| it.has_come(link) >= 5000);
            rig.ring.receive(link, 0, due);
            rig.turns(20);
            let had = rig.has_come(link);
            rig.turns(20);
            assert_eq!(rig.has_come(link), had, "nothing comes without room");
            rig.ring.receive(link, rig.room, due);
            rig.until("the rest comes", |it| it.has_come(link) == said.len());
            assert_eq!(rig.came[&link], said);
            rig.end(&[link]);
        }
    }
}

#[test]
fn who_came_first_is_heard_first() {
    for features in sets() {
        let mut rig = Rig::new(features);
        let connect = |_| {
            let mut client = TcpStream::connect(rig.address).expect("it listens");
            client.write_all(b"me").expect("it fits into the kernel");
            client
        };
        let clients: Vec<TcpStream> = (0..SMALL_COUNT).map(connect).collect();
        rig.until("all are heard", |it| it.first.len() == clients.len());
        assert_eq!(rig.first, rig.accepted, "{features}");
        let links = rig.accepted.clone();
        rig.end(&links);
    }
}

#[test]
fn more_connections_than_buffers_lose_nothing() {
    for features in sets() {
        let mut rig = Rig::new(features);
        let mut clients: Vec<_> = (0..usize::from(SMALL_COUNT) * 4).map(|_| rig.client()).collect();
        let said = pattern(3 * SMALL_BYTES);
        for (client, _) in &mut clients {
            client.write_all(&said).expect("it fits into the kernel");
        }
        let links: Vec<Link> = clients.iter().map(|(_, link)| *link).collect();
        rig.until("all has come", |it| links.iter().all(|link| it.has_come(*link) == said.len()));
        assert!(links.iter().all(|link| rig.came[link] == said));
        assert!(rig.ring.intake().starved > 0, "there were too few buffers");
        rig.end(&links);
    }
}

#[test]
fn closing_after_the_last_byte_resets_nobody() {
    for features in sets() {
        let mut rig = Rig::new(features);
        let (mut client, link) = rig.client();
        client.write_all(&pattern(20_000)).expect("it fits into the kernel");
        let answer = pattern(1 << 20);
        rig.ring.send(link, &mut answer.clone());
        rig.ring.close(link, Shut::Flush);
        let reader = std::thread::spawn(move || {
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).expect("no reset");
            heard
        });
        let end = clock::now() + PATIENCE;
        while !reader.is_finished() {
            assert!(clock::now() < end, "it ends");
            rig.turn();
        }
        assert_eq!(reader.join().expect("it ends"), answer, "{features}");
        rig.until("nothing stays", Rig::is_gone);
        assert!(rig.broken.is_empty() && rig.sent.is_empty(), "nothing is told after closing");
    }
}

#[test]
fn a_connection_leaves_one_driver_and_goes_on_in_another() {
    for features in sets() {
        let (mut first, mut second) = (Rig::new(features), Rig::new(features));
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        first.due = Due::Nothing;
        let link = first.ring.connect(server.local_addr().expect("it is bound"));
        first.until("it is open", |it| it.opened == [link]);
        let (mut peer, _) = server.accept().expect("it has connected");
        let socket = first.ring.detach(link).expect("nothing is under way");
        assert!(first.ring.wires.is_empty() && first.ring.detach(link).is_none());
        peer.write_all(b"hello").expect("it is open");
        let link = second.ring.adopt(socket);
        second.ring.receive(link, 100, Due::More);
        second.until("it has come", |it| it.has_come(link) == 5);
        assert!(second.ring.detach(link).is_some(), "nothing is under way again");
        second.end(&[]);
    }
}

#[test]
fn where_nothing_is_due_the_end_is_seen_after_a_while() {
    for features in sets() {
        let mut rig = Rig::new(features);
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        rig.due = Due::Nothing;
        let link = rig.ring.connect(server.local_addr().expect("it is bound"));
        rig.until("it is open", |it| it.opened == [link]);
        let (peer, _) = server.accept().expect("it has connected");
        drop(peer);
        rig.until("its end is told", |it| it.ended == [link]);
        rig.end(&[link]);
    }
}

#[test]
fn connections_that_cannot_be_made_or_break_are_told_of() {
    for features in sets() {
        let mut rig = Rig::new(features);
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = nobody.local_addr().expect("it is bound");
        drop(nobody);
        let link = rig.ring.connect(address);
        rig.until("it fails", |it| it.failed == [link]);
        let (client, link) = rig.client();
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a socket");
        drop(client); // a reset
        rig.until("it breaks", |it| it.broken == [link]);
        rig.end(&[link]);
    }
}

#[test]
fn closing_at_once_ends_whatever_is_under_way() {
    for features in sets() {
        let mut rig = Rig::new(features);
        let (client, link) = rig.client();
        // Nobody reads: the send stays under way.
        rig.ring.send(link, &mut pattern(64 << 20));
        rig.turns(10);
        rig.ring.close(link, Shut::Now);
        let told = rig.sent.get(&link).copied();
        rig.until("nothing stays", Rig::is_gone);
        assert_eq!(rig.sent.get(&link).copied(), told, "nothing is told after closing");
        drop(client);
        // One that still connects.
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let link = rig.ring.connect(server.local_addr().expect("it is bound"));
        rig.ring.close(link, Shut::Now);
        rig.until("nothing stays", Rig::is_gone);
        assert!(rig.opened.is_empty() && rig.failed.is_empty());
    }
}

#[test]
fn who_has_connected_when_accepting_ends_is_taken_over() {
    for features in sets() {
        let mut rig = Rig::new(features);
        rig.turns(2);
        let clients: Vec<_> =
            (0..20).map(|_| TcpStream::connect(rig.address).expect("it listens")).collect();
        rig.ring.stop_accepting();
        let mut taken = 0;
        let end = clock::now() + PATIENCE;
        while taken + rig.accepted.len() < clients.len() {
            assert!(clock::now() < end, "all are taken over");
            rig.turn();
            for (socket, _) in rig.ring.last_clients() {
                taken += 1;
                drop(socket);
            }
        }
        assert!(TcpStream::connect(rig.address).is_err(), "it listens no more");
        let links = rig.accepted.clone();
        rig.end(&links);
    }
}

#[test]
fn a_sleeping_ring_is_woken_by_a_knock_or_by_its_waker() {
    let features = probe().expect("tests run where io_uring is allowed");
    let mut sleeper = Rig::new(features);
    sleeper.turns(2);
    let (ring, waker) = (sleeper.ring.descriptor(), sleeper.ring.waker());
    let (wakes, woken) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        let mut rig = Rig::new(features);
        waker.wake();
        woken.recv().expect("the sleeper goes on");
        assert_eq!(rig.ring.knock(ring, 0), features.has(Feature::MessageRing));
        rig.turns(2);
        assert_eq!(rig.ring.refused_knock(), None);
        assert!(!rig.ring.knock(-1, 0), "it has no ring");
    });
    for _ in 0..2 {
        let begun = clock::now();
        sleeper.ring.turn(PATIENCE);
        assert!(clock::now() - begun < PATIENCE, "it was woken");
        assert!(!sleeper.ring.was_idle());
        sleeper.ring.passes(clock::now());
        assert!(sleeper.ring.next_event().is_none(), "to be woken is no event");
        let _ = wakes.send(()); // the second time nobody waits for it
    }
    other.join().expect("it knocks");
}

#[test]
fn sleeps_that_something_else_ends_leave_no_timeouts_behind() {
    let mut rig = Rig::new(probe().expect("io_uring is allowed"));
    for _ in 0..50 {
        // Whoever has lain down is woken at once by somebody, and lies down again.
        rig.ring.waker().wake();
        while rig.ring.lies_down() {}
        rig.ring.rises();
        while rig.ring.next_event().is_some() {}
    }
    // Of all these sleeps one timeout is left at most.
    let until = clock::now() + super::park::PATIENCE * 3;
    let mut completions = 0;
    while clock::now() < until {
        rig.ring.turn(Duration::from_millis(10));
        completions += rig.ring.done.len();
        while rig.ring.next_event().is_some() {}
    }
    assert!(completions <= 2, "{completions} completions of an idle ring");
}

#[test]
fn who_sleeps_in_glommio_is_woken_by_the_bell_each_time() {
    const SLEEPS: usize = 50;
    let (wakers, waker) = std::sync::mpsc::channel();
    let (woken, wakes) = std::sync::mpsc::channel();
    let sleeper =
        glommio::LocalExecutorBuilder::default().io_memory(64 << 10).spawn(move || async move {
            let mut rig = Rig::new(probe().expect("io_uring is allowed"));
            let pillow = rig.ring.pillow().expect("a descriptor");
            wakers.send(rig.ring.waker()).expect("it is waited for");
            let mut rings = 0;
            while rings < SLEEPS {
                if rig.ring.lies_down() {
                    pillow.sleep().await;
                    rig.ring.rises();
                    rig.ring.turn(Duration::ZERO);
                }
                // Others end a sleep too: the tick, after a while.
                let rung = rig.ring.done.iter().any(|it| Tag(it.tag).op() == Op::Bell);
                while rig.ring.next_event().is_some() {}
                if rung {
                    rings += 1;
                    woken.send(()).expect("it is waited for");
                }
            }
        });
    let sleeper = sleeper.expect("an executor");
    let waker = waker.recv().expect("the sleeper begins");
    for _ in 0..SLEEPS {
        std::thread::sleep(Duration::from_millis(1)); // so that it sleeps
        waker.wake_by_ref();
        wakes.recv_timeout(PATIENCE).expect("it has been woken");
    }
    sleeper.join().expect("it does not panic");
}

#[test]
fn completions_for_which_the_queue_has_no_room_are_not_lost() {
    let mut overflowed = false;
    for features in sets() {
        let mut rig = Rig::with_depth(features, 8);
        let all: Vec<(TcpStream, Link)> = (0..150).map(|_| rig.client()).collect();
        rig.turns(3);
        for (client, _) in &all {
            let mut client = client;
            client.write_all(b"one").expect("it is open");
        }
        // Where completions are signalled they were queued as these bytes were written.
        overflowed |= rig.ring.queue.has_overflowed();
        let links: Vec<Link> = all.iter().map(|(_, link)| *link).collect();
        rig.until("all have come", |it| links.iter().all(|link| it.has_come(*link) == 3));
        assert!(links.iter().all(|link| rig.came[link] == b"one"), "{features}");
        rig.end(&links);
    }
    assert!(overflowed, "the queue was never too short");
}
