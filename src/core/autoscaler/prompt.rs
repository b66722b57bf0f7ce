//! The policy `prompt`: a floor and a cap for the target, taken from what is seen (design §6).
//!
//! The floor answers a backlog at once, where the average alone would take a minute. The cap lets
//! go of what the last minute did not need, where the average alone would take an hour. Between
//! them the average rules as in the original.

use crate::base::time::{Duration, Instant};

/// Requests must have waited this long before the floor rises: shorter waits are noise.
const AGE: f64 = 0.2;
/// Share of an instance's time that is planned for when growing.
const LOAD_UP: f64 = 0.8;
/// Share of an instance's time that is planned for when shrinking.
const LOAD_DOWN: f64 = 0.7;
/// A backlog is to be gone within this time, in seconds.
const DRAIN: f64 = 2.0;
/// Where instances need long to boot, draining may take this share of it: clients have waited for
/// the boot anyway, and whoever hurries then has far too many instances afterwards.
const DRAIN_OF_BOOT: f64 = 0.4;
/// Seconds in which a held floor falls to 1/e.
const HOLD: f64 = 30.0;
/// Seconds over which the arrival rate is taken.
const RATE: f64 = 6.0;
/// Seconds of a block, over which the mean of the concurrency is taken.
const BLOCK: f64 = 5.0;
/// Blocks remembered: one minute.
const BLOCKS: usize = 12;
/// Samples remembered; each lasts at least a second.
const SAMPLES: usize = 6;
/// What is left of the weight of served requests after a second in which more were served.
const FADE: f64 = 0.9;
/// Seconds the first request is thought to take, before any was seen.
const SERVICE_TIME_FIRST: f64 = 1.0;
/// Seconds an instance takes to become healthy, until one has.
const BOOT_FIRST: f64 = 5.0;

/// What is asked of a service, all shards together. Counters only grow; one that has become
/// smaller was started anew.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Requests that arrived.
    pub arrivals: u64,
    /// Requests that completed.
    pub completions: u64,
    /// Time completed requests spent at instances, summed.
    pub service_time_sum: Duration,
    /// Outstanding requests (running and waiting) integrated over time: request-seconds.
    pub concurrency_integral: Duration,
    /// Requests that wait for a slot now.
    pub waiting: u32,
    /// How long the oldest of them has waited.
    pub oldest_waiting: Duration,
}

/// The backlog that raised a floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backlog {
    /// Requests that wait.
    pub waiting: u32,
    /// How long the oldest has waited, in seconds.
    pub oldest: f64,
    /// Arrivals per second.
    pub rate: f64,
    /// Seconds a request takes.
    pub service_time: f64,
}

/// Between what the target is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Envelope {
    /// Least, in instances.
    pub floor: f64,
    /// Most, in instances; never below the floor.
    pub cap: f64,
    /// What raised the floor, if it was raised just now.
    pub backlog: Option<Backlog>,
}

impl Envelope {
    /// The policy `classic`: no floor and no cap.
    pub const OPEN: Self = Self { floor: 0.0, cap: f64::INFINITY, backlog: None };
}

/// A stretch of time and what happened in it.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    seconds: f32,
    arrivals: f32,
}

/// What is remembered of a service's demand: the last seconds and the last minute.
#[derive(Clone, Debug)]
pub struct Prompt {
    seen: Demand,
    seen_at: Instant,
    samples: [Sample; SAMPLES],
    sample: Sample,
    blocks: [f32; BLOCKS],
    block_seconds: f64,
    block_integral: f64,
    served: f64,
    served_seconds: f64,
    running_seconds: f64,
    slots: f64,
    floor: f64,
}

impl Prompt {
    /// Begins to watch a service. What it counted before is not looked at.
    pub fn new(demand: &Demand, now: Instant) -> Self {
        Self {
            seen: *demand,
            seen_at: now,
            samples: [Sample::default(); SAMPLES],
            sample: Sample::default(),
            // Until a whole minute has been seen, what it needed is not known: no cap.
            blocks: [f32::INFINITY; BLOCKS],
            block_seconds: 0.0,
            block_integral: 0.0,
            served: 1.0,
            served_seconds: SERVICE_TIME_FIRST,
            running_seconds: SERVICE_TIME_FIRST,
            slots: 0.0,
            floor: 0.0,
        }
    }

