//! Requests that become tunnels.

use super::rig::{Rig, WINDOW, closed, request, response};
use crate::base::time::Duration;
use crate::core::outcome::Outcome;
use crate::core::service::ClientAbort;
use crate::exchange::{Event, Side};
use crate::wire::codec::{Cause, Part};
use crate::wire::head::{Head, Length};
use http::Method;

const FULL: &[u8] = &[b'x'; WINDOW as usize];
const BROKEN: &str = "cut client, cut instance, done success";

fn switched() -> Head {
    response(101, Length::Absent)
}

#[test]
fn bytes_go_both_ways_within_their_windows() {
    let mut rig = Rig::asking(ClientAbort::Cut);
    rig.reach(false);
    let said = rig.instance(Part::Head(&switched()));
    assert_eq!(said, "head to client, room 64 for instance, room 64 for client");
    assert_eq!(rig.client(Part::Body(FULL)), "64 to instance");
    assert_eq!(rig.instance(Part::Body(FULL)), "64 to client");
    assert_eq!(rig.room(Side::Instance, 30), "room 30 for client");
    assert_eq!(rig.room(Side::Client, 20), "room 20 for instance");
    assert_eq!(rig.client(Part::End(None)), "end to instance");
    assert_eq!(rig.room(Side::Instance, 34), "", "no room for one who has said everything");
    assert_eq!(rig.instance(Part::Body(b"hi")), "2 to client", "the other direction goes on");
    assert_eq!(rig.instance(Part::End(None)), "end to client, done success");
    assert_eq!(rig.exchange.bytes(), (64, 66));
}

#[test]
fn the_instance_may_end_first() {
    let mut rig = Rig::tunnel();
    assert_eq!(rig.instance(Part::End(None)), "end to client");
    assert_eq!(rig.room(Side::Client, 1), "");
    assert_eq!(rig.client(Part::Body(b"hi")), "2 to instance");
    assert_eq!(rig.client(Part::End(None)), "end to instance, done success");
}

#[test]
fn what_is_left_of_the_request_counts() {
    let mut head = request(Method::POST, Length::Exact(50));
    head.switches = true;
    let mut rig = Rig::begin(&head, ClientAbort::Cut);
    rig.reach(false);
    rig.client(Part::Body(&FULL[..50]));
    rig.client(Part::End(None));
    let said = rig.instance(Part::Head(&switched()));
    assert_eq!(said, "head to client, room 64 for instance, room 14 for client");
    assert_eq!(rig.room(Side::Instance, 50), "room 50 for client");
}

#[test]
fn a_side_that_breaks_breaks_the_other() {
    for cause in [Cause::Closed, Cause::Broken] {
        let mut rig = Rig::tunnel();
        assert_eq!(rig.instance(Part::Cut(&cause)), BROKEN);
        let mut rig = Rig::tunnel();
        rig.client(Part::Cut(&cause));
        assert_eq!(
            rig.outcome(),
            Some(Outcome::ClientGone),
            "also with `finish`: nothing finishes"
        );
    }
}

#[test]
fn a_tunnel_may_be_silent_for_an_hour() {
    let mut rig = Rig::tunnel();
    assert_eq!(rig.pass(Duration::from_secs(3599)), "");
    rig.client(Part::Body(b"x"));
    assert_eq!(rig.pass(Duration::from_secs(3599)), "");
    assert_eq!(rig.pass(Duration::from_secs(1)), BROKEN);
}

#[test]
fn an_instance_that_has_ended_does_not_wait_for_its_client_for_long() {
    let mut rig = Rig::tunnel();
    rig.instance(Part::End(None));
    assert_eq!(rig.pass(Duration::from_secs(29)), "");
    rig.client(Part::Body(b"x"));
    assert_eq!(rig.pass(Duration::from_secs(29)), "");
    assert_eq!(rig.pass(Duration::from_secs(1)), BROKEN);
}

#[test]
fn another_answer_is_an_ordinary_one() {
    let mut rig = Rig::asking(ClientAbort::Cut);
    rig.reach(false);
    assert_eq!(
        rig.instance(Part::Head(&response(426, Length::Exact(0)))),
        "head to client, room 64 for instance"
    );
    assert_eq!(rig.instance(Part::End(None)), "end to client, done success");
}

#[test]
fn a_stale_connection_is_tried_anew_before_it_is_a_tunnel() {
    let mut rig = Rig::asking(ClientAbort::Cut);
    rig.reach(true);
    assert_eq!(rig.instance(Part::Cut(&closed())), "open new");
    rig.on(Event::Opened { reused: false });
    rig.instance(Part::Head(&switched()));
    assert_eq!(rig.instance(Part::Cut(&closed())), BROKEN);
}

#[test]
fn a_client_that_left_gets_no_tunnel() {
    let mut rig = Rig::asking(ClientAbort::Finish);
    rig.reach(false).client(Part::Cut(&closed()));
    let said = rig.instance(Part::Head(&switched()));
    assert_eq!(said, "cut instance, done client-eagerly-closed");
}

#[test]
fn what_a_half_close_means() {
    let mut rig = Rig::asking(ClientAbort::Finish);
    assert!(rig.exchange.heeds_half_close());
    rig.reach(false).instance(Part::Head(&switched()));
    assert!(!rig.exchange.heeds_half_close(), "in a tunnel it is passed on");
}
