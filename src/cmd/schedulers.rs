//! The schedulers of a router: started as the settings say.

use crate::api::Look;
use crate::cmd::cluster::Joined;
use crate::cmd::host;
use crate::config::{Auth, Config};
use crate::control::data_dir::DataDir;
use crate::control::schedule::marathon::sandbox::Agents;
use crate::control::schedule::marathon::{self, Lease, Secret, Ways};
use crate::control::schedule::{self, LocalScheduler};
use crate::control::{Event, Runners};
use crate::core::fact::Runner;
use crate::mesh::clock;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel};
use std::thread::{Builder, JoinHandle};

/// Starts every scheduler there is to be.
///
/// # Errors
/// Why one cannot be started.
pub(super) fn start(
    config: &Config,
    data_dir: &DataDir,
    joined: Option<&Joined>,
    events: &SyncSender<Event>,
) -> Result<Runners, String> {
    let mut runners = Runners::none();
    for runner in config.defaults.runners.list() {
        let (orders, ordered) = channel();
        let told = events.clone();
        let reports = move |report| {
            let _ = told.send(Event::Scheduler(report));
        };
        let thread = match runner {
            Runner::Local => {
                let mut settings =
                    schedule::Settings::new(data_dir, &config.cluster, &host::user());
                settings.ports = config.ports.clone();
                LocalScheduler::start(settings, ordered, reports)
            }
            Runner::Marathon => {
                check_secret(config)?;
                let settings = settings_of_marathon(config, data_dir, joined);
                marathon::start(&settings, ordered, reports)
            }
        };
        let name = runner.name();
        let thread =
            thread.map_err(|error| format!("cannot start the {name} scheduler: {error}"))?;
        watch(*runner, thread, events.clone())?;
        runners.add(*runner, orders);
    }
    Ok(runners)
}

/// How the folders of instances are looked into.
pub(super) fn look(config: &Config) -> Look {
    let agents = Agents::new(config.marathon.agent_port, config.marathon.timeout);
    Arc::new(move |runner, wanted| match runner {
        Runner::Local => schedule::list_folder(wanted),
        Runner::Marathon => agents.list(wanted),
    })
}

/// Tells the control loop when a scheduler has ended.
fn watch(runner: Runner, thread: JoinHandle<()>, events: SyncSender<Event>) -> Result<(), String> {
    let watcher = Builder::new().name("scheduler-end".into()).spawn(move || {
        let _ = thread.join();
        let _ = events.send(Event::SchedulerEnded(runner));
    });
    watcher.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

fn secret(config: &Config) -> Option<Secret> {
    config.marathon.auth.as_ref().map(|it| match it {
        Auth::Basic(path) => Secret::Basic(path.clone()),
        Auth::Token(path) => Secret::Token(path.clone()),
    })
}

/// A file that cannot be read is told at the start and not with every poll.
fn check_secret(config: &Config) -> Result<(), String> {
    let Some(secret) = secret(config) else { return Ok(()) };
    let explain = |error| format!("cannot read the file of --marathon-auth: {error}");
    secret.read().map(drop).map_err(explain)
}

fn settings_of_marathon(
    config: &Config,
    data_dir: &DataDir,
    joined: Option<&Joined>,
) -> marathon::Settings {
    let it = &config.marathon;
    let secret_of_services = joined.map_or_else(|| data_dir.secret(), |it| &it.password);
    let lease = joined.map_or_else(Lease::forever, |it| {
        let (right, membership) = (it.right.clone(), it.membership.clone());
        Lease {
            leads: Arc::new(move || right.get() - clock::now()),
            is_member: Arc::new(move || membership.get() - clock::now()),
        }
    });
    marathon::Settings {
        ways: Ways {
            urls: it.urls.clone(),
            secret: secret(config),
            ca: it.ca.clone(),
            timeout: it.timeout,
            answer_bytes_max: config.limits.scheduler_answer_bytes,
        },
        prefix: config.defaults.service_prefix.clone(),
        cluster: config.cluster.clone(),
        user: host::user(),
        secret: secret_of_services.to_owned(),
        task_user: it.user.clone(),
        init: it.init.clone(),
        interval: it.poll,
        patience: it.doubt,
        agent_dir: it.agent_dir.clone(),
        lease,
        cores: config.cores.clone(),
    }
}
