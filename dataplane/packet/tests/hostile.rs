//! Frames that nobody sends in good faith: every truncation of good ones, flipped bytes, noise,
//! and whatever fuzzing has found.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;

use proptest::prelude::*;

mod exercise;
#[path = "../src/samples.rs"]
mod samples;

use exercise::exercise;

fn sample() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(
        samples::all()
            .into_iter()
            .map(|(_, f)| f)
            .collect::<Vec<_>>(),
    )
}

#[test]
fn every_truncation_of_every_sample() {
    for (name, frame) in samples::all() {
        exercise(&frame);
        let layout = packet::parse(&frame).unwrap_or_else(|e| panic!("{name}: {e}"));
        for len in 0..frame.len() {
            exercise(&frame[..len]);
            let cut = len < usize::from(layout.end) && layout.l4 != 0;
            assert!(
                !cut || packet::parse(&frame[..len]).is_err(),
                "{name} cut to {len}"
            );
        }
    }
}

/// The same with a total length that admits the truncation, so that inner headers are cut too.
#[test]
fn every_shorter_datagram_of_every_sample() {
    for (_, frame) in samples::all() {
        for len in 34..frame.len() {
            let mut cut = frame[..len].to_vec();
            let total = u16::try_from(len - 14).unwrap();
            cut[16..18].copy_from_slice(&total.to_be_bytes());
            exercise(&cut);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn noise(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        exercise(&frame);
    }

    #[test]
    fn flipped_bytes(
        frame in sample(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut frame = frame;
        for (index, byte) in flips {
            let index = index.index(frame.len());
            frame[index] = byte;
        }
        exercise(&frame);
    }
}

/// What the fuzz target starts from, and what it once failed on.
#[test]
fn seeds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/parse");
    for (name, frame) in samples::all() {
        let seed = std::fs::read(directory.join(name)).unwrap_or_default();
        assert_eq!(seed, frame, "{name} is old: run the example fuzz_seeds");
    }
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        exercise(&std::fs::read(path).unwrap());
    }
}
