//! Watches the carrier of the kernel interfaces behind our devices, by netlink.
//!
//! af_packet and af_xdp report a link as up for ever; the kernel knows better and says so at once.
//! The socket lives in the network namespace of the process, as the devices do.

use std::collections::HashMap;
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context, Result};
use crossbeam::channel::{Receiver, Sender, unbounded};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// The multicast group of link changes (`RTMGRP_LINK` in rtnetlink(7)).
const LINK_GROUP: u32 = 1;

/// The pause before a socket that fails is replaced.
const REOPENING: Duration = Duration::from_secs(1);

/// The carrier of one watched interface changed, or was read for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CarrierChange {
    /// What the caller gave with the interface's name.
    pub(crate) interface: usize,
    /// Administratively up and with a carrier.
    pub(crate) up: bool,
}

/// Starts a thread that reports the state of each interface in `watched` (kernel name to the
/// caller's index) now and at every change. An interface that disappears is down.
pub(crate) fn watch(watched: HashMap<String, usize>) -> Result<Receiver<CarrierChange>> {
    let socket = open()?;
    let (sender, receiver) = unbounded();
    thread::Builder::new()
        .name("carrier".to_owned())
        .spawn(move || follow(socket, &watched, &sender))
        .context("cannot start the carrier thread")?;
    Ok(receiver)
}

/// A socket on which the kernel tells all links now, and then those that change.
fn open() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
    socket
        .bind(&SocketAddr::new(0, LINK_GROUP))
        .context("cannot listen to link changes")?;
    request_dump(&socket).context("cannot ask the kernel for its links")?;
    Ok(socket)
}

fn request_dump(socket: &Socket) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let payload = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}

fn follow(mut socket: Socket, watched: &HashMap<String, usize>, sender: &Sender<CarrierChange>) {
    let mut known: HashMap<usize, bool> = HashMap::new();
    loop {
        let bytes = match socket.recv_from_full() {
            Ok((bytes, _)) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                socket = reopen(socket, &error);
                continue;
            }
        };
        for change in changes(&bytes, watched) {
            if known.insert(change.interface, change.up) != Some(change.up)
                && sender.send(change).is_err()
            {
                return;
            }
        }
    }
}

/// What to go on with after `error`: the whole state is read again, until that works.
fn reopen(socket: Socket, error: &io::Error) -> Socket {
    // The kernel dropped changes because we were slow; the socket is as good as before.
    if error.raw_os_error() == Some(libc::ENOBUFS) && request_dump(&socket).is_ok() {
        return socket;
    }
    tracing::warn!("link changes cannot be read, and links are asked for again: {error}");
    loop {
        thread::sleep(REOPENING);
        match open() {
            Ok(socket) => return socket,
            Err(error) => tracing::warn!("links are not watched: {error:#}"),
        }
    }
}

/// The changes of watched interfaces in one datagram of netlink messages.
fn changes(mut bytes: &[u8], watched: &HashMap<String, usize>) -> Vec<CarrierChange> {
    let mut found = Vec::new();
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        let (link, present) = match &message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => (Some(link), true),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => (Some(link), false),
            _ => (None, false),
        };
        if let Some(link) = link
            && let Some(&interface) = name(link).and_then(|name| watched.get(name))
        {
            let up = present
                && link
                    .header
                    .flags
                    .contains(LinkFlags::Up | LinkFlags::LowerUp);
            found.push(CarrierChange { interface, up });
        }
        // Messages are padded to four bytes (netlink(7)).
        let used = (message.header.length as usize).next_multiple_of(4);
        if used == 0 || used >= bytes.len() {
            break;
        }
        bytes = &bytes[used..];
    }
    found
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(names: &[(&str, bool)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (name, up) in names {
            let mut link = LinkMessage::default();
            link.attributes
                .push(LinkAttribute::IfName((*name).to_owned()));
            link.header.flags = LinkFlags::Up;
            if *up {
                link.header.flags |= LinkFlags::LowerUp;
            }
            let mut message = NetlinkMessage::new(
                NetlinkHeader::default(),
                NetlinkPayload::from(RouteNetlinkMessage::NewLink(link)),
            );
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            all.extend(bytes);
        }
        all
    }

    #[test]
    fn several_messages_in_one_datagram_are_all_read() {
        let watched = HashMap::from([("lan0".to_owned(), 4), ("wan0".to_owned(), 7)]);
        let bytes = datagram(&[("lan0", true), ("other", false), ("wan0", false)]);
        assert_eq!(
            changes(&bytes, &watched),
            [
                CarrierChange {
                    interface: 4,
                    up: true
                },
                CarrierChange {
                    interface: 7,
                    up: false
                }
            ]
        );
    }

    #[test]
    fn garbage_is_no_change() {
        let watched = HashMap::from([("lan0".to_owned(), 0)]);
        assert_eq!(changes(&[0xff; 40], &watched), []);
        assert_eq!(changes(&datagram(&[("lan0", true)])[..20], &watched), []);
    }

    #[test]
    fn the_state_is_reported_at_the_start() {
        let changes = watch(HashMap::from([("lo".to_owned(), 3)])).unwrap();
        let first = changes.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first.interface, 3);
    }

    #[test]
    fn the_state_is_reported_again_by_another_socket() {
        // Reading from it fails at once, and for ever.
        let broken = Socket::new(NETLINK_ROUTE).unwrap();
        broken.set_non_blocking(true).unwrap();
        let (sender, changes) = unbounded();
        let watched = HashMap::from([("lo".to_owned(), 3)]);
        thread::spawn(move || follow(broken, &watched, &sender));
        let first = changes.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first.interface, 3);
    }
}
