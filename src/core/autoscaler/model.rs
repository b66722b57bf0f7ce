//! One modelled service under a load, scaled by a policy: how long requests wait and how many
//! instance-seconds that costs (a port of `models/autoscaler.py`).
//!
//! Instances take 5 s to boot and one request at a time; a request takes 1 s in the mean. The
//! policies `prompt` and `classic` run through the real [`Autoscaler`], orders and all.

use super::desired::Quanta;
use super::executor::{Action, Rules};
use super::kpa::Kpa;
use super::machine::{Autoscaler, Input, Scaling, Standing};
use super::prompt::Demand;
use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::core::fixture;
use crate::core::service::Parameters;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

const HORIZON: f64 = 900.0;
const BOOT: f64 = 5.0;
const WORK: f64 = 1.0;
const SEEDS: [u64; 3] = [1, 2, 3];

/// Requests per second at a time, in seconds.
type Load = fn(f64) -> f64;

/// Chance that can be replayed (SplitMix64).
struct Chance(u64);

impl Chance {
    /// Exponentially distributed with this mean.
    fn exponential(&mut self, mean: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        -mean * (1.0 - uniform).ln()
    }
}

/// What happens in the model. Of what happens at one time the first in this list comes first.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Happens {
    Arrival,
    Completion {
        micros: u64,
    },
    Ready,
    /// Every 100 ms: news of a waiter.
    Pulse,
    /// Every second: a cycle.
    Cycle,
}

enum Policy {
    Ours(Box<Autoscaler>, Box<Parameters>),
    Knative(Kpa),
}

struct Model {
    chance: Chance,
    events: BinaryHeap<Reverse<(u64, Happens)>>,
    policy: Policy,
    id: ServiceId,
    ready: u32,
    booting: u32,
    busy: u32,
    queue: VecDeque<f64>,
    waits: Vec<f64>,
    demand: Demand,
    integral: f64,
    instance_seconds: f64,
    work: f64,
    cycled: f64,
    now: f64,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    wait_p99: f64,
    instance_seconds: f64,
    per_work: f64,
}

impl Model {
    fn new(policy: Policy, load: Load, seed: u64) -> Self {
        let mut model = Self {
            chance: Chance(seed),
            events: BinaryHeap::new(),
            policy,
            id: ServiceId::new("modelled"),
            ready: 1,
            booting: 0,
            busy: 0,
            queue: VecDeque::new(),
            waits: Vec::new(),
            demand: Demand::default(),
            integral: 0.0,
            instance_seconds: 0.0,
            work: 0.0,
            cycled: 0.0,
            now: 0.0,
        };
        let mut at = 0.0;
        while at < HORIZON {
            at += model.chance.exponential(1.0 / load(at));
            model.at(at, Happens::Arrival);
            model.work += WORK;
        }
        for tenth in 1..(HORIZON as u32 * 10) {
            model.at(f64::from(tenth) / 10.0, Happens::Pulse);
            if tenth % 10 == 0 {
                model.at(f64::from(tenth / 10), Happens::Cycle);
            }
        }
        model
    }

    fn at(&mut self, at: f64, happens: Happens) {
        self.events.push(Reverse(((at * 1e6) as u64, happens)));
    }

    fn run(mut self) -> Cost {
        while let Some(Reverse((micros, happens))) = self.events.pop() {
            let now = micros as f64 / 1e6;
            if now > HORIZON {
                break;
            }
            let seconds = now - self.now;
            self.integral += f64::from(self.outstanding()) * seconds;
            self.instance_seconds += f64::from(self.ready + self.booting) * seconds;
            self.now = now;
            self.happens(happens);
        }
        self.waits.extend(self.queue.iter().map(|arrived| HORIZON - arrived));
        self.waits.sort_by(f64::total_cmp);
        Cost {
            wait_p99: self.waits[self.waits.len() * 99 / 100],
            instance_seconds: self.instance_seconds,
            per_work: self.instance_seconds / self.work,
        }
    }

    fn happens(&mut self, happens: Happens) {
        match happens {
            Happens::Arrival => {
                self.demand.arrivals += 1;
                self.queue.push_back(self.now);
            }
            Happens::Completion { micros } => {
                self.busy -= 1;
                self.demand.completions += 1;
                self.demand.service_time_sum += Duration::from_micros(micros);
            }
            Happens::Ready => {
                self.booting -= 1;
                self.ready += 1;
            }
            Happens::Pulse => self.pulse(),
            Happens::Cycle => self.cycle(),
        }
        while self.busy < self.ready
            && let Some(arrived) = self.queue.pop_front()
        {
            self.busy += 1;
            self.waits.push(self.now - arrived);
            let work = self.chance.exponential(WORK);
            let completion = Happens::Completion { micros: (work * 1e6) as u64 };
            self.at(self.now + work, completion);
        }
    }

    fn outstanding(&self) -> u32 {
        self.busy + self.queue.len() as u32
    }

