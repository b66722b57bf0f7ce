//! In its steady state the data path asks for no memory: not for a request, whichever way it is
//! routed. Counted with an allocator of this binary's own.

#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use arc_swap::ArcSwap;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
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

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may ask for memory after its locals are gone.
    let _ = COUNT.try_with(|it| it.set(it.get() + 1));
}

// SAFETY: all is left to the system's allocator, which keeps the contract; counting asks for no
// memory itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One shard, one client, one instance with one slot.
struct Play {
    shard: Shard<Memory>,
    now: Instant,
    client: Link,
    instance: Option<Link>,
    slots: Arc<Instance>,
    /// What came from the shard, reused.
    got: Vec<u8>,
}

impl Play {
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
    fn request(&mut self, request: &mut [u8], response: &mut [u8]) {
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
        queues: Queues::new(&Limits::PRODUCTION),
        clients: Clients::new(1, Accept::Balanced),
    }
}

const FEW: &str = "accept: */*\r\nuser-agent: test\r\n";
const MANY: &str = "x-forwarded-for: 10.1.1.1\r\nvia: 1.1 other\r\ncookie: a=1; x-waiter-auth=2; b=3\r\n\
                    x-waiter-queue-timeout: 1000\r\nconnection: x-hop\r\nx-hop: 1\r\n";

/// Asks many times, and counts once everything is warm.
fn check(play: &mut Play, fields: &str) {
    let plain = "content-length: 2\r\nvia: 1.0 inner\r\nset-cookie: x-waiter-auth=1";
    for (request, response) in [
        (
            format!("GET /a HTTP/1.1\r\n{fields}\r\n"),
            format!("HTTP/1.1 200 OK\r\n{plain}\r\n\r\nhi"),
        ),
        (
            format!("POST /a?b HTTP/1.1\r\n{fields}content-length: 5\r\n\r\nabcde"),
            format!("HTTP/1.1 200 OK\r\n{plain}\r\n\r\nhi"),
        ),
        (
            format!(
                "PUT /a HTTP/1.1\r\n{fields}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ),
            format!("HTTP/1.1 200 OK\r\n{plain}\r\n\r\nhi"),
        ),
    ] {
        let (mut request, mut response) = (request.into_bytes(), response.into_bytes());
        for _ in 0..200 {
            play.request(&mut request, &mut response);
        }
        let before = COUNT.get();
        for _ in 0..1000 {
            play.request(&mut request, &mut response);
        }
        let asked = COUNT.get() - before;
        assert_eq!(asked, 0, "{asked} allocations for 1000 of {}", request.escape_ascii());
    }
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    drop(std::hint::black_box(Box::new(before)));
    assert_eq!(COUNT.get() - before, 1);
}

#[test]
fn a_request_to_a_named_service_asks_for_no_memory() {
    let description = parse_static("bench=10.0.0.1:80", &Defaults::default()).unwrap();
    let mut play = Play::new(description, "bench");
    for fields in [FEW, MANY] {
        check(&mut play, &format!("host: bench\r\n{fields}"));
    }
}

#[test]
fn a_request_to_a_described_service_asks_for_no_memory() {
    let headers = [("cmd", "sleep 1"), ("cpus", "1"), ("mem", "64"), ("version", "1")];
    let named: Vec<_> =
        headers.iter().map(|(name, value)| (format!("x-waiter-{name}"), *value)).collect();
    let fields = named.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let description = from_headers(fields, "alice", &Defaults::default()).unwrap();
    let mut play = Play::new(description, "nobody");
    let own: String = named.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    for fields in [FEW, MANY] {
        check(&mut play, &format!("host: localhost\r\n{own}{fields}"));
    }
}
