//! Settings: what is refused, and that each flag, key and printed setting is the same thing.

use super::{Config, File, Written};
use crate::base::time::Duration;
use std::collections::BTreeSet;

/// The mistakes of these settings.
fn mistakes(written: Written) -> Vec<String> {
    written.resolve(&[0]).expect_err("mistakes")
}

/// The settings of a file with this text, which is right.
fn from_file(text: &str) -> Config {
    let file = File::parse("a.toml".into(), text);
    Written::default().resolve_over(file, &[0, 1]).expect("right settings")
}

/// A value for each key that is not its default.
const UNUSUAL: &str = "
listen = ['127.0.0.1:1', '[::1]:2']
cores = '0-0,0-0'
data-dir = '/d'
scheduler = 'none'
marathon = 'http://m:1,https://n:2'
marathon-auth = 'basic:/pw'
marathon-ca = '/ca'
marathon-user = 'bob'
marathon-init = ['init', '-v']
marathon-poll-ms = 100
marathon-timeout-ms = 200
marathon-doubt-secs = 86400
marathon-min-hosts = 1
mesos-agent-port = 5050
mesos-agent-dir = '/mesos'
static = ['a=127.0.0.1:1;concurrency-level=2']
ports = '20000-20001'
hostname = ['my.example', '[::2]']
cluster = 'c'
zookeeper = 'zk1:2181,zk2:2181'
zookeeper-base = '/w/x'
zookeeper-session-ms = 600000
min-routers = 256
router-id-prefix = 'r'
advertise = '10.0.0.1:80'
cluster-secret-file = '/secret'
isolated = 'stop'
distribution = 'simple'
store-keys-file = '/keys'
service-prefix = 'p-'
launch-from = ['10.0.0.0/8']
trust-forwarded = ['10.1.0.0/16']
half-close = 'allow'
accept = 'plain'
access-log = '/log'
log = 'json'
log-level = 'debug'
drain-secs = 3600
gc-interval-ms = 10
broken-service-timeout-mins = 10080
io = 'ring'
ring-depth = 64
ring-without = ['message-ring']
receive-buffers = 16
receive-buffer-bytes = 4096
body-buffers = 32768
body-buffer-bytes = 4096
spin-us = 10000
backlog = 65535
max-clients = 1
max-head-bytes = 1048576
window-bytes = 67108864
max-waiting = 1
queue-memory = 1
header-timeout-ms = 1
keep-alive-timeout-ms = 604800000
body-idle-timeout-ms = 3
connect-timeout-ms = 4
first-byte-timeout-ms = 5
streaming-timeout-ms = 6
tunnel-idle-timeout-ms = 12
queue-timeout-ms = 7
upstream-idle-timeout-ms = 8
eject-base-ms = 9
eject-max-ms = 9
";

#[test]
fn every_flag_has_a_key_and_every_key_a_flag() {
    let flags: BTreeSet<String> = Written::keys().into_iter().collect();
    let printed: toml::Table = toml::from_str(&from_file("").to_toml(|_| String::new())).expect("");
    assert_eq!(printed.keys().cloned().collect::<BTreeSet<_>>(), flags);
    let unusual: toml::Table = toml::from_str(UNUSUAL).expect("toml");
    assert_eq!(unusual.keys().cloned().collect::<BTreeSet<_>>(), flags);
}

