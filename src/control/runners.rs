//! The schedulers there are: which one runs a service, how orders reach it, and how far it is
//! believed.

use crate::core::fact::{Order, Runner, Sight, View};
use crate::core::service::{Parameters, Runners as Names};
use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

/// The schedulers there are; the first is that of services that name none.
#[derive(Debug, Default)]
pub struct Runners {
    names: Names,
    ways: BTreeMap<Runner, Sender<Order>>,
    views: BTreeMap<Runner, View>,
}

impl Runners {
    /// No scheduler: nothing can be launched.
    pub fn none() -> Self {
        Self::default()
    }

    /// One more scheduler, which takes its orders here.
    pub fn add(&mut self, runner: Runner, orders: Sender<Order>) {
        self.names.add(runner);
        self.ways.insert(runner, orders);
    }

    /// What is known from a scheduler is now in this state; returns the state before, if it differs
    /// in how far it is believed.
    pub fn seen(&mut self, runner: Runner, view: View) -> Option<View> {
        let sight = view.sight;
        let before = self.views.insert(runner, view).unwrap_or_default();
        (before.sight != sight).then_some(before)
    }

    /// Sends an order. Returns whether there is somebody to carry it out.
    pub fn order(&self, runner: Runner, order: Order) -> bool {
        self.ways.get(&runner).is_some_and(|it| it.send(order).is_ok())
    }

    /// Sends an order to all.
    pub fn order_all(&self, order: &Order) {
        for way in self.ways.values() {
            let _ = way.send(order.clone()); // who has ended needs no order to end
        }
    }

    /// Which scheduler runs a service with these parameters.
    pub fn of(&self, parameters: &Parameters) -> Option<Runner> {
        self.names.of(parameters.scheduler.as_deref())
    }

    /// Whether what this scheduler said is good enough to decide on.
    pub fn is_sure(&self, runner: Runner) -> bool {
        match runner {
            Runner::Local => true,
            Runner::Marathon => self.views.get(&runner).is_some_and(|it| it.sight == Sight::Fresh),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ways.len()
    }

    /// Whether this scheduler is among them.
    pub fn have(&self, runner: Runner) -> bool {
        self.ways.contains_key(&runner)
    }
}
