//! HTTP/1.1 by hand, both sides. A library would repair what the faults are to break.

pub(crate) mod client;
pub(crate) mod deliver;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod serve;

pub(crate) use request::Request;
pub(crate) use response::Response;
