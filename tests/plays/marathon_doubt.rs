//! Answers of Marathon that are not believed: traffic goes on, nobody is killed, nothing is scaled.

use crate::marathon::service;
use crate::stage::{
    Cluster, Connection, PATIENCE, Request, Router, Service, exists, now, pause_until, status,
    until, until_view,
};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// A router with two services that serve, and their processes.
struct Scene {
    cluster: Cluster,
    router: Router,
    services: [Service; 2],
    processes: HashSet<u32>,
}

impl Scene {
    fn new(flags: &[&str]) -> Self {
        let cluster = Cluster::start(&[]);
        let router = cluster.router(flags);
        let services = ["one", "two"]
            .map(|it| service(it, "").with("idle-timeout-secs", "600").with("min-instances", "2"));
        for (service, name) in services.iter().zip(["one", "two"]) {
            router.ask(&service.get("/")).expect(200);
            until("two serve", PATIENCE, || {
                let healthy =
                    router.active(name).iter().filter(|it| it["healthy?"] == true).count();
                (healthy == 2).then_some(())
            });
        }
        let processes = cluster.processes().into_iter().collect();
        Self { cluster, router, services, processes }
    }

    /// For so long every request is served by those that were known, nobody was killed, and no order
    /// was given.
    fn serves_on(&self, time: Duration) {
        let orders = self.cluster.writes();
        let begun = now();
        let mut connections = [0, 1].map(|_| Connection::open(self.router.address));
        while now() - begun < time {
            for (service, connection) in self.services.iter().zip(&mut connections) {
                let instance = connection.ask(&service.get("/")).expect(200).instance();
                assert!(self.processes.contains(&instance), "{instance} is new");
            }
        }
        assert!(self.processes.iter().all(|it| exists(*it)), "somebody was killed");
        assert_eq!(self.cluster.writes(), orders, "an order was given");
    }

    /// The fault makes the router say this of Marathon, and requests are served all the same; after
    /// it everything is believed again.
    fn endures(&self, fault: &Value, expected: &str) {
        self.cluster.fault(fault);
        until_view(&self.router, expected);
        self.serves_on(Duration::from_millis(1200));
        self.cluster.no_faults();
        until_view(&self.router, "fresh");
        self.serves_on(Duration::from_millis(300));
    }
}

const LIST: &str = "/v2/apps";

#[test]
fn answers_that_cannot_be_had_or_understood_make_the_view_stale() {
    let scene = Scene::new(&[]);
    for (code, body) in [
        (500, "json"),
        (502, "html"),
        (503, "html"),
        (503, "json"),
        (503, "empty"),
        (504, "empty"),
        (302, "empty"),
        (307, "html"),
        (404, "html"),
    ] {
        scene.endures(&status("GET", LIST, code, body), "stale");
    }
    for fault in [
        json!({"do": "truncate", "path": LIST, "keep": 0.6}),
        json!({"do": "reset", "path": LIST}),
        json!({"do": "status", "path": LIST, "code": 200, "body": "{\"apps\":[{\"id\":"}),
        json!({"do": "status", "path": LIST, "code": 200, "body": "<html>welcome</html>"}),
        json!({"do": "status", "path": LIST, "code": 200, "body": "{}"}),
        json!({"do": "hang", "path": LIST}),
        json!({"do": "drip", "path": LIST, "bytes_per_s": 1}),
    ] {
        scene.endures(&fault, "stale");
    }
    let state = scene.router.page("/state/scheduler")["state"]["views"]["marathon"].clone();
    assert!(state["polls-failed"].as_u64() > Some(10), "{state}");
    assert!(scene.router.metric("waiter_scheduler_polls_failed_total") > 10.0);
    let said = scene.router.process.said();
    assert!(said.contains("is not believed") && said.contains("believed again"), "{said}");
}

#[test]
fn a_list_that_takes_its_time_is_believed_all_the_while() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    until_view(&router, "fresh");
    // An answer begins at once, and is whole after two seconds: later than the next one is due, and
    // than it may take to begin.
    cluster.fault(&json!({"do": "drip", "path": LIST, "bytes_per_s": 5}));
    until("it is that slow", PATIENCE, || {
        (router.metric("waiter_scheduler_poll_seconds") >= 2.0).then_some(())
    });
    until_view(&router, "fresh");
    let polls = || router.metric("waiter_scheduler_polls_total");
    let doubts = || router.process.said().matches("is not believed").count();
    let (polled, doubted) = (polls(), doubts());
    until("it was asked again and again", PATIENCE, || (polls() >= polled + 4.0).then_some(()));
    assert_eq!(doubts(), doubted);
    until_view(&router, "fresh");
}

