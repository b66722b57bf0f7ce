//! `/service-id` and `/app-name`: which service a request names (api §2.9), and whether its sender
//! may start it.

use super::about::View;
use super::reply::Reply;
use crate::base::fault::{Class, Fault};
use crate::core::launch::{Claim, may_launch};
use crate::core::route::{Route, route};
use crate::core::service::{Description, Origin, from_headers, headers};
use crate::wire::call::Call;
use http::{Method, StatusCode};
use std::sync::Arc;

/// The id alone, as the plain body. The service is neither started nor stored.
pub(super) fn page(call: &Call, view: &View<'_>) -> Reply {
    match resolve(b"/", call, view) {
        Ok(description) => Reply::plain(StatusCode::OK, description.id.as_str()),
        Err(fault) => Reply::fault(&fault, call, view.now),
    }
}

/// The service that a request for this path with the fields of the call would go to.
///
/// # Errors
/// It would go to no service, or its description is wrong.
pub(super) fn resolve(
    path: &[u8],
    call: &Call,
    view: &View<'_>,
) -> Result<Arc<Description>, Fault> {
    let head = &call.head;
    let hosts = &view.about.hosts;
    let found = route(path, head.authority(), head.fields.iter(), hosts, |name| named(name, view))?;
    match found {
        Route::Static(description) => Ok(description),
        Route::Headers => {
            from_headers(head.fields.iter(), &view.about.user, &view.about.defaults).map(Arc::new)
        }
        Route::Api => Err(headers::unidentified()),
    }
}

/// Whether the sender of a call may start this service.
///
/// # Errors
/// 403 with the reason and the cure.
pub(super) fn may_start(call: &Call, view: &View<'_>) -> Result<(), Fault> {
    if !view.about.launches {
        let text = "This router launches no services (--scheduler none)";
        return Err(Fault::new(Class::ServiceForbidden, text));
    }
    let head = &call.head;
    let claim = Claim {
        peer: call.peer,
        authority: head.authority(),
        has_origin: head.fields.get(b"origin").is_some(),
        asks_method: head.method == Method::OPTIONS
            && head.fields.get(b"access-control-request-method").is_some(),
    };
    may_launch(&claim, &view.about.launch_from, &view.about.hosts)
}

/// Services that the operator named are few calls' business: a walk is good enough.
fn named(wanted: &str, view: &View<'_>) -> Option<Arc<Description>> {
    let descriptions = view.catalogue.services.values().map(|it| &it.state.description);
    let of_name = |it: &&Arc<Description>| match &it.origin {
        Origin::Static { name, .. } => name == wanted,
        Origin::Launched => false,
    };
    descriptions.into_iter().find(of_name).cloned()
}
