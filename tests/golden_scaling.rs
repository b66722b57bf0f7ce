//! Golden values of the original's autoscaler, replayed (`spec/golden/scaling-golden.json`).

use serde_json::Value;
use waiter::base::time::Instant;
use waiter::core::autoscaler::{
    Action, Before, Config, Decision, Quanta, Rules, Standing, State, Task, Trend, act, desired,
    orchestrate, quanta, smoothing,
};

/// The golden file; it lies beside the project unless `WAITER_SHARED` says where.
fn golden() -> Value {
    let shared = std::env::var("WAITER_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let path = format!("{shared}/spec/golden/scaling-golden.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("golden data missing: {path}: {error}; set WAITER_SHARED to the folder with spec/")
    });
    serde_json::from_str(&text).expect("golden data is JSON")
}

/// Runs `check` on every case of a group and prints how many there were.
#[expect(clippy::print_stdout, reason = "a test says how much it replayed")]
fn replay(group: &str, count: usize, check: impl Fn(&Value)) {
    let golden = golden();
    let cases = golden[group].as_array().expect("a group is a list");
    for case in cases {
        check(case);
    }
    println!("{group}: {} cases", cases.len());
    assert_eq!(cases.len(), count, "{group}");
}

fn real(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} is a number: {value}"))
}

fn whole(value: &Value, name: &str) -> i64 {
    let it = real(value, name);
    assert!(it.fract() == 0.0, "{name} is whole: {value}");
    it as i64
}

fn count(value: &Value, name: &str) -> u32 {
    u32::try_from(whole(value, name)).expect("not negative")
}

fn config(case: &Value) -> Config {
    let it = &case["config"];
    Config {
        up: real(it, "scale-up-factor"),
        down: real(it, "scale-down-factor"),
        scale_factor: real(it, "scale-factor"),
        concurrency: real(it, "concurrency-level"),
        jitter: real(it, "jitter-threshold"),
        min: count(it, "min-instances"),
        max: count(it, "max-instances"),
        restart_rate: real(it, "expired-instance-restart-rate"),
    }
    .checked()
    .expect("golden configs are in range")
}

fn decide(case: &Value) -> Decision {
    let it = &case["state"];
    let state = State {
        outstanding: count(it, "outstanding-requests"),
        target: real(it, "target-instances"),
        total: count(it, "total-instances"),
        healthy: count(it, "healthy-instances"),
        expired: count(it, "expired-instances"),
        ticks: u64::from(count(&case["config"], "scale-ticks")),
    };
    desired(&config(case), &state, 0.0, f64::INFINITY)
}

/// The doubles are the same bit for bit.
fn exact(case: &Value) {
    let it = &case["exact"];
    let expected = (
        real(it, "target-instances").to_bits(),
        whole(it, "scale-to-instances"),
        whole(it, "scale-amount"),
    );
    let done = decide(case);
    assert_eq!((done.target.to_bits(), done.scale_to, done.amount), expected, "{case}: {done:?}");
}

#[test]
fn normalize_factor() {
    replay("normalize_factor", 13, |case| {
        let ticks = u64::from(count(case, "ticks"));
        let done = smoothing(real(case, "factor"), ticks);
        assert_eq!(done.to_bits(), real(case, "exact").to_bits(), "{case}: {done}");
        assert!((done - real(case, "expect")).abs() < 1e-9, "{case}: {done}");
    });
}

#[test]
fn scale_service() {
    replay("scale_service", 34, |case| {
        exact(case);
        let (done, it) = (decide(case), &case["expect"]);
        assert!((done.target - real(it, "target-instances")).abs() <= 0.01, "{case}: {done:?}");
        assert!((done.amount as f64 - real(it, "scale-amount")).abs() <= 0.01, "{case}: {done:?}");
        assert_eq!(done.scale_to, whole(it, "scale-to-instances"), "{case}");
    });
}

#[test]
fn derived() {
    replay("derived", 240, exact);
}

