//! How answers look: what is embedded, what is filtered, and what the older generation does
//! differently.

use serde_json::{Value, json};

use crate::health::SERVICE;
use crate::stage::{Stage, id};

#[test]
fn lists_embed_and_filter() {
    let stage = Stage::new(&[]);
    stage.run(json!({ "id": "/g/a", "cmd": "sleep 1000", "labels": { "k": "v" } }));
    stage.run(json!({ "id": "/g/h/b", "cmd": "sleep 2000", "instances": 0 }));
    let ids = |path: &str, key: &str| {
        let list = stage.get(path);
        let list = list[key].as_array().expect("is a list").clone();
        list.iter().filter_map(|it| it["id"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    for (query, expected) in [
        ("", vec!["/g/a", "/g/h/b"]),
        ("?id=G/A", vec!["/g/a"]),
        ("?cmd=2000", vec!["/g/h/b"]),
        ("?label=k", vec!["/g/a"]),
        ("?label=k==v", vec!["/g/a"]),
        ("?label=k==w", vec![]),
        ("?id=nothing", vec![]),
    ] {
        assert_eq!(ids(&format!("/v2/apps{query}"), "apps"), expected, "{query}");
    }
    assert_eq!(ids("/v2/apps/g/*", "*"), ["/g/a", "/g/h/b"]);
    assert_eq!(ids("/v2/apps/g/h/*", "*"), ["/g/h/b"]);
    let first = |query: &str| stage.get(&format!("/v2/apps{query}"))["apps"][0].take();
    assert!(first("").get("tasks").is_none() && first("")["tasksRunning"] == 1);
    for word in ["tasks", "apps.tasks", "app.tasks", "group.apps.tasks", "apps.failures"] {
        assert_eq!(
            first(&format!("?embed=odd&embed={word}"))["tasks"].as_array().map(Vec::len),
            Some(1),
            "{word}"
        );
    }
    assert_eq!(
        first("?embed=apps.taskStats")["taskStats"]["totalSummary"]["stats"]["counts"]["running"],
        1
    );
    assert_eq!(stage.get("/v2/apps/g/a/tasks")["tasks"].as_array().map(Vec::len), Some(1));
    assert_eq!(stage.get("/v2/tasks?status=staging")["tasks"], json!([]));
    assert_eq!(stage.get("/v2/tasks?status=running")["tasks"].as_array().map(Vec::len), Some(1));
    assert_eq!(stage.get("/v2/groups/g")["groups"][0]["apps"][0]["id"], "/g/h/b");
}

#[test]
fn marathon_speaks_of_itself() {
    let stage = Stage::new(&[]);
    let host = stage.url().trim_start_matches("http://").to_owned();
    let info = stage.call("GET", "/v2/info", Value::Null);
    assert_eq!((&info.json["elected"], &info.json["leader"]), (&json!(true), &json!(host)));
    assert!(info.json["frameworkId"].as_str().is_some_and(|it| it.ends_with("-0000")));
    assert_eq!(info.headers["x-marathon-leader"], format!("http://{host}"));
    assert_eq!(stage.get("/v2/leader"), json!({ "leader": host }));
    let ping = |accept: &str| {
        let it = stage.raw("GET", &format!("{}/ping", stage.url()), &[("accept", accept)]);
        (it.status, it.text)
    };
    assert_eq!(ping("*/*"), (200, "pong".to_owned()));
    assert_eq!(ping("application/json"), (200, "\"pong\"".to_owned()));
    assert_eq!(ping("image/png"), (204, String::new()));
    let odd = stage.call("GET", "/v2/odd", Value::Null);
    assert_eq!((odd.status, odd.json), (500, json!({ "message": "URI not found" })));
    assert_eq!(stage.call("POST", "/v2/info", Value::Null).status, 405);
}

#[test]
fn the_older_generation_prints_nulls_and_task_ids() {
    let stage = Stage::new(&["--generation", "1.3"]);
    let check = json!({ "path": "/", "intervalSeconds": 1 });
    let tasks = stage.run(json!({ "id": "/a/x", "cmd": SERVICE, "healthChecks": [check] }));
    let app = stage.app("a/x");
    for key in ["args", "user", "container", "acceptedResourceRoles"] {
        assert_eq!(app.get(key), Some(&Value::Null), "{key}");
    }
    assert!(app["ports"].is_array() && app.get("networks").is_none() && app.get("role").is_none());
    let result = &tasks[0]["healthCheckResults"][0];
    assert_eq!(result["taskId"], tasks[0]["id"]);
    assert_eq!((result.get("lastFailure"), result.get("instanceId")), (Some(&Value::Null), None));
    let uuid = id(&tasks[0]).strip_prefix("a_x.").expect("begins with the app");
    assert_eq!((uuid.len(), uuid.contains('.')), (36, false));
    assert_eq!(stage.get("/v2/info")["version"], "1.3.5");
    stage.fault("POST", "/tasks/*/lose", json!({ "app": "a/x" }));
    assert_eq!(stage.app("a/x")["lastTaskFailure"]["state"], "TASK_LOST");
    stage.wait("the queue", || stage.get("/v2/queue")["queue"].get(0).cloned());
}
