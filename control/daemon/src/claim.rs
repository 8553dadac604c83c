//! A kernel interface belongs to one unit at a time.
//!
//! The kernel does not see to that: two processes with raw sockets on one interface would both forward
//! its packets, and one that fails to share an XDP interface takes the program of the other with it. So
//! a unit holds an abstract unix socket named after each of its interfaces. Such names belong to the
//! network namespace, as interfaces do, and end with the process that holds them, however it ends.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::{Context as _, Result, bail};

/// The right to open one kernel interface, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Claim(#[expect(dead_code, reason = "held, never used")] UnixListener);

/// Claims the kernel interface `name`.
pub(crate) fn claim(name: &str) -> Result<Claim> {
    let refused = || format!("interface {name} cannot be claimed");
    let address = SocketAddr::from_abstract_name(format!("tidegate-interface-{name}"));
    match UnixListener::bind_addr(&address.with_context(refused)?) {
        Ok(socket) => Ok(Claim(socket)),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "interface {name} belongs to another unit that runs here; stop that one, or give this unit \
             another interface"
        ),
        Err(error) => Err(error).with_context(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_claimed_once_at_a_time() {
        let name = format!("c{}", std::process::id());
        let first = claim(&name).unwrap();
        let error = claim(&name).unwrap_err().to_string();
        assert!(error.contains("belongs to another unit"), "{error}");
        let _other = claim(&format!("{name}x")).unwrap();
        drop(first);
        let _again = claim(&name).unwrap();
    }
}
