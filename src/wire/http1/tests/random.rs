//! Random bytes and random cuts of nearly good bytes: no panic, no endless reading, the same result
//! however they are cut.

use super::driver::{Driver, Habit};
use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;

/// What messages are made of, so that random ones come near to good ones.
const WORDS: &[&str] = &[
    "\r\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    " ",
    ":",
    "0",
    "1",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\n",
    "HEAD http://a/ HTTP/1.0\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, x\r\n",
    "X: 1\r\n",
    "abc",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.0 304 Not Modified\r\n",
    ";x",
    "ffffffffffffffff\r\n",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => prop::sample::select(WORDS).prop_map(|it| it.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    vec(word, 0..24).prop_map(|it| it.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn servers_take_anything(bytes in bytes(), piece in 1usize..40) {
        let mut whole = Driver::server(Habit::Answer);
        whole.feed(&bytes).end();
        let mut cut = Driver::server(Habit::Answer);
        for piece in bytes.chunks(piece) {
            cut.feed(piece);
        }
        cut.end();
        prop_assert_eq!(&cut.said, &whole.said);
        prop_assert_eq!(cut.close(), whole.close());
    }

    #[test]
    fn clients_take_anything(bytes in bytes(), piece in 1usize..40, is_head in any::<bool>()) {
        let method = if is_head { Method::HEAD } else { Method::GET };
        let mut whole = Driver::client(method.clone(), Habit::Room);
        whole.feed(&bytes).end();
        let mut cut = Driver::client(method, Habit::Room);
        for piece in bytes.chunks(piece) {
            cut.feed(piece);
        }
        cut.end();
        prop_assert_eq!(&cut.said, &whole.said);
        prop_assert_eq!(cut.close(), whole.close());
    }

    #[test]
    fn room_is_kept(bytes in bytes(), rooms in vec(0u32..9, 0..12)) {
        let mut driver = Driver::server(Habit::Watch);
        driver.feed(&bytes);
        let mut given = 0;
        for room in rooms {
            driver.room(room).feed(b"");
            given += room as usize;
            prop_assert!(driver.body_bytes <= given);
        }
    }
}
