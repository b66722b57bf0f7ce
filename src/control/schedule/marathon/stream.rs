//! The thread that listens to Marathon's event stream, and says that it is time to ask.
//!
//! Nothing depends on it: without it, what changed is seen with the next poll.

use super::client::Client;
use super::{Note, Notes};
use crate::base::time::Duration;
use crate::core::fact::Hints;
use crate::wire::marathon::events::{Events, Hint};
use http::StatusCode;
use std::io::Read;
use std::thread;

/// Marathon sends a heartbeat every ten seconds; a stream that is silent for longer has ended.
pub(super) const SILENCE: Duration = Duration::from_secs(25);
/// Pauses between tries to open it: the first, which doubles, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Where it is refused, it is asked for again after so long.
const REFUSED_PAUSE: Duration = Duration::from_secs(3600);

/// Listens until nobody wants to know any more.
pub(super) fn listen(mut client: Client, prefix: &str, notes: &Notes) {
    let mut pause = PAUSE.0;
    let mut refused_before = false;
    loop {
        let status = match client.events() {
            Ok(body) => {
                // What happened before is not told again.
                if !notes.tell(Note::Hints(Hints::Coming)) || !notes.hint() {
                    return;
                }
                refused_before = false;
                if read(body.into_reader(), prefix, notes) {
                    pause = PAUSE.0;
                }
                None
            }
            Err(status) => status,
        };
        let (hints, wait) = rest(status, pause);
        if let (Hints::Refused, Some(status)) = (hints, status)
            && !std::mem::replace(&mut refused_before, true)
        {
            tracing::info!(
                status = status.as_u16(),
                "Marathon's event stream is refused; changes are seen by polling, and it is asked \
                 for again every hour"
            );
        }
        if !notes.tell(Note::Hints(hints)) {
            return;
        }
        pause = (pause * 2).min(PAUSE.1);
        thread::sleep(wait);
    }
}

/// Without a stream, after this status if there was one: whether it is refused, and how long it is
/// not asked for.
fn rest(status: Option<StatusCode>, pause: Duration) -> (Hints, Duration) {
    match status.map(|it| it.as_u16()) {
        Some(403..=405) => (Hints::Refused, REFUSED_PAUSE),
        _ => (Hints::Absent, pause),
    }
}

/// Reads until the stream ends, or is silent for too long; whether anything was said.
fn read(mut body: impl Read, prefix: &str, notes: &Notes) -> bool {
    let mut events = Events::default();
    let mut buffer = vec![0; 16 * 1024];
    let mut said = false;
    while let Ok(count @ 1..) = body.read(&mut buffer) {
        said = true;
        let ours = |hint: &Hint| match hint {
            Hint::App(app) => app.starts_with(prefix),
            Hint::Any => true,
            Hint::None => false,
        };
        if events.read(&buffer[..count]).iter().any(ours) && !notes.hint() {
            return said;
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_stream_that_is_refused_is_asked_for_every_hour_and_any_other_soon() {
        let pause = Duration::from_secs(2);
        for (status, expected) in [
            (None, (Hints::Absent, pause)),
            (Some(500), (Hints::Absent, pause)),
            (Some(401), (Hints::Absent, pause)),
            (Some(403), (Hints::Refused, Duration::from_secs(3600))),
            (Some(404), (Hints::Refused, Duration::from_secs(3600))),
            (Some(405), (Hints::Refused, Duration::from_secs(3600))),
        ] {
            let code = status.map(|it| StatusCode::from_u16(it).expect("a status"));
            assert_eq!(rest(code, pause), expected, "{status:?}");
        }
    }

    #[test]
    fn only_what_is_ours_or_nobody_s_is_a_reason_to_ask() {
        let told = |text: &str| {
            let (notes, noted) = sync_channel(2);
            let notes = Notes(notes);
            let said = read(text.as_bytes(), "ws-", &notes);
            drop(notes);
            (said, noted.iter().count())
        };
        let of = |app: &str| format!("event: x\r\ndata: {{\"appId\":\"/{app}\"}}\r\n\r\n");
        assert_eq!(told(&of("ws-a")), (true, 1));
        assert_eq!(told(&of("other")), (true, 0));
        assert_eq!(told("event: x\r\ndata: {}\r\n\r\n"), (true, 1));
        assert_eq!(told("\r\n\r\n"), (true, 0), "a heartbeat");
        assert_eq!(told(""), (false, 0));
    }

    #[test]
    fn hints_are_dropped_where_much_waits_and_nothing_else_is() {
        let (notes, noted) = sync_channel(2);
        let notes = Notes(notes);
        assert!((0..9).all(|_| notes.hint()), "somebody listens");
        assert_eq!(noted.try_iter().count(), 2);
        assert!(notes.tell(Note::Hints(Hints::Coming)));
        drop(noted);
        assert!(!notes.hint() && !notes.tell(Note::Hints(Hints::Absent)));
    }
}
