//! The parameters of a service, typed, with their defaults (api §2.2, control-plane §0).

use crate::base::time::Duration;
use std::collections::BTreeMap;

/// Everything that can be said of a service. Units and ranges are those of api §2.2.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Shell command that starts an instance.
    pub cmd: String,
    /// Cores of one instance; > 0.
    pub cpus: f64,
    /// Memory of one instance in MiB; > 0.
    pub mem: f64,
    /// Free text; a new version is a new service.
    pub version: String,
    /// The OS user an instance runs as.
    pub run_as_user: String,
    /// A name for people; part of the service-id.
    pub name: Option<String>,
    /// Requests one instance takes at a time; 1 to 10 000.
    pub concurrency_level: u16,
    /// Environment of the instances.
    pub env: BTreeMap<String, String>,
    /// Labels without meaning to the router.
    pub metadata: BTreeMap<String, String>,
    /// Ports of an instance; 1 to 10.
    pub ports: u8,
    /// A new instance must be healthy within this time; zero: no limit.
    pub grace_period: Duration,
    /// Path of the health check.
    pub health_check_url: String,
    /// Time between health checks of a healthy instance.
    pub health_check_interval: Duration,
    /// Failed checks in a row after which an instance is unhealthy.
    pub health_check_max_consecutive_failures: u32,
    /// Which of the ports is checked; below `ports`.
    pub health_check_port_index: u8,
    /// Fewest instances while the service exists.
    pub min_instances: u32,
    /// Most instances.
    pub max_instances: u32,
    /// Share of an instance one outstanding request asks for; (0, 2].
    pub scale_factor: f64,
    /// Share of the gap closed per second when growing; (0, 1).
    pub scale_up_factor: f64,
    /// Share of the gap closed per second when shrinking; (0, 1).
    pub scale_down_factor: f64,
    /// Smaller changes are not made, in instances; [0, 1).
    pub jitter_threshold: f64,
    /// Share of the expired instances replaced at a time; (0, 1].
    pub expired_instance_restart_rate: f64,
    /// Age at which an instance is replaced.
    pub instance_expiry: Option<Duration>,
    /// Time without requests after which the service is deleted.
    pub idle_timeout: Option<Duration>,
    /// Requests that may wait for this service on one router; > 0.
    pub max_queue_length: u32,
    /// Which free instance a request gets.
    pub load_balancing: LoadBalancing,
    /// Growth of the pause between restarts of an instance that fails at once; ≥ 1.
    pub restart_backoff_factor: f64,
    /// Time between SIGTERM and SIGKILL.
    pub termination_grace_period: Duration,
    /// What happens at the instance when the client of a running request goes away.
    pub client_abort: ClientAbort,
    /// How the number of instances follows the demand.
    pub scaling_policy: ScalingPolicy,
}

/// Which free instance a request gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoadBalancing {
    /// The one started first.
    Oldest,
    /// The one started last.
    Youngest,
    /// Any.
    Random,
}

/// What happens at the instance when the client of a running request goes away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAbort {
    /// The connection is closed and the slot released.
    Cut,
    /// The answer is read to its end, then the slot is released.
    Finish,
}

/// How the number of instances follows the demand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScalingPolicy {
    /// The original's smoothing within a floor and a cap taken from what is seen.
    Prompt,
    /// The original's smoothing alone.
    Classic,
}
