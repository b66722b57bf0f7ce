//! Orders and scripted answers: which calls are made, and what comes of them.

use super::*;
use crate::core::service::testing::description;

const DEPLOYED: &str = r#"{"version":"v","deploymentId":"d-9"}"#;
const LOCKED: &str = r#"{"message":"App is locked","deployments":[{"id":"d-1"}]}"#;
const ABSENT: &str = r#"{"message":"App '/ws' does not exist"}"#;
const APP: &str = r#"{"app":{"id":"/ws","instances":2,"tasks":[
    {"id":"ws.1","state":"TASK_RUNNING","healthCheckResults":[{"alive":true}]},
    {"id":"ws.2","state":"TASK_RUNNING"},{"id":"ws.3","state":"TASK_KILLING"}]}}"#;
const FEWER: &str = r#"{"app":{"id":"/ws","instances":1,"tasks":[{"id":"ws.2"}]}}"#;
const MORE: &str = r#"{"app":{"id":"/ws","instances":5,"tasks":[{"id":"ws.1"},{"id":"ws.2"}]}}"#;
const STOPS: &str = r#"[{"id":"d-1","affectedApps":["/ws"],
    "steps":[{"actions":[{"action":"StopApplication","app":"/ws"}]}]}]"#;
const SCALES: &str = r#"[{"id":"d-1","affectedApps":["/ws"],
    "steps":[{"actions":[{"action":"ScaleApplication","app":"/ws"}]}]}]"#;
const RESTARTS: &str = r#"[{"id":"d-1","affectedApps":["/ws"],
    "steps":[{"actions":[{"action":"RestartApplication","app":"/ws"}]}]}]"#;
const OF_OTHERS: &str = r#"[{"id":"d-1","affectedApps":["/ws","/other"],
    "steps":[{"actions":[{"action":"ScaleApplication","app":"/ws"}]}]}]"#;
const HTML: &str = "<html><body>Bad Gateway</body></html>";

/// A script: what is called, and the answer. `?`: nobody knows whether it was heard; `-`: nobody
/// heard it.
type Script<'a> = &'a [(&'a str, u16, &'a str)];

struct Told {
    deployments: Deployments,
    now: Instant,
}

impl Told {
    fn new() -> Self {
        Self { deployments: Deployments::default(), now: Instant(0) }
    }

    /// Runs a flow against a script, all of which must be used.
    fn run(&mut self, script: Script<'_>, flow: impl FnOnce(&mut Flow<'_>) -> Outcome) -> Outcome {
        let mut lines = script.iter();
        let mut ask = |call: Call| {
            let made = format!("{} {}", call.method, call.target);
            let (expected, status, body) = *lines.next().unwrap_or_else(|| panic!("{made}"));
            assert_eq!(made, expected);
            let right = match made.as_str() {
                DELETE => Right::Member,
                it if it.starts_with("GET ") || it == POST => Right::Everybody,
                _ => Right::Leader,
            };
            assert_eq!(call.right, right, "{made}");
            match body {
                "?" => Answer::Unknown("timed out".into()),
                "-" => Answer::Unheard("refused".into()),
                body => Answer::Said(status, body.as_bytes().to_vec()),
            }
        };
        let mut told = Flow { ask: &mut ask, deployments: &mut self.deployments, now: self.now };
        let outcome = flow(&mut told);
        assert_eq!(lines.next(), None, "not called");
        outcome
    }

    fn create(&mut self, script: Script<'_>) -> Outcome {
        let common = Common {
            cluster: String::new(),
            user: String::new(),
            secret: String::new(),
            task_user: None,
            init: Vec::new(),
        };
        self.run(script, |flow| flow.create(&description("ws"), 1, &common))
    }

    fn scale(&mut self, instances: u32, script: Script<'_>) -> Outcome {
        self.run(script, |flow| flow.scale(&ServiceId::new("ws"), instances))
    }

    fn kill(&mut self, suffix: &str, script: Script<'_>) -> Outcome {
        let instance = InstanceId::new(&ServiceId::new("ws"), suffix);
        self.run(script, |flow| flow.kill(&instance))
    }

    fn delete(&mut self, script: Script<'_>) -> Outcome {
        self.run(script, |flow| flow.delete(&ServiceId::new("ws")))
    }
}