#[test]
fn what_is_printed_is_read_back_and_means_the_same() {
    let usual = from_file("").to_json();
    for text in ["", UNUSUAL] {
        let config = from_file(text);
        let again = from_file(&config.to_toml(str::to_owned));
        assert_eq!(again.to_json(), config.to_json());
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
    }
    let unusual = from_file(UNUSUAL).to_json();
    for key in Written::keys() {
        assert_ne!(usual[&key], unusual[&key], "{key} is not taken over");
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    let file = File::parse("a.toml".into(), "cores = '1'\nqueue-timeout-ms = 7\n");
    let line = Written { cores: Some("0,0".into()), ..Written::default() };
    let config = line.resolve_over(file, &[0, 1]).expect("fine");
    assert_eq!(config.cores, [0, 0]);
    assert_eq!(config.limits.queue_timeout, Duration::from_millis(7));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let written = Written {
        listen: vec!["nonsense".into()],
        scheduler: Some("k8s".into()),
        log: Some("xml".into()),
        fronted: vec!["a=127.0.0.1:1".into(), "a=127.0.0.1:2".into()],
        ports: Some("9-1".into()),
        launch_from: vec!["x".into()],
        ..Written::default()
    };
    let mistakes = mistakes(written);
    assert_eq!(mistakes.len(), 6, "{mistakes:#?}");
}

#[test]
fn schedulers_are_named_in_order_and_marathon_has_an_address() {
    use crate::core::fact::Runner::{Local, Marathon};
    for (text, expected) in [
        ("scheduler = 'none'", vec![]),
        ("scheduler = 'local'", vec![Local]),
        ("scheduler = 'marathon'\nmarathon = 'http://m:8080/'", vec![Marathon]),
        ("scheduler = 'marathon, local'\nmarathon = 'https://[::1]:1'", vec![Marathon, Local]),
    ] {
        assert_eq!(from_file(text).defaults.runners.list(), expected, "{text}");
    }
    let composite = from_file("scheduler = 'local,marathon'\nmarathon = 'http://m:1'").to_json();
    assert_eq!(composite["scheduler-config"]["kind"], "composite");
    assert_eq!(composite["scheduler-config"]["composite"]["default-scheduler"], "local");
    for (text, expected) in [
        ("scheduler = 'marathon'", "scheduler = marathon: say where Marathon is, with marathon"),
        ("scheduler = 'local,local'", "scheduler = local,local: local is given twice"),
        (
            "marathon = 'm:8080'",
            "marathon = m:8080: expected http://HOST:PORT or https://HOST:PORT",
        ),
        (
            "marathon = 'http://u:p@m:1'",
            "marathon = …@m:1: a password does not belong here; see marathon-auth",
        ),
        ("marathon = 'http://m:1,http://m:1'", "marathon = http://m:1: it is given twice"),
        ("marathon-auth = 'secret'", "marathon-auth = …: expected basic:FILE or token:FILE"),
        (
            "scheduler = 'marathon'\nmarathon = 'http://m'\nservice-prefix = 'A_'",
            "service-prefix = A_: Marathon's ids are of lower-case letters, digits and dashes",
        ),
    ] {
        let file = File::parse("a.toml".into(), text);
        let mistakes = Written::default().resolve_over(file, &[0]).expect_err("a mistake");
        assert_eq!(mistakes, [format!("a.toml: {expected}")], "{text}");
    }
}

#[test]
fn a_mistake_within_a_static_service_is_one_line() {
    let written = Written { fronted: vec!["x=1;what=1".into()], ..Written::default() };
    assert_eq!(
        mistakes(written),
        [
            "--static x=1;what=1: \"1\" is no address: write 127.0.0.1:8081 or [::1]:8081, no host \
             names.",
            "--static x=1;what=1: There is no parameter what.",
        ]
    );
}

#[test]
fn every_number_has_a_least_and_a_greatest_value() {
    let (mut numbers, usual) = (0, from_file("").to_json());
    for key in Written::keys().iter().filter(|key| usual[key.as_str()].is_u64()) {
        numbers += 1;
        let none_is_right =
            ["drain-secs", "broken-service-timeout-mins", "spin-us"].contains(&key.as_str());
        for (given, refused) in [("0", !none_is_right), ("9223372036854775807", true)] {
            let file = File::parse("a.toml".into(), &format!("{key} = {given}"));
            let result = Written::default().resolve_over(file, &[0]);
            assert_eq!(result.is_err(), refused, "{key} = {given}");
            let Err(mistakes) = result else { continue };
            let begin = format!("a.toml: {key} = {given}: expected ");
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(&begin), "{mistakes:?}");
        }
    }
    assert_eq!(numbers, 33);
    // The command line takes more digits than a file.
    let mut written = Written { broken_service_timeout_mins: Some(u64::MAX), ..Written::default() };
    written.bounds.max_waiting = Some(u64::MAX);
    written.bounds.eject_max_ms = Some(5);
    written.drain_secs = Some(3601);
    assert_eq!(
        mistakes(written),
        [
            "--drain-secs 3601: expected 0 to 3600",
            "--broken-service-timeout-mins 18446744073709551615: expected 0 to 10080",
            "--eject-max-ms 5: expected at least eject-base-ms, which is 10000",
            "--max-waiting 18446744073709551615: expected 1 to 10000000",
        ]
    );
}

#[test]
fn names_that_would_not_serve_are_refused() {
    let check = |key: &str, value: &str, right: bool| {
        let text = toml::Table::from_iter([(key.to_owned(), value.into())]).to_string();
        let file = File::parse("a.toml".into(), &text);
        let result = Written::default().resolve_over(file, &[0]);
        assert_eq!(result.is_ok(), right, "{key} = {value:?}: {result:?}");
    };
    let (longest, longer) = ("x".repeat(64), "x".repeat(65));
    for right in ["w8r-", "a_b", &longest] {
        check("service-prefix", right, true);
    }
    for wrong in ["", "a/b", "a b", "a\tb", "a\u{0}", "a.b", "ü", &longer] {
        check("service-prefix", wrong, false);
    }
    for (name, right) in [("a.b", true), ("[::1]", true), ("a:80", false), ("", false)] {
        check("hostname", name, right);
    }
    for (name, right) in [("my cluster", true), ("a\u{0}", false), ("", false)] {
        check("cluster", name, right);
    }
    check("data-dir", "", false);
    check("access-log", "", false);
}

#[test]
fn cores_are_a_number_or_a_list() {
    let allowed = [0, 1, 2, 5];
    let check = |given: Option<&str>, expected: Result<&[usize], &str>| {
        let written = Written { cores: given.map(str::to_owned), ..Written::default() };
        let found = written.resolve(&allowed).map(|it| it.cores);
        match expected {
            Ok(list) => assert_eq!(found.as_deref(), Ok(list), "{given:?}"),
            Err(part) => {
                let mistakes = found.expect_err("a mistake");
                assert!(mistakes[0].starts_with("--cores "), "{mistakes:?}");
                assert!(mistakes[0].contains(part), "{given:?}: {mistakes:?}");
            }
        }
    };
    check(None, Ok(&[0, 1, 2, 5]));
    check(Some("2"), Ok(&[0, 1]));
    check(Some("5"), Err("1 to 4 cores"));
    check(Some("0"), Err("1 to 4 cores"));
    check(Some("1-1"), Ok(&[1]));
    check(Some("0-1,5"), Ok(&[0, 1, 5]));
    check(Some("0,0,1,1"), Ok(&[0, 0, 1, 1]));
    check(Some("3-3"), Err("core 3"));
    check(Some("a"), Err("expected a number"));
    check(Some("2-1"), Err("expected a number"));
}
