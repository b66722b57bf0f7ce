//! The Marathon scheduler: as written, and as resolved.

use super::mistakes::Mistakes;
use super::written::given;
use crate::base::time::Duration;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::PathBuf;

const POLL_MS: RangeInclusive<u64> = 100..=600_000;
const TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;
const DOUBT_SECS: RangeInclusive<u64> = 1..=86_400;
const PORT: RangeInclusive<u64> = 1..=65_535;
const HOSTS: RangeInclusive<u64> = 1..=100;

/// The Marathon scheduler, as written.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct WrittenMarathon {
    /// Where Marathon is, with commas between several: http://HOST:PORT or https://HOST:PORT
    /// [default: none]
    #[arg(long, value_name = "URL,...")]
    pub marathon: Option<String>,
    /// Who the router is to Marathon: basic:FILE, which holds user:password, or token:FILE, which
    /// holds a token; a file that changes is read again [default: none]
    #[arg(long, value_name = "WAY:FILE")]
    pub marathon_auth: Option<String>,
    /// File with the certificates, as PEM, of those who sign Marathon's; none: those everybody
    /// trusts [default: none]
    #[arg(long, value_name = "FILE")]
    pub marathon_ca: Option<String>,
    /// User that tasks run as; none: Marathon's own choice [default: none]
    #[arg(long, value_name = "NAME")]
    pub marathon_user: Option<String>,
    /// Run commands as the last argument of this instead of in a shell; repeatable, one word each
    #[arg(long, value_name = "CMD", allow_hyphen_values = true)]
    pub marathon_init: Vec<String>,
    /// Time between two polls of Marathon [default: 5000]
    #[arg(long, value_name = "MS")]
    pub marathon_poll_ms: Option<u64>,
    /// Marathon begins to answer within this time; an answer is whole within three times this
    /// [default: 10000]
    #[arg(long, value_name = "MS")]
    pub marathon_timeout_ms: Option<u64>,
    /// For so long it is not believed that a service is gone which nothing explains [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub marathon_doubt_secs: Option<u64>,
    /// Hosts on which instances must have failed before a service is said to be unable to run
    /// [default: 2]
    #[arg(long, value_name = "N")]
    pub marathon_min_hosts: Option<u64>,
    /// Port of the Mesos agents, which show the output of instances [default: 5051]
    #[arg(long, value_name = "PORT")]
    pub mesos_agent_port: Option<u64>,
    /// Folder of each Mesos agent; none: the agents are asked [default: none]
    #[arg(long, value_name = "DIR")]
    pub mesos_agent_dir: Option<String>,
}

/// The Marathon scheduler.
#[derive(Clone, Debug)]
pub struct Marathon {
    /// Where it is, without a slash at the end.
    pub urls: Vec<String>,
    /// Who we are.
    pub auth: Option<Auth>,
    /// Certificates of those who sign its own.
    pub ca: Option<PathBuf>,
    /// The user tasks run as.
    pub user: Option<String>,
    /// What commands are an argument of.
    pub init: Vec<String>,
    /// Time between two polls.
    pub poll: Duration,
    /// It begins to answer within this time.
    pub timeout: Duration,
    /// For so long it is not believed that a service is gone which nothing explains.
    pub doubt: Duration,
    /// Hosts on which instances must have failed.
    pub min_hosts: usize,
    /// Port of the Mesos agents.
    pub agent_port: u16,
    /// Their folder, if that is known.
    pub agent_dir: Option<String>,
}

/// Who the router is to Marathon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Auth {
    /// A file that holds user and password.
    Basic(PathBuf),
    /// A file that holds a token.
    Token(PathBuf),
}

impl WrittenMarathon {
    /// These, where given, else those of `file`.
    pub(super) fn over(self, file: Self) -> Self {
        let init = self.marathon_init;
        Self {
            marathon: self.marathon.or(file.marathon),
            marathon_auth: self.marathon_auth.or(file.marathon_auth),
            marathon_ca: self.marathon_ca.or(file.marathon_ca),
            marathon_user: self.marathon_user.or(file.marathon_user),
            marathon_init: if init.is_empty() { file.marathon_init } else { init },
            marathon_poll_ms: self.marathon_poll_ms.or(file.marathon_poll_ms),
            marathon_timeout_ms: self.marathon_timeout_ms.or(file.marathon_timeout_ms),
            marathon_doubt_secs: self.marathon_doubt_secs.or(file.marathon_doubt_secs),
            marathon_min_hosts: self.marathon_min_hosts.or(file.marathon_min_hosts),
            mesos_agent_port: self.mesos_agent_port.or(file.mesos_agent_port),
            mesos_agent_dir: self.mesos_agent_dir.or(file.mesos_agent_dir),
        }
    }

