//! What a request asks the instance to do: its knobs.
//!
//! Each is taken from the query, else from the field `x-<knob>`:
//!
//! | knob | effect |
//! |---|---|
//! | `delay-ms=n` | waits before answering |
//! | `status=n` | status of the answer |
//! | `size=n` | a body of so many bytes, `abc…zabc…` |
//! | `chunks=n` | body in chunks, so many |
//! | `chunk-delay-ms=n` | waits before each chunk |
//! | `trailers=1` | chunks, and a trailer `x-body-bytes` |
//! | `crash=before` | closes without an answer |
//! | `crash=headers`, `crash=body` | closes behind the head, or in the middle of the body |
//! | `crash=exit` | the process ends, code 1 |
//! | `hang=1` | never answers |
//! | `close=1` | answers with `Connection: close` |
//! | `http10=1` | answers with HTTP/1.0, the body ending with the connection |
//! | `early=1` | answers before reading the body |
//! | `stream=1` | `/echo` answers piece by piece while it reads |

use super::InstanceArgs;
use super::request::Request;
use std::io;
use std::str::FromStr;
use std::time::Duration;

/// Where an exchange ends against the rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Crash {
    Never,
    BeforeHead,
    AfterHead,
    InBody,
    Exit,
}

/// The knobs of one request.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) delay: Duration,
    pub(super) status: u16,
    pub(super) size: Option<u64>,
    /// Number of chunks, where the body is sent in chunks; at least 1.
    pub(super) chunks: Option<u64>,
    pub(super) chunk_delay: Duration,
    pub(super) trailers: bool,
    pub(super) crash: Crash,
    pub(super) hang: bool,
    pub(super) close: bool,
    pub(super) http10: bool,
    pub(super) early: bool,
    pub(super) stream: bool,
}

impl Plan {
    /// Answers at once with this status and nothing special.
    pub(super) fn plain(status: u16) -> Self {
        Self {
            delay: Duration::ZERO,
            status,
            size: None,
            chunks: None,
            chunk_delay: Duration::ZERO,
            trailers: false,
            crash: Crash::Never,
            hang: false,
            close: false,
            http10: false,
            early: false,
            stream: false,
        }
    }

    /// What this request asks for. A knob with a value that makes no sense is an error, so that a
    /// test with a slip of the pen does not pass.
    pub(super) fn of(request: &Request, args: &InstanceArgs) -> io::Result<Self> {
        let on = |name| Ok::<_, io::Error>(number::<u8>(request, name)?.unwrap_or(0) != 0);
        let millis = |name, default| {
            Ok::<_, io::Error>(Duration::from_millis(number(request, name)?.unwrap_or(default)))
        };
        let trailers = on("trailers")?;
        let chunks = number::<u64>(request, "chunks")?.map(|it| it.max(1));
        let crash = match request.knob("crash") {
            None => Crash::Never,
            Some("before") => Crash::BeforeHead,
            Some("headers") => Crash::AfterHead,
            Some("body") => Crash::InBody,
            Some("exit") => Crash::Exit,
            Some(other) => return Err(bad(&format!("crash={other}"))),
        };
        Ok(Self {
            delay: millis("delay-ms", args.delay_ms)?,
            status: number(request, "status")?.unwrap_or(200),
            size: number(request, "size")?,
            chunks: if trailers { chunks.or(Some(1)) } else { chunks },
            chunk_delay: millis("chunk-delay-ms", 0)?,
            trailers,
            crash,
            hang: on("hang")?,
            close: on("close")?,
            http10: on("http10")?,
            early: on("early")?,
            stream: on("stream")?,
        })
    }
}

/// What the other side did wrong.
pub(super) fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn number<T: FromStr>(request: &Request, name: &str) -> io::Result<Option<T>> {
    let value = request.knob(name).map(str::parse::<T>).transpose();
    value.map_err(|_| bad(&format!("{name} is no number in range")))
}
