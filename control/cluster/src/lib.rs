//! The high-availability protocol as pure state machines.
