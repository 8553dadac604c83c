//! The little that we must know and restore of the kernel's interfaces, in the network namespace of
//! the calling thread.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use libc::{c_int, c_short, ifreq};

/// One kernel interface, by name.
#[derive(Debug)]
pub(crate) struct Interface {
    request: ifreq,
    /// Any socket of the namespace: the interface is found through it later, from any thread.
    socket: OwnedFd,
}

// SAFETY: the request is plain data; its union holds a pointer only for calls that are not made here.
unsafe impl Send for Interface {}
// SAFETY: as above; it is only copied.
unsafe impl Sync for Interface {}

impl Interface {
    /// The interface of that name.
    ///
    /// # Errors
    /// `ENODEV` when there is none; whatever else the kernel says.
    pub(crate) fn find(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        // SAFETY: an ifreq is plain data, for which zeros are valid.
        let mut request: ifreq = unsafe { std::mem::zeroed() };
        for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *slot = libc::c_char::from_ne_bytes([byte]);
        }
        // SAFETY: no pointers involved.
        let socket =
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else has.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let interface = Self { request, socket };
        interface.ask(libc::SIOCGIFINDEX)?;
        Ok(interface)
    }

    /// The largest IP packet that it sends, in bytes.
    pub(crate) fn mtu(&self) -> io::Result<c_int> {
        let answer = self.ask(libc::SIOCGIFMTU)?;
        // SAFETY: SIOCGIFMTU fills this field.
        Ok(unsafe { answer.ifr_ifru.ifru_mtu })
    }

    /// Whether it takes frames for any destination.
    pub(crate) fn is_promiscuous(&self) -> io::Result<bool> {
        Ok(self.flags()? & PROMISCUOUS != 0)
    }

    /// Makes it take frames for any destination, or not.
    pub(crate) fn set_promiscuous(&self, on: bool) -> io::Result<()> {
        let flags = self.flags()?;
        let wanted = if on {
            flags | PROMISCUOUS
        } else {
            flags & !PROMISCUOUS
        };
        if wanted == flags {
            return Ok(());
        }
        let mut request = self.request;
        request.ifr_ifru.ifru_flags = wanted;
        self.call(libc::SIOCSIFFLAGS, &mut request)
    }

    fn flags(&self) -> io::Result<c_short> {
        let answer = self.ask(libc::SIOCGIFFLAGS)?;
        // SAFETY: SIOCGIFFLAGS fills this field.
        Ok(unsafe { answer.ifr_ifru.ifru_flags })
    }

    fn ask(&self, what: libc::Ioctl) -> io::Result<ifreq> {
        let mut request = self.request;
        self.call(what, &mut request)?;
        Ok(request)
    }

    fn call(&self, what: libc::Ioctl, request: &mut ifreq) -> io::Result<()> {
        // SAFETY: the calls made here take an ifreq and write nothing beyond it.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), what, std::ptr::from_mut(request)) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "0x100; ifr_flags is a short"
)]
const PROMISCUOUS: c_short = libc::IFF_PROMISC as c_short;
