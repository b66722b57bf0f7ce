//! Bodies of responses that go from instance to client past both codecs.
//!
//! Where a large body comes as it is to be sent on, the driver may move it without showing it. The
//! codecs are told how much went by, the exchange too; the end of the message is read and written
//! as ever. Uploads, chunked bodies, trailers and tunnels are always read.
//!
//! Must hold: nothing passes unless as many bytes are due on one side as on the other; what the
//! instance says beyond its body is not taken for its next response.

use crate::exchange::{Event, Side};
use crate::shard::engine::{Engine, Link, Passed};
use crate::shard::state::{ExchangeKey, Role, Shard, State};

impl<E: Engine> Shard<E> {
    /// Whether what comes on a link passes on by itself: it does already, or begins to.
    pub(super) fn passes(&mut self, link: Link, plain: u64) -> bool {
        if self.connections[link].passes > 0 {
            return true;
        }
        if plain < self.engine.worth_passing() {
            return false;
        }
        let begins = self.target(link, plain).is_some_and(|to| self.engine.pass(link, to, plain));
        if begins {
            self.connections[link].passes = plain;
        }
        begins
    }

    /// The client that gets the rest of a response, if it can have it as it comes.
    fn target(&self, link: Link, plain: u64) -> Option<Link> {
        let served = &self.exchanges[self.only(link)?];
        let (to, stream) = served.client.filter(|_| served.exchange.lets_pass())?;
        let client = self.connections.get(to).filter(|it| it.state == State::Open)?;
        let room = client.codec.as_ref().expect("nothing reads now").plain_room(stream);
        (room == plain).then_some(to)
    }

    /// The exchange whose response comes on a link.
    fn only(&self, link: Link) -> Option<ExchangeKey> {
        let connection = &self.connections[link];
        match (&connection.role, &connection.streams[..]) {
            (Role::Instance(_), [(_, key)]) => Some(*key),
            _ => None,
        }
    }

    /// Bytes went by.
    pub(super) fn passed(&mut self, link: Link, passed: Passed) {
        if !self.connections.contains_key(link) {
            return;
        }
        let Some(key) = self.only(link) else { return };
        let given = u64::from(passed.given);
        let connection = &mut self.connections[link];
        connection.passes -= given;
        connection.say(|codec, _| {
            codec.read_past(given);
            if passed.surplus {
                codec.retire();
            }
        });
        if let Some((to, stream)) = self.exchanges[key].way(Side::Client)
            && let Some(client) = self.connections.get_mut(to)
        {
            client.unsent += passed.queued as usize;
            client.moved = self.now;
            client.say(|codec, _| codec.wrote_past(stream, given));
            self.touch(to);
        }
        let Passed { taken, given, .. } = passed;
        self.tell(key, Event::Passed { taken, given });
        self.carry_out();
        self.touch(link);
    }

    /// The client is gone; the rest of the response is read here.
    pub(super) fn stop_passing(&mut self, link: Link) {
        let Some(connection) = self.connections.get_mut(link) else { return };
        if std::mem::take(&mut connection.passes) > 0 {
            let lost = self.engine.stop_passing(link);
            // If it reads now, it reads its end.
            if connection.codec.is_some() {
                connection.say(|codec, _| codec.read_past(lost));
            }
            self.touch(link);
        }
    }
}