fn is(outcome: &Outcome, expected: &str) {
    let found = match outcome {
        Outcome::Done => "done",
        Outcome::Needless => "needless",
        Outcome::Refused(_) => "refused",
        Outcome::Locked(_) => "locked",
        Outcome::Declined(_) => "declined",
        Outcome::NotNow(_) => "not now",
        Outcome::Unknown(_) => "unknown",
        Outcome::Pending(_) => "pending",
    };
    assert_eq!(found, expected, "{outcome:?}");
}

const READ: &str = "GET /v2/apps/ws";
const POST: &str = "POST /v2/apps";
const PUT: &str = "PUT /v2/apps/ws?force=false";
const KILL: &str = "DELETE /v2/apps/ws/tasks/ws.1?scale=true&force=false";
const DELETE: &str = "DELETE /v2/apps/ws";
const QUEUE: &str = "GET /v2/queue";
const DEPLOYMENTS: &str = "GET /v2/deployments";
const CANCEL: &str = "DELETE /v2/deployments/d-1?force=true";

#[test]
fn create_is_create_if_absent() {
    let check = |script: Script<'_>, expected| is(&Told::new().create(script), expected);
    let exists = r#"{"message":"An app with id [/ws] already exists."}"#;
    check(&[(READ, 404, ABSENT), (POST, 201, r#"{"id":"/ws"}"#)], "done");
    check(&[(READ, 200, APP)], "done");
    check(&[(READ, 404, ABSENT), (POST, 409, exists)], "done");
    check(&[(READ, 404, ABSENT), (POST, 409, LOCKED)], "locked");
    check(&[(READ, 404, ABSENT), (POST, 422, r#"{"message":"Object is not valid"}"#)], "refused");
    check(&[(READ, 404, ABSENT), (POST, 403, r#"{"message":"Max deployments"}"#)], "declined");
    check(&[(READ, 404, ABSENT), (POST, 403, HTML)], "not now");
    let broken = r#"{"message":"java.lang.NullPointerException"}"#;
    check(&[(READ, 404, ABSENT), (POST, 500, broken), (READ, 404, ABSENT)], "declined");
    check(&[(READ, 404, ABSENT), (POST, 500, broken), (READ, 200, APP)], "done");
    check(&[(READ, 404, ABSENT), (POST, 500, broken), (READ, 502, HTML)], "unknown");
    check(&[(READ, 404, ABSENT), (POST, 500, HTML), (READ, 404, ABSENT)], "not now");
    check(&[(READ, 500, broken)], "declined");
    check(&[(READ, 404, ABSENT), (POST, 503, HTML), (READ, 404, ABSENT)], "not now");
    check(&[(READ, 404, ABSENT), (POST, 503, "{}"), (READ, 200, APP)], "done");
    check(&[(READ, 404, ABSENT), (POST, 307, "")], "not now");
    check(&[(READ, 404, ABSENT), (POST, 404, HTML)], "not now");
    check(&[(READ, 404, ABSENT), (POST, 0, "-")], "not now");
    check(&[(READ, 404, ABSENT), (POST, 0, "?"), (READ, 200, APP)], "done");
    check(&[(READ, 404, ABSENT), (POST, 0, "?"), (READ, 404, ABSENT)], "not now");
    check(&[(READ, 404, ABSENT), (POST, 502, HTML), (READ, 502, HTML)], "unknown");
    check(&[(READ, 404, HTML)], "not now");
    check(&[(READ, 502, HTML)], "not now");
    check(&[(READ, 200, "{\"app\":")], "not now");
    check(&[(READ, 0, "?")], "not now");
    check(&[(READ, 401, "")], "refused");
}

#[test]
fn a_stop_that_takes_too_long_is_cancelled_for_a_create() {
    let mut told = Told::new();
    let tries: Script<'_> = &[(READ, 404, ABSENT), (POST, 409, LOCKED)];
    is(&told.create(tries), "locked");
    told.now = Instant(0) + STOPPING;
    is(&told.create(tries), "locked");
    told.now = Instant(1) + STOPPING;
    let scales = [(READ, 404, ABSENT), (POST, 409, LOCKED), (DEPLOYMENTS, 200, SCALES)];
    is(&told.create(&scales), "locked");
    let cancels = [
        (READ, 404, ABSENT),
        (POST, 409, LOCKED),
        (DEPLOYMENTS, 200, STOPS),
        (CANCEL, 202, ""),
        (POST, 201, "{}"),
    ];
    is(&told.create(&cancels), "done");
}

#[test]
fn a_count_is_never_lowered() {
    let check = |n, script: Script<'_>, expected| is(&Told::new().scale(n, script), expected);
    check(3, &[(READ, 200, APP), (PUT, 200, DEPLOYED)], "done");
    check(2, &[(READ, 200, APP)], "done");
    check(1, &[(READ, 200, APP)], "done");
    check(3, &[(READ, 200, MORE)], "done");
    check(3, &[(READ, 404, ABSENT)], "refused");
    check(3, &[(READ, 200, APP), (PUT, 409, LOCKED)], "locked");
    check(3, &[(READ, 200, APP), (PUT, 200, "{}")], "not now");
    check(5, &[(READ, 200, APP), (PUT, 0, "?"), (READ, 200, MORE)], "done");
    check(3, &[(READ, 200, APP), (PUT, 0, "?"), (READ, 200, APP)], "not now");
    check(3, &[(READ, 200, APP), (PUT, 0, "?"), (READ, 0, "-")], "unknown");
    let torn = APP
        .replace("RUNNING\"},{", "UNREACHABLE\"},{")
        .replace("\"instances\":2", "\"instances\":1");
    check(1, &[(READ, 200, &torn)], "done");
}

#[test]
fn what_crashes_is_not_multiplied() {
    let check = |app: &str, queue, (status, told), expected: &str| {
        let mut script = vec![(READ, 200, app)];
        if queue {
            script.push((QUEUE, status, told));
        }
        if expected == "done" {
            script.push((PUT, 200, DEPLOYED));
        }
        is(&Told::new().scale(3, &script), expected);
    };
    let delayed = r#"{"queue":[{"delay":{"overdue":false},"app":{"id":"/ws"}}]}"#;
    let overdue = r#"{"queue":[{"delay":{"overdue":true},"app":{"id":"/ws"}}]}"#;
    let of_other = r#"{"queue":[{"delay":{"overdue":false},"app":{"id":"/other"}}]}"#;
    let ill = APP.replace("true", "false");
    let young = r#"{"app":{"id":"/ws","instances":1,
        "tasks":[{"id":"ws.1","stagedAt":"2026-01-02T12:00:00.000Z"}]}}"#;
    let none = r#"{"app":{"id":"/ws","instances":1,"tasks":[]}}"#;
    for app in [ill.as_str(), young, none] {
        check(app, true, (200, delayed), "not now");
        check(app, true, (200, overdue), "done");
        check(app, true, (200, of_other), "done");
        check(app, true, (200, r#"{"queue":[]}"#), "done");
        check(app, true, (502, HTML), "done");
    }
    check(APP, false, (0, ""), "done");
    let failed = |app: &str, at: &str| {
        let failure = format!(r#""lastTaskFailure":{{"taskId":"ws.0","timestamp":"{at}"}},"#);
        app.replace("\"instances\"", &format!("{failure}\"instances\""))
    };
    check(&failed(young, "2026-01-02T11:59:00.000Z"), false, (0, ""), "not now");
    check(&failed(APP, "2026-01-02T11:59:00.000Z"), false, (0, ""), "done");
    // Between two launches, whether Marathon delays the next one or is about to begin it.
    check(&failed(none, "2026-01-02T11:00:00.000Z"), false, (0, ""), "not now");
    let stopped = none.replace("\"instances\":1", "\"instances\":0");
    check(&failed(&stopped, "2026-01-02T11:00:00.000Z"), true, (200, of_other), "done");
    // One failure long ago says nothing of an instance that boots slowly.
    check(&failed(young, "2026-01-02T11:00:00.000Z"), true, (200, of_other), "done");
    check(&failed(young, "2026-01-02T11:00:00.000Z"), true, (200, delayed), "not now");
}

#[test]
fn only_a_stuck_deployment_of_our_own_is_forced() {
    let mut told = Told::new();
    let locked: Script<'_> = &[(READ, 200, APP), (PUT, 409, LOCKED)];
    is(&told.scale(3, locked), "locked");
    told.now = Instant(0) + STUCK;
    is(&told.scale(3, locked), "locked");
    told.now = Instant(1) + STUCK;
    for others in [OF_OTHERS, RESTARTS] {
        let others = [(READ, 200, APP), (PUT, 409, LOCKED), (DEPLOYMENTS, 200, others)];
        is(&told.scale(3, &others), "locked");
    }
    let unread = [(READ, 200, APP), (PUT, 409, LOCKED), (DEPLOYMENTS, 502, HTML)];
    is(&told.scale(3, &unread), "locked");
    let ours = [
        (READ, 200, APP),
        (PUT, 409, LOCKED),
        (DEPLOYMENTS, 200, SCALES),
        (CANCEL, 202, ""),
        (PUT, 200, DEPLOYED),
    ];
    is(&told.scale(3, &ours), "done");
    let kill = [
        (READ, 200, APP),
        (KILL, 409, LOCKED),
        (DEPLOYMENTS, 200, SCALES),
        (CANCEL, 202, ""),
        (KILL, 409, LOCKED),
    ];
    is(&told.kill("1", &kill), "locked");
}

#[test]
fn one_named_task_is_killed() {
    let check = |script: Script<'_>, expected| is(&Told::new().kill("1", script), expected);
    check(&[(READ, 200, APP), (KILL, 200, DEPLOYED)], "done");
    check(&[(READ, 200, APP), (KILL, 200, "{}")], "not now");
    check(&[(READ, 200, APP), (KILL, 409, LOCKED)], "locked");
    check(&[(READ, 200, APP), (KILL, 404, ABSENT)], "refused");
    check(&[(READ, 404, ABSENT)], "refused");
    check(&[(READ, 200, FEWER)], "refused");
    check(&[(READ, 200, APP), (KILL, 404, HTML)], "not now");
    check(&[(READ, 200, APP), (KILL, 0, "-")], "not now");
    check(&[(READ, 200, APP), (KILL, 0, "?"), (READ, 200, FEWER)], "done");
    check(&[(READ, 200, APP), (KILL, 503, HTML), (READ, 200, FEWER)], "done");
    let one = APP.replace("\"instances\":2", "\"instances\":1");
    check(&[(READ, 200, APP), (KILL, 0, "?"), (READ, 200, &one)], "done");
    check(&[(READ, 200, APP), (KILL, 0, "?"), (READ, 200, APP)], "pending");
    check(&[(READ, 200, APP), (KILL, 0, "?"), (READ, 0, "?")], "pending");
    check(&[(READ, 200, APP), (KILL, 500, HTML), (READ, 404, ABSENT)], "done");
    is(&Told::new().kill("3", &[(READ, 200, APP)]), "refused");
}

#[test]
fn a_kill_of_which_nothing_is_known_failed_only_if_its_task_is_there_after_its_deadline() {
    let deadline = Instant(7);
    let check = |now, script: Script<'_>, expected| {
        let mut told = Told { now: Instant(now), ..Told::new() };
        let instance = InstanceId::new(&ServiceId::new("ws"), "1");
        let pending = Pending { why: String::new(), wanted: 2 };
        is(&told.run(script, |flow| flow.read_back(&instance, pending, deadline)), expected);
    };
    check(7, &[(READ, 200, APP)], "pending");
    check(8, &[(READ, 200, APP)], "not now");
    check(8, &[(READ, 502, HTML)], "pending");
    check(7, &[(READ, 200, FEWER)], "done");
    check(7, &[(READ, 404, ABSENT)], "done");
}

#[test]
fn an_app_that_is_not_there_is_deleted() {
    let check = |script: Script<'_>, expected| is(&Told::new().delete(script), expected);
    check(&[(DELETE, 200, DEPLOYED)], "done");
    check(&[(DELETE, 404, ABSENT)], "done");
    check(&[(DELETE, 200, "{}")], "not now");
    check(&[(DELETE, 409, LOCKED)], "locked");
    check(&[(DELETE, 404, HTML)], "not now");
    check(&[(DELETE, 404, r#"{"error":"no route"}"#)], "not now");
    check(&[(DELETE, 404, r#"{"message":7}"#)], "not now");
    check(&[(DELETE, 503, ""), (READ, 200, APP)], "pending");
    check(&[(DELETE, 502, HTML), (READ, 404, ABSENT)], "done");
    check(&[(DELETE, 504, ""), (READ, 504, "")], "pending");
    check(&[(DELETE, 0, "-")], "not now");
    check(&[(DELETE, 0, "?"), (READ, 404, ABSENT)], "done");
    check(&[(DELETE, 0, "?"), (READ, 200, APP)], "pending");
}

#[test]
fn a_deletion_of_which_nothing_is_known_failed_only_if_its_app_is_there_after_its_deadline() {
    let check = |now, script: Script<'_>, expected| {
        let mut told = Told { now: Instant(now), ..Told::new() };
        let service = ServiceId::new("ws");
        let outcome =
            told.run(script, |flow| flow.deleted_after_all(&service, String::new(), Instant(7)));
        is(&outcome, expected);
    };
    check(7, &[(READ, 200, APP)], "pending");
    check(8, &[(READ, 200, APP)], "not now");
    check(8, &[(READ, 502, HTML)], "pending");
    check(7, &[(READ, 404, ABSENT)], "done");
}

#[test]
fn a_count_that_does_not_fit_is_set_right_where_nothing_is_under_way() {
    let service = ServiceId::new("ws");
    let check = |tasks, script: Script<'_>, expected| {
        is(&Told::new().run(script, |flow| flow.reconcile(&service, tasks)), expected);
    };
    let idle = (QUEUE, 200, r#"{"queue":[]}"#);
    let delayed = r#"{"queue":[{"delay":{"overdue":false},"app":{"id":"/ws"}}]}"#;
    check(2, &[(READ, 200, MORE), idle, (PUT, 200, DEPLOYED)], "done");
    check(2, &[(READ, 200, MORE), (QUEUE, 200, delayed)], "needless");
    check(2, &[(READ, 200, MORE), (QUEUE, 502, HTML)], "not now");
    check(3, &[(READ, 200, MORE)], "needless");
    let torn =
        MORE.replace("{\"id\":\"ws.2\"}", "{\"id\":\"ws.2\",\"state\":\"TASK_UNREACHABLE\"}");
    check(1, &[(READ, 200, &torn)], "needless");
    check(2, &[(READ, 200, &torn)], "needless");
    check(2, &[(READ, 200, APP)], "needless");
    let deploying =
        MORE.replace("\"instances\":5", "\"instances\":5,\"deployments\":[{\"id\":\"d\"}]");
    check(2, &[(READ, 200, &deploying)], "needless");
    let half =
        MORE.replace("\"instances\":5", "\"instances\":5,\"tasksRunning\":5,\"tasksStaged\":0");
    check(2, &[(READ, 200, &half)], "needless");
    check(0, &[(READ, 200, r#"{"app":{"id":"/ws","instances":5,"tasks":[]}}"#)], "needless");
}
