//! Bodies that pass from socket to socket.

use super::*;

const BODY: usize = 3 << 20;

/// A driver that can let bodies pass, a client of it, and an instance.
struct Pair {
    rig: Rig,
    client: TcpStream,
    to: Link,
    instance: TcpStream,
    from: Link,
}

impl Pair {
    fn new(features: Features) -> Self {
        let mut rig = Rig::new(features);
        let (client, to) = rig.client();
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        rig.room = 0;
        rig.due = Due::More;
        let from = rig.ring.connect(server.local_addr().expect("it is bound"));
        rig.until("it is open", |it| it.opened == [from]);
        let (instance, _) = server.accept().expect("it has connected");
        rig.room = 1 << 20;
        Self { rig, client, to, instance, from }
    }

    /// The instance says this, from a thread of its own.
    fn says(&self, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
        let mut instance = self.instance.try_clone().expect("a clone");
        std::thread::spawn(move || {
            let _ = instance.write_all(&bytes); // whether it is read is what the test is about
        })
    }

    /// Bytes taken and given so far, and whether there was more.
    fn passed(&self) -> (usize, usize, bool) {
        let all = self.rig.passed.get(&self.from).map_or(&[][..], Vec::as_slice);
        let sum = |of: fn(&Passed) -> u32| all.iter().map(|it| of(it) as usize).sum();
        (sum(|it| it.taken), sum(|it| it.given), all.iter().any(|it| it.surplus))
    }

    fn end(mut self) {
        let pipes = |it: &Rig| (it.ring.pipes.free.len(), it.ring.pipes.made);
        let links = [self.from, self.to];
        for link in links {
            self.rig.ring.close(link, Shut::Now);
        }
        self.rig.until("nothing stays", Rig::is_gone);
        let (free, made) = pipes(&self.rig);
        assert_eq!(free, made, "every pipe is free again, or was closed");
        assert!(self.rig.ring.pipes.free.iter().all(|it| it.held == 0), "and empty");
    }
}

/// With splice, and whatever else the kernel has or not.
fn passing_sets() -> Vec<Features> {
    sets().into_iter().filter(|it| it.has(Feature::Splice)).collect()
}

fn reads(mut client: TcpStream, bytes: usize) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut heard = vec![0; bytes];
        client.read_exact(&mut heard).expect("it is sent");
        heard
    })
}

#[test]
fn a_body_passes_behind_what_was_given_before() {
    for features in passing_sets() {
        let mut pair = Pair::new(features);
        let body = pattern(BODY);
        let said = pair.says([&body[..], b"next"].concat());
        let reader = reads(pair.client.try_clone().expect("a clone"), 100_000 + BODY);
        pair.rig.ring.send(pair.to, &mut vec![b'h'; 50_000]);
        assert!(pair.rig.ring.pass(pair.from, pair.to, BODY as u64), "{features}");
        pair.rig.ring.send(pair.to, &mut vec![b'h'; 50_000]);
        assert!(!pair.rig.ring.pass(pair.from, pair.to, 1), "one at a time");
        let end = clock::now() + PATIENCE;
        while pair.passed().1 < BODY {
            assert!(clock::now() < end, "all passes: {:?}", pair.passed());
            pair.rig.turn();
        }
        let heard = reader.join().expect("it ends");
        assert!(heard[..100_000].iter().all(|it| *it == b'h') && heard[100_000..] == body);
        assert_eq!(pair.rig.sent[&pair.to], 100_000, "what was sent is told");
        assert_eq!(pair.passed().0, BODY);
        said.join().expect("it ends");
        pair.rig.ring.receive(pair.from, 100, Due::More);
        let from = pair.from;
        pair.rig.until("the rest can be read", |it| it.has_come(from) == 4);
        assert_eq!(pair.rig.came[&from], b"next");
        pair.end();
    }
}

#[test]
fn a_pipe_is_used_again_and_a_whole_body_leaves_nothing_to_be_said() {
    let mut pair = Pair::new(probe().expect("io_uring is allowed"));
    for round in 1..=3 {
        let body = pattern(100_000);
        let said = pair.says(body.clone());
        let reader = reads(pair.client.try_clone().expect("a clone"), body.len());
        assert!(pair.rig.ring.pass(pair.from, pair.to, body.len() as u64));
        let from = pair.from;
        let all = |it: &Rig| -> u32 {
            it.passed.get(&from).into_iter().flatten().map(|it| it.given).sum()
        };
        pair.rig.until("it passes", |it| all(it) as usize == body.len() * round);
        assert_eq!(reader.join().expect("it ends"), body);
        said.join().expect("it ends");
        assert!(!pair.passed().2, "the instance has said no more");
    }
    assert_eq!(pair.rig.ring.pipes.made, 1);
    pair.end();
}

#[test]
fn what_is_said_beyond_a_body_is_told_of() {
    let mut pair = Pair::new(probe().expect("io_uring is allowed"));
    pair.instance.write_all(&pattern(40_001)).expect("it fits into the kernel");
    assert!(pair.rig.ring.pass(pair.from, pair.to, 40_000));
    let from = pair.from;
    let told = |it: &Rig| it.passed.get(&from).is_some_and(|it| it.iter().any(|it| it.given > 0));
    pair.rig.until("it passes", told);
    assert_eq!(pair.passed(), (40_000, 40_000, true));
    pair.end();
}

