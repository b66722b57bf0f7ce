//! JSON schemas made mechanically of Marathon's own RAML at its last commit. They lie beside the
//! project and are not copied into it. Answers of generation 1.3 are translated first, by what is
//! known to have changed: nulls were printed for what is left out now, `taskId` is `instanceId`,
//! roles came, and names of tasks changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::stage::Answer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    V1_3,
    V1_10,
}

/// Panics, if the answer is not what the endpoint may say. An endpoint without a row is a fault of
/// the test.
pub(crate) fn judge(generation: Generation, method: &str, path: &str, answer: &Answer) {
    for (schema, part) in parts(method, path, answer) {
        let part = match generation {
            Generation::V1_3 => modern(part),
            Generation::V1_10 => part,
        };
        let complaints: Vec<String> = schema_of(schema)
            .iter_errors(&part)
            .map(|it| format!("  {}: {it}", it.instance_path))
            .collect();
        assert!(
            complaints.is_empty(),
            "{method} {path} is no {schema}:\n{}\n{part:#}",
            complaints.join("\n")
        );
    }
}

/// The parts of an answer and the schema of each.
fn parts(method: &str, path: &str, answer: &Answer) -> Vec<(&'static str, Value)> {
    let it = &answer.json;
    if answer.status >= 400 {
        let json = answer.headers.get("content-type").is_some_and(|it| it == "application/json");
        return if json { vec![("Error", it.clone())] } else { Vec::new() };
    }
    let bare = path.split('?').next().unwrap_or_default();
    let words: Vec<&str> = bare.split('/').filter(|it| !it.is_empty()).collect();
    let result = it.get("deploymentId").is_some();
    let of_each = |schema, list: &Value| {
        list.as_array().into_iter().flatten().map(|one| (schema, one.clone())).collect()
    };
    match (method, words.as_slice()) {
        _ if result => vec![("DeploymentResult", it.clone())],
        ("GET", ["v2", "apps"]) => vec![("AppList", it.clone())],
        ("POST", ["v2", "apps"]) => vec![("AppInfo", it.clone())],
        ("GET", ["v2", "apps", .., "*"]) => of_each("AppInfo", &it["*"]),
        ("GET" | "DELETE", ["v2", "apps", .., "tasks"]) | ("GET", ["v2", "tasks"]) => {
            vec![("TaskList", it.clone())]
        }
        ("POST", ["v2", "tasks", "delete"]) => vec![("TaskList", it.clone())],
        ("DELETE", ["v2", "apps", .., "tasks", _]) => {
            vec![("TaskList", json!({ "tasks": [it["task"]] }))]
        }
        ("GET", ["v2", "apps", .., "versions"]) => {
            assert!(it["versions"].as_array().is_some_and(|it| it.iter().all(Value::is_string)));
            Vec::new()
        }
        ("GET", ["v2", "apps", .., "versions", _]) => vec![("AppInfo", it.clone())],
        ("GET", ["v2", "apps", ..]) => vec![("AppInfo", it["app"].clone())],
        ("GET", ["v2", "deployments"]) => of_each("DeploymentStepInfo", it),
        ("DELETE", ["v2", "deployments", _]) if answer.status == 202 => Vec::new(),
        ("GET", ["v2", "queue"]) => vec![("Queue", it.clone())],
        ("DELETE", ["v2", "queue", .., "delay"]) if answer.status == 204 => Vec::new(),
        ("GET", ["v2", "info"]) => vec![("MarathonInfo", it.clone())],
        ("GET", ["v2", "leader"]) => vec![("LeaderInfo", it.clone())],
        ("DELETE", ["v2", "leader"]) => vec![("Error", it.clone())],
        ("GET", ["v2", "groups", ..]) => of_each("AppInfo", &it["apps"]),
        (_, ["ping" | "metrics"]) | ("HEAD", _) => Vec::new(),
        _ => panic!("no schema is known for {method} {path}"),
    }
}

/// An answer of 1.3 as 1.10 would have written it.
fn modern(value: Value) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(modern).collect()),
        Value::Object(object) => {
            let mut out: BTreeMap<String, Value> = object
                .into_iter()
                .filter(|(_, it)| !it.is_null())
                .map(|(k, v)| (k, modern(v)))
                .collect();
            if out.contains_key("alive")
                && let Some(id) = out.remove("taskId")
            {
                let id = id.as_str().unwrap_or_default().rsplit_once('.').unwrap_or_default();
                out.insert("instanceId".into(), json!(format!("{}.instance-{}", id.0, id.1)));
            }
            let has = |key: &str| out.contains_key(key);
            let (task, queued) = (has("slaveId") && has("stagedAt"), has("delay") && has("app"));
            if task || queued {
                out.insert("role".into(), json!("*"));
            }
            if queued {
                out.insert("since".into(), json!("2016-01-01T00:00:00.000Z"));
                out.insert("processedOffersSummary".into(), no_offers());
            }
            Value::Object(out.into_iter().collect())
        }
        other => other,
    }
}

fn no_offers() -> Value {
    json!({
        "processedOffersCount": 0, "unusedOffersCount": 0, "rejectSummaryLastOffers": [],
        "rejectSummaryLaunchAttempt": [],
    })
}

/// Read when it is first wanted: each test is a process of its own, and needs few of them.
fn schema_of(name: &'static str) -> Rc<Validator> {
    thread_local! {
        static KNOWN: RefCell<BTreeMap<&'static str, Rc<Validator>>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        Rc::clone(known.entry(name).or_insert_with(|| Rc::new(read(name))))
    })
}

fn read(name: &str) -> Validator {
    let path = folder().join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|why| {
        panic!(
            "a schema is missing: {}: {why}; WAITER_SHARED names the folder that holds \
             marathon-schemas",
            path.display()
        )
    });
    let schema = serde_json::from_str(&text).expect("a schema is JSON");
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema is one")
}

/// `$WAITER_SHARED/marathon-schemas`, counted from the root of the project.
fn folder() -> PathBuf {
    let shared = std::env::var_os("WAITER_SHARED").unwrap_or_else(|| "../shared".into());
    root().join(shared).join("marathon-schemas")
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A schema that takes anything would make all of these tests worthless.
#[test]
fn wrong_answers_are_refused() {
    let task =
        json!({ "appId": "/x", "host": "h", "id": "x.1", "state": "TASK_RUNNING", "role": "*" });
    let good = |it: &Value| schema_of("TaskList").is_valid(&json!({ "tasks": [it] }));
    assert!(good(&task));
    for (key, value) in [
        ("state", json!("TASK_ODD")),
        ("ports", json!([0])),
        ("host", json!(7)),
        ("role", Value::Null),
    ] {
        let mut bad = task.clone();
        bad[key] = value;
        assert!(!good(&bad), "{key}");
    }
    assert!(
        !schema_of("DeploymentResult")
            .is_valid(&json!({ "version": "yesterday", "deploymentId": "" }))
    );
}
