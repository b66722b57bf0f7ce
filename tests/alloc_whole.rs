//! What the whole router allocates per request in steady state, with all that it is made of: nothing
//! on a ring of its own.
//!
//! The router runs in this process and its instance in another; threads of clients are not counted.

#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use waiter::cmd::serve::{Router, ServeArgs, configure};
use waiter::config::Written;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !LEFT_OUT.try_with(Cell::get).unwrap_or(true) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !LEFT_OUT.try_with(Cell::get).unwrap_or(true) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests that are counted on each connection, and as many before them.
const REQUESTS: u64 = 1500;
const TRIES: u32 = 5;
/// What other threads do now and then (ten pulses a second, a listing) is not of any request; there
/// are thousands of those in that time.
const OTHERS: f64 = 0.05;

/// A process that ends with its owner.
struct Instance(Child);

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_request_on_a_ring_asks_for_no_memory_anywhere() {
    LEFT_OUT.set(true);
    let ring = Stage::new("ring");
    for (connections, bytes) in [(1, 0), (1, 1024), (16, 1024), (1, 65_536), (16, 65_536)] {
        // On a busy machine the clients themselves may pause, and the shard goes to sleep.
        let tries = || (0..TRIES).map(|_| ring.each(connections, bytes));
        let least = tries().find(|it| *it < OTHERS);
        println!("{connections} connections, {bytes} bytes: {least:?} allocations a request");
        assert!(least.is_some(), "{connections} connections, {bytes} bytes");
    }
    ring.end();
    // glommio's streams allocate for each wait; what they cost is told, not promised.
    let streams = Stage::new("glommio");
    let each = streams.each(1, 1024);
    println!("glommio's streams: {each:.2} allocations a request");
    assert!(each > OTHERS, "what allocates is counted");
    streams.end();
}

/// A router in this process, and the process behind it.
struct Stage {
    router: Router,
    _instance: Instance,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new(io: &str) -> Self {
        let (instance, server) = instance();
        let dir = tempfile::tempdir().expect("a directory");
        let mut written = Written {
            listen: vec!["127.0.0.1:0".to_owned()],
            cores: Some("1".to_owned()),
            data_dir: Some(dir.path().to_owned()),
            scheduler: Some("none".to_owned()),
            fronted: vec![format!("bench={server};concurrency-level=64")],
            log: Some("off".to_owned()),
            ..Written::default()
        };
        written.sockets.io = Some(io.to_owned());
        let config = configure(ServeArgs { written, ..ServeArgs::default() }).expect("settings");
        let router = Router::start(config).expect("a router");
        Self { router, _instance: instance, _dir: dir }
    }

    /// Allocations of the whole router per request, when it has seen as many requests before.
    fn each(&self, connections: usize, bytes: usize) -> f64 {
        let address = self.router.addresses[0];
        let (warm, counted) = (Barrier::new(connections + 1), Barrier::new(connections + 1));
        let grown = thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    LEFT_OUT.set(true);
                    let mut stream = TcpStream::connect(address).expect("a connection");
                    ask(&mut stream, bytes, REQUESTS);
                    warm.wait();
                    ask(&mut stream, bytes, REQUESTS);
                    counted.wait();
                });
            }
            warm.wait();
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            counted.wait();
            ALLOCATIONS.load(Ordering::Relaxed) - before
        });
        grown as f64 / (connections as u64 * REQUESTS) as f64
    }

    fn end(self) {
        self.router.end();
        assert_eq!(self.router.wait(), 0);
    }
}

fn instance() -> (Instance, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_waiter"))
        .args(["instance", "--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("an instance");
    let mut line = String::new();
    let said = child.stdout.take().expect("piped");
    BufReader::new(said).read_line(&mut line).expect("it says where it listens");
    let address = line.trim().rsplit(' ').next().and_then(|it| it.parse().ok());
    (Instance(child), address.expect("an address"))
}

fn ask(stream: &mut TcpStream, bytes: usize, requests: u64) {
    let request = format!("GET /?size={bytes} HTTP/1.1\r\nhost: bench\r\n\r\n");
    let mut buffer = vec![0; bytes + 4096];
    for _ in 0..requests {
        stream.write_all(request.as_bytes()).expect("sent");
        let mut got = 0;
        while !is_whole(&buffer[..got], bytes) {
            let read = stream.read(&mut buffer[got..]).expect("an answer");
            assert!(read > 0, "the router closed the connection");
            got += read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"));
    }
}

fn is_whole(got: &[u8], bytes: usize) -> bool {
    let head = got.windows(4).take(4096).position(|it| it == b"\r\n\r\n");
    head.is_some_and(|at| got.len() == at + 4 + bytes)
}
