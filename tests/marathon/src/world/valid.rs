//! What is refused, and in which words: shapes with 400, values with 422.

use serde_json::{Map, Value, json};

use crate::http::Response;

/// `/a/b` of what was written: with or without a slash in front or at the end.
pub(crate) fn app_id(text: &str) -> String {
    format!("/{}", text.trim_matches('/'))
}

/// Whether every segment is made of lower-case letters, digits, inner dots and hyphens.
pub(crate) fn is_app_id(id: &str) -> bool {
    let label = |it: &str| {
        !it.is_empty()
            && !it.starts_with('-')
            && !it.ends_with('-')
            && it.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    id.len() > 1 && id[1..].split('/').all(|segment| segment.split('.').all(label))
}

/// Looks at the shape of a definition or an update: each key has the type it should have.
pub(crate) fn shape(given: &Map<String, Value>) -> Result<(), Response> {
    let kinds: &[(&str, Kind)] = &[
        ("id", Kind::Text),
        ("cmd", Kind::Text),
        ("user", Kind::Text),
        ("args", Kind::List),
        ("ports", Kind::List),
        ("portDefinitions", Kind::List),
        ("healthChecks", Kind::List),
        ("constraints", Kind::List),
        ("env", Kind::Object),
        ("labels", Kind::Object),
        ("upgradeStrategy", Kind::Object),
        ("instances", Kind::Count),
        ("backoffSeconds", Kind::Count),
        ("maxLaunchDelaySeconds", Kind::Count),
        ("taskKillGracePeriodSeconds", Kind::Count),
        ("cpus", Kind::Number),
        ("mem", Kind::Number),
        ("disk", Kind::Number),
        ("backoffFactor", Kind::Number),
        ("requirePorts", Kind::Flag),
    ];
    let bad: Vec<Value> = kinds
        .iter()
        .filter_map(|(key, kind)| Some((key, kind, given.get(*key)?)))
        .filter(|(_, kind, value)| !value.is_null() && !kind.fits(value))
        .map(|(key, kind, _)| detail(&format!("/{key}"), &[kind.complaint()]))
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Response::json(400, &json!({ "message": "Invalid JSON", "details": bad })))
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    List,
    Object,
    Count,
    Number,
    Flag,
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
            Self::Count => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Flag => value.is_boolean(),
        }
    }

    fn complaint(self) -> &'static str {
        match self {
            Self::Text => "error.expected.jsstring",
            Self::List => "error.expected.jsarray",
            Self::Object => "error.expected.jsobject",
            Self::Count | Self::Number => "error.expected.jsnumber",
            Self::Flag => "error.expected.jsboolean",
        }
    }
}

/// Looks at the values of a complete definition.
pub(crate) fn values(spec: &super::Spec) -> Result<(), Response> {
    let mut bad = Vec::new();
    let id = spec.text("id").unwrap_or_default();
    if !is_app_id(id) {
        bad.push(detail("/id", &["must fully match regular expression \
            '^(([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])\\.)*([a-z0-9]|[a-z0-9][a-z0-9\\-]*[a-z0-9])|(\\.|\\.\\.)$'"]));
    }
    let has = |key: &str| spec.0.get(key).is_some_and(|it| !it.is_null());
    if (has("cmd") && has("args")) || !(has("cmd") || has("args") || has("container")) {
        bad.push(detail(
            "/",
            &["AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."],
        ));
    }
    for key in ["instances", "cpus", "mem", "disk", "backoffSeconds"] {
        let got = spec.number(key);
        if got < 0.0 {
            bad.push(detail(&format!("/{key}"), &[&format!("got {got}, expected 0 or more")]));
        }
    }
    let ports = spec.list("portDefinitions").len() as i64;
    for (at, check) in spec.list("healthChecks").iter().enumerate() {
        let index = check.get("portIndex").and_then(Value::as_i64).unwrap_or(0);
        let needs_port = check.get("protocol").and_then(Value::as_str) != Some("COMMAND")
            && check.get("port").is_none_or(Value::is_null);
        if needs_port && !(0..ports).contains(&index) {
            bad.push(detail(
                &format!("/healthChecks({at})"),
                &["Health check port indices must address an element of the ports array or \
                  container port mappings."],
            ));
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(unprocessable(&bad)) }
}

pub(crate) fn unprocessable(details: &[Value]) -> Response {
    Response::json(422, &json!({ "message": "Object is not valid", "details": details }))
}

pub(crate) fn detail(path: &str, errors: &[&str]) -> Value {
    json!({ "path": path, "errors": errors })
}

/// The body as an object.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, Response> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(it)) => Ok(it),
        Ok(_) => Err(not_json("error.expected.jsobject")),
        Err(why) => Err(not_json(&why.to_string())),
    }
}

pub(crate) fn not_json(why: &str) -> Response {
    let details = [json!({ "path": "", "errors": [why] })];
    Response::json(400, &json!({ "message": "Invalid JSON", "details": details }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_judged() {
        for (id, expected) in [
            ("/x", true),
            ("/a/b.c-d", true),
            ("/", false),
            ("/A", false),
            ("/a_b", false),
            ("/-a", false),
            ("/a//b", false),
        ] {
            assert_eq!(is_app_id(id), expected, "{id}");
        }
        assert_eq!((app_id("a/b/"), app_id("/x")), ("/a/b".to_owned(), "/x".to_owned()));
    }
}
