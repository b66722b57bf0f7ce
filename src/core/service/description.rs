//! A service as its owner described it, checked, with all defaults and its id.
//!
//! A `Description` exists only checked: whoever holds one needs no second look at its values.

use super::table::PARAMETERS;
use super::{Parameters, Runners, identity, validate};
use crate::base::address::SocketAddr;
use crate::base::fault::{Class, Fault};
use crate::base::ids::ServiceId;
use crate::core::fact::Runner;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A service as its owner described it, and what follows from that with all defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Its id: hash of the explicit parameters (api §2.8).
    pub id: ServiceId,
    /// The parameters that were given explicitly, as JSON values, by name.
    pub core: BTreeMap<String, Value>,
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

/// What the operator decided for all services.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// What every service-id begins with; no dot in it.
    pub service_prefix: String,
    /// The parameters that a description leaves out.
    pub parameters: Parameters,
    /// What no description may exceed.
    pub constraints: Constraints,
    /// The schedulers there are.
    pub runners: Runners,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            service_prefix: "waiter-service-".into(),
            parameters: Parameters::default(),
            constraints: Constraints::default(),
            runners: Runners::new(vec![Runner::Local]),
        }
    }
}

/// Bounds within the ranges of the parameters (api §2.2: constraint).
#[derive(Clone, Debug, PartialEq)]
pub struct Constraints {
    /// Longest `cmd`, in characters.
    pub cmd_chars: usize,
    /// Most cores of one instance.
    pub cpus: f64,
    /// Most memory of one instance, in MiB.
    pub mem: f64,
}

impl Default for Constraints {
    fn default() -> Self {
        Self { cmd_chars: 1200, cpus: 32.0, mem: 131_072.0 }
    }
}

/// Which parameters must be given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Required {
    /// Those without which nothing can be launched.
    ForLaunch,
    /// None: nothing is launched.
    Nothing,
}

/// Describes a service from its explicit parameters, as the store keeps them: checks them again and
/// computes the id. Names that are no parameters are dropped.
///
/// # Errors
/// A wrong value (400), or a user other than the requester (403).
pub fn from_core(
    mut core: BTreeMap<String, Value>,
    requester: &str,
    defaults: &Defaults,
) -> Result<Description, Fault> {
    core.retain(|name, _| super::table::place(name).is_some());
    launched(core, requester, defaults)
}

/// As [`from_core`], for a map that holds parameters only.
pub(super) fn launched(
    core: BTreeMap<String, Value>,
    requester: &str,
    defaults: &Defaults,
) -> Result<Description, Fault> {
    let parameters = validate::parameters(&core, Required::ForLaunch, defaults)?;
    authorize(&parameters, requester)?;
    let id = identity::launched(&defaults.service_prefix, &core);
    Ok(Description { id, core, parameters, origin: Origin::Launched })
}

/// Who may run and invoke a service (api §5.4): this router has one user.
fn authorize(parameters: &Parameters, requester: &str) -> Result<(), Fault> {
    if parameters.run_as_user != requester {
        return Err(Fault::new(Class::ServiceForbidden, "Authenticated user cannot run service")
            .with("authenticated-user", requester)
            .with("run-as-user", parameters.run_as_user.as_str()));
    }
    if parameters.permitted_user != "*" && parameters.permitted_user != requester {
        let message = "This user isn't allowed to invoke this service";
        return Err(Fault::new(Class::ServiceForbidden, message)
            .with("authenticated-user", requester)
            .with("permitted-user", parameters.permitted_user.as_str()));
    }
    Ok(())
}

impl Description {
    /// Whether its instances are servers named by the operator.
    pub fn is_static(&self) -> bool {
        matches!(self.origin, Origin::Static { .. })
    }

    /// The explicit parameters as a JSON object (api §4.1 `service-description`).
    pub fn to_json(&self) -> Value {
        let entries = self.core.iter().map(|(name, value)| (name.clone(), value.clone()));
        Value::Object(entries.collect())
    }

    /// All parameters as a JSON object, defaults filled in (api §4.1 `effective-parameters`).
    pub fn effective_json(&self) -> Value {
        let entry = |name: &str| self.effective(name).map(|it| (name.to_owned(), it));
        Value::Object(PARAMETERS.iter().filter_map(|it| entry(it.name)).collect::<Map<_, _>>())
    }

    /// The value of one parameter: the explicit one, else its default; none where there is none.
    pub fn effective(&self, name: &str) -> Option<Value> {
        let row = &PARAMETERS[super::table::place(name)?];
        let value = self.core.get(name).cloned().unwrap_or_else(|| (row.show)(self));
        (!value.is_null()).then_some(value)
    }
}
