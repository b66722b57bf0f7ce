//! Tables over both codecs. One driver obeys the codec's contract and writes down, as text, what a
//! connection said; every table compares that text.

mod bodies;
mod client;
mod driver;
mod life;
mod memory;
mod random;
mod refused;
mod requests;
mod responses;
mod tunnels;
