//! Requests to Marathon: one at a time per client, each with a deadline, over one of several
//! addresses.
//!
//! Each thread has a client of its own. Connections are not kept: on a fresh one it is known
//! whether a request was heard. Who answers is asked again; who does not, or says that nobody
//! leads, makes room for the next address.

use super::credentials::{Credentials, Secret};
use super::flows::{Answer, Call, Right};
use crate::base::time::Duration;
use http::{Method, Request, Response, StatusCode};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Body, Error, Timeout};

/// An order is not begun when less than this remains for it.
const ORDER_MIN: Duration = Duration::from_millis(100);
/// Kept between the end of an order and that of the right to give it.
const MARGIN: Duration = Duration::from_millis(100);

/// How long something holds still; zero: it does not.
pub type Left = Arc<dyn Fn() -> Duration + Send + Sync>;

/// How long this router may still give orders. One that leads alone always may.
#[derive(Clone)]
pub struct Lease {
    /// It leads.
    pub leads: Left,
    /// It is a member: what the others have stated to it holds.
    pub is_member: Left,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

impl Lease {
    /// Of a router that has no peers.
    pub fn forever() -> Self {
        let always: Left = Arc::new(|| Duration::MAX);
        Self { leads: always.clone(), is_member: always }
    }

    /// How long a request may take that would take so long at most; none: it is not to be begun.
    fn order(&self, right: Right, time: Duration) -> Option<Duration> {
        let left = match right {
            Right::Everybody => return Some(time),
            Right::Member => (self.is_member)(),
            Right::Leader => (self.leads)(),
        };
        let left = left.saturating_sub(MARGIN);
        (left >= ORDER_MIN.min(time)).then_some(time.min(left))
    }
}

/// How Marathon is reached.
#[derive(Clone, Debug)]
pub struct Ways {
    /// Its addresses, each `http://host:port` or `https://…`, without a slash at the end.
    pub urls: Vec<String>,
    /// Who we are.
    pub secret: Option<Secret>,
    /// Certificates of those who sign its own, as PEM; none: those everybody trusts.
    pub ca: Option<PathBuf>,
    /// It begins to answer within this time; an answer is whole within three times this.
    pub timeout: Duration,
    /// Largest answer.
    pub answer_bytes_max: u64,
}

/// One thread's way to Marathon.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    stream: Agent,
    ways: Ways,
    lease: Lease,
    credentials: Credentials,
    /// Which address is asked first.
    at: usize,
}

