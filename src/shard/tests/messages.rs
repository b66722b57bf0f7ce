//! Requests and responses as they cross a shard, however their bytes are cut.

use super::world::{Habit, Id, Setup, World};
use crate::shard::settings::HalfClose;

const GET: &str = "GET /a?b HTTP/1.1\r\nhost: bench\r\nx-cid: c\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// One request, what its instance says, and what the client gets (`{}`: the fields added).
struct Case {
    request: &'static str,
    response: &'static str,
    /// The instance closes after its response.
    closes: bool,
    expected: &'static str,
    /// The client's connection is closed.
    closed: bool,
}

const ADDED: &str = concat!("via: 1.1 waiter/", env!("CARGO_PKG_VERSION"), "\r\nx-cid: c\r\n");
const POST: &str = "POST / HTTP/1.1\r\nhost: bench\r\nx-cid: c\r\n";

const CASES: [Case; 10] = [
    Case {
        request: GET,
        response: OK,
        closes: false,
        expected: "HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nhi",
        closed: false,
    },
    Case {
        request: "POST / HTTP/1.1\r\nhost: bench\r\nx-cid: c\r\ncontent-length: 3\r\n\r\nabc",
        response: "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n\
                   0\r\nx-sum: 9\r\n\r\n",
        closes: false,
        expected: "HTTP/1.1 201 Created\r\n{}transfer-encoding: chunked\r\n\r\nhi!x-sum: 9",
        closed: false,
    },
    Case {
        request: "PUT / HTTP/1.1\r\nhost: bench\r\nx-cid: c\r\ntransfer-encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n2;e\r\nde\r\n0\r\nx-t: 1\r\n\r\n",
        response: "HTTP/1.1 204 No Content\r\n\r\n",
        closes: false,
        expected: "HTTP/1.1 204 No Content\r\n{}\r\n",
        closed: false,
    },
    Case {
        request: "HEAD / HTTP/1.1\r\nhost: bench\r\nx-cid: c\r\n\r\n",
        response: "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n",
        closes: false,
        expected: "HTTP/1.1 200 OK\r\n{}content-length: 20\r\n\r\n",
        closed: false,
    },
    Case {
        request: GET,
        response: "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\
                   content-length: 2\r\n\r\nhi",
        closes: false,
        expected: "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n{}\
                   content-length: 2\r\n\r\nhi",
        closed: false,
    },
    Case {
        request: GET,
        response: "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        closes: true,
        expected: "HTTP/1.1 200 OK\r\n{}transfer-encoding: chunked\r\n\r\nuntil the end",
        closed: false,
    },
    Case {
        request: "GET / HTTP/1.0\r\nhost: bench\r\nx-cid: c\r\n\r\n",
        response: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        closes: false,
        expected: "HTTP/1.1 200 OK\r\n{}connection: close\r\n\r\nhi",
        closed: true,
    },
    Case {
        request: "GET / HTTP/1.0\r\nhost: bench\r\nx-cid: c\r\nconnection: keep-alive\r\n\r\n",
        response: OK,
        closes: false,
        expected: "HTTP/1.1 200 OK\r\n{}content-length: 2\r\nconnection: keep-alive\r\n\r\nhi",
        closed: false,
    },
    Case {
        request: "GET / HTTP/1.1\r\nhost: bench\r\nx-cid: c\r\nconnection: close\r\n\r\n",
        response: OK,
        closes: false,
        expected: "HTTP/1.1 200 OK\r\n{}content-length: 2\r\nconnection: close\r\n\r\nhi",
        closed: true,
    },
    Case {
        request: "GET http://bench/ HTTP/1.1\r\nhost: bench\r\nx-cid: c\r\n\r\n",
        response: "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
        closes: true,
        expected: "HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nhi",
        closed: false,
    },
];

/// Plays a case with request and response cut in two, and moved in sips.
fn play(case: &Case, cuts: (usize, usize), sip: usize) {
    let mut world = World::usual(Habit::Manual);
    world.sip = sip;
    let client = world.client(0);
    for piece in [&case.request[..cuts.0], &case.request[cuts.0..]] {
        world.send(client, piece);
    }
    let instance = world.upstream()[0];
    world.answer(instance, &case.response[..cuts.1]);
    world.send(instance, &case.response[cuts.1..]);
    if case.closes {
        world.end(instance);
    }
    let seen = unchunked(&world.take(client));
    let told = format!("{} cut at {cuts:?} in sips of {sip}", case.request);
    assert_eq!(seen, case.expected.replace("{}", ADDED), "{told}");
    assert_eq!(world.is_closed(client), case.closed, "{told}");
    world.end_of_play();
}

/// A chunked body without its framing: how it is cut into chunks is nobody's business.
fn unchunked(text: &str) -> String {
    let Some((head, body)) = text.split_once("transfer-encoding: chunked\r\n\r\n") else {
        return text.to_owned();
    };
    let mut out = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let mut rest = body;
    loop {
        let (size, more) = rest.split_once("\r\n").expect("a chunk");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            out.push_str(more.trim_end());
            return out;
        }
        out.push_str(&more[..size]);
        rest = &more[size + 2..];
    }
}

#[test]
fn a_message_is_the_same_however_it_is_cut() {
    for case in &CASES {
        for sip in [1, 2, 7, usize::MAX] {
            play(case, (0, 0), sip);
        }
        for cut in 0..=case.request.len() {
            play(case, (cut, 0), usize::MAX);
        }
        for cut in 0..=case.response.len() {
            play(case, (0, cut), usize::MAX);
        }
    }
}

