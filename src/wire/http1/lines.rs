//! Finds the empty line that ends a head or a trailer section.
//!
//! Every line ends with CR LF; a CR or an LF that stands alone is refused here, before any parser
//! could take it for a line end or for a part of a value (RFC 9112 §2.2). Told a growing prefix of
//! the same bytes, it looks at each byte once, whatever the pieces are.

use super::parse::Wrong;

#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Where the line at hand begins.
    line: usize,
    /// Bytes before this one have been looked at.
    seen: usize,
}

impl Lines {
    /// Looks on in `bytes`, which begins as it did the last time. Gives the length up to and with
    /// the first empty line, once there is one.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Wrong> {
        while let Some(next) = memchr::memchr2(b'\r', b'\n', &bytes[self.seen..]) {
            let at = self.seen + next;
            self.seen = at;
            if bytes[at] == b'\n' {
                return Err(Wrong::bad("A line ends with LF alone."));
            }
            match bytes.get(at + 1) {
                None => return Ok(None),
                Some(b'\n') if at == self.line => return Ok(Some(at + 2)),
                Some(b'\n') => {
                    self.line = at + 2;
                    self.seen = at + 2;
                }
                Some(_) => return Err(Wrong::bad("A CR is not followed by LF.")),
            }
        }
        self.seen = bytes.len();
        Ok(None)
    }
}
