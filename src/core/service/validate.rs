//! The checks of a description, in the order of api §2.4, with its messages.
//!
//! Values, then constraints, then what must hold between parameters, then what this router does not
//! offer. Each step names all its findings at once and ends the procedure.

use super::description::{Constraints, Defaults, Required};
use super::parameters::{CmdType, Parameters, Proto};
use super::table::{self, PARAMETERS, REQUIRED};
use crate::base::fault::{Class, Fault};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

type Core = BTreeMap<String, Value>;

/// What the messages about values and constraints begin with.
const LEAD: &str = "Service description using waiter headers/token improperly configured";

/// All parameters of a right description, defaults filled in.
pub(super) fn parameters(
    core: &Core,
    required: Required,
    defaults: &Defaults,
) -> Result<Parameters, Fault> {
    authentication(core)?;
    schema(core, required)?;
    let all = defaults.parameters.overlaid(core);
    constraints(core, &defaults.constraints)?;
    instances(&all)?;
    cmd_type(core)?;
    check_authentication(core)?;
    ports(core, &all)?;
    protocols(core, &all)?;
    namespace(core, &all)?;
    offered(core, &all)?;
    scheduler(&all, defaults)?;
    Ok(all)
}

fn misconfigured(message: impl Into<String>) -> Fault {
    Fault::new(Class::ServiceMisconfigured, message)
}

fn improper(texts: &[&str]) -> Fault {
    misconfigured(format!("{LEAD}\n{}", texts.join("\n")))
}

fn given<'a>(core: &'a Core, name: &str) -> Option<&'a str> {
    core.get(name).and_then(Value::as_str)
}

fn authentication(core: &Core) -> Result<(), Fault> {
    match core.get("authentication").map(|it| it.as_str().unwrap_or_default()) {
        None | Some("disabled" | "standard") => Ok(()),
        Some(other) => Err(Fault::new(
            Class::UnsupportedAuth,
            "authentication must be one of: 'disabled', 'standard'",
        )
        .with("authentication", other)),
    }
}

/// Step 2: each value on its own. Failed rows are collected as bits, so that messages come in the
/// order of the table at no cost where nothing failed.
fn schema(core: &Core, required: Required) -> Result<(), Fault> {
    let mut failed = 0_u64;
    for (name, value) in core {
        if let Some(at) = table::place(name)
            && !PARAMETERS[at].check.admits(value)
        {
            failed |= 1 << at;
        }
    }
    if required == Required::ForLaunch {
        for (at, row) in PARAMETERS[..REQUIRED].iter().enumerate() {
            failed |= u64::from(!core.contains_key(row.name)) << at;
        }
    }
    if failed == 0 {
        return Ok(());
    }
    Err(schema_fault(core, failed))
}

fn schema_fault(core: &Core, failed: u64) -> Fault {
    let (mut texts, mut issue) = (Vec::new(), String::new());
    for (at, row) in PARAMETERS.iter().enumerate() {
        if failed & (1 << at) == 0 {
            continue;
        }
        let value = core.get(row.name);
        texts.push(
            value
                .filter(|_| row.message.is_empty())
                .map_or_else(|| row.message.to_owned(), |it| row.check.complaint(it)),
        );
        let separator = if issue.is_empty() { "" } else { ", " };
        let found = value.map_or_else(|| "missing-required-key".into(), Value::to_string);
        let _ = write!(issue, "{separator}{}: {found}", row.name);
    }
    misconfigured(format!("{LEAD}\n{}", texts.join("\n"))).with("issue", issue)
}

/// Step 3: bounds of the operator, sorted by name.
fn constraints(core: &Core, most: &Constraints) -> Result<(), Fault> {
    let mut texts = Vec::new();
    if given(core, "cmd").is_some_and(|it| it.chars().count() > most.cmd_chars) {
        texts.push(format!("cmd must be at most {} characters", most.cmd_chars));
    }
    for (name, most) in [("cpus", most.cpus), ("mem", most.mem)] {
        if let Some(value) = core.get(name)
            && value.as_f64().is_some_and(|it| it > most)
        {
            texts.push(format!("{name} is {value} but the max allowed is {most}"));
        }
    }
    if texts.is_empty() {
        return Ok(());
    }
    let listed = texts.join(", ");
    Err(improper(&[&format!("The following fields exceed their allowed limits: {listed}")]))
}

/// Step 4.
fn instances(all: &Parameters) -> Result<(), Fault> {
    let (least, most) = (all.min_instances, all.max_instances);
    if least <= most {
        return Ok(());
    }
    Err(improper(&[&format!(
        "min-instances ({least}) must be less than or equal to max-instances ({most})"
    )]))
}

/// Step 5.
fn cmd_type(core: &Core) -> Result<(), Fault> {
    match given(core, "cmd-type") {
        None | Some("shell" | "docker") => Ok(()),
        Some(other) => Err(misconfigured(format!("Command type {other} is not supported"))),
    }
}

