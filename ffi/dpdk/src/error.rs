//! What can go wrong between us and DPDK. Everything here happens at start or on an operator's
//! command; nothing that a worker calls per burst returns an [`Error`].

use std::ffi::{CStr, CString, c_int};

/// A refused operation: each message names the thing, the cause and, where there is one, the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// DPDK was started, or tried to start, before in this process.
    #[error("DPDK is started once per process, and this one has done so")]
    AlreadyInitialised,
    /// The call needs a running [`Eal`](crate::Eal).
    #[error("DPDK is not running: call Eal::init first")]
    NotInitialised,
    /// DPDK did not start.
    #[error("DPDK did not start: {cause}; {remedy}")]
    Start {
        /// What DPDK said.
        cause: String,
        /// What would help.
        remedy: String,
    },
    /// A device cannot be used.
    #[error("device {device}: {fault}; {remedy}")]
    Device {
        /// The device as configured.
        device: String,
        /// What is wrong with it.
        fault: Fault,
        /// What would help.
        remedy: String,
    },
    /// The text does not name a device.
    #[error("`{text}` is not a device: {cause}")]
    Spelling {
        /// The text.
        text: String,
        /// Which part is wrong, and what would be right.
        cause: &'static str,
    },
    /// A pool, ring or table could not be created.
    #[error("{kind} {name}: {cause}")]
    Create {
        /// What it would have been.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why not.
        cause: String,
    },
    /// A thread could not be registered.
    #[error("this thread could not be registered with DPDK: {0}")]
    Register(String),
}

/// What is wrong with a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// Somebody else has it, or it is open already.
    #[error("it is in use")]
    Busy,
    /// It is a PCI device that another driver holds.
    #[error("it is bound to {0}")]
    NotBound(String),
    /// It has fewer queues than asked for.
    #[error("{asked} {direction} queues asked, {available} available")]
    Queues {
        /// "receive" or "transmit".
        direction: &'static str,
        /// How many were asked for.
        asked: u16,
        /// How many it has.
        available: u16,
    },
    /// Frames that the device delivers do not fit into a buffer of the pool.
    #[error("frames of {frame} bytes can arrive, buffers hold {room}")]
    Buffers {
        /// The longest frame, in bytes.
        frame: usize,
        /// The room of a buffer, in bytes.
        room: usize,
    },
    /// The driver refused an operation.
    #[error("{operation} failed: {cause}")]
    Refused {
        /// What was asked of it.
        operation: &'static str,
        /// What it said.
        cause: String,
    },
    /// Its queues were handed out before.
    #[error("it was started before")]
    Started,
}

/// DPDK's text for an error number of either sign.
pub(crate) fn describe(error: c_int) -> String {
    // SAFETY: takes any number; answers with a static or thread-local string, copied at once.
    let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(error.saturating_abs())) };
    text.to_string_lossy().into_owned()
}

/// The calling thread's last DPDK error.
pub(crate) fn last() -> c_int {
    // SAFETY: reads a thread-local number.
    unsafe { dpdk_sys::tg_errno() }
}

/// A name as C wants it: not empty, at most `limit` bytes, no NUL.
pub(crate) fn c_name(kind: &'static str, name: &str, limit: usize) -> Result<CString, Error> {
    let refused = |cause: String| Error::Create {
        kind,
        name: name.to_owned(),
        cause,
    };
    if name.is_empty() || name.len() > limit {
        return Err(refused(format!("its name must have 1 to {limit} bytes")));
    }
    CString::new(name).map_err(|_| refused("its name contains a NUL".to_owned()))
}
