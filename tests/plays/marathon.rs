//! Instances on a Marathon cluster: they come, serve, are found again, and go. Marathon is a
//! stand-in with real processes.

use crate::stage::{
    Cluster, Connection, PATIENCE, Request, Router, Service, at_once, exists, now, of_task,
    pause_until, until, until_view, wave,
};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// Collectors that look often.
const OFTEN: [&str; 2] = ["--gc-interval-ms", "200"];

/// A service whose instances listen where Marathon puts them.
pub(crate) fn service(name: &str, knobs: &str) -> Service {
    // The process that Marathon starts is the one that serves.
    let binary = env!("CARGO_BIN_EXE_waiter");
    let command = format!("exec '{binary}' instance --port $PORT0 --host $HOST {knobs}");
    Service::run(name, &command)
}

#[test]
fn a_service_is_launched_served_collected_and_launched_again() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&OFTEN);
    let service = service("zero", "").with("idle-timeout-secs", "1");
    let first = router.ask(&service.get("/")).expect(200).instance();
    let app = cluster.app("zero").expect("an app");
    assert_eq!((&app["labels"]["source"], &app["user"]), (&json!("waiter"), &Value::Null));
    assert!(app["cmd"].is_string() && app["args"].is_null(), "{app}");
    until("nobody uses it, so it goes", PATIENCE, || (!exists(first)).then_some(()));
    until("it is not listed", PATIENCE, || router.service_ids().is_empty().then_some(()));
    assert_eq!(cluster.app("zero"), None);
    let second = router.ask(&service.get("/")).expect(200).instance();
    assert_ne!(first, second);
}

#[test]
fn the_original_s_form_is_had_by_options() {
    let cluster = Cluster::start(&["--generation", "1.3"]);
    let flags = ["--marathon-init", "/bin/sh", "--marathon-init", "-c"];
    let router = cluster.router(&flags);
    router.ask(&service("init", "").get("/")).expect(200);
    let app = cluster.app("init").expect("an app");
    let args: Vec<&str> =
        app["args"].as_array().expect("args").iter().flat_map(Value::as_str).collect();
    assert_eq!(args[..2], ["/bin/sh", "-c"]);
    assert!(app["cmd"].is_null(), "{app}");
    let id = router.service_id("init").expect("listed");
    router.ask(&Request::of("DELETE", &format!("/apps/{id}"))).expect(200);
    assert_eq!(cluster.app("init"), None);
}

