//! The life of one request, told as stories, as a table of every event in every state, and at
//! random.

mod random;
mod rig;
mod stories;
mod table;
mod tunnels;
