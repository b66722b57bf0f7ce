//! While Marathon is not believed nothing is ordered that would be ordered otherwise; afterwards it
//! is.

use crate::marathon::service;
use crate::stage::{
    Cluster, Ensemble, PATIENCE, Request, Router, SESSION, Service, at_once, exists, now,
    pause_until, status, until, until_members, until_view,
};
use serde_json::{Value, json};
use std::thread::JoinHandle;
use std::time::Duration;

const LIST: &str = "/v2/apps";
/// How long the requests last that keep services from what is due to them.
const HELD: Duration = Duration::from_secs(7);
/// An idle service is collected, and a surplus instance killed, well within this time.
const DUE: Duration = Duration::from_secs(4);

/// A service whose count follows the demand at once.
fn prompt(name: &str) -> Service {
    service(name, "")
        .with("scaling-policy", "classic")
        .with("scale-up-factor", "0.99")
        .with("scale-down-factor", "0.99")
        .with("idle-timeout-secs", "600")
        .with("max-instances", "3")
}

/// Three services to which something is due as soon as requests allow it: one is to be collected,
/// one has an instance too many, one has too few.
struct Dues {
    cluster: Cluster,
    router: Router,
    held: Vec<JoinHandle<u32>>,
}

impl Dues {
    fn new() -> Self {
        let cluster = Cluster::start(&[]);
        let flags = ["--gc-interval-ms", "200", "--marathon-doubt-secs", "60"];
        let router = cluster.router(&flags);
        router.ask(&prompt("greedy").get("/")).expect(200);
        let (idle, surplus) =
            (service("idle", "").with("idle-timeout-secs", "1"), prompt("surplus"));
        router.ask(&surplus.get("/")).expect(200);
        let hold = format!("/?delay-ms={}", HELD.as_millis());
        let held = [(1, &idle), (2, &surplus)];
        let held = held.into_iter().flat_map(|(n, it)| at_once(&router, n, &it.get(&hold)));
        let held = held.collect();
        for (name, count) in [("idle", 1), ("surplus", 2), ("greedy", 1)] {
            until("all are there", PATIENCE, || {
                let active = router.active(name);
                let healthy = active.iter().filter(|it| it["healthy?"] == true).count();
                (healthy == count && settled(&cluster, name)).then_some(())
            });
        }
        Self { cluster, router, held }
    }

    /// Nothing is ordered while the fault makes the router say this of Marathon.
    fn wait_while(mut self, fault: &Value, expected: &str) {
        let before = self.cluster.writes();
        self.cluster.fault(fault);
        until_view(&self.router, expected);
        let more = at_once(&self.router, 11, &prompt("greedy").get("/?delay-ms=1500"));
        assert!(self.held.iter().any(|it| !it.is_finished()), "it was due before");
        for it in self.held.drain(..) {
            it.join().expect("served");
        }
        pause_until(now() + DUE);
        assert_eq!(self.cluster.writes(), before, "an order was given");
        assert!(more.iter().any(|it| !it.is_finished()), "nobody waits any more");
        self.cluster.no_faults();
        for (what, is_it) in [
            ("the idle one is collected", &is_deletion as &dyn Fn(&str) -> bool),
            ("the surplus one is killed", &|it| {
                it.starts_with("DELETE ") && it.contains("/tasks/")
            }),
            ("whoever waits gets more", &|it| it.starts_with("PUT ") && it.contains("-greedy-")),
        ] {
            until(what, PATIENCE, || {
                self.cluster.writes()[before.len()..].iter().any(|it| is_it(it)).then_some(())
            });
        }
        for it in more {
            it.join().expect("served");
        }
    }
}

fn is_deletion(write: &str) -> bool {
    write.starts_with("DELETE ") && write.contains("-idle-") && !write.contains("/tasks/")
}

/// Whether no deployment of it is under way.
fn settled(cluster: &Cluster, name: &str) -> bool {
    cluster.app(name).is_some_and(|it| it["deployments"] == json!([]))
}

