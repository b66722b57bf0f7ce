//! Orders to Marathon that meet locks, silence and odd answers.

use crate::marathon::service;
use crate::stage::{
    Cluster, Connection, PATIENCE, Request, Router, at_once, exists, now, of_task, pause_until,
    status, until, until_view,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

fn delete(router: &Router, name: &str) {
    let id = router.service_id(name).expect("it is listed");
    router.ask(&Request::of("DELETE", &format!("/apps/{id}"))).expect(200);
}

/// The app of a service, once no deployment is in its way.
fn settled(cluster: &Cluster, name: &str) -> Value {
    until("nothing is in the way", PATIENCE, || {
        cluster.app(name).filter(|it| it["deployments"] == json!([]))
    })
}

/// Somebody raises the count of a service by hand, once nothing is in the way.
fn grow(cluster: &Cluster, name: &str, instances: u32) {
    let app = settled(cluster, name);
    let target = format!("/v2/apps{}", app["id"].as_str().expect("an id"));
    let (status, told) = cluster.ask("PUT", &target, &json!({"instances": instances}));
    assert_eq!(status, 200, "{told}");
}

/// How often this was asked of Marathon.
pub(crate) fn count(cluster: &Cluster, what: &str) -> usize {
    cluster.writes().iter().filter(|it| it.starts_with(what)).count()
}

#[test]
fn a_service_is_created_again_right_after_it_was_deleted() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    // Its instances take a while to end, and until then Marathon says 409.
    let service = service("phoenix", "").with("termination-grace-period-secs", "3");
    let first = router.ask(&service.get("/")).expect(200).instance();
    cluster.faults("POST", "/deployments/hold", &json!({}));
    delete(&router, "phoenix");
    let address = router.address;
    let request = service.get("/");
    let waiting = thread::spawn(move || Connection::open(address).ask(&request));
    until("it is refused for a lock", PATIENCE, || (count(&cluster, "POST ") >= 3).then_some(()));
    cluster.faults("DELETE", "/deployments/hold", &json!({}));
    let second = waiting.join().expect("an answer").expect(200).instance();
    assert_ne!(first, second);
    assert_eq!(count(&cluster, "DELETE /v2/deployments"), 0, "nothing was forced");
}

#[test]
fn a_lock_makes_orders_wait_and_nothing_is_forced() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let service = service("locked", "").with("max-instances", "3");
    router.ask(&service.get("/")).expect(200);
    cluster.fault(&json!({"do": "locked", "method": "PUT", "deployment": "somebody-else-s"}));
    let slow = at_once(&router, 4, &service.get("/?delay-ms=2500"));
    until("it was tried twice", PATIENCE, || (count(&cluster, "PUT ") >= 2).then_some(()));
    assert!(count(&cluster, "PUT ") < 10, "not at once again: {:?}", cluster.writes());
    assert_eq!(router.active("locked").len(), 1);
    cluster.no_faults();
    until("more come", PATIENCE, || (router.active("locked").len() > 1).then_some(()));
    for it in slow {
        it.join().expect("every request is served");
    }
    // Now kills are locked; instances serve on.
    let kills = json!({"do": "locked", "method": "DELETE", "path": "/v2/apps/*/tasks/*"});
    cluster.fault(&kills);
    let before = cluster.processes().len();
    let tries = || count(&cluster, "DELETE /v2/apps");
    until("a kill is tried", Duration::from_secs(90), || (tries() >= 2).then_some(()));
    router.ask(&service.get("/")).expect(200);
    assert_eq!(cluster.processes().len(), before, "nobody was killed");
    assert!(!cluster.writes().iter().any(|it| it.contains("force=true")), "{:?}", cluster.writes());
    cluster.no_faults();
    until("they leave", Duration::from_secs(90), || {
        (router.active("locked").len() == 1).then_some(())
    });
}

#[test]
fn an_order_whose_answer_is_lost_is_read_back_and_not_repeated() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let lost =
        |method: &str| json!({"do": "reset", "method": method, "carried_out": true, "times": 1});
    cluster.fault(&lost("POST"));
    let service = service("lost", "").with("max-instances", "2");
    router.ask(&service.get("/")).expect(200);
    assert_eq!(count(&cluster, "POST "), 1);
    settled(&cluster, "lost");
    cluster.fault(&lost("PUT"));
    let slow = at_once(&router, 3, &service.get("/?delay-ms=1500"));
    until("two serve", PATIENCE, || (router.active("lost").len() == 2).then_some(()));
    let asked = cluster.faults("GET", "/requests", &Value::Null);
    assert_eq!(count(&cluster, "PUT "), 1, "{asked:#}");
    for it in slow {
        it.join().expect("served");
    }
    cluster.fault(&lost("DELETE"));
    until("one is killed", Duration::from_secs(90), || {
        (router.active("lost").len() == 1).then_some(())
    });
    let kills = cluster.writes().iter().filter(|it| it.contains("/tasks/")).count();
    assert_eq!(kills, 1, "{:?}", cluster.writes());
    cluster.fault(&lost("DELETE"));
    delete(&router, "lost");
    until("it is gone", PATIENCE, || cluster.app("lost").is_none().then_some(()));
}

