//! How tasks end, and what is said of it.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::launching::sandbox;
use crate::stage::{Stage, id, is_alive};

/// Runs a command once and waits for what is said of its end.
fn check(stage: &Stage, app: &str, cmd: &str, message: &str) {
    stage.call("POST", "/v2/apps", json!({ "id": app, "cmd": cmd, "backoffSeconds": 100 }));
    let failure = stage.wait(app, || stage.app(app).get("lastTaskFailure").cloned());
    assert_eq!((&failure["state"], &failure["message"]), (&json!("TASK_FAILED"), &json!(message)));
    assert_eq!(failure["host"], "127.0.0.1");
}

#[test]
fn exits_are_told_in_the_words_of_the_executor() {
    let stage = Stage::new(&[]);
    check(&stage, "code", "exit 7", "Command exited with status 7");
    check(&stage, "signal", "kill -9 $$", "Command terminated with signal Killed");
    check(&stage, "missing", "exec /no/such/program", "Command exited with status 127");
    // An end without fault is none, but it is launched again later and later all the same.
    stage.call("POST", "/v2/apps", json!({ "id": "fine", "cmd": "exit 0", "backoffSeconds": 100 }));
    let row = stage.wait("the queue", || {
        let queue = stage.get("/v2/queue");
        let row = queue["queue"].as_array()?.iter().find(|it| it["app"]["id"] == "/fine")?.clone();
        (row["delay"]["overdue"] == json!(false)).then_some(row)
    });
    assert_eq!(row["count"], 1);
    assert!(stage.app("fine").get("lastTaskFailure").is_none());
}

#[test]
fn memory_is_limited_by_the_fault_port() {
    let stage = Stage::new(&[]);
    let tasks =
        stage.run(json!({ "id": "x", "cmd": "sleep 1000", "mem": 32, "backoffSeconds": 100 }));
    stage.fault("POST", &format!("/tasks/{}/oom", id(&tasks[0])), Value::Null);
    let failure = stage.wait("a failure", || stage.app("x").get("lastTaskFailure").cloned());
    let message = failure["message"].as_str().expect("is text");
    assert!(message.starts_with("Memory limit exceeded: Requested: 32"), "{message}");
    assert_eq!((&failure["state"], &failure["taskId"]), (&json!("TASK_FAILED"), &tasks[0]["id"]));
}

#[test]
fn memory_is_limited_for_real() {
    let stage = Stage::new(&["--enforce-memory"]);
    let eats = "python3 -c 'import time; x = bytearray(90 << 20); time.sleep(1000)'";
    stage.call(
        "POST",
        "/v2/apps",
        json!({ "id": "x", "cmd": eats, "mem": 60, "backoffSeconds": 100 }),
    );
    let failure = stage.wait("a failure", || stage.app("x").get("lastTaskFailure").cloned());
    let message = failure["message"].as_str().expect("is text");
    assert!(message.starts_with("Memory limit exceeded: Requested: 60"), "{message}");
}

#[test]
fn who_does_not_end_is_killed_after_its_grace_with_its_whole_group() {
    let stage = Stage::new(&[]);
    let stubborn = "trap '' TERM; sleep 1000 & echo $! > child; wait; while :; do sleep 1; done";
    let tasks = stage.run(json!({ "id": "x", "cmd": stubborn, "taskKillGracePeriodSeconds": 1 }));
    let folder = sandbox(&stage, &tasks[0]);
    let child = stage.wait("a child", || {
        fs::read_to_string(format!("{folder}/child")).ok()?.trim().parse().ok()
    });
    let begun = Instant::now();
    stage.call("DELETE", "/v2/apps/x", Value::Null);
    stage.wait("its state", || {
        (stage.get("/v2/tasks")["tasks"][0]["state"] == "TASK_KILLING").then_some(())
    });
    stage.settle();
    assert!(begun.elapsed().as_millis() >= 1000, "{:?}", begun.elapsed());
    assert!(!is_alive(child));
}

#[test]
fn a_killed_task_is_replaced_in_its_place_and_is_no_failure() {
    let stage = Stage::new(&[]);
    let tasks =
        stage.run(json!({ "id": "x", "cmd": "sleep 1000", "instances": 1, "backoffSeconds": 100 }));
    let killed = stage.call("DELETE", &format!("/v2/apps/x/tasks/{}", id(&tasks[0])), Value::Null);
    assert_eq!(killed.json["task"]["id"], tasks[0]["id"]);
    let next = stage.wait("another", || {
        let now = stage.tasks("x");
        now.into_iter().find(|it| it["id"] != tasks[0]["id"] && it["state"] == "TASK_RUNNING")
    });
    let expected = id(&tasks[0]).replace("._app.1", "._app.2");
    assert_eq!(id(&next), expected);
    assert!(stage.app("x").get("lastTaskFailure").is_none());
    let unknown = stage.call("DELETE", "/v2/apps/x/tasks/x.nobody", Value::Null);
    assert_eq!(
        (unknown.status, &unknown.json["message"]),
        (404, &json!("Task 'x.nobody' does not exist"))
    );
}

