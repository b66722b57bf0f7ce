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
//! another request; it is *gone* only when no process of it is left, neither in its group nor
//! outside, and keeps its ports until then. Those outside are ended after the group: until then it
//! may want to end them itself.
//!
//! An instance that ends without being asked to has failed, whatever its exit code, since a command
//! has to stay in the foreground. Only one that had lasted and then ends with code 0 has just
//! ended. Either is replaced.

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
    /// SIGTERM to what is left of this instance.
    Terminate(InstanceId),
    /// SIGKILL to what is left of this instance.
    Kill(InstanceId),
}

/// The books of the scheduler.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    services: BTreeMap<ServiceId, Service>,
    /// Instances that are to end and are not gone yet.
    ending: BTreeMap<InstanceId, Ending>,
    closing: Closing,
}

/// Whether the end of everything was ordered, and how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Closing {
    #[default]
    No,
    Gracefully,
    AtOnce,
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

/// What is left of an instance.
#[derive(Debug)]
struct Ending {
    /// Time between SIGTERM and SIGKILL.
    grace: Duration,
    /// When it gets SIGKILL; none: it has got it.
    kill_at: Option<Instant>,
    /// Its group is gone, and processes that have left it are not.
    is_outlived: bool,
}

/// How an instance was lost that nobody had asked to end.
#[derive(Debug, PartialEq)]
pub(super) struct Loss {
    /// From its launch to its end.
    pub(super) lived: Duration,
    /// In words, why it ended.
    pub(super) message: String,
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
            Order::End => {
                self.close(Closing::Gracefully, now, effects);
                Ok(())
            }
            Order::EndNow => {
                self.close(Closing::AtOnce, now, effects);
                for (id, ending) in &mut self.ending {
                    (ending.grace, ending.kill_at) = (Duration::ZERO, None);
                    effects.push(Effect::Kill(id.clone()));
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
    ) -> Option<Loss> {
        // None: it was to end.
        let (service, mut active) = self.take_active(id)?;
        let lasted = Backoff::has_lasted(active.launched_at, now);
        active.fact.exit_code = Some(exit_code);
        active.fact.message = match exit_code {
            0 if lasted => "ended with code 0".to_owned(),
            0 => "ended with code 0; the command must stay in the foreground".to_owned(),
            1.. => format!("exited with code {exit_code}"),
            _ => format!("ended by signal {}", exit_code.unsigned_abs()),
        };
        if exit_code == 0 && lasted {
            service.backoff.failed(active.launched_at, now);
        } else {
            service.fail(&active, now);
        }
        let loss = active.loss(now);
        self.end(active, now, effects);
        Some(loss)
    }

    /// The processes of an instance use so much memory; ends it if that is too much.
    pub(super) fn uses_memory(
        &mut self,
        id: &InstanceId,
        used_mib: f64,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> Option<Loss> {
        let limit_mib = self.service_of(id).map_or(f64::MAX, |it| it.description.parameters.mem);
        if used_mib <= limit_mib {
            return None;
        }
        // None: it is ending already.
        let (service, mut active) = self.take_active(id)?;
        active.fact.flags = active.fact.flags.with(Flags::MEMORY_LIMIT_EXCEEDED);
        active.fact.message = format!("used {used_mib:.0} MiB of memory, above its {limit_mib}");
        service.fail(&active, now);
        effects.push(Effect::Kill(id.clone()));
        let ending = Ending { grace: Duration::ZERO, kill_at: None, is_outlived: false };
        self.ending.insert(id.clone(), ending);
        Some(active.loss(now))
    }

    /// The group of an ending instance is gone, processes that had left it are not. They get a
    /// grace of their own, as long as that of the group; whoever was killed at once has none.
    pub(super) fn outlived(&mut self, id: &InstanceId, now: Instant, effects: &mut Vec<Effect>) {
        let ending = self.ending.get_mut(id).expect("an instance ends before it is outlived");
        if !ending.is_outlived {
            ending.is_outlived = true;
            ending.kill_at = Some(now + ending.grace);
            effects.push(Effect::Terminate(id.clone()));
        } else if ending.kill_at.is_none() {
            // Again: those that are left now may be children of those that were killed.
            effects.push(Effect::Kill(id.clone()));
        }
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
        for (id, ending) in &mut self.ending {
            if ending.kill_at.is_some_and(|it| it <= now) {
                ending.kill_at = None;
                effects.push(Effect::Kill(id.clone()));
            }
        }
    }

    /// When the next tick has something to do.
    pub(super) fn wakeup(&self) -> Option<Instant> {
        let lacking = self.services.values().filter(|it| it.missing() > 0);
        let launches = lacking.map(|it| it.backoff.next_launch());
        launches.chain(self.ending.values().filter_map(|it| it.kill_at)).min()
    }

    /// Whether an instance of this service may be launched now.
    pub(super) fn may_launch(&self, id: &ServiceId, now: Instant) -> bool {
        self.services.get(id).is_some_and(|it| it.may_launch(now))
    }

    /// Whether the end was ordered.
    pub(super) fn is_closing(&self) -> bool {
        self.closing != Closing::No
    }

    /// Whether the end was ordered and everything is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closing() && self.ending.is_empty()
    }

    /// Time between SIGTERM and SIGKILL for what belongs to no instance that is known.
    pub(super) fn closing_grace(&self) -> Duration {
        match self.closing {
            Closing::No | Closing::Gracefully => TERMINATION_GRACE_LEAST,
            Closing::AtOnce => Duration::ZERO,
        }
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
            doubt: String::new(),
        };
        self.services.iter().map(fact).collect()
    }

    fn create(&mut self, description: &Arc<Description>, instances: u32) -> Result<(), String> {
        if self.is_closing() {
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

    fn close(&mut self, closing: Closing, now: Instant, effects: &mut Vec<Effect>) {
        // An end at once stays one.
        if self.closing != Closing::AtOnce {
            self.closing = closing;
        }
        while let Some((_, service)) = self.services.pop_first() {
            self.end_all(service, now, effects);
        }
    }

    fn end_all(&mut self, service: Service, now: Instant, effects: &mut Vec<Effect>) {
        for active in service.active {
            self.end(active, now, effects);
        }
    }

    fn end(&mut self, active: Active, now: Instant, effects: &mut Vec<Effect>) {
        effects.push(Effect::Terminate(active.fact.id.clone()));
        let grace = active.grace.max(TERMINATION_GRACE_LEAST);
        let ending = Ending { grace, kill_at: Some(now + grace), is_outlived: false };
        self.ending.insert(active.fact.id, ending);
    }
}

impl Active {
    fn loss(&self, now: Instant) -> Loss {
        Loss { lived: now - self.launched_at, message: self.fact.message.clone() }
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
mod tests;
