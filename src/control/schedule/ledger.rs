//! What is wanted of each service, what runs of it, and what follows: who is launched, who is
//! ended.
//!
//! ```text
//!             launched                 Kill, Fail, Delete, End, ended, over memory
//!   wanted ───────────────► active ──────────────────────────────────────────────► ending ──► gone
//!     ▲                                                                    SIGTERM, then SIGKILL
//!     └── back-off, while fewer are active than wanted
//! ```
//! An instance leaves `active` the moment it is decided that it ends, so that nobody sends it
//! another request; it is *gone* only when no process of its group is left, and keeps its ports
//! until then.

use super::backoff::Backoff;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::fact::{FAILED_MAX, Flags, InstanceFact, Order, ServiceFact};
use crate::core::service::Description;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// SIGKILL never follows SIGTERM sooner than this.
const TERMINATION_GRACE_LEAST: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Launch one instance, and say [`Ledger::launched`] or [`Ledger::launch_failed`].
    Launch(Arc<Description>),
    /// SIGTERM to the group of this instance.
    Terminate(InstanceId),
    /// SIGKILL to the group of this instance.
    Kill(InstanceId),
}

/// The books of the scheduler.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    services: BTreeMap<ServiceId, Service>,
    /// Instances that are not gone yet, and when they get SIGKILL; none: they have got it.
    ending: BTreeMap<InstanceId, Option<Instant>>,
    is_closing: bool,
}

#[derive(Debug)]
struct Service {
    description: Arc<Description>,
    requested: u32,
    active: Vec<Active>,
    failed: VecDeque<InstanceFact>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Active {
    fact: InstanceFact,
    launched_at: Instant,
    /// Time between SIGTERM and SIGKILL.
    grace: Duration,
}

impl Ledger {
    /// Takes an order. An order that asks for what is the case already is carried out.
    pub(super) fn order(
        &mut self,
        order: &Order,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match order {
            Order::Create(description, instances) => self.create(description, *instances),
            Order::Scale(id, instances) => {
                let service = self.services.get_mut(id).ok_or("no such service")?;
                service.requested = service.requested.max(*instances);
                Ok(())
            }
            Order::Kill(id) => {
                let (service, active) = self.take_active(id).ok_or("no such instance")?;
                service.requested = service.requested.saturating_sub(1);
                self.end(active, now, effects);
                Ok(())
            }
            Order::Fail(id, flags, message) => {
                let (service, mut active) = self.take_active(id).ok_or("no such instance")?;
                active.fact.flags = active.fact.flags.with(*flags);
                active.fact.message.clone_from(message);
                service.fail(&active, now);
                self.end(active, now, effects);
                Ok(())
            }
            Order::Delete(id) => {
                let service = self.services.remove(id).ok_or("no such service")?;
                self.end_all(service, now, effects);
                Ok(())
            }
            Order::End | Order::EndNow => {
                self.is_closing = true;
                while let Some((_, service)) = self.services.pop_first() {
                    self.end_all(service, now, effects);
                }
                Ok(())
            }
        }
    }

    /// An instance runs.
    pub(super) fn launched(&mut self, fact: InstanceFact, now: Instant) {
        let service = self.service_of(&fact.id).expect("launches follow at once from a tick");
        let grace = service.description.parameters.termination_grace_period;
        service.active.push(Active { fact, launched_at: now, grace });
    }

    /// An instance could not be launched: it counts as one that failed at once.
    pub(super) fn launch_failed(&mut self, fact: InstanceFact, now: Instant) {
        let service = self.service_of(&fact.id).expect("launches follow at once from a tick");
        service.fail(&Active { fact, launched_at: now, grace: Duration::ZERO }, now);
    }

    /// The process that was launched has ended; others of its group may still run. `exit_code` as
    /// in [`InstanceFact`].
    pub(super) fn ended(
        &mut self,
        id: &InstanceId,
        exit_code: i32,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some((service, mut active)) = self.take_active(id) else {
            return; // It was to end.
        };
        if exit_code == 0 {
            service.backoff.failed(active.launched_at, now);
        } else {
            active.fact.exit_code = Some(exit_code);
            active.fact.message = match exit_code {
                1.. => format!("exited with code {exit_code}"),
                _ => format!("ended by signal {}", exit_code.unsigned_abs()),
            };
            service.fail(&active, now);
        }
        self.end(active, now, effects);
    }

