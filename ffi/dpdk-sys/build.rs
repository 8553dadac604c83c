//! Compiles the shim with the flags of the installed DPDK and links its libraries.
//!
//! The flags are those of plain `pkg-config`: DPDK's headers need the `-include rte_config.h` and
//! `-march` that the `pkg-config` crate leaves out.

use std::env;
use std::process::{Command, exit};

fn main() {
    for file in ["shim/shim.c", "shim/shim.h"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }

    let mut shim = cc::Build::new();
    shim.file("shim/shim.c").std("gnu11");
    for flag in pkg_config("--cflags") {
        shim.flag(flag);
    }
    // DPDK's own headers are not clean under every warning of every compiler.
    shim.warnings(false).flag("-Wall").flag("-Werror=implicit");
    shim.compile("tidegate_dpdk_shim");

    for flag in pkg_config("--libs") {
        if let Some(library) = flag.strip_prefix("-l") {
            println!("cargo::rustc-link-lib=dylib={library}");
        } else if let Some(folder) = flag.strip_prefix("-L") {
            println!("cargo::rustc-link-search=native={folder}");
        }
    }
}

/// The words that `pkg-config` answers about libdpdk; ends the build when it knows nothing of it.
fn pkg_config(what: &str) -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let answer = Command::new(&program)
        .args([what, "libdpdk >= 22.11"])
        .output();
    match answer {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        Ok(output) => fail(&format!(
            "DPDK 22.11 or newer was not found: install the Debian package libdpdk-dev \
             (`apt install libdpdk-dev`), or let PKG_CONFIG_PATH name the folder of libdpdk.pc\n{}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => fail(&format!(
            "`{program}` did not run ({error}): install the Debian packages pkg-config and libdpdk-dev"
        )),
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    exit(1);
}