#[test]
fn answers_that_lack_too_much_are_doubted() {
    let scene = Scene::new(&["--marathon-doubt-secs", "60"]);
    for fault in [
        json!({"do": "empty-list", "path": LIST}),
        json!({"do": "half-list", "path": LIST, "list": "apps"}),
        json!({"do": "half-list", "path": LIST, "list": "tasks"}),
        json!({"do": "status", "path": LIST, "code": 200, "body": "{\"apps\":[]}"}),
        json!({"do": "status", "path": LIST, "code": 200, "body": "{\"apps\":[{\"id\":7}]}"}),
        json!({"do": "edit", "path": LIST, "list": "apps", "set": {"tasks": []}}),
    ] {
        if fault["list"] == "tasks" && fault["do"] == "half-list" {
            scene.cluster.fault(&fault); // half of each: the services are doubted
            until("it is doubted", PATIENCE, || {
                let state = scene.router.page("/state/scheduler")["state"]["id->doubt"].clone();
                (state.as_object().map(serde_json::Map::len) == Some(2)).then_some(())
            });
            scene.serves_on(Duration::from_secs(1));
            scene.cluster.no_faults();
            until_view(&scene.router, "fresh");
        } else {
            scene.endures(&fault, "doubted");
        }
    }
    assert!(scene.router.metric("waiter_scheduler_answers_doubted_total") > 5.0);
}

#[test]
fn an_old_list_brings_nothing_back_and_takes_nothing_away() {
    let scene = Scene::new(&["--marathon-doubt-secs", "60"]);
    let gone = service("gone", "");
    let first = scene.router.ask(&gone.get("/")).expect(200).instance();
    let grown = service("grown", "").with("max-instances", "3").with("idle-timeout-secs", "600");
    scene.router.ask(&grown.get("/")).expect(200);
    scene.cluster.fault(&json!({"do": "stale-list", "path": LIST}));
    // What happens from here on, the list does not know.
    let id = scene.router.service_id("gone").expect("listed");
    scene.router.ask(&Request::of("DELETE", &format!("/apps/{id}"))).expect(200);
    until("it ends", PATIENCE, || (!exists(first)).then_some(()));
    let mut connection = scene.router.connect();
    connection.send(&service("young", "").get("/"));
    scene_traffic(&scene, Duration::from_secs(2));
    assert_eq!(scene.router.service_id("gone"), None, "it was brought back");
    scene.cluster.no_faults();
    connection.response().expect("an answer").expect(200);
    // Once it was seen to have grown, an older list does not take that away.
    let all = "/v2/apps?embed=apps.tasks&embed=apps.counts&embed=apps.deployments";
    let (_, old) = scene.cluster.ask("GET", all, &Value::Null);
    let id = scene.router.service_id("grown").expect("listed");
    let grow = json!({"instances": 3});
    assert_eq!(scene.cluster.ask("PUT", &format!("/v2/apps/{id}"), &grow).0, 200);
    let healthy = |count: usize| {
        let active = scene.router.active("grown");
        (active.iter().filter(|it| it["healthy?"] == true).count() == count).then_some(())
    };
    until("it has grown", PATIENCE, || healthy(3));
    scene.cluster.fault(&status("GET", LIST, 200, &old.to_string()));
    until_view(&scene.router, "doubted");
    scene_traffic(&scene, Duration::from_secs(1));
    assert_eq!(healthy(3), Some(()), "they were taken away");
    scene.cluster.no_faults();
    until_view(&scene.router, "fresh");
    assert!(scene.processes.iter().all(|it| exists(*it)));
}

fn scene_traffic(scene: &Scene, time: Duration) {
    let begun = now();
    while now() - begun < time {
        for service in &scene.services {
            let instance = scene.router.ask(&service.get("/")).expect(200).instance();
            assert!(scene.processes.contains(&instance));
        }
        pause_until(now() + Duration::from_millis(20)); // another play runs beside this one
    }
}

