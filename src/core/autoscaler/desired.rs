//! The arithmetic of one service: how many instances its demand asks for (control-plane §10.2).
//!
//! Plain IEEE doubles in the original's order of operations, so that every golden value is met
//! bit for bit while the floor is 0 and the cap infinite.

use crate::core::service::Parameters;

/// Differences below this do not count as a whole instance.
const EPSILON: f64 = 0.01;

/// What a service's description says about scaling. Built by [`Config::of`], so it is in range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Share of the gap closed per second when growing; [0, 1].
    pub up: f64,
    /// Share of the gap closed per second when shrinking; [0, 1].
    pub down: f64,
    /// Share of a slot one outstanding request asks for; (0, 2].
    pub scale_factor: f64,
    /// Requests one instance takes at a time; ≥ 1.
    pub concurrency: f64,
    /// Smaller changes are not made, in instances; [0, 1).
    pub jitter: f64,
    /// Fewest instances.
    pub min: u32,
    /// Most instances, replacements of expired ones aside.
    pub max: u32,
    /// Share of the expired instances replaced at a time; [0, 1].
    pub restart_rate: f64,
}

impl Config {
    /// What these parameters say; none if a value is out of range, and then nothing is scaled.
    pub fn of(parameters: &Parameters) -> Option<Self> {
        Self {
            up: parameters.scale_up_factor,
            down: parameters.scale_down_factor,
            scale_factor: parameters.scale_factor,
            concurrency: f64::from(parameters.concurrency_level),
            jitter: parameters.jitter_threshold,
            min: parameters.min_instances,
            max: parameters.max_instances,
            restart_rate: parameters.expired_instance_restart_rate,
        }
        .checked()
    }

    /// Itself, if every value is in range.
    pub fn checked(self) -> Option<Self> {
        let fits = (0.0..=1.0).contains(&self.up)
            && (0.0..=1.0).contains(&self.down)
            && self.scale_factor > 0.0
            && self.scale_factor <= 2.0
            && self.concurrency >= 1.0
            && (0.0..1.0).contains(&self.jitter)
            && (0.0..=1.0).contains(&self.restart_rate);
        fits.then_some(self)
    }
}

/// Where a service stands when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Requests that run or wait.
    pub outstanding: u32,
    /// The target of the look before: an average, in instances.
    pub target: f64,
    /// Instances requested of the scheduler (N).
    pub total: u32,
    /// Instances that are healthy (H).
    pub healthy: u32,
    /// Instances to be replaced (X).
    pub expired: u32,
    /// Whole seconds since the look before.
    pub ticks: u64,
}

/// How many instances a service should have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The new target: an average, in instances; fed back at the next look.
    pub target: f64,
    /// Instances to have now, replacements included. Negative only when far more instances are
    /// healthy than are requested.
    pub scale_to: i64,
    /// `scale_to` minus the instances requested.
    pub amount: i64,
    /// Instances the floor asks for; 0 without a floor.
    pub demanded: u32,
}

impl Decision {
    /// The result of a look that decides nothing.
    pub fn none(target: f64, total: u32) -> Self {
        Self { target, scale_to: i64::from(total), amount: 0, demanded: 0 }
    }
}

/// How many instances a service should have: the golden function with its target held between
/// `floor` and `cap`, both in instances (control-plane §10.2, design §6).
///
/// The description's minimum and maximum win over both.
pub fn desired(config: &Config, state: &State, floor: f64, cap: f64) -> Decision {
    let total = f64::from(state.total);
    let (min, max) = (f64::from(config.min), f64::from(config.max));
    let floor = floor.min(max);
    let ideal = (f64::from(state.outstanding) * config.scale_factor / config.concurrency).ceil();
    let target = average(config, state, ideal).min(max).max(min).min(cap.max(min)).max(floor);
    let ideal = ideal.max(floor.ceil());
    let delta = target - total;
    // Growth is only acted on when the demand exceeds what is there; until then only the average
    // moves, so that noise does not add instances.
    let enough = delta > 0.0 && ideal <= total && state.total >= config.min;
    let amount = if enough || delta.abs() < config.jitter { 0.0 } else { (delta - EPSILON).ceil() };
    let amount = amount as i64;
    let scale_to = i64::from(state.total) + amount + replacements(config, state, amount);
    let amount = scale_to - i64::from(state.total);
    Decision { target, scale_to, amount, demanded: floor.ceil() as u32 }
}

