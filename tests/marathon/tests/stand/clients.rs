//! Clients that others wrote for the real Marathon run their whole lists of calls. That proves that
//! their parsers take our answers and their sequences work, not that Marathon has our timing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::schemas::root;
use crate::stage::Stage;

/// Runs a script of calls; it prints how many were made, and fails at the first that is wrong.
fn run(program: &Path, library: &str, script: &str, generation: &str) {
    let stage = Stage::new(&["--agents", "2", "--generation", generation, "--election-ms", "100"]);
    let done = Command::new(program)
        .arg(root().join("tests/marathon/tests/stand/clients").join(script))
        .args([stage.url(), generation])
        .env("NODE_PATH", clients().join("node/node_modules"))
        .output()
        .unwrap_or_else(|why| panic!("cannot run {}: {why}", program.display()));
    let text = String::from_utf8_lossy(&done.stdout);
    let why = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{library} with {generation}:\n{text}\n{why}");
    print!("{library} with {generation}: {text}");
}

/// Where a part of a client lies.
fn installed(path: &str, library: &str) -> PathBuf {
    let path = clients().join(path);
    assert!(path.exists(), "{library} is missing: no {}; tests/run installs it", path.display());
    path
}

fn clients() -> PathBuf {
    root().join("target/clients")
}

fn python(generation: &str) {
    let library = "PyPI's marathon 0.13.0";
    run(&installed("python/bin/python", library), library, "calls.py", generation);
}

fn node(generation: &str) {
    let library = "npm's marathon-node 1.1.0";
    installed("node/node_modules/marathon-node", library);
    run(Path::new("node"), library, "calls.js", generation);
}

#[test]
fn the_python_client_makes_all_its_calls_1_3() {
    python("1.3");
}

#[test]
fn the_python_client_makes_all_its_calls_1_10() {
    python("1.10");
}

#[test]
fn the_node_client_makes_all_its_calls_1_3() {
    node("1.3");
}

#[test]
fn the_node_client_makes_all_its_calls_1_10() {
    node("1.10");
}
