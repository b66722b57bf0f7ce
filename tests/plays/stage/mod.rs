//! What plays stand on: processes, a client, time.

mod client;
mod cluster;
mod curator;
mod ensemble;
mod flow;
mod hold;
mod instance;
mod path;
mod process;
mod request;
mod router;
mod service;
mod told;
mod wait;
mod wave;

pub(crate) use client::{Connection, Response};
pub(crate) use cluster::{Cluster, of_task, status, until_view};
pub(crate) use curator::Curator;
pub(crate) use ensemble::{Ensemble, SESSION, until_members};
pub(crate) use flow::Flow;
pub(crate) use hold::Hold;
pub(crate) use instance::{Instance, fronted};
pub(crate) use path::{Path, on};
pub(crate) use process::{Process, end_at_once, exists};
pub(crate) use request::Request;
pub(crate) use router::{Router, complaint, complaint_through, data_dir, metric_at};
pub(crate) use service::Service;
pub(crate) use told::Told;
pub(crate) use wait::{PATIENCE, now, pause_until, until, within};
pub(crate) use wave::{at_once, wave};
