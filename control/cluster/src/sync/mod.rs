//! Session synchronisation: ordered, acknowledged streams of deltas between units.
