//! What a service is: its parameters, its description, its id.

pub mod parameters;

pub use parameters::{ClientAbort, LoadBalancing, Parameters, ScalingPolicy};

use crate::base::address::SocketAddr;
use crate::base::ids::ServiceId;
use std::collections::BTreeMap;

/// A service as its owner described it, and what follows from that with all defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Its id: hash of the explicit parameters (api §2.8).
    pub id: ServiceId,
    /// The parameters that were given explicitly, as JSON values, by name.
    pub core: BTreeMap<String, serde_json::Value>,
    /// All parameters, defaults filled in.
    pub parameters: Parameters,
    /// Where its instances come from.
    pub origin: Origin,
}

/// Where the instances of a service come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A scheduler launches them.
    Launched,
    /// They are servers that exist already: named by the operator, never launched, scaled, killed
    /// or collected.
    Static {
        /// The name by which requests find the service (Host or `x-waiter-token`).
        name: String,
        /// Where the servers are.
        addresses: Vec<SocketAddr>,
        /// Whether the router checks their health itself (`health-check-url` was given).
        checked: bool,
    },
}

impl Description {
    /// Whether its instances are servers named by the operator.
    pub fn is_static(&self) -> bool {
        matches!(self.origin, Origin::Static { .. })
    }
}
