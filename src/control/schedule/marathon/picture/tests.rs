//! Stories of answers, believed and doubted.

use super::*;
use crate::base::address::Ipv4Addr;
use crate::control::schedule::marathon::Sandboxes;
use proptest::prelude::*;
use serde_json::{Value, json};

/// A picture, told answers a second apart, whole services being patient for ten.
struct Story {
    picture: Picture,
    second: u64,
}

impl Story {
    fn new() -> Self {
        Self { picture: Picture::new(Duration::from_secs(10)), second: 0 }
    }

    fn now(&self) -> Instant {
        Instant(self.second * 1_000_000_000)
    }

    /// An answer asked for so many seconds ago.
    fn answer_of(&mut self, ago: u64, apps: &[Value]) -> Seen {
        self.second += 1;
        let text = json!({ "apps": apps }).to_string();
        let apps = Apps::read(text.as_bytes()).expect("a list");
        let begun = Instant((self.second - ago) * 1_000_000_000);
        let address = |host: &str| match host {
            "unknown" => None,
            _ => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        let sandboxes = Sandboxes::default();
        let date = Date(1_000_000);
        let (sandboxes, address) = (&sandboxes, &address);
        let means = Means { prefix: "ws-", sandboxes, address, date, before: None };
        let now = self.now();
        self.picture.answered(Answer { begun, apps }, &means, now)
    }

    fn answer(&mut self, apps: &[Value]) -> Seen {
        self.answer_of(0, apps)
    }

    /// `id: instances` of each service that is known, those doubted with a question mark.
    fn known(&self) -> String {
        let mut all: Vec<String> = self
            .picture
            .services
            .values()
            .map(|it| {
                let ids: Vec<_> = it.fact.active.iter().map(|it| it.id.suffix()).collect();
                let mark = if it.fact.doubt.is_empty() { "" } else { "?" };
                format!("{}{mark}: {}", it.fact.id, ids.join(" "))
            })
            .collect();
        all.sort();
        all.join("; ")
    }
}

/// An app that wants so many and has these tasks, running.
fn app(name: &str, instances: u32, tasks: &[u16]) -> Value {
    let tasks: Vec<Value> = tasks
        .iter()
        .map(|it| {
            json!({"id": format!("ws-{name}.{it}"), "host": "h", "ports": [30_000 + it],
                   "state": "TASK_RUNNING", "startedAt": "1970-01-01T00:00:01.000Z"})
        })
        .collect();
    json!({"id": format!("/ws-{name}"), "instances": instances, "tasks": tasks})
}

#[test]
fn only_news_are_told() {
    let mut story = Story::new();
    let seen = story.answer(&[app("a", 2, &[1, 2]), json!({"id": "/other", "instances": 1})]);
    assert_eq!((seen.changed.len(), seen.gone.len(), seen.doubt.as_str()), (1, 0, ""));
    assert_eq!(story.known(), "ws-a: 1 2");
    assert_eq!(story.answer(&[app("a", 2, &[2, 1])]), Seen::default(), "the same");
    assert_eq!(story.answer(&[app("a", 3, &[1, 2, 3])]).changed.len(), 1);
    story.picture.touched(&ServiceId::new("ws-a"));
    assert_eq!(story.answer(&[app("a", 3, &[1, 2, 3])]).changed.len(), 1, "asked for");
}

#[test]
fn an_empty_answer_is_not_believed_at_once() {
    let mut story = Story::new();
    story.answer(&[app("a", 1, &[1]), app("b", 1, &[1])]);
    for _ in 0..10 {
        let seen = story.answer(&[]);
        assert_eq!((seen.gone.len(), seen.doubted), (0, 2));
        assert!(seen.doubt.contains("none of the 2"), "{}", seen.doubt);
    }
    assert_eq!(story.known(), "ws-a?: 1; ws-b?: 1");
    let seen = story.answer(&[]);
    assert_eq!((seen.gone.len(), seen.doubt.as_str(), story.known().as_str()), (2, "", ""));
}

#[test]
fn a_doubt_that_lasts_grows_old() {
    let mut story = Story::new();
    story.answer(&[app("a", 1, &[1]), app("b", 1, &[1])]);
    let silent = [json!({"id": "/ws-a", "instances": 1}), app("b", 1, &[1])];
    for _ in 0..10 {
        let seen = story.answer(&silent);
        assert_eq!((seen.doubted, seen.lately), (1, 1));
    }
    let seen = story.answer(&silent);
    assert_eq!((seen.doubted, seen.lately), (1, 0), "for as long as the time of doubt");
    let seen = story.answer(&[silent[0].clone(), json!({"id": "/ws-b", "instances": 1})]);
    assert_eq!((seen.doubted, seen.lately), (2, 1), "a new one is young");
}

#[test]
fn doubt_ends_when_what_was_missing_is_back() {
    let mut story = Story::new();
    let whole = [app("a", 2, &[1, 2]), app("b", 1, &[1])];
    story.answer(&whole);
    for _ in 0..8 {
        assert!(!story.answer(&whole[..1]).doubt.is_empty());
    }
    let seen = story.answer(&whole);
    assert_eq!((seen.doubt.as_str(), seen.doubted), ("", 0));
    for _ in 0..8 {
        assert!(story.answer(&whole[..1]).gone.is_empty(), "its time begins anew");
    }
}

#[test]
fn one_of_many_tasks_must_be_missing_twice() {
    let mut story = Story::new();
    story.answer(&[app("a", 4, &[1, 2, 3, 4])]);
    let seen = story.answer(&[app("a", 4, &[1, 2, 3])]);
    assert_eq!((seen.doubt.as_str(), seen.doubted), ("", 1), "of the service, not of the answer");
    assert_eq!(story.known(), "ws-a?: 1 2 3 4");
    story.answer(&[app("a", 4, &[1, 2, 3])]);
    assert_eq!(story.known(), "ws-a: 1 2 3");
}

#[test]
fn all_tasks_of_a_service_must_be_missing_for_long() {
    let mut story = Story::new();
    story.answer(&[app("a", 2, &[1, 2])]);
    for _ in 0..10 {
        assert!(!story.answer(&[app("a", 2, &[])]).doubt.is_empty());
        assert_eq!(story.known(), "ws-a?: 1 2");
    }
    story.answer(&[app("a", 2, &[])]);
    assert_eq!(story.known(), "ws-a: ");
}

#[test]
fn what_is_explained_is_believed_at_once() {
    let mut story = Story::new();
    story.answer(&[app("a", 3, &[1, 2, 3])]);
    story.answer(&[app("a", 2, &[1, 3])]);
    assert_eq!(story.known(), "ws-a: 1 3", "it has all it wants");
    story.picture.ended(&InstanceId::new(&ServiceId::new("ws-a"), "1"));
    story.answer(&[app("a", 2, &[3])]);
    assert_eq!(story.known(), "ws-a: 3", "we ended it");
    let mut failed = app("a", 2, &[]);
    failed["lastTaskFailure"] =
        json!({"taskId": "ws-a.3", "message": "Command exited with status 3", "host": "h"});
    let seen = story.answer(&[failed.clone()]);
    assert_eq!(story.known(), "ws-a: ", "it failed");
    assert_eq!(seen.changed[0].failed[0].exit_code, Some(3));
    failed["tasks"] = app("a", 2, &[4])["tasks"].clone();
    story.answer(&[failed.clone()]);
    failed["tasks"] = json!([{"id": "ws-a.4", "state": "TASK_KILLING"}]);
    story.answer(&[failed]);
    assert_eq!(story.known(), "ws-a: ", "it ends");
}

#[test]
fn a_deleted_service_is_gone_and_older_answers_do_not_bring_it_back() {
    let mut story = Story::new();
    let (a, b) = (app("a", 1, &[1]), app("b", 1, &[1]));
    story.answer(&[a.clone(), b.clone()]);
    story.second += 5;
    story.picture.deleted(&ServiceId::new("ws-a"), story.now());
    let seen = story.answer_of(4, &[a.clone(), b.clone()]);
    assert_eq!((seen.gone.len(), seen.doubt.as_str(), story.known().as_str()), (1, "", "ws-b: 1"));
    story.answer(&[a, b]);
    assert_eq!(story.known(), "ws-a: 1; ws-b: 1", "created again");
}

/// As [`app`], last written to in this second.
fn written(second: u8, mut app: Value) -> Value {
    app["version"] = json!(format!("2020-01-01T00:00:{second:02}.000Z"));
    app
}

#[test]
fn old_news_are_as_good_as_none() {
    let mut story = Story::new();
    let (old, new) = ([written(1, app("a", 1, &[1]))], [written(2, app("a", 3, &[1, 2, 3]))]);
    story.answer(&new);
    for _ in 0..10 {
        let seen = story.answer(&old);
        assert!(!seen.doubt.is_empty());
        assert_eq!(story.known(), "ws-a?: 1 2 3");
    }
    story.answer(&new);
    assert_eq!(story.known(), "ws-a: 1 2 3");
    for _ in 0..10 {
        story.answer(&old);
        assert_eq!(story.known(), "ws-a?: 1 2 3", "its time begins anew");
    }
    assert_eq!(story.answer(&old).doubt, "", "a Marathon that was set back");
    assert_eq!(story.known(), "ws-a: 1");
    story.answer(&new);
    assert_eq!(story.known(), "ws-a: 1 2 3");
}

#[test]
fn old_news_do_not_bring_back_what_was_deleted() {
    let mut story = Story::new();
    let (b, old) = (written(1, app("b", 1, &[1])), written(1, app("a", 1, &[1])));
    story.answer(&[old.clone(), b.clone()]);
    story.picture.deleted(&ServiceId::new("ws-a"), story.now());
    for _ in 0..9 {
        assert_eq!(story.answer(&[old.clone(), b.clone()]).doubt, "");
        assert_eq!(story.known(), "ws-b: 1");
    }
    story.answer(&[written(2, app("a", 1, &[2])), b.clone()]);
    assert_eq!(story.known(), "ws-a: 2; ws-b: 1", "created again");
    story.answer(std::slice::from_ref(&b));
    assert_eq!(story.known(), "ws-a?: 2; ws-b: 1", "and then nothing explains its absence");
    story.picture.deleted(&ServiceId::new("ws-b"), story.now());
    for _ in 0..11 {
        story.answer(std::slice::from_ref(&b));
    }
    assert_eq!(story.known(), "ws-b: 1", "in the end it is believed");
    assert!(story.picture.deleted.is_empty(), "nothing is remembered for ever");
}

#[test]
fn counts_that_do_not_fit_raise_doubt() {
    let mut story = Story::new();
    let mut half = app("a", 2, &[1]);
    (half["tasksRunning"], half["tasksStaged"]) = (json!(2), json!(0));
    story.answer(&[half]);
    assert_eq!(story.known(), "ws-a?: 1");
    story.answer(&[json!({"id": "ws-a", "instances": 2})]);
    assert_eq!(story.known(), "ws-a?: 1", "no tasks told");
    story.answer(&[json!({"id": "ws-a", "instances": "x"})]);
    assert_eq!(story.known(), "ws-a?: 1", "unreadable");
    assert!(!story.answer(&[app("a", 1, &[1]), app("a", 1, &[1])]).doubt.is_empty(), "twice");
}

#[test]
fn what_has_no_sure_address_takes_no_requests() {
    let mut story = Story::new();
    let mut odd = app("a", 4, &[1, 2, 3, 4]);
    odd["tasks"][0]["host"] = json!("unknown");
    odd["tasks"][1]["ports"] = json!([0]);
    odd["tasks"][2]["ports"] = json!([30_004]);
    odd["tasks"][3]["startedAt"] = json!("1970-01-01T00:00:02.000Z");
    let seen = story.answer(&[odd.clone()]);
    let ports: Vec<_> = seen.changed[0].active.iter().map(|it| it.ports.clone()).collect();
    assert_eq!(ports, [vec![], vec![], vec![], vec![30_004]], "the older one of an address is not");
    odd["tasks"][3]["startedAt"] = json!("2999-01-01T00:00:02.000Z");
    let mut story = Story::new();
    let seen = story.answer(&[odd]);
    assert_eq!(seen.changed[0].active[3].started_at, Date(1_000_000), "nothing starts later");
}

#[test]
fn failures_are_kept_ten_at_most_and_once_each() {
    let mut story = Story::new();
    for n in 0..14 {
        let mut failing = app("a", 1, &[]);
        failing["lastTaskFailure"] = json!({"taskId": format!("ws-a.{n:02}"), "message": "x"});
        story.answer(&[failing.clone()]);
        story.answer(&[failing]);
    }
    let known = &story.picture.services[&ServiceId::new("ws-a")];
    let ids: Vec<_> = known.fact.failed.iter().map(|it| it.id.suffix()).collect();
    assert_eq!(ids, ["04", "05", "06", "07", "08", "09", "10", "11", "12", "13"]);
    let mut alive = app("a", 2, &[]);
    alive["tasks"] = json!([{"id": "ws-a.13", "state": "TASK_RUNNING"}]);
    story.answer(&[alive]);
    let known = &story.picture.services[&ServiceId::new("ws-a")];
    assert_eq!(known.fact.failed.len(), 9, "it is alive after all");
}

proptest! {
    /// Whatever is left out of one answer, no instance leaves with it unless something explains
    /// that; and an answer that is whole again ends all doubt.
    #[test]
    fn nothing_leaves_with_one_answer(kept in proptest::collection::vec(any::<bool>(), 12)) {
        let four = |n: u16| app(&n.to_string(), 4, &[n * 4, n * 4 + 1, n * 4 + 2, n * 4 + 3]);
        let whole: Vec<Value> = (0..3).map(four).collect();
        let mut story = Story::new();
        story.answer(&whole);
        let before = story.known();
        let mut part = whole.clone();
        for (n, keep) in kept.iter().enumerate().rev() {
            if !keep {
                part[n / 4]["tasks"].as_array_mut().expect("a list").remove(n % 4);
            }
        }
        let part: Vec<Value> =
            part.into_iter().filter(|it| it["tasks"] != json!([])).collect();
        story.answer(&part);
        prop_assert_eq!(story.known().replace('?', ""), before.as_str());
        let seen = story.answer(&whole);
        prop_assert_eq!((story.known(), seen.doubted, seen.doubt), (before, 0, String::new()));
    }
}
