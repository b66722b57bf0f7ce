//! The life of a client connection: deadlines, keep-alive, pipelining, retiring, half-closing.

use super::driver::{
    Close, Codec, Driver, Duration, Habit, Input, LIMITS, Length, Part, START, response_head,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HALF: &[u8] = b"GET / HTTP/1.1\r\nHo";
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_new_connection_must_speak() {
    let mut driver = Driver::server(Habit::Answer);
    assert_eq!(driver.needs().wakeup, Some(START + LIMITS.header_timeout));
    driver.tick(LIMITS.header_timeout - SECOND);
    assert_eq!(driver.close(), Close::Open);
    driver.tick(SECOND);
    assert_eq!((driver.close(), driver.out_text().as_str()), (Close::Now, ""));
}

#[test]
fn a_head_must_come_in_time() {
    let mut driver = Driver::server(Habit::Answer);
    driver.now += SECOND;
    driver.feed(HALF);
    assert_eq!(driver.needs().wakeup, Some(START + SECOND + LIMITS.header_timeout));
    driver.now += SECOND;
    driver.feed(b"st: ");
    assert_eq!(driver.needs().wakeup, Some(START + SECOND + LIMITS.header_timeout));
    driver.tick(LIMITS.header_timeout);
    assert_eq!(driver.close(), Close::Flush);
    assert!(driver.out_text().starts_with("HTTP/1.1 408 "));
    assert_eq!(driver.needs().wakeup, None);
    driver.tick(LIMITS.header_timeout).feed(GET);
    assert_eq!(driver.said, ["refused ClientTimeout: GET / @ 1.1"]);
    assert_eq!(driver.close(), Close::Flush);
}

#[test]
fn an_idle_connection_is_kept_for_a_while() {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(GET);
    assert_eq!(driver.needs().wakeup, None, "the exchange has its own deadlines");
    driver.tick(LIMITS.keep_alive_timeout * 2);
    assert_eq!(driver.close(), Close::Open);
    driver.answer(Length::Absent);
    let since = driver.now;
    assert_eq!(driver.needs().wakeup, Some(since + LIMITS.keep_alive_timeout));
    driver.now += SECOND;
    driver.feed(b"\r\n");
    assert_eq!(driver.needs().wakeup, Some(since + LIMITS.keep_alive_timeout), "no head begins");
    driver.tick(LIMITS.keep_alive_timeout - SECOND);
    assert_eq!(driver.close(), Close::Now);
}

#[test]
fn one_request_is_in_progress_at_a_time() {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(&[GET, GET, HALF].concat());
    assert_eq!(driver.said.len(), 2);
    assert!(!driver.needs().ready);
    assert_eq!(driver.needs().intake, LIMITS.ahead_bytes - GET.len() - HALF.len());
    driver.now += SECOND;
    driver.answer(Length::Absent);
    assert!(driver.needs().ready);
    driver.feed(b"");
    assert_eq!(driver.said.len(), 4);
    driver.answer(Length::Absent);
    assert!(driver.needs().ready);
    driver.feed(b"");
    assert!(!driver.needs().ready, "half a head is not ready");
    assert_eq!(driver.needs().wakeup, Some(driver.now + LIMITS.header_timeout));
    driver.feed(b"st: a\r\n\r\n");
    assert_eq!(driver.said.len(), 6);
    assert_eq!(driver.stream.0, 3);
}

#[test]
fn an_answer_before_the_end_of_a_request_without_body_keeps_the_connection() {
    let mut driver = Driver::server(Habit::Watch);
    let used = driver.read(Input::Bytes(GET));
    assert_eq!(used, GET.len());
    driver.answer(Length::Exact(0));
    assert!(driver.needs().idle);
    driver.feed(GET);
    assert_eq!(driver.said, ["GET / @a 1.1", "GET / @a 1.1", "end"]);
}

#[test]
fn retiring_lets_the_exchange_at_hand_end() {
    let mut driver = Driver::server(Habit::Watch);
    driver.codec.retire();
    assert_eq!(driver.close(), Close::Flush, "idle");

    let mut driver = Driver::server(Habit::Watch);
    driver.feed(GET);
    driver.codec.retire();
    assert_eq!(driver.close(), Close::Open);
    driver.answer(Length::Absent);
    assert!(driver.out_text().contains("\r\nconnection: close\r\n"));
    assert_eq!(driver.close(), Close::Flush);

    let mut driver = Driver::server(Habit::Watch);
    driver.feed(GET).write(Part::Head(&response_head(200, Length::Exact(0))));
    driver.codec.retire();
    driver.write(Part::End(None));
    assert!(!driver.out_text().contains("close"), "its head was written before");
    assert_eq!(driver.close(), Close::Flush);

    let mut driver = Driver::server(Habit::Answer);
    driver.feed(HALF);
    driver.codec.retire();
    assert_eq!(driver.close(), Close::Open, "a head has begun");
    driver.feed(b"st: a\r\n\r\n");
    assert_eq!(driver.said.len(), 2);
    assert_eq!(driver.close(), Close::Flush);
}

#[test]
fn a_client_may_close_its_side_and_still_be_answered() {
    let mut driver = Driver::server(Habit::Watch);
    driver.feed(&[GET, GET].concat()).end();
    assert_eq!(driver.said, ["GET / @a 1.1", "end"], "nothing follows an end");
    assert!(driver.needs().peer_ended && driver.needs().intake == 0);
    assert_eq!(driver.close(), Close::Open);
    driver.answer(Length::Absent).feed(b"");
    assert_eq!(driver.said.len(), 4);
    driver.answer(Length::Absent);
    assert_eq!(driver.close(), Close::Flush);
}

#[test]
fn a_client_that_closes_before_a_request_is_let_go() {
    for bytes in [&b""[..], b"\r\n", HALF] {
        let mut driver = Driver::server(Habit::Answer);
        driver.feed(bytes).end();
        assert_eq!(driver.close(), Close::Flush);
        assert!(driver.said.is_empty() && driver.out.is_empty());
    }
}
