//! Frames that no sound host sends, and recordings of those that units sent.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;

use packet::checksum::checksum;
use tidegate_lab::{Namespace, tool};

/// The cluster's MAC address in the lan segment.
pub(crate) const VIRTUAL_MAC: [u8; 6] = [0x02, 0x74, 0x67, 0x00, 0x07, 0x00];
/// Where the cluster's own frames go.
pub(crate) const CLUSTER_GROUP: [u8; 6] = [0x03, 0x74, 0x67, 0x00, 0x07, 0x00];
/// Who sends all this.
const STRANGER: [u8; 6] = [0x02, 0x00, 0x00, 0x00, 0x00, 0x99];
/// The cluster's EtherType.
pub(crate) const CLUSTER_TYPE: u16 = 0x88b5;

/// Sends its standard input, one frame to a line in hexadecimal digits, from the interface that is
/// its argument.
const INJECT: &str = "
import socket, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
for line in sys.stdin:
    out.send(bytes.fromhex(line))
";

/// Sends frames as they are from an interface.
pub(crate) fn inject(from: &Namespace, interface: &str, frames: &[Vec<u8>]) {
    let mut command = from.command("python3");
    command.args(["-c", INJECT, interface]);
    let mut child = command
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| tool::explain(&command, error))
        .unwrap();
    let mut lines = String::new();
    for frame in frames {
        lines.extend(frame.iter().map(|byte| format!("{byte:02x}")));
        lines.push('\n');
    }
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// Records the next `count` frames of the cluster on an interface.
pub(crate) fn record(at: &Namespace, interface: &str, count: usize) -> Vec<Vec<u8>> {
    let mut command = at.command("tcpdump");
    command.args(["-i", interface, "-c", &count.to_string(), "-w", "-"]);
    command.args(["ether", "proto", &CLUSTER_TYPE.to_string()]);
    let recorded = command.output().unwrap();
    assert!(recorded.status.success());
    let (mut rest, mut frames) = (&recorded.stdout[24..], Vec::new());
    while !rest.is_empty() {
        let (header, tail) = rest.split_at(16);
        let length = u32::from_le_bytes(header[8..12].try_into().unwrap());
        let (frame, tail) = tail.split_at(usize::try_from(length).unwrap());
        frames.push(frame.to_vec());
        rest = tail;
    }
    assert_eq!(frames.len(), count);
    frames
}

/// A frame.
pub(crate) fn ethernet(destination: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [
        &destination[..],
        &STRANGER,
        &ether_type.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// A sound datagram, but for what its parts say. `options` fill whole words.
pub(crate) struct Datagram<'a> {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) options: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Datagram<'_> {
    /// Its bytes, with the right lengths and header checksum.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = u16::try_from(header + self.payload.len()).unwrap();
        let mut bytes = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 64, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(self.options);
        let sum = checksum(&bytes).to_be_bytes();
        bytes[10..12].copy_from_slice(&sum);
        bytes.extend(self.payload);
        bytes
    }

    /// In a frame to the cluster.
    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(VIRTUAL_MAC, 0x0800, &self.bytes())
    }
}

/// A UDP datagram without checksum.
pub(crate) fn udp(source_port: u16, destination_port: u16, length: u16) -> Vec<u8> {
    let words = [source_port, destination_port, length, 0];
    words.into_iter().flat_map(u16::to_be_bytes).collect()
}

/// A TCP header whose length is `words` 32-bit words, whatever `options` there are.
pub(crate) fn tcp(words: u8, flags: u8, options: &[u8]) -> Vec<u8> {
    let ports = [40_000u16, 80].into_iter().flat_map(u16::to_be_bytes);
    let mut bytes: Vec<u8> = ports.collect();
    bytes.extend([0; 8]);
    bytes.extend([words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes
}
