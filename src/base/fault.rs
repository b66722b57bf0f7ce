//! What went wrong, and whose fault it is.
//!
//! A `Fault` is an answer: it says first who must act, then what happened and what to do. One table
//! ([`Class`]) maps faults to HTTP status, title and cause; no status code is written elsewhere.

/// Whose fault it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// The one who sent the request.
    Client,
    /// The service: its description, its command, its instances.
    Service,
    /// This router or its operator.
    Router,
}

/// A kind of failure a client can be told about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// The bytes are no well-formed HTTP, or too large.
    BadRequest,
    /// A head or a field is larger than the limit.
    HeadTooLarge,
    /// The client did not send what it had announced in time.
    ClientTimeout,
    /// A feature of HTTP that is not offered.
    NotImplemented,
    /// A version of HTTP that is not spoken.
    VersionUnsupported,
    /// An expectation other than `100-continue`.
    ExpectationFailed,
    /// No such page.
    NotFound,
    /// The page does not take this method.
    MethodNotAllowed,
    /// Nothing in the request names a service.
    ServiceUnknown,
    /// The description of the service is wrong.
    ServiceMisconfigured,
    /// The requester may not launch or change this service.
    ServiceForbidden,
    /// No token has this name.
    TokenUnknown,
    /// A web page of another origin asks whether it may send a request.
    CorsPreflightForbidden,
    /// A web page of another origin sends a request.
    CorsRequestForbidden,
    /// `authentication` cannot be given by header.
    UnsupportedAuth,
    /// No instance became free within the queue timeout.
    RequestTimeout,
    /// The service cannot be started.
    DeploymentError,
    /// Too many requests wait for this service.
    QueueLength,
    /// Too many requests wait on this router.
    ReserveBackPressure,
    /// The router is ending.
    Draining,
    /// No connection to the instance.
    ConnectFailed,
    /// The instance closed or broke the protocol before its response was complete.
    InstanceError,
    /// The instance did not answer in time.
    InstanceTimeout,
    /// A defect of the router.
    Internal,
}

impl Class {
    /// HTTP status, whose fault, error-class and error-cause (control-plane §14.6, api §6.2),
    /// title.
    pub fn row(self) -> Row {
        use Whose::{Client, Router, Service};
        let row = |status, whose, class, cause, title| Row { status, whose, class, cause, title };
        match self {
            Self::BadRequest => row(400, Client, None, "client-error", "Bad Request"),
            Self::HeadTooLarge => row(431, Client, None, "client-error", "Request Head Too Large"),
            Self::ClientTimeout => row(408, Client, None, "client-error", "Client Timeout"),
            Self::NotImplemented => row(501, Client, None, "client-error", "Not Implemented"),
            Self::VersionUnsupported => {
                row(505, Client, None, "client-error", "HTTP Version Not Supported")
            }
            Self::ExpectationFailed => row(417, Client, None, "client-error", "Expectation Failed"),
            Self::NotFound => row(404, Client, None, "client-error", "Waiter Error 404"),
            Self::MethodNotAllowed => row(405, Client, None, "client-error", "Waiter Error 405"),
            Self::ServiceUnknown => SERVICE_UNKNOWN,
            Self::ServiceMisconfigured => SERVICE_MISCONFIGURED,
            Self::ServiceForbidden => SERVICE_FORBIDDEN,
            Self::TokenUnknown => row(404, Client, None, "client-error", "Waiter Error 404"),
            Self::CorsPreflightForbidden => CORS_PREFLIGHT_FORBIDDEN,
            Self::CorsRequestForbidden => CORS_REQUEST_FORBIDDEN,
            Self::UnsupportedAuth => UNSUPPORTED_AUTH,
            Self::RequestTimeout => {
                row(503, Service, Some("waiter.RequestTimeout"), "service-error", "Request Timeout")
            }
            Self::DeploymentError => row(
                503,
                Service,
                Some("waiter.DeploymentError"),
                "deployment-error",
                "Service Deployment Error",
            ),
            Self::QueueLength => row(
                503,
                Service,
                Some("waiter.QueueLength"),
                "service-error",
                "Service Queue Length Exceeded",
            ),
            Self::ReserveBackPressure => row(
                503,
                Router,
                Some("waiter.ReserveBackPressure"),
                "service-error",
                "Router Queue Length Exceeded",
            ),
            Self::Draining => row(503, Router, None, "service-error", "Router Draining"),
            Self::ConnectFailed => row(502, Service, None, "instance-error", "Waiter Error 502"),
            Self::InstanceError => row(502, Service, None, "instance-error", "Waiter Error 502"),
            Self::InstanceTimeout => row(504, Service, None, "instance-error", "Waiter Error 504"),
            Self::Internal => row(500, Router, None, "generic-error", "Waiter Error 500"),
        }
    }
}

/// One line of the table of faults.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// HTTP status code.
    pub status: u16,
    /// Who must act.
    pub whose: Whose,
    /// `error-class` of the answer, where there is one.
    pub class: Option<&'static str>,
    /// `error-cause` of the answer.
    pub cause: &'static str,
    /// Title of the answer.
    pub title: &'static str,
}

const SERVICE_UNKNOWN: Row = Row {
    status: 400,
    whose: Whose::Client,
    class: Some("waiter.ServiceUnknown"),
    cause: "service-description-error",
    title: "Service Cannot be Identified",
};
const SERVICE_MISCONFIGURED: Row = Row {
    status: 400,
    whose: Whose::Client,
    class: Some("waiter.ServiceMisconfigured"),
    cause: "service-description-error",
    title: "Service Configured Incorrectly",
};
const SERVICE_FORBIDDEN: Row = Row {
    status: 403,
    whose: Whose::Client,
    class: Some("waiter.ServiceForbidden"),
    cause: "client-error",
    title: "Service Forbidden",
};

const CORS_PREFLIGHT_FORBIDDEN: Row = Row {
    status: 403,
    whose: Whose::Client,
    class: Some("waiter.CorsPreflightForbidden"),
    cause: "cors-error",
    title: "CORS Preflight Forbidden",
};

const CORS_REQUEST_FORBIDDEN: Row = Row {
    status: 403,
    whose: Whose::Client,
    class: Some("waiter.CorsRequestForbidden"),
    cause: "cors-error",
    title: "CORS Request Forbidden",
};

const UNSUPPORTED_AUTH: Row = Row {
    status: 400,
    whose: Whose::Client,
    class: Some("waiter.UnsupportedAuth"),
    cause: "service-description-error",
    title: "Unsupported Authentication Method",
};

/// Something went wrong: what kind, and in words what to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What kind of failure.
    pub class: Class,
    /// One or more sentences for the one whose fault it is.
    pub message: String,
    /// Facts that help, in order: name and value.
    pub details: Vec<(&'static str, String)>,
}

impl Fault {
    /// A fault of this kind, in words.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), details: Vec::new() }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
