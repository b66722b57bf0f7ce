//! One task: a process on an agent, or what Mesos says of it.

use std::path::PathBuf;

use super::health::Health;
use crate::clock::Ms;
use crate::options::Generation;

#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Stays when a task is replaced in place (1.10); the task's own id in 1.3.
    pub(crate) instance_id: String,
    pub(crate) incarnation: u32,
    /// Tells older tasks from younger ones.
    pub(crate) number: u64,
    pub(crate) app_id: String,
    pub(crate) agent: usize,
    pub(crate) ports: Vec<u16>,
    pub(crate) state: TaskState,
    pub(crate) staged_at: Ms,
    pub(crate) started_at: Option<Ms>,
    /// The version of the app at launch, and that of its configuration.
    pub(crate) version: Ms,
    pub(crate) configured_at: Ms,
    /// One per health check of the app.
    pub(crate) health: Vec<Health>,
    pub(crate) kill: Option<Kill>,
    /// Why the agent ended it, if it did: more memory than it may use, in MiB.
    pub(crate) memory_exceeded: Option<(f64, f64)>,
    /// Leader of the process group. None once the process has been handed over to nobody.
    pub(crate) pid: Option<i32>,
    pub(crate) sandbox: PathBuf,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) kill_grace_s: i64,
}

/// `STAGING → (STARTING) → RUNNING → KILLING`, and from anywhere to an end, where it is no task any
/// more. `Unreachable` is a running task of which Mesos has lost sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskState {
    Staging,
    Starting,
    Running,
    Killing,
    Unreachable,
}

impl TaskState {
    /// 1.3 did not tell a task that starts or is killed from one that is staged or runs.
    pub(crate) fn name(self, generation: Generation) -> &'static str {
        match (self, generation) {
            (Self::Staging, _) | (Self::Starting, Generation::V1_3) => "TASK_STAGING",
            (Self::Starting, Generation::V1_10) => "TASK_STARTING",
            (Self::Running, _) | (Self::Killing, Generation::V1_3) => "TASK_RUNNING",
            (Self::Killing, Generation::V1_10) => "TASK_KILLING",
            (Self::Unreachable, _) => "TASK_UNREACHABLE",
        }
    }
}

/// A kill that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) reason: KillReason,
    pub(crate) hard_at: Ms,
    pub(crate) hard: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// Somebody asked; another takes its place.
    Asked,
    /// Not wanted any more: scaled down, deleted, replaced by another version.
    Surplus,
    /// Its health check failed too often, last for this cause.
    Unhealthy(String),
}

/// A task that ended, for the agent's state.
#[derive(Debug, Clone)]
pub(crate) struct Archived {
    pub(crate) id: String,
    pub(crate) agent: usize,
    pub(crate) sandbox: PathBuf,
    pub(crate) framework_id: String,
}

/// What a task's id begins with. An app's id holds no `_`, so no two apps share a name.
pub(crate) fn name_of(app: &str) -> String {
    app.trim_start_matches('/').replace('/', "_")
}

impl Task {
    /// Whether it counts against the wanted number. What is killed to be replaced does so until it
    /// has ended, what is killed for good does not.
    pub(crate) fn counts(&self) -> bool {
        !matches!(&self.kill, Some(Kill { reason: KillReason::Surplus, .. }))
    }

    /// Runs, and passes all its checks, each of which has a result.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == TaskState::Running && self.health.iter().all(Health::alive)
    }

    pub(crate) fn is_healthy(&self) -> bool {
        let known = || self.health.iter().filter(|it| it.has_result());
        known().count() > 0 && known().all(Health::alive)
    }

    pub(crate) fn is_unhealthy(&self) -> bool {
        self.health.iter().any(|it| it.has_result() && !it.alive())
    }
}
