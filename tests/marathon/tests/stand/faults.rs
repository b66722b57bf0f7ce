//! Each fault does what the table says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{Answer, Stage};

fn add(stage: &Stage, fault: Value) -> u64 {
    stage.fault("POST", "/faults", fault)["id"].as_u64().expect("is a number")
}

fn apps(stage: &Stage) -> Answer {
    stage.raw("GET", &format!("{}/v2/apps?embed=apps.tasks", stage.url()), &[])
}

/// Everything that comes back on a connection, and how it ends.
fn bytes(stage: &Stage) -> Result<String, std::io::Error> {
    let mut to = TcpStream::connect(stage.url().trim_start_matches("http://")).expect("connects");
    to.set_read_timeout(Some(crate::stage::PATIENCE)).expect("is set");
    to.write_all(b"GET /v2/apps HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("is sent");
    let mut text = String::new();
    to.read_to_string(&mut text).map(|_| text)
}

fn announced(text: &str) -> (usize, usize) {
    let (head, body) = text.split_once("\r\n\r\n").expect("has a head");
    let length =
        head.lines().find_map(|it| it.strip_prefix("Content-Length: ")).expect("has a length");
    (length.parse().expect("is a number"), body.len())
}

#[test]
fn answers_are_replaced() {
    let stage = Stage::new(&[]);
    for (body, code, text, kind) in [
        (Value::Null, 502, "Could not determine", "text/html;charset=iso-8859-1"),
        (json!("html"), 500, "Internal Server Error", "text/html;charset=iso-8859-1"),
        (json!("json"), 503, "{\"message\":\"Too many", "application/json"),
        (json!("{\"apps\":7}"), 200, "{\"apps\":7}", "application/json"),
    ] {
        let mut fault = json!({ "do": "status", "code": code, "times": 1 });
        if !body.is_null() {
            fault["body"] = body;
        }
        add(&stage, fault);
        let answer = apps(&stage);
        assert!(answer.text.contains(text), "{}", answer.text);
        assert_eq!(
            (answer.status, answer.headers["content-type"].to_str().ok()),
            (code, Some(kind))
        );
        assert_eq!(apps(&stage).status, 200);
    }
    add(&stage, json!({ "do": "status", "code": 504, "body": "empty", "times": 1 }));
    let answer = apps(&stage);
    assert_eq!((answer.status, answer.text.as_str()), (504, ""));
    add(&stage, json!({ "do": "locked", "deployment": "d", "method": "PUT" }));
    let locked = stage.call("PUT", "/v2/apps/x", json!({}));
    assert_eq!((locked.status, &locked.json["deployments"][0]["id"]), (409, &json!("d")));
}

#[test]
fn an_answer_is_lost_although_the_request_was_carried_out() {
    let stage = Stage::new(&[]);
    add(
        &stage,
        json!({ "do": "status", "code": 504, "method": "POST", "times": 1, "carried_out": true }),
    );
    let create =
        |id: &str| stage.call("POST", "/v2/apps", json!({ "id": id, "cmd": "sleep 1000" })).status;
    assert_eq!((create("x"), create("x")), (504, 409));
    add(&stage, json!({ "do": "status", "code": 504, "method": "POST", "times": 1 }));
    assert_eq!((create("y"), create("y")), (504, 201));
}

#[test]
fn lists_are_bent() {
    let stage = Stage::new(&[]);
    for id in ["a", "b", "c", "d"] {
        stage.run(json!({ "id": id, "cmd": "sleep 1000", "instances": 2 }));
    }
    let count = |it: &Value| it.as_array().map_or(0, Vec::len);
    let once = |fault: Value| {
        let mut fault = fault;
        fault["times"] = json!(1);
        add(&stage, fault);
        apps(&stage).json
    };
    assert_eq!(once(json!({ "do": "empty-list" })), json!({ "apps": [] }));
    assert_eq!(count(&once(json!({ "do": "half-list" }))["apps"]), 2);
    let half = once(json!({ "do": "half-list", "list": "tasks" }));
    assert_eq!((count(&half["apps"]), count(&half["apps"][0]["tasks"])), (4, 1));
    let edited = once(json!({ "do": "edit", "set": { "ports": [0], "startedAt": null } }));
    let task = &edited["apps"][1]["tasks"][1];
    assert_eq!((&task["ports"], task.get("startedAt")), (&json!([0]), None));
    let stale = add(&stage, json!({ "do": "stale-list" }));
    stage.call("DELETE", "/v2/apps/a", Value::Null);
    assert_eq!(count(&apps(&stage).json["apps"]), 4);
    stage.fault("DELETE", &format!("/faults/{stale}"), Value::Null);
    assert_eq!(count(&apps(&stage).json["apps"]), 3);
}

#[test]
fn connections_are_cut_reset_and_refused() {
    let stage = Stage::new(&[]);
    add(&stage, json!({ "do": "truncate", "keep": 0.5, "times": 1 }));
    let (announced_, came) = announced(&bytes(&stage).expect("ends"));
    assert_eq!((announced_, came), ("{\"apps\":[]}".len(), 5));
    add(&stage, json!({ "do": "reset", "times": 1 }));
    assert_eq!(bytes(&stage).expect_err("is reset").kind(), std::io::ErrorKind::ConnectionReset);
    stage.fault("POST", "/door", json!({ "shut": true }));
    let address = stage.url().trim_start_matches("http://");
    stage.wait("refusal", || TcpStream::connect(address).is_err().then_some(()));
    stage.fault("POST", "/door", json!({ "shut": false }));
    stage.wait("an open door", || TcpStream::connect(address).ok());
    assert_eq!(apps(&stage).status, 200);
}

#[test]
fn time_passes() {
    let stage = Stage::new(&[]);
    let took = || {
        let begun = Instant::now();
        assert_eq!(apps(&stage).status, 200);
        begun.elapsed()
    };
    add(&stage, json!({ "do": "latency", "ms": 200, "times": 1 }));
    assert!(took() >= Duration::from_millis(200));
    add(&stage, json!({ "do": "drip", "bytes_per_s": 50, "times": 1 }));
    assert!(took() >= Duration::from_millis(200), "eleven bytes");
    let begun = Instant::now();
    add(&stage, json!({ "do": "hang", "for_ms": 200 }));
    took();
    assert!(begun.elapsed() >= Duration::from_millis(200), "its time begins when it is set");
    let hang = add(&stage, json!({ "do": "hang", "times": 1 }));
    std::thread::scope(|scope| {
        let asked = scope.spawn(took);
        std::thread::sleep(Duration::from_millis(200));
        assert!(!asked.is_finished());
        stage.fault("DELETE", &format!("/faults/{hang}"), Value::Null);
        asked.join().expect("is answered");
    });
}

#[test]
fn state_is_lost_and_processes_go_on() {
    let stage = Stage::new(&[]);
    stage.run(json!({ "id": "x", "cmd": "sleep 1000" }));
    let before = stage.get("/v2/info")["frameworkId"].clone();
    stage.fault("POST", "/lose-state", Value::Null);
    assert_eq!(
        (stage.get("/v2/apps"), stage.get("/v2/tasks")),
        (json!({ "apps": [] }), json!({ "tasks": [] }))
    );
    assert_eq!(stage.call("GET", "/v2/apps/x", Value::Null).status, 404);
    assert_ne!(stage.get("/v2/info")["frameworkId"], before);
    let left = stage.fault("GET", "/processes", Value::Null);
    assert_eq!(
        (left["processes"].as_array().map(Vec::len), &left["processes"][0]["task"]),
        (Some(1), &Value::Null)
    );
}

#[test]
fn requests_are_recorded_and_faults_are_read_strictly() {
    let stage = Stage::new(&[]);
    stage.call("PUT", "/v2/apps//x?force=true", json!({ "cmd": "sleep 1000", "instances": 0 }));
    let rows = stage.fault("GET", "/requests", Value::Null);
    let row = &rows["requests"][0];
    assert_eq!(
        (&row["number"], &row["to"], &row["method"]),
        (&json!(1), &json!("api"), &json!("PUT"))
    );
    assert_eq!(row["uri"], "/v2/apps//x?force=true");
    assert_eq!(row["body"], "{\"cmd\":\"sleep 1000\",\"instances\":0}");
    assert!(row["ms"].is_i64() && row["time"].is_string());
    stage.fault("DELETE", "/requests", Value::Null);
    assert_eq!(stage.fault("GET", "/requests", Value::Null), json!({ "requests": [] }));
    let faults = stage.ports["faultsUrl"].as_str().expect("is printed");
    let id = add(&stage, json!({ "do": "latency", "ms": 1, "path": "/v2/a*", "times": 3 }));
    apps(&stage);
    let list = stage.fault("GET", "/faults", Value::Null);
    assert_eq!((&list["faults"][0]["id"], &list["faults"][0]["left"]), (&json!(id), &json!(2)));
    stage.fault("DELETE", "/faults", Value::Null);
    assert_eq!(stage.fault("GET", "/faults", Value::Null), json!({ "faults": [] }));
    assert_eq!(stage.raw("GET", &format!("{faults}/odd"), &[]).status, 404);
}
