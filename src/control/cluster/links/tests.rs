//! Threads that talk to each other over real sockets, each called at its inner address.

use super::*;
use crate::base::time::Duration;
use crate::core::peers::{Document, Member, counters};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Receiver;

const PATIENCE: Duration = Duration::from_secs(20);

struct Side {
    links: Links,
    heard: Receiver<Heard>,
}

fn side(name: &str, secret: &[u8]) -> Side {
    let (tell, heard) = channel();
    let secret = Secret::new(secret).expect("long enough");
    let hear = Box::new(move |it| {
        let _ = tell.send(it);
    });
    let links = Links::start(RouterId::new(name), secret, hear).expect("sockets");
    Side { links, heard }
}

fn member(name: &str, it: &Side) -> Member {
    Member { id: RouterId::new(name), address: it.links.address().to_string(), since: 0 }
}

/// Two that know the same secret, and each other.
fn acquainted() -> (Side, Side) {
    let (a, b) = (side("a", b"0123456789abcdef"), side("b", b"0123456789abcdef"));
    introduce(&a, &b);
    (a, b)
}

/// Each is told of the other.
fn introduce(a: &Side, b: &Side) {
    a.links.way().tell(Tell::Routers(vec![member("b", b)]));
    b.links.way().tell(Tell::Routers(vec![member("a", a)]));
}

fn document(seq: u64) -> Box<Document> {
    Box::new(Document { seq, ..Document::default() })
}

/// Says something until it is heard: before, there was no connection.
fn until_heard(from: &Side, (to, other): (&str, &Side), seq: u64) -> RouterId {
    let end = Duration::from_millis(50);
    for _ in 0..400 {
        from.links.way().tell(Tell::Document(RouterId::new(to), document(seq)));
        match other.heard.recv_timeout(end) {
            Ok(Heard::Document(id, it)) if it.seq == seq => return id,
            _ => {}
        }
    }
    panic!("nothing was heard");
}

fn until_shown(side: &Side, is_so: impl Fn(&Status) -> bool) {
    for _ in 0..400 {
        if is_so(&side.links.shown().load()) {
            return;
        }
        let _ = side.heard.recv_timeout(Duration::from_millis(20));
    }
    panic!("{:?}", side.links.shown().load());
}

#[test]
fn each_hears_the_other_in_its_proven_name() {
    let (a, b) = acquainted();
    assert_eq!(until_heard(&a, ("b", &b), 1).as_str(), "a");
    assert_eq!(until_heard(&b, ("a", &a), 2).as_str(), "b");
    let is_proven = |it: &Proven| it.frames.0 > 0 && it.frames.1 > 0 && it.bytes.0 > it.frames.0;
    until_shown(&a, |it| it.routers[0].link.as_ref().is_some_and(is_proven));
    let mut counters = counters::Exchange::default();
    assert!(counters.document(&RouterId::new("b")).is_none(), "nobody is a member");
}

#[test]
fn the_higher_calls_where_the_lower_does_not_know_the_way() {
    let (a, b) = (side("a", b"0123456789abcdef"), side("b", b"0123456789abcdef"));
    a.links.way().tell(Tell::Routers(vec![Member { address: String::new(), ..member("b", &b) }]));
    b.links.way().tell(Tell::Routers(vec![member("a", &a)]));
    assert_eq!(until_heard(&a, ("b", &b), 1).as_str(), "a");
    // Now the way is known; the connection there is stays, or is replaced, and nothing is lost for
    // long.
    a.links.way().tell(Tell::Routers(vec![member("b", &b)]));
    assert_eq!(until_heard(&b, ("a", &a), 2).as_str(), "b");
}

#[test]
fn another_secret_is_not_believed() {
    let (a, b) = (side("a", b"0123456789abcdef"), side("b", b"fedcba9876543210"));
    introduce(&a, &b);
    for seq in 1..20 {
        a.links.way().tell(Tell::Document(RouterId::new("b"), document(seq)));
        b.links.way().tell(Tell::Document(RouterId::new("a"), document(seq)));
        assert!(b.heard.recv_timeout(Duration::from_millis(20)).is_err());
        assert!(a.heard.try_recv().is_err());
    }
    until_shown(&a, |it| it.refused.forged > 0 && it.routers[0].last_error.is_some());
}

