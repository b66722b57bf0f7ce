//! What an instance writes: files `stdout` and `stderr` in its directory, of limited size.
//!
//! The files are opened for appending. Cutting one to nothing while the instance writes is
//! therefore harmless: it neither blocks nor fails, its next byte is the first. What was last
//! written before the cut is kept in `stdout.1`, `stderr.1`; what arrives between copy and cut is
//! lost.

use crate::base::time::{Duration, Instant};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Time between two looks at a file.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same, while it grows beyond its limit.
const INTERVAL_FAST: Duration = Duration::from_millis(100);
/// Unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The output of one instance.
#[derive(Debug)]
pub(super) struct Output {
    /// Held open, so that a file is found again also when the instance has removed its name.
    files: [(File, PathBuf); 2],
    limit_bytes: u64,
    look_at: Instant,
}

impl Output {
    /// Creates the files in this directory. Returns also the ends for the instance: stdout, stderr.
    pub(super) fn create(directory: &Path, limit_bytes: u64) -> io::Result<(Self, [File; 2])> {
        let open = |name: &str| {
            let path = directory.join(name);
            let mut options = OpenOptions::new();
            let ours = options.read(true).append(true).create(true).mode(0o600).open(&path)?;
            let theirs = OpenOptions::new().append(true).open(&path)?;
            Ok::<_, io::Error>(((ours, path), theirs))
        };
        let (stdout, stderr) = (open("stdout")?, open("stderr")?);
        let files = [stdout.0, stderr.0];
        Ok((Self { files, limit_bytes, look_at: Instant(0) }, [stdout.1, stderr.1]))
    }

    /// Cuts what has grown beyond the limit.
    pub(super) fn tick(&mut self, now: Instant) -> io::Result<()> {
        if now < self.look_at {
            return Ok(());
        }
        self.look_at = now + INTERVAL;
        for (file, path) in &self.files {
            // Bytes on disk, not the length: a file that is written elsewhere than at its end has a
            // hole after a cut.
            if file.metadata()?.blocks() * BLOCK_BYTES > self.limit_bytes {
                self.look_at = now + INTERVAL_FAST;
                let kept = keep_end(file, &path.with_extension("1"), self.limit_bytes / 2);
                // Cut in any case: the disk may be full.
                file.set_len(0)?;
                kept?;
            }
        }
        Ok(())
    }
}

/// Copies the last so many bytes of a file.
fn keep_end(file: &File, path: &Path, count: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut at = length.saturating_sub(count);
    let mut options = OpenOptions::new();
    let mut kept = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut piece = [0; 64 * 1024];
    while at < length {
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            break;
        }
        kept.write_all(&piece[..read])?;
        at += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_grows_too_large_is_cut_and_its_end_kept() {
        let temporary = tempfile::tempdir().unwrap();
        let (stdout, kept) = (temporary.path().join("stdout"), temporary.path().join("stdout.1"));
        let (mut output, [mut theirs, _]) = Output::create(temporary.path(), 8192).unwrap();
        theirs.write_all(&[b'a'; 8192]).unwrap();
        output.tick(Instant(1)).unwrap();
        assert_eq!(fs::metadata(&stdout).unwrap().len(), 8192);
        theirs.write_all(&[b'b'; 4096]).unwrap();
        theirs.write_all(b"end").unwrap();
        output.tick(Instant(2)).unwrap();
        assert_eq!(fs::metadata(&stdout).unwrap().len(), 8192 + 4096 + 3, "looked too early");
        output.tick(Instant(1) + INTERVAL).unwrap();
        theirs.write_all(b"next").unwrap();
        assert_eq!(fs::read_to_string(&stdout).unwrap(), "next");
        let kept = fs::read_to_string(&kept).unwrap();
        assert!(kept.len() == 4096 && kept.starts_with("bbb") && kept.ends_with("bend"));
    }
}
