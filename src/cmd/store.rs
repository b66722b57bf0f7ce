//! `waiter store`: moves what is stored between a data directory and ZooKeeper.

use crate::base::time::Duration;
use crate::config::Config;
use crate::control::store::{Embedded, Expect, Store, StoreError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;
/// Session with ZooKeeper, while values are moved.
const SESSION: Duration = Duration::from_secs(10);
/// Longest line of an export: a value of 1 MB as base64, and its key.
const LINE_BYTES_MAX: usize = 2 << 20;

/// Arguments of `waiter store`.
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    #[command(subcommand)]
    way: Way,
}

#[derive(Clone, Debug, Subcommand)]
enum Way {
    /// Write all values as lines of JSON
    Export(Export),
    /// Read such lines, and store what is not there yet
    Import(Import),
}

#[derive(Args, Clone, Debug)]
struct Export {
    #[command(flatten)]
    place: Place,
    /// Where to; - is standard output
    #[arg(default_value = "-", value_name = "FILE")]
    file: String,
}

#[derive(Args, Clone, Debug)]
struct Import {
    #[command(flatten)]
    place: Place,
    /// Where from; - is standard input
    #[arg(default_value = "-", value_name = "FILE")]
    file: String,
    /// Replace values that are there
    #[arg(long)]
    overwrite: bool,
}

/// Which store.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The store in this data directory, which no router uses now [default: .waiter]
    #[arg(long, value_name = "DIR", conflicts_with = "zookeeper")]
    data_dir: Option<PathBuf>,
    /// The store in ZooKeeper
    #[arg(long, value_name = "HOST:PORT,...")]
    zookeeper: Option<String>,
    /// Node of ZooKeeper below which everything is kept
    #[arg(long, value_name = "PATH", default_value = "/waiter")]
    zookeeper_base: String,
    /// File with the keys of the store
    #[arg(long, value_name = "FILE")]
    store_keys_file: Option<PathBuf>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    value: String,
}

/// Runs the command.
pub fn run(args: StoreArgs) -> ExitCode {
    let done = match args.way {
        Way::Export(it) => it.place.open().and_then(|store| export(&*store, &it.file)),
        Way::Import(it) => {
            it.place.open().and_then(|store| import(&*store, &it.file, it.overwrite))
        }
    };
    match done {
        Ok(said) => {
            say(&said);
            ExitCode::SUCCESS
        }
        Err((code, why)) => {
            say(&why);
            ExitCode::from(code)
        }
    }
}

impl Place {
    fn open(&self) -> Result<Box<dyn Store>, (u8, String)> {
        let Some(servers) = &self.zookeeper else {
            let folder = self.data_dir.clone().unwrap_or_else(|| ".waiter".into());
            let path = folder.join("store.redb");
            if !path.exists() {
                return Err((MISUSED, format!("there is no store in {}", folder.display())));
            }
            let explain = |error: StoreError| {
                let why = format!("cannot open {}: {error}; does a router run?", path.display());
                (FAILED, why)
            };
            return Ok(Box::new(Embedded::open(&path).map_err(explain)?));
        };
        let written = crate::config::WrittenRouters {
            zookeeper: Some(servers.clone()),
            zookeeper_base: Some(self.zookeeper_base.clone()),
            zookeeper_session_ms: Some(SESSION.as_millis() as u64),
            store_keys_file: self.store_keys_file.clone(),
            // Nothing is said to other routers here.
            cluster_secret_file: Some("unused".into()),
            ..Default::default()
        };
        let written = crate::config::Written { routers: written, ..Default::default() };
        let config: Config =
            written.resolve(&[0]).map_err(|mistakes| (MISUSED, mistakes.join("\n")))?;
        let store = super::cluster::store(&config).map_err(|why| (MISUSED, why))?;
        Ok(Box::new(store))
    }
}

fn export(store: &dyn Store, file: &str) -> Result<String, (u8, String)> {
    let all = store.list("").map_err(|error| (FAILED, error.to_string()))?;
    let mut out: Box<dyn Write> = match file {
        "-" => Box::new(io::stdout().lock()),
        path => Box::new(File::create(path).map_err(|error| (FAILED, format!("{path}: {error}")))?),
    };
    let mut out = BufWriter::new(&mut out);
    let broken = |error: io::Error| (FAILED, format!("{file}: {error}"));
    for (key, stored) in &all {
        let line = Line { key: key.clone(), value: STANDARD.encode(&stored.value) };
        serde_json::to_writer(&mut out, &line).map_err(|error| broken(error.into()))?;
        out.write_all(b"\n").map_err(broken)?;
    }
    out.flush().map_err(broken)?;
    Ok(format!("exported {} values", all.len()))
}

fn import(store: &dyn Store, file: &str, overwrite: bool) -> Result<String, (u8, String)> {
    let input: Box<dyn BufRead> = match file {
        "-" => Box::new(io::stdin().lock()),
        path => {
            let file = File::open(path).map_err(|error| (MISUSED, format!("{path}: {error}")))?;
            Box::new(BufReader::new(file))
        }
    };
    let (mut stored, mut kept) = (0, 0);
    for (at, line) in input.lines().enumerate() {
        let wrong = |why: String| (MISUSED, format!("{file}, line {}: {why}", at + 1));
        let line = line.map_err(|error| wrong(error.to_string()))?;
        if line.len() > LINE_BYTES_MAX {
            return Err(wrong("it is too long".to_owned()));
        }
        if line.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
        let value = STANDARD.decode(&line.value).map_err(|error| wrong(error.to_string()))?;
        let expect = if overwrite { Expect::Anything } else { Expect::Absent };
        match store.put(&line.key, &value, expect) {
            Ok(_) => stored += 1,
            Err(StoreError::Conflict(_)) if !overwrite => kept += 1,
            Err(error) => return Err((FAILED, format!("{}: {error}", line.key))),
        }
    }
    Ok(format!("stored {stored} values; {kept} were there already and stay (see --overwrite)"))
}

fn say(what: &str) {
    let _ = writeln!(io::stderr().lock(), "waiter: {what}"); // nobody may listen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_exported_is_imported_and_nothing_is_replaced_unasked() {
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        let (from, to) = (Embedded::open(&from).expect("new"), Embedded::open(&to).expect("new"));
        from.put("k1", b"\x00\xff", Expect::Absent).expect("stored");
        from.put("k2", b"two", Expect::Absent).expect("stored");
        to.put("k2", b"other", Expect::Absent).expect("stored");
        let file = dir.path().join("lines").display().to_string();
        assert_eq!(export(&from, &file), Ok("exported 2 values".to_owned()));
        assert!(import(&to, &file, false).expect("right").starts_with("stored 1 values; 1 were"));
        assert_eq!(to.get("k1").expect("works").expect("there").value, b"\x00\xff");
        assert_eq!(to.get("k2").expect("works").expect("there").value, b"other");
        assert!(import(&to, &file, true).expect("right").starts_with("stored 2 values"));
        assert_eq!(to.get("k2").expect("works").expect("there").value, b"two");
        std::fs::write(&file, "{\"key\":\"k\",\"value\":\"!\"}\n").expect("written");
        let (code, why) = import(&to, &file, false).expect_err("no base64");
        assert!(code == MISUSED && why.contains("line 1"), "{why}");
    }
}