#[test]
fn a_spike_brings_instances_on_several_hosts_and_idleness_ends_them_one_by_one() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&["--cores", "0,1"]);
    let service = service("wave", "--delay-ms 150").with("max-instances", "4");
    let begun = now();
    let seen = wave(&router, &service);
    assert!((2..=4).contains(&seen.len()), "{seen:?}");
    let hosts: HashSet<String> =
        router.active("wave").iter().map(|it| it["host"].to_string()).collect();
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    until("they leave", Duration::from_secs(90), || {
        (router.active("wave").len() < 2).then_some(())
    });
    let writes = cluster.writes();
    for write in &writes {
        let kill = write.starts_with("DELETE ") && write.contains("/tasks/");
        assert!(!kill || write.contains("scale=true&force=false"), "{write}");
        assert!(!write.starts_with("PUT ") || write.contains("force=false"), "{write}");
    }
    assert!(writes.iter().any(|it| it.contains("/tasks/")), "{writes:?}");
    until("the count fits", PATIENCE, || {
        let app = cluster.app("wave").expect("an app");
        (app["instances"] == 1 && app["tasks"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    println!(
        "{} instances at most on {} hosts; gone after {:?}",
        seen.len(),
        hosts.len(),
        now() - begun
    );
}

#[test]
fn what_runs_is_found_again_by_a_router_that_starts_anew() {
    let cluster = Cluster::start(&[]);
    let mut router = cluster.router(&OFTEN);
    let service = service("again", "").with("idle-timeout-secs", "4").with("max-instances", "3");
    let first = router.ask(&service.get("/")).expect(200).instance();
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(0));
    drop(router);
    assert!(exists(first), "it runs on without a router");
    let router = cluster.router(&OFTEN);
    until("it is listed", PATIENCE, || (router.active("again").len() == 1).then_some(()));
    assert_eq!(router.ask(&service.get("/")).expect(200).instance(), first, "routed to");
    let posts = cluster.writes().iter().filter(|it| it.starts_with("POST ")).count();
    assert_eq!(posts, 1, "{:?}", cluster.writes());
    let slow = at_once(&router, 6, &service.get("/?delay-ms=1500"));
    let seen: HashSet<u32> = slow.into_iter().map(|it| it.join().expect("served")).collect();
    assert!(seen.len() > 1, "scaled: {seen:?}");
    until("and collected", PATIENCE, || cluster.app("again").is_none().then_some(()));
}

#[test]
fn the_sandbox_of_an_instance_is_shown() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let binary = env!("CARGO_BIN_EXE_waiter");
    let command = format!(
        "mkdir -p deep/er; echo here > deep/er/note; echo hello; exec '{binary}' instance \
         --port $PORT0 --host $HOST"
    );
    router.ask(&Service::run("boxed", &command).get("/")).expect(200);
    let url = router.active("boxed")[0]["log-url"].as_str().expect("a link").to_owned();
    let path = |url: &str| {
        let rest = url.strip_prefix("http://").map_or(url, |it| &it[it.find('/').unwrap_or(0)..]);
        rest.to_owned()
    };
    let list = router.page(&path(&url));
    let find = |list: &Value, name: &str| -> Value {
        let all = list.as_array().expect("a list").iter();
        all.clone().find(|it| it["name"] == name).cloned().unwrap_or_else(|| panic!("{list}"))
    };
    let stdout = find(&list, "stdout");
    assert_eq!(stdout["type"], "file");
    let agent = stdout["url"].as_str().expect("a link").to_owned();
    let authority = agent["http://".len()..].split('/').next().expect("an authority").to_owned();
    let text = Connection::open(authority.parse().expect("an address"))
        .ask(&Request::get(&path(&agent)))
        .expect(200)
        .text();
    assert!(text.contains("hello"), "{text}");
    let deep = router.page(find(&list, "deep")["url"].as_str().expect("a link"));
    let er = router.page(find(&deep, "er")["url"].as_str().expect("a link"));
    assert_eq!(find(&er, "note")["size"], 5);
    let up = format!("{}&directory=../..", path(&url));
    assert_eq!(router.ask(&Request::get(&up)).status, 404);
}

#[test]
fn instances_that_fail_alike_make_a_deployment_error() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let crash = service("crash", "--crash-on-start 3");
    let answer = router.ask(&crash.get("/"));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("Invalid startup command"), "{}", answer.text());
    let page = router.service("crash").expect("listed");
    assert_eq!(page["instances"]["failed-instances"][0]["exit-code"], 3);
    // Marathon delays its launches; nobody kills, and nobody asks for more.
    let before = cluster.writes().len();
    pause_until(now() + Duration::from_secs(3));
    let after = cluster.writes();
    assert_eq!(after.len(), before, "the autoscaler does not fight it: {after:?}");
    assert_eq!(cluster.app("crash").expect("an app")["instances"], 1);
}

#[test]
fn memory_is_known_to_be_the_cause() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let hungry = service("hungry", "");
    router.ask(&hungry.get("/")).expect(200);
    let failed = |router: &Router| {
        let page = router.service("hungry").unwrap_or_default();
        page["instances"]["failed-instances"].as_array().map_or(0, Vec::len)
    };
    for count in 1..=2 {
        let task = until("it runs", PATIENCE, || cluster.tasks("hungry").pop());
        cluster.faults("POST", &of_task(&task, "oom"), &json!({}));
        until("it failed", PATIENCE, || (failed(&router) >= count).then_some(()));
    }
    let page = router.service("hungry").expect("listed");
    let flags = page["instances"]["failed-instances"][0]["flags"].to_string();
    assert!(flags.contains("memory-limit-exceeded"), "{flags}");
    let told =
        router.page("/state/maintainer")["state"]["service-id->instability-issue"].to_string();
    assert!(told.contains("not-enough-memory"), "{told}");
}

