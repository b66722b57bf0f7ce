//! Descriptions for tests of other rooms, and for the simulator.

use super::{Description, LoadBalancing, Origin, Parameters};
use crate::base::ids::ServiceId;
use std::collections::BTreeMap;

/// A launched service with this name as its id, and the product's defaults.
pub fn description(name: &str) -> Description {
    with_parameters(name, Parameters { cmd: "true".into(), ..Parameters::default() })
}

/// As [`description`], with this order of preference and length of queue.
pub fn queueing(name: &str, load_balancing: LoadBalancing, max_queue_length: u32) -> Description {
    let it = description(name);
    let parameters = Parameters { load_balancing, max_queue_length, ..it.parameters };
    with_parameters(name, parameters)
}

fn with_parameters(name: &str, parameters: Parameters) -> Description {
    let (id, core) = (ServiceId::new(name), BTreeMap::new());
    Description { id, core, parameters, origin: Origin::Launched }
}
