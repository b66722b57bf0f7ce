//! Parameters and descriptions for the tests of this room.

use crate::base::ids::ServiceId;
use crate::core::service::{Description, Origin, Parameters, ScalingPolicy};
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
        max_queue_length: 1_000_000,
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
