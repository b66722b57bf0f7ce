//! Plays: the router's binary, real instances and real sockets on loopback; nothing is mocked.
//!
//! Each test is a story told by what a client and an operator can see. What they stand on (starting
//! and ending processes, a client with code of its own) is in `stage`. A failing play shows what
//! its processes wrote to stderr.

#![expect(clippy::print_stdout, reason = "measures are printed; libtest shows them when asked")]
#![expect(clippy::print_stderr, reason = "a failing play shows what its processes said")]

mod stage;

mod balancing;
mod bulk;
mod crowding;
mod describing;
mod ending;
mod exhausting;
mod failing;
mod guarding;
mod histories;
mod launching;
mod marathon;
mod marathon_doubt;
mod marathon_orders;
mod marathon_refusals;
mod marathon_unsure;
mod marathon_ways;
mod messages;
mod order;
mod pages;
mod paths;
mod queueing;
mod resets;
mod routers;
mod routers_deletions;
mod routers_faults;
mod routers_lead;
mod routers_rules;
mod routers_secrets;
mod routers_session;
mod routers_store;
mod scaling;
mod smuggling;
mod soaking;
mod starting;
mod statics;
mod tunnels;
