//! The programs of the system that the lab calls, with errors that say what is missing.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// Runs a program and returns what it wrote to its standard output.
///
/// # Errors
///
/// When the program is missing (with the package that has it) or fails (with its own words).
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    output(Command::new(program).args(arguments))
}

/// Runs `program` as [`run`] does, with `input` on its standard input.
///
/// # Errors
///
/// As [`run`].
pub fn feed(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| explain(&command, error))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .with_context(|| format!("{} stopped reading", describe(&command)))?;
    }
    let output = child
        .wait_with_output()
        .context("its output cannot be read")?;
    check(&command, output)
}

/// Runs a prepared command to its end and returns its standard output.
///
/// # Errors
///
/// As [`run`].
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| explain(command, error))?;
    check(command, output)
}

/// Tells why a command could not be started, and which package has it.
pub fn explain(command: &Command, error: std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy().into_owned();
    if error.kind() != ErrorKind::NotFound {
        return anyhow!(error).context(format!("`{program}` cannot be started"));
    }
    let package = match program.as_str() {
        "ip" | "bridge" => "iproute2",
        "nft" => "nftables",
        "nginx" => "nginx-light",
        "keepalived" | "conntrackd" | "conntrack" => {
            return anyhow!(
                "`{program}` is missing: `scripts/setup.sh --test` installs it (package {program})"
            );
        }
        "ss" => "iproute2",
        "chrt" => "util-linux",
        "arping" => "iputils-arping",
        "ping" => "iputils-ping",
        "tidegated" | "tidegate" => return anyhow!("`{program}` is missing: build it first"),
        other => other,
    };
    anyhow!("`{program}` is missing: `scripts/setup.sh` installs it (package {package})")
}

fn check(command: &Command, output: Output) -> Result<String> {
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            describe(command),
            output.status,
            words.trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} wrote something other than text", describe(command)))
}

fn describe(command: &Command) -> String {
    let mut text = format!("`{}", command.get_program().to_string_lossy());
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text.push('`');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_command_and_its_words() {
        let error = run("sh", &["-c", "echo high water >&2; exit 3"]).expect_err("it exits with 3");
        let text = error.to_string();
        assert!(text.starts_with("`sh -c"), "{text}");
        assert!(text.ends_with("(exit status: 3): high water"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("no-such-program", &[]).expect_err("there is none");
        assert!(
            error.to_string().contains("`no-such-program` is missing"),
            "{error}"
        );
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(
            feed("cat", &[], "ebb and flow").expect("cat runs"),
            "ebb and flow"
        );
    }
}
