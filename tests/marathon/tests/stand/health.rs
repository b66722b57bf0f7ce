//! Health checks, made for real.

use std::fs;

use serde_json::{Value, json};

use crate::launching::sandbox;
use crate::stage::{Stage, id};

/// A service that notes each request in `hits` and answers with the status in `code`, else 200.
pub(crate) const SERVICE: &str = "exec python3 -c 'import http.server as h, os
class H(h.BaseHTTPRequestHandler):
  def do_GET(s):
    open(\"hits\", \"a\").write(s.path + \"\\n\")
    own = open(\"code\").read() if os.path.exists(\"code\") else os.environ.get(\"CODE\", 200)
    s.send_response(int(own))
    s.end_headers()
  def log_message(*a): pass
h.ThreadingHTTPServer((os.environ[\"HOST\"], int(os.environ[\"PORT0\"])), H).serve_forever()'";

/// The service with this health check and environment.
pub(crate) fn app(id: &str, check: Value, env: Value) -> Value {
    let mut whole = json!({
        "gracePeriodSeconds": 100, "intervalSeconds": 1, "timeoutSeconds": 5, "delaySeconds": 0,
        "path": "/status",
    });
    for (key, value) in check.as_object().expect("is an object") {
        whole[key] = value.clone();
    }
    json!({ "id": id, "cmd": SERVICE, "healthChecks": [whole], "env": env, "backoffSeconds": 100 })
}

#[test]
fn a_deployment_waits_for_health_and_a_failure_too_many_kills() {
    let stage = Stage::new(&["--agents", "2"]);
    let tasks = stage.run(app("x", json!({ "maxConsecutiveFailures": 2 }), json!({})));
    let result = &tasks[0]["healthCheckResults"][0];
    assert_eq!((&result["alive"], &result["consecutiveFailures"]), (&json!(true), &json!(0)));
    assert_eq!(result["instanceId"], id(&tasks[0]).trim_end_matches("._app.1"));
    assert_eq!(
        (&stage.app("x")["tasksHealthy"], &stage.app("x")["tasksUnhealthy"]),
        (&json!(1), &json!(0))
    );
    let folder = sandbox(&stage, &tasks[0]);
    // From now on its requests are counted; of them the third failure is one too many.
    fs::write(format!("{folder}/code.new"), "500").expect("is written");
    fs::rename(format!("{folder}/code.new"), format!("{folder}/code")).expect("is renamed");
    fs::write(format!("{folder}/hits"), "").expect("is written");
    stage.wait("one failure", || {
        let result = stage.tasks("x").first()?["healthCheckResults"][0].clone();
        (result["alive"] == json!(false)).then(|| {
            assert_eq!(result["lastFailureCause"], "500 Internal Server Error");
        })
    });
    let failure = stage.wait("the kill", || stage.app("x").get("lastTaskFailure").cloned());
    assert_eq!(failure["state"], "TASK_KILLED");
    assert_eq!(
        failure["message"],
        "Task was killed since health check failed. Reason: 500 Internal Server Error"
    );
    let hits = fs::read_to_string(format!("{folder}/hits")).expect("are counted");
    assert_eq!(hits, "/status\n".repeat(3));
}

#[test]
fn failures_do_not_count_in_the_grace_nor_without_a_limit() {
    let stage = Stage::new(&["--health-scale", "0.03"]);
    let sick = json!({ "CODE": "503" });
    stage.call(
        "POST",
        "/v2/apps",
        app("early", json!({ "maxConsecutiveFailures": 1 }), sick.clone()),
    );
    stage.call(
        "POST",
        "/v2/apps",
        app("never", json!({ "maxConsecutiveFailures": 0, "gracePeriodSeconds": 0 }), sick),
    );
    let task = stage.wait("many failures", || {
        let task = stage.tasks("never").first()?.clone();
        (task["healthCheckResults"][0]["consecutiveFailures"].as_i64()? > 5).then_some(task)
    });
    assert_eq!(stage.app("never")["tasksUnhealthy"], 1);
    assert_eq!(stage.tasks("never")[0]["id"], task["id"]);
    let early = stage.tasks("early");
    assert!(early[0].get("healthCheckResults").is_none(), "{:#}", early[0]);
    let counts = stage.app("early");
    assert_eq!((&counts["tasksHealthy"], &counts["tasksUnhealthy"]), (&json!(0), &json!(0)));
    assert_eq!(
        stage.get("/v2/deployments").as_array().map(Vec::len),
        Some(2),
        "they last for ever"
    );
}

#[test]
fn connecting_and_commands_are_checks_too() {
    let stage = Stage::new(&[]);
    stage.run(app("tcp", json!({ "protocol": "TCP" }), json!({})));
    let command = json!({ "value": "test -n \"$MESOS_TASK_ID\" && test -e stdout" });
    stage.run(app("command", json!({ "protocol": "COMMAND", "command": command }), json!({})));
    let fails =
        json!({ "protocol": "COMMAND", "command": { "value": "exit 3" }, "gracePeriodSeconds": 0 });
    stage.call("POST", "/v2/apps", app("fails", fails, json!({})));
    let failure = stage.wait("the kill", || stage.app("fails").get("lastTaskFailure").cloned());
    let message = failure["message"].as_str().expect("is text");
    assert!(message.ends_with("Reason: Command returned 3"), "{message}");
    let closed = json!({ "protocol": "TCP", "gracePeriodSeconds": 0 });
    let mut silent = app("closed", closed, json!({}));
    silent["cmd"] = json!("sleep 1000");
    stage.call("POST", "/v2/apps", silent);
    let failure = stage.wait("the kill", || stage.app("closed").get("lastTaskFailure").cloned());
    let message = failure["message"].as_str().expect("is text");
    assert!(message.ends_with("Reason: ConnectException: Connection refused"), "{message}");
}
