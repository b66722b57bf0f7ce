//! What this Marathon knows: apps, tasks, deployments, delays, agents. All is behind one lock,
//! because handlers, reapers, health checks and the clockwork write it, and every answer must be of
//! one moment. Rules are methods told the time; effects are processes started and signalled.

mod delay;
mod deploy;
mod ending;
mod events;
mod health;
mod launch;
mod spec;
mod steps;
mod task;
mod valid;

use std::collections::BTreeMap;
use std::path::PathBuf;

use uuid::Uuid;

pub(crate) use self::delay::Delays;
pub(crate) use self::deploy::{Change, Deployment, Force, Refused, Taken};
pub(crate) use self::events::Hub;
pub(crate) use self::health::Health;
pub(crate) use self::spec::{CheckKind, CheckPort, HealthCheck, ServicePorts, Spec, complete};
pub(crate) use self::task::{Archived, KillReason, Task, TaskState};
pub(crate) use self::valid::{app_id, detail, not_json, object, shape, unprocessable, values};

use crate::clock::{Ms, iso};
use crate::options::Options;
use crate::outside::Outside;

/// An app that is wanted: the target, which shows at once, whatever runs yet.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) spec: Spec,
    /// Of the last change of any kind.
    pub(crate) version: Ms,
    pub(crate) scaled_at: Ms,
    /// Of the last change that restarts tasks.
    pub(crate) configured_at: Ms,
    /// Since when tasks are missing.
    pub(crate) queued_since: Option<Ms>,
}

/// A version that was.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) version: Ms,
    pub(crate) scaled_at: Ms,
    pub(crate) configured_at: Ms,
    pub(crate) spec: Spec,
}

/// The last task of an app that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) task_id: String,
    pub(crate) host: String,
    pub(crate) slave_id: String,
    pub(crate) message: String,
    pub(crate) state: &'static str,
    pub(crate) at: Ms,
    /// The version of the app it was launched with.
    pub(crate) version: Ms,
}

/// A Mesos agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) host: String,
    pub(crate) slave_id: String,
    /// Its own port, filled in when it listens.
    pub(crate) port: u16,
    /// Holds a folder per agent, and in it the sandboxes of its tasks.
    pub(crate) work_dir: PathBuf,
}

/// Everything. A clone is a stale view.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) framework_id: String,
    pub(crate) apps: BTreeMap<String, App>,
    pub(crate) versions: BTreeMap<String, Vec<Version>>,
    pub(crate) failures: BTreeMap<String, Failure>,
    /// By task id: what has not ended.
    pub(crate) tasks: BTreeMap<String, Task>,
    pub(crate) archive: Vec<Archived>,
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) delays: Delays,
    pub(crate) agents: Vec<Agent>,
    pub(crate) hub: Hub,
    /// No deployment of these apps moves; `*` stands for all.
    pub(crate) held: Vec<String>,
    /// Mesos makes no offers: nothing is launched.
    pub(crate) no_offers: bool,
    /// Instances that ended and are to be taken up again, with their next incarnation (1.10).
    vacancies: BTreeMap<String, Vec<(String, u32)>>,
    last_version: Ms,
    tasks_made: u64,
}

impl World {
    pub(crate) fn new(options: Options, agents: Vec<Agent>) -> Self {
        let delays = Delays::new(options.backoff_scale);
        Self {
            options,
            framework_id: framework_id(),
            apps: BTreeMap::new(),
            versions: BTreeMap::new(),
            failures: BTreeMap::new(),
            tasks: BTreeMap::new(),
            archive: Vec::new(),
            deployments: Vec::new(),
            delays,
            agents,
            hub: Hub::default(),
            held: Vec::new(),
            no_offers: false,
            vacancies: BTreeMap::new(),
            last_version: 0,
            tasks_made: 0,
        }
    }

    /// Time passed: deployments go on, missing tasks are launched, tasks begin to run, kills that
    /// last too long become hard. Checks of health that are due are handed to `outside`.
    pub(crate) fn tick(&mut self, outside: &Outside, now: Ms) {
        self.staged_tasks_run(now);
        self.drive_deployments(outside, now);
        self.launch_missing(outside, now);
        self.harden_kills(outside, now);
        self.start_checks(outside, now);
        self.judge_age(now);
    }

    /// As after a restart without its store: no app, no task, no deployment, another framework.
    /// Processes go on; nobody here knows them any more.
    pub(crate) fn forget(&mut self) {
        self.framework_id = framework_id();
        self.apps.clear();
        self.versions.clear();
        self.failures.clear();
        self.tasks.clear();
        self.vacancies.clear();
        self.deployments.clear();
        self.delays = Delays::new(self.options.backoff_scale);
        self.hub.close();
    }

    /// A version is a time, and no two are the same.
    pub(crate) fn next_version(&mut self, now: Ms) -> Ms {
        self.last_version = now.max(self.last_version + 1);
        self.last_version
    }

    /// Tasks of an app, oldest first.
    pub(crate) fn tasks_of(&self, app: &str) -> Vec<&Task> {
        // Ids begin with the app's name, so its tasks lie together.
        let prefix = format!("{}.", task::name_of(app));
        let near = self.tasks.range(prefix.clone()..).take_while(|(id, _)| id.starts_with(&prefix));
        let mut found: Vec<&Task> = near.map(|(_, it)| it).filter(|it| it.app_id == app).collect();
        found.sort_by_key(|it| it.number);
        found
    }

    /// Missing tasks of an app, which `/v2/queue` shows.
    pub(crate) fn missing(&self, app: &str) -> usize {
        let wanted = self.apps.get(app).map_or(0, |it| it.spec.instances());
        let live = self.tasks_of(app).iter().filter(|it| it.counts()).count();
        wanted.saturating_sub(live)
    }

    /// Those an app has, and those it cannot have.
    pub(crate) fn service_ports(&self, app: &str) -> ServicePorts {
        let of = |it: &App| it.spec.ports().iter().map(|it| it.port).collect::<Vec<_>>();
        let others = self.apps.iter().filter(|(id, _)| *id != app);
        ServicePorts {
            own: self.apps.get(app).map(of).unwrap_or_default(),
            taken: others.flat_map(|(_, it)| of(it)).collect(),
        }
    }

    fn judge_age(&mut self, now: Ms) {
        for task in self.tasks.values() {
            if let (TaskState::Running, Some(since)) = (task.state, task.started_at) {
                self.delays.on_age(&task.app_id, now - since);
            }
        }
    }
}

impl App {
    /// The row of the list of versions that this is.
    pub(crate) fn as_version(&self) -> Version {
        Version {
            version: self.version,
            scaled_at: self.scaled_at,
            configured_at: self.configured_at,
            spec: self.spec.clone(),
        }
    }
}

impl Version {
    pub(crate) fn name(&self) -> String {
        iso(self.version)
    }
}

fn framework_id() -> String {
    format!("{}-0000", Uuid::new_v4())
}
