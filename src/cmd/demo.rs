//! `waiter demo`: the whole loop in under a minute.
//!
//! Starts a router with the embedded defaults on a free loopback port, launches a small service
//! through an ordinary request that describes it, drives a stable, a spiking and an idle load at
//! it, and shows what happens until no instance is left.

mod client;
mod load;
mod screen;

use crate::base::time::{Duration, Instant};
use crate::cmd::serve::{self, Router, ServeArgs};
use crate::config::Written;
use crate::mesh::clock;
use clap::Args;
use client::Client;
use load::{Load, Tally};
use screen::{Line, Screen};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Clients while the load is stable, and while it spikes.
const STABLE: usize = 3;
const SPIKE: usize = 24;
/// When the spike begins and ends, and when the demo gives up.
const SPIKE_FROM: Duration = Duration::from_secs(9);
const SPIKE_TO: Duration = Duration::from_secs(20);
const GIVE_UP: Duration = Duration::from_secs(43);
/// A line is shown this often.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `waiter demo`.
#[derive(Args, Clone, Debug, Default)]
pub struct DemoArgs {
    /// Leave the router serving at the end, until it is told to end
    #[arg(long)]
    pub keep: bool,
    /// Keep the demo's data here [default: a folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// What a look at the service shows.
#[derive(Clone, Debug, Default)]
struct Seen {
    healthy: u64,
    instances: u64,
    wanted: u64,
    waiting: u64,
    outstanding: u64,
    reason: String,
}

/// Runs the demo.
pub fn run(args: &DemoArgs) -> ExitCode {
    crate::mesh::panics::abort_on_others();
    let (data_dir, ours) = match &args.data_dir {
        Some(dir) => (dir.clone(), false),
        None => (std::env::temp_dir().join(format!("waiter-demo-{}", std::process::id())), true),
    };
    let result = start(&data_dir).and_then(|router| play(router, args));
    if ours && !args.keep {
        let _ = std::fs::remove_dir_all(&data_dir);
    }
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(lost) => {
            serve::complain(&[format!("the demo lost {lost} requests")]);
            ExitCode::FAILURE
        }
        Err(reason) => {
            serve::complain(&[reason]);
            ExitCode::FAILURE
        }
    }
}

fn start(data_dir: &std::path::Path) -> Result<Router, String> {
    let written = Written {
        listen: vec!["127.0.0.1:0".to_owned()],
        data_dir: Some(data_dir.to_owned()),
        log: Some("off".to_owned()),
        gc_interval_ms: Some(250),
        drain_secs: Some(5),
        ..Written::default()
    };
    let config = serve::configure(ServeArgs { config: None, written, ..ServeArgs::default() })
        .map_err(|mistakes| mistakes.join("; "))?;
    Router::start(config)
}

/// Plays the load and returns how many requests were lost.
fn play(router: Router, args: &DemoArgs) -> Result<u64, String> {
    let address = router.addresses[0];
    let mut screen = Screen::new();
    let headers = description()?;
    screen.say(&format!("a router listens on {address}; the first request starts the service:"));
    screen.say(&format!("    curl {} http://{address}/", shown(&headers)));
    let began = clock::now();
    let cold = Client::new(address).get("/", &headers)?;
    let millis = (clock::now() - began).as_millis();
    screen.say(&format!("answered {} after {millis} ms, from zero instances", cold.status));
    let mut load = Load::new(address, headers);
    let total = watch(&mut load, address, &mut screen)?;
    let lost = total.lost;
    screen.end(&total);
    if args.keep {
        screen.say(&format!("still serving on {address}; end it with ctrl-c"));
        router.end_on_signals();
    } else {
        router.end();
    }
    match router.wait() {
        0 => Ok(lost),
        code => Err(format!("the router ended with code {code}")),
    }
}

/// Drives the load through its phases and shows each look, until no instance is left.
fn watch(load: &mut Load, address: SocketAddr, screen: &mut Screen) -> Result<Tally, String> {
    let began = clock::now();
    let mut last = began;
    let mut spiked = 0;
    loop {
        let age = clock::now() - began;
        let (phase, clients) = phase(age);
        load.set(clients);
        pause_until(last + LOOK);
        let (now, before) = (clock::now(), last);
        last = now;
        let tally = load.tally();
        let seen = look(address, load.service())?;
        spiked = spiked.max(seen.healthy);
        screen.line(&Line { age, phase, tally: &tally, span: now - before, seen: &seen });
        if phase == "idle" && seen.instances == 0 {
            screen.say(&format!("no instance is left; {spiked} served at the peak"));
            return Ok(load.total());
        }
        if age > GIVE_UP {
            return Err(format!("{} instances are left after {} s", seen.instances, age.as_secs()));
        }
    }
}

fn phase(age: Duration) -> (&'static str, usize) {
    if age < SPIKE_FROM {
        ("stable", STABLE)
    } else if age < SPIKE_TO {
        ("spike", SPIKE)
    } else {
        ("idle", 0)
    }
}

fn pause_until(until: Instant) {
    std::thread::sleep(until - clock::now());
}

/// The demo's service: this very program, as a test instance that works 60 ms per request.
fn description() -> Result<Vec<(String, String)>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let command = format!("exec '{}' instance --port $PORT0 --delay-ms 60", program.display());
    let fields = [
        ("x-waiter-name", "demo"),
        ("x-waiter-cmd", &command),
        ("x-waiter-cpus", "0.1"),
        ("x-waiter-mem", "128"),
        ("x-waiter-version", "1"),
        ("x-waiter-max-instances", "16"),
        ("x-waiter-idle-timeout-secs", "4"),
    ];
    Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
}

fn shown(headers: &[(String, String)]) -> String {
    headers.iter().map(|(name, value)| format!("-H \"{name}: {value}\" ")).collect()
}

/// Asks the router itself about the service, as an operator would.
fn look(address: SocketAddr, service: &str) -> Result<Seen, String> {
    let page = Client::new(address).get(&format!("/state/{service}"), &[])?;
    let apps = Client::new(address).get(&format!("/apps/{service}"), &[])?;
    let state: serde_json::Value = serde_json::from_slice(&page.body).unwrap_or_default();
    let app: serde_json::Value = serde_json::from_slice(&apps.body).unwrap_or_default();
    let scaling = &state["state"]["autoscaler-state"];
    let list = app["instances"]["active-instances"].as_array().cloned().unwrap_or_default();
    let healthy = list.iter().filter(|it| it["healthy?"] == true).count() as u64;
    Ok(Seen {
        healthy,
        instances: list.len() as u64,
        wanted: scaling["scale-to-instances"].as_u64().unwrap_or_default(),
        waiting: state["state"]["responder-state"]["waiting-requests"].as_u64().unwrap_or_default(),
        outstanding: app["request-metrics"]["outstanding"].as_u64().unwrap_or_default(),
        reason: scaling["reason"].as_str().unwrap_or_default().to_owned(),
    })
}
