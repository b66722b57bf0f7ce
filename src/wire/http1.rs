//! HTTP/1: to be written.
