//! `/v2/deployments`, and the answer to every write that made one.

use serde_json::{Value, json};

use super::{Answer, Call, refusal};
use crate::clock::iso;
use crate::http::Response;
use crate::http::request::Default;
use crate::world::{Deployment, Refused, Taken};

pub(super) fn list(call: &Call<'_>) -> Answer {
    let shown = |it: &Deployment| {
        let (steps, current) = (it.steps_json(), it.current_json());
        json!({
            "id": it.id, "version": iso(it.version), "affectedApps": it.apps(), "affectedPods": [],
            "steps": steps, "currentActions": current, "currentStep": it.current,
            "totalSteps": it.steps.len(),
        })
    };
    let list: Vec<Value> = call.world.deployments.iter().map(shown).collect();
    Ok(Response::json(200, &json!(list)))
}

pub(super) fn cancel(call: &mut Call<'_>, id: &str) -> Answer {
    let missing = || Response::message(404, &format!("DeploymentPlan {id} does not exist"));
    if call.request.flag("force", Default::False) {
        call.world.cancel(id, call.now).ok_or_else(missing)?;
        return Ok(Response::empty(202));
    }
    let taken = call.world.revert(id, call.now).ok_or_else(missing)?;
    Ok(result(&taken))
}

/// The answer to a write.
pub(super) fn taken(it: Result<Taken, Refused>) -> Answer {
    it.map(|it| result(&it)).map_err(|it| refusal::refused(&it))
}

fn result(it: &Taken) -> Response {
    Response::json(200, &json!({ "version": iso(it.version), "deploymentId": it.id }))
        .with("Marathon-Deployment-Id", it.id.clone())
}

/// Subscribers hear who changed an app.
pub(super) fn tell_post(call: &mut Call<'_>, id: &str) {
    let Some(app) = call.world.apps.get(id).cloned() else { return };
    let peer = call.request.peer.ip().to_string();
    call.world.tell_api_post(&peer, &call.request.uri, &app, call.now);
}
