//! A seat: the value that says "this request holds a slot of this instance".
//!
//! It is made when a slot is taken or granted and must be given up by exactly one of its methods.
//! It cannot be cloned; dropping one would lose the slot for ever, and panics in tests.

use crate::base::ids::ServiceId;
use crate::core::slots::{After, Gate, Instance, ServiceSlots};
use std::sync::Arc;

/// A slot that is held.
#[derive(Debug)]
pub struct Seat {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    service: ServiceId,
    instance: Arc<Instance>,
    slots: Arc<ServiceSlots>,
}

/// What became of a seat that was put.
#[derive(Debug)]
pub enum Put {
    /// The slot is free, and nobody waits.
    Free,
    /// Home must pass the slot on: the seat, still counted, for the message.
    PassOn(Seat),
    /// The slot is free, but somebody began to wait: home must look again.
    LookAgain,
}

impl Seat {
    /// A seat for a slot that has just been taken, or is being passed on.
    pub fn new(service: ServiceId, instance: Arc<Instance>, slots: Arc<ServiceSlots>) -> Self {
        Self { held: Some(Held { service, instance, slots }) }
    }

    /// Its service.
    pub fn service(&self) -> &ServiceId {
        &self.held().service
    }

    /// Its instance.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.held().instance
    }

    /// What its service's versions share.
    pub fn slots(&self) -> &Arc<ServiceSlots> {
        &self.held().slots
    }

    /// Gives the slot back after a plain end. If somebody waits, or the instance failed lately, the
    /// seat comes back for a message to home.
    pub fn put(mut self) -> Put {
        let held = self.held();
        if held.instance.word.is(Gate::Failing) {
            return Put::PassOn(self);
        }
        let Held { instance, slots, .. } = held;
        match instance.word.put(&slots.waiting, || slots.hint(instance)) {
            After::PassOn => Put::PassOn(self),
            After::Free => {
                self.held = None;
                Put::Free
            }
            After::LookAgain => {
                self.held = None;
                Put::LookAgain
            }
        }
    }

    /// Gives the slot back without a look at who waits. The caller looks next: home at its queue,
    /// the prober at `waiting`.
    pub fn release(mut self) {
        let held = self.held.take().expect("a seat is given up once");
        held.instance.word.release();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if held.slots.hint(&held.instance) {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn held(&self) -> &Held {
        self.held.as_ref().expect("a seat is whole until it is given up")
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        debug_assert!(
            self.held.is_none() || std::thread::panicking(),
            "a seat was dropped: its slot is lost"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Date;

    fn seat() -> Seat {
        let address = "127.0.0.1:1".parse().expect("address");
        let instance = Arc::new(Instance::new("a", address, Date(0), 1));
        assert!(instance.word.take());
        Seat::new(ServiceId::new("s"), instance, Arc::default())
    }

    #[test]
    fn a_seat_is_given_up_once() {
        let it = seat();
        let instance = it.instance().clone();
        assert!(matches!(it.put(), Put::Free));
        assert_eq!(instance.word.used(), 0);
    }

    #[test]
    fn a_failing_instance_is_told_of_at_home() {
        let it = seat();
        it.instance().word.close(Gate::Failing);
        let Put::PassOn(it) = it.put() else { panic!("home wants to hear of it") };
        it.release();
    }

    #[test]
    #[should_panic(expected = "a seat was dropped")]
    fn a_dropped_seat_is_noticed() {
        drop(seat());
    }
}
