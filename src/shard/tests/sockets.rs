//! A shard on its own ring, with real sockets: a defect takes one connection.

use super::failures::Fragile;
use super::world::{Setup, settings};
use crate::base::limits::Limits;
use crate::base::socket::Socket;
use crate::base::time::Duration;
use crate::core::world::World;
use crate::mesh::{clock, join};
use crate::shard::access::AccessLog;
use crate::shard::engine::ring::{Event, Ring, Tuning, features};
use crate::shard::engine::{Engine, Happening};
use crate::shard::state::{Joins, Shard};
use crate::wire::call::{Answer, Call};
use crate::wire::codec::Codec;
use crate::wire::head::{Head, Length};
use crate::wire::http1;
use arc_swap::ArcSwap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

/// Longest time a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);
const PAGE: &[u8] = b"GET /apps HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A shard, and the API it asks.
struct Rig {
    shard: Shard<Ring>,
    calls: Receiver<Call>,
    answers: Sender<Answer>,
    listener: TcpListener,
}

impl Rig {
    fn new() -> Self {
        let tuning = Tuning {
            features: features::probe().expect("tests run where io_uring is allowed"),
            depth: 64,
            small_count: 16,
            small_bytes: 4096,
            large_count: 16,
            large_bytes: 4096,
            spin: Duration::ZERO,
        };
        let ring = Ring::new(tuning, &Limits::PRODUCTION, clock::now()).expect("a ring");
        let (mut posts, _control) = join(1, || Box::new(|_| Ok(())));
        let (to_api, calls) = sync_channel(8);
        let (answers, answered) = channel();
        let joins = Joins {
            post: posts.remove(0),
            worlds: Arc::new(ArcSwap::from_pointee(World::default())),
            calls: to_api,
            answers: answered,
            settings: Arc::new(settings(&Setup::default())),
            access: AccessLog::default(),
        };
        let shard = Shard::new(ring, joins, 1, clock::now());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self { shard, calls, answers, listener }
    }

    /// A client of the shard, which speaks to it through this codec.
    fn client(&mut self, codec: Box<dyn Codec>) -> TcpStream {
        let address = self.listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(address).expect("it listens");
        client.set_nonblocking(true).expect("an option");
        let (socket, peer) = self.listener.accept().expect("somebody connected");
        let link = self.shard.engine.adopt(Socket::new(socket.into()));
        self.shard.accepted(link, peer, codec);
        client
    }

    /// One turn of the loop; the API answers what it is asked.
    fn turn(&mut self) {
        while let Ok(call) = self.calls.try_recv() {
            let mut head = Head::default();
            head.length = Length::Exact(2);
            let answer = Answer { ticket: call.ticket, head, pieces: vec![b"hi".to_vec()] };
            self.answers.send(answer).expect("the shard is there");
        }
        let now = clock::now();
        self.shard.mail(now);
        self.shard.engine.turn(Duration::from_millis(2));
        self.shard.engine.passes(now);
        while let Some(event) = self.shard.engine.next_event() {
            match event {
                Event::Received(link, mut lent) => {
                    self.shard.happened(Happening::Received(link, lent.bytes()), now);
                    self.shard.engine.give_back(lent);
                }
                Event::Ended(link) => self.shard.happened(Happening::Ended(link), now),
                Event::Sent(link, sent) => self.shard.happened(Happening::Sent(link, sent), now),
                Event::Broken(link) => self.shard.happened(Happening::Broken(link), now),
                other => panic!("nobody asked for that: {other:?}"),
            }
        }
    }

    /// What comes to a client until it is whole, or the end.
    fn read(&mut self, client: &mut TcpStream, whole: &[u8]) -> Vec<u8> {
        let (end, mut got) = (clock::now() + PATIENCE, Vec::new());
        while !got.ends_with(whole) || got.is_empty() {
            assert!(clock::now() < end, "{:?}", String::from_utf8_lossy(&got));
            self.turn();
            let mut buffer = [0; 4096];
            match client.read(&mut buffer) {
                Ok(0) => return got,
                Ok(read) => got.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return got, // a reset ends it as well
            }
        }
        got
    }
}

#[test]
fn a_defect_in_one_connection_is_the_end_of_that_one_alone() {
    let mut rig = Rig::new();
    let codec = || http1::Server::new(&Limits::PRODUCTION, clock::now());
    let mut other = rig.client(Box::new(codec()));
    for _ in 0..3 {
        let mut unlucky = rig.client(Box::new(Fragile(codec())));
        unlucky.write_all(PAGE).expect("it is open");
        assert!(rig.read(&mut unlucky, b"hi").starts_with(b"HTTP/1.1 200 "));
        unlucky.write_all(b"GET /! HTTP/1.1\r\n\r\n").expect("it is open");
        assert!(rig.read(&mut unlucky, b"never").is_empty(), "it is closed");
        other.write_all(PAGE).expect("it is open");
        assert!(rig.read(&mut other, b"hi").starts_with(b"HTTP/1.1 200 "));
        assert_eq!(rig.shard.load(), (1, 0));
    }
}
