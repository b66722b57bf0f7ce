//! What routers keep in ZooKeeper: where Curator looks for them, and descriptions that all find,
//! which `waiter store` moves.

use crate::marathon::service;
use crate::stage::{Cluster, Ensemble, PATIENCE, Process, until, until_members};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Runs the program to its end: its exit code, and what it said.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).collect();
    let mut process = Process::start(&arguments);
    let code = process.wait(PATIENCE);
    (code, process.said())
}

#[test]
fn a_router_is_where_curator_looks_for_it() {
    let ensemble = Ensemble::start(1);
    let routers = ensemble.routers(1, &["--scheduler", "none", "--cluster", "kitchen"]);
    until_members(&[&routers[0]]);
    let id = routers[0].page("/state/cluster")["router-id"].as_str().expect("an id").to_owned();
    let said = ensemble.four(0, "dump");
    assert!(said.contains(&format!("/waiter/discovery-v2-v2/kitchen/{id}")), "{said}");
    assert!(said.contains("/waiter/leader-latch/_c_") && said.contains("-latch-0000000000"));
    let url = format!("http://{}", routers[0].address);
    let (code, said) = run(&["cluster", "status", "--url", &url]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(run(&["cluster", "status", "--url", "http://127.0.0.1:1"]).0, Some(3));
}

#[test]
fn descriptions_are_shared_encrypted_and_moved() {
    let ensemble = Ensemble::start(1);
    let marathon = Cluster::start(&[]);
    let keys = ensemble.folder().join("keys");
    fs::write(&keys, "the first key of this store\n").expect("written");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("ours");
    let keys = keys.display().to_string();
    let mut flags = ensemble.flags();
    flags.extend(["--store-keys-file".to_owned(), keys.clone()]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (one, two) = (marathon.another(&flags), marathon.another(&flags));
    until_members(&[&one, &two]);
    let secret = service("private", "").with("env.TOKEN", "not for everybody");
    one.ask(&secret.get("/")).expect(200);
    // The other knows it, though nobody has asked it.
    until("the other knows it", PATIENCE, || two.service_id("private"));

    let places = ensemble.places();
    let (plain, sealed) = (ensemble.folder().join("plain"), ensemble.folder().join("sealed"));
    let (plain, sealed) = (plain.display().to_string(), sealed.display().to_string());
    let export = |file: &str, more: &[&str]| {
        let mut all = vec!["store", "export", "--zookeeper", &places];
        all.extend(more);
        all.push(file);
        run(&all)
    };
    let (code, said) = export(&plain, &["--store-keys-file", &keys]);
    assert!(code == Some(0) && said.contains("exported 1 values"), "{said}");
    let (code, said) = export(&sealed, &[]);
    assert!(code == Some(1) && said.contains("--store-keys-file"), "{said}");

    // Below another node, without keys: as plain as it was exported.
    let moved = |more: &[&str]| {
        let base = ["store", "import", "--zookeeper", &places, "--zookeeper-base", "/moved"];
        let all: Vec<&str> = base.iter().chain(more).copied().chain([plain.as_str()]).collect();
        run(&all)
    };
    let (code, said) = moved(&[]);
    assert!(code == Some(0) && said.contains("stored 1 values"), "{said}");
    let (code, said) = moved(&[]);
    assert!(code == Some(0) && said.contains("stored 0 values; 1 were there"), "{said}");
    let (code, said) = run(&["store", "export", "--zookeeper", "127.0.0.1:1", &sealed]);
    assert!(code == Some(1) && said.contains("no server can be reached"), "{said}");
}
