//! What Marathon and a Mesos agent answer, as values: JSON of both generations, 1.3 (nulls,
//! `taskId`) to 1.10 (absent keys, `instanceId`), and the event stream.
//!
//! Reading is lenient in form and strict in content: a null is as good as an absent key, extra keys
//! are passed over anywhere, and what is there but not what it should be is an error of the
//! smallest thing that holds it. Nothing is guessed: a list without its key is no empty list, and a
//! port that is no port is no port.

pub mod agent;
pub mod apps;
pub mod events;
pub mod replies;

pub use apps::{App, Apps, Failure, HealthResult, Task, TaskState};
pub use replies::{Deployment, Trouble};
