//! Which page a call is for (api §1).

use super::about::View;
use super::errand::Errand;
use super::query::{Query, decoded};
use super::reply::Reply;
use super::{app, apps, status};
use crate::base::fault::{Class, Fault};
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
        b"/status" => status::page(call, query, view),
        b"/apps" => match only_get(call) {
            Ok(()) => apps::page(call, query, view),
            Err(fault) => Reply::fault(&fault, call, view.now),
        },
        _ => {
            if let Some(id) = segment(path, b"/apps/") {
                return app::page(&id, call, query, view);
            }
            Reply::not_found(call, view.now)
        }
    })
}

/// The only segment behind `prefix`.
fn segment(path: &[u8], prefix: &[u8]) -> Option<String> {
    let rest = path.strip_prefix(prefix)?;
    (!rest.is_empty() && !rest.contains(&b'/')).then(|| decoded(rest))
}

fn only_get(call: &Call) -> Result<(), Fault> {
    match call.head.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Fault::new(Class::MethodNotAllowed, "Only GET supported")),
    }
}
