"""A name server, authoritative for the zones it is given, over UDP and TCP on the loopback interface.

    with NameServer({"orchard.example": "@ MX 10 mail\\nmail A 192.0.2.25"}) as server:
        ... ask server.address ...
    server.asked      every question, in order

Messages and zones are dnspython's; what answers is a socket of our own, so that it can misbehave as name servers do.
`odd` says so by name: SILENT, SERVFAIL, REFUSED, LAME (it knows of another server that should know), GARBAGE (octets
that are no message), FOREIGN (the answer to another question), LARGE (too long for UDP: truncated there, whole over
TCP), DEAF (the same, and TCP is not answered), LATE (the first question is not answered, the next one is).
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from enum import Enum
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

SOA = "@ 3600 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 3600 IN NS ns\n"


class Odd(Enum):
    """How a name is answered."""

    SILENT = "silent"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    LAME = "lame"
    GARBAGE = "garbage"
    FOREIGN = "foreign"
    LARGE = "large"
    DEAF = "deaf"
    LATE = "late"


class NameServer:
    """Serves while it is entered. Zones are lines of a zone file, without SOA and NS."""

    def __init__(self, zones: Mapping[str, str], odd: Mapping[str, Odd] | None = None) -> None:
        self._zones = {
            dns.name.from_text(origin): dns.zone.from_text(
                f"$TTL 3600\n{SOA}ns A 192.0.2.53\n{text}\n", origin=origin, relativize=False
            )
            for origin, text in zones.items()
        }
        self._odd = odd or {}
        self.asked: list[tuple[str, str]] = []
        self._udp, self._tcp = _sockets()
        self.port: int = self._udp.getsockname()[1]
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._serve_udp, self._serve_tcp)]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)
        self._tcp.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            waking.sendto(b"", ("127.0.0.1", self.port))
        for thread in self._threads:
            thread.join(10)
        self._udp.close()

    def _serve_udp(self) -> None:
        while True:
            octets, peer = self._udp.recvfrom(4096)
            if not octets:
                return
            for answer in self._answers(octets, by_tcp=False):
                self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error):
                connection.settimeout(10)
                (size,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
                for answer in self._answers(connection.recv(size, socket.MSG_WAITALL), by_tcp=True):
                    connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answers(self, octets: bytes, *, by_tcp: bool) -> Iterator[bytes]:
        question = dns.message.from_wire(octets)
        (asked,) = question.question
        name, kind = asked.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(asked.rdtype)
        again = (name, kind) in self.asked
        self.asked.append((name, kind))
        odd = self._odd.get(name)
        if odd is Odd.SILENT or (odd is Odd.DEAF and by_tcp) or (odd is Odd.LATE and not again):
            return
        if odd is Odd.GARBAGE:
            yield octets[:2] + b"\xff" * 40
            return
        response = dns.message.make_response(question)
        if odd in (Odd.SERVFAIL, Odd.REFUSED):
            response.set_rcode(dns.rcode.from_text(odd.name))
        elif odd is Odd.LAME:
            response.authority.append(dns.rrset.from_text(asked.name.parent(), 60, "IN", "NS", "ns.elsewhere.example."))
        elif odd in (Odd.LARGE, Odd.DEAF) and not by_tcp:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, asked.name, asked.rdtype)
        if odd is Odd.FOREIGN:
            response.question = [dns.rrset.RRset(dns.name.from_text("other.example."), asked.rdclass, asked.rdtype)]
        yield response.to_wire(max_size=65535)

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        """The records there are, along a chain of CNAMEs."""
        for _ in range(8):
            zone = next((self._zones[origin] for origin in self._zones if name.is_subdomain(origin)), None)
            if zone is None:
                response.set_rcode(dns.rcode.REFUSED)
                return
            response.flags |= dns.flags.AA
            if not any(each.is_subdomain(name) for each in zone.nodes):
                response.set_rcode(dns.rcode.NXDOMAIN)
                return
            found = zone.get_rrset(name, kind)
            if found is not None:
                response.answer.append(found)
                return
            alias = zone.get_rrset(name, dns.rdatatype.CNAME)
            if alias is None:
                return
            response.answer.append(alias)
            name = next(iter(alias)).target


def _sockets() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP on one port: whoever has only one of them gets another one."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
        else:
            return udp, tcp
