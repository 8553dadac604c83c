//! What whole units do together when nothing is lost: hand-overs step by step, who owns what, versions of
//! the protocol. What happens when things are lost is for the simulator.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts only functions marked as tests"
)]

mod hand_over;
mod owners;
mod versions;
mod world;
