//! Writes the seeds of the fuzz target `parse`: `cargo run -p packet --example fuzz_seeds DIRECTORY`.

use std::path::PathBuf;

#[path = "../src/samples.rs"]
#[expect(clippy::unwrap_used, reason = "shared with the unit tests")]
mod samples;

fn main() -> std::io::Result<()> {
    let directory: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or_else(|| std::io::Error::other("usage: fuzz_seeds DIRECTORY"))?
        .into();
    std::fs::create_dir_all(&directory)?;
    for (name, frame) in samples::all() {
        std::fs::write(directory.join(name), frame)?;
    }
    Ok(())
}