#[test]
fn a_failing_instance_is_taken_out_at_once_and_replaced_by_marathon() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let service = service("pair", "").with("min-instances", "2");
    let first = router.ask(&service.get("/")).expect(200).instance();
    until("two serve", PATIENCE, || {
        let healthy = router.active("pair").iter().filter(|it| it["healthy?"] == true).count();
        (healthy == 2).then_some(())
    });
    // Not the one that has just served: for 10 ms nobody looks whether its connection has ended,
    // and what is asked on it in that time and finds nobody there must not reach another.
    let other = cluster.tasks("pair").into_iter().find(|it| cluster.process(it) != first);
    let task = other.expect("another task");
    cluster.end(&task, "signal", &json!({"signal": 9}));
    let begun = now();
    let mut served = 0;
    while now() - begun < Duration::from_secs(3) {
        router.ask(&service.get("/")).expect(200);
        served += 1;
    }
    assert!(served > 10);
    until("it is replaced", PATIENCE, || {
        let ids: Vec<String> =
            router.active("pair").iter().map(|it| it["id"].to_string()).collect();
        (ids.len() == 2 && !ids.iter().any(|it| it.contains(&task))).then_some(())
    });
}

#[test]
fn services_choose_between_two_schedulers() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&["--scheduler", "local,marathon"]);
    let binary = env!("CARGO_BIN_EXE_waiter");
    let here = Service::run("here", &format!("'{binary}' instance --port $PORT0"));
    router.ask(&here.get("/")).expect(200);
    let there = service("there", "").with("scheduler", "marathon");
    router.ask(&there.get("/")).expect(200);
    assert!(cluster.app("there").is_some() && cluster.app("here").is_none());
    let of = |name: &str| {
        let id = router.service_id(name).expect("listed");
        router.page(&format!("/state/{id}"))["state"]["scheduler-state"]["scheduler"].clone()
    };
    assert_eq!((of("here"), of("there")), (json!("local"), json!("marathon")));
    let nowhere = service("nowhere", "").with("scheduler", "k8s");
    let answer = router.ask(&nowhere.get("/"));
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("local, marathon"), "{}", answer.text());
    // One that is unreachable leaves the other alone.
    cluster.faults("POST", "/door", &json!({"shut": true}));
    until_view(&router, "stale");
    router.ask(&here.get("/")).expect(200);
    router.ask(&there.get("/")).expect(200);
    let more = Service::run("more", &format!("'{binary}' instance --port $PORT0"));
    router.ask(&more.get("/")).expect(200);
}

#[test]
fn a_service_that_is_found_where_it_does_not_belong_is_ended_there() {
    let cluster = Cluster::start(&[]);
    let mut router = cluster.router(&[]);
    let moved = router.ask(&service("moved", "").get("/")).expect(200).instance();
    let stays = service("stays", "").with("scheduler", "marathon");
    let stayed = router.ask(&stays.get("/")).expect(200).instance();
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(0));
    drop(router);
    let router = cluster.router(&["--scheduler", "local,marathon"]);
    until("it is ended", PATIENCE, || cluster.app("moved").is_none().then_some(()));
    until("its process too", PATIENCE, || (!exists(moved)).then_some(()));
    assert!(router.process.said().contains("a misplaced service is ended"));
    assert_eq!(router.ask(&stays.get("/")).expect(200).instance(), stayed);
}

#[test]
fn marathon_s_word_takes_an_instance_out_and_the_router_s_own_check_brings_it_back() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let service = service("doubted", "").with("min-instances", "2");
    router.ask(&service.get("/")).expect(200);
    let healthy = || router.active("doubted").iter().filter(|it| it["healthy?"] == true).count();
    until("two serve", PATIENCE, || (healthy() == 2).then_some(()));
    let processes = cluster.processes();
    cluster.fault(&json!({"do": "edit", "path": "/v2/apps", "list": "healthCheckResults",
        "set": {"alive": false, "consecutiveFailures": 3}}));
    let out = || router.process.said().matches("is no longer healthy").count();
    until("both are taken out", PATIENCE, || (out() == 2).then_some(()));
    // Their own checks pass: they serve again, although Marathon goes on complaining.
    until("both are back", PATIENCE, || (healthy() == 2).then_some(()));
    for _ in 0..20 {
        router.ask(&service.get("/")).expect(200);
    }
    assert_eq!((out(), cluster.processes()), (2, processes), "once each, and nobody was killed");
}
