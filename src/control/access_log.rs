//! The writer of the access log: a thread that writes what the shards hand over.

use crate::base::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

/// Buffers that wait for the writer; more are dropped by the shards.
const BUFFERS: usize = 64;

/// The last buffers are waited for so long.
const FLUSH: Duration = Duration::from_millis(500);

/// Where the access log goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// This file, appended to; if it is moved away it is created anew.
    File(PathBuf),
}

/// The writer's other end.
#[derive(Debug)]
pub struct Writer {
    /// Takes buffers.
    pub buffers: SyncSender<Vec<u8>>,
    flushed: Receiver<()>,
}

impl Writer {
    /// Waits until what was handed over has been written, for a moment at most.
    pub fn flush(&self) {
        // An empty buffer is a question.
        if self.buffers.try_send(Vec::new()).is_ok() {
            let _ = self.flushed.recv_timeout(FLUSH);
        }
    }
}

/// Starts the writer.
///
/// # Errors
/// The file cannot be opened, or the thread not started.
pub fn start(destination: Destination) -> io::Result<Writer> {
    let (sender, buffers) = sync_channel(BUFFERS);
    let (answer, flushed) = sync_channel(1);
    let mut file = match &destination {
        Destination::Stdout => None,
        Destination::File(path) => Some(open(path)?),
    };
    Builder::new().name("access-log".into()).spawn(move || {
        write_all(&destination, file.as_mut(), &buffers, &answer);
    })?;
    Ok(Writer { buffers: sender, flushed })
}

fn write_all(
    destination: &Destination,
    file: Option<&mut File>,
    buffers: &Receiver<Vec<u8>>,
    answer: &SyncSender<()>,
) {
    let mut file = file;
    for buffer in buffers {
        if buffer.is_empty() {
            let _ = answer.try_send(());
            continue;
        }
        let written = match (destination, &mut file) {
            (Destination::File(path), Some(file)) => {
                if has_moved(path, file)
                    && let Ok(fresh) = open(path)
                {
                    **file = fresh;
                }
                file.write_all(&buffer)
            }
            _ => io::stdout().lock().write_all(&buffer),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Whether another file, or none, now has the name.
fn has_moved(path: &Path, file: &File) -> bool {
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) != (open.dev(), open.ino()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_is_created_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, old) = (dir.path().join("log"), dir.path().join("log.1"));
        let (sender, buffers) = sync_channel(4);
        let mut file = open(&path).expect("a file");
        sender.send(b"1\n".to_vec()).expect("room");
        let destination = Destination::File(path.clone());
        drop(sender);
        write_all(&destination, Some(&mut file), &buffers, &sync_channel(1).0);
        std::fs::rename(&path, &old).expect("moved");
        let (sender, buffers) = sync_channel(4);
        sender.send(b"2\n".to_vec()).expect("room");
        drop(sender);
        write_all(&destination, Some(&mut file), &buffers, &sync_channel(1).0);
        let read = |path: &Path| std::fs::read_to_string(path).expect("text");
        assert_eq!((read(&old), read(&path)), ("1\n".to_owned(), "2\n".to_owned()));
    }
}
