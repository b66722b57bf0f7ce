//! The table of parameters: for each one its name, how a header carries it, which values are right,
//! what is said of wrong ones, how it fills `Parameters` and how it is shown (api §2.2).
//!
//! The five that every launched service needs come first; the others follow by name. `place` and
//! the order of messages depend on that, and a test holds it.

use super::check::Check;
use super::parameters::{ClientAbort, CmdType, DistributionScheme, LoadBalancing, Parameters};
use super::parameters::{Proto, ScalingPolicy};
use crate::base::time::Duration;
use crate::core::service::Description;
use serde_json::Value;

/// How a header carries a parameter (api §2.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// As it is.
    Text,
    /// As JSON; what is no JSON is taken as it is, and its check refuses it.
    Json,
    /// As a list of names with commas between them.
    Names,
}

/// All there is to know about one parameter.
#[derive(Debug)]
pub struct Row {
    /// Its name: in headers behind `x-waiter-`, in JSON as it is.
    pub name: &'static str,
    /// How a header carries it.
    pub form: Form,
    /// Which values are right.
    pub check: Check,
    /// What is said when the check fails. Empty: the check composes the text.
    pub message: &'static str,
    /// Takes a checked value over.
    pub fill: fn(&mut Parameters, &Value),
    /// Its value where none was given explicitly; null: it has none.
    pub show: fn(&Description) -> Value,
}

/// How many of the rows, from the first on, a launched service must give.
pub const REQUIRED: usize = 5;

const fn row(
    name: &'static str,
    (form, check): (Form, Check),
    message: &'static str,
    fill: fn(&mut Parameters, &Value),
    show: fn(&Description) -> Value,
) -> Row {
    Row { name, form, check, message, fill, show }
}

/// The row of this name.
pub fn place(name: &str) -> Option<usize> {
    let (required, rest) = PARAMETERS.split_at(REQUIRED);
    let sorted = || rest.binary_search_by(|it| it.name.cmp(name)).ok().map(|at| at + REQUIRED);
    required.iter().position(|it| it.name == name).or_else(sorted)
}

const TEXT: (Form, Check) = (Form::Text, Check::Text);

const fn one_of(names: &'static [&'static str]) -> (Form, Check) {
    (Form::Text, Check::OneOf(names))
}

const fn whole(least: u64, most: u64) -> (Form, Check) {
    (Form::Json, Check::Whole(least, most))
}

const fn number(right: fn(f64) -> bool) -> (Form, Check) {
    (Form::Json, Check::Number(right))
}

/// Values of `backend-proto` and the protocols of checks.
const PROTOS: &[&str] = &["http", "https", "h2", "h2c"];
const AUTHENTICATIONS: &[&str] = &["disabled", "standard"];
const ROUTING_MODES: &[&str] =
    &["default", "waiter-router", "headless", "ingress-distributed", "ingress-centralized"];

