//! Drives one codec as its contract says, and writes down as text what the connection said.

use crate::base::limits::Limits;
pub(super) use crate::base::time::{Duration, Instant};
pub(super) use crate::wire::codec::{Cause, Close, Codec, Input, Needs, Part, Stream};
use crate::wire::fields::Fields;
pub(super) use crate::wire::head::{Head, Length};
pub(super) use crate::wire::http1::{Client, Server};
use http::{Method, StatusCode};

pub(super) const LIMITS: Limits = Limits::PRODUCTION;
pub(super) const START: Instant = Instant(1_000_000_000);
const PLENTY: u32 = 1 << 20;

/// What a driver does by itself when a part comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Habit {
    /// Nothing: no room, no answer.
    Watch,
    /// Gives plenty of room to each stream.
    Room,
    /// Gives room, and answers each request with an empty 200 at its end, or as it is refused.
    Answer,
}

/// One connection's codec, its output, and what it said.
pub(super) struct Driver<C> {
    pub(super) codec: C,
    habit: Habit,
    pub(super) now: Instant,
    pub(super) out: Vec<u8>,
    /// One line for each part; bodies in a row are joined.
    pub(super) said: Vec<String>,
    pub(super) stream: Stream,
    pub(super) body_bytes: usize,
}

impl Driver<Server> {
    pub(super) fn server(habit: Habit) -> Self {
        Self::new(Server::new(&LIMITS, START), habit)
    }
}

impl Driver<Client> {
    /// A client that has just written a request of this method, whole.
    pub(super) fn client(method: Method, habit: Habit) -> Self {
        let mut driver = Self::new(Client::new(&LIMITS), habit);
        driver.ask(method);
        driver
    }

    pub(super) fn ask(&mut self, method: Method) {
        let head = request_head(method, Length::Absent);
        self.stream = Stream(self.stream.0 + 1);
        self.write(Part::Head(&head));
        self.write(Part::End(None));
        self.out.clear();
        if self.habit != Habit::Watch {
            self.room(PLENTY);
        }
    }
}

impl<C: Codec> Driver<C> {
    pub(super) fn new(codec: C, habit: Habit) -> Self {
        let (out, said, stream) = (Vec::new(), Vec::new(), Stream(0));
        Self { codec, habit, now: START, out, said, stream, body_bytes: 0 }
    }

    /// Gives bytes, and whatever is left of them, until nothing more is said.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> &mut Self {
        let mut rest = bytes;
        for _ in 0..10_000 + bytes.len() * 4 {
            let before = self.said.len() + self.body_bytes;
            let used = self.read(Input::Bytes(rest));
            rest = &rest[used..];
            if before == self.said.len() + self.body_bytes {
                assert!(rest.is_empty(), "bytes were left without a part");
                if !self.codec.needs().ready {
                    return self;
                }
            }
        }
        panic!("it never comes to rest: {:?}", self.said);
    }

    pub(super) fn feed_each(&mut self, pieces: &[&[u8]]) -> &mut Self {
        for piece in pieces {
            self.feed(piece);
        }
        self
    }

    pub(super) fn end(&mut self) -> &mut Self {
        self.read(Input::End);
        self.feed(b"")
    }

    pub(super) fn tick(&mut self, later: Duration) -> &mut Self {
        self.now += later;
        self.read(Input::Tick);
        self
    }

    /// One read, written down.
    pub(super) fn read(&mut self, input: Input<'_>) -> usize {
        let read = self.codec.read(input, self.now, &mut self.out);
        let used = read.used;
        let Some((stream, part)) = read.part else { return used };
        let is_begin = matches!(part, Part::Head(_)) && stream != self.stream;
        let is_end = matches!(part, Part::End(_));
        let refused = match part {
            Part::Refused(_, fault) => Some(fault.class.row().status),
            _ => None,
        };
        match part {
            Part::Body(bytes) => {
                assert!(!bytes.is_empty());
                self.body_bytes += bytes.len();
                let text = String::from_utf8_lossy(bytes).into_owned();
                match self.said.last_mut().filter(|it| it.starts_with("body ")) {
                    Some(last) => last.push_str(&text),
                    None => self.said.push(format!("body {text}")),
                }
            }
            _ => self.said.push(show(part)),
        }
        self.stream = stream;
        if is_begin && self.habit != Habit::Watch {
            self.room(PLENTY);
        }
        if is_end && self.habit == Habit::Answer {
            self.answer(Length::Absent);
        }
        if let Some(status) = refused.filter(|_| self.habit == Habit::Answer) {
            let head = response_head(status, Length::Absent);
            self.write(Part::Head(&head)).write(Part::End(None));
        }
        used
    }

    pub(super) fn room(&mut self, bytes: u32) -> &mut Self {
        self.codec.room(self.stream, bytes, &mut self.out);
        self
    }

    pub(super) fn write(&mut self, part: Part<'_>) -> &mut Self {
        self.codec.write(self.stream, part, self.now, &mut self.out);
        self
    }

    pub(super) fn answer(&mut self, length: Length) -> &mut Self {
        let head = response_head(200, length);
        self.write(Part::Head(&head)).write(Part::End(None))
    }

    pub(super) fn needs(&self) -> Needs {
        self.codec.needs()
    }

    pub(super) fn close(&self) -> Close {
        self.needs().close
    }

    pub(super) fn out_text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// A part as one line.
