//! What routers keep in ZooKeeper: where Curator looks for them, and descriptions that all find,
//! which `waiter store` moves, and which are forgotten when nothing lists them any more.

use crate::marathon::service;
use crate::stage::{Cluster, Ensemble, PATIENCE, Process, now, until, until_members};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use waiter::control::store::{Expect, Keys, Library, Listing, Shared, Store};

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

#[test]
fn what_nothing_lists_for_long_is_forgotten_unless_it_is_written_again() {
    let ensemble = Ensemble::start(1);
    let servers: Vec<String> = ensemble.places().split(',').map(str::to_owned).collect();
    let store = Shared::new(servers.clone(), Duration::from_secs(5), "/w", Keys::default());
    let keys = ["^A#listed", "^A#old", "^A#begun", "^B#another-kind"];
    for key in keys {
        store.put(key, b"{}", Expect::Absent).expect("new");
    }
    let has = |key: &str| store.get(key).expect("works").is_some();
    // 360 of these are 18 seconds.
    let brief = Shared::new(servers, Duration::from_millis(50), "/w", Keys::default());
    let read = Box::new(|_: &[u8]| Err("nothing is read".to_owned()));
    let library = Library::start(brief, read, Box::new(|_, _| {})).expect("a thread");
    // Only what may be forgotten is read.
    let read = |wanted: &str| {
        let of = |bucket: &String| store.versions_in(bucket, |key| key == wanted).expect("works");
        store.buckets().expect("works").iter().flat_map(of).collect::<Vec<_>>()
    };
    assert_eq!(read(keys[1]), [(keys[1].to_owned(), 1)]);
    let listed = [keys[0].to_owned()].into();
    let listing = Listing { kind: "^A#".to_owned(), keys: listed };
    // Whoever starts a service again writes its description.
    let begin = || store.put(keys[2], b"{}", Expect::Anything).map(drop).expect("written");
    let seconds = Duration::from_secs;
    let pause = |time| {
        let end = now() + time;
        until("it is time", PATIENCE * 3, || {
            begin();
            (now() >= end).then_some(())
        });
    };
    library.listed(Some(listing.clone()));
    pause(seconds(9));
    // For a while it is not known what is listed: that is no time, and no new beginning.
    library.unsure();
    pause(seconds(12));
    assert!(has(keys[1]));
    library.listed(Some(listing));
    let known = now();
    until("it is forgotten", PATIENCE * 3, || {
        begin();
        (!has(keys[1])).then_some(())
    });
    assert!(now() - known < seconds(17), "it began anew");
    assert!([keys[0], keys[2], keys[3]].into_iter().all(has));
    library.listed(None);
}
