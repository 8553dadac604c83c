"""Stateless load through the gateway: UDP of one size or IMIX over many flows, with latency.

    start -f perf/pktgen/trex/stateless.py -m 10mpps --port 0 -t --size 64,--flows 1000000

Latency streams are of their own, 1,000 packets a second beside the load: TRex stamps them in software,
and tells percentiles, jitter, loss and order of them (`stats --streams`, `stats -l`).
"""

import argparse

from trex.stl.api import (
    IP,
    UDP,
    Ether,
    STLFlowLatencyStats,
    STLPktBuilder,
    STLScVmRaw,
    STLStream,
    STLTXCont,
    STLVmFixIpv4,
    STLVmFlowVar,
    STLVmTupleGen,
    STLVmWrFlowVar,
)

# Behind the client's and the server's port; the gateway routes them there (README.md).
CLIENTS = "16.0.0.1"
SERVER = "48.0.0.1"
SOURCE_PORTS = (10_000, 10_999)
# Sizes without the check sequence, and how often each comes.
IMIX = ((60, 7), (566, 4), (1_514, 1))
LATENCY_RATE = 1_000


def address(number):
    """The address that is so many after the first client."""
    first = [int(part) for part in CLIENTS.split(".")]
    value = sum(part << shift for part, shift in zip(first, (24, 16, 8, 0))) + number
    return ".".join(str(value >> shift & 0xFF) for shift in (24, 16, 8, 0))


def flows(count):
    """What changes from packet to packet: source address, source port, and the IP checksum."""
    per_client = SOURCE_PORTS[1] - SOURCE_PORTS[0] + 1
    clients = max(count // per_client, 1)
    return STLScVmRaw(
        [
            STLVmTupleGen(
                name="flow",
                ip_min=CLIENTS,
                ip_max=address(clients - 1),
                port_min=SOURCE_PORTS[0],
                port_max=SOURCE_PORTS[1],
                limit_flows=clients * per_client,
            ),
            STLVmWrFlowVar(fv_name="flow.ip", pkt_offset="IP.src"),
            STLVmWrFlowVar(fv_name="flow.port", pkt_offset="UDP.sport"),
            # One translated address has some thousand ports for each destination.
            STLVmFlowVar(name="service", min_value=20_000, max_value=29_999, size=2, op="inc"),
            STLVmWrFlowVar(fv_name="service", pkt_offset="UDP.dport"),
            STLVmFixIpv4(offset="IP"),
        ]
    )


def packet(size, vm=None):
    """A UDP datagram in a frame of `size` bytes without check sequence."""
    base = Ether() / IP(src=CLIENTS, dst=SERVER) / UDP(sport=9_999, dport=19_999, chksum=0)
    return STLPktBuilder(pkt=base / ("x" * max(size - len(base), 0)), vm=vm)


class Stateless:
    """The profile, as TRex loads it."""

    def get_streams(self, direction=0, tunables=(), **_kwargs):
        """Streams of the client's port; the server's only receives."""
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--size", default="64", help="bytes with check sequence, or imix")
        parser.add_argument("--flows", type=int, default=100_000, help="about so many flows")
        args = parser.parse_args(tunables)
        if direction != 0:
            return []
        sizes = IMIX if args.size == "imix" else ((int(args.size) - 4, 1),)
        load = [
            STLStream(packet=packet(size, flows(args.flows)), mode=STLTXCont(pps=weight))
            for size, weight in sizes
        ]
        # Sixteen bytes of the payload are the stamp, so 64 bytes are just enough.
        latency = STLStream(
            packet=packet(max(sizes[0][0], 60)),
            mode=STLTXCont(pps=LATENCY_RATE),
            flow_stats=STLFlowLatencyStats(pg_id=1),
        )
        return [*load, latency]


def register():
    """What TRex calls."""
    return Stateless()
