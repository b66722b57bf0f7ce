//! `waiter cluster status`: the routers, as one of them sees them.

use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// A router answers within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Exit codes: something is not well; it could not be asked.
const UNWELL: u8 = 1;
const UNKNOWN: u8 = 3;

/// Arguments of `waiter cluster`.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Show the routers of the cluster, as one of them sees them. Exit code 1: something is not
    /// well; 3: it could not be asked
    Status(Status),
}

#[derive(Args, Clone, Debug)]
struct Status {
    /// A router
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9091")]
    url: String,
    /// Print what the router says, as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: ClusterArgs) -> ExitCode {
    let What::Status(args) = args.what;
    let url = format!("{}/state/cluster", args.url.trim_end_matches('/'));
    match ask(&url) {
        Ok(page) => {
            let (mut text, troubles) = (told(&page), troubles(&page));
            if args.json {
                text = format!("{page:#}\n");
            } else {
                troubles.iter().for_each(|it| text.push_str(&format!("! {it}\n")));
            }
            let _ = io::stdout().lock().write_all(text.as_bytes()); // nobody may listen
            if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(UNWELL) }
        }
        Err(why) => {
            let _ = writeln!(io::stderr().lock(), "waiter: {url}: {why}"); // as above
            ExitCode::from(UNKNOWN)
        }
    }
}

fn ask(url: &str) -> Result<Value, String> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let mut response = agent.get(url).call().map_err(|error| error.to_string())?;
    let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| format!("no JSON: {error}"))
}

/// One line per router.
fn told(page: &Value) -> String {
    let text = |it: &Value| it.as_str().unwrap_or("-").to_owned();
    let name = page["cluster"].as_str().unwrap_or("none: this router is alone");
    let mut out = format!("cluster {name}, epoch {}\n", page["epoch"]);
    for it in page["members"].as_array().into_iter().flatten() {
        let id = text(&it["id"]);
        let peers = page["peers"].as_array();
        let peer = peers.and_then(|all| all.iter().find(|peer| peer["id"] == id));
        let heard = match peer {
            None => "this router".to_owned(),
            Some(peer) if peer["silent-ms"].is_null() => "never heard".to_owned(),
            Some(peer) => format!("heard {} ms ago", peer["silent-ms"]),
        };
        let leads = if page["leader"]["id"] == id { ", leads" } else { "" };
        let place = format!("{}:{}", text(&it["address"]), it["port"]);
        out.push_str(&format!("  {id}  {place}  since {}  {heard}{leads}\n", text(&it["since"])));
    }
    out
}

/// What is not well.
fn troubles(page: &Value) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(why) = page["session"]["lost-why"].as_str() {
        let since = page["session"]["lost-since"].as_str().unwrap_or("-");
        all.push(format!("no session with ZooKeeper since {since}: {why}"));
    }
    if page["leader"]["id"].is_null() {
        all.push("nobody leads: nothing that routers share is scaled".to_owned());
    }
    if page["away"] == true {
        all.push("this router was stopped for a while and starts nothing yet".to_owned());
    }
    for it in page["peers"].as_array().into_iter().flatten() {
        let id = it["id"].as_str().unwrap_or("-");
        match (it["member?"] == true, it["silent-ms"].as_u64()) {
            (false, _) => all.push(format!("{id} has vanished and is not written off yet")),
            (true, None) => all.push(format!("{id} has never been heard")),
            (true, Some(silent)) if silent > 1000 => {
                all.push(format!("{id} has been silent for {silent} ms"));
            }
            _ => {}
        }
    }
    let stale = page["stale-counters"].as_array().into_iter().flatten();
    all.extend(stale.filter_map(Value::as_str).map(|it| format!("the counters of {it} are stale")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_well_is_told() {
        let well = json!({
            "router-id": "a", "cluster": "c", "epoch": 7,
            "members": [
                {"id": "a", "address": "10.0.0.1", "port": 9091, "since": "2026-01-01T00:00:00Z"},
                {"id": "b", "address": "10.0.0.2", "port": 9091, "since": "2026-01-01T00:00:00Z"},
            ],
            "leader": {"id": "b"}, "session": {"lost-why": null}, "away": false,
            "peers": [{"id": "b", "member?": true, "silent-ms": 3}], "stale-counters": [],
        });
        assert!(troubles(&well).is_empty());
        let text = told(&well);
        assert!(
            text.contains("a  10.0.0.1:9091") && text.contains("heard 3 ms ago, leads"),
            "{text}"
        );
        let mut ill = well;
        ill["session"] = json!({"lost-why": "gone", "lost-since": "2026"});
        ill["leader"]["id"] = Value::Null;
        ill["away"] = true.into();
        ill["peers"] = json!([
            {"id": "b", "member?": true, "silent-ms": 3000},
            {"id": "c", "member?": false, "silent-ms": null},
            {"id": "d", "member?": true, "silent-ms": null},
        ]);
        ill["stale-counters"] = json!(["b"]);
        assert_eq!(troubles(&ill).len(), 7);
    }
}
