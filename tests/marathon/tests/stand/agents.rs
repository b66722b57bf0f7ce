//! The port of a Mesos agent.

use serde_json::{Value, json};

use crate::launching::sandbox;
use crate::stage::{Answer, Stage, id};

/// A task on the second agent, and its sandbox.
fn play(stage: &Stage) -> (Value, String) {
    let app = json!({ "id": "x", "cmd": "echo hello; mkdir d; sleep 1000", "instances": 2 });
    let tasks = stage.run(app);
    let task = tasks.into_iter().find(|it| it["host"] == "127.0.0.2").expect("is spread");
    let folder = sandbox(stage, &task);
    (task, folder)
}

fn ask(stage: &Stage, path: &str) -> Answer {
    let url = format!("http://127.0.0.2:{}{path}", stage.ports["agentPort"]);
    stage.raw("GET", &url, &[])
}

#[test]
fn an_agent_tells_its_executors_running_and_ended() {
    let stage = Stage::new(&["--agents", "2"]);
    let (task, folder) = play(&stage);
    let get = |path: &str| ask(&stage, path);
    for path in ["/state.json", "/state", "/slave(1)/state"] {
        let state = get(path).json;
        assert_eq!((&state["id"], &state["hostname"]), (&task["slaveId"], &json!("127.0.0.2")));
        let framework = &state["frameworks"][0];
        assert_eq!(
            (&framework["name"], &framework["id"]),
            (&json!("marathon"), &stage.get("/v2/info")["frameworkId"])
        );
        let executor = &framework["executors"][0];
        assert_eq!((&executor["id"], &executor["directory"]), (&task["id"], &json!(folder)));
    }
    stage.call("DELETE", &format!("/v2/apps/x/tasks/{}?scale=true", id(&task)), Value::Null);
    stage.settle();
    let state = get("/state").json;
    assert_eq!(state["frameworks"][0]["completed_executors"][0]["directory"], folder.as_str());
    assert_eq!(get(&format!("/files/download?path={folder}/stdout")).text, "hello\n");
}

#[test]
fn sandboxes_are_read_through_the_agent_and_nothing_else_is() {
    let stage = Stage::new(&["--agents", "2"]);
    let (_, folder) = play(&stage);
    let get = |path: &str| ask(&stage, path);
    let list = stage.wait("the output", || {
        let list = get(&format!("/files/browse?path={folder}")).json;
        list.as_array()?.iter().any(|it| it["size"] == json!(6)).then_some(list)
    });
    let file = |name: &str| {
        let path = format!("{folder}/{name}");
        list.as_array().into_iter().flatten().find(|it| it["path"] == *path).expect("is listed")
    };
    assert_eq!(
        (&file("stdout")["nlink"], &file("stdout")["mode"]),
        (&json!(1), &json!("-rw-r--r--"))
    );
    assert!(file("d")["nlink"].as_u64() > Some(1) && file("d")["mode"] == "drwxr-xr-x");
    let bytes = get(&format!("/files/download?path={folder}/stdout"));
    assert_eq!(bytes.text, "hello\n");
    assert_eq!(bytes.headers["content-disposition"], "attachment; filename=stdout");
    let read = |query: &str| get(&format!("/files/read?path={folder}/stdout{query}")).json;
    assert_eq!(read("&offset=1&length=3"), json!({ "data": "ell", "offset": 1 }));
    assert_eq!(read(""), json!({ "data": "", "offset": 6 }));
    for path in [
        "/files/browse?path=/etc",
        "/files/download?path=/etc/passwd",
        "/files/read?path=/no",
        "/x",
    ] {
        assert_eq!(get(path).status, 404, "{path}");
    }
    assert_eq!(get("/files/browse").status, 400);
}
