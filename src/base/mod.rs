//! Words every room shares: ids, time, limits, faults. No behaviour beyond their own arithmetic.

pub mod fault;
pub mod ids;
pub mod limits;
pub mod socket;
pub mod time;

pub use ::core::net as address;
