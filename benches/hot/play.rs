//! One shard over the driver without sockets, with one client and one instance: whole requests.

use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};
use waiter::base::limits::Limits;
use waiter::base::time::{Date, Duration, Instant};
use waiter::core::route::Hosts;
use waiter::core::service::{Defaults, Description, from_headers, parse_static};
use waiter::core::slots::{Instance, Roster, ServiceSlots};
use waiter::core::world::{Service, World};
use waiter::mesh::join;
use waiter::shard::access::AccessLog;
use waiter::shard::engine::memory::Memory;
use waiter::shard::engine::{Happening, Link};
use waiter::shard::settings::{Clients, Queues};
use waiter::shard::{Accept, HalfClose, Joins, Settings, Shard};

/// One shard, one client, one instance with one slot.
pub(crate) struct Play {
    shard: Shard<Memory>,
    now: Instant,
    client: Link,
    instance: Option<Link>,
    slots: Arc<Instance>,
    /// What came from the shard, reused.
    got: Vec<u8>,
}

impl Play {
    /// The instance is one of a service that the operator named; and the fields that lead there.
    pub(crate) fn named() -> (Self, String) {
        let description = parse_static("bench=10.0.0.1:80", &Defaults::default());
        (Self::new(description.expect("a service"), "bench"), "host: bench\r\n".into())
    }

    /// The instance is one of a service that requests describe; and the fields that do.
    pub(crate) fn described() -> (Self, String) {
        let headers = [("cmd", "sleep 1"), ("cpus", "1"), ("mem", "64"), ("version", "1")];
        let named = headers.map(|(name, value)| (format!("x-waiter-{name}"), value));
        let fields = named.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let description = from_headers(fields, "alice", &Defaults::default());
        let way = named.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let way = std::iter::once("host: localhost\r\n".into()).chain(way);
        (Self::new(description.expect("a service"), "nobody"), way.collect())
    }

    fn new(description: Description, name: &str) -> Self {
        let instance = Instance::new("a", "10.0.0.1:80".parse().expect("an address"), Date(0), 1);
        let instance = Arc::new(instance);
        let slots = Arc::new(ServiceSlots::default());
        let balancing = description.parameters.load_balancing;
        slots.publish(Arc::new(Roster::new(vec![instance.clone()], 1, balancing)));
        let mut world = World::default();
        world.names = Arc::new(HashMap::from_iter([(name.into(), description.id.clone())]));
        world.insert(Arc::new(Service {
            description: Arc::new(description),
            slots,
            members: Box::default(),
            deployment_error: None,
        }));
        let (mut posts, _control) = join(1, || Box::new(|_| Ok(())));
        let joins = Joins {
            post: posts.pop().expect("one"),
            worlds: Arc::new(ArcSwap::from_pointee(world)),
            calls: sync_channel(1).0,
            answers: channel().1,
            settings: Arc::new(settings()),
            access: AccessLog::default(),
        };
        let now = Instant(1_000_000_000);
        let mut shard = Shard::new(Memory::default(), joins, 1, now);
        let client = shard.engine.client();
        shard
            .happened(Happening::Accepted(client, "127.0.0.1:9".parse().expect("an address")), now);
        Self { shard, now, client, instance: None, slots: instance, got: Vec::new() }
    }

    /// One request, from its first byte to the last of its response.
    pub(crate) fn request(&mut self, request: &mut [u8], response: &mut [u8]) {
        self.now += Duration::from_millis(3);
        self.shard.happened(Happening::Received(self.client, request), self.now);
        let instance = self.instance();
        assert!(self.take(instance), "the request arrives");
        self.shard.happened(Happening::Received(instance, response), self.now);
        assert!(self.take(self.client), "the response arrives");
        assert!(self.got.ends_with(b"hi"), "{}", self.got.escape_ascii());
        self.shard.mail(self.now);
        self.shard.tick(self.now);
        assert_eq!(self.slots.word.used(), 0);
    }

    fn instance(&mut self) -> Link {
        if let Some(link) = self.instance {
            return link;
        }
        let mut links = self.shard.engine.links();
        let link = links.find(|(_, it)| it.connects_to.is_some()).expect("it connects").0;
        drop(links);
        self.instance = Some(link);
        self.shard.happened(Happening::Opened(link), self.now);
        link
    }

    /// Takes what the shard has sent on a link; whether it was anything.
    fn take(&mut self, link: Link) -> bool {
        let output = &mut self.shard.engine.wire(link).output;
        self.got.clear();
        self.got.append(output);
        self.shard.happened(Happening::Sent(link, self.got.len()), self.now);
        !self.got.is_empty()
    }
}

fn settings() -> Settings {
    Settings {
        limits: Limits::PRODUCTION,
        hosts: Hosts::new([], []),
        user: "alice".into(),
        defaults: Defaults::default(),
        launch_from: Vec::new(),
        trust_forwarded: vec!["127.0.0.0/8".parse().expect("a block")],
        launches: true,
        half_close: HalfClose::Gone,
        peers: None,
        queues: Queues::new(&Limits::PRODUCTION),
        clients: Clients::new(1, Accept::Balanced),
    }
}