#[test]
fn a_kill_that_nobody_heard_is_given_up_only_when_it_cannot_be_heard_any_more() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&["--marathon-timeout-ms", "1000"]);
    let service = service("pending", "").with("max-instances", "2");
    router.ask(&service.get("/")).expect(200);
    cluster.fault(&json!({"do": "reset", "method": "DELETE", "path": "/v2/apps/*/tasks/*"}));
    grow(&cluster, "pending", 2);
    let kills = || count(&cluster, "DELETE /v2/apps");
    let first = until("one is to go", Duration::from_secs(90), || (kills() == 1).then(now));
    let second = until("and again", Duration::from_secs(90), || (kills() == 2).then(now));
    // It might have been heard within three seconds; until then its instance takes no request.
    assert!(second - first >= Duration::from_secs(3), "{:?}", second - first);
    router.ask(&service.get("/")).expect(200);
    assert_eq!(cluster.processes().len(), 2);
    cluster.no_faults();
    until("it goes", Duration::from_secs(90), || {
        (router.active("pending").len() == 1).then_some(())
    });
}

#[test]
fn a_task_that_vanishes_before_its_kill_lowers_nothing() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let service = service("vanish", "").with("max-instances", "2");
    router.ask(&service.get("/")).expect(200);
    let late = json!({"do": "latency", "ms": 1000, "times": 1,
        "method": "DELETE", "path": "/v2/apps/*/tasks/*"});
    cluster.fault(&late);
    grow(&cluster, "vanish", 2);
    // The kill is on its way; Marathon answers 200 although it does not know the task any more.
    let kill = until("one is to go", Duration::from_secs(90), || {
        cluster.writes().into_iter().find(|it| it.contains("/tasks/"))
    });
    let task = kill.split(['/', '?']).nth(5).expect("it names a task").to_owned();
    cluster.end(&task, "lose", &json!({}));
    for _ in 0..50 {
        router.ask(&service.get("/")).expect(200);
        pause_until(now() + Duration::from_millis(40));
    }
    until("another goes instead", Duration::from_secs(90), || {
        (router.active("vanish").len() == 1 && cluster.processes().len() == 1).then_some(())
    });
    assert_eq!(settled(&cluster, "vanish")["instances"], 1);
    let kills = cluster.writes().iter().filter(|it| it.contains("/tasks/")).count();
    assert_eq!(kills, 2, "the first lowered nothing: {:?}", cluster.writes());
}

#[test]
fn a_deployment_that_never_ends_is_cancelled_after_a_minute() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let service = service("stuck", "").with("max-instances", "4");
    router.ask(&service.get("/")).expect(200);
    settled(&cluster, "stuck");
    cluster.faults("POST", "/deployments/hold", &json!({}));
    grow(&cluster, "stuck", 2);
    // Four at a time want more than the two there are to be.
    let (address, ends) = (router.address, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (request, ends) = (service.get("/?delay-ms=500"), ends.clone());
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                while !ends.load(Ordering::Relaxed) {
                    connection.ask(&request).expect(200);
                }
            })
        })
        .collect();
    let ours = || count(&cluster, "PUT ") - 1;
    let first = until("more are wanted", PATIENCE, || (ours() >= 1).then(now));
    let forced = || count(&cluster, "DELETE /v2/deployments");
    let then = until("it is cancelled", Duration::from_secs(90), || (forced() == 1).then(now));
    assert!(then - first >= Duration::from_secs(59), "{:?}", then - first);
    cluster.faults("DELETE", "/deployments/hold", &json!({}));
    until("more come", PATIENCE, || (router.active("stuck").len() > 2).then_some(()));
    ends.store(true, Ordering::Relaxed);
    for it in clients {
        it.join().expect("every request is served");
    }
    assert_eq!(forced(), 1);
}

#[test]
fn statuses_that_pass_are_tried_again() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    for (n, (code, body)) in
        [(500, "json"), (502, "html"), (503, "html"), (503, "empty"), (504, "html")]
            .iter()
            .enumerate()
    {
        let mut fault = status("POST", "/v2/apps", *code, body);
        fault["times"] = json!(1);
        cluster.fault(&fault);
        let mut read = status("GET", "/v2/apps/*", *code, body);
        read["times"] = json!(1);
        cluster.fault(&read);
        router.ask(&service(&format!("retry{n}"), "").get("/")).expect(200);
    }
    let mut fault = status("DELETE", "/v2/apps/*", 503, "empty");
    fault["times"] = json!(2);
    cluster.fault(&fault);
    delete(&router, "retry0");
    assert_eq!(cluster.app("retry0"), None);
}