impl Client {
    /// `silence`: an event stream that says nothing for so long has ended.
    ///
    /// # Errors
    /// The certificates cannot be read.
    pub(super) fn new(ways: Ways, lease: Lease, silence: Duration) -> io::Result<Self> {
        let tls = tls(&ways)?;
        let base = || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .max_idle_connections(0)
                // Whoever starts the router may have one for other purposes in the environment.
                .proxy(None)
                .user_agent(concat!("waiter/", env!("CARGO_PKG_VERSION")))
                .timeout_resolve(Some(ways.timeout))
                .timeout_connect(Some(ways.timeout))
                .timeout_recv_response(Some(ways.timeout))
                .tls_config(tls.clone())
        };
        let whole = base().build();
        let stream = base().timeout_per_read(Some(silence)).build();
        Ok(Self {
            agent: whole.into(),
            stream: stream.into(),
            credentials: Credentials::new(ways.secret.clone()),
            ways,
            lease,
            at: 0,
        })
    }

    /// The address that is asked first.
    pub(super) fn place(&self) -> &str {
        &self.ways.urls[self.at]
    }

    /// Whether this router may give orders now.
    pub(super) fn may_order(&self) -> bool {
        self.lease.order(Right::Leader, self.deadline()).is_some()
    }

    /// For how long this router is sure to be a member.
    pub(super) fn member_for(&self) -> Duration {
        (self.lease.is_member)()
    }

    /// An answer begins within this time.
    pub(super) fn timeout(&self) -> Duration {
        self.ways.timeout
    }

    /// One request takes no longer.
    pub(super) fn deadline(&self) -> Duration {
        3 * self.ways.timeout
    }

    /// Sends a request. One that nobody heard, and one that only reads, goes to each address once.
    pub(super) fn ask(&mut self, call: &Call) -> Answer {
        let reads = call.method == Method::GET;
        let mut answer = Answer::Unheard("there is no address".into());
        for _ in 0..self.ways.urls.len() {
            answer = self.ask_one(call);
            let again = match &answer {
                Answer::Unheard(_) => true,
                Answer::Unknown(_) => reads,
                // Nobody leads, or another does: these do not say what is so.
                Answer::Said(300..=399 | 502..=504, _) => reads,
                Answer::Said(..) => return answer,
            };
            self.at = (self.at + 1) % self.ways.urls.len();
            if !again {
                return answer;
            }
        }
        answer
    }

    fn ask_one(&mut self, call: &Call) -> Answer {
        let answer = self.send(call);
        match answer {
            Answer::Said(401, _) if self.credentials.refused() => self.send(call),
            answer => answer,
        }
    }

    fn send(&mut self, call: &Call) -> Answer {
        // Read again right before the bytes are written: the answer must come within it.
        let Some(time) = self.lease.order(call.right, self.deadline()) else {
            return Answer::Unheard("this router may give no orders now".into());
        };
        let url = format!("{}{}", self.place(), call.target);
        let place = self.place().to_owned();
        let mut request = Request::builder().method(call.method.clone()).uri(url);
        request = request.header("accept", "application/json");
        if let Some(header) = self.credentials.header() {
            request = request.header("authorization", header);
        }
        let sent = match &call.body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                run(&self.agent, request.body(body.clone()), time)
            }
            None => run(&self.agent, request.body(()), time),
        };
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => return failed(&place, &error),
        };
        let status = response.status().as_u16();
        let limit = self.ways.answer_bytes_max;
        match response.body_mut().with_config().limit(limit).read_to_vec() {
            Ok(body) => Answer::Said(status, body),
            // That it was refused is known without its words.
            Err(_) if !(200..300).contains(&status) => Answer::Said(status, Vec::new()),
            Err(error) => Answer::Unknown(format!("{place}: its answer broke off: {error}")),
        }
    }

    /// Opens the event stream, following whoever leads.
    ///
    /// # Errors
    /// The status with which it is refused; none: it could not be asked.
    pub(super) fn events(&mut self) -> Result<Body, Option<StatusCode>> {
        const HOPS: usize = 3;
        let mut url = format!("{}/v2/events", self.place());
        for _ in 0..HOPS {
            let response = self.open(&url).map_err(|error| {
                tracing::debug!(url, %error, "the event stream cannot be opened");
                self.at = (self.at + 1) % self.ways.urls.len();
                None
            })?;
            match response.status() {
                StatusCode::OK => return Ok(response.into_body()),
                it if it.is_redirection() => match target(&response) {
                    Some(next) => url = next,
                    None => return Err(Some(it)),
                },
                StatusCode::UNAUTHORIZED if self.credentials.refused() => {}
                it => {
                    if it.is_server_error() {
                        self.at = (self.at + 1) % self.ways.urls.len();
                    }
                    return Err(Some(it));
                }
            }
        }
        Err(None)
    }

    fn open(&mut self, url: &str) -> Result<Response<Body>, Error> {
        let mut request = Request::builder().uri(url).header("accept", "text/event-stream");
        // Whoever leads is told who we are only where we were told to go.
        let known =
            |it: &&String| url.strip_prefix(it.as_str()).is_some_and(|it| it.starts_with('/'));
        if self.ways.urls.iter().any(|it| known(&it))
            && let Some(header) = self.credentials.header()
        {
            request = request.header("authorization", header);
        }
        self.stream.run(request.body(())?)
    }
}

/// Runs a request that takes no longer than this.
fn run<B: AsSendBody>(
    agent: &Agent,
    request: http::Result<Request<B>>,
    time: Duration,
) -> Result<Response<Body>, Error> {
    agent.run(agent.configure_request(request?).timeout_global(Some(time)).build())
}

fn target(response: &Response<Body>) -> Option<String> {
    let location = response.headers().get("location")?.to_str().ok()?;
    location.starts_with("http").then(|| location.to_owned())
}

fn tls(ways: &Ways) -> io::Result<TlsConfig> {
    let Some(path) = &ways.ca else { return Ok(TlsConfig::default()) };
    let pem = std::fs::read(path)?;
    let found: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|it| match it {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(io::Error::other("it holds no certificate"));
    }
    let roots = RootCerts::Specific(Arc::new(found));
    Ok(TlsConfig::builder().root_certs(roots).build())
}

/// Why there is no answer, and whether the request may have been heard all the same.
fn failed(place: &str, error: &Error) -> Answer {
    let why = format!("{place}: {error}");
    let refused = matches!(error, Error::Io(it) if it.kind() == io::ErrorKind::ConnectionRefused);
    let unheard = matches!(
        error,
        Error::Timeout(Timeout::Resolve | Timeout::Connect)
            | Error::HostNotFound
            | Error::ConnectionFailed
            | Error::Tls(_)
            | Error::Rustls(_)
            | Error::BadUri(_)
            | Error::Http(_)
    );
    if refused || unheard { Answer::Unheard(why) } else { Answer::Unknown(why) }
}
