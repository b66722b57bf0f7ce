//! Room: no body byte passes without it, none is lost, none is kept beyond bounds.

use super::driver::{
    Close, Codec, Driver, Habit, LIMITS, Length, Part, START, Server, response_head,
};
use crate::base::limits::Limits;

const EXACT: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const EXPECTS: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn body_never_exceeds_room() {
    let bodies = [
        (EXACT, "0123456789"),
        (CHUNKED, "3\r\n012\r\n7\r\n3456789\r\n0\r\n\r\n"),
        (CHUNKED, "1\r\n0\r\n1\r\n1\r\n8;x\r\n23456789\r\n0\r\nA: b\r\n\r\n"),
    ];
    for (head, body) in bodies {
        for room in [1, 2, 3, 7, 9, 10, 11, 100] {
            for piece in [1, 2, 5, 100] {
                let mut driver = Driver::server(Habit::Watch);
                let mut given = 0;
                let message = format!("{head}{body}");
                for bytes in message.as_bytes().chunks(piece) {
                    driver.feed(bytes);
                    assert!(driver.body_bytes <= given);
                    if driver.said.len() == 1 || driver.body_bytes == given {
                        given += room;
                        driver.room(u32::try_from(room).unwrap());
                        driver.feed(b"");
                        assert!(driver.body_bytes <= given);
                    }
                }
                while driver.needs().ready || !driver.said.last().unwrap().starts_with("end") {
                    given += room;
                    driver.room(u32::try_from(room).unwrap()).feed(b"");
                    assert!(driver.body_bytes <= given);
                    assert!(given < 1000);
                }
                assert_eq!(driver.said[1], "body 0123456789", "{message:?}");
            }
        }
    }
}

#[test]
fn intake_follows_room() {
    let mut driver = Driver::server(Habit::Watch);
    assert_eq!(driver.needs().intake, LIMITS.head_bytes + LIMITS.ahead_bytes);
    driver.feed(EXACT.as_bytes()).feed(b"0123");
    let listens = LIMITS.ahead_bytes - 4;
    assert_eq!(driver.needs().intake, listens, "while it waits, the client is listened to");
    assert!(!driver.needs().ready);
    driver.room(3);
    assert!(driver.needs().ready);
    driver.feed(b"");
    assert_eq!(driver.said[1], "body 012");
    driver.room(3);
    assert!(driver.needs().ready);
    assert_eq!(driver.needs().intake, 2);
    driver.feed(b"");
    assert_eq!(driver.needs().intake, 2);
    driver.room(u32::MAX).room(u32::MAX);
    assert_eq!(driver.needs().intake, 6 + LIMITS.ahead_bytes, "the rest, and what may follow");
    driver.feed(b"456789");
    assert_eq!(driver.needs().intake, LIMITS.ahead_bytes);
    driver.feed(b"GET");
    assert_eq!(driver.needs().intake, LIMITS.ahead_bytes - 3);
}

#[test]
fn continue_is_sent_with_the_first_room() {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(EXPECTS.as_bytes());
    assert_eq!(driver.out_text(), "");
    driver.room(0);
    assert_eq!(driver.out_text(), "");
    driver.room(1).room(1);
    assert_eq!(driver.out_text(), CONTINUE);
    driver.feed(b"ab").answer(Length::Absent);
    assert_eq!(driver.close(), Close::Open);
}

#[test]
fn continue_is_not_sent_where_it_makes_no_sense() {
    let early = format!("{EXPECTS}a");
    let no_body = EXPECTS.replace("Content-Length: 2\r\n", "");
    let old = EXPECTS.replace("HTTP/1.1", "HTTP/1.0");
    for bytes in [early, no_body, old] {
        let mut driver = Driver::server(Habit::Watch);
        driver.feed(bytes.as_bytes()).room(5);
        assert_eq!(driver.out_text(), "", "{bytes:?}");
    }
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(EXPECTS.as_bytes());
    driver.write(Part::Head(&response_head(100, Length::Absent)));
    driver.room(5);
    assert_eq!(driver.out_text(), CONTINUE, "the instance's own");
}

#[test]
fn an_answer_before_the_body_closes() {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(EXPECTS.as_bytes()).answer(Length::Exact(0));
    let text = driver.out_text();
    assert!(text.contains("connection: close\r\n") && !text.contains("100"), "{text}");
    assert_eq!(driver.close(), Close::Flush);

    let mut driver = Driver::server(Habit::Watch);
    driver.feed(CHUNKED.as_bytes()).room(5).feed(b"1\r\na");
    driver.answer(Length::Exact(0));
    assert_eq!(driver.close(), Close::Flush);
    driver.feed(b"\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(driver.said, ["POST / @a 1.1 =?", "body a"], "nothing after its answer");
}

#[test]
fn an_answer_stays_open_if_the_unread_body_is_at_hand() {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(format!("{EXACT}0123456789GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    driver.answer(Length::Exact(0));
    assert!(!driver.out_text().contains("close"));
    assert!(driver.needs().ready);
    driver.feed(b"");
    assert_eq!(driver.said, ["POST / @a 1.1 =10", "GET /2 @a 1.1", "end"]);
}

#[test]
fn what_one_receive_may_bring_bounds_what_is_kept() {
    let mut driver = Driver::new(Server::new(&Limits::TINY, START), Habit::Watch);
    let bytes = format!("{CHUNKED}ffff\r\n{}", "a".repeat(1000));
    let mut rest = bytes.as_bytes();
    loop {
        let intake = driver.needs().intake.min(rest.len());
        if intake == 0 {
            break;
        }
        driver.feed(&rest[..intake]);
        rest = &rest[intake..];
    }
    let kept = bytes.len() - rest.len();
    assert!(kept <= Limits::TINY.head_bytes + Limits::TINY.ahead_bytes, "{kept}");
    assert!(!driver.codec.needs().ready);
}

#[test]
fn a_closing_peer_cuts_an_unfinished_body_only() {
    for (body, rest) in [("0123", "cut Closed"), ("0123456789", "end")] {
        let mut driver = Driver::server(Habit::Watch);
        driver.feed(format!("{EXACT}{body}").as_bytes()).end();
        assert_eq!(driver.said.len(), 1, "kept bytes come first");
        driver.room(2).feed(b"").room(100).feed(b"");
        assert_eq!(driver.said[1..], [format!("body {body}"), rest.to_owned()]);
        assert!(driver.needs().peer_ended);
    }
    let mut driver = Driver::server(Habit::Room);
    driver.feed(CHUNKED.as_bytes()).feed(b"1\r\na\r\n0\r\n").end();
    assert_eq!(driver.said.last().unwrap(), "cut Closed");
}