#[test]
fn nothing_is_due_on_an_empty_list() {
    Dues::new().wait_while(&json!({"do": "empty-list", "path": LIST}), "doubted");
}

#[test]
fn nothing_is_due_on_half_a_list() {
    let fault = json!({"do": "half-list", "path": LIST, "list": "apps"});
    Dues::new().wait_while(&fault, "doubted");
}

#[test]
fn nothing_is_due_on_an_old_view() {
    Dues::new().wait_while(&status("GET", LIST, 503, "html"), "stale");
}

#[test]
fn nothing_is_due_while_marathon_hangs() {
    let fault = json!({"do": "hang", "method": "GET", "path": LIST});
    Dues::new().wait_while(&fault, "stale");
}

#[test]
fn nothing_is_due_to_services_that_are_doubted_themselves() {
    let dues = Dues::new();
    let before = dues.cluster.writes();
    let silent = json!({"do": "edit", "path": LIST, "list": "apps", "set": {"tasks": null}});
    dues.cluster.fault(&silent);
    let doubts = |router: &Router| {
        router.page("/state/scheduler")["state"]["id->doubt"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    until("all three are doubted", PATIENCE, || (doubts(&dues.router).len() == 3).then_some(()));
    for (id, doubt) in doubts(&dues.router) {
        assert!(doubt["why"].as_str().is_some_and(|it| it.contains("tasks")), "{id}: {doubt}");
        assert!(doubt["since"].as_str().is_some_and(|it| it.ends_with('Z')), "{id}: {doubt}");
    }
    // The answer as a whole is believed.
    assert_eq!(state_in_numbers(&dues.router), "fresh");
    until("they are counted", PATIENCE, || {
        (dues.router.metric("waiter_services_doubted") == 3.0).then_some(())
    });
    let (router, cluster) = (dues.router, dues.cluster);
    for it in dues.held {
        it.join().expect("served");
    }
    pause_until(now() + DUE);
    assert_eq!(cluster.writes(), before, "an order was given");
    cluster.no_faults();
    until("they are believed", PATIENCE, || doubts(&router).is_empty().then_some(()));
    until("one is collected", PATIENCE, || {
        cluster.writes().iter().any(|it| is_deletion(it)).then_some(())
    });
    let said = router.process.said();
    let begun = said.matches("what is told of a service is not believed").count();
    let ended = said.matches("a service is believed again").count();
    assert_eq!((begun, ended), (3, 3), "{said}");
}

/// The state of the view of Marathon, by `/metrics`.
fn state_in_numbers(router: &Router) -> String {
    let text = router.ask(&Request::get("/metrics")).expect(200).text();
    let lines = text.lines().filter(|it| it.starts_with("waiter_scheduler_view{"));
    let set: Vec<&str> = lines.filter(|it| it.ends_with(" 1")).collect();
    let [line] = set[..] else { panic!("{set:?}\n{text}") };
    let (_, rest) = line.split_once("state=\"").expect("a state");
    rest.split('"').next().expect("a name").to_owned()
}

#[test]
fn an_answer_is_believed_for_as_long_as_the_next_one_may_take() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&["--marathon-timeout-ms", "3000"]);
    router.ask(&service("late", "").get("/")).expect(200);
    assert_eq!(state_in_numbers(&router), "fresh");
    // It begins to answer in time, so it is waited for, for nine seconds.
    cluster.fault(&json!({"do": "drip", "path": LIST, "bytes_per_s": 1}));
    until_view(&router, "stale");
    let why = router.page("/state/scheduler")["state"]["views"]["marathon"]["why"].to_string();
    assert!(why.contains("its last answer came"), "not because the poll has ended: {why}");
    until("so say the numbers", PATIENCE, || (state_in_numbers(&router) == "stale").then_some(()));
    cluster.no_faults();
    until_view(&router, "fresh");
    let said = router.process.said();
    assert!(said.contains("is not believed") && said.contains("believed again"), "{said}");
}

