//! The schedulers of a router: started as the settings say.

use crate::cmd::host;
use crate::config::Config;
use crate::control::data_dir::DataDir;
use crate::control::schedule::{self, LocalScheduler};
use crate::control::{Event, Runners};
use crate::core::fact::Runner;
use std::sync::mpsc::{SyncSender, channel};
use std::thread::{Builder, JoinHandle};

/// Starts every scheduler there is to be.
///
/// # Errors
/// Why one cannot be started.
pub(super) fn start(
    config: &Config,
    data_dir: &DataDir,
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
            Runner::Marathon => todo!(),
        };
        let name = runner.name();
        let thread =
            thread.map_err(|error| format!("cannot start the {name} scheduler: {error}"))?;
        watch(*runner, thread, events.clone())?;
        runners.add(*runner, orders);
    }
    Ok(runners)
}

/// Tells the control loop when a scheduler has ended.
fn watch(runner: Runner, thread: JoinHandle<()>, events: SyncSender<Event>) -> Result<(), String> {
    let watcher = Builder::new().name("scheduler-end".into()).spawn(move || {
        let _ = thread.join();
        let _ = events.send(Event::SchedulerEnded(runner));
    });
    watcher.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}
