//! Parameters and descriptions for the tests of this room.

use crate::base::ids::ServiceId;
use crate::base::time::Duration;
use crate::core::service::{
    ClientAbort, Description, LoadBalancing, Origin, Parameters, ScalingPolicy,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The defaults of control-plane §0.
pub(crate) fn parameters() -> Parameters {
    Parameters {
        cmd: "true".into(),
        cpus: 0.1,
        mem: 128.0,
        version: "1".into(),
        run_as_user: "nobody".into(),
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
        max_queue_length: 1_000_000,
        load_balancing: LoadBalancing::Oldest,
        restart_backoff_factor: 2.0,
        termination_grace_period: Duration::ZERO,
        client_abort: ClientAbort::Cut,
        scaling_policy: ScalingPolicy::Prompt,
        ..Parameters::default()
    }
}

/// The same with the original's scaling.
pub(crate) fn classic() -> Parameters {
    Parameters { scaling_policy: ScalingPolicy::Classic, ..parameters() }
}

/// A launched service.
pub(crate) fn description(id: &str, parameters: Parameters) -> Arc<Description> {
    let id = ServiceId::new(id);
    Arc::new(Description { id, core: BTreeMap::new(), parameters, origin: Origin::Launched })
}
