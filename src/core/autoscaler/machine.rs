//! All services, once a second; and one service at once when a request finds no slot
//! (control-plane §10.1, §10.3, design §6).
//!
//! The control loop owns the one `Autoscaler`. It holds what must be remembered of each service
//! between two cycles: the average, the floor, the last kill. Whatever else it needs it is told.

use super::desired::{Config, Decision, State, desired};
use super::executor::{Action, Rules, Task, act};
use super::prompt::{Demand, Envelope, Prompt};
use super::reason::Reason;
use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::core::aggregator;
use crate::core::service::{Parameters, ScalingPolicy};
use std::collections::HashMap;

/// Shortest time between two urgent looks at one service.
const URGENT: Duration = Duration::from_millis(100);

/// Expired instances that are not healthy count at most this often: replacing them does no harm
/// to running requests, but a service that is broken as a whole must not be doubled.
const EXPIRED_UNHEALTHY_MAX: u32 = 2;

/// One service as the autoscaler is shown it. Services of the operator's own servers are not shown.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Its id.
    pub id: &'a ServiceId,
    /// What its description says.
    pub parameters: &'a Parameters,
    /// Its instances and requests.
    pub standing: Standing,
    /// What is asked of it.
    pub demand: Demand,
    /// Time its instances take from launch to healthy, where that is known.
    pub boot_time: Option<Duration>,
}

/// How many of what a service has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// Instances requested of the scheduler.
    pub requested: u32,
    /// Instances that exist.
    pub task_count: u32,
    /// Those that are healthy.
    pub healthy: u32,
    /// Those that are healthy and expired.
    pub expired_healthy: u32,
    /// Those that are expired and not healthy.
    pub expired_unhealthy: u32,
    /// Requests that run or wait.
    pub outstanding: u32,
}

impl Standing {
    /// Of a service in this state, with so many requests that run or wait.
    pub fn of(state: &aggregator::State, outstanding: u32) -> Self {
        let (expired_healthy, expired_unhealthy) = state.expired_counts();
        Self {
            requested: state.counts.requested,
            task_count: state.counts.scheduled,
            healthy: state.counts.healthy,
            expired_healthy,
            expired_unhealthy,
            outstanding,
        }
    }
}

/// Where the number of instances goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trend {
    /// It stays.
    Stable,
    /// It grows.
    ScaleUp,
    /// It shrinks.
    ScaleDown,
}

impl Trend {
    /// As the API names it (`scaling-state`).
    pub fn label(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::ScaleUp => "scale-up",
            Self::ScaleDown => "scale-down",
        }
    }

    /// The trend of an amount.
    pub fn of(amount: i64) -> Self {
        match amount {
            0 => Self::Stable,
            1.. => Self::ScaleUp,
            _ => Self::ScaleDown,
        }
    }
}

/// A service is to be scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Which.
    pub service: ServiceId,
    /// By how many instances; never 0.
    pub amount: i64,
    /// To how many instances.
    pub scale_to: i64,
    /// The average behind it, in instances.
    pub target: f64,
    /// What is to be done about it now.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What is remembered of one service.
#[derive(Debug)]
struct Memory {
    target: f64,
    trend: Option<Trend>,
    kill_asked_at: Option<Instant>,
    last_scale_down: Option<Instant>,
    urgent_at: Option<Instant>,
    prompt: Prompt,
    cycle: u64,
}

/// How many instances each service should have, cycle by cycle.
#[derive(Debug)]
pub struct Autoscaler {
    rules: Rules,
    services: HashMap<ServiceId, Memory, foldhash::fast::FixedState>,
    cycle: u64,
    /// Up to where seconds have been counted as ticks.
    ticked: Option<Instant>,
}

impl Autoscaler {
    /// An autoscaler that has seen nothing.
    pub fn new(rules: Rules) -> Self {
        Self { rules, services: HashMap::default(), cycle: 0, ticked: None }
    }

