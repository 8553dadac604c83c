//! A packet without a session, as far as it takes to decide about it.
//!
//! Most newcomers of a flood are refused. So of a plain packet no more is read than this; all the rest
//! is looked at when a session begins with it, or its sender gets an answer.

use std::net::Ipv4Addr;

use packet::plain::{Ends, Plain};
use packet::{Fragment, Kind, Layout, Malformed, Tuple, ipv4};

/// Who it is from and for, and what kind of packet it is.
#[derive(Clone, Copy)]
pub(super) struct Newcomer {
    /// Its place in the batch.
    pub(super) position: usize,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    /// Ports and protocol are those of its tuple.
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) protocol: u8,
    pub(super) tcp_flags: u8,
    pub(super) kind: Kind,
    pub(super) fragment: Fragment,
    /// Whether it may not be forwarded once more.
    pub(super) spent: bool,
}

impl Newcomer {
    /// A plain packet, which lies in `frame`.
    ///
    /// # Errors
    /// That it cannot be from or for anybody.
    #[inline]
    pub(super) fn plain(position: usize, plain: &Plain, frame: &[u8]) -> Result<Self, Malformed> {
        let ends = Ends::of(frame).ok_or(Malformed::Truncated)?;
        ends.check(plain.protocol)?;
        let ([source, destination], [source_port, destination_port]) =
            (ends.hosts(), ends.services());
        let kind = match plain.protocol {
            ipv4::PROTOCOL_TCP => Kind::Tcp,
            _ => Kind::Udp,
        };
        Ok(Self {
            position,
            source,
            destination,
            source_port,
            destination_port,
            protocol: plain.protocol,
            tcp_flags: plain.tcp_flags,
            kind,
            fragment: Fragment::None,
            spent: false,
        })
    }

    /// Any other packet, with the tuple that it joined the batch under. `None` unless it is IPv4.
    pub(super) fn general(position: usize, layout: &Layout, tuple: &Tuple) -> Option<Self> {
        Some(Self {
            position,
            source: tuple.src_v4()?,
            destination: tuple.dst_v4()?,
            source_port: tuple.src_port,
            destination_port: tuple.dst_port,
            protocol: tuple.protocol,
            tcp_flags: layout.tcp_flags,
            kind: layout.kind,
            fragment: layout.fragment,
            spent: layout.ttl <= 1,
        })
    }

    pub(super) const fn tuple(&self) -> Tuple {
        Tuple::v4(
            self.source,
            self.source_port,
            self.destination,
            self.destination_port,
            self.protocol,
        )
    }
}
