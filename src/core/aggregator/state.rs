//! The state of one service, as it is published: whole, and replaced as a whole.

use super::deployment::DeploymentError;
use super::health::CheckError;
use crate::base::time::{Date, Duration};
use crate::core::fact::{Flags, InstanceFact, Runner};
use crate::core::service::Description;
use std::sync::Arc;

/// An instance with all that is known of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instance {
    /// What its scheduler says; the flags are united with those of its health checks.
    pub fact: InstanceFact,
    /// Whether it takes requests.
    pub healthy: bool,
    /// Status of the last health check, while it is not healthy and had answered.
    pub health_check_status: Option<u16>,
    /// Why the last health check got no answer, while it is not healthy.
    pub health_check_error: Option<CheckError>,
}

impl Instance {
    /// Whether it is to be replaced.
    pub fn is_expired(&self) -> bool {
        self.fact.flags.has(Flags::EXPIRED)
    }
}

/// How many instances a service has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Those that take requests.
    pub healthy: u32,
    /// Those requested of the scheduler.
    pub requested: u32,
    /// Those that exist.
    pub scheduled: u32,
}

/// What ails a service without keeping it from running.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Instability {
    /// An instance used more memory than described.
    NotEnoughMemory,
}

impl Instability {
    /// As the API names it.
    pub fn key(self) -> &'static str {
        match self {
            Self::NotEnoughMemory => "not-enough-memory",
        }
    }
}

/// How a service is, in one word (api §4.0).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It cannot be started.
    Failing,
    /// Nothing is requested and nothing exists.
    Inactive,
    /// No instance is healthy yet.
    Starting,
    /// An instance takes requests.
    Running,
}

impl Status {
    /// As the API names it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Failing => "Failing",
            Self::Inactive => "Inactive",
            Self::Starting => "Starting",
            Self::Running => "Running",
        }
    }
}

/// The state of one service. Lists are ordered by start, then id.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// What its owner described.
    pub description: Arc<Description>,
    /// Instances that take requests, expired ones included.
    pub healthy: Vec<Arc<Instance>>,
    /// Instances that do not, starting ones included.
    pub unhealthy: Vec<Arc<Instance>>,
    /// Instances that were never healthy and are within their grace.
    pub starting: Vec<Arc<Instance>>,
    /// Instances to be replaced: the healthy ones first.
    pub expired: Vec<Arc<Instance>>,
    /// Instances that ended by themselves or were given up: the newest ten.
    pub failed: Vec<Arc<Instance>>,
    /// Instances that were ended on purpose: the newest twelve, in the order of the notices.
    pub killed: Vec<Arc<Instance>>,
    /// How many there are.
    pub counts: Counts,
    /// Why it cannot be started; only while none is healthy.
    pub deployment_error: Option<DeploymentError>,
    /// What ails it.
    pub instability: Option<Instability>,
    /// Time from launch to healthy, newer launches weighing more.
    pub boot_time: Option<Duration>,
    /// What runs it; none: nothing of ours, or nothing yet.
    pub runner: Option<Runner>,
    /// Why what its scheduler says of it is not believed yet; empty: it is.
    pub doubt: String,
    /// Since when it is not.
    pub doubted_since: Option<Date>,
}

impl State {
    /// Of a service that is only described: it has no instances, and had none.
    pub fn absent(description: Arc<Description>) -> Self {
        Self {
            description,
            healthy: Vec::new(),
            unhealthy: Vec::new(),
            starting: Vec::new(),
            expired: Vec::new(),
            failed: Vec::new(),
            killed: Vec::new(),
            counts: Counts::default(),
            deployment_error: None,
            instability: None,
            boot_time: None,
            runner: None,
            doubt: String::new(),
            doubted_since: None,
        }
    }

    /// How the service is, in one word.
    pub fn status(&self) -> Status {
        match self.counts {
            _ if self.deployment_error.is_some() => Status::Failing,
            Counts { requested: 0, scheduled: 0, .. } => Status::Inactive,
            Counts { healthy: 0, .. } => Status::Starting,
            Counts { .. } => Status::Running,
        }
    }

    /// Expired instances that are healthy, and that are not.
    pub fn expired_counts(&self) -> (u32, u32) {
        let healthy = self.expired.iter().filter(|it| it.healthy).count();
        (healthy as u32, (self.expired.len() - healthy) as u32)
    }
}
