//! `/apps/<service-id>`: one service, and its end (api §4.2, §4.3).

use super::about::View;
use super::apps;
use super::errand::Errand;
use super::instance;
use super::pages::Step;
use super::query::Query;
use super::reply::Reply;
use crate::base::fault::{Class, Fault};
use crate::base::ids::ServiceId;
use crate::base::time::Duration;
use crate::core::catalogue::{Done, Entry};
use crate::wire::call::Call;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

/// The page of one service.
pub(super) fn page(id: &str, call: &Call, query: &Query, view: &View<'_>) -> Step {
    let found = find(id, view);
    let step = match (&call.head.method, found) {
        (&Method::GET | &Method::HEAD, found) => {
            found.map(|(id, entry)| Step::Reply(show(id, entry, query, view)))
        }
        (&Method::DELETE, found) => delete(found, query),
        _ => {
            let text = "Only GET and DELETE supported";
            Err(Fault::new(Class::MethodNotAllowed, text))
        }
    };
    step.unwrap_or_else(|fault| Step::Reply(Reply::fault(&fault, call, view.now)))
}

/// The service of this id.
pub(super) fn find<'a>(
    id: &str,
    view: &View<'a>,
) -> Result<(&'a ServiceId, &'a Arc<Entry>), Fault> {
    // A service-id holds no dot, and one that does is nobody's.
    let known = (!id.contains('.')).then(|| ServiceId::new(id));
    known
        .and_then(|it| view.catalogue.services.get_key_value(&it))
        .ok_or_else(|| Fault::new(Class::NotFound, "Service not found").with("service-id", id))
}

fn show(id: &ServiceId, entry: &Entry, query: &Query, view: &View<'_>) -> Reply {
    let state = &entry.state;
    let mut shown = apps::common(entry, query);
    shown.insert("instances".into(), instance::lists(id, state, &view.base));
    let active = state.healthy.len() + state.unhealthy.len();
    shown.insert("num-active-instances".into(), active.into());
    shown.insert("router-id".into(), (*view.catalogue.router_id).into());
    let metrics = query.includes("metrics");
    shown.insert("num-routers".into(), usize::from(metrics).into());
    if metrics {
        let traffic = traffic(entry);
        let mut aggregate = traffic.clone();
        aggregate["routers-sent-requests-to"] = usize::from(entry.traffic.requests > 0).into();
        let routers = json!({&*view.catalogue.router_id: traffic});
        shown.insert("metrics".into(), json!({"aggregate": aggregate, "routers": routers}));
    }
    Reply::ok(&shown)
}

/// What was asked of a service, in numbers.
pub(super) fn traffic(entry: &Entry) -> Value {
    let it = &entry.traffic;
    json!({
        "outstanding": it.outstanding,
        "waiting": it.waiting,
        "oldest-waiting-ms": it.oldest_waiting.as_millis() as u64,
        "total": it.requests,
        "completed": it.completions,
        "failed": it.failures,
        "service-time-ms": it.service_time.as_millis() as u64,
    })
}

/// Asks for the end of all instances. Who may ask has been checked by the shard.
fn delete(found: Result<(&ServiceId, &Arc<Entry>), Fault>, query: &Query) -> Result<Step, Fault> {
    let timeout = query.get("timeout").unwrap_or("0").parse::<i64>();
    let Ok(timeout) = timeout else {
        return Err(Fault::new(Class::BadRequest, "timeout must be an integer"));
    };
    let (id, entry) = found?;
    if entry.state.description.is_static() {
        let text = format!(
            "The servers of {id} exist by themselves: the operator named them (--static), and the \
             router cannot end them."
        );
        return Err(Fault::new(Class::BadRequest, text).with("service-id", id.as_str()));
    }
    let timeout = Duration::from_millis(u64::try_from(timeout).unwrap_or(0));
    Ok(Step::Errand(Errand::Delete { service: id.clone(), timeout }))
}

/// What is said after the control thread has answered. `agree`: whether all routers no longer list
/// the service, where that was waited for.
pub(super) fn deleted(id: &ServiceId, done: &Done, agree: Option<bool>) -> Reply {
    let (status, result, message) = match done {
        Done::Deleted => (StatusCode::OK, "deleted", format!("Deleted {id}")),
        Done::NoSuchService => {
            let text = format!("{id} does not exist!");
            (StatusCode::NOT_FOUND, "no-such-service-exists", text)
        }
        Done::Distribution(_) => {
            let text = "The control thread answered another question".to_owned();
            (StatusCode::INTERNAL_SERVER_ERROR, "failed", text)
        }
        Done::Failed(why) => (StatusCode::BAD_REQUEST, "failed", why.clone()),
    };
    let mut body = json!({
        "service-id": id.as_str(),
        "success": *done == Done::Deleted,
        "result": result,
        "message": message,
    });
    if let Some(agree) = agree {
        body["routers-agree"] = agree.into();
    }
    Reply::json(status, &body)
}
