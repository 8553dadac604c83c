//! `tidegate`: the operator's command.
//!
//! Asks one unit over its management socket and shows the answer as a table, or as the JSON that
//! the unit gave. Checks configurations without any unit. Holds no state and needs no DPDK.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage or bad configuration.

mod args;
mod configuration;
mod failure;
mod run;
mod show;
mod socket;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::Arguments;
use crate::failure::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output. If nobody reads them, nobody misses them.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * 2);
        }
    };
    let mut output = io::BufWriter::new(io::stdout().lock());
    let result = run::run(&arguments, &mut output);
    // What a failed command has written is an answer too.
    let flushed = output.flush().map_err(Failure::Output);
    let result = result.and(flushed);
    // The buffer was written, or can't be: nothing is left for the destructor to try again.
    let (_, _) = output.into_parts();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "tidegate: {failure}");
            failure.exit_code()
        }
    }
}
