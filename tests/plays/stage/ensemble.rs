//! ZooKeeper: real servers, and routers that join each other through them.

use super::process::signal;
use super::router::Router;
use super::wait::{PATIENCE, until, within};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The session that routers ask for.
pub(crate) const SESSION: Duration = Duration::from_secs(3);
/// What the server's classes are in, on Debian.
const CLASSES: [&str; 4] = ["zookeeper", "slf4j-log4j12", "log4j-1.2", "servlet-api"];
/// Runs a server in a shell that ends it when its own input ends, as it does with the test.
const RUN: &str = "log=$1; shift; \"$@\" >\"$log\" 2>&1 & echo $!; read -r _; kill -9 $!";

/// Some servers.
#[derive(Debug)]
pub(crate) struct Ensemble {
    dir: TempDir,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    port: u16,
    running: Option<(Child, u32)>,
}

impl Ensemble {
    /// Starts so many, and waits until they serve.
    pub(crate) fn start(count: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ports = free_ports(count * 3);
        let quorum: Vec<String> = (0..count)
            .map(|at| {
                let (peers, votes) = (ports[count + at], ports[2 * count + at]);
                format!("server.{}=127.0.0.1:{peers}:{votes}", at + 1)
            })
            .collect();
        let servers = ports.iter().take(count).map(|port| Server { port: *port, running: None });
        let mut it = Self { servers: servers.collect(), dir };
        for at in 0..count {
            it.write(at, &quorum);
            it.begin(at);
        }
        (0..count).for_each(|at| it.until_serving(at));
        fs::write(it.secret(), "0123456789abcdef0123456789abcdef").expect("written");
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(it.secret(), private).expect("it is ours");
        it
    }

    fn write(&self, at: usize, quorum: &[String]) {
        let home = self.home(at);
        fs::create_dir_all(home.join("data")).expect("a directory");
        fs::write(home.join("data/myid"), (at + 1).to_string()).expect("written");
        let mut lines = vec![
            "tickTime=500".to_owned(),
            "initLimit=20".to_owned(),
            "syncLimit=10".to_owned(),
            format!("dataDir={}", home.join("data").display()),
            format!("clientPort={}", self.servers[at].port),
            "clientPortAddress=127.0.0.1".to_owned(),
            "maxClientCnxns=0".to_owned(),
            "4lw.commands.whitelist=*".to_owned(),
            "admin.enableServer=false".to_owned(),
        ];
        if quorum.len() > 1 {
            lines.extend_from_slice(quorum);
        }
        fs::write(home.join("zoo.cfg"), lines.join("\n")).expect("written");
        let log = "log4j.rootLogger=WARN,C\nlog4j.appender.C=org.apache.log4j.ConsoleAppender\n\
                   log4j.appender.C.layout=org.apache.log4j.SimpleLayout\n";
        fs::write(home.join("log4j.properties"), log).expect("written");
    }

    /// From its next beginning on, a server grants no session longer than this.
    pub(crate) fn bound_sessions(&self, at: usize, longest: Duration) {
        let file = self.home(at).join("zoo.cfg");
        let said = fs::read_to_string(&file).expect("it was written");
        let bound = format!("maxSessionTimeout={}", longest.as_millis());
        let lines = said.lines().filter(|it| !it.starts_with("maxSessionTimeout"));
        let lines: Vec<&str> = lines.chain([bound.as_str()]).collect();
        fs::write(file, lines.join("\n")).expect("written");
    }

