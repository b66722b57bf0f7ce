//! A made-up catalogue for the tests of this room.
