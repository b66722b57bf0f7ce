//! In its steady state the data path asks for no memory: not for a request, whichever way it is
//! routed. Counted with an allocator of this binary's own.

#![expect(unsafe_code, reason = "an allocator cannot be written without")]

#[path = "../benches/hot/play.rs"]
mod play;

use play::Play;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

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
    let (mut play, way) = Play::named();
    for fields in [FEW, MANY] {
        check(&mut play, &format!("{way}{fields}"));
    }
}

#[test]
fn a_request_to_a_described_service_asks_for_no_memory() {
    let (mut play, way) = Play::described();
    for fields in [FEW, MANY] {
        check(&mut play, &format!("{way}{fields}"));
    }
}
