//! What is done to services at the scheduler: created, scaled, shrunk by one, deleted.
//!
//! At most one mutation of a service is under way. What is deleted leaves the world before the
//! scheduler is told; what nobody asked to delete (idle, broken) is deleted only after its home has
//! locked every instance with nothing in use and nobody waiting, so no request is cut.

use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Instant};
use crate::control::cluster::Asked;
use crate::control::plane::Plane;
use crate::core::aggregator::State;
use crate::core::autoscaler::{Action, Input, Scaling, Standing, Trend};
use crate::core::catalogue::Done;
use crate::core::fact::{Order, Undone};
use crate::core::gc::{Broken, Failures, Idle, Use};
use crate::core::letter::Command;
use crate::mesh::clock;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// What is under way for a service.
#[derive(Debug)]
pub(super) enum Mutation {
    /// More instances have been ordered.
    Scaling,
    /// Home is asked which instance to kill.
    Choosing,
    /// This instance is being killed.
    Killing(InstanceId),
    /// The owners of these instances were asked, one after the other, whether the instance may be
    /// killed.
    Asking(Vec<InstanceId>),
    /// Home is asked whether nothing is in use, so that the service can be collected.
    Emptying,
    /// All routers are asked to close the service, so that it can be deleted: until then, and who
    /// wants to know.
    Closing(Instant, Vec<Sender<Done>>),
    /// A deletion; who wants to know.
    Deleting(Vec<Sender<Done>>),
}

impl Plane {
    /// The scheduler has carried an order out, or not.
    pub(super) fn done(&mut self, order: &Order, result: Result<(), Undone>, now: Instant) {
        self.launches.orders_failed += u64::from(result.is_err());
        self.complaints.hear(order, result.as_ref().err().map(Undone::why));
        match order {
            Order::Create(description, _) => self.created(description, result, now),
            Order::Scale(service, _) => {
                if matches!(self.mutations.get(service), Some(Mutation::Scaling)) {
                    self.mutations.remove(service);
                }
            }
            Order::Kill(instance) => self.killed(instance, result.is_ok()),
            Order::Delete(service) => self.deleted(service, result, now),
            Order::Fail(..) | Order::End | Order::EndNow => {}
        }
    }

    fn killed(&mut self, instance: &InstanceId, gone: bool) {
        let service = ServiceId::new(instance.service());
        if matches!(self.mutations.get(&service), Some(Mutation::Killing(it)) if it == instance) {
            self.mutations.remove(&service);
        }
        if gone {
            self.launches.killed += 1;
            self.aggregator.killed(instance);
            self.autoscaler.killed(&service);
        }
        // The owner's lock is not this router's to open.
        if !self.shared_kill_over(instance) {
            self.home(&service, Command::Unlock(service.clone(), instance.clone(), gone));
        }
    }

    /// Home has locked an instance for a kill, or found none.
    pub(super) fn locked(&mut self, service: &ServiceId, locked: Option<InstanceId>) {
        if !matches!(self.mutations.get(service), Some(Mutation::Choosing)) {
            if let Some(instance) = locked {
                self.home(service, Command::Unlock(service.clone(), instance, false));
            }
            return;
        }
        match locked {
            Some(instance) if !self.is_sure_of(service) => {
                self.mutations.remove(service);
                self.home(service, Command::Unlock(service.clone(), instance, false));
            }
            Some(instance) => {
                self.mutations.insert(service.clone(), Mutation::Killing(instance.clone()));
                self.order(service, Order::Kill(instance));
            }
            None => {
                self.mutations.remove(service);
            }
        }
    }

    /// All services, once a second.
    pub(super) fn cycle(&mut self, now: Instant, date: Date) {
        let mut out = Vec::new();
        let launched = |(_, state): &(&ServiceId, &Arc<State>)| !state.description.is_static();
        let states = self.aggregator.states().filter(launched);
        let asked: Vec<Asked> = states.map(|(_, state)| self.asked(state)).collect();
        let states = self.aggregator.states().filter(launched);
        let inputs = states.zip(&asked).map(|((id, state), asked)| input(id, state, asked));
        self.autoscaler.cycle(inputs, &mut out, now);
        self.say_targets();
        for scaling in out {
            self.scale(&scaling, now, date);
        }
    }

