//! Taking kernel interfaces down for a moment, so that the switches at their other ends forget what they
//! learnt there: the signal of a unit that ceased to be primary and cannot say so otherwise.
//!
//! Invariant: while an interface is down, a file beside the management socket names it. Who is killed in that
//! moment takes nothing up again; its next start does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::management::socket::beside;

/// How long interfaces stay down: switches take a while to notice.
const DOWN: Duration = Duration::from_secs(1);

/// Interfaces that are down for a moment. They come up again when that is over, or when this is dropped.
pub(crate) struct Bounce {
    /// Dropped, it ends the moment.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bounce {
    /// Takes interfaces of this process's namespace down, and notes that beside `socket`.
    pub(crate) fn begin(interfaces: Vec<String>, socket: &Path) -> Result<Self> {
        let note = note(socket);
        let (end, ended) = channel();
        let thread = std::thread::Builder::new()
            .name("bounce".to_owned())
            .spawn(move || bounce(&interfaces, &note, &ended))
            .context("cannot start a thread")?;
        Ok(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Has them come up now.
    pub(crate) fn cut_short(&mut self) {
        self.end = None;
    }
}

impl Drop for Bounce {
    fn drop(&mut self) {
        self.cut_short();
        if let Some(thread) = self.thread.take() {
            // It logs what went wrong.
            let _ = thread.join();
        }
    }
}

/// Takes up what an earlier start with this socket left down.
pub(crate) fn end_earlier(socket: &Path) {
    let note = note(socket);
    let Ok(names) = std::fs::read_to_string(&note) else {
        return;
    };
    for interface in names.lines() {
        match set(interface, true) {
            Ok(()) => {
                tracing::warn!("interface {interface}: taken up, an earlier start had left it down")
            }
            Err(error) => {
                tracing::error!("interface {interface} cannot be taken up again: {error:#}")
            }
        }
    }
    tell_failure(&note, std::fs::remove_file(&note));
}

/// The file that names what is down.
fn note(socket: &Path) -> PathBuf {
    beside(socket, ".down")
}

fn tell_failure(note: &Path, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!("{}: {error}", note.display());
    }
}

fn bounce(interfaces: &[String], note: &Path, ended: &Receiver<()>) {
    tell_failure(note, std::fs::write(note, interfaces.join("\n")));
    let mut down = Vec::new();
    for interface in interfaces {
        match set(interface, false) {
            Ok(()) => down.push(interface),
            Err(error) => tracing::error!("interface {interface} cannot be taken down: {error:#}"),
        }
    }
    // An error means that the other end is gone, which is what cuts it short.
    let _ = ended.recv_timeout(DOWN);
    for interface in down {
        if let Err(error) = set(interface, true) {
            tracing::error!("interface {interface} cannot be taken up again: {error:#}");
        }
    }
    tell_failure(note, std::fs::remove_file(note));
}

/// Takes an interface up or down, as `ip link set` does.
fn set(interface: &str, up: bool) -> Result<()> {
    let mut link = LinkMessage::default();
    link.header.change_mask = LinkFlags::Up;
    if up {
        link.header.flags = LinkFlags::Up;
    }
    link.attributes
        .push(LinkAttribute::IfName(interface.to_owned()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let payload = NetlinkPayload::from(RouteNetlinkMessage::SetLink(link));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => bail!("{}", error.to_io()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::management::socket::tests::Folder;

    #[test]
    fn what_is_down_is_noted_until_it_is_up_again() {
        let folder = Folder::new();
        let socket = folder.0.join("gw.a.sock");
        let noted = || std::fs::read_to_string(folder.0.join("gw.a.sock.down")).unwrap_or_default();
        // There are no such interfaces, which is told and changes nothing.
        let names = ["tg-none0", "tg-none1"].map(str::to_owned);
        let bounce = Bounce::begin(names.to_vec(), &socket).unwrap();
        while noted() != "tg-none0\ntg-none1" {
            let thread = bounce.thread.as_ref().unwrap();
            assert!(!thread.is_finished(), "it was never noted");
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(bounce);
        assert!(!note(&socket).exists());
    }
}
