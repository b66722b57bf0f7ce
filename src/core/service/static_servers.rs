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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::service::{ClientAbort, LoadBalancing};

    #[test]
    fn static_servers_are_named_by_the_operator() {
        let text = "bench=127.0.0.1:8081,[::1]:80;concurrency-level=64;health-check-url=/p?a=b;\
                    load-balancing=random;max-queue-length=9;client-abort=finish";
        let bench = parse_static(text, &Defaults::default()).unwrap();
        let Origin::Static { name, addresses, checked } = &bench.origin else { panic!("static") };
        assert_eq!((name.as_str(), *checked, addresses.len()), ("bench", true, 2));
        let all = &bench.parameters;
        assert_eq!((all.concurrency_level, all.max_queue_length), (64, 9));
        assert_eq!(
            (all.load_balancing, all.client_abort),
            (LoadBalancing::Random, ClientAbort::Finish)
        );
        assert_eq!(all.health_check_url, "/p?a=b");
        let instance = |at: usize| static_instance_id(&bench.id, &addresses[at]);
        assert_eq!(instance(0).suffix(), "127-0-0-1-8081");
        assert_eq!(instance(1).suffix(), "--1-80");
        assert_eq!(instance(0).service(), bench.id.as_str());

        let id = |text| parse_static(text, &Defaults::default()).unwrap().id;
        assert_eq!(id("a.b=1.2.3.4:5"), id(" a.b = 9.9.9.9:9 ;"));
        assert_ne!(id("a.b=1.2.3.4:5"), id("a-b=1.2.3.4:5"));
        assert_ne!(id("a=1.2.3.4:5"), id("a=1.2.3.4:5;concurrency-level=2"));
        assert!(id("a.b=1.2.3.4:5").as_str().starts_with("waiter-service-a-b-"));
        let plain = parse_static("a=1.2.3.4:5", &Defaults::default()).unwrap();
        assert!(matches!(plain.origin, Origin::Static { checked: false, .. }) && plain.is_static());
    }

    #[test]
    fn mistakes_in_static_servers_are_told_all_at_once() {
        let fault = |text: &str| parse_static(text, &Defaults::default()).unwrap_err().message;
        assert_eq!(
            fault(
                "Bench=1.2.3.4:5,1.2.3.4:5,host:80,1.2.3.4:0;cmd=x;what=1;ports;load-balancing=x"
            ),
            "--static Bench=1.2.3.4:5,1.2.3.4:5,host:80,1.2.3.4:0;cmd=x;what=1;ports;\
             load-balancing=x:\
             \n  The name \"Bench\" must be 1 to 63 lower-case letters, digits, dots, dashes and \
             underscores, a letter or digit first.\
             \n  1.2.3.4:5 is given more than once.\
             \n  \"host:80\" is no address: write 127.0.0.1:8081 or [::1]:8081, no host names.\
             \n  1.2.3.4:0: port 0 is no port to connect to.\
             \n  cmd means nothing for servers that exist already.\
             \n  There is no parameter what.\
             \n  \"ports\" must be written PARAMETER=VALUE.\
             \n  load-balancing must be one of 'oldest', 'youngest' or 'random'."
        );
        for (text, sentence) in [
            ("", "It must begin with NAME=ADDRESS:PORT."),
            ("a", "It must begin with NAME=ADDRESS:PORT."),
            ("a=", "At least one address must be given."),
            ("localhost=1.2.3.4:5", "The name localhost is a way to reach the router itself."),
            ("127.0.0.1=1.2.3.4:5", "The name 127.0.0.1 is a way to reach the router itself."),
            ("a=1.2.3.4:5;backend-proto=h2", "backend-proto h2 is not supported"),
            ("a=1.2.3.4:5;concurrency-level=1;concurrency-level=2", "is given more than once."),
        ] {
            assert!(fault(text).contains(sentence), "{}", fault(text));
        }
    }
}
