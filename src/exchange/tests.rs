//! Stories of one exchange.
