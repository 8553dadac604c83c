//! Any frame: parsed, and if it is sound translated and answered.

#![no_main]

#[path = "../../dataplane/packet/tests/exercise/mod.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| exercise::exercise(frame));
