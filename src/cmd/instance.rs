//! `waiter instance`: a server with knobs, to be launched by the scheduler in tests and trials.
//!
//! It speaks HTTP/1.1 with code of its own, so that no test checks the product's codec against
//! itself. What a request can ask for is in `plan`; requests and responses as bytes are in
//! `request` and `response`.
//!
//! Counted as *in flight* is a request from the moment its head has been read until just before the
//! last byte of its response is written. That lies inside the time in which a router holds a slot
//! for it, so `max_in_flight` above the limit is always the router's mistake. (A request whose
//! connection was cut counts until the instance notices.) Health checks and `/stats` do not count.

mod conversation;
mod plan;
mod request;
mod response;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Flags of `waiter instance`.
#[derive(clap::Args, Clone, Debug)]
pub struct InstanceArgs {
    /// Port to listen on, 0 for any; $PORT0 if not given
    #[arg(long)]
    pub port: Option<u16>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Serve one connection at a time, until it closes
    #[arg(long)]
    pub single: bool,
    /// Wait before listening
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub startup_delay_ms: u64,
    /// End after so long, with this exit code (0 if not given)
    #[arg(long, num_args = 1..=2, value_names = ["MS", "CODE"])]
    pub exit_after_ms: Vec<u64>,
    /// End at once with this exit code
    #[arg(long, value_name = "CODE")]
    pub crash_on_start: Option<u8>,
    /// Status of the answer to health checks
    #[arg(long, value_name = "STATUS", default_value_t = 200)]
    pub health_status: u16,
    /// Path of health checks
    #[arg(long, value_name = "PATH", default_value = "/status")]
    pub health_path: String,
    /// Time before each answer, unless the request says otherwise
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay_ms: u64,
    /// Memory to allocate and touch
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub memory_mib: usize,
    /// Close a connection that has been idle for so long
    #[arg(long, value_name = "MS")]
    pub idle_close_ms: Option<u64>,
}

/// Runs the instance until it is ended from outside, or by `--exit-after-ms`.
pub fn run(args: InstanceArgs) -> ExitCode {
    if let Some(code) = args.crash_on_start {
        return ExitCode::from(code);
    }
    // Touched, not merely reserved: only resident memory counts.
    let ballast = vec![1_u8; args.memory_mib << 20];
    if let Some(after_ms) = args.exit_after_ms.first().copied() {
        let code = args.exit_after_ms.get(1).copied().unwrap_or(0);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(after_ms));
            std::process::exit(i32::try_from(code).unwrap_or(1));
        });
    }
    thread::sleep(Duration::from_millis(args.startup_delay_ms));
    let ended = Server::bind(args).and_then(|server| {
        // Nobody may be reading; that is no reason to end.
        let _ = writeln!(io::stdout(), "listening on {}", server.address()?);
        server.serve()
    });
    drop(ballast);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "instance: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    args: InstanceArgs,
    requests: AtomicU64,
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    /// Requests whose connection was closed by the other side before their response was complete.
    aborted: AtomicU64,
    connections: AtomicU64,
    open_connections: AtomicU64,
}

/// The listening instance.
#[derive(Debug)]
struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Server {
    fn bind(args: InstanceArgs) -> io::Result<Self> {
        let port = match args.port {
            Some(port) => port,
            None => std::env::var("PORT0")
                .ok()
                .and_then(|it| it.parse().ok())
                .ok_or_else(|| io::Error::other("neither --port nor a number in $PORT0"))?,
        };
        let listener = TcpListener::bind(SocketAddr::new(args.host, port))?;
        let zero = || AtomicU64::new(0);
        let shared = Arc::new(Shared {
            args,
            requests: zero(),
            in_flight: zero(),
            max_in_flight: zero(),
            aborted: zero(),
            connections: zero(),
            open_connections: zero(),
        });
        Ok(Self { listener, shared })
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until the listener fails for good.
    fn serve(&self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or a connection that is gone again: both pass.
                    let _ = writeln!(io::stderr(), "instance: accept: {error}");
                    thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            let shared = Arc::clone(&self.shared);
            if shared.args.single {
                converse(stream, &shared);
                continue;
            }
            let thread = thread::Builder::new().stack_size(256 * 1024);
            if let Err(error) = thread.spawn(move || converse(stream, &shared)) {
                let _ = writeln!(io::stderr(), "instance: no thread: {error}");
            }
        }
    }
}

/// Serves one connection to its end. How it ends concerns the other side only.
fn converse(stream: TcpStream, shared: &Shared) {
    shared.connections.fetch_add(1, Ordering::SeqCst);
    shared.open_connections.fetch_add(1, Ordering::SeqCst);
    // An error says that the connection is gone; there is nobody to tell.
    let _ = conversation::serve(&stream, shared);
    shared.open_connections.fetch_sub(1, Ordering::SeqCst);
}

/// A request that is in flight; it ends when dropped, at the latest.
#[derive(Debug)]
struct Turn<'a> {
    /// Its place in the order of arrival, from 1; of a request that does not count: that of the
    /// last one which did.
    sequence: u64,
    /// When its head had been read, on the clock that all processes of a host share (answers tell
    /// it as `x-began-ns`).
    began_ns: i64,
    counted: Option<&'a Shared>,
}

impl<'a> Turn<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let sequence = shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let in_flight = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.max_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        Self { sequence, began_ns: host_ns(), counted: Some(shared) }
    }

    fn uncounted(shared: &Shared) -> Self {
        let sequence = shared.requests.load(Ordering::SeqCst);
        Self { sequence, began_ns: host_ns(), counted: None }
    }

    /// The last byte of the response is about to be written.
    fn end(&mut self) {
        if let Some(shared) = self.counted.take() {
            shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// The other side is gone.
    fn abort(&mut self) {
        if let Some(shared) = self.counted {
            shared.aborted.fetch_add(1, Ordering::SeqCst);
        }
        self.end();
    }
}

/// The system's monotonic clock. `mesh::clock` counts from the beginning of one process, so its
/// times cannot be compared with those of another.
fn host_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests;
