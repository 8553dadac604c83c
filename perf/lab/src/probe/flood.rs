//! More datagrams than a gateway forwards, of many sessions, to sockets that nobody reads: what a worker
//! does at its limit.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::topology::crowd_addresses;

/// The discard service's port (RFC 863).
const PORT: u16 = 9;
/// Sockets of the client: with each address of the server a session.
const SOCKETS: usize = 64;
/// Bytes of a datagram: with its headers a frame of 64 bytes, without the check sequence.
const DATAGRAM: usize = 18;

/// A running flood. It ends with the value.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sending: Option<JoinHandle<()>>,
    _sinks: Vec<UdpSocket>,
}

impl Flood {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When sockets cannot be had.
    pub fn start(client: &Namespace, server: &Namespace) -> Result<Self> {
        let servers: Vec<Ipv4Addr> = crowd_addresses().collect();
        // What is not read is dropped there, without an answer.
        let sinks = server.run(|| {
            let sinks = servers.iter().map(|address| {
                UdpSocket::bind((*address, PORT)).context("the server has no discard port")
            });
            sinks.collect::<Result<Vec<_>>>()
        })?;
        let sockets = client.run(|| {
            let sockets = (0..SOCKETS).map(|_| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?));
            sockets.collect::<Result<Vec<_>>>()
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let sending = Some(thread::spawn(move || {
            while !flag.load(Ordering::Acquire) {
                for socket in &sockets {
                    for address in &servers {
                        // One that the host refuses is one less.
                        let _ = socket.send_to(&[0; DATAGRAM], (*address, PORT));
                    }
                }
            }
        }));
        Ok(Self {
            stop,
            sending,
            _sinks: sinks,
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(sending) = self.sending.take() {
            // It ends within a round; if it panicked, its message is on the standard error.
            let _ = sending.join();
        }
    }
}
