//! Tables: header sets and what becomes of them.

use super::table::{PARAMETERS, REQUIRED, place};
use super::*;
use crate::base::fault::{Class, Fault};
use crate::base::limits::Limits;
use crate::base::time::Duration;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Fields<'a> = [(&'a str, &'a str)];

const LEAD: &str = "Service description using waiter headers/token improperly configured";
const USUAL: [(&str, &str); 4] =
    [("cmd", "sleep 1"), ("cpus", "1"), ("mem", "64"), ("version", "1")];

/// Headers are written without `x-waiter-`.
fn describe(fields: &Fields<'_>) -> Result<Description, Fault> {
    let named: Vec<_> = fields.iter().map(|(n, v)| (format!("x-waiter-{n}"), *v)).collect();
    let fields = named.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    from_headers(fields, "alice", &Defaults::default())
}

fn usual(more: &Fields<'_>) -> Result<Description, Fault> {
    describe(&[&USUAL, more].concat())
}

fn refusal(fields: &Fields<'_>) -> (Class, String) {
    let fault = usual(fields).expect_err("a fault");
    (fault.class, fault.message)
}

fn core_of(fields: &Fields<'_>) -> Value {
    usual(fields).expect("a description").to_json()
}

#[test]
fn the_table_is_sorted_behind_the_required() {
    let names: Vec<_> = PARAMETERS.iter().map(|it| it.name).collect();
    assert_eq!(&names[..REQUIRED], ["cmd", "cpus", "mem", "version", "run-as-user"]);
    assert!(names[REQUIRED..].is_sorted(), "{names:?}");
    assert!(names.iter().enumerate().all(|(at, name)| place(name) == Some(at)));
}