    /// What people see of each service, also of those that stay as they are.
    fn say_targets(&mut self) {
        for (id, state) in self.aggregator.states() {
            let Some(target) = self.autoscaler.target(id) else { continue };
            let said = self.scalings.entry(id.clone()).or_default();
            said.target = target;
            if self.autoscaler.trend(id) == Some(Trend::Stable) {
                said.amount = 0;
                said.scale_to = state.counts.requested;
            }
        }
    }

    /// One service at once, because a request of it waits.
    pub(super) fn urgent(&mut self, service: &ServiceId, now: Instant, date: Date) {
        self.tally(service);
        let Some(state) = self.aggregator.state(service) else { return };
        if state.description.is_static() || self.ending.is_some() || !self.is_sure(state) {
            return;
        }
        let asked = self.asked(state);
        let scaling = self.autoscaler.urgent(&input(service, state, &asked), now);
        if let Some(scaling) = scaling {
            self.scale(&scaling, now, date);
        }
    }

    /// Carries a decision out, unless something is under way for the service.
    fn scale(&mut self, scaling: &Scaling, now: Instant, date: Date) {
        let id = &scaling.service;
        let said = self.scalings.entry(id.clone()).or_default();
        said.target = scaling.target;
        said.scale_to = u32::try_from(scaling.scale_to.max(0)).unwrap_or(u32::MAX);
        said.amount = scaling.amount;
        let is_busy = self.mutations.contains_key(id) || self.creating.contains_key(id);
        if is_busy || !self.is_sure_of(id) || !self.decides(id, now) {
            return;
        }
        match scaling.action {
            Action::Nothing | Action::Ignore => return,
            Action::ScaleTo { n, .. } => {
                self.mutations.insert(id.clone(), Mutation::Scaling);
                self.order(id, Order::Scale(id.clone(), n));
            }
            Action::KillOne if self.shares_service(id) => {
                if !self.is_current(now) {
                    return;
                }
                self.choose_shared(id);
            }
            Action::KillOne => {
                self.mutations.insert(id.clone(), Mutation::Choosing);
                self.home(id, Command::Lock(id.clone()));
            }
        }
        self.explain(scaling, date);
    }

    fn explain(&mut self, scaling: &Scaling, date: Date) {
        let id = &scaling.service;
        let reason = scaling.reason.to_string();
        let (to, amount) = (scaling.scale_to, scaling.amount);
        tracing::info!(service = %id, to, amount, reason, "scaling");
        let said = self.scalings.entry(id.clone()).or_default();
        said.reason = reason.into();
        said.decided = Some(date);
    }

    /// Ends services that nobody uses, and those that cannot run.
    pub(super) fn collect(&mut self, now: Instant, date: Date) {
        let states: Vec<(ServiceId, Arc<State>)> = self
            .aggregator
            .states()
            .filter(|(_, state)| !state.description.is_static())
            .map(|(id, state)| (id.clone(), state.clone()))
            .collect();
        let seen: Vec<Use> = {
            let asked = states.iter().map(|(_, state)| self.asked(state));
            let seen = |it: Asked| Use {
                last_request: it.last_request,
                outstanding: Some(it.outstanding),
            };
            asked.map(seen).collect()
        };
        let used = states.iter().zip(seen);
        let used = used.map(|((id, state), seen)| (id, &state.description.parameters, seen));
        let mut due = self.idle.round(used, &Idle, date);
        let min_hosts = self.terms.deployment.min_hosts;
        let rule = Broken { min_hosts, timeout: self.terms.broken_timeout };
        let broken = states
            .iter()
            .map(|(id, state)| (id, &state.description.parameters, Failures::of(state)));
        due.extend(self.broken.round(broken, &rule, date));
        for id in due {
            let is_busy = self.mutations.contains_key(&id) || self.creating.contains_key(&id);
            if is_busy || !self.is_sure_of(&id) || !self.decides(&id, now) {
                continue;
            }
            if !self.shares_service(&id) {
                self.mutations.insert(id.clone(), Mutation::Emptying);
                self.home(&id, Command::LockAll(id.clone()));
            } else if self.is_current(now) {
                tracing::info!(service = %id, "closing a service that is idle or broken");
                self.close(&id, Vec::new(), now);
            }
        }
        self.shelf.keep_collectors(&self.idle, &self.broken);
    }