    pub(super) fn resolve(&self, mistakes: &mut Mistakes) -> Marathon {
        let millis = |key: &str, given, range, default, mistakes: &mut Mistakes| {
            Duration::from_millis(mistakes.within(key, given, range).unwrap_or(default))
        };
        let (poll, timeout) = (self.marathon_poll_ms, self.marathon_timeout_ms);
        let doubt = mistakes.within("marathon-doubt-secs", self.marathon_doubt_secs, &DOUBT_SECS);
        let hosts = mistakes.within("marathon-min-hosts", self.marathon_min_hosts, &HOSTS);
        let port = mistakes.within("mesos-agent-port", self.mesos_agent_port, &PORT);
        Marathon {
            urls: self.urls(mistakes),
            auth: self.auth(mistakes),
            ca: given(self.marathon_ca.as_ref()).map(PathBuf::from),
            user: self.user(mistakes),
            init: self.marathon_init.clone(),
            poll: millis("marathon-poll-ms", poll, &POLL_MS, 5000, mistakes),
            timeout: millis("marathon-timeout-ms", timeout, &TIMEOUT_MS, 10_000, mistakes),
            doubt: Duration::from_secs(doubt.unwrap_or(30)),
            min_hosts: hosts.unwrap_or(2) as usize,
            agent_port: port.unwrap_or(5051) as u16,
            agent_dir: given(self.mesos_agent_dir.as_ref()).cloned(),
        }
    }

    fn urls(&self, mistakes: &mut Mistakes) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for text in given(self.marathon.as_ref()).into_iter().flat_map(|it| it.split(',')) {
            let url = text.trim().trim_end_matches('/');
            match plain(url) {
                Ok(()) if found.iter().any(|it| it == url) => {
                    mistakes.add("marathon", url, "it is given twice");
                }
                Ok(()) => found.push(url.to_owned()),
                Err(expected) => mistakes.add("marathon", hidden(url), expected),
            }
        }
        found
    }

    fn auth(&self, mistakes: &mut Mistakes) -> Option<Auth> {
        let text = given(self.marathon_auth.as_ref())?;
        match text.split_once(':') {
            Some(("basic", path)) if !path.is_empty() => Some(Auth::Basic(path.into())),
            Some(("token", path)) if !path.is_empty() => Some(Auth::Token(path.into())),
            // What it is, if no name of a file, may be a secret.
            _ => {
                mistakes.add("marathon-auth", "…", "expected basic:FILE or token:FILE");
                None
            }
        }
    }

    fn user(&self, mistakes: &mut Mistakes) -> Option<String> {
        let name = given(self.marathon_user.as_ref())?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            mistakes.add("marathon-user", name, "expected the name of a user");
        }
        Some(name.clone())
    }
}

/// Whether this is an address and nothing more.
fn plain(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else { return Err("expected http://HOST:PORT or https://HOST:PORT") };
    if rest.contains('@') {
        return Err("a password does not belong here; see marathon-auth");
    }
    let uri = url.parse::<http::Uri>();
    let is_plain = uri.is_ok_and(|it| it.host().is_some_and(|host| !host.is_empty()));
    if is_plain && !rest.contains(['/', '?', '#']) {
        Ok(())
    } else {
        Err("expected http://HOST:PORT or https://HOST:PORT, without a path")
    }
}

/// What stands before an `@` may be a password.
fn hidden(url: &str) -> String {
    url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, rest)| format!("…@{rest}"))
}

impl Marathon {
    /// As it would be written, every key given.
    pub(super) fn to_written(&self) -> WrittenMarathon {
        let millis = |it: Duration| Some(it.as_millis() as u64);
        let or_none = |it: Option<String>| Some(it.unwrap_or_else(|| "none".to_owned()));
        WrittenMarathon {
            marathon: or_none((!self.urls.is_empty()).then(|| self.urls.join(","))),
            marathon_auth: or_none(self.auth.as_ref().map(|it| match it {
                Auth::Basic(path) => format!("basic:{}", path.display()),
                Auth::Token(path) => format!("token:{}", path.display()),
            })),
            marathon_ca: or_none(self.ca.as_ref().map(|it| it.display().to_string())),
            marathon_user: or_none(self.user.clone()),
            marathon_init: self.init.clone(),
            marathon_poll_ms: millis(self.poll),
            marathon_timeout_ms: millis(self.timeout),
            marathon_doubt_secs: Some(self.doubt.as_secs()),
            marathon_min_hosts: Some(self.min_hosts as u64),
            mesos_agent_port: Some(self.agent_port.into()),
            mesos_agent_dir: or_none(self.agent_dir.clone()),
        }
    }
}
