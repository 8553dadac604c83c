"""Stateful load through the gateway: TCP connections and UDP exchanges between real stacks.

    start -f perf/pktgen/trex/astf.py -m 100000 -d 60 -t --mix connections

Three mixes. `connections`: TCP connections that open, exchange 64 bytes each way and close: new
sessions per second. `transfers`: 1 MB downloads, for throughput. `keep`: connections that stay open and
say something every second, for a failover: resets and retransmissions are what to read.
"""

import argparse

from trex.astf.api import (
    ASTFAssociationRule,
    ASTFIPGen,
    ASTFIPGenDist,
    ASTFIPGenGlobal,
    ASTFProfile,
    ASTFProgram,
    ASTFTCPClientTemplate,
    ASTFTCPServerTemplate,
    ASTFTemplate,
)

# Behind the client's and the server's port; the gateway routes them there (README.md).
CLIENTS = ["16.0.0.1", "16.0.255.254"]
SERVERS = ["48.0.0.1", "48.0.15.254"]
MESSAGE = b"x" * 64
CHUNK = b"x" * 65_536
SECOND = 1_000_000  # in the microseconds of ASTFProgram.delay


def exchange(client, server):
    """One message each way."""
    client.send(MESSAGE)
    server.recv(len(MESSAGE))
    server.send(MESSAGE)
    client.recv(len(MESSAGE))


def connections():
    """Open, one exchange, close."""
    client, server = ASTFProgram(), ASTFProgram()
    exchange(client, server)
    return client, server, 80


def transfers():
    """The client asks, the server sends sixteen chunks."""
    client, server = ASTFProgram(), ASTFProgram()
    client.send(MESSAGE)
    client.recv(16 * len(CHUNK))
    server.recv(len(MESSAGE))
    for _ in range(16):
        server.send(CHUNK)
    return client, server, 8_080


def keep():
    """An exchange a second for two minutes on one connection."""
    client, server = ASTFProgram(), ASTFProgram()
    for _ in range(120):
        exchange(client, server)
        client.delay(SECOND)
    return client, server, 7


MIXES = {"connections": connections, "transfers": transfers, "keep": keep}


class Stateful:
    """The profile, as TRex loads it."""

    def get_profile(self, tunables=(), **_kwargs):
        """One template; `-m` of the start command multiplies its rate of one connection a second."""
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--mix", choices=sorted(MIXES), default="connections")
        args = parser.parse_args(tunables)
        client, server, port = MIXES[args.mix]()
        addresses = ASTFIPGen(
            glob=ASTFIPGenGlobal(ip_offset="0.0.0.0"),
            dist_client=ASTFIPGenDist(ip_range=CLIENTS, distribution="seq"),
            dist_server=ASTFIPGenDist(ip_range=SERVERS, distribution="rand"),
        )
        template = ASTFTemplate(
            client_template=ASTFTCPClientTemplate(
                program=client, ip_gen=addresses, port=port, cps=1
            ),
            server_template=ASTFTCPServerTemplate(
                program=server, assoc=ASTFAssociationRule(port=port)
            ),
        )
        return ASTFProfile(default_ip_gen=addresses, templates=template)


def register():
    """What TRex calls."""
    return Stateful()