    /// Looks at all services and pushes what is to be done. A service that is not among them is
    /// forgotten. Wanted once a second; the first cycle only looks.
    pub fn cycle<'a>(
        &mut self,
        services: impl IntoIterator<Item = Input<'a>>,
        out: &mut Vec<Scaling>,
        now: Instant,
    ) {
        let ticks = self.ticks(now);
        self.cycle += 1;
        let mut seen = 0;
        for input in services {
            seen += 1;
            if let Some(scaling) = self.look(&input, ticks, now) {
                out.push(scaling);
            }
        }
        if self.services.len() > seen {
            let cycle = self.cycle;
            self.services.retain(|_, memory| memory.cycle == cycle);
        }
    }

    /// Looks at one service at once, because a request of it waits: with each news of a waiter.
    /// Only grows it; looks at most every 100 ms; time does not count, so the average stays.
    pub fn urgent(&mut self, input: &Input<'_>, now: Instant) -> Option<Scaling> {
        if input.parameters.scaling_policy != ScalingPolicy::Prompt {
            return None;
        }
        if let Some(memory) = self.services.get_mut(input.id) {
            if memory.urgent_at.is_some_and(|last| now < last + URGENT) {
                return None;
            }
            memory.urgent_at = Some(now);
        }
        let scaling = self.look(input, Some(0), now)?;
        matches!(scaling.action, Action::ScaleTo { force: false, .. }).then_some(scaling)
    }

    /// An instance has been ended as [`Action::KillOne`] asked. A caller has at most one kill per
    /// service under way. The pause before the next counts from when it was asked for, so that a
    /// kill that takes a moment does not cost the next its turn.
    pub fn killed(&mut self, service: &ServiceId) {
        if let Some(memory) = self.services.get_mut(service) {
            memory.last_scale_down = memory.kill_asked_at;
        }
    }

    /// Where a service's number of instances goes, as of the last look.
    pub fn trend(&self, service: &ServiceId) -> Option<Trend> {
        self.services.get(service).and_then(|memory| memory.trend)
    }

    /// A service's average, in instances.
    pub fn target(&self, service: &ServiceId) -> Option<f64> {
        self.services.get(service).map(|memory| memory.target)
    }

    /// Whole seconds since the last cycle; none at the first. What is left of a second is counted
    /// by the next cycle, so that a timer that comes a little early loses nothing.
    fn ticks(&mut self, now: Instant) -> Option<u64> {
        let Some(last) = self.ticked else {
            self.ticked = Some(now);
            return None;
        };
        let ticks = (now - last).as_secs();
        self.ticked = Some(last + Duration::from_secs(ticks));
        Some(ticks)
    }

    /// One service, `ticks` seconds after the cycle before.
    fn look(&mut self, input: &Input<'_>, ticks: Option<u64>, now: Instant) -> Option<Scaling> {
        let memory = match self.services.get_mut(input.id) {
            Some(memory) => memory,
            None => self.services.entry(input.id.clone()).or_insert_with(|| Memory {
                target: f64::from(input.standing.task_count),
                trend: None,
                kill_asked_at: None,
                last_scale_down: None,
                urgent_at: Some(now),
                prompt: Prompt::new(&input.demand, now),
                cycle: self.cycle,
            }),
        };
        memory.cycle = self.cycle;
        let config = Config::of(input.parameters);
        let envelope = memory.envelope(input, config.as_ref(), now);
        let before = Before { target: Some(memory.target), trend: memory.trend, ticks };
        let mut looked = None;
        let (decision, trend) = orchestrate(&before, &input.standing, |state| {
            let config = config?;
            looked = Some((config, *state));
            Some(desired(&config, state, envelope.floor, envelope.cap))
        });
        memory.target = decision.target;
        memory.trend = trend.or(memory.trend);
        if decision.amount == 0 {
            return None;
        }
        let (config, state) = looked?;
        let task = Task {
            task_count: input.standing.task_count,
            total: input.standing.requested,
            cpus: input.parameters.cpus,
            mem: input.parameters.mem,
            last_scale_down: memory.last_scale_down,
        };
        let action = act(&decision, &task, &self.rules, now);
        if action == Action::KillOne {
            memory.kill_asked_at = Some(now);
        }
        Some(Scaling {
            service: input.id.clone(),
            amount: decision.amount,
            scale_to: decision.scale_to,
            target: decision.target,
            action,
            reason: Reason::of(&config, &state, &decision, &envelope),
        })
    }
}