    /// Home has locked all instances of a service that is to be collected, or could not.
    pub(super) fn emptied(&mut self, service: &ServiceId, locked: bool) {
        if self.closed(service, locked) {
            return;
        }
        if !matches!(self.mutations.get(service), Some(Mutation::Emptying)) {
            return; // somebody deleted it meanwhile
        }
        self.mutations.remove(service);
        if locked && !self.is_sure_of(service) {
            self.home(service, Command::UnlockAll(service.clone()));
        } else if locked {
            tracing::info!(%service, "collecting a service that is idle or broken");
            self.delete(service, Vec::new());
        }
    }

    pub(super) fn delete_for(&mut self, service: &ServiceId, reply: Sender<Done>, now: Instant) {
        let known = self.aggregator.state(service);
        if known.is_some_and(|it| it.description.is_static()) {
            let why = "The operator's servers are not launched here, and cannot be deleted";
            let _ = reply.send(Done::Failed(why.to_owned()));
        } else if known.is_none() && !self.creating.contains_key(service) {
            let _ = reply.send(Done::NoSuchService);
        } else if self.shares_service(service) && known.is_some() {
            match self.mutations.get_mut(service) {
                Some(Mutation::Closing(_, replies) | Mutation::Deleting(replies)) => {
                    replies.push(reply);
                }
                _ => {
                    tracing::info!(%service, "closing a service that somebody asked to delete");
                    self.close(service, vec![reply], now);
                }
            }
        } else {
            tracing::info!(%service, "deleting a service that somebody asked to delete");
            self.delete(service, vec![reply]);
        }
    }

    /// First no request finds it any more, then the scheduler ends it.
    pub(super) fn delete(&mut self, service: &ServiceId, mut replies: Vec<Sender<Done>>) {
        if let Some(Mutation::Deleting(waiting)) = self.mutations.get_mut(service) {
            waiting.append(&mut replies);
            return;
        }
        let astray = self.astray(service);
        self.mutations.insert(service.clone(), Mutation::Deleting(replies));
        self.creating.remove(service);
        self.gone(service);
        self.aggregator.undescribed(service);
        let order = Order::Delete(service.clone());
        match astray {
            Some(runner) => drop(self.runners.order(runner, order)),
            None => self.order(service, order),
        }
    }

    fn deleted(&mut self, service: &ServiceId, result: Result<(), Undone>, now: Instant) {
        self.delete_over(service);
        if result.is_ok() {
            self.idle.collected(service);
            self.broken.collected(service);
        } else if let Some(description) = self.shelf.get(service) {
            // It may still run: once it is listed again it is routed to, and collected again.
            self.aggregator.described(description.clone());
        }
        if !matches!(self.mutations.get(service), Some(Mutation::Deleting(_))) {
            return;
        }
        if let Some(Mutation::Deleting(replies)) = self.mutations.remove(service) {
            let done = match result {
                Ok(()) => Done::Deleted,
                Err(error) => Done::Failed(error.why().to_owned()),
            };
            for reply in replies {
                let _ = reply.send(done.clone());
            }
        }
        // What was listed meanwhile has been passed over.
        if let Some(state) = self.aggregator.state(service).cloned() {
            self.changed(&state, now, clock::date());
        }
    }
}

fn input<'a>(id: &'a ServiceId, state: &'a State, asked: &Asked) -> Input<'a> {
    Input {
        id,
        parameters: &state.description.parameters,
        standing: Standing::of(state, asked.outstanding),
        demand: asked.demand,
        boot_time: state.boot_time,
    }
}
