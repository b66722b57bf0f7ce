//! Deployments and their locks; creating, changing, rolling back.

use serde_json::{Value, json};

use crate::stage::{Answer, Stage, id};

const LOCKED: &str = "App is locked by one or more deployments. Override with the option \
                      '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.";

fn assert_locked(answer: &Answer, by: &Value) {
    assert_eq!(answer.status, 409, "{}", answer.text);
    assert_eq!(answer.json, json!({ "message": LOCKED, "deployments": [{ "id": by }] }));
}

#[test]
fn a_deployment_locks_its_app_until_it_is_forced() {
    let stage = Stage::new(&[]);
    stage.fault("POST", "/deployments/hold", json!({ "app": "x" }));
    let made = stage.call("POST", "/v2/apps", json!({ "id": "x", "cmd": "sleep 1000" }));
    let by = &made.json["deployments"][0]["id"];
    assert_eq!(made.status, 201);
    assert_eq!(made.headers["marathon-deployment-id"], by.as_str().expect("is text"));
    assert!(made.headers["location"].to_str().expect("is text").ends_with("/v2/apps/x"));
    let again = stage.call("POST", "/v2/apps", json!({ "id": "/x", "cmd": "sleep 1000" }));
    assert_eq!(
        (again.status, &again.json["message"]),
        (409, &json!("An app with id [/x] already exists."))
    );
    assert_locked(&stage.call("PUT", "/v2/apps//x?force=False", json!({ "instances": 2 })), by);
    assert_locked(&stage.call("POST", "/v2/apps/x/restart", json!({})), by);
    assert_locked(&stage.call("DELETE", "/v2/apps/x?force=false", Value::Null), by);
    // What changes nothing is in nobody's way.
    for same in [json!({ "instances": 1 }), json!({ "mem": 128, "ports": [0], "args": null })] {
        assert_eq!(stage.call("PUT", "/v2/apps/x", same).status, 200);
    }
    let forced = stage.call("PUT", "/v2/apps/x?force=True", json!({ "instances": 2 }));
    let list = stage.get("/v2/deployments");
    assert_eq!(
        (list.as_array().map(Vec::len), &list[0]["id"]),
        (Some(1), &forced.json["deploymentId"])
    );
    stage.fault("DELETE", "/deployments/hold", json!({ "app": "x" }));
    stage.settle();
    assert_eq!(stage.tasks("x").len(), 2);
}

#[test]
fn a_deleted_app_is_gone_at_once_and_locked_until_its_tasks_are() {
    let stage = Stage::new(&[]);
    let stubborn = "trap '' TERM; while :; do sleep 1; done";
    stage.run(json!({ "id": "x", "cmd": stubborn, "taskKillGracePeriodSeconds": 1 }));
    let deleted = stage.call("DELETE", "/v2/apps/x", Value::Null);
    let gone = stage.call("GET", "/v2/apps/x", Value::Null);
    assert_eq!((gone.status, &gone.json["message"]), (404, &json!("App '/x' does not exist")));
    assert_eq!(stage.get("/v2/tasks")["tasks"].as_array().map(Vec::len), Some(1));
    let create = || stage.call("POST", "/v2/apps", json!({ "id": "x", "cmd": "sleep 1000" }));
    assert_locked(&create(), &deleted.json["deploymentId"]);
    let list = stage.get("/v2/deployments");
    assert_eq!(
        list[0]["steps"],
        json!([{ "actions": [{ "action": "StopApplication", "app": "/x" }] }])
    );
    assert_eq!(list[0]["affectedApps"], json!(["/x"]));
    assert_eq!(stage.call("DELETE", "/v2/apps/x", Value::Null).status, 404);
    stage.settle();
    assert_eq!(create().status, 201);
}

#[test]
fn killing_with_scale_is_a_deployment_and_an_unknown_task_is_no_fault() {
    let stage = Stage::new(&[]);
    let tasks = stage.run(json!({ "id": "x", "cmd": "sleep 1000", "instances": 3 }));
    let kill = |task: &str| {
        stage.call("DELETE", &format!("/v2/apps/x/tasks/{task}?scale=true"), Value::Null)
    };
    let unknown = kill("x.nobody");
    assert_eq!(unknown.status, 200);
    assert!(unknown.json["deploymentId"].is_string());
    assert_eq!(
        (stage.get("/v2/deployments"), &stage.app("x")["instances"]),
        (json!([]), &json!(3))
    );
    // The oldest would not be chosen; it goes because it was named.
    stage.fault("POST", "/deployments/hold", json!({}));
    let first = kill(id(&tasks[0]));
    assert_eq!(stage.app("x")["instances"], 2, "the target shows at once");
    assert_locked(&kill(id(&tasks[1])), &first.json["deploymentId"]);
    stage.fault("DELETE", "/deployments/hold", json!({}));
    stage.settle();
    let left = stage.tasks("x");
    assert!(left.len() == 2 && left.iter().all(|it| it["id"] != tasks[0]["id"]));
    stage.run(json!({ "id": "none", "cmd": "sleep 1000", "instances": 0 }));
    let none = stage.call("DELETE", "/v2/apps/none/tasks/none.1?scale=true", Value::Null);
    assert_eq!((none.status, &none.json["message"]), (404, &json!("Path '/none' does not exist")));
}

