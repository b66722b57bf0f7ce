//! The directory in which a router keeps what outlives it.
//!
//! One router at a time: the lock on `<dir>/lock` is held as long as the [`DataDir`] lives, and the
//! kernel releases it when the process ends, however it ends. The file names the holder, for
//! people.

use super::chance::random_hex;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of chance in the secret.
const SECRET_BYTES: usize = 16;

/// A data directory that is ours while this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    secret: String,
    /// Never read again; closing it would release the lock.
    _lock: File,
}

/// Why a data directory cannot be used. The fault is the operator's.
#[derive(Debug)]
pub enum DataDirError {
    /// Another router holds it; its process id, as far as it said.
    InUse(PathBuf, Option<u32>),
    /// This file does not hold a secret.
    NoSecret(PathBuf),
    /// The file system refused this.
    Io(PathBuf, io::Error),
}

impl DataDir {
    /// Opens the directory, and creates it for this user alone if it does not exist.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let refused = |path: &Path| {
            let path = path.to_owned();
            move |error| DataDirError::Io(path, error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refused(path))?;
        let path = fs::canonicalize(path).map_err(refused(path))?;
        let lock = lock(&path)?;
        let file = path.join("secret");
        let Some(secret) = secret(&file).map_err(refused(&file))? else {
            return Err(DataDirError::NoSecret(file));
        };
        Ok(Self { path, secret, _lock: lock })
    }

    /// Its absolute path, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Chance drawn when the directory was first used: hexadecimal digits. From it follow the
    /// passwords of services.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path, Some(pid)) => write!(
                f,
                "data directory {} is in use by process {pid}; stop process {pid} or choose \
                 another --data-dir",
                path.display()
            ),
            Self::InUse(path, None) => write!(
                f,
                "data directory {} is in use by another process; stop it or choose another \
                 --data-dir",
                path.display()
            ),
            Self::NoSecret(path) => write!(
                f,
                "{}: no secret in it; remove it to draw a new one, or choose another --data-dir",
                path.display()
            ),
            Self::Io(path, error) => {
                write!(f, "{}: {error}; choose another --data-dir", path.display())
            }
        }
    }
}

impl std::error::Error for DataDirError {}

fn lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join("lock");
    let refused = |error| DataDirError::Io(path.clone(), error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Whoever holds it may just be about to write its name.
            let _ = file.read_to_string(&mut holder);
            return Err(DataDirError::InUse(directory.to_owned(), holder.trim().parse().ok()));
        }
        Err(TryLockError::Error(error)) => return Err(refused(error)),
    }
    file.set_len(0).map_err(refused)?;
    writeln!(file, "{}", std::process::id()).map_err(refused)?;
    Ok(file)
}

/// Reads the secret; draws it the first time. None: what is there is no secret.
fn secret(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() == 2 * SECRET_BYTES => {
            return Ok(Some(text.trim().to_owned()));
        }
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret = random_hex(SECRET_BYTES)?;
    // Renamed into place whole, so that a crash leaves the secret or none, but no half of one.
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(Some(secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn one_router_at_a_time_and_the_holder_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        let pid = std::process::id();
        let expected =
            format!("is in use by process {pid}; stop process {pid} or choose another --data-dir");
        assert!(error.ends_with(&expected), "{error}");
        let secret = first.secret().to_owned();
        drop(first);
        assert_eq!(DataDir::open(&path).unwrap().secret(), secret);
        assert_eq!((mode(&path), mode(&path.join("secret"))), (0o700, 0o600));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_path() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("secret"), "short").unwrap();
        let error = DataDir::open(temporary.path()).unwrap_err().to_string();
        assert!(error.contains("/secret: no secret in it"), "{error}");
        assert!(error.ends_with("or choose another --data-dir"), "{error}");
        let error = DataDir::open(Path::new("/dev/null/x")).unwrap_err().to_string();
        assert!(error.starts_with("/dev/null/x: "), "{error}");
        assert!(error.ends_with("; choose another --data-dir"), "{error}");
    }
}