#[test]
fn a_slow_reader_holds_no_more_than_a_pipe_and_the_sockets() {
    for features in passing_sets() {
        let mut pair = Pair::new(features);
        let body = pattern(64 << 20);
        let said = pair.says(body.clone());
        assert!(pair.rig.ring.pass(pair.from, pair.to, body.len() as u64));
        pair.rig.turns(200);
        let (taken, given, _) = pair.passed();
        assert!(
            given < body.len() && taken - given <= crate::shard::engine::ring::passing::PIPE_BYTES
        );
        let reader = reads(pair.client.try_clone().expect("a clone"), body.len());
        let end = clock::now() + PATIENCE;
        while !reader.is_finished() {
            assert!(clock::now() < end, "all passes: {:?}", pair.passed());
            pair.rig.turn();
        }
        assert!(reader.join().expect("it ends") == body, "{features}");
        said.join().expect("it ends");
        pair.end();
    }
}

#[test]
fn the_last_bytes_wait_for_a_slow_reader_where_they_hold_nobody_up() {
    let mut pair = Pair::new(probe().expect("io_uring is allowed"));
    let target = pair.rig.ring.wires[pair.to].fd();
    socket2::SockRef::from(&target).set_send_buffer_size(4096).expect("a socket");
    let body = pattern(4 << 20);
    let said = pair.says(body.clone());
    assert!(pair.rig.ring.pass(pair.from, pair.to, body.len() as u64));
    let mut first = vec![0; (4 << 20) - crate::shard::engine::ring::passing::PIPE_BYTES];
    let reader = {
        let mut client = pair.client.try_clone().expect("a clone");
        std::thread::spawn(move || {
            client.read_exact(&mut first).expect("it is sent");
            first
        })
    };
    let end = clock::now() + PATIENCE;
    while pair.passed().1 < body.len() {
        assert!(clock::now() < end, "all is given, though it is not read: {:?}", pair.passed());
        pair.rig.turn();
    }
    let mut heard = reader.join().expect("it ends");
    said.join().expect("it ends");
    let all = &pair.rig.passed[&pair.from];
    let queued: u32 = all.iter().map(|it| it.queued).sum();
    assert!(queued > 0, "some of it could not leave");
    let rest = reads(pair.client.try_clone().expect("a clone"), body.len() - heard.len());
    let to = pair.to;
    pair.rig.until("the rest leaves", |it| it.sent.get(&to) == Some(&(queued as usize)));
    heard.extend(rest.join().expect("it ends"));
    assert!(heard == body, "in order");
    pair.end();
}

#[test]
fn a_source_that_ends_early_is_told_of_behind_what_it_said() {
    let mut pair = Pair::new(probe().expect("io_uring is allowed"));
    let body = pattern(BODY);
    let reader = reads(pair.client.try_clone().expect("a clone"), body.len());
    assert!(pair.rig.ring.pass(pair.from, pair.to, body.len() as u64 + 1));
    pair.says(body.clone()).join().expect("it is read");
    pair.instance.shutdown(Shutdown::Write).expect("it is open");
    let from = pair.from;
    pair.rig.until("its end is told", |it| it.ended == [from]);
    assert_eq!(pair.passed(), (BODY, BODY, false));
    assert!(reader.join().expect("it ends") == body);
    pair.end();
}

#[test]
fn bytes_are_counted_when_the_target_goes_away() {
    for resets in [false, true] {
        let mut pair = Pair::new(probe().expect("io_uring is allowed"));
        let body = pattern(64 << 20);
        let said = pair.says(body.clone());
        assert!(pair.rig.ring.pass(pair.from, pair.to, body.len() as u64));
        pair.rig.turns(100); // the client reads nothing
        let (from, to) = (pair.from, pair.to);
        if resets {
            socket2::SockRef::from(&pair.client)
                .set_linger(Some(Duration::ZERO))
                .expect("a socket");
            pair.client = TcpStream::connect(pair.rig.address).expect("another"); // a reset
            pair.rig.until("it breaks", |it| it.broken == [to]);
        }
        pair.rig.ring.close(to, Shut::Now);
        pair.rig.turns(3);
        let (taken, given, _) = pair.passed();
        assert_eq!(pair.rig.ring.stop_passing(from), (taken - given) as u64);
        // The rest of it can be read.
        pair.rig.ring.receive(from, 1 << 20, Due::More);
        pair.rig.until("the rest comes", |it| taken + it.has_come(from) == body.len());
        assert!(pair.rig.came[&from] == body[taken..], "not one byte twice");
        said.join().expect("it ends");
        let others = pair.rig.accepted.clone();
        for link in others {
            pair.rig.ring.close(link, Shut::Now);
        }
        pair.end();
    }
}

#[test]
fn there_are_so_many_pipes_and_no_more() {
    let mut rig = Rig::new(probe().expect("io_uring is allowed"));
    let pairs: Vec<_> = (0..=crate::shard::engine::ring::passing::PIPES_MOST)
        .map(|_| (rig.client(), rig.client()))
        .collect();
    rig.turns(2);
    let mut begun = 0;
    for ((_, from), (_, to)) in &pairs {
        rig.ring.receive(*from, 0, Due::More);
        let from = *from;
        rig.until("nothing is under way", |it| !it.ring.wires[from].is_busy());
        begun += usize::from(rig.ring.pass(from, *to, 1 << 20));
    }
    assert_eq!(begun, crate::shard::engine::ring::passing::PIPES_MOST);
    let links = rig.accepted.clone();
    rig.end(&links);
}
