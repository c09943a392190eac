"""One file of a web server (RFC 8615), by HTTPS, asked of addresses that our resolver gave; no redirect is followed.

Only what the server says for sure is a fault: that there is no such file, or a certificate that is not good. All else,
such as no answer in time, is unknown.
"""

import asyncio
import io
import ssl
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from typing import Any, Final

from dispatcher.core.sts import LARGEST, Fetched

SECONDS: Final = 10.0
"""For one address, all in all."""
_TRIED: Final = 4
_HEAD: Final = 16_000


async def fetched(
    host: str,
    path: str,
    addresses: Sequence[str],
    *,
    seconds: float = SECONDS,
    port: int = 443,
    context: ssl.SSLContext | None = None,
) -> Fetched:
    """The file, from the first address that answers."""
    found = Fetched(fault=f"{host} has no address")
    for address in addresses[:_TRIED]:
        try:
            async with asyncio.timeout(seconds):
                return _read(await _asked(host, path, (address, port), context or ssl.create_default_context()))
        except ssl.SSLCertVerificationError as error:
            return Fetched(fault=f"the certificate of {host} is not good: {error.verify_message}")
        except TimeoutError:
            found = Fetched(unknown=f"{host} does not answer within {seconds:g} s")
        except OSError as error:
            found = Fetched(unknown=f"{host}: {error.strerror or error}")
    return found


async def _asked(host: str, path: str, where: tuple[str, int], context: ssl.SSLContext) -> bytes:
    """All that comes until the server ends, or more than anybody could want."""
    reader, writer = await asyncio.open_connection(*where, ssl=context, server_hostname=host)
    try:
        words = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: dispatcher\r\nConnection: close\r\n\r\n"
        writer.write(words.encode())
        octets = b""
        while len(octets) <= LARGEST + _HEAD and (more := await reader.read(LARGEST)):
            octets += more
        return octets
    finally:
        writer.transport.abort()


class _Octets:
    """What the standard library's reader of responses takes for a socket."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        return io.BytesIO(self._octets)


def _read(octets: bytes) -> Fetched:
    large = Fetched(fault=f"the file has more than {LARGEST:,} octets")
    if len(octets) > LARGEST + _HEAD:
        return large
    response = HTTPResponse(_Octets(octets))  # type: ignore[arg-type]
    try:
        response.begin()
        if response.status != 200:
            gone = response.status < 500 and response.status != 429
            said = f"the web server says {response.status}"
            return Fetched(fault=said) if gone else Fetched(unknown=said)
        text = response.read()  # with a number, it would not notice an end before its time
    except (HTTPException, ValueError):
        return Fetched(unknown="the web server's answer cannot be read")
    if len(text) > LARGEST:
        return large
    return Fetched(text.decode("utf-8", "replace"), response.headers.get_content_type().lower())