#[test]
fn headers_become_a_core() {
    let users = |mut value: Value| {
        let map = value.as_object_mut().unwrap();
        for (name, value) in USUAL {
            let value =
                if name == "cmd" || name == "version" { json!(value) } else { parse(value) };
            map.insert(name.into(), value);
        }
        map.entry("run-as-user").or_insert("alice".into());
        map.entry("permitted-user").or_insert("alice".into());
        value
    };
    for (fields, expected) in [
        (vec![], json!({})),
        (vec![("https-redirect", "true"), ("unheard-of", "1"), ("queue-timeout", "5")], json!({})),
        (vec![("name", "1")], json!({"name": "1"})),
        (vec![("permitted-user", "*")], json!({"permitted-user": "*"})),
        (vec![("run-as-user", "*"), ("namespace", "*")], json!({"namespace": "alice"})),
        (vec![("env-foo_bar2", "v"), ("env-b", "1")], json!({"env": {"FOO_BAR2": "v", "B": "1"}})),
        (vec![("env", r#"{"A":"1"}"#), ("env-b", "2")], json!({"env": {"A": "1", "B": "2"}})),
        (vec![("metadata-foo", "v")], json!({"metadata": {"foo": "v"}})),
        (vec![("allowed-params", "B,A,B")], json!({"allowed-params": ["A", "B"]})),
        (vec![("allowed-params", " ")], json!({"allowed-params": []})),
        (
            vec![("allowed-params", "FOO,BAR"), ("param-foo", "1"), ("env-foo", "0")],
            json!({"allowed-params": ["BAR", "FOO"], "env": {"FOO": "1"}}),
        ),
        (vec![("liveness-check-url", "/l")], json!({"liveness-check-url": "/l"})),
        (vec![("token", " ")], json!({})),
    ] {
        assert_eq!(core_of(&fields), users(expected), "{fields:?}");
    }
}

fn parse(text: &str) -> Value {
    headers::parse(table::Form::Json, text)
}

#[test]
fn faults_are_told_in_the_words_of_the_specification() {
    use Class::{ServiceForbidden, ServiceMisconfigured, TokenUnknown, UnsupportedAuth};
    for (fields, class, message) in [
        (("maintenance", "x"), ServiceMisconfigured, "Unsupported waiter headers found"),
        (("token", "foo"), TokenUnknown, "Token not found: foo"),
        (
            ("authentication", "disabled"),
            UnsupportedAuth,
            "An authentication parameter is not supported for on-the-fly headers",
        ),
        (
            ("idle-timeout-mins", "0"),
            ServiceMisconfigured,
            "idle-timeout-mins on-the-fly header configured to a value of zero is not supported",
        ),
        (("param-foo", "1"), ServiceMisconfigured, "Some params cannot be configured"),
        (("cmd-type", "perl"), ServiceMisconfigured, "Command type perl is not supported"),
        (
            ("cmd-type", "docker"),
            ServiceMisconfigured,
            "Command type docker is not supported: this router runs commands with a shell only.",
        ),
        (
            ("image", "twosigma/kitchen"),
            ServiceMisconfigured,
            "image is not supported: this router runs commands, not container images.",
        ),
        (
            ("backend-proto", "h2c"),
            ServiceMisconfigured,
            "backend-proto h2c is not supported: this router speaks http to instances only.",
        ),
        (
            ("namespace", "bob"),
            ServiceMisconfigured,
            "Service namespace must either be omitted or match the run-as-user.",
        ),
        (
            ("profile", "webapp"),
            ServiceMisconfigured,
            "Unsupported profile: webapp, there are no supported profiles",
        ),
        (("run-as-user", "bob"), ServiceForbidden, "Authenticated user cannot run service"),
        (
            ("permitted-user", "bob"),
            ServiceForbidden,
            "This user isn't allowed to invoke this service",
        ),
        (
            ("cmd", "twice"),
            ServiceMisconfigured,
            "The header x-waiter-cmd is given more than once.",
        ),
    ] {
        assert_eq!(refusal(&[fields]), (class, message.to_owned()), "{fields:?}");
    }
    assert_eq!(
        refusal(&[("run-as-user", "*"), ("namespace", "bob")]).1,
        "Cannot use run-as-requester with a specific namespace"
    );
}

#[test]
fn checks_must_fit_the_ports() {
    for (field, message) in [
        (
            ("health-check-proto", "https"),
            "The backend-proto (http) and health check proto (https) must match when \
             health-check-port-index is zero",
        ),
        (
            ("liveness-check-proto", "https"),
            "The backend-proto (http) and liveness check proto (https) must match when \
             liveness-check-port-index is zero",
        ),
        (
            ("health-check-port-index", "1"),
            "The health check port index (1) must be smaller than ports (1)",
        ),
        (
            ("liveness-check-port-index", "3"),
            "The liveness check port index (3) must be smaller than ports (1)",
        ),
    ] {
        assert_eq!(
            refusal(&[field]),
            (Class::ServiceMisconfigured, message.to_owned()),
            "{field:?}"
        );
    }
    assert_eq!(
        refusal(&[("health-check-port-index", "1"), ("ports", "2"), ("health-check-proto", "h2")])
            .1,
        "health-check-proto h2 is not supported: this router speaks http to instances only."
    );
}

#[test]
fn faults_of_values_are_told_all_at_once_in_order_of_the_table() {
    for (fields, texts) in [
        (
            vec![("name", "x")],
            vec![
                "cmd must be a non-empty string.",
                "cpus must be a positive \
          number.",
                "mem must be a positive number.",
                "version must be a non-empty string.",
            ],
        ),
        (
            vec![("version", " "), ("mem", "-1"), ("cmd", "x"), ("cpus", "one"), ("ports", "11")],
            vec![
                "cpus must be a positive number.",
                "mem must be a positive number.",
                "version must be a non-empty string.",
                "ports must be an integer in the range [1, 10].",
            ],
        ),
    ] {
        let fault = describe(&fields).unwrap_err();
        assert_eq!(fault.message, format!("{LEAD}\n{}", texts.join("\n")));
    }
    let fault = describe(&[("cmd", "x"), ("cpus", "one"), ("mem", "1")]).unwrap_err();
    let issue = r#"cpus: "one", version: missing-required-key"#;
    assert_eq!(fault.details, [("issue", issue.to_owned())]);
}

#[test]
fn a_request_without_parameters_names_no_service() {
    for fields in [vec![], vec![("debug", "1"), ("timeout", "5")], vec![("unheard-of", "x")]] {
        let fault = describe(&fields).unwrap_err();
        assert_eq!(fault.class, Class::ServiceUnknown);
        assert_eq!(fault.message, "Unable to identify service using waiter headers/token");
    }
}

#[test]
fn each_range_ends_where_the_specification_says() {
    for (name, right, wrong) in [
        ("concurrency-level", vec!["1", "10000"], vec!["0", "10001", "1.0", "-1", "x", "null"]),
        ("cpus", vec!["0.01", "32", "32.0"], vec!["0", "-0.1", "null"]),
        ("expired-instance-restart-rate", vec!["0.01", "1"], vec!["0", "1.01"]),
        ("grace-period-secs", vec!["0", "3600"], vec!["3601", "-1"]),
        ("health-check-interval-secs", vec!["5", "600"], vec!["4", "601"]),
        ("health-check-max-consecutive-failures", vec!["1", "36"], vec!["0", "37"]),
        ("health-check-port-index", vec!["0"], vec!["10", "-1"]),
        ("idle-timeout-mins", vec!["1", "43200"], vec!["43201", "-1"]),
        ("idle-timeout-secs", vec!["1", "2592000"], vec!["0", "2592001"]),
        ("instance-expiry-mins", vec!["0", "18446744073709551615"], vec!["-1", "0.5"]),
        ("interstitial-secs", vec!["0", "3600"], vec!["3601"]),
        ("jitter-threshold", vec!["0", "0.999"], vec!["1", "-0.1"]),
        ("liveness-check-interval-secs", vec!["5", "600"], vec!["4", "601"]),
        ("liveness-check-max-consecutive-failures", vec!["1", "36"], vec!["0", "37"]),
        ("max-instances", vec!["1", "2000"], vec!["0", "2001"]),
        ("max-queue-length", vec!["1", "5000000000"], vec!["0", "-1"]),
        ("mem", vec!["0.5", "131072"], vec!["0"]),
        (
            "metric-group",
            vec!["ab", "a-b_c", "a1"],
            vec!["a", "A1", "1a", "a--b", "a-", "-a", "a b"],
        ),
        ("min-instances", vec!["1", "500"], vec!["0", "2001"]),
        ("ports", vec!["1", "10"], vec!["0", "11"]),
        ("restart-backoff-factor", vec!["1", "1e3"], vec!["0.99"]),
        ("scale-down-factor", vec!["0.001", "0.99"], vec!["0", "1"]),
        ("scale-factor", vec!["0.001", "2"], vec!["0", "2.01"]),
        ("scale-up-factor", vec!["0.001", "0.99"], vec!["0", "1"]),
        ("termination-grace-period-secs", vec!["0", "300"], vec!["301"]),
        ("backend-proto", vec!["http"], vec!["HTTP", "spdy"]),
        ("client-abort", vec!["cut", "finish"], vec!["stop"]),
        ("distribution-scheme", vec!["balanced", "simple"], vec!["fair"]),
        ("health-check-authentication", vec!["standard", "disabled"], vec!["basic"]),
        ("load-balancing", vec!["oldest", "youngest", "random"], vec!["first"]),
        ("routing-mode", vec!["headless", "\"default\""], vec!["x"]),
        ("scaling-policy", vec!["prompt", "classic"], vec!["x"]),
        ("liveness-check-proto", vec!["null", "http"], vec!["x"]),
        ("health-check-url", vec!["/x"], vec![" ", ""]),
        ("name", vec!["x"], vec![""]),
    ] {
        let with = |value| {
            let mut fields: BTreeMap<_, _> = USUAL.into_iter().collect();
            fields.insert(name, value);
            describe(&fields.into_iter().collect::<Vec<_>>())
        };
        for value in right {
            assert!(with(value).is_ok(), "{name}: {value}: {:?}", with(value));
        }
        for value in wrong {
            let fault = with(value).expect_err(value);
            let message = PARAMETERS[place(name).unwrap()].message;
            assert_eq!(fault.message, format!("{LEAD}\n{message}"), "{name}: {value}");
        }
    }
}

#[test]
fn limits_of_the_operator_hold() {
    let cmd = "c".repeat(1201);
    let fields = [("cmd", &*cmd), ("cpus", "33.5"), ("mem", "131073"), ("version", "1")];
    assert_eq!(
        describe(&fields).unwrap_err().message,
        format!(
            "{LEAD}\nThe following fields exceed their allowed limits: cmd must be at most 1200 \
             characters, cpus is 33.5 but the max allowed is 32, mem is 131073 but the max allowed \
             is 131072"
        )
    );
    assert!(describe(&[("cmd", &cmd[1..]), USUAL[1], USUAL[2], USUAL[3]]).is_ok());
    assert_eq!(
        refusal(&[("min-instances", "3"), ("max-instances", "2")]).1,
        format!("{LEAD}\nmin-instances (3) must be less than or equal to max-instances (2)")
    );
    assert_eq!(
        refusal(&[("min-instances", "501")]).1,
        format!("{LEAD}\nmin-instances (501) must be less than or equal to max-instances (500)")
    );
}

#[test]
fn env_metadata_and_params_say_which_entries_are_wrong() {
    let long = "v".repeat(513);
    let rule = "cannot start with MESOS_, MARATHON_, PORT, or WAITER_ and cannot be HOME, LOGNAME, \
                USER.";
    for (fields, text) in [
        (
            vec![("env-1", "v"), ("env-a-b", "v")],
            "The following environment variable keys are invalid: 1, A-B. Keys must be made up of \
             letters, underscores, and numbers and must start with a letter. Keys cannot be longer \
             than 512 characters."
                .to_owned(),
        ),
        (
            vec![("env-home", "/"), ("env-port1", "1"), ("env-mesos_x", "1"), ("env-waiter_", "1")],
            format!(
                "The following environment variable keys are reserved: HOME, MESOS_X, PORT1, \
                 WAITER_. Environment variables {rule}"
            ),
        ),
        (
            vec![("env", r#"{"A":1,"B":"","C":"c"}"#)],
            "The following environment variable keys did not have string values: A: 1, B: . \
             Environment variable values must be strings no longer than 512 characters."
                .into(),
        ),
        (vec![("env", "x")], "Environment variables must be a map from string to string.".into()),
        (
            vec![("metadata-a_b", "v")],
            "The following metadata keys are invalid: a_b. Keys must be made up of lower-case \
             letters, numbers, and hyphens and must start with a letter."
                .into(),
        ),
        (
            vec![("metadata", r#"{"a":true}"#)],
            "The following metadata keys did not have string values: a: true. Metadata values must \
             be strings."
                .into(),
        ),
        (vec![("metadata", "[]")], "Metadata must be a map from string to string.".into()),
        (
            vec![("allowed-params", "A,,1,HOME")],
            format!(
                "allowed-params is invalid. Individual params may not be empty. Individual params \
                 must be made up of letters, numbers, and underscores and must start with a \
                 letter. Individual params {rule}"
            ),
        ),
    ] {
        assert_eq!(refusal(&fields).1, format!("{LEAD}\n{text}"), "{fields:?}");
    }
    assert!(refusal(&[("env-a", &long)]).1.contains("did not have string values: A: vvv"));
    for name in ["env-a", "env-waiter_config_x", "env-portx", "env-port_1", "env-home2"] {
        assert!(usual(&[(name, &long[1..])]).is_ok(), "{name}");
    }
}

#[test]
fn maps_hold_fewer_than_a_hundred_entries() {
    for kind in ["env", "metadata"] {
        let names: Vec<_> = (0..100).map(|it| format!("{kind}-k{it}")).collect();
        let fields: Vec<_> = names.iter().map(|it| (it.as_str(), "v")).collect();
        assert!(usual(&fields[1..]).is_ok());
        let word = if kind == "env" { "Environment variables" } else { "Metadata" };
        assert_eq!(
            refusal(&fields).1,
            format!("{LEAD}\n{word} can only contain 100 keys. You provided 100.")
        );
    }
}

#[test]
fn an_id_is_the_hash_of_what_was_said() {
    let id = |fields: &Fields<'_>| usual(fields).unwrap().id;
    let plain = id(&[]);
    // Written down: it must be the same on every router, in every run, in every version.
    assert_eq!(plain.as_str(), "waiter-service-7557b85aca8cdb6d4d58d871156635a6");
    let mut backwards = USUAL;
    backwards.reverse();
    assert_eq!(describe(&backwards).unwrap().id, plain);
    assert_eq!(id(&[("run-as-user", "alice"), ("debug", "1")]), plain);
    assert_eq!(id(&[("env-a", "1"), ("env-b", "2")]), id(&[("env-b", "2"), ("env-a", "1")]));
    assert_eq!(id(&[("allowed-params", "A,B")]), id(&[("allowed-params", "B,A")]));
    for fields in [("concurrency-level", "1"), ("env-a", "1"), ("permitted-user", "*")] {
        assert_ne!(id(&[fields]), plain, "{fields:?}");
    }
    let cpus = |text| describe(&[USUAL[0], ("cpus", text), USUAL[2], USUAL[3]]).unwrap().id;
    assert_ne!(cpus("1"), cpus("1.0"));
    let named = id(&[("name", "My.App_1 Ü")]);
    assert!(named.as_str().starts_with("waiter-service-myapp1-"), "{named}");
}

#[test]
fn a_description_comes_back_from_its_core() {
    let defaults = Defaults::default();
    let first = usual(&[("env-a", "1"), ("name", "x"), ("scale-factor", "0.5")]).unwrap();
    let text = first.to_json().to_string();
    let mut core: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    core.insert("owner".into(), "dropped".into());
    assert_eq!(from_core(core.clone(), "alice", &defaults).unwrap(), first);
    let fault = from_core(core.clone(), "bob", &defaults).unwrap_err();
    assert_eq!(fault.class, Class::ServiceForbidden);
    core.remove("cmd");
    let fault = from_core(core, "alice", &defaults).unwrap_err();
    assert_eq!(fault.message, format!("{LEAD}\ncmd must be a non-empty string."));
}

#[test]
fn what_is_not_offered_by_header_is_still_checked_in_the_store() {
    let check = |name: &str, value: Value, more: Option<(&str, Value)>| {
        let mut core = usual(&[]).unwrap().core;
        core.insert(name.into(), value);
        core.extend(more.map(|(name, value)| (name.to_owned(), value)));
        from_core(core, "alice", &Defaults::default()).map_err(|it| it.message)
    };
    assert_eq!(
        check("authentication", json!("kerberos"), None).unwrap_err(),
        "authentication must be one of: 'disabled', 'standard'"
    );
    for kind in ["health", "liveness"] {
        let name = format!("{kind}-check-authentication");
        let more = Some((&*name, json!("standard")));
        assert_eq!(
            check("authentication", json!("disabled"), more).unwrap_err(),
            format!(
                "The {kind} check authentication (standard) cannot be enabled when authentication \
                 (disabled) is disabled"
            )
        );
    }
    let never = check("idle-timeout-mins", json!(0), None).unwrap();
    assert_eq!(never.parameters.idle_timeout, None);
    assert!(check("env", json!({"A": "a\0b"}), None).is_err());
    assert!(check("cmd", json!("a\0b"), None).is_err());
}

#[test]
fn parameters_follow_from_what_was_said() {
    let of = |fields: &Fields<'_>| usual(fields).unwrap().parameters;
    let plain = of(&[]);
    assert_eq!((plain.cmd.as_str(), plain.cpus, plain.mem), ("sleep 1", 1.0, 64.0));
    assert_eq!(plain.scaling_policy, ScalingPolicy::Prompt);
    assert_eq!(plain.max_queue_length, 10_000);
    let mins = Duration::from_secs(60);
    assert_eq!(of(&[("idle-timeout-mins", "2")]).idle_timeout, Some(2 * mins));
    let both = of(&[("idle-timeout-secs", "5"), ("idle-timeout-mins", "2")]);
    assert_eq!(both.idle_timeout, Some(Duration::from_secs(5)));
    assert_eq!(of(&[("instance-expiry-mins", "0")]).instance_expiry, None);
    for name in ["scale-up-factor", "scale-down-factor", "jitter-threshold"] {
        assert_eq!(of(&[(name, "0.5")]).scaling_policy, ScalingPolicy::Classic, "{name}");
        let prompt = of(&[(name, "0.5"), ("scaling-policy", "prompt")]);
        assert_eq!(prompt.scaling_policy, ScalingPolicy::Prompt);
    }
    assert_eq!(of(&[("scale-factor", "0.5")]).scaling_policy, ScalingPolicy::Prompt);
    assert_eq!(of(&[("max-queue-length", "5000000000")]).max_queue_length, u32::MAX);
    assert_eq!(of(&[("client-abort", "finish")]).client_abort, ClientAbort::Finish);
    assert_eq!(of(&[("env-a", "b")]).env, BTreeMap::from([("A".into(), "b".into())]));
    let defaults = Parameters { min_instances: 4, ..Parameters::default() };
    let defaults = Defaults { parameters: defaults, ..Defaults::default() };
    let mut core = usual(&[]).unwrap().core;
    core.insert("max-instances".into(), json!(2));
    assert_eq!(from_core(core, "alice", &defaults).unwrap().parameters.min_instances, 2);
}

#[test]
fn effective_parameters_are_all_of_them() {
    let effective = usual(&[("health-check-url", "/p")]).unwrap().effective_json();
    let expected = r#"{
        "authentication": "standard", "backend-proto": "http", "client-abort": "cut",
        "cmd": "sleep 1", "concurrency-level": 1, "cpus": 1,
        "distribution-scheme": "balanced", "env": {}, "expired-instance-restart-rate": 0.1,
        "grace-period-secs": 30, "health-check-authentication": "disabled",
        "health-check-interval-secs": 10, "health-check-max-consecutive-failures": 5,
        "health-check-port-index": 0, "health-check-url": "/p", "idle-timeout-mins": 30,
        "instance-expiry-mins": 7200, "interstitial-secs": 0, "jitter-threshold": 0.5,
        "liveness-check-authentication": "disabled", "liveness-check-interval-secs": 10,
        "liveness-check-max-consecutive-failures": 5, "liveness-check-port-index": 0,
        "liveness-check-url": "/p", "load-balancing": "oldest", "max-instances": 500,
        "max-queue-length": 10000, "mem": 64, "metadata": {}, "metric-group": "other",
        "min-instances": 1, "permitted-user": "alice", "ports": 1,
        "restart-backoff-factor": 2, "routing-mode": "default", "run-as-user": "alice",
        "scale-down-factor": 0.001, "scale-factor": 1, "scale-up-factor": 0.1,
        "scaling-policy": "prompt", "termination-grace-period-secs": 0, "version": "1"}"#;
    assert_eq!(effective, parse(expected));
}

#[test]
fn a_fingerprint_holds_what_the_description_depends_on() {
    let print = |fields: &Fields<'_>| {
        let mut out = Vec::new();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let any = fingerprint(fields, &mut out);
        assert_eq!(any, !out.is_empty());
        out
    };
    let cmd = ("x-waiter-cmd", "x");
    assert_eq!(print(&[("host", "a"), ("x-waiter-debug", "1"), ("x-waiter-timeout", "1")]), b"");
    assert_eq!(print(&[("accept", "*/*"), cmd, ("x-waiter-queue-timeout", "9")]), print(&[cmd]));
    for name in ["env-a", "metadata-a", "param-a", "token", "maintenance", "authentication"] {
        assert_ne!(print(&[(&format!("x-waiter-{name}"), "1")]), b"", "{name}");
    }
    assert_ne!(print(&[cmd]), print(&[("x-waiter-cmd", "y")]));
}

proptest! {
    #[test]
    fn no_header_panics(
        fields in prop::collection::vec((name(), value()), 0..12),
        text in ".{0,60}",
    ) {
        let fields = || fields.iter().map(|(n, v)| (n.as_slice(), v.as_slice()));
        let defaults = Defaults::default();
        if let Ok(first) = from_headers(fields(), "alice", &defaults) {
            let again = from_core(first.core.clone(), "alice", &defaults);
            prop_assert_eq!(again, Ok(first.clone()));
            first.effective_json();
        }
        fingerprint(fields(), &mut Vec::new());
        Tuning::from_headers(fields(), &Limits::PRODUCTION);
        let _ = parse_static(&text, &defaults);
        let _ = parse_static(&format!("a=1.2.3.4:5;{text}"), &defaults);
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(PARAMETERS.iter().map(|it| it.name).collect::<Vec<_>>());
    prop_oneof![
        6 => known.prop_map(|it| format!("x-waiter-{it}").into_bytes()),
        2 => "x-waiter-(env|metadata|param|token)-?[a-z0-9_]{0,3}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[0-9]{1,4}".prop_map(String::into_bytes),
        "0\\.[0-9]{1,3}".prop_map(String::into_bytes),
        r#"[\[\]{}":,a0. -]{0,12}"#.prop_map(String::into_bytes),
        "(http|standard|oldest|alice|\\*)".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..8),
    ]
}