#[test]
fn quanta_limit_an_order() {
    replay("quanta", 8, |case| {
        let most = Quanta { cpus: real(case, "quanta-cpus"), mem: real(case, "quanta-mem") };
        let amount = whole(case, "scale-amount");
        let done = quanta(amount, real(case, "cpus"), real(case, "mem"), most);
        assert_eq!(done, whole(case, "expect"), "{case}");
    });
}

#[test]
fn scale_services() {
    replay("scale_services", 7, |case| {
        let standing = Standing {
            requested: count(case, "instances"),
            task_count: count(case, "task-count"),
            healthy: count(case, "healthy"),
            expired_healthy: count(case, "expired-healthy"),
            expired_unhealthy: count(case, "expired-unhealthy"),
            outstanding: count(case, "outstanding"),
        };
        let before = Before {
            target: case["previous-target"].as_f64(),
            trend: case["previous-scale-amount"].as_i64().map(Trend::of),
            ticks: Some(5),
        };
        // The stub of the original's test, which throws for app8.
        let (decision, trend) = orchestrate(&before, &standing, |state| {
            let (min, max) = (count(case, "min-instances"), count(case, "max-instances"));
            let target = state.outstanding.clamp(min, max);
            let scale_to = i64::from(target + state.expired);
            let amount = scale_to - i64::from(state.total);
            (case["service"] != "app8").then(|| Decision {
                target: f64::from(target),
                scale_to,
                amount,
                demanded: 0,
            })
        });
        let it = &case["expect"];
        assert_eq!(decision.target, real(it, "target-instances"), "{case}");
        assert_eq!(decision.scale_to, whole(it, "scale-to-instances"), "{case}");
        assert_eq!(decision.amount, whole(it, "scale-amount"), "{case}");
        let notified = case["state-change-notified"].as_str();
        assert_eq!(trend.map(Trend::label), notified, "{case}");
    });
}

#[test]
fn autoscaler_loop() {
    replay("autoscaler_loop", 5, |case| {
        let (done, it) = (decide(case), &case["expect"]);
        assert_eq!(done.target.to_bits(), real(case, "exact-target").to_bits(), "{case}");
        let range = &it["target-range"];
        let (low, high) = (range[0].as_f64().expect("low"), range[1].as_f64().expect("high"));
        assert!((low..=high).contains(&done.target), "{case}: {done:?}");
        assert_eq!(done.amount, whole(it, "scale-amount"), "{case}");
        assert_eq!(done.scale_to, whole(it, "scale-to-instances"), "{case}");
    });
}

/// What follows from the action is the control loop's; here it is the action that is compared.
#[test]
fn scaling_executor() {
    replay("scaling_executor", 12, |case| {
        let or = |name: &str, default: f64| case[name].as_f64().unwrap_or(default);
        let amount = whole(case, "scale-amount");
        let scale_to = or("scale-to", 0.0) as i64;
        let decision = Decision { target: 0.0, scale_to, amount, demanded: 0 };
        let task = Task {
            task_count: or("task-count", 0.0) as u32,
            total: or("total", 0.0) as u32,
            cpus: or("cpus", 1.0),
            mem: or("mem", 1024.0),
            last_scale_down: None,
        };
        let most = Quanta { cpus: or("quanta-cpus", 64.0), mem: or("quanta-mem", 524_288.0) };
        let rules = Rules { quanta: most, ..Rules::DEFAULT };
        let done = act(&decision, &task, &rules, Instant(0));
        let expected = match case["expect"].as_str().expect("a sentence") {
            "noop" => Action::Nothing,
            text if text.starts_with("ignored") => Action::Ignore,
            text if text.starts_with("scale_service") => {
                let inside = text.split(['(', ')', ',']).map(str::trim).collect::<Vec<_>>();
                let n = inside[1].parse().expect("a count");
                Action::ScaleTo { n, force: inside[2] == "force=true" }
            }
            _ => Action::KillOne,
        };
        assert_eq!(done, expected, "{case}");
    });
}
