//! Leaders and standbys, and who may ask.

use serde_json::{Value, json};

use crate::events::Stream;
use crate::stage::Stage;

const EVENTS: &[(&str, &str)] = &[("accept", "text/event-stream")];

#[test]
fn a_standby_passes_on_all_but_the_events() {
    let stage = Stage::new(&["--standbys", "1", "--leader-wait-ms", "100"]);
    let standby = format!("http://127.0.0.1:{}", stage.ports["standbys"][0]);
    stage.run(json!({ "id": "x", "cmd": "sleep 1000" }));
    let apps = stage.raw("GET", &format!("{standby}/v2/apps?embed=apps.tasks"), &[]);
    assert_eq!(apps.json["apps"][0]["tasks"][0]["appId"], "/x");
    assert_eq!(apps.headers["x-marathon-leader"], stage.url());
    let events = stage.raw("GET", &format!("{standby}/v2/events?event_type=a"), EVENTS);
    let location = format!("{}/v2/events?event_type=a", stage.url());
    assert_eq!(
        (events.status, &events.headers["location"]),
        (302, &location.parse().expect("is a value"))
    );

    let stream = Stream::open(stage.url().trim_start_matches("http://"), "");
    stage.fault("POST", "/leader", json!({ "absent_ms": 600, "node": 1 }));
    stream.rest();
    let absent = stage.raw("GET", &format!("{}/v2/apps", stage.url()), &[]);
    assert!(absent.status == 502 && absent.text.contains("Could not determine the current leader"));
    assert!(absent.headers["content-type"].to_str().is_ok_and(|it| it.starts_with("text/html")));
    let new = stage.wait("a new leader", || {
        let it = stage.raw("GET", &format!("{}/v2/leader", stage.url()), &[]);
        it.json.get("leader").and_then(Value::as_str).map(|it| format!("http://{it}"))
    });
    assert_eq!(new, standby);
    assert_eq!(stage.raw("GET", &format!("{}/v2/events", stage.url()), EVENTS).status, 302);
    assert_eq!(stage.app("x")["tasksRunning"], 1);
}

#[test]
fn a_leader_abdicates_and_ends_a_moment_later() {
    let stage = Stage::new(&["--standbys", "1", "--election-ms", "10"]);
    let stream = Stream::open(stage.url().trim_start_matches("http://"), "");
    let said = stage.call("DELETE", "/v2/leader", Value::Null);
    assert_eq!((said.status, said.json), (200, json!({ "message": "Leadership abdicated" })));
    stream.rest();
    let standby = format!("127.0.0.1:{}", stage.ports["standbys"][0]);
    assert_eq!(stage.get("/v2/leader")["leader"], standby);
}

#[test]
fn a_standby_can_be_a_program_of_its_own() {
    let leader = Stage::new(&[]);
    let address = leader.url().trim_start_matches("http://").to_owned();
    let standby = Stage::new(&["--standby-of", &address]);
    let made = standby.call("POST", "/v2/apps", json!({ "id": "x", "cmd": "sleep 1000" }));
    assert_eq!(made.status, 201);
    leader.settle();
    assert_eq!(standby.tasks("x").len(), 1);
    assert_eq!(standby.raw("GET", &format!("{}/v2/events", standby.url()), EVENTS).status, 302);
    leader.end();
    assert_eq!(standby.raw("GET", &format!("{}/v2/apps", standby.url()), &[]).status, 502);
}

#[test]
fn who_may_ask() {
    let stage = Stage::new(&["--user", "u:p", "--token", "t"]);
    let ask = |headers: &[(&str, &str)]| {
        stage.raw("GET", &format!("{}/v2/apps", stage.url()), headers).status
    };
    assert_eq!(ask(&[]), 401);
    for (value, expected) in [
        ("Basic dTpw", 200),
        ("Basic dTpx", 401),
        ("Bearer t", 200),
        ("token=t", 200),
        ("Bearer x", 401),
    ] {
        assert_eq!(ask(&[("authorization", value)]), expected, "{value}");
    }
    assert_eq!(stage.raw("GET", &format!("{}/v2/events", stage.url()), EVENTS).status, 401);
}
