//! Heads: a request read, a response written, as on a connection that stays.

use super::Rule;
use std::hint::black_box;
use waiter::base::limits::Limits;
use waiter::base::time::Instant;
use waiter::wire::codec::{Codec, Input, Part, Stream};
use waiter::wire::head::{Head, Length};
use waiter::wire::http1::Server;

/// What a browser sends.
const REQUEST: &[u8] = b"GET /assets/site.css?v=12 HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    Connection: keep-alive\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/css,*/*;q=0.1\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Referer: https://www.example.com/news/today\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Sec-Fetch-Dest: style\r\n\
    Sec-Fetch-Mode: no-cors\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    \r\n";

const NOW: Instant = Instant(1);

/// A request's head is read; to be ready for the next, the shortest response is written.
pub(crate) fn request_head() -> Rule {
    let (mut server, mut out) = (Server::new(&Limits::PRODUCTION, NOW), Vec::new());
    let answer = Head::default();
    Box::new(move || {
        let stream = ask(&mut server, black_box(REQUEST), &mut out);
        answer_with(&mut server, stream, &answer, &mut out);
    })
}

/// A response's head is written, to the shortest request.
pub(crate) fn response_head() -> Rule {
    let (mut server, mut out) = (Server::new(&Limits::PRODUCTION, NOW), Vec::new());
    let mut answer = Head::default();
    answer.length = Length::Exact(0);
    for (name, value) in [
        ("server", "nginx/1.22.1"),
        ("date", "Tue, 24 Nov 2026 08:00:00 GMT"),
        ("content-type", "text/css; charset=utf-8"),
        ("last-modified", "Mon, 23 Nov 2026 17:30:12 GMT"),
        ("etag", "\"6921b1c4-1f40\""),
        ("cache-control", "public, max-age=3600"),
        ("x-cid", "18a0f3c2b7d4-77"),
    ] {
        answer.fields.push(name.as_bytes(), value.as_bytes());
    }
    Box::new(move || {
        let stream = ask(&mut server, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", &mut out);
        answer_with(&mut server, stream, black_box(&answer), &mut out);
    })
}

fn ask(server: &mut Server, request: &[u8], out: &mut Vec<u8>) -> Stream {
    let head = server.read(Input::Bytes(request), NOW, out);
    let Some((stream, Part::Head(_))) = head.part else { panic!("a head came") };
    assert_eq!(head.used, request.len());
    let end = server.read(Input::Bytes(&[]), NOW, out);
    assert!(matches!(end.part, Some((_, Part::End(None)))));
    stream
}

fn answer_with(server: &mut Server, stream: Stream, head: &Head, out: &mut Vec<u8>) {
    server.write(stream, Part::Head(head), NOW, out);
    server.write(stream, Part::End(None), NOW, out);
    assert!(server.needs().idle && !out.is_empty());
    out.clear();
}
