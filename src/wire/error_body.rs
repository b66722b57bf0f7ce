//! The body of an error, as JSON or as text (api §6.2).

use crate::base::fault::{Fault, Whose};
use crate::base::ids::InstanceId;
use crate::base::time::Date;
use crate::wire::head::{Head, Length};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What an error says beside its fault.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The request.
    pub head: &'a Head,
    /// Correlation id.
    pub cid: &'a [u8],
    /// The service, once it was found.
    pub service: Option<&'a str>,
    /// The instance, once one was chosen.
    pub instance: Option<InstanceId>,
    /// When the request came.
    pub date: Date,
}

/// Forms the client may want.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Json,
    Text,
}

/// Writes the answer to a fault: head and body.
pub fn write(fault: &Fault, facts: &Facts<'_>, head: &mut Head, body: &mut Vec<u8>) {
    let row = fault.class.row();
    head.clear();
    body.clear();
    head.status = StatusCode::from_u16(row.status).expect("the table holds valid codes");
    let form = form(facts.head);
    match form {
        Form::Json => {
            head.fields.push(b"content-type", b"application/json");
            body.extend_from_slice(json_body(fault, facts).to_string().as_bytes());
            body.push(b'\n');
        }
        Form::Text => {
            head.fields.push(b"content-type", b"text/plain");
            body.extend_from_slice(text_body(fault, facts).as_bytes());
        }
    }
    if let Some(service) = facts.service {
        head.fields.push(b"x-waiter-service-id", service.as_bytes());
    }
    head.length = Length::Exact(body.len() as u64);
}

/// Whether the client wants JSON rather than text (api §6.2).
pub fn wants_json(request: &Head) -> bool {
    form(request) == Form::Json
}

fn form(request: &Head) -> Form {
    let has = |name: &[u8], what: &[u8]| {
        request.fields.all(name).any(|it| memchr::memmem::find(it, what).is_some())
    };
    if has(b"accept", b"application/json") {
        Form::Json
    } else if has(b"accept", b"text/html") || has(b"accept", b"text/plain") {
        Form::Text
    } else if has(b"content-type", b"application/json") {
        Form::Json
    } else {
        Form::Text
    }
}

fn json_body(fault: &Fault, facts: &Facts<'_>) -> Value {
    let row = fault.class.row();
    let mut details = Map::new();
    details.insert("status".into(), row.status.into());
    details.insert("error-cause".into(), row.cause.into());
    details.insert("whose-fault".into(), whose(row.whose).into());
    if let Some(class) = row.class {
        details.insert("error-class".into(), class.into());
    }
    for (name, value) in &fault.details {
        details.insert((*name).to_owned(), value.as_str().into());
    }
    json!({"waiter-error": {
        "cid": text(facts.cid),
        "details": details,
        "host": text(facts.head.authority()),
        "instance-id": facts.instance.as_ref().map(InstanceId::as_str),
        "message": fault.message,
        "principal": null,
        "query-string": facts.head.query().map(text),
        "request-method": facts.head.method.as_str(),
        "service-id": facts.service,
        "status": row.status,
        "support-info": [],
        "timestamp": facts.date.iso(),
        "title": row.title,
        "uri": text(facts.head.path()),
    }})
}

fn text_body(fault: &Fault, facts: &Facts<'_>) -> String {
    let row = fault.class.row();
    let mut out = format!("\n  {}\n  ================\n\n  {}\n", row.title, fault.message);
    out.push_str("\n  Request Info\n  ============\n\n");
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:>12}: {value}");
        }
    };
    line("Host", &text(facts.head.authority()));
    line("Path", &text(facts.head.path()));
    line("Query String", &facts.head.query().map(text).unwrap_or_default());
    line("Method", facts.head.method.as_str());
    line("CID", &text(facts.cid));
    line("Time", &facts.date.iso());
    line("Service Id", facts.service.unwrap_or_default());
    line("Instance Id", facts.instance.as_ref().map_or("", InstanceId::as_str));
    out.push_str("\n  Additional Info\n  ===============\n\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name}: {value}");
    };
    line("status", &row.status.to_string());
    line("error-cause", row.cause);
    line("whose-fault", whose(row.whose));
    if let Some(class) = row.class {
        line("error-class", class);
    }
    for (name, value) in &fault.details {
        line(name, value);
    }
    out
}

fn whose(it: Whose) -> &'static str {
    match it {
        Whose::Client => "client",
        Whose::Service => "service",
        Whose::Router => "router",
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
