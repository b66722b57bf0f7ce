//! Connections that become tunnels: who may switch, what is carried, and both ends.

use super::driver::{
    Cause, Client, Close, Driver, Habit, Head, LIMITS, Length, Part, request_head, response_head,
    same_at_every_cut,
};
use http::Method;

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nUpgrade: ECHO\r\n\r\n";
const PLENTY: u32 = 1000;

fn switching() -> Head {
    let mut head = response_head(101, Length::Absent);
    head.switches = true;
    head.fields.push(b"upgrade", b"echo");
    head
}

fn asking(method: Method, length: Length) -> Head {
    let mut head = request_head(method, length);
    head.switches = true;
    head.fields.push(b"upgrade", b"echo");
    head
}

/// A client whose request was written whole.
fn asked() -> Driver<Client> {
    let mut driver = Driver::new(Client::new(&LIMITS), Habit::Watch);
    driver.stream.0 = 1;
    driver.write(Part::Head(&asking(Method::GET, Length::Absent))).write(Part::End(None));
    driver
}

/// A server whose tunnel is open, with room.
fn open() -> Driver<super::driver::Server> {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(ASK.as_bytes()).write(Part::Head(&switching())).room(PLENTY);
    driver.out.clear();
    driver
}

#[test]
fn a_server_carries_bytes_until_both_have_ended() {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(ASK.as_bytes());
    assert_eq!(driver.said, ["GET / @a 1.1 upgrade:echo", "end"]);
    driver.feed(b"early").write(Part::Head(&switching()));
    assert_eq!(
        driver.out_text(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n"
    );
    assert!(!driver.needs().ready && driver.needs().intake == 0, "no room yet");
    driver.out.clear();
    driver.room(3).feed(b"").room(4);
    assert!(driver.needs().ready);
    driver.feed(b"").feed(b"\r\n").write(Part::Body(b"GET / ")).write(Part::Body(b"x"));
    assert_eq!(driver.said[2..], ["body early\r\n"]);
    assert_eq!(driver.out_text(), "GET / x", "as it is");
    assert_eq!(driver.needs().wakeup, None);
    // The instance ends first.
    driver.write(Part::End(None)).room(PLENTY);
    assert_eq!((driver.close(), driver.needs().own_ended), (Close::Open, true));
    driver.feed(b"more").end();
    assert_eq!(driver.said[2..], ["body early\r\nmore", "end"]);
    assert_eq!((driver.close(), driver.needs().idle), (Close::Flush, false));
}

#[test]
fn a_server_is_told_after_its_client_has_ended() {
    let mut driver = open();
    driver.feed(b"a").end();
    assert_eq!(driver.said[2..], ["body a", "end"]);
    assert_eq!((driver.close(), driver.needs().own_ended), (Close::Open, false));
    driver.write(Part::Body(b"b")).write(Part::End(None));
    assert_eq!((driver.out_text().as_str(), driver.close()), ("b", Close::Flush));
}

#[test]
fn what_was_kept_comes_before_an_end_that_came_early() {
    for early in ["", "early"] {
        let mut driver = Driver::server(Habit::Watch);
        driver.feed(ASK.as_bytes()).feed(early.as_bytes()).end();
        driver.write(Part::Head(&switching())).room(PLENTY);
        assert!(driver.needs().ready, "{early:?}");
        driver.feed(b"");
        assert_eq!(driver.said.last().map(String::as_str), Some("end"), "{early:?}");
        assert_eq!(driver.said.len(), if early.is_empty() { 3 } else { 4 });
    }
}

#[test]
fn a_server_breaks_a_tunnel_off() {
    let mut driver = open();
    driver.write(Part::Cut(&Cause::Abandoned));
    assert_eq!((driver.close(), driver.needs().intake), (Close::Now, 0));
}

#[test]
fn another_answer_leaves_the_connection_usable() {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(ASK.as_bytes());
    driver.answer(Length::Exact(0)).feed(ASK.as_bytes());
    assert_eq!((driver.said.len(), driver.close()), (4, Close::Open));
    // But not if something came behind: it may be a request, or meant for the tunnel.
    driver.feed(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").answer(Length::Exact(0)).feed(b"");
    assert!(driver.out_text().ends_with("connection: close\r\n\r\n"));
    assert_eq!((driver.said.len(), driver.close()), (4, Close::Flush));
}

#[test]
fn a_client_asks_and_carries_bytes_at_every_cut() {
    let mut written = asked();
    let expected = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n";
    assert_eq!(written.out_text(), expected);
    written.out.clear();
    let bytes = format!("HTTP/1.1 103 Early\r\n\r\n{SWITCH}HTTP/1.1 200 OK\r\n\r\n");
    let make = || {
        let mut driver = asked();
        driver.room(PLENTY);
        driver
    };
    let mut driver = same_at_every_cut(bytes.as_bytes(), make);
    let said = ["103 1.1", "101 1.1 upgrade:ECHO", "body HTTP/1.1 200 OK\r\n\r\n"];
    assert_eq!(driver.said, said);
    assert!(!driver.needs().idle && driver.close() == Close::Open);
    driver.out.clear();
    driver.write(Part::Body(b"to it")).end();
    assert_eq!(driver.said[3..], ["end"]);
    assert_eq!((driver.close(), driver.needs().own_ended), (Close::Open, false));
    driver.write(Part::Body(b".")).write(Part::End(None));
    assert_eq!((driver.out_text().as_str(), driver.close()), ("to it.", Close::Flush));
}

#[test]
fn a_client_ends_first() {
    let mut driver = asked();
    driver.feed(SWITCH.as_bytes()).room(PLENTY).write(Part::End(None));
    assert_eq!((driver.close(), driver.needs().own_ended), (Close::Open, true));
    driver.feed(b"last words").end();
    assert_eq!(driver.said[1..], ["body last words", "end"]);
    assert_eq!(driver.close(), Close::Flush);
}

#[test]
fn a_client_that_got_its_end_with_the_head_hears_it() {
    let mut driver = asked();
    driver.feed(format!("{SWITCH}bye").as_bytes()).end();
    driver.room(PLENTY).feed(b"");
    assert_eq!(driver.said, ["101 1.1 upgrade:ECHO", "body bye", "end"]);
}

#[test]
fn a_switch_must_be_what_was_asked_for() {
    let tail = "connection: upgrade\r\n\r\n";
    for bad in [
        "HTTP/1.1 101 S\r\nUpgrade: other\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: echo, other\r\n",
        "HTTP/1.1 101 S\r\n",
        "HTTP/1.0 101 S\r\nUpgrade: echo\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: echo\r\nContent-Length: 3\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: echo\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let driver = same_at_every_cut(format!("{bad}{tail}").as_bytes(), asked);
        assert_eq!(driver.said, ["cut InstanceError"], "{bad:?}");
        assert_eq!(driver.close(), Close::Now, "{bad:?}");
    }
    let mut unsaid = asked();
    unsaid.feed(b"HTTP/1.1 101 S\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(unsaid.said, ["cut InstanceError"]);
    // A request whose body is not whole has not asked yet.
    let mut half = Driver::new(Client::new(&LIMITS), Habit::Watch);
    half.write(Part::Head(&asking(Method::POST, Length::Exact(2)))).write(Part::Body(b"a"));
    half.feed(SWITCH.as_bytes());
    assert_eq!(half.said, ["cut InstanceError"]);
}

#[test]
fn another_response_is_an_ordinary_one_and_the_next_request_asks_for_nothing() {
    let mut driver = asked();
    driver.feed(b"HTTP/1.1 426 No\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(driver.said, ["426 1.1 =0", "end"]);
    assert!(driver.needs().idle);
    driver.ask(Method::GET);
    driver.feed(SWITCH.as_bytes());
    assert_eq!(driver.said[2..], ["cut InstanceError"]);
}

#[test]
fn a_tunnel_keeps_to_its_room() {
    let mut driver = open();
    driver.feed(&[b'x'; PLENTY as usize]).feed(b"yz");
    assert_eq!(driver.body_bytes, PLENTY as usize);
    assert_eq!(driver.needs().intake, 0);
    driver.room(1).feed(b"").room(1).feed(b"");
    assert_eq!(driver.body_bytes, PLENTY as usize + 2);
}
