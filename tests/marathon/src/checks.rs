//! Makes one health check: over HTTP, by connecting, or by a command.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::http::client;
use crate::http::response::reason;
use crate::outside::{Exit, Order, Outside, Signal, pid_of};
use crate::world::{CheckKind, CheckPort};

/// Passed, or why not: the text ends up in `lastFailureCause`.
pub(crate) fn make(order: &Order, outside: &Outside) -> Result<(), String> {
    let limit = Duration::from_secs(u64::try_from(order.check.timeout_s).unwrap_or(0).max(1));
    match &order.check.kind {
        CheckKind::Http { path, port } => {
            let to = address(order, *port)?;
            let status = client::status_of(to, path, limit).map_err(|it| cause(&it, limit))?;
            if (200..400).contains(&status) {
                Ok(())
            } else {
                Err(format!("{status} {}", reason(status)))
            }
        }
        CheckKind::Tcp { port } => {
            let to = address(order, *port)?;
            TcpStream::connect_timeout(&to, limit).map(drop).map_err(|it| cause(&it, limit))
        }
        CheckKind::Command(line) => run(line, order, outside, limit),
        CheckKind::Unknown(protocol) => {
            Err(format!("{protocol} checks are not made by the stand-in"))
        }
    }
}

fn address(order: &Order, port: CheckPort) -> Result<SocketAddr, String> {
    let port = match port {
        CheckPort::Fixed(port) => port,
        CheckPort::Index(at) => *order.ports.get(at).ok_or("Health check port is not assigned")?,
    };
    let found = (order.host.as_str(), port).to_socket_addrs().ok().and_then(|mut it| it.next());
    found.ok_or_else(|| format!("UnknownHostException: {}", order.host))
}

fn cause(why: &io::Error, limit: Duration) -> String {
    match why.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("AskTimeoutException: timed out after [{} ms]", limit.as_millis())
        }
        io::ErrorKind::ConnectionRefused => "ConnectException: Connection refused".to_owned(),
        _ => format!("IOException: {why}"),
    }
}

fn run(line: &str, order: &Order, outside: &Outside, limit: Duration) -> Result<(), String> {
    let quiet = Stdio::null;
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", line])
        .envs(order.env.iter().cloned())
        .current_dir(&order.dir)
        .stdin(Stdio::null())
        .stdout(quiet())
        .stderr(quiet())
        .process_group(0);
    let mut child = outside.start(&mut shell).map_err(|why| why.to_string())?;
    let pid = pid_of(&child);
    let (done, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                outside.signal(pid, Signal::KILL);
            }
        });
        let exit = outside.reap(&mut child);
        drop(done);
        match exit {
            Exit::Code(0) => Ok(()),
            Exit::Code(code) => Err(format!("Command returned {code}")),
            Exit::Signal(_) => Err(format!("Command timed out after {} secs", limit.as_secs())),
        }
    })
}