    /// The processes of an instance use so much memory; ends it if that is too much.
    pub(super) fn uses_memory(
        &mut self,
        id: &InstanceId,
        used_mib: f64,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let limit_mib = self.service_of(id).map_or(f64::MAX, |it| it.description.parameters.mem);
        if used_mib <= limit_mib {
            return;
        }
        let Some((service, mut active)) = self.take_active(id) else {
            return; // It is ending already.
        };
        active.fact.flags = active.fact.flags.with(Flags::MEMORY_LIMIT_EXCEEDED);
        active.fact.message = format!("used {used_mib:.0} MiB of memory, above its {limit_mib}");
        service.fail(&active, now);
        effects.push(Effect::Kill(id.clone()));
        self.ending.insert(id.clone(), None);
    }

    /// No process of an ending instance is left.
    pub(super) fn gone(&mut self, id: &InstanceId) {
        self.ending.remove(id).expect("an instance ends before it is gone");
    }

    /// Launches what is missing, and kills what did not end in time.
    pub(super) fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for service in self.services.values() {
            if service.may_launch(now) {
                let launch = || Effect::Launch(Arc::clone(&service.description));
                effects.extend((0..service.missing()).map(|_| launch()));
            }
        }
        for (id, kill_at) in &mut self.ending {
            if kill_at.is_some_and(|it| it <= now) {
                *kill_at = None;
                effects.push(Effect::Kill(id.clone()));
            }
        }
    }

    /// When the next tick has something to do.
    pub(super) fn wakeup(&self) -> Option<Instant> {
        let lacking = self.services.values().filter(|it| it.missing() > 0);
        let launches = lacking.map(|it| it.backoff.next_launch());
        launches.chain(self.ending.values().copied().flatten()).min()
    }

    /// Whether an instance of this service may be launched now.
    pub(super) fn may_launch(&self, id: &ServiceId, now: Instant) -> bool {
        self.services.get(id).is_some_and(|it| it.may_launch(now))
    }

    /// Whether the end was ordered and everything is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closing && self.ending.is_empty()
    }

    /// Whether it has been decided that this instance ends.
    pub(super) fn is_ending(&self, id: &InstanceId) -> bool {
        self.ending.contains_key(id)
    }

    /// Whether the service exists.
    pub(super) fn has(&self, id: &ServiceId) -> bool {
        self.services.contains_key(id)
    }

    /// All services and their instances.
    pub(super) fn listing(&self) -> Vec<ServiceFact> {
        let fact = |(id, service): (&ServiceId, &Service)| ServiceFact {
            id: id.clone(),
            requested: service.requested,
            active: service.active.iter().map(|it| it.fact.clone()).collect(),
            failed: service.failed.iter().cloned().collect(),
        };
        self.services.iter().map(fact).collect()
    }

    fn create(&mut self, description: &Arc<Description>, instances: u32) -> Result<(), String> {
        if self.is_closing {
            return Err("the scheduler is ending".to_owned());
        }
        if description.is_static() || description.parameters.cmd.is_empty() {
            return Err("nothing to launch: the service has no command".to_owned());
        }
        let backoff = Backoff::new(description.parameters.restart_backoff_factor);
        self.services.entry(description.id.clone()).or_insert_with(|| Service {
            description: Arc::clone(description),
            requested: instances,
            active: Vec::new(),
            failed: VecDeque::new(),
            backoff,
        });
        Ok(())
    }

    /// The service of an instance.
    fn service_of(&mut self, id: &InstanceId) -> Option<&mut Service> {
        self.services.get_mut(&ServiceId::new(id.service()))
    }

    /// Takes an instance out of those that are active.
    fn take_active(&mut self, id: &InstanceId) -> Option<(&mut Service, Active)> {
        let service = self.service_of(id)?;
        let at = service.active.iter().position(|it| it.fact.id == *id)?;
        let active = service.active.remove(at);
        Some((service, active))
    }

    fn end_all(&mut self, service: Service, now: Instant, effects: &mut Vec<Effect>) {
        for active in service.active {
            self.end(active, now, effects);
        }
    }

    fn end(&mut self, active: Active, now: Instant, effects: &mut Vec<Effect>) {
        effects.push(Effect::Terminate(active.fact.id.clone()));
        let kill_at = now + active.grace.max(TERMINATION_GRACE_LEAST);
        self.ending.insert(active.fact.id, Some(kill_at));
    }
}

