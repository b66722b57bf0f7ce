//! An answer, read piece by piece: only what tells where it ends is looked at.

/// Fields of a head that are understood.
const FIELDS: usize = 96;
/// Longest head.
const HEAD_BYTES: usize = 64 * 1024;

/// What has been read of one answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    phase: Phase,
    /// The beginning of a head or of a line whose rest is yet to come.
    partial: Vec<u8>,
    status: u16,
    keeps: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    #[default]
    Head,
    /// So many bytes of body are left.
    Sized(u64),
    /// The line that tells how long the next chunk is.
    ChunkSize,
    /// So many bytes of chunk are left, its line end among them.
    Chunk(u64),
    /// Lines behind the last chunk.
    Trailers,
    UntilClose,
    Done,
}

/// Where reading got to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    More,
    /// The answer is complete: its status, and whether the connection stays.
    Done {
        status: u16,
        keeps: bool,
    },
}

/// It is no answer in HTTP/1.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Malformed;

impl Answer {
    /// Nothing has been read yet; memory is kept.
    pub(super) fn reset(&mut self) {
        self.partial.clear();
        self.phase = Phase::Head;
    }

    /// These bytes came.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<Progress, Malformed> {
        while !bytes.is_empty() {
            let taken = match self.phase {
                Phase::Head => self.head(bytes)?,
                Phase::Sized(left) => {
                    let (taken, left) = skip(bytes, left);
                    self.phase = if left == 0 { Phase::Done } else { Phase::Sized(left) };
                    taken
                }
                Phase::Chunk(left) => {
                    let (taken, left) = skip(bytes, left);
                    self.phase = if left == 0 { Phase::ChunkSize } else { Phase::Chunk(left) };
                    taken
                }
                Phase::ChunkSize | Phase::Trailers => self.line(bytes)?,
                Phase::UntilClose => bytes.len(),
                // Nothing was asked for that this could belong to.
                Phase::Done => return Err(Malformed),
            };
            bytes = &bytes[taken..];
        }
        Ok(self.progress())
    }

    /// The connection ended: whether that ends the answer as it should.
    pub(super) fn end(&mut self) -> Option<Progress> {
        if self.phase != Phase::UntilClose {
            return None;
        }
        self.phase = Phase::Done;
        self.keeps = false;
        Some(self.progress())
    }

    fn progress(&self) -> Progress {
        match self.phase {
            Phase::Done => Progress::Done { status: self.status, keeps: self.keeps },
            _ => Progress::More,
        }
    }

    /// How many of these bytes belong to the head.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        if self.partial.is_empty()
            && let Some(length) = self.parse(bytes)?
        {
            return Ok(length);
        }
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        let partial = std::mem::take(&mut self.partial);
        let length = self.parse(&partial)?;
        self.partial = partial;
        match length {
            Some(length) => {
                self.partial.clear();
                Ok(length - before)
            }
            None if self.partial.len() > HEAD_BYTES => Err(Malformed),
            None => Ok(bytes.len()),
        }
    }

    /// The length of the head, if it is whole; the phase is then the next one.
    fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(bytes).map_err(|_| Malformed)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        self.status = head.code.ok_or(Malformed)?;
        self.keeps = head.version == Some(1);
        let (mut size, mut chunked) = (None, false);
        for field in head.headers.iter() {
            if field.name.eq_ignore_ascii_case("content-length") {
                let text = std::str::from_utf8(field.value).map_err(|_| Malformed)?;
                size = Some(text.trim().parse::<u64>().map_err(|_| Malformed)?);
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = says(field.value, b"chunked");
            } else if field.name.eq_ignore_ascii_case("connection") {
                self.keeps = !says(field.value, b"close")
                    && (self.keeps || says(field.value, b"keep-alive"));
            }
        }
        self.phase = match self.status {
            // An interim answer; the real one follows.
            100 | 102..=199 => Phase::Head,
            204 | 304 => Phase::Done,
            _ if chunked => Phase::ChunkSize,
            _ => match size {
                Some(0) => Phase::Done,
                Some(size) => Phase::Sized(size),
                None => Phase::UntilClose,
            },
        };
        Ok(Some(length))
    }

    /// How many of these bytes belong to the line.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let end = memchr::memchr(b'\n', bytes);
        let taken = end.map_or(bytes.len(), |it| it + 1);
        self.partial.extend_from_slice(&bytes[..taken]);
        if self.partial.len() > HEAD_BYTES {
            return Err(Malformed);
        }
        if end.is_none() {
            return Ok(taken);
        }
        let line = self.partial.trim_ascii_end();
        self.phase = match self.phase {
            Phase::ChunkSize => match chunk_size(line)? {
                0 => Phase::Trailers,
                size => Phase::Chunk(size.checked_add(2).ok_or(Malformed)?),
            },
            _ if line.is_empty() => Phase::Done,
            phase => phase,
        };
        self.partial.clear();
        Ok(taken)
    }
}

fn skip(bytes: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (taken, left - taken as u64)
}

fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|it| *it == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).map_err(|_| Malformed)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed)
}

/// Whether a list has this word.
fn says(list: &[u8], word: &[u8]) -> bool {
    list.split(|it| *it == b',').any(|it| it.trim_ascii().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAYS: Result<Progress, Malformed> = Ok(Progress::Done { status: 200, keeps: true });
    const CLOSES: Result<Progress, Malformed> = Ok(Progress::Done { status: 200, keeps: false });
    const MORE: Result<Progress, Malformed> = Ok(Progress::More);

    /// The answer is read alike however it is cut.
    fn check(text: &str, expected: &Result<Progress, Malformed>) {
        for size in 1..=text.len() {
            let mut answer = Answer::default();
            let mut last = MORE;
            for piece in text.as_bytes().chunks(size) {
                last = answer.feed(piece);
                if last.is_err() {
                    break;
                }
            }
            assert_eq!(&last, expected, "{text:?} in pieces of {size}");
        }
    }

    #[test]
    fn where_an_answer_ends() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", STAYS),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", STAYS),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", MORE),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!", Err(Malformed)),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", CLOSES),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", CLOSES),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", STAYS),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\na: b\r\n\r\n",
                STAYS,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", MORE),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", Err(Malformed)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", STAYS),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Err(Malformed)),
            ("SSH-2.0-OpenSSH\r\n", Err(Malformed)),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", MORE),
        ] {
            check(text, &expected);
        }
    }

    #[test]
    fn only_an_answer_without_a_length_ends_with_the_connection() {
        let mut it = Answer::default();
        assert_eq!(it.feed(b"HTTP/1.1 200 OK\r\n\r\nabc"), MORE);
        assert_eq!(it.end(), Some(Progress::Done { status: 200, keeps: false }));
        it.reset();
        assert_eq!(it.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), MORE);
        assert_eq!(it.end(), None);
    }
}
