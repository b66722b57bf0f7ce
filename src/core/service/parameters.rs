//! The parameters of a service, typed, with their defaults (api §2.2, control-plane §0).

use super::table;
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
    /// What instances speak on port 0. Only `http` is served.
    pub backend_proto: Proto,
    /// What the health check speaks; none: as port 0.
    pub health_check_proto: Option<Proto>,
    /// How slots are shared between routers.
    pub distribution_scheme: DistributionScheme,
    /// What runs `cmd`.
    pub cmd_type: CmdType,
    /// Who may send requests; `*`: anyone.
    pub permitted_user: String,
    /// Which of the router's schedulers runs it; none: the first.
    pub scheduler: Option<String>,
    /// How long browsers are shown a waiting page while nothing is healthy; zero: not at all.
    pub interstitial: Duration,
}

impl Default for Parameters {
    /// The product's defaults (api §2.2), with an empty command.
    fn default() -> Self {
        Self {
            cmd: String::new(),
            cpus: 0.0,
            mem: 0.0,
            version: String::new(),
            run_as_user: String::new(),
            name: None,
            concurrency_level: 1,
            env: BTreeMap::new(),
            metadata: BTreeMap::new(),
            ports: 1,
            grace_period: Duration::from_secs(30),
            health_check_url: "/status".into(),
            health_check_interval: Duration::from_secs(10),
            health_check_max_consecutive_failures: 5,
            health_check_port_index: 0,
            min_instances: 1,
            max_instances: 500,
            scale_factor: 1.0,
            scale_up_factor: 0.1,
            scale_down_factor: 0.001,
            jitter_threshold: 0.5,
            expired_instance_restart_rate: 0.1,
            instance_expiry: Some(Duration::from_secs(7200 * 60)),
            idle_timeout: Some(Duration::from_secs(30 * 60)),
            // The original has 1 000 000: enough for one service to take a router down.
            max_queue_length: 10_000,
            load_balancing: LoadBalancing::Oldest,
            restart_backoff_factor: 2.0,
            termination_grace_period: Duration::ZERO,
            client_abort: ClientAbort::Cut,
            scaling_policy: ScalingPolicy::Prompt,
            backend_proto: Proto::Http,
            health_check_proto: None,
            distribution_scheme: DistributionScheme::Balanced,
            cmd_type: CmdType::Shell,
            permitted_user: "*".into(),
            scheduler: None,
            interstitial: Duration::ZERO,
        }
    }
}

impl Parameters {
    /// These values where `core` says nothing, those of `core` where it does. `core` is checked
    /// already.
    pub(super) fn overlaid(&self, core: &BTreeMap<String, serde_json::Value>) -> Self {
        let mut all = self.clone();
        for (name, value) in core {
            if let Some(at) = table::place(name) {
                (table::PARAMETERS[at].fill)(&mut all, value);
            }
        }
        let given = |name: &str| core.contains_key(name);
        if given("max-instances") && !given("min-instances") {
            all.min_instances = all.min_instances.min(all.max_instances);
        }
        // Who gives factors means the original's smoothing.
        let factors = ["scale-up-factor", "scale-down-factor", "jitter-threshold"];
        if factors.into_iter().any(given) && !given("scaling-policy") {
            all.scaling_policy = ScalingPolicy::Classic;
        }
        all
    }
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

/// A protocol an instance may speak.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proto {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 in clear text.
    H2c,
}

impl Proto {
    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::H2, Self::H2c].into_iter().find(|it| it.name() == name)
    }

    /// As descriptions write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2 => "h2",
            Self::H2c => "h2c",
        }
    }
}

/// How slots are shared between routers (control-plane §3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DistributionScheme {
    /// Each router gets slots of many instances.
    Balanced,
    /// Each instance belongs to one router as far as possible.
    Simple,
}

/// What runs `cmd`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CmdType {
    /// A shell.
    Shell,
    /// A container; refused.
    Docker,
}

impl LoadBalancing {
    /// As descriptions write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::Youngest => "youngest",
            Self::Random => "random",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        match name {
            "youngest" => Self::Youngest,
            "random" => Self::Random,
            _ => Self::Oldest,
        }
    }
}

impl ClientAbort {
    /// As descriptions write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Finish => "finish",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        if name == "finish" { Self::Finish } else { Self::Cut }
    }
}

impl ScalingPolicy {
    /// As descriptions write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Classic => "classic",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        if name == "classic" { Self::Classic } else { Self::Prompt }
    }
}

impl DistributionScheme {
    /// As descriptions write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Simple => "simple",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        if name == "simple" { Self::Simple } else { Self::Balanced }
    }
}

impl CmdType {
    pub(super) fn named(name: &str) -> Self {
        if name == "docker" { Self::Docker } else { Self::Shell }
    }
}
