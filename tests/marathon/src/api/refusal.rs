//! Refusals in Marathon's words.

use serde_json::{Value, json};

use crate::http::{Request, Response};
use crate::options::Options;
use crate::world::Refused;

/// Others are at work on the app: the ids of their deployments.
pub(crate) fn locked(ids: &[String]) -> Response {
    let ids: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
    let message = "App is locked by one or more deployments. Override with the option '?force=true'. \
                   View details at '/v2/deployments/<DEPLOYMENT_ID>'.";
    Response::json(409, &json!({ "message": message, "deployments": ids }))
}

pub(super) fn refused(why: &Refused) -> Response {
    match why {
        Refused::Locked(ids) => locked(ids),
        Refused::TooMany(most) => Response::message(
            403,
            &format!(
                "Max number ({most}) of running deployments is achieved. Wait for existing \
                 deployments to complete or cancel one. You can increase max deployment number by \
                 using --max_running_deployments parameter but be advised that this can have \
                 negative effects on the performance."
            ),
        ),
    }
}

pub(super) fn no_app(id: &str) -> Response {
    Response::message(404, &format!("App '{id}' does not exist"))
}

pub(super) fn no_path(id: &str) -> Response {
    Response::message(404, &format!("Path '{id}' does not exist"))
}

/// None, if the request may pass.
pub(super) fn unauthorized(options: &Options, request: &Request) -> Option<Response> {
    let given = request.header("authorization").unwrap_or_default();
    let basic = options.user.as_ref().map(|it| format!("Basic {}", base64(it.as_bytes())));
    let token = options.token.as_ref();
    if basic.is_none() && token.is_none() {
        return None;
    }
    let fits_token =
        token.is_some_and(|it| given == format!("Bearer {it}") || given == format!("token={it}"));
    if fits_token || basic.is_some_and(|it| it == given) {
        return None;
    }
    let scheme = if options.user.is_some() { "Basic realm=\"Mesosphere\"" } else { "Bearer" };
    Some(Response::html(401, "Unauthorized").with("WWW-Authenticate", scheme))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().fold(0_u32, |all, it| (all << 8) | u32::from(*it));
        let all = all << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let letter = LETTERS[(all >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_what_clients_send() {
        for (text, expected) in
            [("u:p", "dTpw"), ("u:pw", "dTpwdw=="), ("u:pwd", "dTpwd2Q="), ("", "")]
        {
            assert_eq!(super::base64(text.as_bytes()), expected);
        }
    }
}
