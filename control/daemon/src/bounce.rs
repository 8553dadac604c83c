//! Taking kernel interfaces down for a moment, so that the switches at their other ends forget what they
//! learnt there: the signal of a unit that ceased to be primary and cannot say so otherwise.

use std::collections::VecDeque;
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

/// How long interfaces stay down: switches take a while to notice.
const DOWN: Duration = Duration::from_secs(1);

/// Interfaces that are down for a moment. They come up again when that is over, or when this is dropped.
pub(crate) struct Bounce {
    /// Dropped, it ends the moment.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bounce {
    /// Takes interfaces of this process's namespace down.
    pub(crate) fn begin(interfaces: Vec<String>) -> Result<Self> {
        let (end, ended) = channel();
        let thread = std::thread::Builder::new()
            .name("bounce".to_owned())
            .spawn(move || bounce(&interfaces, &ended))
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

fn bounce(interfaces: &[String], ended: &Receiver<()>) {
    let mut down = VecDeque::new();
    for interface in interfaces {
        match set(interface, false) {
            Ok(()) => down.push_back(interface),
            Err(error) => tracing::error!("interface {interface} cannot be taken down: {error:#}"),
        }
    }
    // An error means that the other end is gone, which is what cuts it short.
    let _ = ended.recv_timeout(DOWN);
    while let Some(interface) = down.pop_front() {
        if let Err(error) = set(interface, true) {
            tracing::error!("interface {interface} cannot be taken up again: {error:#}");
        }
    }
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