#[test]
fn a_deletion_that_fails_leaves_the_service_in_use() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&[]);
    let service = service("kept", "");
    let first = router.ask(&service.get("/")).expect(200).instance();
    cluster.fault(&status("DELETE", "/v2/apps/*", 503, "html"));
    let id = router.service_id("kept").expect("listed");
    let answer = router.ask(&Request::of("DELETE", &format!("/apps/{id}")));
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("503"), "{}", answer.text());
    assert_eq!(router.ask(&service.get("/")).expect(200).instance(), first);
    cluster.no_faults();
    delete(&router, "kept");
    until("it ends", PATIENCE, || (!exists(first)).then_some(()));
}

#[test]
fn a_task_that_dies_between_list_and_use_costs_no_request_and_no_count() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&["--marathon-poll-ms", "5000"]);
    cluster.fault(&status("GET", "/v2/events", 404, "json"));
    let service = service("brief", "").with("min-instances", "2");
    router.ask(&service.get("/")).expect(200);
    until("two serve", PATIENCE, || {
        let healthy = router.active("brief").iter().filter(|it| it["healthy?"] == true).count();
        (healthy == 2).then_some(())
    });
    let task = cluster.tasks("brief").pop().expect("a task");
    cluster.end(&task, "lose", &json!({}));
    for _ in 0..20 {
        router.ask(&service.get("/")).expect(200);
    }
    assert_eq!(cluster.app("brief").expect("an app")["instances"], 2);
}

#[test]
fn nobody_leads_for_a_while_and_another_takes_over() {
    let cluster = Cluster::start(&["--standbys", "1"]);
    let urls = format!("{},{}", cluster.url(), cluster.standbys()[0]);
    let router = cluster.router_at(&urls, &[]);
    let service = service("led", "");
    let first = router.ask(&service.get("/")).expect(200).instance();
    cluster.faults("POST", "/leader", &json!({"absent_ms": 1500, "node": 1}));
    let begun = now();
    while now() - begun < Duration::from_secs(3) {
        assert_eq!(router.ask(&service.get("/")).expect(200).instance(), first);
    }
    until_view(&router, "fresh");
    router.ask(&crate::marathon::service("next", "").get("/")).expect(200);
    // The first is gone for good; the other one is asked.
    cluster.faults("POST", "/door", &json!({"shut": true, "node": 0}));
    pause_until(now() + Duration::from_secs(1));
    until_view(&router, "fresh");
    router.ask(&crate::marathon::service("last", "").get("/")).expect(200);
    assert!(exists(first));
}

#[test]
fn an_event_stream_brings_news_before_the_next_poll() {
    let cluster = Cluster::start(&[]);
    let router = cluster.router(&["--marathon-poll-ms", "60000"]);
    let hints = |router: &Router| {
        router.page("/state/scheduler")["state"]["views"]["marathon"]["event-stream"].clone()
    };
    let begun = now();
    router.ask(&service("quick", "").get("/")).expect(200);
    assert!(now() - begun < Duration::from_secs(20));
    until("they are said to come", PATIENCE, || (hints(&router) == "coming").then_some(()));
    let task = cluster.tasks("quick").pop().expect("a task");
    cluster.faults("POST", &of_task(&task, "signal"), &json!({"signal": 9}));
    until("it is seen to have failed", PATIENCE, || {
        let page = router.service("quick").unwrap_or_default();
        let failed = page["instances"]["failed-instances"].as_array().map_or(0, Vec::len);
        (failed == 1).then_some(())
    });
    cluster.faults("POST", "/events/close", &json!({}));
    until("it is opened again", PATIENCE, || {
        let told = cluster.faults("GET", "/requests", &Value::Null).to_string();
        (told.matches("/v2/events").count() >= 2).then_some(())
    });
}

#[test]
fn a_refused_event_stream_is_said_once_and_polling_goes_on() {
    for code in [403, 404, 405] {
        let cluster = Cluster::start(&[]);
        cluster.fault(&status("GET", "/v2/events", code, "json"));
        let router = cluster.router(&[]);
        router.ask(&service("plain", "").get("/")).expect(200);
        pause_until(now() + Duration::from_secs(2));
        let told = cluster.faults("GET", "/requests", &Value::Null).to_string();
        assert_eq!(told.matches("/v2/events").count(), 1, "{code}");
        let said = router.process.said();
        assert_eq!(said.matches("event stream is refused").count(), 1, "{said}");
    }
}