/// Every parameter.
pub static PARAMETERS: [Row; 52] = [
    row("cmd", TEXT, "cmd must be a non-empty string.", |p, v| p.cmd = text(v), none),
    row(
        "cpus",
        number(|it| it > 0.0),
        "cpus must be a positive number.",
        |p, v| p.cpus = float(v),
        none,
    ),
    row(
        "mem",
        number(|it| it > 0.0),
        "mem must be a positive number.",
        |p, v| p.mem = float(v),
        none,
    ),
    row("version", TEXT, "version must be a non-empty string.", |p, v| p.version = text(v), none),
    row(
        "run-as-user",
        TEXT,
        "run-as-user must be a non-empty string.",
        |p, v| p.run_as_user = text(v),
        none,
    ),
    row("allowed-params", (Form::Names, Check::Names), "", ignore, none),
    row("authentication", TEXT, "authentication must be a non-empty string.", ignore, |_| {
        Value::from("standard")
    }),
    row(
        "backend-proto",
        one_of(PROTOS),
        "backend-proto must be one of h2, h2c, http, or https.",
        |p, v| p.backend_proto = proto(v),
        |d| d.parameters.backend_proto.name().into(),
    ),
    row(
        "client-abort",
        one_of(&["cut", "finish"]),
        "client-abort must be one of cut or finish.",
        |p, v| p.client_abort = ClientAbort::named(name(v)),
        |d| d.parameters.client_abort.name().into(),
    ),
    row(
        "cmd-type",
        TEXT,
        "cmd-type must be a non-empty string.",
        |p, v| p.cmd_type = CmdType::named(name(v)),
        none,
    ),
    row(
        "concurrency-level",
        whole(1, 10_000),
        "concurrency-level must be an integer in the range [1, 10000].",
        |p, v| p.concurrency_level = small(v),
        |d| d.parameters.concurrency_level.into(),
    ),
    row(
        "distribution-scheme",
        one_of(&["balanced", "simple"]),
        "distribution-scheme must be one of balanced or simple.",
        |p, v| p.distribution_scheme = DistributionScheme::named(name(v)),
        |d| d.parameters.distribution_scheme.name().into(),
    ),
    row(
        "env",
        (Form::Json, Check::Environment),
        "",
        |p, v| p.env = map(v),
        |_| Value::Object(serde_json::Map::new()),
    ),
    row(
        "expired-instance-restart-rate",
        number(|it| it > 0.0 && it <= 1.0),
        "expired-instance-restart-rate must be a double in the range (0, 1].",
        |p, v| p.expired_instance_restart_rate = float(v),
        |d| shown(d.parameters.expired_instance_restart_rate),
    ),
    row(
        "grace-period-secs",
        whole(0, 3600),
        "grace-period-secs must be an integer in the range [0, 3600].",
        |p, v| p.grace_period = secs(v),
        |d| d.parameters.grace_period.as_secs().into(),
    ),
    row(
        "health-check-authentication",
        one_of(AUTHENTICATIONS),
        "health-check-authentication must be one of standard or disabled.",
        ignore,
        |_| Value::from("disabled"),
    ),
    row(
        "health-check-interval-secs",
        whole(5, 600),
        "health-check-interval-secs must be an integer in the range [5, 600].",
        |p, v| p.health_check_interval = secs(v),
        |d| d.parameters.health_check_interval.as_secs().into(),
    ),
    row(
        "health-check-max-consecutive-failures",
        whole(1, 36),
        "health-check-max-consecutive-failures must be an integer in the range [1, 36].",
        |p, v| p.health_check_max_consecutive_failures = count(v),
        |d| d.parameters.health_check_max_consecutive_failures.into(),
    ),
    row(
        "health-check-port-index",
        whole(0, 9),
        "health-check-port-index must be an integer in the range [0, 9].",
        |p, v| p.health_check_port_index = tiny(v),
        |d| d.parameters.health_check_port_index.into(),
    ),
    row(
        "health-check-proto",
        (Form::Text, Check::NullOr(PROTOS)),
        "health-check-proto, when provided, must be one of h2, h2c, http, or https.",
        |p, v| p.health_check_proto = Proto::parse(name(v)),
        none,
    ),
    row(
        "health-check-url",
        TEXT,
        "health-check-url must be a non-empty string.",
        |p, v| p.health_check_url = text(v),
        |d| d.parameters.health_check_url.as_str().into(),
    ),
    row(
        "idle-timeout-mins",
        whole(0, 43_200),
        "idle-timeout-mins must be an integer in the range [0, 43200].",
        |p, v| p.idle_timeout = nonzero(mins(v)),
        |d| minutes_shown(d.parameters.idle_timeout),
    ),
    // Behind `idle-timeout-mins`, so that it wins: a description is taken over in order of names.
    row(
        "idle-timeout-secs",
        whole(1, 2_592_000),
        "idle-timeout-secs must be an integer in the range [1, 2592000].",
        |p, v| p.idle_timeout = nonzero(secs(v)),
        none,
    ),
    row("image", TEXT, "image must be a non-empty string.", ignore, none),
    row(
        "instance-expiry-mins",
        whole(0, u64::MAX),
        "instance-expiry-mins must be an integer that is not negative.",
        |p, v| p.instance_expiry = nonzero(mins(v)),
        |d| minutes_shown(d.parameters.instance_expiry),
    ),
    row(
        "interstitial-secs",
        whole(0, 3600),
        "interstitial-secs must be an integer in the range [0, 3600].",
        |p, v| p.interstitial = secs(v),
        |d| d.parameters.interstitial.as_secs().into(),
    ),
    row(
        "jitter-threshold",
        number(|it| (0.0..1.0).contains(&it)),
        "jitter-threshold must be a double in the range [0, 1).",
        |p, v| p.jitter_threshold = float(v),
        |d| shown(d.parameters.jitter_threshold),
    ),
    row(
        "liveness-check-authentication",
        (Form::Json, Check::OneOf(AUTHENTICATIONS)),
        "liveness-check-authentication must be one of standard or disabled.",
        ignore,
        |d| of_health_check(d, "health-check-authentication"),
    ),
    row(
        "liveness-check-interval-secs",
        whole(5, 600),
        "liveness-check-interval-secs must be an integer in the range [5, 600].",
        ignore,
        |d| of_health_check(d, "health-check-interval-secs"),
    ),
    row(
        "liveness-check-max-consecutive-failures",
        whole(1, 36),
        "liveness-check-max-consecutive-failures must be an integer in the range [1, 36].",
        ignore,
        |d| of_health_check(d, "health-check-max-consecutive-failures"),
    ),
    row(
        "liveness-check-port-index",
        whole(0, 9),
        "liveness-check-port-index must be an integer in the range [0, 9].",
        ignore,
        |d| of_health_check(d, "health-check-port-index"),
    ),
    row(
        "liveness-check-proto",
        (Form::Json, Check::NullOr(PROTOS)),
        "liveness-check-proto, when provided, must be one of h2, h2c, http, or https.",
        ignore,
        |d| of_health_check(d, "health-check-proto"),
    ),
    row(
        "liveness-check-url",
        (Form::Json, Check::Text),
        "liveness-check-url must be a non-empty string.",
        ignore,
        |d| of_health_check(d, "health-check-url"),
    ),
    row(
        "load-balancing",
        one_of(&["oldest", "youngest", "random"]),
        "load-balancing must be one of 'oldest', 'youngest' or 'random'.",
        |p, v| p.load_balancing = LoadBalancing::named(name(v)),
        |d| d.parameters.load_balancing.name().into(),
    ),
    row(
        "max-instances",
        whole(1, 2000),
        "max-instances must be between 1 and 2000.",
        |p, v| p.max_instances = count(v),
        |d| d.parameters.max_instances.into(),
    ),
    row(
        "max-queue-length",
        whole(1, u64::MAX),
        "max-queue-length must be a positive integer.",
        |p, v| p.max_queue_length = count(v),
        |d| d.parameters.max_queue_length.into(),
    ),
    row(
        "metadata",
        (Form::Json, Check::Metadata),
        "",
        |p, v| p.metadata = map(v),
        |_| Value::Object(serde_json::Map::new()),
    ),
    row(
        "metric-group",
        (Form::Text, Check::MetricGroup),
        "metric-group must be between 2 and 32 characters; only contain lowercase letters, \
         numbers, dashes, and underscores; start with a lowercase letter; and only use dashes \
         and/or underscores between alphanumeric portions.",
        ignore,
        |_| Value::from("other"),
    ),
    row(
        "min-instances",
        whole(1, 2000),
        "min-instances must be between 1 and 2000.",
        |p, v| p.min_instances = count(v),
        |d| d.parameters.min_instances.into(),
    ),
    row("name", TEXT, "name must be a non-empty string.", |p, v| p.name = Some(text(v)), none),
    row("namespace", TEXT, "namespace must be a non-empty string.", ignore, none),
    row(
        "permitted-user",
        TEXT,
        "permitted-user must be a non-empty string.",
        |p, v| p.permitted_user = text(v),
        |d| d.parameters.permitted_user.as_str().into(),
    ),
    row(
        "ports",
        whole(1, 10),
        "ports must be an integer in the range [1, 10].",
        |p, v| p.ports = tiny(v),
        |d| d.parameters.ports.into(),
    ),
    row("profile", TEXT, "profile must be a non-empty string.", ignore, none),
    row(
        "restart-backoff-factor",
        number(|it| it >= 1.0),
        "restart-backoff-factor must be a number that is at least 1.",
        |p, v| p.restart_backoff_factor = float(v),
        |d| shown(d.parameters.restart_backoff_factor),
    ),
    row(
        "routing-mode",
        (Form::Json, Check::OneOf(ROUTING_MODES)),
        "routing-mode must be one of default, waiter-router, headless, ingress-distributed or \
         ingress-centralized.",
        ignore,
        |_| Value::from("default"),
    ),
    row(
        "scale-down-factor",
        number(|it| it > 0.0 && it < 1.0),
        "scale-down-factor must be a double in the range (0, 1).",
        |p, v| p.scale_down_factor = float(v),
        |d| shown(d.parameters.scale_down_factor),
    ),
    row(
        "scale-factor",
        number(|it| it > 0.0 && it <= 2.0),
        "scale-factor must be a double in the range (0, 2].",
        |p, v| p.scale_factor = float(v),
        |d| shown(d.parameters.scale_factor),
    ),
    row(
        "scale-up-factor",
        number(|it| it > 0.0 && it < 1.0),
        "scale-up-factor must be a double in the range (0, 1).",
        |p, v| p.scale_up_factor = float(v),
        |d| shown(d.parameters.scale_up_factor),
    ),
    row(
        "scaling-policy",
        one_of(&["prompt", "classic"]),
        "scaling-policy must be one of prompt or classic.",
        |p, v| p.scaling_policy = ScalingPolicy::named(name(v)),
        |d| d.parameters.scaling_policy.name().into(),
    ),
    row(
        "scheduler",
        (Form::Json, Check::Text),
        "scheduler must be a non-empty string.",
        |p, v| p.scheduler = Some(text(v)),
        none,
    ),
    row(
        "termination-grace-period-secs",
        whole(0, 300),
        "termination-grace-period-secs must be an integer in the range [0, 300].",
        |p, v| p.termination_grace_period = secs(v),
        |d| d.parameters.termination_grace_period.as_secs().into(),
    ),
];

