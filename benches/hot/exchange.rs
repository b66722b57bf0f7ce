//! A whole request through a shard: from the bytes of the client to the bytes of the instance, and
//! back again.

use super::Rule;
use super::play::Play;

/// A GET of an operator's service.
pub(crate) fn named() -> Rule {
    get(Play::named())
}

/// A GET of a service that it describes.
pub(crate) fn described() -> Rule {
    get(Play::described())
}

fn get((mut play, way): (Play, String)) -> Rule {
    let mut request = format!(
        "GET /assets/site.css?v=12 HTTP/1.1\r\n{way}\
         user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
         accept: text/css,*/*;q=0.1\r\n\
         accept-encoding: gzip, deflate, br\r\n\
         cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n"
    )
    .into_bytes();
    let mut response = b"HTTP/1.1 200 OK\r\n\
        content-type: text/plain\r\n\
        date: Tue, 24 Nov 2026 08:00:00 GMT\r\n\
        server: nginx/1.22.1\r\n\
        content-length: 2\r\n\r\nhi"
        .to_vec();
    Box::new(move || play.request(&mut request, &mut response))
}
