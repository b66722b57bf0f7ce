//! Services that exist already: `--static name=addr:port[,addr:port…][;parameter=value…]`.
//!
//! Their ids say nothing about where the servers are, so servers come and go without a new service;
//! the ids of the instances say nothing else, so all routers agree on them, over restarts too.

use super::description::{Defaults, Description, Origin, Required};
use super::table::{self, PARAMETERS};
use super::{headers, identity, validate};
use crate::base::address::{IpAddr, SocketAddr};
use crate::base::fault::{Class, Fault};
use crate::base::ids::{InstanceId, ServiceId};
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest name of a static service.
pub const NAME_MAX: usize = 63;

/// Parameters that mean something where nothing is launched.
const MEANINGFUL: [&str; 9] = [
    "backend-proto",
    "client-abort",
    "concurrency-level",
    "distribution-scheme",
    "health-check-interval-secs",
    "health-check-max-consecutive-failures",
    "health-check-url",
    "load-balancing",
    "max-queue-length",
];

/// Reads one `--static` specification. Values of parameters are written as in headers.
///
/// # Errors
/// All mistakes at once, one a line.
pub fn parse_static(text: &str, defaults: &Defaults) -> Result<Description, Fault> {
    let mut mistakes = Vec::new();
    let mut sections = text.split(';');
    let (name, list) = name_and_list(sections.next().unwrap_or_default(), &mut mistakes);
    let addresses = addresses(list, &mut mistakes);
    let mut core = BTreeMap::from([("name".to_owned(), Value::from(name))]);
    for section in sections.map(str::trim).filter(|it| !it.is_empty()) {
        parameter(section, &mut core, &mut mistakes);
    }
    if !mistakes.is_empty() {
        return Err(fault(text, &mistakes));
    }
    let parameters = validate::parameters(&core, Required::Nothing, defaults)
        .map_err(|it| fault(text, &[it.message]))?;
    let checked = core.contains_key("health-check-url");
    Ok(Description {
        id: identity::named(&defaults.service_prefix, name, &core),
        core,
        parameters,
        origin: Origin::Static { name: name.to_owned(), addresses, checked },
    })
}

/// The id of the server at this address: `<service-id>.127-0-0-1-8081`.
pub fn static_instance_id(service: &ServiceId, address: &SocketAddr) -> InstanceId {
    let dashed = |it: char| if matches!(it, '.' | ':') { '-' } else { it };
    let text = address.to_string();
    let suffix: String = text.chars().filter(|it| !"[]".contains(*it)).map(dashed).collect();
    InstanceId::new(service, &suffix)
}

fn fault(text: &str, mistakes: &[String]) -> Fault {
    Fault::new(
        Class::ServiceMisconfigured,
        format!("--static {text}:\n  {}", mistakes.join("\n").replace('\n', "\n  ")),
    )
}

fn name_and_list<'a>(section: &'a str, mistakes: &mut Vec<String>) -> (&'a str, &'a str) {
    let (name, list) = section.split_once('=').unwrap_or_else(|| {
        mistakes.push("It must begin with NAME=ADDRESS:PORT.".into());
        (section, "")
    });
    let name = name.trim();
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let right = name.bytes().next().is_some_and(plain)
        && name.len() <= NAME_MAX
        && name.bytes().all(|it| plain(it) || matches!(it, b'.' | b'-' | b'_'));
    if !right {
        mistakes.push(format!(
            "The name \"{name}\" must be 1 to {NAME_MAX} lower-case letters, digits, dots, dashes \
             and underscores, a letter or digit first."
        ));
    }
    if name == "localhost" || name.parse::<IpAddr>().is_ok() {
        mistakes.push(format!("The name {name} is a way to reach the router itself."));
    }
    (name, list)
}

fn addresses(list: &str, mistakes: &mut Vec<String>) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for text in list.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                mistakes.push(format!("{text}: port 0 is no port to connect to."));
            }
            Ok(address) if addresses.contains(&address) => {
                mistakes.push(format!("{text} is given more than once."));
            }
            Ok(address) => addresses.push(address),
            Err(_) => mistakes.push(format!(
                "\"{text}\" is no address: write 127.0.0.1:8081 or [::1]:8081, no host names."
            )),
        }
    }
    if addresses.is_empty() && mistakes.is_empty() {
        mistakes.push("At least one address must be given.".into());
    }
    addresses
}

fn parameter(section: &str, core: &mut BTreeMap<String, Value>, mistakes: &mut Vec<String>) {
    let Some((name, value)) = section.split_once('=') else {
        return mistakes.push(format!("\"{section}\" must be written PARAMETER=VALUE."));
    };
    let (name, value) = (name.trim(), value.trim());
    let Some(at) = table::place(name) else {
        return mistakes.push(format!("There is no parameter {name}."));
    };
    if !MEANINGFUL.contains(&name) {
        return mistakes.push(format!("{name} means nothing for servers that exist already."));
    }
    let row = &PARAMETERS[at];
    let value = headers::parse(row.form, value);
    if !row.check.admits(&value) {
        return mistakes.push(row.message.into());
    }
    if core.insert(name.to_owned(), value).is_some() {
        mistakes.push(format!("{name} is given more than once."));
    }
}
