//! Error bodies: to be written.
