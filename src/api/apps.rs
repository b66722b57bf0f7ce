//! `/apps`: the services there are, and what is common to the pages on services (api §4.1).

use super::about::View;
use super::cluster;
use super::instance;
use super::query::Query;
use super::reply::{Pieces, Reply};
use crate::base::ids::ServiceId;
use crate::core::catalogue::Entry;
use crate::core::service::{Description, Origin, table};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Services that exist and match, by id. The list is written service by service, so that it is
/// never whole as a tree.
pub(super) fn page(query: &Query, view: &View<'_>) -> Reply {
    let filter = Filter::of(query);
    let mut body = Pieces::default();
    body.text("[");
    let mut before = "";
    for (id, entry) in &view.catalogue.services {
        if entry.exists && filter.admits(&entry.state.description) {
            body.text(before);
            body.json(&listed(id, entry, query, view));
            before = ",";
        }
    }
    body.text("]\n");
    Reply { status: StatusCode::OK, kind: Some("application/json"), fields: Vec::new(), body }
}

fn listed(id: &ServiceId, entry: &Entry, query: &Query, view: &View<'_>) -> Value {
    let state = &entry.state;
    let mut shown = common(entry, query);
    shown.insert("service-id".into(), id.as_str().into());
    shown.insert("scope".into(), cluster::scope(entry, view).into());
    shown.insert("url".into(), format!("{}/apps/{id}", view.base).into());
    shown.insert(
        "instance-counts".into(),
        json!({
            "healthy-instances": state.healthy.len(),
            "unhealthy-instances": state.unhealthy.len(),
        }),
    );
    if query.includes("healthy-instances") {
        shown.insert("instances".into(), json!({"healthy-instances": instance::healthy(state)}));
    }
    Value::Object(shown)
}

/// What both pages on services show.
pub(super) fn common(entry: &Entry, query: &Query) -> Map<String, Value> {
    let state = &entry.state;
    let description = &state.description;
    let active = (state.healthy.len() + state.unhealthy.len()) as f64;
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    put("status", state.status().label().into());
    put("last-request-time", entry.last_request.map(|it| it.iso()).into());
    put(
        "request-metrics",
        json!({"outstanding": entry.traffic.outstanding, "total": entry.traffic.requests}),
    );
    put(
        "resource-usage",
        json!({
            "cpus": description.parameters.cpus * active,
            "mem": whole_if_possible(description.parameters.mem * active),
        }),
    );
    put("scaling-state", entry.scaling.state().into());
    put("service-description", described(description));
    if query.is_true("effective-parameters") || query.includes("effective-parameters") {
        put("effective-parameters", description.effective_json());
    }
    if let Some(error) = &state.deployment_error {
        put("deployment-error-message", format!("Deployment error: {}", error.message()).into());
    }
    shown
}

/// The explicit parameters. Of a static service its servers too, for nothing else says where they
/// are.
fn described(description: &Description) -> Value {
    let mut shown = description.to_json();
    if let Origin::Static { addresses, .. } = &description.origin {
        shown["static"] = addresses.iter().map(ToString::to_string).map(Value::from).collect();
    }
    shown
}

/// Whole numbers are shown without a fraction, as people write them.
fn whole_if_possible(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Value::from(number as i64);
    }
    number.into()
}

/// Which services are wanted (api §0.3). Values of one parameter are alternatives, parameters add
/// up. The original takes values as regular expressions too; they are not, here: a value is the
/// field's value, or `*` for any that is not empty.
#[derive(Debug, Default)]
struct Filter<'a> {
    parameters: BTreeMap<&'a str, Vec<&'a str>>,
    /// Names by which requests find services; no services have tokens but static ones, whose names
    /// stand in their place.
    tokens: Vec<&'a str>,
    versions: Vec<&'a str>,
    stars: bool,
}

impl<'a> Filter<'a> {
    fn of(query: &'a Query) -> Self {
        let stars = query.get("star-mode").is_none_or(|it| it == "all");
        let mut filter = Self { stars, ..Self::default() };
        for (name, value) in query.iter() {
            let first = name.split('.').next().unwrap_or(name);
            match name {
                "token" => filter.tokens.push(value),
                "token-version" => filter.versions.push(value),
                _ if table::place(first).is_some() => {
                    filter.parameters.entry(name).or_default().push(value);
                }
                _ => {}
            }
        }
        filter
    }

    fn admits(&self, description: &Description) -> bool {
        let token = match &description.origin {
            Origin::Static { name, .. } => name.as_str(),
            Origin::Launched => "",
        };
        let tokens = self.tokens.is_empty() || self.matches(&self.tokens, token);
        let versions = self.versions.is_empty() || self.matches(&self.versions, "");
        tokens
            && versions
            && self
                .parameters
                .iter()
                .all(|(name, values)| self.matches(values, &field(description, name)))
    }

    fn matches(&self, values: &[&str], field: &str) -> bool {
        values.iter().any(|it| *it == field || (self.stars && *it == "*" && !field.is_empty()))
    }
}

/// An effective parameter as text; dots lead into maps.
fn field(description: &Description, name: &str) -> String {
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let value = description.effective(first);
    let value = match rest {
        Some(key) => value.and_then(|it| it.get(key).cloned()),
        None => value,
    };
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    }
}
