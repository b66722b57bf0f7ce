//! The event stream, byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::stage::{PATIENCE, Stage};

/// An open stream, behind its head.
pub(crate) struct Stream(BufReader<TcpStream>);

impl Stream {
    pub(crate) fn open(address: &str, query: &str) -> Self {
        let mut to = TcpStream::connect(address).expect("connects");
        to.set_read_timeout(Some(PATIENCE)).expect("is set");
        let head = format!(
            "GET /v2/events{query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        );
        to.write_all(head.as_bytes()).expect("is sent");
        let mut it = Self(BufReader::new(to));
        let mut lines = Vec::new();
        loop {
            let line = it.line();
            if line == "\r\n" {
                break;
            }
            lines.push(line.to_lowercase());
        }
        assert_eq!(lines[0], "http/1.1 200 ok\r\n");
        assert!(
            lines.iter().any(|it| it.starts_with("content-type: text/event-stream")),
            "{lines:?}"
        );
        it
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("comes in time");
        line
    }

    /// The next event; heartbeats are passed over.
    pub(crate) fn event(&mut self) -> (String, Value) {
        let mut first = self.line();
        while first == "\r\n" {
            first = self.line();
        }
        let name = first.strip_prefix("event: ").and_then(|it| it.strip_suffix("\r\n"));
        let name = name.unwrap_or_else(|| panic!("no event: {first:?}")).to_owned();
        let data = self.line();
        let data =
            data.strip_prefix("data: ").and_then(|it| it.strip_suffix("\r\n")).expect("is data");
        assert_eq!(self.line(), "\r\n");
        let data: Value = serde_json::from_str(data).expect("is JSON");
        assert_eq!(data["eventType"], name.as_str());
        assert!(data["timestamp"].is_string());
        (name, data)
    }

    /// Reads on until this event.
    pub(crate) fn until(&mut self, name: &str) -> Value {
        loop {
            let (next, data) = self.event();
            if next == name {
                return data;
            }
        }
    }

    /// Everything until the end of the stream.
    pub(crate) fn rest(mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).expect("ends");
        text
    }
}

fn address(stage: &Stage) -> &str {
    stage.url().trim_start_matches("http://")
}

#[test]
fn what_happens_is_told() {
    let stage = Stage::new(&["--heartbeat-ms", "50"]);
    let mut all = Stream::open(address(&stage), "");
    let mut some = Stream::open(
        address(&stage),
        "?event_type=deployment_success&event_type=app_terminated_event",
    );
    assert_eq!(all.event().0, "event_stream_attached");
    assert_eq!(all.event().1["remoteAddress"], "127.0.0.1");
    assert_eq!(all.line(), "\r\n", "a heartbeat");
    stage.run(json!({ "id": "x", "cmd": "sleep 1000" }));
    let plan = all.until("deployment_info");
    assert_eq!(
        plan["plan"]["steps"][0]["actions"][0],
        json!({ "action": "StartApplication", "app": "/x" })
    );
    assert_eq!(all.until("api_post_event")["appDefinition"]["id"], "/x");
    let update = all.until("status_update_event");
    assert_eq!((&update["taskStatus"], &update["appId"]), (&json!("TASK_STAGING"), &json!("/x")));
    all.until("deployment_step_success");
    assert_eq!(all.until("deployment_success")["id"], plan["plan"]["id"]);
    stage.call("DELETE", "/v2/apps/x", Value::Null);
    assert_eq!(some.event().0, "deployment_success");
    assert_eq!(some.event().1["appId"], "/x");
    stage.fault("POST", "/events/close", Value::Null);
    assert!(all.rest().contains("app_terminated_event"));
}

#[test]
fn health_is_told() {
    let stage = Stage::new(&[]);
    let mut stream = Stream::open(address(&stage), "");
    let check = json!({ "maxConsecutiveFailures": 1, "path": "/" });
    let tasks = stage.run(crate::health::app("x", check, json!({})));
    assert_eq!(stream.until("health_status_changed_event")["alive"], true);
    assert_eq!(stream.until("instance_health_changed_event")["healthy"], true);
    let folder = crate::launching::sandbox(&stage, &tasks[0]);
    std::fs::write(format!("{folder}/code"), "500").expect("is written");
    assert_eq!(stream.until("failed_health_check_event")["healthCheck"]["path"], "/");
    assert_eq!(stream.until("unhealthy_instance_kill_event")["taskId"], tasks[0]["id"]);
}

#[test]
fn streams_are_refused_silenced_and_wanted_in_their_type() {
    let stage = Stage::new(&["--heartbeat-ms", "20"]);
    let get = |headers: &[(&str, &str)]| {
        stage.raw("GET", &format!("{}/v2/events", stage.url()), headers).status
    };
    assert_eq!(get(&[]), 405);
    for code in [403, 404, 405] {
        stage.fault(
            "POST",
            "/faults",
            json!({ "do": "status", "code": code, "path": "/v2/events", "times": 1 }),
        );
        assert_eq!(get(&[("accept", "text/event-stream")]), code);
    }
    let stream = Stream::open(address(&stage), "");
    stage.fault("POST", "/events/silence", json!({ "on": true }));
    stage.call("POST", "/v2/apps", json!({ "id": "x", "cmd": "sleep 1000" }));
    stage.settle();
    stage.fault("POST", "/events/close", Value::Null);
    assert!(!stream.rest().contains("deployment_info"));
}
