//! One request each, from its head to `Done`.

use super::rig::{Rig, WINDOW, closed, fields, request, response};
use crate::base::fault::{Class, Fault};
use crate::base::time::Duration;
use crate::core::letter::Why;
use crate::core::outcome::Outcome;
use crate::core::service::ClientAbort;
use crate::exchange::{Event, Side};
use crate::wire::codec::{Cause, Part};
use crate::wire::head::{Head, Length};
use http::Method;

const FAILED: &str = "head to client, text, end to client, cut instance, done instance-error";
const FULL: &[u8] = &[b'x'; WINDOW as usize];

fn ok() -> Head {
    response(200, Length::Unknown)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_get() {
    let mut rig = Rig::get();
    assert_eq!(rig.seat(0), "open");
    assert_eq!(rig.on(Event::Opened { reused: false }), "head to instance, end to instance");
    assert_eq!(rig.instance(Part::Head(&ok())), "head to client, room 64 for instance");
    assert_eq!(rig.instance(Part::Body(FULL)), "64 to client");
    assert_eq!(rig.room(Side::Client, 40), "room 40 for instance");
    assert_eq!(rig.instance(Part::Body(b"hi")), "2 to client");
    assert_eq!(rig.instance(Part::End(None)), "end to client, done success");
    let times = rig.exchange.times();
    assert!(times.seated.is_some() && times.opened.is_some() && times.answered.is_some());
}

#[test]
fn a_post_streams_within_its_window() {
    let mut rig = Rig::post();
    assert_eq!(rig.room_of(Side::Client), 0, "while it waits");
    assert_eq!(rig.seat(0), "open");
    let opened = rig.on(Event::Opened { reused: true });
    assert_eq!(opened, "head to instance, room 64 for client");
    assert_eq!(rig.client(Part::Body(FULL)), "64 to instance");
    assert_eq!(rig.room(Side::Instance, 30), "room 30 for client");
    assert_eq!(rig.client(Part::Body(&FULL[..30])), "30 to instance");
    assert_eq!(rig.room(Side::Instance, 64), "room 64 for client");
    assert_eq!(rig.client(Part::End(None)), "end to instance");
    assert_eq!(rig.room(Side::Instance, 64), "", "no room for one who has said everything");
    rig.instance(Part::Head(&ok()));
    assert_eq!(rig.instance(Part::End(None)), "end to client, done success");
}

#[test]
fn a_post_that_ends_before_the_way_is_open() {
    let mut rig = Rig::post();
    assert_eq!(rig.client(Part::End(None)), "");
    rig.seat(0);
    assert_eq!(rig.on(Event::Opened { reused: false }), "head to instance, end to instance");
}

#[test]
fn interim_heads_go_through_and_the_final_one_gets_the_fields() {
    let mut rig = Rig::get();
    rig.reach(false);
    for status in [102, 103] {
        let said = rig.instance(Part::Head(&response(status, Length::Absent)));
        assert_eq!(said, "head to client");
    }
    assert!(rig.exchange.head_for(Side::Client).fields.get(b"via").is_none());
    rig.instance(Part::Head(&ok()));
    assert!(rig.exchange.head_for(Side::Client).fields.get(b"via").is_some());
    assert_eq!(rig.exchange.head_for(Side::Client).fields.get(b"x-cid"), Some(&b"c"[..]));
}

#[test]
fn an_early_answer() {
    let mut rig = Rig::post();
    rig.reach(false);
    rig.client(Part::Body(b"abc"));
    rig.instance(Part::Head(&response(413, Length::Exact(0))));
    assert_eq!(rig.client(Part::Body(b"def")), "3 to instance", "it goes on until the end");
    assert_eq!(rig.instance(Part::End(None)), "end to client, done success");
    assert_eq!(rig.client(Part::Body(b"ghi")), "", "nobody listens");
}

#[test]
fn a_busy_instance() {
    let mut rig = Rig::get();
    rig.reach(false);
    rig.instance(Part::Head(&response(503, Length::Exact(0))));
    assert_eq!(rig.instance(Part::End(None)), "end to client, done instance-busy");
}

#[test]
fn an_instance_that_cannot_be_reached() {
    let mut rig = Rig::get();
    rig.seat(0);
    let said = rig.on(Event::OpenFailed(Cause::Broken));
    assert_eq!(said, "release instance-error, reserve");
    assert_eq!(rig.exchange.avoided()[0].suffix(), "a");
    assert_eq!(rig.seat(1), "open");
    assert_eq!(rig.on(Event::OpenFailed(Cause::Broken)), FAILED);
    assert_eq!(rig.exchange.head_for(Side::Client).status, 502);
    assert!(rig.text().contains("the connection to the instance broke"), "{}", rig.text());
}

#[test]
fn a_router_without_descriptors_blames_no_instance() {
    let mut rig = Rig::get();
    rig.seat(0);
    let said = rig.on(Event::OpenFailed(Cause::Exhausted));
    assert_eq!(said, FAILED.replace("instance-error", "generic-error"), "nor tries another");
    assert_eq!(rig.exchange.head_for(Side::Client).status, 503);
    assert!(rig.text().contains("waiter.ReserveBackPressure"), "{}", rig.text());
}

#[test]
fn an_instance_that_does_not_accept_in_time() {
    let mut rig = Rig::get();
    rig.seat(0);
    assert_eq!(rig.pass(Duration::from_millis(4999)), "");
    assert_eq!(rig.pass(seconds(1)), "cut instance, release instance-error, reserve");
    rig.seat(1);
    assert_eq!(rig.pass(seconds(6)), format!("cut instance, {FAILED}"));
    assert_eq!(rig.exchange.head_for(Side::Client).status, 502);
}

#[test]
fn there_is_no_other_instance() {
    let mut rig = Rig::get();
    rig.seat(0);
    rig.on(Event::OpenFailed(Cause::Broken));
    let said = rig.on(Event::NoOther);
    assert_eq!(said, "head to client, text, end to client, done rejected");
    assert_eq!(rig.exchange.head_for(Side::Client).status, 502);
}

#[test]
fn a_stale_connection() {
    for (method, length, asked, expected) in [
        (Method::GET, Length::Absent, true, "open new"),
        (Method::GET, Length::Absent, false, "open new"),
        (Method::PUT, Length::Unknown, true, "open new"),
        (Method::PUT, Length::Unknown, false, FAILED), // room was given: its body is on the way
        (Method::POST, Length::Absent, true, FAILED),
    ] {
        for cause in [Cause::Closed, Cause::Broken] {
            let mut rig = Rig::begin(&request(method.clone(), length), ClientAbort::Cut);
            if asked {
                rig.client(Part::End(None));
            }
            rig.reach(true);
            assert_eq!(rig.instance(Part::Cut(&cause)), expected, "{method} {asked}");
        }
    }
    let mut rig = Rig::get();
    rig.reach(true).instance(Part::Cut(&closed()));
    let opened = rig.on(Event::Opened { reused: false });
    assert_eq!(opened, "head to instance, end to instance", "all of it again");
    assert_eq!(rig.instance(Part::Cut(&closed())), FAILED, "once");
}

#[test]
fn what_is_no_stale_connection() {
    let interim = response(103, Length::Absent);
    for (reused, heard, cause) in [
        (false, false, Cause::Closed),
        (true, true, Cause::Closed),
        (true, false, Cause::Idle),
        (true, false, Cause::Malformed(Fault::new(Class::InstanceError, "what?"))),
    ] {
        let mut rig = Rig::get();
        rig.reach(reused);
        if heard {
            rig.instance(Part::Head(&interim));
        }
        assert_eq!(rig.instance(Part::Cut(&cause)), FAILED, "{reused} {heard} {cause:?}");
    }
    let mut rig = Rig::begin(&request(Method::PUT, Length::Exact(3)), ClientAbort::Cut);
    rig.reach(true);
    rig.client(Part::Body(b"abc"));
    rig.client(Part::End(None));
    assert_eq!(rig.instance(Part::Cut(&closed())), FAILED, "its body was sent");
}

#[test]
fn a_queue_that_is_too_slow() {
    let mut rig = Rig::get();
    assert_eq!(rig.pass(seconds(299)), "");
    let said = rig.pass(seconds(1));
    assert_eq!(said, "withdraw, head to client, text, end to client, done rejected");
    assert_eq!(rig.exchange.head_for(Side::Client).status, 503);
    assert!(rig.text().contains("After 300 seconds, no instance available"), "{}", rig.text());
}

#[test]
fn the_queue_time_is_not_begun_anew_by_a_failure() {
    let mut rig = Rig::get();
    rig.pass(seconds(200));
    rig.seat(0);
    rig.on(Event::OpenFailed(Cause::Broken));
    assert_eq!(rig.pass(seconds(99)), "");
    assert!(rig.pass(seconds(2)).starts_with("withdraw, "));
}

#[test]
fn a_refused_request() {
    for (why, status, class) in [
        (Why::QueueFull(7), 503, "waiter.QueueLength"),
        (Why::RouterFull, 503, "waiter.ReserveBackPressure"),
        (
            Why::Deployment("bad-command", "The command cannot run".into()),
            503,
            "waiter.DeploymentError",
        ),
        (Why::Gone, 503, "waiter.RequestTimeout"),
        (Why::Draining, 503, "ending"),
    ] {
        let mut rig = Rig::get();
        let said = rig.on(Event::Refused(why));
        assert_eq!(said, "head to client, text, end to client, done rejected");
        assert_eq!(rig.exchange.head_for(Side::Client).status, status);
        assert!(rig.text().contains(class), "{}", rig.text());
    }
}

#[test]
fn a_service_that_is_gone_is_looked_for_again() {
    use crate::core::fixture;
    let mut rig = Rig::described(fixture::description("bench", fixture::parameters()));
    assert_eq!(rig.on(Event::Refused(Why::Gone)), "reserve");
    assert!(rig.pass(seconds(301)).starts_with("withdraw, "), "with the time that is left");
}

#[test]
fn a_client_that_leaves() {
    let cut = closed();
    let mut waiting = Rig::get();
    assert_eq!(waiting.client(Part::Cut(&cut)), "withdraw, cut client, done client-eagerly-closed");
    let mut opening = Rig::get();
    opening.seat(0);
    let both = "cut client, cut instance, done client-eagerly-closed";
    assert_eq!(opening.client(Part::Cut(&cut)), both);
    let mut streaming = Rig::get();
    assert_eq!(streaming.reach(false).client(Part::Cut(&cut)), both);
    let mut answered = Rig::get();
    answered.reach(false).instance(Part::Head(&ok()));
    assert_eq!(answered.client(Part::Cut(&cut)), both);
    let (mut calling, _) = Rig::call(&request(Method::GET, Length::Absent));
    assert_eq!(calling.client(Part::Cut(&cut)), "cut client, done client-eagerly-closed");
}

#[test]
fn an_instance_that_cannot_stop() {
    let mut rig = Rig::begin(&request(Method::GET, Length::Absent), ClientAbort::Finish);
    rig.client(Part::End(None));
    rig.reach(false);
    rig.instance(Part::Head(&ok()));
    rig.instance(Part::Body(FULL));
    assert_eq!(rig.client(Part::Cut(&closed())), "cut client, room 64 for instance");
    assert_eq!(rig.client(Part::Cut(&closed())), "", "it cannot leave twice");
    assert_eq!(rig.instance(Part::Body(FULL)), "room 64 for instance");
    assert_eq!(rig.instance(Part::End(None)), "done client-eagerly-closed");
}

#[test]
fn an_instance_that_cannot_stop_has_not_answered_yet() {
    let mut rig = Rig::begin(&request(Method::GET, Length::Absent), ClientAbort::Finish);
    rig.client(Part::End(None));
    rig.reach(false).client(Part::Cut(&closed()));
    assert_eq!(rig.instance(Part::Head(&response(103, Length::Absent))), "");
    assert_eq!(rig.instance(Part::Head(&ok())), "room 64 for instance");
    assert_eq!(rig.pass(seconds(901)), "cut instance, done instance-error", "in time");
}

#[test]
fn a_client_that_leaves_its_body_unfinished_takes_the_request_along() {
    let mut rig = Rig::begin(&request(Method::POST, Length::Exact(5)), ClientAbort::Finish);
    rig.reach(false).client(Part::Body(b"abc"));
    let said = rig.client(Part::Cut(&closed()));
    assert_eq!(said, "cut client, cut instance, done client-eagerly-closed");
}

#[test]
fn an_instance_that_does_not_answer() {
    let mut rig = Rig::get();
    rig.reach(false);
    assert_eq!(rig.pass(seconds(899)), "");
    assert_eq!(rig.pass(seconds(2)), FAILED);
    assert_eq!(rig.exchange.head_for(Side::Client).status, 504);
}

#[test]
fn who_does_not_move() {
    // The instance, in the middle of its response.
    let mut rig = Rig::get();
    rig.reach(false).instance(Part::Head(&ok()));
    rig.instance(Part::Body(b"abc"));
    rig.room(Side::Client, 3);
    assert_eq!(rig.pass(seconds(60)), "", "a stream of events may be slow");
    assert_eq!(rig.pass(seconds(850)), "cut client, cut instance, done instance-error");
    // The client, which does not take the response.
    let mut rig = Rig::get();
    rig.reach(false).instance(Part::Head(&ok()));
    rig.instance(Part::Body(b"abc"));
    assert_eq!(rig.pass(seconds(31)), "cut client, cut instance, done client-error");
    // The client, which does not send its body.
    let mut rig = Rig::post();
    rig.reach(false);
    let told = "head to client, text, end to client, cut instance, done client-error";
    assert_eq!(rig.pass(seconds(31)), told);
    assert_eq!(rig.exchange.head_for(Side::Client).status, 408);
    // The instance, which does not take the body.
    let mut rig = Rig::post();
    rig.reach(false).client(Part::Body(b"abc"));
    assert_eq!(rig.pass(seconds(21)), FAILED);
    assert_eq!(rig.exchange.head_for(Side::Client).status, 504);
}

#[test]
fn an_instance_that_breaks_off() {
    let mut rig = Rig::get();
    rig.reach(false).instance(Part::Head(&ok()));
    let said = rig.instance(Part::Cut(&closed()));
    assert_eq!(said, "cut client, cut instance, done instance-error");
    let mut rig = Rig::get();
    assert_eq!(rig.reach(false).instance(Part::Cut(&closed())), FAILED);
    assert_eq!(rig.exchange.head_for(Side::Client).status, 502);
}

#[test]
fn a_body_that_breaks_the_rules() {
    let cause = Cause::Malformed(Fault::new(Class::BadRequest, "no chunk"));
    let mut rig = Rig::post();
    let said = rig.client(Part::Cut(&cause));
    assert_eq!(said, "withdraw, head to client, text, end to client, done client-error");
    let mut rig = Rig::post();
    let said = rig.reach(false).client(Part::Cut(&cause));
    assert_eq!(said, "head to client, text, end to client, cut instance, done client-error");
    assert_eq!(rig.exchange.head_for(Side::Client).status, 400);
    let mut rig = Rig::post();
    rig.reach(false).instance(Part::Head(&ok()));
    let said = rig.client(Part::Cut(&cause));
    assert_eq!(said, "cut client, cut instance, done client-eagerly-closed");
}

#[test]
fn errors_are_told_in_the_form_the_client_wants() {
    for (accept, kind, method) in [
        ("application/json", "application/json", Method::GET),
        ("text/html, */*", "text/plain", Method::GET),
        ("*/*", "text/plain", Method::GET),
        ("*/*", "text/plain", Method::HEAD),
    ] {
        let mut head = request(method.clone(), Length::Absent);
        fields(&mut head, &[("accept", accept)]);
        let fault = Fault::new(Class::ServiceUnknown, "who?");
        let (rig, said) = Rig::refuse(&head, &fault);
        let text = if method == Method::HEAD { "" } else { "text, " };
        assert_eq!(said, format!("head to client, {text}end to client, done client-error"));
        let answer = rig.exchange.head_for(Side::Client);
        assert_eq!(answer.fields.get(b"content-type"), Some(kind.as_bytes()));
        assert_eq!(answer.fields.get(b"x-cid"), Some(&b"c"[..]));
        assert_eq!(answer.length, Length::Exact(rig.text().len() as u64));
        if kind.ends_with("json") {
            let value: serde_json::Value = serde_json::from_str(&rig.text()).expect("JSON");
            assert_eq!(value["waiter-error"]["message"], "who?");
        }
    }
}

#[test]
fn a_call() {
    let (mut rig, said) = Rig::call(&request(Method::POST, Length::Unknown));
    assert_eq!(said, "room 17 for client");
    assert_eq!(rig.client(Part::Body(b"abc")), "");
    assert_eq!(rig.client(Part::Body(b"def")), "");
    assert_eq!(rig.client(Part::End(None)), "call");
    assert_eq!(rig.text(), "abcdef");
    assert_eq!(rig.instance(Part::Head(&ok())), "head to client, room 64 for instance");
    assert_eq!(rig.instance(Part::Body(b"page")), "4 to client");
    assert_eq!(rig.room(Side::Client, 4), "room 4 for instance");
    assert_eq!(rig.instance(Part::End(None)), "end to client, done success");
}

#[test]
fn a_call_that_goes_wrong() {
    let told = |outcome| format!("head to client, text, end to client, done {outcome}");
    let (rig, said) = Rig::call(&request(Method::POST, Length::Exact(17)));
    assert_eq!((said, rig.outcome()), (told("client-error"), Some(Outcome::ClientError)));
    let (mut rig, _) = Rig::call(&request(Method::POST, Length::Unknown));
    assert_eq!(rig.client(Part::Body(&[0; 17])), told("client-error"), "too long");
    let (mut rig, _) = Rig::call(&request(Method::POST, Length::Unknown));
    assert_eq!(rig.pass(seconds(31)), told("client-error"), "its body does not come");
    let (mut rig, _) = Rig::call(&request(Method::GET, Length::Absent));
    rig.client(Part::End(None));
    assert_eq!(rig.on(Event::Refused(Why::RouterFull)), told("rejected"));
    let (mut rig, _) = Rig::call(&request(Method::GET, Length::Absent));
    rig.client(Part::End(None));
    assert_eq!(rig.pass(seconds(61)), told("generic-error"), "nobody answers");
}

#[test]
fn an_exchange_is_used_again() {
    let mut rig = Rig::get();
    rig.reach(true).instance(Part::Head(&ok()));
    rig.instance(Part::End(None));
    rig.exchange.clear();
    assert!(rig.exchange.wakeup().is_none() && rig.exchange.service().is_none());
    assert!(rig.exchange.cid().is_empty() && rig.exchange.avoided().is_empty());
    assert!(!rig.exchange.has_answered() && !rig.exchange.is_waiting());
}
