//! What Marathon refuses, loses or cannot run: whoever waits is told, and nothing is made worse.

use crate::marathon::service;
use crate::marathon_orders::count;
use crate::stage::{
    Cluster, Ensemble, PATIENCE, Router, now, of_task, pause_until, status, until, until_members,
    until_view,
};
use jsonschema::Validator;
use serde_json::{Value, json};
use std::time::Duration;

const LIST: &str = "/v2/apps";

#[test]
fn a_refusal_is_told_to_whoever_waits() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let why = json!({"message": "Object is not valid",
        "details": [{"path": "/cpus", "errors": ["more than there are"]}]});
    cluster.fault(&status("POST", LIST, 422, &why.to_string()));
    let greedy = service("greedy", "");
    // It would wait for five minutes.
    let answer = router.ask(&greedy.get("/")).expect(503);
    let text = answer.text();
    assert!(text.contains("Marathon answered 422: Object is not valid"), "{text}");
    assert!(text.contains("/cpus: more than there are"), "{text}");
    let id = answer.field("x-waiter-service-id").expect("it is told");
    let page = router.page(&format!("/apps/{id}"));
    let told = page["deployment-error-message"].as_str().unwrap_or_default();
    assert!(told.contains("/cpus: more than there are"), "{page}");
    assert_eq!(page["status"], "Failing");
    // Many who ask at once do not make it ask more often.
    let begun = now();
    while now() - begun < Duration::from_secs(3) {
        router.ask(&greedy.get("/")).expect(503);
    }
    let posts = count(&cluster, "POST ");
    assert!((2..=4).contains(&posts), "after 0, 1 and 3 s: {posts}");
    cluster.no_faults();
    until("it is taken", PATIENCE, || (router.ask(&greedy.get("/")).status == 200).then_some(()));
    let page = router.service("greedy").expect("listed");
    assert_eq!(page["deployment-error-message"], Value::Null);
    assert_eq!(page["status"], "Running");
}

#[test]
fn who_is_not_known_to_marathon_is_told_so() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    cluster.fault(&status("GET", "/v2/apps/*", 401, "json"));
    let answer = router.ask(&service("stranger", "").get("/")).expect(503);
    assert!(answer.text().contains("Marathon answered 401"), "{}", answer.text());
}

#[test]
fn what_was_created_and_is_lost_is_created_again() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let mut taken = status("POST", LIST, 201, "{}");
    taken["times"] = json!(1);
    cluster.fault(&taken);
    router.ask(&service("never", "").get("/")).expect(200);
    assert_eq!(count(&cluster, "POST "), 2, "{:?}", cluster.writes());
    // It is there, and lost before it was listed.
    cluster.fault(&json!({"do": "hang", "method": "GET", "path": LIST}));
    let mut connection = router.connect();
    connection.send(&service("lost", "").get("/"));
    until("it is created", PATIENCE, || (count(&cluster, "POST ") == 3).then_some(()));
    cluster.faults("POST", "/lose-state", &json!({"keep_processes": false}));
    cluster.no_faults();
    connection.response().expect("an answer").expect(200);
    assert_eq!(count(&cluster, "POST "), 4, "{:?}", cluster.writes());
    assert!(router.process.said().contains("was created and is not there"));
}

#[test]
fn what_needs_more_memory_than_it_may_have_never_starts() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let mut connection = router.connect();
    connection.send(&service("fat", "--startup-delay-ms 600000").get("/"));
    for count in 1..=2 {
        let seen = |router: &Router| {
            let page = router.service("fat").unwrap_or_default();
            page["instances"]["failed-instances"].as_array().map_or(0, Vec::len)
        };
        let task = until("it starts", PATIENCE, || cluster.tasks("fat").pop());
        cluster.faults("POST", &of_task(&task, "oom"), &json!({}));
        until("it failed", PATIENCE, || (seen(&router) >= count).then_some(()));
    }
    let answer = connection.response().expect("an answer").expect(503);
    assert!(answer.text().contains("Not enough memory allocated"), "{}", answer.text());
    let told = router.page("/state/maintainer")["state"].to_string();
    assert!(told.contains("not-enough-memory"), "{told}");
}

#[test]
fn what_answers_its_checks_wrongly_never_starts() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let ill = service("ill", "--health-status 500")
        .with("grace-period-secs", "20") // one, as the stand-in counts
        .with("health-check-max-consecutive-failures", "1");
    let answer = router.ask(&ill.get("/")).expect(503);
    assert!(
        answer.text().contains("Health check returned an invalid response"),
        "{}",
        answer.text()
    );
    let told = router.page("/state/maintainer")["state"].to_string();
    assert!(told.contains("invalid-health-check-response"), "{told}");
    assert!(!cluster.writes().iter().any(|it| it.contains("/tasks/")), "{:?}", cluster.writes());
}