impl Service {
    /// How many instances are to be launched.
    fn missing(&self) -> usize {
        usize::try_from(self.requested).unwrap_or(usize::MAX).saturating_sub(self.active.len())
    }

    fn may_launch(&self, now: Instant) -> bool {
        self.missing() > 0 && self.backoff.next_launch() <= now
    }

    /// Notes a failed instance; the oldest is forgotten when there are too many.
    fn fail(&mut self, active: &Active, now: Instant) {
        self.backoff.failed(active.launched_at, now);
        if self.failed.len() == FAILED_MAX {
            self.failed.pop_front();
        }
        self.failed.push_back(active.fact.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::address::{IpAddr, Ipv4Addr};
    use crate::base::time::Date;
    use crate::control::schedule::local::tests::description;

    /// A ledger, its time, and what it asked for.
    #[derive(Default)]
    struct Story {
        ledger: Ledger,
        now: Instant,
        launches: u32,
    }

    impl Story {
        fn with(instances: u32) -> Self {
            let mut story = Self::default();
            let order = Order::Create(Arc::new(description("s", "true")), instances);
            assert_eq!(story.order(order), "");
            story
        }

        /// Carries out launches (named 1, 2, 3…) and returns the rest of the effects in short.
        fn carry_out(&mut self, effects: Vec<Effect>) -> String {
            let mut said = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Launch(description) => {
                        self.launches += 1;
                        let fact = fact(&description.id, self.launches);
                        said.push(format!("launch {}", self.launches));
                        self.ledger.launched(fact, self.now);
                    }
                    Effect::Terminate(id) => said.push(format!("terminate {}", id.suffix())),
                    Effect::Kill(id) => said.push(format!("kill {}", id.suffix())),
                }
            }
            said.join(", ")
        }

        fn order(&mut self, order: Order) -> String {
            let mut effects = Vec::new();
            match self.ledger.order(&order, self.now, &mut effects) {
                Ok(()) => self.carry_out(effects),
                Err(error) => error,
            }
        }

        fn ended(&mut self, suffix: u32, exit_code: i32) -> String {
            let mut effects = Vec::new();
            self.ledger.ended(&id(suffix), exit_code, self.now, &mut effects);
            self.carry_out(effects)
        }

        fn after_ms(&mut self, millis: u64) -> String {
            self.now += Duration::from_millis(millis);
            let mut effects = Vec::new();
            self.ledger.tick(self.now, &mut effects);
            self.carry_out(effects)
        }

        /// Requested, suffixes of the active, suffixes of the failed.
        fn listed(&self) -> String {
            let listing = self.ledger.listing();
            let of = |facts: &[InstanceFact]| {
                facts.iter().map(|it| it.id.suffix().to_owned()).collect::<Vec<_>>().join(" ")
            };
            let line = |it: &ServiceFact| {
                format!("{} | {} | {}", it.requested, of(&it.active), of(&it.failed))
            };
            listing.iter().map(line).collect()
        }
    }

    fn id(suffix: u32) -> InstanceId {
        InstanceId::new(&ServiceId::new("s"), &suffix.to_string())
    }

    fn fact(service: &ServiceId, suffix: u32) -> InstanceFact {
        InstanceFact {
            id: InstanceId::new(service, &suffix.to_string()),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: vec![1],
            started_at: Date(0),
            pid: None,
            log_directory: String::new(),
            exit_code: None,
            flags: Flags::default(),
            message: String::new(),
        }
    }

    #[test]
    fn a_service_is_created_once_and_only_grows() {
        let mut story = Story::with(1);
        assert_eq!(story.after_ms(0), "launch 1");
        assert_eq!(story.order(Order::Create(Arc::new(description("s", "true")), 5)), "");
        assert_eq!(story.order(Order::Scale(ServiceId::new("s"), 3)), "");
        assert_eq!(story.order(Order::Scale(ServiceId::new("s"), 2)), "");
        assert_eq!(story.after_ms(0), "launch 2, launch 3");
        assert_eq!(story.after_ms(1_000), "");
        assert_eq!(story.listed(), "3 | 1 2 3 | ");
        assert_eq!(story.order(Order::Scale(ServiceId::new("t"), 2)), "no such service");
        let none = Order::Create(Arc::new(description("t", "")), 1);
        assert_eq!(story.order(none), "nothing to launch: the service has no command");
    }

