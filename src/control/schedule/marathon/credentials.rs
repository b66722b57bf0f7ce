//! Who we are to Marathon: a file with `user:password`, or one with a token.
//!
//! A file is read again when it has changed, and when Marathon says 401, so that a password or a
//! token can be replaced while the router runs.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where a secret is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Secret {
    /// `user:password`, for basic authentication.
    Basic(PathBuf),
    /// A token, sent as `Bearer`.
    Token(PathBuf),
}

/// The secret as it was last read.
pub(super) struct Credentials {
    secret: Option<Secret>,
    header: Option<String>,
    modified: Option<SystemTime>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.secret) // the file, never what it holds
    }
}

impl Secret {
    fn path(&self) -> &Path {
        match self {
            Self::Basic(path) | Self::Token(path) => path,
        }
    }

    /// The value of `Authorization`.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold what it should.
    pub fn read(&self) -> io::Result<String> {
        let text = fs::read_to_string(self.path())?;
        let text = text.trim();
        let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if text.is_empty() || text.contains(|it: char| it.is_control()) {
            return Err(odd("it must hold one line"));
        }
        match self {
            Self::Basic(_) if !text.contains(':') => Err(odd("it must hold user:password")),
            Self::Basic(_) => Ok(format!("Basic {}", BASE64_STANDARD.encode(text))),
            Self::Token(_) => Ok(format!("Bearer {text}")),
        }
    }
}

impl Credentials {
    pub(super) fn new(secret: Option<Secret>) -> Self {
        Self { secret, header: None, modified: None }
    }

    /// The value of `Authorization`, read anew if the file has changed.
    pub(super) fn header(&mut self) -> Option<&str> {
        let secret = self.secret.as_ref()?;
        let modified = fs::metadata(secret.path()).and_then(|it| it.modified()).ok();
        if self.header.is_none() || modified != self.modified {
            self.modified = modified;
            match secret.read() {
                Ok(header) => self.header = Some(header),
                // What was read before may still be right.
                Err(error) => {
                    tracing::warn!(path = %secret.path().display(), %error, "cannot be read");
                }
            }
        }
        self.header.as_deref()
    }

    /// They were refused: the file is read again. Returns whether it says something else now.
    pub(super) fn refused(&mut self) -> bool {
        let before = self.header.take();
        self.header();
        let changed = self.header.is_some() && self.header != before;
        self.header = self.header.take().or(before);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        fs::write(&path, "one\n").expect("written");
        let mut credentials = Credentials::new(Some(Secret::Token(path.clone())));
        assert_eq!(credentials.header(), Some("Bearer one"));
        assert!(!credentials.refused());
        assert!(!format!("{credentials:?}").contains("one"), "{credentials:?}");
        fs::write(&path, "two").expect("written");
        assert!(credentials.refused());
        assert_eq!(credentials.header(), Some("Bearer two"));
        fs::remove_file(&path).expect("removed");
        assert_eq!(credentials.header(), Some("Bearer two"), "it may still be right");
        assert_eq!(Credentials::new(None).header(), None);
        fs::write(&path, "no colon").expect("written");
        assert!(Secret::Basic(path.clone()).read().is_err());
        fs::write(&path, "a:b").expect("written");
        assert_eq!(Secret::Basic(path).read().expect("right"), "Basic YTpi");
    }
}
