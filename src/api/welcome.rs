//! `/`: the router greets (api §6.5), and says where to look.

use super::about::View;
use super::reply::Reply;
use crate::core::route::host_of;
use crate::wire::call::Call;
use crate::wire::error_body::wants_json;
use serde_json::json;

/// Pages worth a look, and what they show.
const PAGES: [(&str, &str); 6] = [
    ("/apps", "services"),
    ("/apps/<service-id>", "one service; DELETE ends its instances"),
    ("/metrics", "numbers, for Prometheus"),
    ("/settings", "settings in effect"),
    ("/state", "what the router knows"),
    ("/status", "whether it is alive"),
];

/// JSON for who wants it, else text.
pub(super) fn page(call: &Call, view: &View<'_>) -> Reply {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let host = text(call.head.authority());
    let hostname = text(host_of(call.head.authority()));
    let port = view.about.address.port();
    let time = view.now.iso();
    if wants_json(&call.head) {
        return Reply::ok(&json!({
            "cid": text(&call.cid),
            "host": host,
            "hostname": hostname,
            "message": "Welcome to Waiter",
            "port": port,
            "support-info": [],
            "timestamp": time,
        }));
    }
    let mut page = format!(
        "\n  Welcome to Waiter\n  =================\n\n      Host: {host}\n      Port: {port}\n   \
         Version: {}\n       CID: {}\n      Time: {time}\n\n  Pages\n  =====\n\n",
        view.about.version,
        text(&call.cid),
    );
    for (path, shows) in PAGES {
        page.push_str(&format!("  {path:<20}{shows}\n"));
    }
    Reply::text(&page)
}
