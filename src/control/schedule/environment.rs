//! The environment of an instance (control-plane §11.1, §13.1; api §2.8).

use crate::core::service::Description;
use md5::{Digest, Md5};
use std::collections::BTreeMap;

/// What is inherited from the router. Anything more would make instances depend on how the router
/// was started.
const INHERITED: [&str; 2] = ["LANG", "PATH"];

/// Where an instance lives.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) cluster: &'a str,
    /// The user of instances whose description names none.
    pub(super) user: &'a str,
    pub(super) secret: &'a str,
    pub(super) directory: &'a str,
    pub(super) ports: &'a [u16],
}

/// All variables of an instance. `inherited` looks one up in the environment of the router.
pub(super) fn environment(
    description: &Description,
    place: &Place<'_>,
    inherited: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let parameters = &description.parameters;
    let mut variables = BTreeMap::new();
    for name in INHERITED {
        variables.extend(inherited(name).map(|value| (name.to_owned(), value)));
    }
    variables.insert("MESOS_SANDBOX".to_owned(), place.directory.to_owned());
    variables.extend(parameters.env.clone());
    if let Some(token) = variables.remove("WAITER_CONFIG_TOKEN") {
        variables.insert("WAITER_TOKEN".to_owned(), token);
    }
    let user = match parameters.run_as_user.as_str() {
        "" => place.user,
        user => user,
    };
    let mut set = |name: &str, value: &str| variables.insert(name.to_owned(), value.to_owned());
    set("HOME", place.directory);
    set("LOGNAME", user);
    set("USER", user);
    set("WAITER_CLUSTER", place.cluster);
    set("WAITER_CONCURRENCY_LEVEL", &parameters.concurrency_level.to_string());
    set("WAITER_CPUS", &parameters.cpus.to_string());
    set("WAITER_MEM_MB", &parameters.mem.to_string());
    set("WAITER_PASSWORD", &password(description.id.as_str(), place.secret));
    set("WAITER_SANDBOX", place.directory);
    set("WAITER_SERVICE_ID", description.id.as_str());
    set("WAITER_USERNAME", "waiter");
    for (index, port) in place.ports.iter().enumerate() {
        set(&format!("PORT{index}"), &port.to_string());
    }
    variables
}

/// The password of a service: MD5 of its id and the secret, in hexadecimal digits.
fn password(service: &str, secret: &str) -> String {
    let digest = Md5::new().chain_update(service).chain_update(secret).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::schedule::local::tests::description;

    #[test]
    fn all_variables() {
        let mut description = description("waiter-service-x", "true");
        let env = [("A", "b"), ("HOME", "/"), ("PATH", "/mine"), ("WAITER_CONFIG_TOKEN", "t")];
        description.parameters.env =
            env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let place = Place {
            cluster: "c",
            user: "nobody",
            secret: "s",
            directory: "/d/instances/x/1",
            ports: &[10_000, 10_007],
        };
        let inherited = |name: &str| (name == "LANG" || name == "PATH").then(|| "C".to_owned());
        let seen = environment(&description, &place, inherited);
        let seen: Vec<(&str, &str)> = seen.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [
            ("A", "b"),
            ("HOME", "/d/instances/x/1"),
            ("LANG", "C"),
            ("LOGNAME", "nobody"),
            ("MESOS_SANDBOX", "/d/instances/x/1"),
            ("PATH", "/mine"),
            ("PORT0", "10000"),
            ("PORT1", "10007"),
            ("USER", "nobody"),
            ("WAITER_CLUSTER", "c"),
            ("WAITER_CONCURRENCY_LEVEL", "1"),
            ("WAITER_CPUS", "0.5"),
            ("WAITER_MEM_MB", "64"),
            ("WAITER_PASSWORD", "0eed2597f191cc1335c884d7ea37c2f8"),
            ("WAITER_SANDBOX", "/d/instances/x/1"),
            ("WAITER_SERVICE_ID", "waiter-service-x"),
            ("WAITER_TOKEN", "t"),
            ("WAITER_USERNAME", "waiter"),
        ];
        assert_eq!(seen, expected);
    }
}