#[test]
fn what_crashes_is_not_multiplied_however_many_wait() {
    // One agent never makes the two hosts that a deployment error wants: everybody waits.
    let cluster = Cluster::start(&["--agents", "1"]);
    let router = cluster.router(&["--marathon-min-hosts", "2"]);
    let crash = service("crash", "--crash-on-start 3").with("max-instances", "6");
    let mut waiting: Vec<_> = (0..8).map(|_| router.connect()).collect();
    waiting.iter_mut().for_each(|it| it.send(&crash.get("/")));
    let failed = || {
        let page = router.service("crash").unwrap_or_default();
        page["instances"]["failed-instances"].as_array().map_or(0, Vec::len)
    };
    // On a busy machine it may have grown, or be about to, before anybody can know that it crashes.
    until("it crashes, and again", PATIENCE, || (failed() >= 2).then_some(()));
    let instances = || cluster.app("crash").expect("an app")["instances"].clone();
    let had = (count(&cluster, "PUT "), instances());
    until("again and again", PATIENCE, || (failed() >= 4).then_some(()));
    assert_eq!(router.waiting("crash"), 8);
    let begun = now();
    while now() - begun < Duration::from_secs(4) {
        assert_eq!(instances(), had.1);
        pause_until(now() + Duration::from_millis(50));
    }
    assert_eq!(count(&cluster, "PUT "), had.0, "{:?}", cluster.writes());
    assert_eq!(router.waiting("crash"), 8, "nobody was refused");
    let said = router.process.said();
    let told = said.matches("nothing of it is healthy").count();
    assert_eq!(told, 1, "why it does not grow is told, once: {said}");
}

