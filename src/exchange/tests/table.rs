//! Every event in every state. The table is printed; it is what the picture in the room's page
//! says.
//!
//! A cell says what is wanted then, or `—` where the event means nothing there. `defect` marks what
//! the shard and the codecs promise never to say: the exchange asserts it, and the shard survives
//! it by ending that one exchange.

use super::rig::{Rig, closed, request, response};
use crate::base::fault::{Class, Fault};
use crate::core::letter::Why;
use crate::core::service::ClientAbort;
use crate::exchange::{Event, Side};
use crate::wire::codec::{Cause, Part};
use crate::wire::head::{Head, Length};
use http::Method;
use std::panic::{AssertUnwindSafe, catch_unwind};

const STATES: [&str; 7] =
    ["waiting", "opening", "streaming", "tunnel", "finishing", "calling", "done"];

fn in_state(state: &str) -> Rig {
    let mut rig = Rig::asking(ClientAbort::Finish);
    match state {
        "tunnel" => rig = Rig::tunnel(),
        "waiting" => {}
        "opening" => drop(rig.seat(0)),
        "streaming" => drop(rig.reach(false)),
        "finishing" => drop(rig.reach(false).client(Part::Cut(&closed()))),
        "done" => drop(rig.client(Part::Cut(&closed()))),
        _ => {
            rig = Rig::call(&request(Method::GET, Length::Absent)).0;
            rig.client(Part::End(None));
        }
    }
    rig
}

/// The events, in the order of the table.
const EVENTS: [&str; 18] = [
    "client head",
    "client end",
    "client cut",
    "client malformed",
    "instance interim",
    "instance head",
    "instance switch",
    "instance end",
    "instance cut",
    "room to client",
    "room to instance",
    "passed",
    "seated",
    "refused",
    "opened",
    "open failed",
    "no other",
    "time",
];

fn happen(rig: &mut Rig, event: &str, heads: &[Head; 3]) -> String {
    let malformed = Cause::Malformed(Fault::new(Class::BadRequest, "no"));
    match event {
        "client head" => rig.client(Part::Head(&heads[1])),
        "client end" => rig.client(Part::End(None)),
        "client cut" => rig.client(Part::Cut(&closed())),
        "client malformed" => rig.client(Part::Cut(&malformed)),
        "instance interim" => rig.instance(Part::Head(&heads[0])),
        "instance head" => rig.instance(Part::Head(&heads[1])),
        "instance switch" => rig.instance(Part::Head(&heads[2])),
        "instance end" => rig.instance(Part::End(None)),
        "instance cut" => rig.instance(Part::Cut(&closed())),
        "room to client" => rig.room(Side::Client, 1),
        "room to instance" => rig.room(Side::Instance, 1),
        "passed" => rig.on(Event::Passed { taken: 1, given: 0 }),
        "seated" => rig.seat(1),
        "refused" => rig.on(Event::Refused(Why::RouterFull)),
        "opened" => rig.on(Event::Opened { reused: false }),
        "open failed" => rig.on(Event::OpenFailed(Cause::Broken)),
        "no other" => rig.on(Event::NoOther),
        _ => rig.pass(crate::base::time::Duration::from_secs(4000)),
    }
}

fn cell(state: &str, event: &str) -> String {
    let heads = [103, 200, 101].map(|it| response(it, Length::Unknown));
    let mut rig = in_state(state);
    let said = catch_unwind(AssertUnwindSafe(|| happen(&mut rig, event, &heads)));
    match said {
        Ok(said) if said.is_empty() => "—".into(),
        Ok(said) => said,
        Err(_) => "defect".into(),
    }
}

#[test]
fn every_event_in_every_state() {
    let mut table = String::new();
    for state in STATES {
        for event in EVENTS {
            table.push_str(&format!("{state:<9} | {event:<16} | {}\n", cell(state, event)));
        }
    }
    println!("{table}");
    assert_eq!(table, include_str!("table.txt"), "the table has changed:\n{table}");
}