#[test]
fn an_instance_gets_what_the_client_said() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, CASES[2].request);
    let instance = world.upstream()[0];
    let asked = unchunked(&world.take(instance));
    let added = format!(
        "x-forwarded-for: 10.9.9.9\r\nx-forwarded-proto: http\r\nx-forwarded-host: bench\r\n\
         via: 1.1 waiter/{}\r\n",
        env!("CARGO_PKG_VERSION")
    );
    let expected = format!(
        "PUT / HTTP/1.1\r\nhost: bench\r\nx-cid: c\r\n{added}transfer-encoding: chunked\r\n\r\n\
         abcdex-t: 1"
    );
    assert_eq!(asked, expected);
    world.reset(client);
    world.end_of_play();
}

#[test]
fn a_connection_is_used_again_on_both_sides() {
    let mut world = World::usual(Habit::Answers(OK));
    let client = world.client(0);
    for _ in 0..3 {
        world.send(client, GET);
        assert!(world.take(client).ends_with("\r\n\r\nhi"));
    }
    assert_eq!(world.remotes.len(), 2, "one connection to the instance");
    world.end_of_play();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut world = World::usual(Habit::Echoes);
    let client = world.client(0);
    let post = |body: &str| format!("{POST}content-length: {}\r\n\r\n{body}", body.len());
    world.send(client, [post("one"), post("two"), GET.to_owned(), post("four")].concat());
    let got = world.take(client);
    let bodies: Vec<_> = got
        .split("HTTP/1.1 200 OK")
        .map(|it| it.split_once("\r\n\r\n").map_or("", |(_, body)| body))
        .collect();
    assert_eq!(bodies, ["", "one", "two", "", "four"]);
    assert_eq!(world.remotes.len(), 2);
    world.end_of_play();
}

#[test]
fn a_body_is_asked_for_when_there_is_a_slot() {
    let mut world = World::new(Setup { service: "bench=10.0.0.1:80", ..Setup::default() });
    let (first, second) = (world.client(0), world.client(0));
    world.send(first, GET);
    world.send(second, format!("{POST}expect: 100-continue\r\ncontent-length: 3\r\n\r\n"));
    assert_eq!(world.take(second), "", "it waits for a slot");
    let instance = world.upstream()[0];
    world.answer(instance, OK);
    assert_eq!(world.take(second), "HTTP/1.1 100 Continue\r\n\r\n");
    world.send(second, "abc");
    assert!(world.got(instance).ends_with("\r\n\r\nabc"), "{}", world.got(instance));
    world.answer(instance, OK);
    assert!(world.take(second).ends_with("hi"));
    world.end_of_play();
}

#[test]
fn an_early_answer_ends_the_exchange_and_both_connections() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, format!("{POST}content-length: 10\r\n\r\nabc"));
    let instance = world.upstream()[0];
    world.answer(instance, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n");
    assert!(world.take(client).starts_with("HTTP/1.1 413 "));
    assert!(world.is_closed(client) && world.is_closed(instance));
    world.end_of_play();
}

#[test]
fn a_client_that_closed_its_side_is_gone_unless_told_otherwise() {
    for (half_close, answered) in [(HalfClose::Gone, false), (HalfClose::Allow, true)] {
        let mut world = World::new(Setup { half_close, ..Setup::default() });
        let client = world.client(0);
        world.send(client, GET);
        let instance = world.upstream()[0];
        world.end(client);
        assert_eq!(world.is_closed(instance), !answered);
        if answered {
            world.answer(instance, OK);
        }
        assert_eq!(world.take(client).ends_with("hi"), answered);
        assert!(world.is_closed(client));
        world.end_of_play();
    }
}

/// Sends on a connection that must then be of no use; what came back.
fn refused(bytes: &str) -> (World, Id, String) {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, bytes);
    let got = world.take(client);
    (world, client, got)
}

#[test]
fn what_is_no_request_reaches_no_instance() {
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\nhost: bench\r\nbad header\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: bench\r\nhost: other\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/3.1\r\nhost: bench\r\n\r\n", 505),
        (
            "POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: 1\r\n\
             transfer-encoding: chunked\r\n\r\n",
            400,
        ),
        ("\0\0\0\0\r\n\r\n", 400),
    ] {
        let (mut world, client, got) = refused(bytes);
        assert!(got.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {got}");
        assert!(world.is_closed(client) && world.remotes.len() == 1, "{bytes}");
        world.end_of_play();
    }
}

#[test]
fn a_body_that_breaks_the_rules_is_told_so() {
    let mut world = World::usual(Habit::Manual);
    let client = world.client(0);
    world.send(client, format!("{POST}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"));
    let instance = world.upstream()[0];
    world.send(client, "zz\r\n");
    assert!(world.take(client).starts_with("HTTP/1.1 400 "));
    assert!(world.is_closed(client) && world.is_closed(instance), "the rest is not sent");
    assert!(!world.got(instance).ends_with("0\r\n\r\n"), "the request is not ended for it");
    world.end_of_play();
}

#[test]
fn a_request_for_nobody_is_refused_and_the_connection_stays() {
    let (mut world, client, got) = refused("GET / HTTP/1.1\r\nhost: nobody\r\n\r\n");
    assert!(got.starts_with("HTTP/1.1 400 ") && got.contains("x-cid: "), "{got}");
    assert!(!world.is_closed(client));
    world.send(client, GET);
    let instance = world.upstream()[0];
    world.answer(instance, OK);
    assert!(world.take(client).ends_with("hi"));
    world.end_of_play();
}