    /// The counters stand here now, and healthy instances have so many slots in all.
    pub fn observe(&mut self, demand: &Demand, slots: f64, now: Instant) {
        let seconds = (now - self.seen_at).as_secs_f64();
        let last = std::mem::replace(&mut self.seen, *demand);
        self.seen_at = now;
        self.sample.seconds += seconds as f32;
        self.sample.arrivals += grown(last.arrivals, demand.arrivals) as f32;
        let completions = grown(last.completions, demand.completions);
        let integral = elapsed(last.concurrency_integral, demand.concurrency_integral);
        self.block_seconds += seconds;
        self.block_integral += integral;
        let slots = std::mem::replace(&mut self.slots, slots).midpoint(slots);
        let fade = if completions > 0 { FADE.powf(seconds) } else { 1.0 };
        let served_seconds = elapsed(last.service_time_sum, demand.service_time_sum);
        self.served = self.served * fade + completions as f64;
        self.served_seconds = self.served_seconds * fade + served_seconds;
        self.running_seconds = self.running_seconds * fade + integral.min(slots * seconds);
        if self.floor > 0.0 {
            self.floor *= (-seconds / HOLD).exp();
        }
        self.close();
    }

    /// Floor and cap as of the last observation, for instances that take `concurrency` requests at
    /// a time and become healthy within `boot` of their launch. Holds the floor.
    pub fn envelope(
        &mut self,
        concurrency: f64,
        outstanding: u32,
        boot: Option<Duration>,
    ) -> Envelope {
        let backlog = self.backlog();
        if let Some(backlog) = &backlog {
            let need = need(backlog, outstanding, boot) / concurrency;
            self.floor = self.floor.max(need);
        }
        if self.floor < 1.0 {
            self.floor = 0.0;
        }
        let cap = (self.highest() / LOAD_DOWN + 1.0) / concurrency;
        Envelope { floor: self.floor, cap: cap.max(self.floor), backlog }
    }

    /// Highest 5 s mean of the concurrency in the last minute; infinite until a minute has been
    /// watched. A block that is not full yet counts
    /// as if its rest were empty.
    pub fn highest(&self) -> f64 {
        let closed = self.blocks.iter().copied().fold(0.0, f32::max);
        f64::from(closed).max(self.block_integral / BLOCK)
    }

    /// Arrivals per second over the last 6 s, or less if watched for less.
    pub fn rate(&self) -> f64 {
        let mut seconds = f64::from(self.sample.seconds);
        let mut arrivals = f64::from(self.sample.arrivals);
        for sample in &self.samples {
            if seconds >= RATE {
                break;
            }
            seconds += f64::from(sample.seconds);
            arrivals += f64::from(sample.arrivals);
        }
        arrivals / seconds.max(1.0)
    }

    /// Seconds a request takes at an instance, newer ones weighing more.
    ///
    /// Of requests that began lately only the short ones have completed, so their mean is too low
    /// just when a load sets in. Slot-seconds per completion also count those still running: while
    /// requests wait all slots are taken, else all outstanding requests run.
    pub fn service_time(&self) -> f64 {
        self.served_seconds.max(self.running_seconds) / self.served
    }

    fn backlog(&self) -> Option<Backlog> {
        let oldest = self.seen.oldest_waiting.as_secs_f64();
        (self.seen.waiting > 0 && oldest > AGE).then(|| Backlog {
            waiting: self.seen.waiting,
            oldest,
            rate: self.rate(),
            service_time: self.service_time(),
        })
    }

    /// Puts what lasted long enough into the rings.
    fn close(&mut self) {
        if self.sample.seconds >= 1.0 {
            self.samples.rotate_right(1);
            self.samples[0] = std::mem::take(&mut self.sample);
        }
        if self.block_seconds >= BLOCK {
            let mean = (self.block_integral / self.block_seconds) as f32;
            let blocks = ((self.block_seconds / BLOCK) as usize).min(BLOCKS);
            self.blocks.rotate_right(blocks);
            self.blocks[..blocks].fill(mean);
            self.block_seconds = 0.0;
            self.block_integral = 0.0;
        }
    }
}

/// Slots a backlog asks for.
///
/// Never more than could be in use before instances launched now are ready and have drained it:
/// where requests take minutes, rate × service time speaks of a load that is long in coming. And
/// never more than a slot for each who waits.
fn need(backlog: &Backlog, outstanding: u32, boot: Option<Duration>) -> f64 {
    let boot = boot.map_or(BOOT_FIRST, |boot| boot.as_secs_f64());
    let drain = DRAIN.max(boot * DRAIN_OF_BOOT);
    let waiting = f64::from(backlog.waiting);
    let load = backlog.rate * backlog.service_time / LOAD_UP;
    let drained = waiting * (backlog.service_time / drain).min(1.0);
    let reach = f64::from(outstanding).max(waiting) + backlog.rate * (boot + drain);
    (load + drained).min(reach)
}

/// How far a counter came; from zero if it was started anew.
fn grown(last: u64, now: u64) -> u64 {
    if now >= last { now - last } else { now }
}

