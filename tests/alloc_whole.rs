//! What the whole router allocates per request in steady state, glommio included: printed.
//!
//! The router runs in this process and its instance in another; the client's thread is not counted.

#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
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

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: u64 = 2000;

/// A process that ends with its owner.
struct Instance(Child);

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn allocations_per_request_of_the_whole_router() {
    LEFT_OUT.set(true);
    let (_instance, server) = instance();
    let dir = tempfile::tempdir().expect("a directory");
    let written = Written {
        listen: vec!["127.0.0.1:0".to_owned()],
        cores: Some("1".to_owned()),
        data_dir: Some(dir.path().to_owned()),
        scheduler: Some("none".to_owned()),
        fronted: vec![format!("bench={server};concurrency-level=8")],
        log: Some("off".to_owned()),
        ..Written::default()
    };
    let config = configure(ServeArgs { written, ..ServeArgs::default() }).expect("settings");
    let router = Router::start(config).expect("a router");
    let mut stream = TcpStream::connect(router.addresses[0]).expect("a connection");
    ask(&mut stream, REQUESTS);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    ask(&mut stream, REQUESTS);
    let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let each = counted as f64 / REQUESTS as f64;
    println!("the whole router: {each:.2} allocations per request over {REQUESTS} requests");
    assert!(each < 40.0, "{each} allocations per request");
    router.end();
    assert_eq!(router.wait(), 0);
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

fn ask(stream: &mut TcpStream, requests: u64) {
    let mut buffer = [0; 4096];
    for _ in 0..requests {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").expect("sent");
        let mut got = 0;
        while !is_whole(&buffer[..got]) {
            let read = stream.read(&mut buffer[got..]).expect("an answer");
            assert!(read > 0, "the router closed the connection");
            got += read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"));
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|it| it.strip_prefix("content-length: "));
    length.is_some_and(|it| it.parse() == Ok(body.len()))
}
