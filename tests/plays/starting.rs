//! Starting and ending the router: exit codes, and what is said.

use crate::stage::{
    Connection, Instance, PATIENCE, Request, Router, complaint, complaint_through, data_dir,
    fronted, now, until,
};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

#[test]
fn a_taken_port_is_refused_with_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, said) = complaint(data_dir().path(), &["--listen", &address]);
    assert_eq!(code, Some(1), "{said}");
    let expected = format!("cannot listen on {address}: another program does");
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn the_port_of_another_router_is_taken_too() {
    let router = Router::start(&["--cores", "0,1"]);
    let address = router.address.to_string();
    let (code, said) = complaint(data_dir().path(), &["--listen", &address]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another program does"), "{said}");
}

#[test]
fn a_second_router_on_a_data_dir_is_refused_and_the_first_one_named() {
    let router = Router::start(&[]);
    let (code, said) = complaint(router.data_dir.path(), &[]);
    assert_eq!(code, Some(1), "{said}");
    let expected = format!("is in use by process {}", router.process.pid());
    assert!(said.contains(&expected), "{said}");
    router.ask(&Request::get("/status")).expect(200);
}

#[test]
fn all_mistakes_on_the_command_line_are_said_at_once() {
    let mistakes = [
        "--listen",
        "nowhere",
        "--scheduler",
        "magic",
        "--ports",
        "9-1",
        "--static",
        "a=b",
        "--trust-forwarded",
        "everybody",
    ];
    let (code, said) = complaint(data_dir().path(), &mistakes);
    assert_eq!(code, Some(2), "{said}");
    for part in ["--listen nowhere", "--scheduler magic", "--ports 9-1", "a=b", "everybody"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    let (code, said) = complaint(data_dir().path(), &["--no-such-flag"]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn more_cores_than_allowed_are_a_mistake() {
    for cores in ["4000", "3999-3999"] {
        let (code, said) = complaint(data_dir().path(), &["--cores", cores]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("--cores {cores}: ")), "{said}");
    }
}

#[test]
fn a_host_that_forbids_io_uring_is_told_so_in_a_sentence() {
    let helper = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plays/forbid.py");
    // Numbers of io_uring_setup, io_uring_enter and io_uring_register, the same everywhere.
    for call in ["425", "426", "427"] {
        for (errno, cure) in [("1", "forbidden here"), ("38", "Linux 5.8 or newer")] {
            for io in ["auto", "ring", "glommio"] {
                let through = ["/usr/bin/env", "python3", helper, call, errno];
                let dir = data_dir();
                let (code, said) = complaint_through(&through, dir.path(), &["--io", io]);
                assert_eq!(code, Some(1), "{call} {errno} {io}: {said}");
                let sentence = "waiter: io_uring is not available";
                assert!(said.contains(sentence) && said.contains(cure), "{said}");
                assert_eq!(said.lines().count(), 1, "{said}");
            }
        }
    }
}

#[test]
fn what_drives_the_sockets_is_told_by_settings_log_and_print_config() {
    for (flags, begin, absent) in [
        (["--io", "glommio"], "glommio streams", "ring"),
        (["--ring-without", "message-ring"], "own ring with ", "message-ring"),
        (["--ring-without", "multishot-receive"], "own ring with ", "multishot-receive"),
    ] {
        let router = Router::start(&[&flags[..], &["--scheduler", "none"]].concat());
        let told = router.page("/settings")["io-path"].as_str().expect("a text").to_owned();
        assert!(told.starts_with(begin) && !told.contains(absent), "{told}");
        assert!(router.process.said().contains(&format!("sockets: {told}\n")));
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_waiter"))
            .args(["serve", "--print-config"])
            .args(flags)
            .output()
            .expect("it runs");
        let printed = String::from_utf8(output.stdout).expect("a text");
        assert!(printed.contains(&format!("\n# In use here: {told}\nio = ")), "{printed}");
    }
}

#[test]
fn each_address_is_announced_and_served() {
    let listen = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--cores", "0,0"];
    let router = Router::start(&listen);
    let line = router.process.line(PATIENCE).expect("a second line");
    let second = line.strip_prefix("listening on ").and_then(|it| it.parse().ok());
    let second = second.expect("an address");
    assert_ne!(second, router.address);
    Connection::open(second).ask(&Request::get("/status")).expect(200);
    router.ask(&Request::get("/status")).expect(200);
}

#[test]
fn an_idle_router_ends_at_once_when_told_to() {
    let mut router = Router::start(&["--cores", "0,1"]);
    let mut idle = router.connect();
    idle.ask(&Request::get("/status")).expect(200);
    let begun = now();
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(0));
    assert!(now() - begun < Duration::from_secs(2), "{:?}", now() - begun);
    assert!(idle.rest(PATIENCE).expect("it is closed").is_empty());
}

#[test]
fn a_router_that_is_told_to_end_as_soon_as_it_listens_drains() {
    for _ in 0..5 {
        let mut router = Router::start(&["--scheduler", "none"]);
        router.terminate();
        assert_eq!(router.wait(PATIENCE), Some(0));
    }
}

#[test]
fn a_request_in_flight_is_finished_and_nobody_new_is_let_in() {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "");
    let mut router = Router::start(&["--scheduler", "none", "--static", &one]);
    let mut busy = router.connect();
    busy.send(&Request::get("/?delay-ms=1200").with("host", "one"));
    until("the request is in flight", PATIENCE, || {
        (server[0].count("in_flight") == 1).then_some(())
    });
    let begun = now();
    router.terminate();
    until("nobody is let in", PATIENCE, || {
        let answer = Connection::try_open(router.address)
            .and_then(|mut it| it.try_ask(&Request::get("/").with("host", "one")));
        answer.map_or(true, |it| it.status == 503).then_some(())
    });
    busy.response().expect("a whole response").expect(200);
    assert_eq!(router.wait(PATIENCE), Some(0));
    assert!(now() - begun < Duration::from_secs(4), "{:?}", now() - begun);
}

#[test]
fn a_drain_that_is_cut_short_ends_with_three() {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "");
    let flags = ["--scheduler", "none", "--static", &one, "--drain-secs", "1"];
    let mut router = Router::start(&flags);
    let mut busy = router.connect();
    busy.send(&Request::get("/?delay-ms=5000").with("host", "one"));
    until("the request is in flight", PATIENCE, || {
        (server[0].count("in_flight") == 1).then_some(())
    });
    let begun = now();
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(3));
    let took = now() - begun;
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
    assert!(busy.response().is_err(), "the request was cut");
}

#[test]
fn a_second_signal_does_not_wait_for_requests() {
    let server = [Instance::start(&[])];
    let one = fronted("one", &server, "");
    let mut router = Router::start(&["--scheduler", "none", "--static", &one]);
    let address = router.address;
    let busy = thread::spawn(move || {
        let request = Request::get("/?delay-ms=8000").with("host", "one");
        Connection::open(address).try_ask(&request)
    });
    until("the request is in flight", PATIENCE, || {
        (server[0].count("in_flight") == 1).then_some(())
    });
    let begun = now();
    router.terminate();
    router.terminate();
    assert_eq!(router.wait(PATIENCE), Some(3));
    assert!(now() - begun < Duration::from_secs(2), "{:?}", now() - begun);
    assert!(busy.join().expect("no panic").is_err());
}