    fn pulse(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let scaling = self.look(|scaler, input, now| scaler.urgent(&input, now));
        self.carry_out(scaling);
    }

    fn cycle(&mut self) {
        let concurrency = self.integral - std::mem::replace(&mut self.cycled, self.integral);
        if let Policy::Knative(kpa) = &mut self.policy {
            let wanted = kpa.wanted(concurrency, self.ready, self.now);
            let have = self.ready + self.booting;
            self.grow(wanted.saturating_sub(have));
            self.ready -= have.saturating_sub(wanted).min(self.ready - self.busy);
        }
        let scaling = self.look(|scaler, input, now| {
            let mut out = Vec::new();
            scaler.cycle([input], &mut out, now);
            out.pop()
        });
        self.carry_out(scaling);
    }

    fn look(
        &mut self,
        look: impl FnOnce(&mut Autoscaler, Input<'_>, Instant) -> Option<Scaling>,
    ) -> Option<Scaling> {
        let outstanding = self.outstanding();
        let have = self.ready + self.booting;
        let Policy::Ours(scaler, parameters) = &mut self.policy else { return None };
        let standing = Standing {
            requested: have,
            // An instance that boots is a task that is still to come.
            task_count: self.ready,
            healthy: self.ready,
            outstanding,
            ..Standing::default()
        };
        let oldest = self.queue.front().map_or(0.0, |arrived| self.now - arrived);
        self.demand.waiting = self.queue.len() as u32;
        self.demand.oldest_waiting = Duration::from_secs_f64(oldest);
        self.demand.concurrency_integral = Duration::from_secs_f64(self.integral);
        let (id, demand) = (&self.id, self.demand);
        let boot_time = Some(Duration::from_secs_f64(BOOT));
        let input = Input { id, parameters, standing, demand, boot_time };
        look(scaler, input, Instant((self.now * 1e9) as u64))
    }

    fn carry_out(&mut self, scaling: Option<Scaling>) {
        match scaling.map(|it| it.action) {
            Some(Action::ScaleTo { n, .. }) => {
                self.grow(n.saturating_sub(self.ready + self.booting));
            }
            Some(Action::KillOne) if self.ready > self.busy.max(1) => {
                self.ready -= 1;
                let Policy::Ours(scaler, _) = &mut self.policy else { return };
                scaler.killed(&self.id);
            }
            Some(Action::KillOne | Action::Ignore | Action::Nothing) | None => {}
        }
    }

    fn grow(&mut self, amount: u32) {
        self.booting += amount;
        for _ in 0..amount {
            self.at(self.now + BOOT, Happens::Ready);
        }
    }
}

fn ours(parameters: Parameters) -> Policy {
    let rules = Rules { quanta: Quanta::DEFAULT, ..Rules::DEFAULT };
    Policy::Ours(Box::new(Autoscaler::new(rules)), Box::new(parameters))
}

/// The mean over all seeds.
fn mean(policy: impl Fn() -> Policy, load: Load) -> Cost {
    let mut sum = Cost::default();
    for seed in SEEDS {
        let cost = Model::new(policy(), load, seed).run();
        sum.wait_p99 += cost.wait_p99 / SEEDS.len() as f64;
        sum.instance_seconds += cost.instance_seconds / SEEDS.len() as f64;
        sum.per_work += cost.per_work / SEEDS.len() as f64;
    }
    sum
}

fn step(t: f64) -> f64 {
    if (100.0..220.0).contains(&t) { 40.0 } else { 1.0 }
}

fn bursts(t: f64) -> f64 {
    if t > 60.0 && t % 120.0 < 10.0 { 60.0 } else { 1.0 }
}

fn sine(t: f64) -> f64 {
    25.0 + 20.0 * (t / 900.0 * std::f64::consts::TAU * 2.0).sin()
}

fn steady(_: f64) -> f64 {
    20.0
}

#[test]
fn policies_compared() {
    let loads: [(&str, Load); 4] = [
        ("step 1 to 40/s for 120 s", step),
        ("bursts 60/s, 10 of 120 s", bursts),
        ("slow sine 5 to 45/s", sine),
        ("steady 20/s", steady),
    ];
    for (name, load) in loads {
        let prompt = mean(|| ours(fixture::parameters()), load);
        let classic = mean(|| ours(fixture::classic()), load);
        let knative = mean(|| Policy::Knative(Kpa::default()), load);
        println!("{name}");
        for (policy, cost) in [("prompt", prompt), ("classic", classic), ("knative", knative)] {
            let Cost { wait_p99, instance_seconds, per_work } = cost;
            println!(
                "  {policy:8} wait p99 {wait_p99:6.2} s  instance-seconds {instance_seconds:8.0} \
                 ({per_work:5.2} per second of work)"
            );
        }
        assert!(prompt.wait_p99 <= classic.wait_p99, "{name}: prompt waits longer than classic");
        if name.starts_with("step") {
            assert!(
                prompt.instance_seconds <= classic.instance_seconds,
                "{name}: prompt costs more"
            );
        }
    }
}