fn show(part: Part<'_>) -> String {
    match part {
        Part::Head(head) => show_head(head),
        Part::Body(bytes) => format!("body {}", String::from_utf8_lossy(bytes)),
        Part::End(None) => "end".to_owned(),
        Part::End(Some(trailers)) => format!("end{}", show_fields(trailers)),
        Part::Cut(Cause::Malformed(fault)) => format!("cut {:?}", fault.class),
        Part::Cut(cause) => format!("cut {cause:?}"),
        Part::Refused(head, fault) => format!("refused {:?}: {}", fault.class, show_head(head)),
    }
}

fn show_head(head: &Head) -> String {
    let line = if head.target().is_empty() {
        head.status.as_str().to_owned()
    } else {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("{} {} @{}", head.method, text(head.target()), text(head.authority()))
    };
    let length = match head.length {
        Length::Absent => String::new(),
        Length::Exact(length) => format!(" ={length}"),
        Length::Unknown => " =?".to_owned(),
    };
    let version = format!("{:?}", head.version);
    format!("{line} {}{length}{}", &version[5..], show_fields(&head.fields))
}

fn show_fields(fields: &Fields) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| format!(" {}:{}", text(name), text(value))).collect()
}

pub(super) fn request_head(method: Method, length: Length) -> Head {
    let mut head = Head::default();
    head.method = method;
    head.length = length;
    head.set_target(b"/");
    head.set_authority(b"a");
    head
}

pub(super) fn response_head(status: u16, length: Length) -> Head {
    let mut head = Head::default();
    head.status = StatusCode::from_u16(status).unwrap();
    head.length = length;
    head
}

/// Feeds `bytes` to fresh connections: whole, cut at every place, and byte by byte; what is said
/// and what must happen then are always the same. Gives what was said.
pub(super) fn same_at_every_cut<C: Codec>(bytes: &[u8], make: impl Fn() -> Driver<C>) -> Driver<C> {
    let mut whole = make();
    whole.feed(bytes);
    let singles: Vec<&[u8]> = bytes.chunks(1).collect();
    let cuts = (1..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
    for pieces in cuts.chain([singles]) {
        let mut cut = make();
        cut.feed_each(&pieces);
        let shown: Vec<_> = pieces.iter().map(|it| String::from_utf8_lossy(it)).collect();
        assert_eq!(cut.said, whole.said, "cut as {shown:?}");
        assert_eq!(cut.out_text(), whole.out_text(), "cut as {shown:?}");
        assert_eq!(cut.close(), whole.close(), "cut as {shown:?}");
    }
    whole
}
