//! Plays: the router's binary, real instances and real sockets on loopback; nothing is mocked.
//!
//! Each test is a story told by what a client and an operator can see. What they stand on (starting
//! and ending processes, a client with code of its own) is in `stage`. A failing play shows what
//! its processes wrote to stderr.

mod stage;

mod guarding;
mod launching;
mod order;
mod pages;
mod starting;
mod statics;
