//! What a worker core does to a burst of packets.
