//! The Marathon scheduler: instances are tasks of a cluster (control-plane §12).
//!
//! Plain threads that may wait: one asks for all apps again and again (`collector`), one listens to
//! what Marathon says by itself (`stream`), a few carry orders out (`worker`), and one hands orders
//! to those. What they decide by is plain values that are told the time: what is known and what is
//! doubted (`picture`), what an order takes (`flows`), how words become facts (`mapping`), what an
//! app says (`descriptor`), what does not fit (`drift`), when it is asked again (`pace`).

mod aside;
mod client;
mod collector;
mod credentials;
mod descriptor;
mod drift;
mod flows;
mod hosts;
mod mapping;
mod pace;
mod picture;
pub mod sandbox;
mod stream;
mod worker;

pub use client::{Lease, Left, Ways};
pub use credentials::Secret;
pub use mapping::{Means, Sandboxes};
pub use picture::{Answer, Picture, Seen};

use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::fact::{Hints, Order, Report};
use aside::step_aside;
use client::Client;
use collector::{Collector, Terms};
use descriptor::Common;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use worker::{Task, Worker};

/// Threads that carry orders out.
const WORKERS: usize = 4;
/// Notes that wait while Marathon is asked.
const NOTES_MAX: usize = 10_000;

/// What the Marathon scheduler is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How Marathon is reached.
    pub ways: Ways,
    /// What the ids of our apps begin with.
    pub prefix: String,
    /// Name of the cluster of routers.
    pub cluster: String,
    /// The user of services that name none.
    pub user: String,
    /// From which the passwords of services follow.
    pub secret: String,
    /// The user tasks run as; none: Marathon's own choice.
    pub task_user: Option<String>,
    /// What commands are an argument of; empty: a shell runs them.
    pub init: Vec<String>,
    /// Time between two polls.
    pub interval: Duration,
    /// For so long it is not believed that a service is gone which nothing explains.
    pub patience: Duration,
    /// The folder of each Mesos agent, if that is known.
    pub agent_dir: Option<String>,
    /// How long this router may give orders.
    pub lease: Lease,
    /// Cores of the shards, which have better to do.
    pub cores: Vec<usize>,
}

/// What those who act tell the one who asks.
#[derive(Debug)]
enum Note {
    /// A service was deleted, by then.
    Deleted(ServiceId, Instant),
    /// An instance was ended.
    Ended(InstanceId),
    /// Something was done to a service.
    Touched(ServiceId),
    /// Something has changed.
    Hint,
    /// Whether hints come in.
    Hints(Hints),
}

/// How those who act tell the one who asks.
#[derive(Clone, Debug)]
struct Notes(SyncSender<Note>);

impl Notes {
    /// Tells it something that must not be lost; whether anybody listens still.
    fn tell(&self, note: Note) -> bool {
        self.0.send(note).is_ok()
    }

    /// Tells it that something has changed, which is known where much else waits to be told;
    /// whether anybody listens still.
    fn hint(&self) -> bool {
        !matches!(self.0.try_send(Note::Hint), Err(TrySendError::Disconnected(_)))
    }
}

/// Where orders are carried out.
#[derive(Clone, Debug)]
struct Workers(Vec<Sender<Task>>);

impl Workers {
    fn give(&self, service: &ServiceId, task: Task) {
        let at = service.hash64() as usize % self.0.len();
        let _ = self.0[at].send(task); // workers end after whoever gives them work
    }
}

/// Starts the threads. The one that is returned ends after [`Order::End`]; what runs on the cluster
/// runs on.
///
/// # Errors
/// A file cannot be read, or a thread cannot be started.
pub fn start<R>(
    settings: &Settings,
    orders: Receiver<Order>,
    reports: R,
) -> io::Result<JoinHandle<()>>
where
    R: Fn(Report) + Clone + Send + 'static,
{
    let Settings { ways, lease, .. } = settings;
    let client = || Client::new(ways.clone(), lease.clone(), stream::SILENCE);
    let (notes, noted) = sync_channel(NOTES_MAX);
    let notes = Notes(notes);
    let common = Common {
        cluster: settings.cluster.clone(),
        user: settings.user.clone(),
        secret: settings.secret.clone(),
        task_user: settings.task_user.clone(),
        init: settings.init.clone(),
    };
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let (tasks, given) = channel();
        let worker = Worker::new(client()?, common.clone(), reports.clone(), notes.clone());
        let name = format!("marathon-{number}");
        let cores = settings.cores.clone();
        Builder::new().name(name).spawn(move || {
            step_aside(&cores);
            worker.run(&given);
        })?;
        workers.push(tasks);
    }
    let workers = Workers(workers);
    let (listener, prefix) = (client()?, settings.prefix.clone());
    let cores = settings.cores.clone();
    Builder::new().name("marathon-events".into()).spawn(move || {
        step_aside(&cores);
        stream::listen(listener, &prefix, &notes);
    })?;
    let terms = Terms {
        prefix: settings.prefix.clone(),
        interval: settings.interval,
        patience: settings.patience,
        sandboxes: Sandboxes { agent_dir: settings.agent_dir.clone(), framework: None },
    };
    let collector = Collector::new(client()?, terms, reports, workers.clone());
    let cores = settings.cores.clone();
    Builder::new().name("marathon-polls".into()).spawn(move || {
        step_aside(&cores);
        collector.run(&noted);
    })?;
    Builder::new().name("marathon".into()).spawn(move || hand_out(&orders, &workers))
}

/// Gives each order to the worker of its service. After the end nothing is waited for: an answer
/// that is under way changes nothing any more.
fn hand_out(orders: &Receiver<Order>, workers: &Workers) {
    for order in orders {
        if matches!(order, Order::End | Order::EndNow) {
            return;
        }
        let service = worker::service_of(&order);
        workers.give(&service, Task::Order(order));
    }
}
