//! How a right answer is made wrong. Works on the answer's JSON: whatever it holds stays as it was.

use serde_json::{Map, Value, json};

use super::Kind;
use crate::http::Response;

pub(super) fn locked(id: Option<&str>) -> Response {
    let id = id.unwrap_or("00000000-0000-4000-8000-000000000000");
    crate::api::refusal::locked(&[id.to_owned()])
}

pub(super) fn bend(answer: Response, by: &Kind) -> Response {
    let Ok(mut value) = serde_json::from_slice::<Value>(&answer.body) else { return answer };
    match by {
        Kind::EmptyList => empty(&mut value),
        Kind::HalfApps => halve(&mut value, "apps"),
        Kind::HalfTasks => halve(&mut value, "tasks"),
        Kind::Edit { list, set } => edit(&mut value, list, set),
        _ => return answer,
    }
    Response { body: value.to_string().into_bytes(), ..answer }
}

/// The outermost list of the answer, whatever its name.
fn empty(value: &mut Value) {
    match value {
        Value::Array(list) => list.clear(),
        Value::Object(object) => {
            object.values_mut().filter_map(Value::as_array_mut).for_each(Vec::clear)
        }
        _ => {}
    }
}

/// Leaves the first half, rounded down, of every list of this name.
fn halve(value: &mut Value, name: &str) {
    each_list(value, name, &mut |list| list.truncate(list.len() / 2));
}

fn edit(value: &mut Value, name: &str, set: &Value) {
    let set = set.as_object().cloned().unwrap_or_default();
    each_list(value, name, &mut |list| {
        list.iter_mut().filter_map(Value::as_object_mut).for_each(|it| merge(it, &set));
    });
}

fn merge(object: &mut Map<String, Value>, set: &Map<String, Value>) {
    for (key, value) in set {
        if value.is_null() {
            object.remove(key);
        } else {
            object.insert(key.clone(), value.clone());
        }
    }
}

fn each_list(value: &mut Value, name: &str, change: &mut impl FnMut(&mut Vec<Value>)) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                if let (true, Value::Array(list)) = (key == name, &mut *inner) {
                    change(list);
                }
                each_list(inner, name, change);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|it| each_list(it, name, change)),
        _ => {}
    }
}

/// What a fault's `body` and `code` make.
pub(super) fn replacement(code: u16, body: Option<&str>, content_type: Option<&str>) -> Response {
    let message = match code {
        502 => "Could not determine the current leader",
        503 => "Too many concurrent requests! Allowed: 100.",
        other => crate::http::response::reason(other),
    };
    match (body, content_type) {
        (None | Some("html"), None) => Response::html(code, message),
        (Some("json"), None) => Response::json(code, &json!({ "message": message })),
        (Some("empty"), None) => Response::empty(code),
        (body, content_type) => Response::text(
            code,
            content_type.unwrap_or("application/json"),
            body.unwrap_or_default(),
        ),
    }
}