impl Memory {
    fn envelope(&mut self, input: &Input<'_>, config: Option<&Config>, now: Instant) -> Envelope {
        match (input.parameters.scaling_policy, config) {
            (ScalingPolicy::Prompt, Some(config)) => {
                let slots = f64::from(input.standing.healthy) * config.concurrency;
                self.prompt.observe(&input.demand, slots, now);
                let outstanding = input.standing.outstanding;
                self.prompt.envelope(config.concurrency, outstanding, input.boot_time)
            }
            (ScalingPolicy::Prompt, None) | (ScalingPolicy::Classic, _) => Envelope::OPEN,
        }
    }
}

/// What is known of a service from the look before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before {
    /// Its target.
    pub target: Option<f64>,
    /// Where it went.
    pub trend: Option<Trend>,
    /// Whole seconds since.
    pub ticks: Option<u64>,
}

/// One service in one cycle (control-plane §10.3): shows `scale` what it needs to see, and returns
/// its decision with the new trend, if that changed. Decides nothing while no time has been
/// counted, or when `scale` cannot decide.
pub fn orchestrate(
    before: &Before,
    standing: &Standing,
    scale: impl FnOnce(&State) -> Option<Decision>,
) -> (Decision, Option<Trend>) {
    let target = before.target.unwrap_or_else(|| f64::from(standing.task_count));
    let expired = standing.expired_unhealthy.min(EXPIRED_UNHEALTHY_MAX);
    let decision = before.ticks.and_then(|ticks| {
        scale(&State {
            outstanding: standing.outstanding,
            target,
            total: standing.requested,
            healthy: standing.healthy,
            expired: standing.expired_healthy + expired,
            ticks,
        })
    });
    let decision = decision.unwrap_or_else(|| Decision::none(target, standing.requested));
    let trend = Trend::of(decision.amount);
    (decision, (before.trend != Some(trend)).then_some(trend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: f64) -> Instant {
        Instant((seconds * 1e9) as u64)
    }

    fn input<'a>(id: &'a ServiceId, parameters: &'a Parameters, have: u32) -> Input<'a> {
        let standing =
            Standing { requested: have, task_count: have, healthy: have, ..Standing::default() };
        Input { id, parameters, standing, demand: Demand::default(), boot_time: None }
    }

    fn waiting<'a>(id: &'a ServiceId, parameters: &'a Parameters, waiting: u32) -> Input<'a> {
        let mut it = input(id, parameters, 1);
        it.standing.outstanding = waiting + 1;
        it.demand.waiting = waiting;
        it.demand.arrivals = u64::from(waiting);
        it.demand.oldest_waiting = Duration::from_millis(300);
        it
    }

    #[test]
    fn the_first_cycle_only_looks() {
        let (id, parameters) = (ServiceId::new("s"), fixture::parameters());
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        let mut out = Vec::new();
        scaler.cycle([input(&id, &parameters, 0)], &mut out, at(0.0));
        assert_eq!((out.len(), scaler.trend(&id)), (0, Some(Trend::Stable)));
        scaler.cycle([input(&id, &parameters, 0)], &mut out, at(1.0));
        assert_eq!(out[0].action, Action::ScaleTo { n: 1, force: false });
        assert_eq!(out[0].reason.to_string(), "0 requested, minimum 1");
        assert_eq!(scaler.trend(&id), Some(Trend::ScaleUp));
    }

    #[test]
    fn a_timer_that_is_early_loses_no_time() {
        let (id, parameters) = (ServiceId::new("s"), fixture::classic());
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        let mut out = Vec::new();
        for n in 0..=100 {
            let mut it = input(&id, &parameters, 1);
            it.standing.outstanding = 1000;
            scaler.cycle([it], &mut out, at(f64::from(n) * 0.999));
        }
        let ninety_nine = 1000.0 - 999.0 * 0.9_f64.powi(99);
        let capped = ninety_nine.min(f64::from(parameters.max_instances));
        assert!((scaler.target(&id).expect("looked at") - capped).abs() < 1.0);
    }

    #[test]
    fn what_is_not_shown_is_forgotten() {
        let ids = ["a", "b", "c"].map(ServiceId::new);
        let parameters = fixture::parameters();
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        let mut out = Vec::new();
        scaler.cycle(ids.iter().map(|id| input(id, &parameters, 1)), &mut out, at(0.0));
        scaler.cycle(ids[1..].iter().map(|id| input(id, &parameters, 1)), &mut out, at(1.0));
        assert_eq!(ids.map(|id| scaler.target(&id)), [None, Some(1.0), Some(1.0)]);
    }

    #[test]
    fn a_waiter_grows_its_service_at_once() {
        let (id, parameters) = (ServiceId::new("s"), fixture::parameters());
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        scaler.cycle([input(&id, &parameters, 1)], &mut Vec::new(), at(0.0));
        let it = waiting(&id, &parameters, 12);
        let scaling = scaler.urgent(&it, at(0.3)).expect("12 wait");
        assert_eq!(scaling.action, Action::ScaleTo { n: 21, force: false });
        let text = "12 waiting, oldest 0.3 s; arrival 12/s × 1.0 s: floor 21";
        assert_eq!(scaling.reason.to_string(), text);
    }

    #[test]
    fn urgent_looks_keep_their_distance_and_classic_has_none() {
        let (id, prompt) = (ServiceId::new("s"), fixture::parameters());
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        scaler.cycle([input(&id, &prompt, 1)], &mut Vec::new(), at(0.0));
        let it = waiting(&id, &prompt, 1);
        assert!(scaler.urgent(&it, at(0.05)).is_none());
        assert!(scaler.urgent(&it, at(0.11)).is_some());
        assert!(scaler.urgent(&it, at(0.2)).is_none());
        assert!(scaler.urgent(&it, at(0.22)).is_some());
        let classic = fixture::classic();
        assert!(scaler.urgent(&waiting(&id, &classic, 9), at(1.0)).is_none());
    }

    #[test]
    fn a_floor_grows_while_instances_boot() {
        let (id, parameters) = (ServiceId::new("s"), fixture::parameters());
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        let mut out = Vec::new();
        scaler.cycle([input(&id, &parameters, 1)], &mut out, at(0.0));
        let mut it = waiting(&id, &parameters, 40);
        it.standing.requested = 21;
        it.standing.task_count = 9;
        scaler.cycle([it], &mut out, at(1.0));
        assert!(matches!(out[0].action, Action::ScaleTo { n: 22.., .. }), "{out:?}");
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        let classic = fixture::classic();
        it.parameters = &classic;
        it.standing.requested = 3;
        it.standing.task_count = 2;
        out.clear();
        scaler.cycle([it], &mut out, at(0.0));
        scaler.cycle([it], &mut out, at(1.0));
        assert!(out.iter().all(|it| it.action == Action::Ignore) && !out.is_empty(), "{out:?}");
    }

    #[test]
    fn shrinking_kills_one_at_a_time() {
        let (id, parameters) =
            (ServiceId::new("s"), Parameters { max_instances: 4, ..fixture::parameters() });
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        let mut actions = Vec::new();
        use Action::{Ignore, KillOne};
        for n in 0..6 {
            let mut out = Vec::new();
            scaler.cycle([input(&id, &parameters, 10)], &mut out, at(f64::from(n) * 0.6));
            if out.first().is_some_and(|it| it.action == KillOne) && n != 1 {
                scaler.killed(&id);
            }
            actions.extend(out.iter().map(|it| it.action));
        }
        assert_eq!(actions, [KillOne, KillOne, Ignore, KillOne, Ignore], "the first failed");
    }

    #[test]
    fn ten_thousand_services_at_rest_push_nothing() {
        let ids: Vec<_> = (0..10_000).map(|n| ServiceId::new(&format!("s-{n}"))).collect();
        let parameters = fixture::parameters();
        let mut scaler = Autoscaler::new(Rules::DEFAULT);
        let mut out = Vec::new();
        let mut now = Instant(0);
        for _ in 0..100 {
            scaler.cycle(ids.iter().map(|id| input(id, &parameters, 1)), &mut out, now);
            now += SECOND;
        }
        assert!(out.is_empty(), "{:?}", out.first());
    }
}
