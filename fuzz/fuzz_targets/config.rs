//! Any text as a configuration: judged, and if it is right given a hash and no difference from
//! itself.

#![no_main]

use std::path::Path;

use config::{Config, Problems, diff};

libfuzzer_sys::fuzz_target!(|text: &str| {
    // A key file that is there, so that right configurations can be reached.
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/config/gw.toml"));
    match Config::parse(text.to_owned(), file) {
        Ok(config) => {
            assert!(diff(&config, &config).is_empty());
            std::hint::black_box(config.hash());
        }
        Err(Problems(problems)) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(problem.line.is_some_and(|line| line > 0));
                assert!(!problem.to_string().is_empty());
            }
        }
    }
});