    #[test]
    fn a_killed_instance_is_not_replaced_and_gets_its_grace() {
        let mut story = Story::with(2);
        story.after_ms(0);
        assert_eq!(story.order(Order::Kill(id(1))), "terminate 1");
        assert_eq!(story.listed(), "1 | 2 | ");
        assert_eq!(story.ledger.wakeup(), Some(Instant(0) + Duration::from_secs(2)));
        assert_eq!(story.after_ms(1_999), "");
        assert_eq!(story.order(Order::Kill(id(1))), "no such instance");
        assert_eq!(story.after_ms(1), "kill 1");
        assert_eq!(story.ended(1, -9), "");
        assert!(story.ledger.is_ending(&id(1)), "the leader alone is not the group");
        story.ledger.gone(&id(1));
        assert_eq!((story.listed().as_str(), story.ledger.wakeup()), ("1 | 2 | ", None));
    }

    #[test]
    fn who_ends_alone_is_replaced_after_a_pause_and_what_it_leaves_behind_is_ended() {
        let mut story = Story::with(1);
        story.after_ms(0);
        assert_eq!(story.after_ms(10), "");
        assert_eq!(story.ended(1, 3), "terminate 1");
        assert_eq!(story.listed(), "1 |  | 1");
        assert_eq!(story.after_ms(199), "");
        assert_eq!(story.after_ms(1), "launch 2");
        story.after_ms(1);
        assert_eq!(story.ended(2, 0), "terminate 2");
        assert_eq!(story.listed(), "1 |  | 1", "code 0 is no failure");
        assert_eq!(story.after_ms(399), "");
        assert_eq!(story.after_ms(1), "launch 3");
        let failed = story.ledger.listing()[0].failed[0].clone();
        assert_eq!((failed.exit_code, failed.message.as_str()), (Some(3), "exited with code 3"));
    }

    #[test]
    fn failures_are_named_and_the_oldest_forgotten() {
        let mut story = Story::with(12);
        story.after_ms(0);
        for n in 1..=10 {
            story.ended(n, -11);
        }
        let unhealthy = Order::Fail(id(11), Flags::NEVER_PASSED_HEALTH_CHECKS, "why".to_owned());
        assert_eq!(story.order(unhealthy), "terminate 11");
        let mut effects = Vec::new();
        story.ledger.uses_memory(&id(12), 64.0, story.now, &mut effects);
        assert_eq!(effects, []);
        story.ledger.uses_memory(&id(12), 64.5, story.now, &mut effects);
        assert_eq!(story.carry_out(effects), "kill 12");
        assert_eq!(story.listed(), "12 |  | 3 4 5 6 7 8 9 10 11 12");
        let failed = &story.ledger.listing()[0].failed;
        assert_eq!(failed[7].message, "ended by signal 11");
        assert_eq!(failed[8].message, "why");
        assert_eq!(failed[8].flags, Flags::NEVER_PASSED_HEALTH_CHECKS);
        assert_eq!(failed[9].flags, Flags::MEMORY_LIMIT_EXCEEDED);
        assert_eq!(failed[9].message, "used 64 MiB of memory, above its 64");
    }

    #[test]
    fn the_end_ends_all_and_starts_nothing() {
        let mut story = Story::with(1);
        story.after_ms(0);
        assert_eq!(story.order(Order::Delete(ServiceId::new("s"))), "terminate 1");
        assert_eq!(story.order(Order::Delete(ServiceId::new("s"))), "no such service");
        let again = || Order::Create(Arc::new(description("s", "true")), 1);
        assert_eq!(story.order(again()), "");
        assert_eq!(story.after_ms(0), "launch 2");
        assert_eq!(story.order(Order::End), "terminate 2");
        assert_eq!(story.order(again()), "the scheduler is ending");
        story.ended(2, -15);
        story.ledger.gone(&id(1));
        assert!(!story.ledger.is_closed());
        story.ledger.gone(&id(2));
        assert!(story.ledger.is_closed());
    }
}