fn elapsed(last: Duration, now: Duration) -> f64 {
    now.checked_sub(last).unwrap_or(now).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Watches a constant load of `rate` requests of 1 s per second for so many seconds.
    fn steady(rate: u32, seconds: u64) -> (Prompt, Demand, Instant) {
        let mut demand = Demand::default();
        let mut now = Instant(0);
        let mut prompt = Prompt::new(&demand, now);
        for _ in 0..seconds {
            now += SECOND;
            demand.arrivals += u64::from(rate);
            demand.completions += u64::from(rate);
            demand.service_time_sum += SECOND * rate;
            demand.concurrency_integral += SECOND * rate;
            prompt.observe(&demand, f64::from(rate), now);
        }
        (prompt, demand, now)
    }

    fn waiting(demand: &Demand, waiting: u32, millis: u64) -> Demand {
        Demand { waiting, oldest_waiting: Duration::from_millis(millis), ..*demand }
    }

    #[test]
    fn rate_and_service_time_are_those_of_the_load() {
        let (prompt, ..) = steady(8, 60);
        assert_eq!(prompt.rate(), 8.0);
        assert!((prompt.service_time() - 1.0).abs() < 1e-9);
        assert_eq!(prompt.highest(), 8.0);
    }

    #[test]
    fn without_an_aged_waiter_there_is_no_floor() {
        let (mut prompt, demand, now) = steady(8, 60);
        prompt.observe(&waiting(&demand, 4, 200), 8.0, now);
        let it = prompt.envelope(1.0, 12, None);
        assert_eq!((it.floor, it.backlog), (0.0, None));
        assert!((it.cap - (8.0 / 0.7 + 1.0)).abs() < 1e-6);
    }

    #[test]
    fn an_aged_waiter_asks_for_rate_and_backlog() {
        let (mut prompt, demand, now) = steady(8, 20);
        prompt.observe(&waiting(&demand, 4, 201), 8.0, now);
        let it = prompt.envelope(1.0, 12, None);
        assert!((it.floor - (8.0 / 0.8 + 4.0 / 2.0)).abs() < 1e-6, "{it:?}");
        let half = prompt.clone().envelope(4.0, 12, None);
        assert_eq!(half.floor, it.floor, "what is held is not lowered");
        assert!(half.cap >= half.floor);
    }

    #[test]
    fn a_floor_is_held_and_decays() {
        let (mut prompt, demand, now) = steady(8, 20);
        prompt.observe(&waiting(&demand, 4, 300), 8.0, now);
        let before = prompt.envelope(1.0, 12, None).floor;
        prompt.observe(&demand, 8.0, now + SECOND * 30);
        let after = prompt.envelope(1.0, 0, None).floor;
        assert!((after - before / std::f64::consts::E).abs() < 1e-9);
        prompt.observe(&demand, 8.0, now + SECOND * 600);
        assert_eq!(prompt.envelope(1.0, 0, None).floor, 0.0);
    }

    #[test]
    fn after_a_quiet_minute_the_cap_is_one() {
        let (mut prompt, demand, mut now) = steady(8, 20);
        for second in 1..=65 {
            now += SECOND;
            prompt.observe(&demand, 8.0, now);
            let cap = prompt.envelope(1.0, 0, None).cap;
            assert_eq!(cap > 1.0, second < 60, "{second}: {cap}");
        }
    }

    #[test]
    fn a_slow_boot_is_not_overshot() {
        let backlog = Backlog { waiting: 400, oldest: 10.0, rate: 40.0, service_time: 1.0 };
        assert_eq!(need(&backlog, 440, Some(SECOND * 5)), 50.0 + 200.0);
        assert_eq!(need(&backlog, 440, Some(SECOND * 50)), 50.0 + 400.0 / 20.0);
    }

    #[test]
    fn long_requests_are_not_planned_for_before_they_are_there() {
        let backlog = Backlog { waiting: 1, oldest: 0.3, rate: 1.0, service_time: 1000.0 };
        assert_eq!(need(&backlog, 10, None), 10.0 + 7.0);
        let backlog = Backlog { rate: 0.0, ..backlog };
        assert_eq!(need(&backlog, 10, None), 1.0);
    }

    #[test]
    fn requests_that_still_run_count_for_the_service_time() {
        let (mut prompt, mut demand, now) = steady(8, 60);
        demand.completions += 4;
        demand.service_time_sum += SECOND / 10 * 4;
        demand.concurrency_integral += SECOND * 100;
        prompt.observe(&demand, 8.0, now + SECOND);
        assert!(prompt.service_time() > 1.0, "8 slots were taken for a second, 92 waited");
    }

    #[test]
    fn counters_may_start_anew() {
        let (mut prompt, _, now) = steady(8, 20);
        let anew = Demand { arrivals: 3, ..Demand::default() };
        prompt.observe(&anew, 8.0, now + SECOND);
        assert!(prompt.rate() < 8.0);
    }
}