#[test]
fn tasks_with_odd_words_do_no_harm() {
    let scene = Scene::new(&["--marathon-doubt-secs", "60"]);
    for set in [
        json!({"healthCheckResults": null}),
        json!({"startedAt": null, "stagedAt": null}),
        json!({"startedAt": "2999-01-01T00:00:00.000Z"}),
        json!({"state": "TASK_UNREACHABLE"}),
        json!({"state": "TASK_PURPLE", "extra": {"a": [1]}}),
        json!({"state": null, "slaveId": null}),
    ] {
        let fault = json!({"do": "edit", "path": LIST, "list": "tasks", "set": set});
        scene.cluster.fault(&fault);
        pause_until(now() + Duration::from_millis(700));
        scene.serves_on(Duration::from_millis(600));
        scene.cluster.no_faults();
    }
    for set in [
        json!({"ports": null}),
        json!({"ports": [0]}),
        json!({"ports": [9, 9]}), // all at one address, where nobody listens
        json!({"host": null}),
        json!({"ports": "none"}),
    ] {
        let fault = json!({"do": "edit", "path": LIST, "list": "tasks", "set": set});
        scene.cluster.fault(&fault);
        pause_until(now() + Duration::from_millis(700));
        assert!(scene.processes.iter().all(|it| exists(*it)), "nobody was killed");
        scene.cluster.no_faults();
        until("they serve again", PATIENCE, || {
            let ports = scene.router.active("one").iter().filter(|it| it["port"].is_u64()).count();
            (ports == 2).then_some(())
        });
        scene.serves_on(Duration::from_millis(300));
    }
}

#[test]
fn a_marathon_that_hangs_for_a_while_is_not_missed() {
    let scene = Scene::new(&["--gc-interval-ms", "200"]);
    scene.cluster.fault(&json!({"do": "hang"}));
    until_view(&scene.router, "stale");
    scene.serves_on_silently(Duration::from_mins(1));
    scene.cluster.no_faults();
    until_view(&scene.router, "fresh");
    scene.serves_on(Duration::from_secs(1));
    scene.cluster.faults("POST", "/door", &json!({"shut": true}));
    until_view(&scene.router, "stale");
    scene.serves_on_silently(Duration::from_secs(3));
    scene.cluster.faults("POST", "/door", &json!({"shut": false}));
    until_view(&scene.router, "fresh");
}

impl Scene {
    /// As [`serves_on`](Self::serves_on); what is asked of Marathon cannot be looked at.
    fn serves_on_silently(&self, time: Duration) {
        let orders = self.cluster.writes();
        scene_traffic(self, time);
        assert!(self.processes.iter().all(|it| exists(*it)), "somebody was killed");
        assert_eq!(self.cluster.writes(), orders, "an order was given");
    }
}

#[test]
fn a_marathon_that_lost_its_state_is_believed_in_time_and_services_come_anew() {
    let scene = Scene::new(&[]);
    scene.cluster.faults("POST", "/lose-state", &json!({"keep_processes": true}));
    until_view(&scene.router, "doubted");
    // Those that were known serve on meanwhile.
    scene_traffic(&scene, Duration::from_millis(800));
    until("their absence is believed", PATIENCE, || {
        scene.router.service_ids().is_empty().then_some(())
    });
    let again = scene.router.ask(&scene.services[0].get("/")).expect(200).instance();
    assert!(!scene.processes.contains(&again), "a new one");
    assert!(scene.cluster.app("one").is_some());
}

#[test]
fn events_that_fall_silent_are_not_relied_on() {
    let scene = Scene::new(&[]);
    let hints = || {
        scene.router.page("/state/scheduler")["state"]["views"]["marathon"]["event-stream"].clone()
    };
    until("they come", PATIENCE, || (hints() == "coming").then_some(()));
    scene.cluster.faults("POST", "/events/silence", &json!({"on": true}));
    scene.router.ask(&service("third", "").get("/")).expect(200);
    // The connection stays, and nothing comes, not even a heartbeat: it counts as ended.
    until("the silence is heard", Duration::from_secs(50), || (hints() == "absent").then_some(()));
    scene.serves_on(Duration::from_millis(300));
    scene.cluster.faults("POST", "/events/silence", &json!({"on": false}));
    until("they come again", Duration::from_secs(60), || (hints() == "coming").then_some(()));
}