#[test]
fn a_plain_kill_is_not_locked_out() {
    let stage = Stage::new(&[]);
    let tasks = stage.run(json!({ "id": "x", "cmd": "sleep 1000", "instances": 2 }));
    stage.fault("POST", "/deployments/hold", json!({}));
    stage.call("PUT", "/v2/apps/x", json!({ "instances": 5 }));
    let killed = stage.call("DELETE", &format!("/v2/apps/x/tasks/{}", id(&tasks[0])), Value::Null);
    assert_eq!(killed.status, 200);
}

#[test]
fn given_tasks_of_several_apps_are_killed() {
    let stage = Stage::new(&[]);
    let a = stage.run(json!({ "id": "a", "cmd": "sleep 1000", "instances": 2 }));
    let b = stage.run(json!({ "id": "b", "cmd": "sleep 1000", "instances": 2 }));
    let kill = |query: &str, ids: Value| {
        stage.call("POST", &format!("/v2/tasks/delete{query}"), json!({ "ids": ids }))
    };
    let taken = kill("?scale=true", json!([a[0]["id"], b[0]["id"], "c.unknown"]));
    assert_eq!(taken.status, 200);
    let list = stage.get("/v2/deployments");
    assert_eq!(list[0]["affectedApps"], json!(["/a", "/b"]));
    stage.settle();
    assert_eq!(
        (&stage.app("a")["instances"], &stage.app("b")["instances"]),
        (&json!(1), &json!(1))
    );
    let killed = kill("", json!([a[1]["id"]]));
    assert_eq!(killed.json["tasks"][0]["id"], a[1]["id"]);
    assert_eq!(kill("", json!(["nonsense"])).status, 400);
}

#[test]
fn cancelling_goes_back_unless_it_is_forced() {
    let stage = Stage::new(&[]);
    stage.run(json!({ "id": "x", "cmd": "sleep 1000", "instances": 1 }));
    stage.fault("POST", "/deployments/hold", json!({}));
    let scale = |count: u32| stage.call("PUT", "/v2/apps/x", json!({ "instances": count })).json;
    let cancel = |of: &Value, query: &str| {
        let of = of["deploymentId"].as_str().expect("is text");
        stage.call("DELETE", &format!("/v2/deployments/{of}{query}"), Value::Null)
    };
    let first = scale(3);
    let back = cancel(&first, "");
    assert_eq!((back.status, &stage.app("x")["instances"]), (200, &json!(1)));
    assert_eq!(stage.get("/v2/deployments")[0]["id"], back.json["deploymentId"]);
    let forced = cancel(&back.json, "?force=true");
    assert_eq!((forced.status, forced.text.as_str()), (202, ""));
    let kept = scale(2);
    assert_eq!(cancel(&kept, "?force=true").status, 202);
    assert_eq!(
        (&stage.app("x")["instances"], stage.get("/v2/deployments")),
        (&json!(2), json!([]))
    );
    let gone = cancel(&first, "");
    let id = first["deploymentId"].as_str().expect("is text");
    assert_eq!(
        (gone.status, &gone.json["message"]),
        (404, &json!(format!("DeploymentPlan {id} does not exist")))
    );
    // A created app that is taken back is stopped.
    let made = stage.call("POST", "/v2/apps", json!({ "id": "new", "cmd": "sleep 1000" }));
    cancel(&json!({ "deploymentId": made.json["deployments"][0]["id"] }), "");
    assert_eq!(stage.call("GET", "/v2/apps/new", Value::Null).status, 404);
}

