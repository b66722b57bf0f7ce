//! The event stream (`GET /v2/events`): which of its events say that something has changed.
//!
//! Events are hints: there is no replay and no order, so nothing is taken from one but that it is
//! time to ask.

use serde_json::Value;

/// A line longer than this is cut: an event that holds a whole app can be long.
const LINE_MAX: usize = 64 * 1024;

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    name: String,
}

/// What an event is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hint {
    /// This app, by its id without the slash.
    App(String),
    /// Nothing in particular, or something that was not understood: look at everything.
    Any,
    /// Nothing that the lists would show.
    None,
}

impl Events {
    /// More bytes have come; the hints of the events that end in them.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Hint> {
        let mut hints = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => hints.extend(self.ended()),
                b'\r' => {}
                _ if self.line.len() < LINE_MAX => self.line.push(*byte),
                _ => {}
            }
        }
        hints
    }

    /// A line has ended. An empty one that ends no event is a heartbeat.
    fn ended(&mut self) -> Option<Hint> {
        let line = std::mem::take(&mut self.line);
        if let Some(name) = line.strip_prefix(b"event:") {
            self.name = String::from_utf8_lossy(name).trim().to_owned();
            return None;
        }
        let data = line.strip_prefix(b"data:")?;
        Some(hint(&std::mem::take(&mut self.name), data))
    }
}

fn hint(name: &str, data: &[u8]) -> Hint {
    match name {
        "event_stream_attached"
        | "event_stream_detached"
        | "framework_message_event"
        | "api_post_event" => return Hint::None,
        _ => {}
    }
    let told: Value = serde_json::from_slice(data).unwrap_or_default();
    let app = ["appId", "runSpecId"].into_iter().find_map(|it| told.get(it)?.as_str());
    match app {
        Some(app) => Hint::App(app.trim_start_matches('/').to_owned()),
        None => Hint::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = b"event: event_stream_attached\r\ndata: {\"remoteAddress\":\"x\"}\r\n\r\n\r\n\
            event: status_update_event\r\ndata: {\"appId\":\"/a\",\"taskStatus\":\"TASK_RUNNING\"}\
            \r\n\r\nevent: deployment_success\r\ndata: {\"id\":\"d\"}\r\n\r\n\
            event: instance_changed_event\r\ndata: {\"runSpecId\":\"/b\"}\r\n\r\n\
            event: x\r\ndata: no json\r\n\r\n";
        let expected =
            [Hint::None, Hint::App("a".into()), Hint::Any, Hint::App("b".into()), Hint::Any];
        for step in [1, 2, 7, 64, text.len()] {
            let mut events = Events::default();
            let hints: Vec<Hint> = text.chunks(step).flat_map(|it| events.read(it)).collect();
            assert_eq!(hints, expected, "pieces of {step}");
        }
    }

    #[test]
    fn a_line_without_end_costs_no_more_than_its_bound() {
        let mut events = Events::default();
        for _ in 0..100 {
            assert!(events.read(&[b'x'; 4096]).is_empty());
        }
        assert!(events.line.capacity() <= 2 * LINE_MAX);
        assert_eq!(events.read(b"\nevent: e\ndata: {}\n"), [Hint::Any]);
    }
}
