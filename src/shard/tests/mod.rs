//! Plays at the level of bytes: clients and instances on one side, shards on memory in the middle.

mod failures;
mod messages;
mod passing;
mod peers;
mod random;
mod slots;
mod sockets;
mod streams;
mod travel;
mod tunnels;
mod volume;
mod whole;
mod wires;
mod world;