    /// Starts a server that does not run.
    pub(crate) fn begin(&mut self, at: usize) {
        let home = self.home(at);
        let jars = CLASSES.map(|it| format!("/usr/share/java/{it}.jar")).join(":");
        let mut child = Command::new("sh")
            .args(["-c", RUN, "sh"])
            .arg(home.join("log"))
            .args(["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}:{jars}", home.display()))
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(home.join("zoo.cfg"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut line).expect("it tells the process");
        let pid = line.trim().parse().expect("a process id");
        self.servers[at].running = Some((child, pid));
    }

    /// Waits until a server serves.
    pub(crate) fn until_serving(&self, at: usize) {
        let serves = || {
            let said = self.four(at, "srvr");
            ["Mode: standalone", "Mode: leader", "Mode: follower"]
                .iter()
                .any(|it| said.contains(it))
                .then_some(())
        };
        if within(PATIENCE * 2, serves).is_none() {
            let log = fs::read_to_string(self.home(at).join("log")).unwrap_or_default();
            panic!("ZooKeeper does not serve (is the package zookeeper installed?): {log}");
        }
    }

    /// Ends a server at once.
    pub(crate) fn kill(&mut self, at: usize) {
        self.signal(at, "KILL");
        if let Some((mut child, _)) = self.servers[at].running.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    /// Sends a signal to a server.
    pub(crate) fn signal(&self, at: usize, name: &str) {
        if let Some((_, pid)) = &self.servers[at].running {
            signal(&pid.to_string(), name);
        }
    }

    /// The server that leads.
    pub(crate) fn leader(&self) -> usize {
        until("a server leads", PATIENCE, || {
            (0..self.servers.len()).find(|at| {
                let said = self.four(*at, "srvr");
                said.contains("Mode: leader") || said.contains("Mode: standalone")
            })
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.servers.len()
    }

    /// Where clients find them.
    pub(crate) fn places(&self) -> String {
        let all: Vec<String> =
            self.servers.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        all.join(",")
    }

    /// The server at this place.
    pub(crate) fn at(&self, place: &str) -> usize {
        let found = self.servers.iter().position(|it| place.ends_with(&format!(":{}", it.port)));
        found.expect("it is one of these")
    }

    /// What a server says to a word of four letters; nothing if it does not answer.
    pub(crate) fn four(&self, at: usize, word: &str) -> String {
        let mut said = String::new();
        let address = SocketAddr::from(([127, 0, 0, 1], self.servers[at].port));
        let brief = Duration::from_secs(2);
        if let Ok(mut socket) = TcpStream::connect_timeout(&address, brief) {
            let _ = socket.set_read_timeout(Some(brief));
            let _ = socket.write_all(word.as_bytes());
            let _ = socket.read_to_string(&mut said); // what came is enough
        }
        said
    }

    /// The file with the secret of the cluster.
    pub(crate) fn secret(&self) -> std::path::PathBuf {
        self.dir.path().join("secret")
    }

    /// A folder that lives as long as this.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Flags of a router that joins.
    pub(crate) fn flags(&self) -> Vec<String> {
        self.flags_at(&self.places())
    }

    /// The same, told these places.
    pub(crate) fn flags_at(&self, places: &str) -> Vec<String> {
        let secret = self.secret().display().to_string();
        let session = SESSION.as_millis().to_string();
        [
            "--zookeeper",
            places,
            "--zookeeper-session-ms",
            &session,
            "--cluster-secret-file",
            &secret,
        ]
        .map(str::to_owned)
        .into()
    }

    /// Starts so many routers that know each other.
    pub(crate) fn routers(&self, count: usize, flags: &[&str]) -> Vec<Router> {
        let joining = self.flags();
        let all: Vec<&str> =
            joining.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        let routers: Vec<Router> = (0..count).map(|_| Router::start(&all)).collect();
        until_members(&routers.iter().collect::<Vec<_>>());
        routers
    }

    fn home(&self, at: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("zk{at}"))
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|at| self.kill(at));
    }
}

/// Waits until these routers, and no others, divide the slots, and each hears the others.
pub(crate) fn until_members(routers: &[&Router]) {
    let agree = || {
        let pages = routers.iter().map(|it| it.page("/state/cluster"));
        let all = pages.into_iter().all(|page| {
            let members = page["members"].as_array().map_or(0, Vec::len);
            let peers = page["peers"].as_array().cloned().unwrap_or_default();
            let heard = |it: &serde_json::Value| {
                it["member?"] == true && it["epoch"] == page["epoch"] && !it["silent-ms"].is_null()
            };
            members == routers.len() && peers.len() + 1 == members && peers.iter().all(heard)
        });
        all.then_some(())
    };
    until("the routers are the members", PATIENCE * 2, agree);
}

/// Ports that nobody has now.
fn free_ports(count: usize) -> Vec<u16> {
    let sockets: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    sockets.iter().map(|it| it.local_addr().expect("bound").port()).collect()
}