#[test]
fn strangers_are_cut_off_and_harm_nobody() {
    let (a, b) = (side("a", b"0123456789abcdef"), side("b", b"0123456789abcdef"));
    let mut strangers = Vec::new();
    for said in [&b"GET /elsewhere HTTP/1.1\r\n\r\n"[..], b"\x00\xff\r\n\r\n", &[b'x'; 200_000]] {
        let mut it = TcpStream::connect(b.links.address()).expect("it listens");
        it.set_read_timeout(Some(PATIENCE)).expect("a time");
        let _ = it.write_all(said); // it may be cut off before
        strangers.push(it);
    }
    let mut greeted = TcpStream::connect(b.links.address()).expect("it listens");
    greeted.set_read_timeout(Some(PATIENCE)).expect("a time");
    greeted.write_all(b"GET /waiter-peers HTTP/1.1\r\n\r\n\x00\x05aaaaa").expect("sent");
    strangers.push(greeted);
    for mut it in strangers {
        let mut rest = Vec::new();
        if let Err(error) = it.read_to_end(&mut rest) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
    introduce(&a, &b);
    assert_eq!(until_heard(&a, ("b", &b), 1).as_str(), "a");
}

#[test]
fn a_router_that_ended_is_found_again() {
    let (a, b) = acquainted();
    assert_eq!(until_heard(&a, ("b", &b), 1).as_str(), "a");
    drop(b);
    let again = side("b", b"0123456789abcdef");
    introduce(&a, &again);
    assert_eq!(until_heard(&a, ("b", &again), 2).as_str(), "a");
}

/// What is said on a connection is heard without another call: neither side has closed it.
#[test]
fn a_connection_stays() {
    for _ in 0..20 {
        let (a, b) = acquainted();
        assert_eq!(until_heard(&a, ("b", &b), 1).as_str(), "a");
        assert_eq!(until_heard(&b, ("a", &a), 2).as_str(), "b");
        for next in 3..6 {
            a.links.way().tell(Tell::Document(RouterId::new("b"), document(next)));
            let heard = || match b.heard.recv_timeout(PATIENCE).expect("it stays") {
                Heard::Document(_, it) => it.seq,
                Heard::Counters(..) => 0,
            };
            let first = std::iter::repeat_with(heard).find(|seq| *seq > 1);
            assert_eq!(first, Some(next), "each is heard once");
        }
    }
}

/// One that is not known there yet is called again after pauses that grow, not at once.
#[test]
fn who_is_not_known_yet_calls_seldom_and_is_heard_once_it_is() {
    let (a, b) = (side("a", b"0123456789abcdef"), side("b", b"0123456789abcdef"));
    a.links.way().tell(Tell::Routers(vec![member("b", &b)]));
    for seq in 1..20 {
        a.links.way().tell(Tell::Document(RouterId::new("b"), document(seq)));
        let _ = b.heard.recv_timeout(Duration::from_millis(20));
    }
    b.links.way().tell(Tell::Routers(vec![member("a", &a)]));
    assert_eq!(until_heard(&a, ("b", &b), 20).as_str(), "a");
}

#[test]
fn callers_who_prove_nothing_keep_no_router_out() {
    let (a, b) = (side("a", b"0123456789abcdef"), side("b", b"0123456789abcdef"));
    let call = || TcpStream::connect(b.links.address()).expect("it listens");
    let mut silent: Vec<TcpStream> = (0..100).map(|_| call()).collect();
    introduce(&a, &b);
    assert_eq!(until_heard(&a, ("b", &b), 1).as_str(), "a");
    until_shown(&b, |it| it.refused.crowded >= 36);
    // The first have gone for those who came later.
    silent[0].set_read_timeout(Some(PATIENCE)).expect("a time");
    assert_eq!(silent[0].read(&mut [0; 1]).ok(), Some(0));
    // One who says a little at a time has no more time than the others.
    let mut slow = call();
    slow.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
    let mut words = b"GET /waiter-peers HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y'));
    let begun = crate::mesh::clock::now();
    loop {
        let word = *words.next().expect("without end");
        if slow.write_all(&[word]).is_err() || matches!(slow.read(&mut [0; 1]), Ok(0)) {
            break;
        }
    }
    assert!(crate::mesh::clock::now() - begun < Duration::from_secs(4), "it was cut off");
}
