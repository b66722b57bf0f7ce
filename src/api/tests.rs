//! Tables of pages: what is asked, what is answered.

use super::errand::Errand;
use super::fixture::{KITCHEN, Router, call, id, outcome};
use super::pages::Step;
use super::ping::{Shown, Start};
use super::reply::{PIECE_MAX, Pieces, Reply};
use crate::base::time::Duration;
use crate::wire::head::Length;
use serde_json::{Value, json};

const JSON: (&str, &str) = ("accept", "application/json");

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Asserts that the value has these keys.
fn has(value: &Value, wanted: &str) {
    for key in wanted.split_whitespace() {
        assert!(value.get(key).is_some(), "no {key} among {:?}", keys(value));
    }
}

#[test]
fn every_call_gets_its_page() {
    let router = Router::new();
    let service = format!("/apps/{}", id("kitchen"));
    let state = format!("/state/{}", id("kitchen"));
    for (line, status, text) in [
        ("GET /", 200, "Welcome to Waiter"),
        ("POST /", 405, "Only GET supported"),
        ("GET /status", 200, r#"{"status":"ok"}"#),
        ("PUT /status", 200, r#"{"status":"ok"}"#),
        ("GET /apps", 200, "waiter-service-kitchen-"),
        ("POST /apps", 405, "Only GET supported"),
        ("GET /apps/", 404, "Not found"),
        ("GET /apps/nobody", 404, "Service not found"),
        ("GET /apps/no.body", 404, "Service not found"),
        ("GET /apps/%2e", 404, "Service not found"),
        ("DELETE /apps/nobody", 404, "Service not found"),
        ("DELETE /apps/nobody?timeout=x", 400, "timeout must be an integer"),
        (&format!("GET {service}"), 200, "active-instances"),
        (&format!("GET {}", service.replace('-', "%2D")), 200, "active-instances"),
        (&format!("PUT {service}"), 405, "Only GET and DELETE supported"),
        (&format!("GET {service}/logs"), 400, "Missing instance-id parameter"),
        (&format!("GET {service}/logs?instance-id=x"), 400, "Missing host parameter"),
        (&format!("GET {service}/logs?instance-id=x&host=h"), 404, "Instance not found"),
        (&format!("POST {service}/logs"), 405, "Only GET supported"),
        ("GET /apps/nobody/logs", 404, "Service not found"),
        (&format!("DELETE /apps/{}", id("bench")), 400, "the operator named them"),
        (&format!("GET {state}"), 200, "responder-state"),
        ("GET /state", 200, "http://localhost:9091/state/maintainer"),
        ("GET /state/nothing", 404, "Service not found"),
        ("GET /settings", 200, "cluster-config"),
        ("GET /metrics", 200, "# TYPE waiter_requests_total counter"),
        ("GET /service-id", 400, "Unable to identify service using waiter headers/token"),
        ("GET /tokens", 404, "Not found"),
        ("GET /statusx", 404, "Not found"),
        ("GET *", 404, "Not found"),
    ] {
        let found = router.ask(line, &[]);
        assert_eq!(found.status, status, "{line}: {}", found.body);
        assert!(found.body.contains(text), "{line}: {}", found.body);
        assert_eq!(found.answer.ticket.number, 7);
    }
}

#[test]
fn head_is_get_without_its_body() {
    let router = Router::new();
    let app = format!("/apps/{}", id("kitchen"));
    for path in ["/", "/apps", &app, "/metrics", "/state/maintainer"] {
        let get = router.ask(&format!("GET {path}"), &[]);
        let head = router.ask(&format!("HEAD {path}"), &[]);
        assert_eq!((head.status, &head.kind), (get.status, &get.kind), "{path}");
        assert_eq!(head.answer.head.length, Length::Exact(get.body.len() as u64), "{path}");
        assert!(head.answer.pieces.is_empty() && !get.body.is_empty(), "{path}");
    }
}

#[test]
fn errors_come_in_the_form_the_client_wants() {
    let router = Router::new();
    let error = router.ask("GET /apps/nobody?a=b", &[JSON]);
    let error = &error.json()["waiter-error"];
    assert_eq!(error["message"], "Service not found");
    assert_eq!((&error["status"], &error["cid"]), (&json!(404), &json!("cid-1")));
    assert_eq!(error["timestamp"], "2024-01-02T03:04:05.678Z");
    let text = router.ask("GET /apps/nobody", &[("accept", "*/*")]);
    assert_eq!(text.kind.as_deref(), Some("text/plain"));
    let by_content = [("accept", "*/*"), ("content-type", "application/json")];
    assert!(router.ask("GET /nothing", &by_content).json()["waiter-error"].is_object());
    assert_eq!(router.ask("GET /", &[JSON]).json()["message"], "Welcome to Waiter");
}

#[test]
fn status_tells_of_the_request_and_of_draining() {
    let mut router = Router::new();
    let long = "x".repeat(200);
    let found = router.ask("GET /status?include=request-info", &[("x-long", &long)]).json();
    assert_eq!(found["status"], "ok");
    let info = &found["request-info"];
    assert_eq!(info["headers"]["x-long"], "x".repeat(80));
    assert_eq!(info["headers"]["host"], "localhost:9091");
    assert_eq!((&info["uri"], &info["request-method"]), (&json!("/status"), &json!("get")));
    router.catalogue.draining = true;
    let found = router.ask("GET /status", &[]);
    assert_eq!(
        (found.status, found.json()["message"].as_str()),
        (503, Some("Router is in drain mode."))
    );
}

#[test]
fn apps_are_those_that_exist_by_id() {
    let list = Router::new().json("/apps");
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|it| it["service-id"].clone()).collect();
    let mut expected = ["bench", "broken", "kitchen", "slow"].map(|it| json!(id(it).as_str()));
    expected.sort_by_key(ToString::to_string);
    assert_eq!(ids, expected);
    let statuses: Vec<_> = list.as_array().unwrap().iter().map(|it| &it["status"]).collect();
    assert_eq!(statuses, ["Running", "Failing", "Running", "Starting"]);
    let kitchen = &list[2];
    has(
        kitchen,
        "service-id status url instance-counts last-request-time request-metrics resource-usage \
         scaling-state service-description",
    );
    assert_eq!(kitchen["url"], format!("http://localhost:9091/apps/{}", id("kitchen")));
    assert_eq!(
        kitchen["instance-counts"],
        json!({"healthy-instances": 1, "unhealthy-instances": 1})
    );
    assert_eq!(kitchen["request-metrics"], json!({"outstanding": 3, "total": 5_000_000_000_u64}));
    assert_eq!(kitchen["resource-usage"], json!({"cpus": 1.0, "mem": 512}));
    assert_eq!(kitchen["last-request-time"], "2024-01-02T03:04:05.578Z");
    assert_eq!(kitchen["scaling-state"], "scale-up");
    assert_eq!(kitchen["service-description"]["env"]["FOO"], "bar");
    assert!(kitchen.get("effective-parameters").is_none() && kitchen.get("instances").is_none());
    assert_eq!(list[1]["deployment-error-message"], "Deployment error: Invalid startup command");
    assert_eq!(
        list[0]["service-description"]["static"],
        json!(["127.0.0.1:8081", "127.0.0.1:8082"])
    );
    assert!(list[3]["last-request-time"].is_null());
}

#[test]
fn apps_are_filtered_by_effective_parameters() {
    let router = Router::new();
    for (query, expected) in [
        ("run-as-user=alice", "broken kitchen slow"),
        ("run-as-user=bob", ""),
        ("run-as-user=bob&run-as-user=alice", "broken kitchen slow"),
        ("run-as-user=*", "broken kitchen slow"),
        ("run-as-user=*&star-mode=none", ""),
        ("name=kitchen", "kitchen"),
        ("name=kitchen&name=slow", "kitchen slow"),
        ("name=kitch.*", ""),
        ("name=kitchen&run-as-user=bob", ""),
        ("mem=256", "broken kitchen slow"),
        ("concurrency-level=64", "bench"),
        ("concurrency-level=1", "broken kitchen slow"),
        ("env.FOO=bar", "kitchen"),
        ("env.FOO=*", "kitchen"),
        ("env.FOO=", "bench broken slow"),
        ("metadata.flag=on", "kitchen"),
        ("token=bench", "bench"),
        ("token=kitchen", ""),
        ("token=*", "bench"),
        ("token-version=E-1", ""),
        ("nothing=at-all", "bench broken kitchen slow"),
        ("effective-parameters=true", "bench broken kitchen slow"),
    ] {
        let list = router.json(&format!("/apps?{query}"));
        let names = |it: &Value| {
            let id = it["service-id"].as_str().unwrap();
            id.split('-').nth(2).unwrap().to_owned()
        };
        let found: Vec<_> = list.as_array().unwrap().iter().map(names).collect();
        assert_eq!(found.join(" "), expected, "{query}");
    }
}

#[test]
fn apps_include_what_is_asked_for() {
    let router = Router::new();
    for query in ["effective-parameters=True", "include=effective-parameters"] {
        let kitchen = &router.json(&format!("/apps?name=kitchen&{query}"))[0];
        assert_eq!(kitchen["effective-parameters"]["concurrency-level"], 1, "{query}");
        assert_eq!(kitchen["effective-parameters"]["cmd"], "./kitchen -p $PORT0", "{query}");
    }
    let kitchen = &router.json("/apps?name=kitchen&include=healthy-instances")[0];
    let healthy = &kitchen["instances"]["healthy-instances"];
    assert_eq!(healthy.as_array().unwrap().len(), 1);
    assert_eq!(keys(&healthy[0]), ["host", "id", "port", "started-at"]);
}

#[test]
fn an_app_shows_its_instances() {
    let router = Router::new();
    let app = router.json(&format!("/apps/{}?include=metrics", id("kitchen")));
    has(
        &app,
        "instances num-active-instances resource-usage status router-id num-routers \
         request-metrics service-description last-request-time scaling-state metrics",
    );
    assert_eq!(app["num-active-instances"], 2);
    let instances = &app["instances"];
    assert_eq!(keys(instances), ["active-instances", "failed-instances", "killed-instances"]);
    let suffixes = |list: &str| -> Vec<_> {
        let ids = instances[list].as_array().unwrap().iter();
        ids.map(|it| it["id"].as_str().unwrap().rsplit('.').next().unwrap()).collect()
    };
    assert_eq!(suffixes("active-instances"), ["i19", "i20"], "by start");
    assert_eq!(suffixes("failed-instances").len(), 10);
    assert_eq!(suffixes("failed-instances")[0], "i03", "the newest ten");
    assert_eq!(suffixes("killed-instances"), ["i14", "i15"], "by start");
    let active = &instances["active-instances"];
    for instance in active.as_array().unwrap() {
        has(
            instance,
            "id service-id started-at healthy? health-check-status flags exit-code host port \
             extra-ports log-directory message status killed? failed? shell-scheduler/pid \
             shell-scheduler/working-directory",
        );
    }
    assert_eq!(active[0]["flags"], json!(["expired", "has-connected"]));
    assert_eq!(
        (&active[0]["healthy?"], &active[0]["status"]),
        (&json!(false), &json!("Unhealthy"))
    );
    assert_eq!((&active[1]["healthy?"], &active[1]["status"]), (&json!(true), &json!("Healthy")));
    assert_eq!((&active[1]["port"], &active[1]["extra-ports"]), (&json!(10020), &json!([20020])));
    assert_eq!(instances["failed-instances"][0]["exit-code"], 1);
    assert_eq!(instances["killed-instances"][0]["killed?"], true);
}

#[test]
fn an_app_that_is_only_described_is_inactive() {
    let app = Router::new().json(&format!("/apps/{}", id("stored")));
    assert_eq!((&app["status"], &app["num-active-instances"]), (&json!("Inactive"), &json!(0)));
    let none = json!({"active-instances": [], "failed-instances": [], "killed-instances": []});
    assert_eq!(app["instances"], none);
    assert_eq!(app["request-metrics"], json!({"outstanding": 0, "total": 0}));
}

#[test]
fn a_deletion_is_an_errand() {
    let router = Router::new();
    for (query, millis) in [("", 0), ("?timeout=30000", 30_000), ("?timeout=-1", 0)] {
        let call = call(&format!("DELETE /apps/{}{query}", id("kitchen")), &[]);
        let Step::Errand(Errand::Delete { service, timeout }) = router.step(&call) else {
            panic!("an errand");
        };
        assert_eq!((service, timeout), (id("kitchen"), Duration::from_millis(millis)), "{query}");
    }
}

#[test]
fn settings_have_what_clients_read() {
    let settings = Router::new().json("/settings");
    assert_eq!(settings["cluster-config"]["name"], "local");
    assert_eq!(settings["scheduler-config"]["kind"], "shell");
    assert!(settings["scheduler-config"]["shell"].is_object());
    assert_eq!(settings["scheduler-syncer-interval-secs"], 5);
    assert_eq!(settings["git-version"], "0.1.0");
    assert_eq!(settings["started-at"], "2024-01-02T03:03:05.678Z");
}

#[test]
fn states_have_an_envelope_and_the_names_of_the_specification() {
    let router = Router::new();
    let index = router.json("/state");
    has(&index, "details router-id routers");
    assert_eq!(index["routers"], json!({"router-1": "http://localhost:9091/"}));
    let service = format!("/state/{}", id("kitchen"));
    let links = index["details"].as_object().unwrap().values();
    for link in links.map(|it| it.as_str().unwrap()) {
        let path = link.strip_prefix("http://localhost:9091").unwrap();
        let state = router.json(path);
        assert_eq!(state["router-id"], "router-1");
        // This one is flat, so that scripts find the members at once.
        if path != "/state/cluster" {
            assert_eq!(keys(&state), ["router-id", "state"], "{path}");
        }
    }
    let alone = router.json("/state/cluster");
    has(&alone, "cluster members epoch leader min-routers peers slots-lent slots-borrowed");
    assert_eq!(alone["members"][0]["id"], "router-1");
    assert_eq!(alone["leader"]["leader?"], true);
    for (path, wanted) in [
        (
            "/state/maintainer",
            "all-available-service-ids iteration time routers router-details \
             service-id->healthy-instances service-id->unhealthy-instances \
             service-id->failed-instances service-id->killed-instances \
             service-id->expired-instances service-id->starting-instances \
             service-id->instance-counts service-id->deployment-error \
             service-id->instability-issue service-id->my-instance->slots",
        ),
        ("/state/leader", "leader? leader-id"),
        ("/state/scheduler", "type supported-include-params"),
        (
            &service,
            "local-usage responder-state work-stealing-state autoscaler-state \
             autoscaling-multiplexer-state interstitial-maintainer-state scheduler-state \
             scheduler-services-gc-state scheduler-broken-services-gc-state \
             service-maintainer-state transient-metrics-gc-state latency",
        ),
    ] {
        has(&router.json(path)["state"], wanted);
    }
}

#[test]
fn the_state_of_a_service_says_how_long_requests_take() {
    let router = Router::new();
    let latency = |name| router.json(&format!("/state/{}", id(name)))["state"]["latency"].take();
    let kitchen = latency("kitchen");
    assert_eq!(kitchen["queue"]["p50"], 0.02, "the bound of the first bucket");
    let longest = kitchen["total"]["p99"].as_f64().expect("a number");
    assert!((80.0..160.0).contains(&longest), "100 ms, and not {longest}");
    assert_eq!(latency("slow"), Value::Null);
}

#[test]
fn states_say_what_is() {
    let router = Router::new();
    let kitchen = id("kitchen");
    let state = |name: &str| router.json(&format!("/state/{name}"))["state"].take();
    let maintainer = state("maintainer");
    let of = |key: &str, service: &str| maintainer[key][id(service).as_str()].clone();
    let counts = json!({"healthy": 1, "requested": 2, "scheduled": 2});
    assert_eq!(of("service-id->instance-counts", "kitchen"), counts);
    assert_eq!(of("service-id->deployment-error", "broken"), "bad-startup-command");
    assert_eq!(of("service-id->deployment-error", "kitchen"), Value::Null);
    let slot = json!({"slots-assigned": 1, "slots-used": 1, "status-tags": []});
    let slots = json!({format!("{kitchen}.i20"): slot});
    assert_eq!(of("service-id->my-instance->slots", "kitchen"), slots);
    let scale = &state("autoscaler")["service-id->scale-state"][kitchen.as_str()];
    assert_eq!((&scale["scale-amount"], &scale["target-instances"]), (&json!(1), &json!(2.5)));
    assert_eq!((&scale["reason"], &scale["boot-time-ms"]), (&json!("1 waiting"), &json!(1500)));
    let idle = &state("gc-services")["service-id->state"][kitchen.as_str()];
    assert_eq!(idle["collected-at"], "2024-01-02T03:34:05.578Z", "after 30 min");
    let broken = &state("gc-broken-services")["service-id->state"][id("broken").as_str()];
    assert_eq!(broken["last-modified-time"], "2024-01-02T03:04:00.678Z");
    assert_eq!(broken["failed-instance-hosts"], json!(["127.0.0.1"]));
    let failures = &state("ejection-expiry")["service-id->instance-id->failures"];
    assert_eq!(*failures, json!({kitchen.as_str(): {format!("{kitchen}.i19"): 3}}));
    assert_eq!(state("scheduler")["type"], "shell");
    let responder = &state(kitchen.as_str())["responder-state"];
    assert_eq!(
        (&responder["waiting-requests"], &responder["oldest-waiting-ms"]),
        (&json!(0), &json!(250))
    );
}

#[test]
fn a_service_id_is_what_the_headers_describe() {
    let router = Router::new();
    for path in ["/service-id", "/app-name"] {
        let found = router.ask(&format!("GET {path}"), &KITCHEN);
        assert_eq!((found.status, &found.kind), (200, &None));
        assert_eq!(found.body, id("kitchen").as_str());
    }
    for fields in [[("host", "bench:80")], [("x-waiter-token", "Bench")]] {
        assert_eq!(router.ask("GET /service-id", &fields).body, id("bench").as_str());
    }
    for (fields, status) in [
        (vec![("x-waiter-token", "nobody")], 404),
        (vec![("x-waiter-cmd", "true")], 400),
        (vec![("host", "elsewhere")], 400),
        (vec![], 400),
    ] {
        assert_eq!(router.ask("GET /service-id", &fields).status, status, "{fields:?}");
    }
}

#[test]
fn a_ping_is_an_errand_once_its_service_is_resolved() {
    let router = Router::new();
    let ping = |line: &str, more: &[(&str, &str)]| {
        let fields = [&KITCHEN[..], more].concat();
        match router.step(&call(line, &fields)) {
            Step::Errand(Errand::Ping(ping)) => ping,
            other => panic!("{other:?}"),
        }
    };
    let plain = ping("GET /waiter-ping", &[]);
    assert_eq!((plain.start, plain.state), (Start::Allowed, Shown::Shown));
    assert_eq!(
        (plain.timeout, plain.description.id.clone()),
        (Duration::from_secs(300), id("kitchen"))
    );
    let short = ping("GET /waiter-ping?exclude=service-state", &[("x-waiter-timeout", "10000")]);
    assert_eq!((short.timeout, short.state), (Duration::from_secs(10), Shown::Excluded));
    // Its own headers do not let a page start what is not there; what is there it may ping.
    let foreign = ping("GET /waiter-ping", &[("origin", "http://evil.example")]);
    assert_eq!(foreign.start, Start::Denied);
    let fields = [("host", "bench"), ("origin", "http://evil.example")];
    let Step::Errand(Errand::Ping(ping)) = router.step(&call("GET /waiter-ping", &fields)) else {
        panic!("it is there");
    };
    assert_eq!((ping.start, ping.description.id.clone()), (Start::Allowed, id("bench")));
}

#[test]
fn a_ping_that_goes_nowhere_says_so() {
    let router = Router::new();
    let stored = |more: &[(&'static str, &'static str)]| {
        let mut fields = KITCHEN.to_vec();
        fields[0] = ("x-waiter-name", "another");
        [&fields[..], more].concat()
    };
    for (fields, status, text) in [
        (vec![], 400, "Unable to identify service"),
        (vec![("x-waiter-token", "nobody")], 404, "Token not found: nobody"),
        (vec![("x-waiter-cpus", "0")], 400, "cpus must be a positive number."),
        (stored(&[("origin", "http://evil.example")]), 403, "Cross-origin request not allowed"),
        (stored(&[("host", "evil.example")]), 403, "--hostname evil.example"),
        (stored(&[("x-waiter-health-check-url", "/waiter-ping?a")]), 400, "the router itself"),
        (stored(&[("x-waiter-health-check-url", "/service-id")]), 400, "the router itself"),
    ] {
        let fields = [&fields[..], &[JSON]].concat();
        let found = router.ask("GET /waiter-ping", &fields);
        assert_eq!(found.status, 200);
        let found = found.json();
        let response = &found["ping-response"];
        assert_eq!(response["result"], "descriptor-error", "{fields:?}");
        assert_eq!(response["status"], status, "{fields:?}");
        let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        let message = body["waiter-error"]["message"].as_str().unwrap();
        assert!(message.contains(text), "{message}");
        assert!(found["service-description"].is_null());
        assert_eq!(
            found["service-state"],
            json!({"exists?": false, "healthy?": false, "service-id": null, "status": "Inactive"})
        );
    }
    let found = router.ask("GET /waiter-ping?exclude=service-state", &[]).json();
    assert_eq!(found["service-state"], json!({"result": "excluded", "service-id": null}));
}

#[test]
fn who_is_elsewhere_may_ping_what_runs_and_start_nothing() {
    let router = Router::new();
    let elsewhere = |fields: &[(&str, &str)]| {
        let mut call = call("GET /waiter-ping", fields);
        call.peer = [10, 1, 1, 1].into();
        call
    };
    let Step::Errand(Errand::Ping(ping)) = router.step(&elsewhere(&KITCHEN)) else {
        panic!("it runs");
    };
    assert_eq!(ping.start, Start::Denied);
    let mut fields = KITCHEN;
    fields[0] = ("x-waiter-name", "stored");
    let call = elsewhere(&fields[..7]);
    let Step::Reply(reply) = router.step(&call) else { panic!("it does not run") };
    let found = outcome(reply.into_answer(&call)).json();
    assert_eq!(found["ping-response"]["status"], 403);
}

#[test]
fn bodies_come_in_bounded_pieces() {
    let call = call("GET /", &[]);
    for size in [0, 1, PIECE_MAX - 1, PIECE_MAX, PIECE_MAX + 1, 3 * PIECE_MAX + 7] {
        let mut body = Pieces::default();
        let text = "0123456789".repeat(size / 10 + 1);
        for part in text.as_bytes()[..size].chunks(1000) {
            body.bytes(part);
        }
        let reply = Reply { body, ..Reply::ok(&json!(null)) };
        let answer = reply.into_answer(&call);
        assert!(answer.pieces.iter().all(|it| (1..=PIECE_MAX).contains(&it.len())), "{size}");
        assert_eq!(answer.pieces.len(), size.div_ceil(PIECE_MAX), "{size}");
        assert_eq!(answer.pieces.concat(), text.as_bytes()[..size]);
        assert_eq!(answer.head.length, Length::Exact(size as u64));
    }
}
