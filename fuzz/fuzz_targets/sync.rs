//! Any bytes as a frame of session synchronisation, to a unit that is in the middle of it.

#![no_main]

use cluster::sync::{Limits, Output, Sync, SyncSettings};
use cluster::{Boot, SessionSource, Time, UnitId};
use packet::Tuple;
use session::Session;

/// A table without sessions.
struct Empty;

impl SessionSource for Empty {
    fn shards(&self) -> u16 {
        2
    }

    fn slots(&self, _: u16) -> u32 {
        16
    }

    fn read(&self, _: u16, _: u32) -> Option<(Session, u32)> {
        None
    }

    fn find(&self, _: &Tuple) -> Option<(Session, u32)> {
        None
    }
}

/// Frames of one peer: each begins with its length (two bytes), and its boot is set right.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (frame, rest) = rest.split_at(length);
        bytes = rest;
        let mut frame = frame.to_vec();
        if let Some(boot) = frame.get_mut(4..12) {
            boot.copy_from_slice(&1_u64.to_be_bytes());
        }
        Some(frame)
    })
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (Some(unit), Some(peer)) = (UnitId::new(1), UnitId::new(2)) else {
        return;
    };
    let mut sync = Sync::new(SyncSettings {
        unit,
        boot: Boot(1),
        shards: 2,
        session_sync: true,
        limits: Limits::default(),
    });
    sync.peer_up(peer, Boot(1), 2);
    sync.primary(Some(peer), 1, Time(1));
    let mut now = Time(1);
    for frame in frames(bytes) {
        now = Time(now.0 + 10_000_000);
        _ = sync.handle(peer, &frame, now);
        // A frame holds at most 1,400 bytes of records, and the shortest takes two.
        let mut outputs = 0;
        while let Some(output) = sync.poll(&Empty, now) {
            if let Output::Send { body, .. } = output {
                assert!(cluster::sync::frame::parse(&body).is_ok());
            }
            outputs += 1;
            assert!(outputs < 2_000, "it does not come to rest");
        }
    }
});
