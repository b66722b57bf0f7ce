//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Stands in for Marathon (and its Mesos agents) in tests: launches real processes, answers
/// Marathon's REST API, and misbehaves on request. Prints its ports as one line of JSON when ready.
#[derive(Parser, Debug, Clone)]
#[command(name = "marathon-stand-in", version, args_override_self = true)]
pub(crate) struct Options {
    /// Where Marathon's API listens
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,

    /// Where the fault port listens
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR:PORT")]
    pub(crate) faults: SocketAddr,

    /// Mesos agents: the first has the address 127.0.0.1, the next 127.0.0.2 and so on
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = agent_count())]
    pub(crate) agents: u8,

    /// Further Marathons that stand by in this process: they proxy to the leader and can become it
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) standbys: u8,

    /// Only stand by: proxy everything to the leader at this address, but 302 for the events
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) standby_of: Option<String>,

    /// Shapes of this version of Marathon
    #[arg(long, value_enum, default_value = "1.10")]
    pub(crate) generation: Generation,

    /// Folder for sandboxes; a new one under the system's temporary folder, removed at the end, if
    /// not given
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,

    /// Host ports that tasks get. They lie below the kernel's own range, so that no connection of
    /// somebody else takes one between choice and use
    #[arg(long, default_value = "20000-31999", value_name = "FROM-TO", value_parser = range)]
    pub(crate) ports: (u16, u16),

    /// Require HTTP basic authentication
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) user: Option<String>,

    /// Require this token (`Authorization: Bearer T` or `token=T`)
    #[arg(long, value_name = "T")]
    pub(crate) token: Option<String>,

    /// How long each step of a deployment lasts at least
    #[arg(long, default_value_t = 50, value_name = "MS")]
    pub(crate) deployment_step_ms: i64,

    /// How long a task is staged before it runs
    #[arg(long, default_value_t = 20, value_name = "MS")]
    pub(crate) staging_ms: i64,

    /// Factor on the delays of back-off
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    pub(crate) backoff_scale: f64,

    /// Factor on delay, grace and interval of health checks (not on their timeout)
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    pub(crate) health_scale: f64,

    /// Time between two heartbeats of the event stream
    #[arg(long, default_value_t = 10_000, value_name = "MS")]
    pub(crate) heartbeat_ms: u64,

    /// How long a request is held when there is no leader, before it is answered 502
    #[arg(long, default_value_t = 2_500, value_name = "MS")]
    pub(crate) leader_wait_ms: u64,

    /// How long there is no leader after `DELETE /v2/leader`
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pub(crate) election_ms: i64,

    /// Deployments that may be at work at once; more are refused with 403
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) max_running_deployments: usize,

    /// End a task whose processes use more memory than its `mem` (looked at ten times a second)
    #[arg(long)]
    pub(crate) enforce_memory: bool,

    /// End when the standard input ends: what started this is gone
    #[arg(long)]
    pub(crate) until_stdin_closes: bool,

    /// Only wait for the end of the standard input, then end all that has its sandbox in this folder
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) sweep: Option<PathBuf>,

    /// And remove that folder
    #[arg(long, hide = true)]
    pub(crate) sweep_folder: bool,
}

/// How answers look. Both are lenient in what they take.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// Nulls are printed, health results carry `taskId`, tasks are named `x.<uuid>`, lost ones are
    /// TASK_LOST
    #[value(name = "1.3")]
    V1_3,
    /// What is absent is left out, `instanceId`, `x.instance-<uuid>._app.<n>`, roles
    #[value(name = "1.10")]
    V1_10,
}

fn agent_count() -> impl clap::builder::TypedValueParser<Value = u8> {
    clap::value_parser!(u8).range(1..=100)
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('-').ok_or("FROM-TO is wanted")?;
    let read = |it: &str| it.parse::<u16>().map_err(|why| format!("{it}: {why}"));
    let (from, to) = (read(from)?, read(to)?);
    if from == 0 || to < from { Err(format!("{text} holds no port")) } else { Ok((from, to)) }
}
