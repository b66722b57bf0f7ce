//! The access log: one JSON line per request, written by somebody else.
//!
//! A shard appends lines to a buffer of its own and hands whole buffers to the writer's thread. If
//! the writer lags, a buffer is dropped and its lines are counted; nothing ever waits for it.

use crate::base::ids::InstanceId;
use crate::base::time::{Duration, Instant};
use crate::core::outcome::Outcome;
use crate::exchange::{Exchange, Side};
use std::io::Write;
use std::sync::mpsc::SyncSender;

/// A buffer is handed over when it is this long, and at every pulse.
const BUFFER_BYTES: usize = 32 * 1024;

/// One shard's end of the access log.
#[derive(Debug, Default)]
pub struct AccessLog {
    writer: Option<SyncSender<Vec<u8>>>,
    buffer: Vec<u8>,
    lines: u64,
    /// Lines dropped since a buffer was last taken.
    dropped: u64,
    dropped_total: u64,
}

impl AccessLog {
    /// A log that goes to this writer, or nowhere.
    pub fn new(writer: Option<SyncSender<Vec<u8>>>) -> Self {
        Self { writer, ..Self::default() }
    }

    /// A request has ended.
    pub fn ended(&mut self, exchange: &Exchange, outcome: Outcome, now: Instant) {
        if self.writer.is_none() {
            return;
        }
        write_line(&mut self.buffer, exchange, outcome, now).expect("memory takes every byte");
        self.lines += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.hand_over();
        }
    }

    /// Gives the writer what there is.
    pub fn hand_over(&mut self) {
        let Some(writer) = &self.writer else { return };
        if self.buffer.is_empty() {
            return;
        }
        if self.dropped > 0 {
            writeln!(self.buffer, "{{\"dropped\":{}}}", self.dropped).expect("memory");
        }
        let buffer = std::mem::take(&mut self.buffer);
        match writer.try_send(buffer) {
            Ok(()) => self.dropped = 0,
            Err(_) => {
                self.dropped += self.lines;
                self.dropped_total += self.lines;
            }
        }
        self.lines = 0;
    }

    /// Lines dropped so far.
    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }
}

fn write_line(
    out: &mut Vec<u8>,
    exchange: &Exchange,
    outcome: Outcome,
    now: Instant,
) -> std::io::Result<()> {
    let request = exchange.head_for(Side::Instance);
    let times = exchange.times();
    out.extend_from_slice(b"{\"time\":\"");
    if let Some(visit) = exchange.visit() {
        visit.date.write_iso(out)?;
        write!(out, "\",\"client\":\"{}", visit.peer)?;
    }
    out.extend_from_slice(b"\",\"cid\":");
    quoted(out, exchange.cid());
    write!(out, ",\"method\":\"{}\",\"host\":", request.method)?;
    quoted(out, request.authority());
    out.extend_from_slice(b",\"path\":");
    quoted(out, request.target());
    let status = match exchange.has_answered() {
        true => exchange.head_for(Side::Client).status.as_u16(),
        false => 0,
    };
    write!(out, ",\"status\":{status},\"outcome\":\"{}\",\"service-id\":", outcome.name())?;
    match exchange.service() {
        Some(service) => write!(out, "\"{service}\"")?,
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"instance-id\":");
    match exchange.seat() {
        Some(seat) => {
            let separator = InstanceId::SEPARATOR;
            write!(out, "\"{}{separator}{}\"", seat.service(), seat.instance().suffix())?;
        }
        None => out.extend_from_slice(b"null"),
    }
    let (asked, answered) = exchange.bytes();
    write!(out, ",\"request-bytes\":{asked},\"response-bytes\":{answered}")?;
    let micros = |it: Duration| it.as_micros();
    let ended = now;
    let seated = times.seated.unwrap_or(ended);
    write!(out, ",\"queue-us\":{}", micros(seated - times.began))?;
    if let (Some(seated), Some(opened)) = (times.seated, times.opened) {
        write!(out, ",\"connect-us\":{}", micros(opened - seated))?;
    }
    if let (Some(opened), Some(answered)) = (times.opened, times.answered) {
        write!(out, ",\"first-byte-us\":{}", micros(answered - opened))?;
    }
    writeln!(out, ",\"total-us\":{}}}", micros(ended - times.began))
}

/// A JSON string of any bytes; those that are no printable ASCII are escaped one by one.
fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7e => out.push(*byte),
            other => write!(out, "\\u{other:04x}").expect("memory takes every byte"),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Limits;
    use crate::base::time::Date;
    use crate::exchange::Visit;
    use crate::wire::head::Head;
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;

    fn exchange() -> Exchange {
        let mut head = Head::default();
        head.set_target(b"/a\"b\x01?q");
        head.set_authority(b"host");
        let peer = "127.0.0.1".parse().expect("an address");
        let visit = Visit { peer, trusted: false, unique: 1, date: Date(1_704_164_645_678) };
        let mut exchange = Exchange::new(Arc::new(Limits::PRODUCTION));
        exchange.call(&head, visit, Instant(1), &mut Vec::new());
        exchange
    }

    #[test]
    fn a_line_is_json_whatever_was_asked() {
        let (writer, written) = sync_channel(1);
        let mut log = AccessLog::new(Some(writer));
        log.ended(&exchange(), Outcome::Success, Instant(2_000_001));
        log.hand_over();
        let line = written.try_recv().expect("a buffer");
        let line: serde_json::Value = serde_json::from_slice(&line).expect("json");
        assert_eq!(line["path"], "/a\"b\u{1}?q");
        assert_eq!(line["time"], "2024-01-02T03:04:05.678Z");
        assert_eq!(line["total-us"], 2000);
        assert_eq!(line["service-id"], serde_json::Value::Null);
    }

    #[test]
    fn what_a_slow_writer_misses_is_counted() {
        let (writer, written) = sync_channel(1);
        let mut log = AccessLog::new(Some(writer));
        for _ in 0..3 {
            log.ended(&exchange(), Outcome::Success, Instant(1));
            log.hand_over();
        }
        assert!(written.try_recv().is_ok());
        log.ended(&exchange(), Outcome::Success, Instant(1));
        log.hand_over();
        let text = String::from_utf8(written.try_recv().expect("a buffer")).expect("text");
        assert!(text.ends_with("{\"dropped\":2}\n"), "{text}");
        assert_eq!(log.dropped_total(), 2);
    }
}
