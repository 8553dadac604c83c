//! What [`crate::parse`] finds out about a frame, or why it refuses it.

use std::fmt;

use crate::Tuple;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sound ARP message; [`crate::arp::Message::read`] gives it.
    Arp,
    /// TCP over IPv4.
    Tcp,
    /// UDP over IPv4.
    Udp,
    /// An ICMP echo or timestamp message over IPv4.
    IcmpQuery {
        /// It asks; otherwise it answers.
        request: bool,
    },
    /// ICMP destination unreachable, time exceeded or parameter problem, with a datagram embedded
    /// that can be told apart.
    IcmpError,
    /// IPv4 with anything else, other ICMP messages and later fragments of ICMP included; the
    /// tuple's ports are zero.
    OtherIp,
    /// IPv6. The tuple and `l4` are filled as for IPv4, ICMPv6 echoes included; its `protocol` is
    /// that after the extension headers.
    Ipv6,
    /// Neither; the EtherType, or an 802.3 length below 1,536.
    Other(u16),
}

/// Which part of its datagram a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    #[default]
    None,
    /// The beginning, with a complete transport header.
    First,
    /// Another part. There is no transport header, so the tuple's ports are zero; fragments of one
    /// datagram share addresses, protocol and [`Layout::fragment_id`].
    Later,
}

/// Where the parts of a frame are and what identifies its flow. Bounds-checked once, so that later
/// stages can rely on it; valid only for the frame that it was parsed from, and not after that
/// frame was translated. Offsets count from the first byte of the Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The flow, as the packet travels. For [`Kind::IcmpError`] it is the reverse of the embedded
    /// packet's, so that it finds the session, in the direction in which the error travels. All
    /// zero for frames that are not IP. Fields `zone` and `vlan` are left zero.
    pub tuple: Tuple,
    /// What the frame carries.
    pub kind: Kind,
    /// Identification of the datagram that a fragment belongs to; zero for whole datagrams.
    pub fragment_id: u32,
    /// Start of the network header, or of an ARP message.
    pub l3: u16,
    /// Start of the transport header, or of the data of a later fragment; zero if not IP.
    pub l4: u16,
    /// End of the network datagram; what follows is padding of the frame.
    pub end: u16,
    /// Start of the transport header that an ICMP error quotes (its network header is at
    /// [`Layout::embedded_l3`]); zero for all else.
    pub embedded_l4: u16,
    /// VLAN identifier of the tag; zero if there is none.
    pub vlan: u16,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// The sender forbids fragmentation (always true for IPv6).
    pub dont_fragment: bool,
    /// The sender asks for a route of its own: LSRR, SSRR, or an IPv6 routing header of type 0.
    pub source_route: bool,
    /// Flags of the TCP header, as [`crate::tcp::SYN`]; zero for all else.
    pub tcp_flags: u8,
}

// One cache line: a burst's layouts are read by every stage.
const _: () = assert!(size_of::<Layout>() == 64);

impl Layout {
    /// A frame that is not IP.
    pub(crate) const fn plain(kind: Kind, l3: u16, end: u16, vlan: u16) -> Self {
        Self {
            tuple: Tuple {
                src: [0; 16],
                dst: [0; 16],
                src_port: 0,
                dst_port: 0,
                protocol: 0,
                zone: 0,
                vlan: 0,
            },
            kind,
            fragment_id: 0,
            l3,
            l4: 0,
            end,
            embedded_l4: 0,
            vlan,
            ttl: 0,
            fragment: Fragment::None,
            dont_fragment: false,
            source_route: false,
            tcp_flags: 0,
        }
    }

    /// True for ICMP errors.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        matches!(self.kind, Kind::IcmpError)
    }

    /// Start of the IPv4 header that an ICMP error quotes.
    #[must_use]
    pub const fn embedded_l3(&self) -> u16 {
        self.l4 + crate::icmp::HEADER_LEN
    }

    /// Bytes of the network datagram, as an MTU counts them.
    #[must_use]
    pub const fn datagram_len(&self) -> u16 {
        self.end - self.l3
    }
}

/// Defines [`Malformed`] with one name and one sentence per reason.
macro_rules! reasons {
    ($($reason:ident, $name:literal, $text:literal;)*) => {
        /// Why [`crate::parse`] refuses a frame; the worker counts each reason apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Malformed {
            $(#[doc = $text] $reason,)*
        }

        impl Malformed {
            /// Every reason, in the order of [`Malformed::index`].
            pub const ALL: &'static [Self] = &[$(Self::$reason,)*];

            /// Name of the reason's counter.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$reason => $name,)* }
            }

            /// What happened, for people.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$reason => $text,)* }
            }
        }
    };
}

reasons! {
    Truncated, "truncated", "ends within a header";
    TooLong, "too_long", "longer than the largest frame";
    BadVersion, "bad_version", "the IP version is not that of the EtherType";
    BadHeaderLength, "bad_header_length", "an IPv4 header shorter than 20 bytes";
    BadTotalLength, "bad_total_length", "an IP length shorter than the headers or longer than the frame";
    BadChecksum, "bad_checksum", "a wrong IPv4 header checksum";
    BadOptions, "bad_options", "an IPv4 option list that is inconsistent";
    BadTcpOffset, "bad_tcp_offset", "a TCP header shorter than 20 bytes or longer than the datagram";
    BadTcpOptions, "bad_tcp_options", "a SYN with an option list that is inconsistent";
    BadUdpLength, "bad_udp_length", "a UDP length shorter than its header or longer than the datagram";
    BadPort, "bad_port", "port zero";
    BadArp, "bad_arp", "an ARP message that is not a sound one of IPv4 over Ethernet";
    BadFragment, "bad_fragment", "a fragment that is empty, beyond 65,535 bytes, or no multiple of eight";
    TinyFragment, "tiny_fragment", "a first fragment without the whole transport header, or one that overwrites it";
    LoopingHeaders, "looping_headers", "more IPv6 extension headers than any sender needs, or out of order";
    UnwantedIcmp, "unwanted_icmp", "an ICMP redirect or source quench";
    BadEmbedded, "bad_embedded", "an ICMP error whose embedded datagram cannot have caused one";
    TruncatedEmbedded, "truncated_embedded", "an ICMP error that quotes less than an IP header and 8 bytes";
    EmbeddedMismatch, "embedded_mismatch", "an ICMP error that is not sent to the source of the datagram it quotes";
    SourceZero, "source_zero", "a source address in 0.0.0.0/8, or ::";
    SourceLoopback, "source_loopback", "a loopback source address";
    SourceMulticast, "source_multicast", "a multicast source address";
    SourceBroadcast, "source_broadcast", "a broadcast or reserved source address (240.0.0.0/4)";
    SourceIsDestination, "source_is_destination", "the same source and destination address";
    DestinationInvalid, "destination_invalid", "a destination that no packet on a wire may have (zero, loopback, reserved)";
    MappedAddress, "mapped_address", "an IPv4-mapped address in an IPv6 header";
}

impl Malformed {
    /// Position in [`Malformed::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.help())
    }
}

impl std::error::Error for Malformed {}