const _: () = assert!(PARAMETERS.len() <= 64, "failed checks are collected in 64 bits");

fn ignore(_: &mut Parameters, _: &Value) {}

fn none(_: &Description) -> Value {
    Value::Null
}

/// Liveness checks are as health checks where nothing else is said.
fn of_health_check(description: &Description, name: &str) -> Value {
    description.effective(name).unwrap_or(Value::Null)
}

fn name(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn text(value: &Value) -> String {
    name(value).to_owned()
}

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

fn proto(value: &Value) -> Proto {
    Proto::parse(name(value)).unwrap_or(Proto::Http)
}

fn secs(value: &Value) -> Duration {
    Duration::from_secs(value.as_u64().unwrap_or_default())
}

fn mins(value: &Value) -> Duration {
    Duration::from_secs(value.as_u64().unwrap_or_default().saturating_mul(60))
}

fn nonzero(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

/// As many as the type holds: the checks bound all counts but one, and four thousand million
/// waiting requests are as good as no bound.
fn count(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap_or_default()).unwrap_or(u32::MAX)
}

fn small(value: &Value) -> u16 {
    u16::try_from(count(value)).unwrap_or(u16::MAX)
}

fn tiny(value: &Value) -> u8 {
    u8::try_from(count(value)).unwrap_or(u8::MAX)
}

fn map(value: &Value) -> std::collections::BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), text(value))).collect()
}

/// Whole numbers are shown without a fraction, as people write them.
fn shown(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Value::from(number as i64);
    }
    number.into()
}

fn minutes_shown(time: Option<Duration>) -> Value {
    time.map_or(0, |it| it.as_secs().div_ceil(60)).into()
}