#[test]
fn a_process_that_dies_while_nothing_is_believed_is_seen_by_the_router_itself() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&["--marathon-doubt-secs", "60"]);
    let service = service("few", "")
        .with("min-instances", "3")
        .with("idle-timeout-secs", "600")
        .with("health-check-interval-secs", "5")
        .with("health-check-max-consecutive-failures", "1");
    router.ask(&service.get("/")).expect(200);
    let healthy = || router.active("few").iter().filter(|it| it["healthy?"] == true).count();
    until("three serve", PATIENCE, || (healthy() == 3).then_some(()));
    let (orders, known) = (cluster.writes(), cluster.processes());
    let task = cluster.tasks("few").pop().expect("a task");
    cluster.fault(&json!({"do": "empty-list", "path": LIST}));
    until_view(&router, "doubted");
    cluster.end(&task, "signal", &json!({"signal": 9}));
    // No request has met it: its own check finds out.
    until("it is out", PATIENCE, || (healthy() == 2).then_some(()));
    for _ in 0..50 {
        let instance = router.ask(&service.get("/")).expect(200).instance();
        assert!(known.contains(&instance) && exists(instance), "{instance}");
    }
    assert_eq!(cluster.writes(), orders, "an order was given");
    cluster.no_faults();
    until("all are back", PATIENCE, || (healthy() == 3).then_some(()));
}

#[test]
fn a_misplaced_service_is_not_ended_on_what_is_doubted() {
    let cluster = Cluster::start(&[]);
    let mut router = cluster.router(&[]);
    let instance = router.ask(&service("astray", "").get("/")).expect(200).instance();
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(0));
    drop(router);
    let silent = json!({"do": "edit", "path": LIST, "list": "apps", "set": {"tasks": null}});
    cluster.fault(&silent);
    let orders = cluster.writes();
    let router = cluster.router(&["--scheduler", "local,marathon"]);
    until_view(&router, "fresh");
    pause_until(now() + Duration::from_secs(3));
    assert_eq!(cluster.writes(), orders, "it was ended");
    assert!(exists(instance));
    cluster.no_faults();
    until("it is ended", PATIENCE, || (!exists(instance)).then_some(()));
    assert_eq!(cluster.writes().len(), orders.len() + 1, "once: {:?}", cluster.writes());
}

#[test]
fn in_a_cluster_only_the_leader_ends_what_is_misplaced() {
    let ensemble = Ensemble::start(1);
    let cluster = Cluster::start(&[]);
    let joining = ensemble.flags();
    let flags: Vec<&str> = joining.iter().map(String::as_str).collect();
    let mut first = cluster.router(&flags);
    let instance = first.ask(&service("astray", "").get("/")).expect(200).instance();
    first.terminate();
    assert_eq!(first.wait(PATIENCE), Some(0));
    drop(first);
    let leads = |it: &Router| it.metric("waiter_cluster_leads") == 1.0;
    let mut leader = cluster.another(&flags);
    until("it leads", PATIENCE, || leads(&leader).then_some(()));
    // By what this one is told, the service belongs to its own host.
    let mixed = cluster.router(&[&flags[..], &["--scheduler", "local,marathon"]].concat());
    until_members(&[&leader, &mixed]);
    until_view(&mixed, "fresh");
    until("the leader knows it", PATIENCE, || (leader.active("astray").len() == 1).then_some(()));
    let orders = cluster.writes();
    pause_until(now() + Duration::from_secs(3));
    assert!(!leads(&mixed) && exists(instance));
    assert_eq!(cluster.writes(), orders, "it was ended by one that does not lead");
    leader.terminate();
    assert_eq!(leader.wait(PATIENCE), Some(0));
    until("the other leads", SESSION * 4, || leads(&mixed).then_some(()));
    until("it is ended", PATIENCE, || (!exists(instance)).then_some(()));
    assert!(mixed.process.said().contains("a misplaced service is closed"));
    assert_eq!(cluster.writes().len(), orders.len() + 1, "once: {:?}", cluster.writes());
}
