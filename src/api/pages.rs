//! Which page a call is for (api §1).

use super::about::View;
use super::errand::Errand;
use super::query::{Query, decoded};
use super::reply::Reply;
use super::{app, apps, logs, metrics, ping, resolve, settings, state, status, welcome};
use crate::base::fault::{Class, Fault};
use crate::base::ids::ServiceId;
use crate::wire::call::Call;
use http::Method;

/// What comes of a call.
#[derive(Debug)]
pub(super) enum Step {
    /// The reply.
    Reply(Reply),
    /// Something that takes time, and then the reply.
    Errand(Errand),
}

/// Finds the page and asks it.
pub(super) fn answer(call: &Call, view: &View<'_>) -> Step {
    let query = &Query::parse(call.head.query());
    let path = call.head.path();
    Step::Reply(match path {
        b"/" => only_get(call, view, || welcome::page(call, view)),
        b"/app-name" | b"/service-id" => resolve::page(call, view),
        b"/apps" => only_get(call, view, || apps::page(query, view)),
        b"/metrics" => metrics::page(view),
        b"/settings" => settings::page(view),
        b"/state" => state::index(view),
        b"/status" => status::page(call, query, view),
        b"/waiter-ping" => return ping::page(call, query, view),
        _ => {
            if let Some(id) = segment(path, b"/apps/") {
                return app::page(&id, call, query, view);
            }
            let above = path.strip_suffix(b"/logs").unwrap_or_default();
            if let Some(id) = segment(above, b"/apps/") {
                return logs::page(&id, call, query, view);
            }
            if let Some(id) = segment(path, b"/state/distribution/") {
                return match ServiceId::parse(&id) {
                    Some(service) => Step::Errand(Errand::Distribution(service)),
                    None => Step::Reply(Reply::not_found(call, view.now)),
                };
            }
            match segment(path, b"/state/") {
                Some(name) => state::page(&name, call, view),
                None => Reply::not_found(call, view.now),
            }
        }
    })
}

/// The only segment behind `prefix`.
fn segment(path: &[u8], prefix: &[u8]) -> Option<String> {
    let rest = path.strip_prefix(prefix)?;
    (!rest.is_empty() && !rest.contains(&b'/')).then(|| decoded(rest))
}

fn only_get(call: &Call, view: &View<'_>, page: impl FnOnce() -> Reply) -> Reply {
    match call.head.method {
        Method::GET | Method::HEAD => page(),
        _ => {
            let fault = Fault::new(Class::MethodNotAllowed, "Only GET supported");
            Reply::fault(&fault, call, view.now)
        }
    }
}