#[test]
fn scaling_keeps_tasks_and_any_other_change_replaces_them() {
    let stage = Stage::new(&[]);
    let ids = |tasks: &[Value]| tasks.iter().map(|it| id(it).to_owned()).collect::<Vec<_>>();
    let first = ids(&stage.run(json!({ "id": "x", "cmd": "sleep 1000", "instances": 2 })));
    let before = stage.app("x");
    stage.call("PUT", "/v2/apps/x", json!({ "instances": 3 }));
    assert_eq!(
        stage.get("/v2/deployments")[0]["steps"][0]["actions"][0]["action"],
        "ScaleApplication"
    );
    stage.settle();
    let (scaled, app) = (ids(&stage.tasks("x")), stage.app("x"));
    assert!(scaled.len() == 3 && first.iter().all(|it| scaled.contains(it)));
    let at = |app: &Value, key: &str| app["versionInfo"][key].clone();
    assert_eq!(at(&app, "lastConfigChangeAt"), at(&before, "lastConfigChangeAt"));
    assert_ne!(at(&app, "lastScalingAt"), at(&before, "lastScalingAt"));
    stage.call("PUT", "/v2/apps/x", json!({ "cmd": "sleep 2000" }));
    assert_eq!(
        stage.get("/v2/deployments")[0]["steps"][0]["actions"][0]["action"],
        "RestartApplication"
    );
    stage.settle();
    let changed = ids(&stage.tasks("x"));
    assert!(changed.len() == 3 && scaled.iter().all(|it| !changed.contains(it)));
    stage.call("POST", "/v2/apps/x/restart", Value::Null);
    stage.settle();
    let restarted = ids(&stage.tasks("x"));
    assert!(restarted.len() == 3 && changed.iter().all(|it| !restarted.contains(it)));
    stage.call("PUT", "/v2/apps/x", json!({ "instances": 1 }));
    stage.settle();
    assert_eq!(stage.tasks("x").len(), 1);
}

#[test]
fn updates_are_partial_or_whole_and_versions_come_back() {
    let stage = Stage::new(&[]);
    let app = json!({ "id": "x", "cmd": "sleep 1000", "labels": { "a": "1" }, "instances": 0 });
    stage.run(app);
    let first = stage.app("x");
    stage.call("PUT", "/v2/apps/x", json!({ "mem": 64, "user": null }));
    stage.settle();
    assert_eq!(
        (&stage.app("x")["mem"], &stage.app("x")["labels"]["a"]),
        (&json!(64.0), &json!("1"))
    );
    let whole = json!({ "args": ["sleep", "1000"], "instances": 0 });
    stage.call("PUT", "/v2/apps/x?partialUpdate=false", whole);
    stage.settle();
    assert_eq!((&stage.app("x")["mem"], &stage.app("x")["labels"]), (&json!(128.0), &json!({})));
    assert!(stage.app("x").get("cmd").is_none());
    let versions = stage.get("/v2/apps/x/versions");
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(3));
    let oldest = versions["versions"][2].as_str().expect("is text").to_owned();
    assert_eq!(first["version"], oldest.as_str());
    assert_eq!(stage.get(&format!("/v2/apps/x/versions/{oldest}"))["cmd"], "sleep 1000");
    stage.call("PUT", "/v2/apps/x", json!({ "version": oldest }));
    stage.settle();
    assert_eq!(
        (&stage.app("x")["cmd"], &stage.app("x")["labels"]["a"]),
        (&json!("sleep 1000"), &json!("1"))
    );
    assert_eq!(stage.call("PATCH", "/v2/apps/no", json!({ "mem": 1 })).status, 404);
    assert_eq!(stage.call("PATCH", "/v2/apps/x", json!({ "mem": 32 })).status, 200);
    stage.settle();
    let created =
        stage.call("PUT", "/v2/apps/made", json!({ "cmd": "sleep 1000", "instances": 0 }));
    assert_eq!(created.status, 201);
    stage.settle();
    let many = json!([{ "id": "x", "mem": 40 }, { "id": "/made", "mem": 40 }]);
    assert_eq!(stage.call("PUT", "/v2/apps", many).status, 200);
    assert_eq!(stage.get("/v2/deployments").as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let stage = Stage::new(&["--max-running-deployments", "1"]);
    let check = |body: Value, status: u16, path: &str| {
        let answer = stage.call("POST", "/v2/apps", body);
        assert_eq!(
            (answer.status, &answer.json["details"][0]["path"]),
            (status, &json!(path)),
            "{}",
            answer.text
        );
    };
    check(json!({ "id": "x", "cmd": "a", "instances": "2" }), 400, "/instances");
    check(json!({ "id": "x", "cmd": 1 }), 400, "/cmd");
    check(json!([]), 400, "");
    check(json!({ "id": "X_y", "cmd": "a" }), 422, "/id");
    check(json!({ "id": "x" }), 422, "/");
    check(json!({ "id": "x", "cmd": "a", "args": ["b"] }), 422, "/");
    check(json!({ "id": "x", "cmd": "a", "instances": -1 }), 422, "/instances");
    let check_port = json!([{ "portIndex": 1 }]);
    check(
        json!({ "id": "x", "cmd": "a", "ports": [0], "healthChecks": check_port }),
        422,
        "/healthChecks(0)",
    );
    stage.fault("POST", "/deployments/hold", json!({}));
    stage.call("POST", "/v2/apps", json!({ "id": "one", "cmd": "sleep 1000" }));
    let more = stage.call("POST", "/v2/apps", json!({ "id": "two", "cmd": "sleep 1000" }));
    assert_eq!(more.status, 403, "{}", more.text);
}
