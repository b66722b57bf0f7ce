//! What a task finds when it starts.

use std::fs;

use serde_json::{Value, json};

use crate::stage::{Stage, id};

/// The sandbox of a task, as a client would find it.
pub(crate) fn sandbox(stage: &Stage, task: &Value) -> String {
    let framework = stage.get("/v2/info")["frameworkId"].as_str().expect("is there").to_owned();
    let (dir, slave) = (&stage.ports["agentDir"], &task["slaveId"]);
    let text = |it: &Value| it.as_str().expect("is text").to_owned();
    let (dir, slave) = (text(dir), text(slave));
    format!("{dir}/{slave}/frameworks/{framework}/executors/{}/runs/latest", id(task))
}

#[test]
fn the_environment_is_marathons() {
    let stage = Stage::new(&[]);
    let tasks = stage.run(json!({
        "id": "/a/x", "cmd": "env > env.txt.new; mv env.txt.new env.txt; exec sleep 1000",
        "cpus": 0.5, "mem": 32, "instances": 1,
        "portDefinitions": [{ "port": 0, "name": "web" }, { "port": 12345 }],
        "labels": { "source": "waiter", "my-key": "v" },
        "env": { "OWN": "1", "MARATHON_APP_ID": "mine" },
    }));
    let folder = sandbox(&stage, &tasks[0]);
    let text = stage.wait("env.txt", || fs::read_to_string(format!("{folder}/env.txt")).ok());
    let (first, second) = (&tasks[0]["ports"][0], &tasks[0]["ports"][1]);
    let app = stage.app("a/x");
    let version = app["version"].as_str().expect("is text");
    for line in [
        "OWN=1".to_owned(),
        "MARATHON_APP_ID=mine".to_owned(),
        format!("MARATHON_APP_VERSION={version}"),
        "MARATHON_APP_RESOURCE_CPUS=0.5".to_owned(),
        "MARATHON_APP_RESOURCE_MEM=32.0".to_owned(),
        "MARATHON_APP_RESOURCE_DISK=0.0".to_owned(),
        "MARATHON_APP_RESOURCE_GPUS=0".to_owned(),
        "MARATHON_APP_LABELS=MY_KEY SOURCE".to_owned(),
        "MARATHON_APP_LABEL_MY_KEY=v".to_owned(),
        "MARATHON_APP_LABEL_SOURCE=waiter".to_owned(),
        format!("MESOS_TASK_ID={}", id(&tasks[0])),
        format!("MESOS_SANDBOX={folder}"),
        "HOST=127.0.0.1".to_owned(),
        format!("PORT={first}"),
        format!("PORT0={first}"),
        format!("PORT1={second}"),
        format!("PORTS={first},{second}"),
        format!("PORT_WEB={first}"),
        format!("PORT_{}={first}", app["portDefinitions"][0]["port"]),
        format!("PORT_12345={second}"),
    ] {
        assert!(text.lines().any(|it| it == line), "no {line} in\n{text}");
    }
    assert!(id(&tasks[0]).starts_with("a_x.instance-"));
}

#[test]
fn a_command_goes_through_a_shell_and_arguments_do_not() {
    let stage = Stage::new(&[]);
    stage.call("POST", "/v2/apps", json!({ "id": "cmd", "cmd": "printf %s-$0 $HOST; sleep 1000" }));
    stage.call(
        "POST",
        "/v2/apps",
        json!({ "id": "args", "args": ["/usr/bin/env", "printf", "%s|", "$HOST", "b c"] }),
    );
    let ran = |app: &str| stage.wait(app, || stage.tasks(app).first().cloned());
    let cmd = sandbox(&stage, &ran("cmd"));
    let read = |folder: &str| {
        fs::read_to_string(format!("{folder}/stdout")).ok().filter(|it| !it.is_empty())
    };
    assert_eq!(stage.wait("stdout", || read(&cmd)), "127.0.0.1-/bin/sh");
    let found = stage.wait("the sandbox of an ended task", || {
        let slave = fs::read_dir(stage.ports["agentDir"].as_str()?).ok()?.next()?.ok()?.path();
        let framework = fs::read_dir(slave.join("frameworks")).ok()?.next()?.ok()?.path();
        let all = fs::read_dir(framework.join("executors")).ok()?.flatten();
        let of = all.filter(|it| it.file_name().to_string_lossy().starts_with("args."));
        of.map(|it| it.path().join("runs/latest")).find_map(|it| read(it.to_str()?))
    });
    assert_eq!(found, "$HOST|b c|");
}

#[test]
fn ports_and_hosts_are_given_out() {
    let stage = Stage::new(&["--agents", "3", "--ports", "27000-27999"]);
    let tasks =
        stage.run(json!({ "id": "x", "cmd": "sleep 1000", "ports": [0, 0], "instances": 3 }));
    let mut hosts: Vec<&Value> = tasks.iter().map(|it| &it["host"]).collect();
    hosts.sort_by_key(|it| it.as_str());
    assert_eq!(hosts, [&json!("127.0.0.1"), &json!("127.0.0.2"), &json!("127.0.0.3")]);
    let mut ports: Vec<u64> = tasks
        .iter()
        .flat_map(|it| it["ports"].as_array().expect("are listed"))
        .filter_map(Value::as_u64)
        .collect();
    assert!(ports.iter().all(|it| (27_000..28_000).contains(it)), "{ports:?}");
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 6);
    let tasks = stage.run(json!({
        "id": "fixed", "cmd": "sleep 1000", "ports": [27_999], "requirePorts": true,
    }));
    assert_eq!(tasks[0]["ports"], json!([27_999]));
}

#[test]
fn a_user_that_does_not_exist_cannot_run_anything() {
    let stage = Stage::new(&[]);
    stage.call(
        "POST",
        "/v2/apps",
        json!({ "id": "x", "cmd": "sleep 1000", "user": "nobody-at-all" }),
    );
    let failure = stage.wait("a failure", || stage.app("x").get("lastTaskFailure").cloned());
    assert_eq!(
        (&failure["state"], &failure["message"]),
        (&json!("TASK_FAILED"), &json!("Command exited with status 1"))
    );
    let folder =
        sandbox(&stage, &json!({ "id": failure["taskId"], "slaveId": failure["slaveId"] }));
    let stderr = fs::read_to_string(format!("{folder}/stderr")).expect("is written");
    assert!(stderr.contains("user 'nobody-at-all' does not exist"), "{stderr}");
}