/// The target moved towards the ideal by what has passed of time.
fn average(config: &Config, state: &State, ideal: f64) -> f64 {
    let up = smoothing(config.up, state.ticks);
    let down = smoothing(config.down, state.ticks);
    let up = up * ideal + (1.0 - up) * state.target;
    let down = down * ideal + (1.0 - down) * state.target;
    if up >= state.target { up } else { down }
}

/// Instances to add for those that expired, less those whose replacement is healthy by now.
fn replacements(config: &Config, state: &State, amount: i64) -> i64 {
    if state.expired == 0 || (amount < 0 && state.total == state.healthy) {
        return 0;
    }
    let scale_to = i64::from(state.total) + amount;
    let replace = (f64::from(state.expired) * config.restart_rate).ceil() as i64;
    let excess = (i64::from(state.healthy) - scale_to).max(0);
    replace - excess
}

/// The share of a gap closed in `ticks` seconds when `factor` of it is closed in one.
pub fn smoothing(factor: f64, ticks: u64) -> f64 {
    // `powf`, not `powi`: the golden values come from the C library's `pow`.
    1.0 - (1.0 - factor).powf(ticks as f64)
}

/// What may be launched by one order, all instances together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quanta {
    /// Cores.
    pub cpus: f64,
    /// Memory in MiB.
    pub mem: f64,
}

impl Quanta {
    /// The original's default.
    pub const DEFAULT: Self = Self { cpus: 64.0, mem: 524_288.0 };
}

/// `amount` limited to what one order may launch, but at least 1 (control-plane §10.5).
pub fn quanta(amount: i64, cpus: f64, mem: f64, most: Quanta) -> i64 {
    amount.min((most.cpus / cpus) as i64).min((most.mem / mem) as i64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Config = Config {
        up: 0.1,
        down: 0.001,
        scale_factor: 1.0,
        concurrency: 1.0,
        jitter: 0.5,
        min: 1,
        max: 50,
        restart_rate: 0.1,
    };

    fn state(outstanding: u32, target: f64, total: u32) -> State {
        State { outstanding, target, total, healthy: total, expired: 0, ticks: 1 }
    }

    fn check(state: State, floor: f64, cap: f64, expected: (f64, i64)) {
        let it = desired(&CONFIG, &state, floor, cap);
        assert_eq!((it.target, it.scale_to), expected, "{state:?} floor {floor} cap {cap}");
    }

    #[test]
    fn floor_and_cap_hold_the_target() {
        check(state(20, 1.0, 1), 12.0, f64::INFINITY, (12.0, 12));
        check(state(0, 1.0, 1), 7.5, f64::INFINITY, (7.5, 8));
        check(state(0, 40.0, 40), 0.0, 10.0, (10.0, 11 - 1));
        check(state(0, 40.0, 40), 0.0, 0.0, (1.0, 1));
        check(state(0, 1.0, 1), 1000.0, f64::INFINITY, (50.0, 50));
        check(state(5, 5.0, 5), 5.0, 5.0, (5.0, 5));
    }

    #[test]
    fn a_value_out_of_range_makes_no_config() {
        assert!(CONFIG.checked().is_some());
        for bad in [
            Config { concurrency: 0.0, ..CONFIG },
            Config { jitter: 1.0, ..CONFIG },
            Config { scale_factor: 0.0, ..CONFIG },
            Config { scale_factor: f64::NAN, ..CONFIG },
            Config { up: 1.5, ..CONFIG },
        ] {
            assert_eq!(bad.checked(), None, "{bad:?}");
        }
    }
}
