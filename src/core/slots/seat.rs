//! A seat: the value that says "this request holds a slot of this instance".
//!
//! It is made when a slot is taken or granted and must be given up by exactly one of its methods.
//! It cannot be cloned; dropping one would lose the slot for ever, and panics in tests. While it
//! goes from shard to shard it may have an idle connection to its instance with it; if it still has
//! that when its slot becomes free, the connection closes, before the slot is free if nobody waits.

use crate::base::ids::ServiceId;
use crate::core::slots::{After, Carried, Gate, Instance, ServiceSlots};
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
    carried: Option<Carried>,
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
        Self { held: Some(Held { service, instance, slots, carried: None }) }
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

    /// Takes an idle connection to its instance along.
    pub fn carry(&mut self, carried: Carried) {
        let held = self.held_mut();
        assert!(Arc::ptr_eq(carried.instance(), &held.instance), "it leads elsewhere");
        assert!(held.carried.is_none(), "a seat takes one connection along");
        held.carried = Some(carried);
    }

    /// Whether a connection is with it.
    pub fn carries(&self) -> bool {
        self.held().carried.is_some()
    }

    /// The connection that came with it.
    pub fn take_carried(&mut self) -> Option<Carried> {
        self.held_mut().carried.take()
    }

    /// Gives the slot back after a plain end. If somebody waits, or the instance failed lately, the
    /// seat comes back for a message to home.
    pub fn put(mut self) -> Put {
        let held = self.held_mut();
        if held.instance.word.is(Gate::Failing) {
            return Put::PassOn(self);
        }
        let Held { instance, slots, carried, .. } = held;
        if !slots.waiting.any() {
            *carried = None; // whoever takes the slot may open another at once
        }
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
        let mut held = self.held.take().expect("a seat is given up once");
        held.carried = None;
        held.instance.word.release();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if held.slots.hint(&held.instance) {
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn held(&self) -> &Held {
        self.held.as_ref().expect("a seat is whole until it is given up")
    }

    fn held_mut(&mut self) -> &mut Held {
        self.held.as_mut().expect("a seat is whole until it is given up")
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
    use crate::base::ids::ShardId;
    use crate::base::socket::Socket;
    use crate::base::time::Date;
    use std::os::unix::net::UnixStream;

    /// A seat with a connection, and the other end of that.
    fn seat_with_connection() -> (Seat, UnixStream) {
        let mut it = seat();
        let (near, far) = UnixStream::pair().expect("two ends");
        far.set_nonblocking(true).expect("a socket");
        let instance = it.instance().clone();
        assert!(!instance.connection_opened(ShardId(0)));
        instance.connection_left(ShardId(0), true);
        it.carry(Carried::new(Socket::new(near.into()), instance));
        (it, far)
    }

    fn is_closed(far: &UnixStream) -> bool {
        use std::io::Read;
        let mut far = far;
        far.read(&mut [0]).is_ok_and(|it| it == 0)
    }

    #[test]
    fn what_a_seat_carries_closes_with_it() {
        let (it, far) = seat_with_connection();
        let instance = it.instance().clone();
        assert!(it.carries() && instance.connections() == 1 && !is_closed(&far));
        assert!(matches!(it.put(), Put::Free));
        assert!(is_closed(&far) && instance.connections() == 0);

        let (it, far) = seat_with_connection();
        let instance = it.instance().clone();
        it.release();
        assert!(is_closed(&far) && instance.connections() == 0);
    }

    #[test]
    fn what_a_seat_carries_goes_on_while_somebody_waits() {
        let (it, far) = seat_with_connection();
        it.slots().waiting.announce(1);
        let Put::PassOn(mut it) = it.put() else { panic!("home wants to hear of it") };
        let carried = it.take_carried().expect("it is still with it");
        let instance = carried.instance().clone();
        it.release();
        let socket = carried.into_socket();
        assert!(!is_closed(&far) && instance.connections() == 1, "who takes it counts it");
        drop(socket);
        assert!(is_closed(&far));
    }

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
