//! `/status`: whether the router is alive (api §4.9).

use super::about::View;
use super::query::Query;
use super::reply::Reply;
use crate::wire::call::Call;
use http::StatusCode;
use serde_json::{Map, Value, json};

/// Characters of a header's value that are shown.
const SHOWN: usize = 80;

/// `{"status":"ok"}`; 503 while the router drains.
pub(super) fn page(call: &Call, query: &Query, view: &View<'_>) -> Reply {
    if view.catalogue.draining {
        let body = json!({"message": "Router is in drain mode."});
        return Reply::json(StatusCode::SERVICE_UNAVAILABLE, &body);
    }
    let mut body = json!({"status": "ok"});
    if query.includes("request-info") {
        body["request-info"] = request_info(call, view);
    }
    if query.includes("server-info") {
        body["server-info"] = json!({
            "version": view.about.version,
            "started-at": view.about.started.iso(),
        });
    }
    Reply::ok(&body)
}

fn request_info(call: &Call, view: &View<'_>) -> Value {
    let head = &call.head;
    let mut headers = Map::new();
    if !head.authority().is_empty() {
        headers.insert("host".into(), shown(head.authority()).into());
    }
    for (name, value) in head.fields.iter() {
        headers.insert(text(name), shown(value).into());
    }
    json!({
        "client-protocol": format!("{:?}", head.version),
        "headers": headers,
        "query-string": head.query().map(text),
        "remote-addr": call.peer.to_string(),
        "request-id": text(&call.cid),
        "request-method": head.method.as_str().to_ascii_lowercase(),
        "request-time": view.now.iso(),
        "router-id": &*view.catalogue.router_id,
        "scheme": "http",
        "uri": text(head.path()),
    })
}

fn shown(value: &[u8]) -> String {
    text(value).chars().take(SHOWN).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
