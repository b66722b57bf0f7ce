//! What somebody wants of an app: its definition with all defaults, as JSON, and typed questions
//! about the parts that mean something here. Everything else is kept and printed as it was given.

use serde_json::{Map, Value, json};

use crate::options::Generation;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec(pub(crate) Map<String, Value>);

/// How a task checks that it is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) kind: CheckKind,
    pub(crate) grace_s: i64,
    pub(crate) interval_s: i64,
    pub(crate) timeout_s: i64,
    pub(crate) delay_s: i64,
    /// 0 = a task is never killed for failures.
    pub(crate) max_failures: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckKind {
    Http {
        path: String,
        port: CheckPort,
    },
    Tcp {
        port: CheckPort,
    },
    Command(String),
    /// HTTPS is not spoken here; such a check always fails, and says so.
    Unknown(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckPort {
    /// Which of the task's ports.
    Index(usize),
    /// A fixed port.
    Fixed(u16),
}

/// A port as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortWish {
    /// The service port; also the host port if `requirePorts` is set.
    pub(crate) port: u16,
    pub(crate) name: Option<String>,
}

impl Spec {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        self.0.get(key).and_then(Value::as_f64).unwrap_or(0.0)
    }

    pub(crate) fn count(&self, key: &str) -> i64 {
        self.0.get(key).and_then(Value::as_i64).unwrap_or(0)
    }

    pub(crate) fn instances(&self) -> usize {
        usize::try_from(self.count("instances")).unwrap_or(0)
    }

    pub(crate) fn set_instances(&mut self, count: usize) {
        self.0.insert("instances".into(), json!(count));
    }

    pub(crate) fn list(&self, key: &str) -> &[Value] {
        self.0.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Names and values of an object whose values are texts (or become ones).
    pub(crate) fn texts(&self, key: &str) -> Vec<(String, String)> {
        let Some(object) = self.0.get(key).and_then(Value::as_object) else { return Vec::new() };
        let text = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
        object.iter().map(|(key, value)| (key.clone(), text(value))).collect()
    }

    pub(crate) fn ports(&self) -> Vec<PortWish> {
        let read = |it: &Value| PortWish {
            port: it
                .get("port")
                .and_then(Value::as_u64)
                .and_then(|it| it.try_into().ok())
                .unwrap_or(0),
            name: it.get("name").and_then(Value::as_str).map(str::to_owned),
        };
        self.list("portDefinitions").iter().map(read).collect()
    }

    pub(crate) fn health_checks(&self) -> Vec<HealthCheck> {
        self.list("healthChecks").iter().map(HealthCheck::of).collect()
    }

    pub(crate) fn kill_grace_s(&self) -> i64 {
        self.0.get("taskKillGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(3)
    }

    /// Whether both ask for the same but for the count: such a change restarts nothing.
    pub(crate) fn differs_in_count_only(&self, other: &Self) -> bool {
        let bare = |it: &Self| {
            let mut it = it.0.clone();
            it.remove("instances");
            it
        };
        bare(self) == bare(other)
    }
}

impl HealthCheck {
    fn of(value: &Value) -> Self {
        let number = |key: &str| value.get(key).and_then(Value::as_i64).unwrap_or(0);
        let port = match value.get("port").and_then(Value::as_u64) {
            Some(port) if value.get("portIndex").is_none_or(Value::is_null) => {
                CheckPort::Fixed(u16::try_from(port).unwrap_or(0))
            }
            _ => CheckPort::Index(usize::try_from(number("portIndex")).unwrap_or(0)),
        };
        let path = value.get("path").and_then(Value::as_str).unwrap_or("/").to_owned();
        let kind = match value.get("protocol").and_then(Value::as_str).unwrap_or("HTTP") {
            "HTTP" | "MESOS_HTTP" => CheckKind::Http { path, port },
            "TCP" | "MESOS_TCP" => CheckKind::Tcp { port },
            "COMMAND" => CheckKind::Command(
                value
                    .pointer("/command/value")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            ),
            other => CheckKind::Unknown(other.to_owned()),
        };
        Self {
            kind,
            grace_s: number("gracePeriodSeconds"),
            interval_s: number("intervalSeconds"),
            timeout_s: number("timeoutSeconds"),
            delay_s: number("delaySeconds"),
            max_failures: number("maxConsecutiveFailures"),
        }
    }
}

/// Service ports that were not chosen get the next free one from here on.
pub(crate) const FIRST_SERVICE_PORT: u16 = 10_000;

/// Service ports that an app may keep, and those of other apps.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServicePorts {
    pub(crate) own: Vec<u16>,
    pub(crate) taken: Vec<u16>,
}

impl ServicePorts {
    /// One it had before, else the first that is free.
    fn next(&mut self) -> u16 {
        if !self.own.is_empty() {
            return self.own.remove(0);
        }
        let free = (FIRST_SERVICE_PORT..).find(|port| !self.taken.contains(port)).unwrap_or(0);
        self.taken.push(free);
        free
    }

    fn use_up(&mut self, port: u16) {
        self.own.retain(|it| *it != port);
        self.taken.push(port);
    }
}

/// Fills in what was left out.
pub(crate) fn complete(
    mut given: Map<String, Value>,
    generation: Generation,
    ports: ServicePorts,
) -> Spec {
    given.retain(|_, value| !value.is_null());
    settle_ports(&mut given, ports);
    for (key, value) in defaults(generation) {
        given.entry(key).or_insert(value);
    }
    // Whole or not, these are one type: who sends 32 and then 32.0 has changed nothing.
    for key in ["cpus", "mem", "disk", "backoffFactor"] {
        if let Some(number) = given.get(key).and_then(Value::as_f64) {
            given.insert(key.to_owned(), json!(number));
        }
    }
    if let Some(checks) = given.get_mut("healthChecks").and_then(Value::as_array_mut) {
        for check in checks.iter_mut().filter_map(Value::as_object_mut) {
            complete_check(check, generation);
        }
    }
    Spec(given)
}

/// `ports` is the older way to write `portDefinitions`. Without either there is one port.
fn settle_ports(given: &mut Map<String, Value>, mut ports: ServicePorts) {
    let from_ports = given.remove("ports").and_then(|it| it.as_array().cloned());
    let definitions = given.entry("portDefinitions").or_insert_with(|| {
        let ports = from_ports.unwrap_or_else(|| vec![json!(0)]);
        json!(ports.into_iter().map(|port| json!({ "port": port })).collect::<Vec<_>>())
    });
    let number = |it: &Value| it.get("port").and_then(Value::as_u64).unwrap_or(0);
    let chosen = definitions.as_array().into_iter().flatten().map(number);
    for port in chosen.filter_map(|it| u16::try_from(it).ok()).filter(|it| *it != 0) {
        ports.use_up(port);
    }
    for it in definitions.as_array_mut().into_iter().flatten() {
        let is_open = number(it) == 0;
        let Some(it) = it.as_object_mut() else { continue };
        it.entry("protocol").or_insert_with(|| json!("tcp"));
        it.entry("labels").or_insert_with(|| json!({}));
        if is_open {
            it.insert("port".into(), json!(ports.next()));
        }
    }
}

fn defaults(generation: Generation) -> Vec<(String, Value)> {
    let common = json!({
        "instances": 1, "cpus": 1.0,
        "mem": 128, "disk": 0, "gpus": 0, "executor": "", "env": {}, "labels": {},
        "constraints": [], "healthChecks": [], "backoffSeconds": 1, "backoffFactor": 1.15,
        "requirePorts": false, "dependencies": [], "fetch": [],
        "upgradeStrategy": { "minimumHealthCapacity": 1, "maximumOverCapacity": 1 },
    });
    let own = match generation {
        Generation::V1_3 => json!({
            "maxLaunchDelaySeconds": 3600, "uris": [], "storeUrls": [], "readinessChecks": [],
            "secrets": {}, "cmd": null, "args": null, "user": null, "container": null,
            "acceptedResourceRoles": null, "ipAddress": null, "residency": null,
            "taskKillGracePeriodSeconds": null,
        }),
        Generation::V1_10 => json!({
            "maxLaunchDelaySeconds": 300, "networks": [{ "mode": "host" }], "role": "*",
            "killSelection": "YOUNGEST_FIRST",
            "unreachableStrategy": { "inactiveAfterSeconds": 0, "expungeAfterSeconds": 0 },
        }),
    };
    let entries = |it: Value| it.as_object().cloned().unwrap_or_default();
    entries(common).into_iter().chain(entries(own)).collect()
}

fn complete_check(check: &mut Map<String, Value>, generation: Generation) {
    check.retain(|_, value| !value.is_null());
    let protocol = check.entry("protocol").or_insert_with(|| json!("HTTP")).clone();
    let protocol = protocol.as_str().unwrap_or_default();
    let mut fill = |key: &str, value: Value| {
        check.entry(key).or_insert(value);
    };
    fill("gracePeriodSeconds", json!(300));
    fill("intervalSeconds", json!(60));
    fill("timeoutSeconds", json!(20));
    fill("maxConsecutiveFailures", json!(3));
    match generation {
        // The delay came with 1.5; before, the first check comes at once.
        Generation::V1_3 if protocol.starts_with("HTTP") => fill("ignoreHttp1xx", json!(false)),
        Generation::V1_3 => {}
        Generation::V1_10 => {
            fill("delaySeconds", json!(15));
            fill("ipProtocol", json!("IPv4"));
        }
    }
    if protocol.contains("HTTP") {
        fill("path", json!("/"));
    }
    if protocol != "COMMAND" && !check.contains_key("port") {
        check.entry("portIndex").or_insert_with(|| json!(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(generation: Generation, given: Value) -> Spec {
        let ports = ServicePorts { own: vec![12_000], taken: vec![10_000] };
        complete(given.as_object().unwrap().clone(), generation, ports)
    }

    #[test]
    fn what_is_left_out_is_filled_in_as_each_generation_does_it() {
        let it =
            check(Generation::V1_10, json!({ "cmd": "x", "ports": [0, 0], "healthChecks": [{}] }));
        assert_eq!(it.ports().iter().map(|it| it.port).collect::<Vec<_>>(), [12_000, 10_001]);
        assert_eq!((it.instances(), it.kill_grace_s()), (1, 3));
        let check_ = &it.health_checks()[0];
        assert_eq!((check_.delay_s, check_.max_failures), (15, 3));
        assert_eq!((&it.0["mem"], &it.0["disk"]), (&json!(128.0), &json!(0.0)));
        assert!(!it.0.contains_key("args") && it.text("role") == Some("*"));
        let it =
            check(Generation::V1_3, json!({ "cmd": "x", "healthChecks": [{ "protocol": "TCP" }] }));
        assert!(it.0["args"].is_null() && it.health_checks()[0].delay_s == 0);
        let port = CheckPort::Index(0);
        assert_eq!(it.health_checks()[0].kind, CheckKind::Tcp { port });
        assert_eq!(it.ports().len(), 1);
    }
}