/// The name of one parameter of the health check, and of the same of the liveness check.
type Twins = [&'static str; 2];

const CHECKS: Twins = ["health", "liveness"];
const AUTHENTICATION: Twins = ["health-check-authentication", "liveness-check-authentication"];
const PORT_INDEX: Twins = ["health-check-port-index", "liveness-check-port-index"];
const PROTO: Twins = ["health-check-proto", "liveness-check-proto"];

/// The liveness check is as the health check where it says nothing.
fn twin(core: &Core, names: Twins, check: usize) -> Option<&Value> {
    core.get(names[check]).or_else(|| core.get(names[0]))
}

/// Step 6.
fn check_authentication(core: &Core) -> Result<(), Fault> {
    if given(core, "authentication") != Some("disabled") {
        return Ok(());
    }
    for (check, kind) in CHECKS.iter().enumerate() {
        if twin(core, AUTHENTICATION, check).and_then(Value::as_str) == Some("standard") {
            return Err(misconfigured(format!(
                "The {kind} check authentication (standard) cannot be enabled when authentication \
                 (disabled) is disabled"
            )));
        }
    }
    Ok(())
}

/// Whether anything in the description is about checks; where nothing is, the defaults hold and
/// need no look.
fn speaks_of_checks(core: &Core) -> bool {
    core.keys().any(|it| it.contains("-check-") || it == "ports" || it == "backend-proto")
}

/// Step 7.
fn ports(core: &Core, all: &Parameters) -> Result<(), Fault> {
    if !speaks_of_checks(core) {
        return Ok(());
    }
    for (check, kind) in CHECKS.iter().enumerate() {
        let index = index(core, all, check);
        if index >= u64::from(all.ports) {
            return Err(misconfigured(format!(
                "The {kind} check port index ({index}) must be smaller than ports ({})",
                all.ports
            )));
        }
    }
    Ok(())
}

fn index(core: &Core, all: &Parameters, check: usize) -> u64 {
    let given = twin(core, PORT_INDEX, check).and_then(Value::as_u64);
    given.unwrap_or_else(|| all.health_check_port_index.into())
}

/// Step 8: port 0 speaks one protocol.
fn protocols(core: &Core, all: &Parameters) -> Result<(), Fault> {
    if !speaks_of_checks(core) {
        return Ok(());
    }
    let backend = all.backend_proto.name();
    for (check, kind) in CHECKS.iter().enumerate() {
        let default = all.health_check_proto.map(Proto::name);
        let given = twin(core, PROTO, check).map_or(default, Value::as_str);
        if let Some(proto) = given
            && proto != backend
            && index(core, all, check) == 0
        {
            return Err(misconfigured(format!(
                "The backend-proto ({backend}) and {kind} check proto ({proto}) must match when \
                 {kind}-check-port-index is zero"
            )));
        }
    }
    Ok(())
}

/// Step 9. No profiles are configured.
fn namespace(core: &Core, all: &Parameters) -> Result<(), Fault> {
    if given(core, "namespace").is_some_and(|it| it != all.run_as_user) {
        return Err(misconfigured(
            "Service namespace must either be omitted or match the run-as-user.",
        ));
    }
    match given(core, "profile") {
        None => Ok(()),
        Some(name) => Err(misconfigured(format!(
            "Unsupported profile: {name}, there are no supported profiles"
        ))),
    }
}

/// A service that names a scheduler names one there is, where there are several.
fn scheduler(all: &Parameters, defaults: &Defaults) -> Result<(), Fault> {
    let runners = &defaults.runners;
    let Some(name) = &all.scheduler else { return Ok(()) };
    if runners.list().is_empty() || runners.of(Some(name)).is_some() {
        return Ok(());
    }
    let names: Vec<&str> = runners.list().iter().map(|it| it.name()).collect();
    let names = names.join(", ");
    Err(misconfigured(format!("scheduler {name} is not one of this router's: {names}.")))
}

/// What may be described but is not offered by this router (api §11.15).
fn offered(core: &Core, all: &Parameters) -> Result<(), Fault> {
    if all.backend_proto != Proto::Http {
        return Err(misconfigured(format!(
            "backend-proto {} is not supported: this router speaks http to instances only.",
            all.backend_proto.name()
        )));
    }
    if let Some(proto) = all.health_check_proto
        && proto != Proto::Http
    {
        return Err(misconfigured(format!(
            "health-check-proto {} is not supported: this router speaks http to instances only.",
            proto.name()
        )));
    }
    if core.contains_key("image") {
        return Err(misconfigured(
            "image is not supported: this router runs commands, not container images.",
        ));
    }
    if all.cmd_type == CmdType::Docker {
        return Err(misconfigured(
            "Command type docker is not supported: this router runs commands with a shell only.",
        ));
    }
    Ok(())
}