#[test]
fn tasks_of_one_host_can_be_killed() {
    let stage = Stage::new(&["--agents", "2"]);
    stage.run(json!({ "id": "x", "cmd": "sleep 1000", "instances": 4 }));
    let killed =
        stage.call("DELETE", "/v2/apps/x/tasks?host=127.0.0.2&wipe=true", Value::Null).json;
    let killed = killed["tasks"].as_array().expect("are listed");
    assert!(killed.len() == 2 && killed.iter().all(|it| it["host"] == "127.0.0.2"));
    let both = stage.call("DELETE", "/v2/apps/x/tasks?scale=true&wipe=true", Value::Null);
    assert_eq!(
        (both.status, &both.json["message"]),
        (400, &json!("You cannot use scale and wipe at the same time."))
    );
    let scaled = stage.call("DELETE", "/v2/apps/x/tasks?host=127.0.0.1&scale=true", Value::Null);
    assert_eq!(scaled.status, 200);
    stage.settle();
    let (app, left) = (stage.app("x"), stage.tasks("x"));
    assert_eq!((app["instances"].as_u64(), left.len()), (Some(2), 2));
}

#[test]
fn lost_tasks_are_told_and_replaced() {
    let stage = Stage::new(&[]);
    let tasks = stage.run(json!({ "id": "x", "cmd": "sleep 1000", "backoffSeconds": 0 }));
    let pid = stage.fault("GET", "/processes", Value::Null)["processes"][0]["pid"]
        .as_i64()
        .expect("runs");
    let path = format!("/tasks/{}/lose", id(&tasks[0]));
    stage.fault("POST", &path, json!({ "state": "TASK_UNREACHABLE" }));
    assert_eq!(stage.tasks("x")[0]["state"], "TASK_UNREACHABLE");
    stage.fault("POST", &path, json!({ "state": "TASK_RUNNING" }));
    stage.fault("POST", &path, json!({ "state": "TASK_LOST", "keep_process": true }));
    assert_eq!(stage.app("x")["lastTaskFailure"]["state"], "TASK_GONE");
    stage.wait("another", || stage.tasks("x").into_iter().find(|it| it["id"] != tasks[0]["id"]));
    assert!(is_alive(pid));
    stage.end();
    assert!(!is_alive(pid));
}

#[test]
fn nothing_is_left_behind() {
    let stage = Stage::new(&[]);
    let escapes = "setsid sh -c 'echo $$ > escaped; exec sleep 1000' & exec sleep 1000";
    let tasks = stage.run(json!({ "id": "x", "cmd": escapes }));
    let folder = sandbox(&stage, &tasks[0]);
    let escaped = stage.wait("an escape", || {
        fs::read_to_string(format!("{folder}/escaped")).ok()?.trim().parse().ok()
    });
    let pid = stage.fault("GET", "/processes", Value::Null)["processes"][0]["pid"]
        .as_i64()
        .expect("runs");
    assert!(is_alive(pid) && is_alive(escaped));
    let dir = stage.ports["workDir"].as_str().expect("is printed").to_owned();
    stage.end();
    assert!(!is_alive(pid) && !is_alive(escaped) && fs::metadata(dir).is_err());
}

/// What is ended would be replaced at once: that must not happen while everything ends.
#[test]
fn nothing_is_launched_while_it_ends() {
    let stage = Stage::new(&[]);
    let app = json!({ "id": "x", "cmd": "sleep 1000", "instances": 4, "backoffSeconds": 0 });
    stage.run(app);
    let mark = format!("MESOS_SANDBOX={}/", stage.ports["workDir"].as_str().expect("is printed"));
    let count = || {
        let all = fs::read_dir("/proc").expect("Linux").flatten();
        let environs = all.filter_map(|it| fs::read(it.path().join("environ")).ok());
        environs
            .filter(|it| it.split(|it| *it == 0).any(|it| it.starts_with(mark.as_bytes())))
            .count()
    };
    assert!(count() >= 4);
    let begun = Instant::now();
    stage.end();
    assert_eq!(count(), 0);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "it had to end new ones: {:?}",
        begun.elapsed()
    );
}

#[test]
fn killed_at_once_it_leaves_nothing_behind_either() {
    let stage = Stage::new(&[]);
    let escapes = "setsid sh -c 'echo $$ > escaped; exec sleep 1000' & sleep 1000";
    let tasks = stage.run(json!({ "id": "x", "cmd": escapes, "instances": 2 }));
    let folder = sandbox(&stage, &tasks[0]);
    let escaped = stage.wait("an escape", || {
        fs::read_to_string(format!("{folder}/escaped")).ok()?.trim().parse().ok()
    });
    let told = stage.fault("GET", "/processes", Value::Null);
    let told = told["processes"].as_array().expect("are listed").iter();
    let mut pids: Vec<i64> = told.map(|it| it["pid"].as_i64().expect("runs")).collect();
    pids.push(escaped);
    assert!(pids.len() == 3 && pids.iter().all(|it| is_alive(*it)));
    let dir = stage.ports["workDir"].as_str().expect("is printed").to_owned();
    let sent = std::process::Command::new("kill").args(["-9", &stage.pid().to_string()]).status();
    assert!(sent.expect("kill is there").success());
    stage.wait("their end", || pids.iter().all(|it| !is_alive(*it)).then_some(()));
    stage.wait("the end of the folder", || fs::metadata(&dir).is_err().then_some(()));
}

#[test]
fn a_signal_ends_it_too() {
    let stage = Stage::new(&[]);
    stage.run(json!({ "id": "x", "cmd": "sleep 1000" }));
    let pid = stage.fault("GET", "/processes", Value::Null)["processes"][0]["pid"]
        .as_i64()
        .expect("runs");
    let sent = std::process::Command::new("kill").arg(stage.pid().to_string()).status();
    assert!(sent.expect("kill is there").success());
    stage.wait("the end", || (!is_alive(i64::from(stage.pid()))).then_some(()));
    assert!(!is_alive(pid));
}