#[test]
fn a_count_that_does_not_fit_is_set_right() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]); // a time of doubt of 3 s: due after 6
    let service = service("drifts", "").with("idle-timeout-secs", "600");
    router.ask(&service.get("/")).expect(200);
    let app = settled(&cluster, "drifts");
    let delayed = json!({"queue": [{"count": 2, "app": {"id": app["id"]},
        "delay": {"overdue": false, "timeLeftSeconds": 60}}]});
    cluster.fault(&status("GET", "/v2/queue", 200, &delayed.to_string()));
    drift(&cluster, &app);
    let begun = now();
    let odd = cluster.app("drifts").expect("an app");
    assert_eq!((&odd["instances"], odd["tasks"].as_array().map(Vec::len)), (&json!(3), Some(1)));
    assert_eq!(odd["deployments"], json!([]));
    let before = count(&cluster, "PUT ");
    let looked = || asked(&cluster, "/v2/queue");
    until("it is due, and the queue is looked at", PATIENCE, || (looked() >= 1).then_some(()));
    assert!(now() - begun >= Duration::from_secs(5), "too early");
    until("and again", PATIENCE, || (looked() >= 2).then_some(()));
    assert_eq!(count(&cluster, "PUT "), before, "its next launch is delayed");
    assert!(!router.process.said().contains("did not fit"), "nothing was done");
    cluster.no_faults();
    until("it is set right", PATIENCE, || (count(&cluster, "PUT ") > before).then_some(()));
    until("it fits", PATIENCE, || {
        let app = cluster.app("drifts").expect("an app");
        (app["instances"] == 1 && app["tasks"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    router.ask(&service.get("/")).expect(200);
    assert!(router.process.said().contains("the number of instances did not fit"));
}

/// The app of a service, once no deployment is in its way.
fn settled(cluster: &Cluster, name: &str) -> Value {
    until("it is settled", PATIENCE, || {
        cluster.app(name).filter(|it| it["deployments"] == json!([]))
    })
}

/// Somebody wants three, of which two find no place, and gives up.
fn drift(cluster: &Cluster, app: &Value) {
    cluster.faults("POST", "/offers/stop", &Value::Null);
    let target = format!("/v2/apps{}", app["id"].as_str().expect("an id"));
    let (code, told) = cluster.ask("PUT", &target, &json!({"instances": 3}));
    assert_eq!(code, 200, "{told}");
    let deployment = told["deploymentId"].as_str().expect("an id");
    let cancel = format!("/v2/deployments/{deployment}?force=true");
    assert!((200..300).contains(&cluster.ask("DELETE", &cancel, &Value::Null).0));
}

#[test]
fn in_a_cluster_only_the_leader_sets_a_count_right() {
    let ensemble = Ensemble::start(1);
    let cluster = Cluster::start(&[]);
    let joining = ensemble.flags();
    let flags: Vec<&str> = joining.iter().map(String::as_str).collect();
    let routers = [cluster.another(&flags), cluster.another(&flags)];
    until_members(&routers.iter().collect::<Vec<_>>());
    let leads = |it: &&Router| it.metric("waiter_cluster_leads") == 1.0;
    let leader = until("one leads", PATIENCE, || routers.iter().position(|it| leads(&it)));
    let service = service("drifts", "").with("idle-timeout-secs", "600").with("max-instances", "1");
    routers[leader].ask(&service.get("/")).expect(200);
    until("both know it", PATIENCE, || {
        routers.iter().all(|it| it.active("drifts").len() == 1).then_some(())
    });
    drift(&cluster, &settled(&cluster, "drifts"));
    let before = count(&cluster, "PUT ");
    until("it is set right", PATIENCE, || {
        (cluster.app("drifts").expect("an app")["instances"] == 1).then_some(())
    });
    // The other one would be at it by now, if it looked after that.
    pause_until(now() + Duration::from_secs(3));
    assert_eq!(count(&cluster, "PUT "), before + 1, "{:?}", cluster.writes());
    let [one, other] = [leader, 1 - leader].map(|it| routers[it].process.said());
    assert!(one.contains("the number of instances did not fit"), "{one}");
    assert!(!other.contains("the number of instances"), "{other}");
}

/// How often the router asked for this.
fn asked(cluster: &Cluster, what: &str) -> usize {
    let told = cluster.faults("GET", "/requests", &Value::Null);
    let all = told["requests"].as_array().cloned().unwrap_or_default();
    let is_it = |it: &&Value| {
        it["method"] == "GET"
            && it["uri"].as_str().is_some_and(|it| it.starts_with(what))
            && it["userAgent"].as_str().is_some_and(|it| it.starts_with("waiter/"))
    };
    all.iter().filter(is_it).count()
}

#[test]
fn many_changes_are_one_poll() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&["--marathon-poll-ms", "60000"]);
    router.ask(&service("calm", "").get("/")).expect(200);
    let hints =
        || router.page("/state/scheduler")["state"]["views"]["marathon"]["event-stream"].clone();
    until("events come", PATIENCE, || (hints() == "coming").then_some(()));
    let app = json!({"id": "/waiter-service-noise", "cmd": "true", "instances": 0, "cpus": 0.1});
    assert_eq!(cluster.ask("POST", LIST, &app).0, 201);
    let list = "/v2/apps?embed";
    let (begun, before) = (now(), asked(&cluster, list));
    for n in 0..200 {
        let label = json!({"labels": {"n": n.to_string()}});
        let (code, told) = cluster.ask("PUT", "/v2/apps/waiter-service-noise?force=true", &label);
        assert_eq!(code, 200, "{told}");
    }
    until("they are looked at", PATIENCE, || (asked(&cluster, list) > before).then_some(()));
    let (took, polls) = (now() - begun, asked(&cluster, list) - before);
    // One, and one after each tenth of a second.
    let most = 2 + took.as_millis() as usize / 100;
    assert!(polls <= most, "{polls} polls in {took:?}");
    println!("200 writes in {took:?}: {polls} polls");
}

#[test]
fn a_list_of_many_megabytes_is_read() {
    let cluster = Cluster::start(&[]);
    for n in 0..12 {
        let app = json!({"id": format!("/big-{n}"), "cmd": "true", "instances": 0, "cpus": 0.1,
            "labels": {"words": "x".repeat(1 << 20)}});
        assert_eq!(cluster.ask("POST", LIST, &app).0, 201);
    }
    let router = cluster.router(&["--marathon-poll-ms", "1000"]);
    router.ask(&service("small", "").get("/")).expect(200);
    until_view(&router, "fresh");
    let (_, told) = cluster.ask("GET", "/v2/apps?embed=apps.tasks", &Value::Null);
    assert!(told.to_string().len() > 11 << 20);
    assert_eq!(router.metric("waiter_scheduler_polls_failed_total"), 0.0);
}

#[test]
fn what_is_said_and_heard_is_marathon_s_language() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let rich = service("rich", "")
        .with("env-LETTER", "a")
        .with("min-instances", "2")
        .with("termination-grace-period-secs", "5")
        .with("ports", "3");
    router.ask(&rich.get("/")).expect(200);
    let told = cluster.faults("GET", "/requests", &Value::Null);
    let all = told["requests"].as_array().cloned().unwrap_or_default();
    let post = all.iter().find(|it| it["method"] == "POST").expect("one");
    let body = serde_json::from_str(post["body"].as_str().expect("a body")).expect("JSON");
    check("AppInfo", &body);
    let asked = all.iter().find(|it| it["uri"].as_str().is_some_and(|it| it.contains("?embed")));
    let target = asked.expect("a poll")["uri"].as_str().expect("a target").to_owned();
    let (_, list) = cluster.ask("GET", &target, &Value::Null);
    assert!(list["apps"][0]["tasks"].is_array(), "{list}");
    check("AppList", &list);
    // A schema that takes everything would prove nothing.
    let mut wrong = body;
    wrong["instances"] = json!("two");
    assert!(!schema("AppInfo").is_valid(&wrong));
}

fn check(name: &str, value: &Value) {
    let wrong: Vec<String> =
        schema(name).iter_errors(value).map(|it| format!("{}: {it}", it.instance_path)).collect();
    assert!(wrong.is_empty(), "no {name}: {wrong:#?}\n{value:#}");
}

/// A schema that was made of Marathon's own; they lie beside the project.
fn schema(name: &str) -> Validator {
    let shared = std::env::var("WAITER_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").to_owned());
    let path = format!("{shared}/marathon-schemas/{name}.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}; set WAITER_SHARED"));
    jsonschema::validator_for(&serde_json::from_str(&text).expect("JSON")).expect("a schema")
}
