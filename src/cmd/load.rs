//! `waiter load`: sends requests at a constant rate and tells how long the answers took.
//!
//! The load is *open*: a request is due by schedule, whether or not earlier ones were answered. Its
//! latency is counted from the moment it was due, so a server that stalls cannot hide the requests
//! that had to wait for it (coordinated omission). A request that is late is sent late and
//! never dropped; one that is not answered in the end counts as an error, and its age as a latency.
//!
//! Without a rate the load is *closed*: every connection asks again as soon as it is answered. That
//! measures capacity; its latencies say little.
//!
//! Each thread drives its connections by epoll and allocates nothing per request.

mod answer;
mod plan;
mod schedule;
mod tally;
mod worker;

use crate::mesh::clock;
use plan::Plan;
use std::io::{self, Write};
use std::process::ExitCode;
use tally::{Report, Tally};
use worker::Worker;

/// Some requests were not answered, or not with success.
const UNSERVED: u8 = 1;
const MISUSED: u8 = 2;

/// Arguments of `waiter load`.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    /// What to ask for: http://HOST:PORT/PATH
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// Requests per second, all connections together; 0: as fast as answers come
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rate: u64,
    /// Connections, made before the first request
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub connections: usize,
    /// Requests are due for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub duration: f64,
    /// A request that was sent is given up after so long, and at the end all are
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub timeout: f64,
    /// Host field of the requests [default: that of the URL]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Field to add to each request; repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Send POST with a body of so many bytes [default: GET without]
    #[arg(long, value_name = "N")]
    pub body_bytes: Option<usize>,
    /// Threads that share the connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the load and prints what came of it.
pub fn run(args: &LoadArgs) -> ExitCode {
    let plan = match Plan::of(args) {
        Ok(plan) => plan,
        Err(mistakes) => {
            super::serve::complain(&mistakes);
            return ExitCode::from(MISUSED);
        }
    };
    let report = match drive(&plan) {
        Ok(report) => report,
        Err(reason) => {
            super::serve::complain(&[reason]);
            return ExitCode::from(UNSERVED);
        }
    };
    let text = if args.json { format!("{}\n", report.json()) } else { report.text() };
    let printed = io::stdout().lock().write_all(text.as_bytes());
    if printed.is_ok() && report.tally.all_served() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNSERVED)
    }
}

/// Connects everything, then lets all threads begin at the same moment.
fn drive(plan: &Plan) -> Result<Report, String> {
    let cannot = |error: io::Error| format!("cannot connect to {}: {error}", plan.address);
    // The limit of descriptors is the only one that many connections meet.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut workers = Vec::new();
    for at in 0..plan.threads {
        workers.push(Worker::connect(plan, at).map_err(cannot)?);
    }
    let began = clock::now();
    let mut total = Tally::default();
    let mut ended = began;
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            workers.into_iter().map(|it| scope.spawn(move || it.run(began))).collect();
        threads.into_iter().map(|it| it.join().expect("a worker does not panic")).collect()
    });
    for result in results {
        let (tally, end) = result.map_err(|error| format!("cannot wait for sockets: {error}"))?;
        total.add(&tally);
        ended = ended.max(end);
    }
    // The last request is due before the end: without it the rate would seem higher than it was.
    let elapsed = (ended - began).max(plan.duration);
    Ok(Report { tally: total, asked_rate: plan.rate, elapsed })
}
