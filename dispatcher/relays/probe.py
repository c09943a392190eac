"""Ask a relay for a transaction, and take it back: MAIL, RCPT, RSET. DATA is never sent, so no letter can leave.

The client is connected, secured and logged in by `smtp`; here it is used to its end (QUIT).
"""

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import aiosmtplib

from dispatcher.core.model import Reply, SessionInfo
from dispatcher.core.probe import Probe, Trial
from dispatcher.relays.commands import check_path
from dispatcher.relays.session import Timeouts
from dispatcher.relays.trouble import MAPPED

HASTY: Final = Timeouts(greeting=60, ehlo=60, auth=60, mail=60, rcpt=60)
"""Somebody waits for the answer: less than a run gives a relay, and more than a healthy one needs."""
_TRIPS: Final = 3


@dataclass(frozen=True, slots=True)
class _Asked:
    mail: Reply | None = None
    rcpt: Reply | None = None


async def try_out(client: aiosmtplib.SMTP, info: SessionInfo, trial: Trial, timeouts: Timeouts) -> Probe:
    """Measure, ask, take back, quit. Never raises for what the relay does; ValueError for a path that is none."""
    for path in (trial.return_path, trial.oneself):
        check_path(path)
    until = _certificate_until(client)
    round_trip = await _round_trip(client, timeouts.rset)
    asked = await _ask(client, info, trial, timeouts)
    with suppress(*MAPPED):
        await client.quit(timeout=timeouts.quit)
    return Probe(info, until, asked.mail, asked.rcpt, round_trip)


async def _ask(client: aiosmtplib.SMTP, info: SessionInfo, trial: Trial, timeouts: Timeouts) -> _Asked:
    mail = await _say(client, timeouts.mail, b"MAIL", f"FROM:<{trial.return_path}>".encode(), *_options(info, trial))
    rcpt = None
    if mail and mail.code // 100 == 2:
        rcpt = await _say(client, timeouts.rcpt, b"RCPT", f"TO:<{trial.oneself}>".encode())
        await _say(client, timeouts.rset, b"RSET")
    return _Asked(mail, rcpt)


def _options(info: SessionInfo, trial: Trial) -> list[bytes]:
    """The size, so that a relay that has no room for it says so now (RFC 1870 §6); and RFC 6531 if need be."""
    fits = "SIZE" in info.features and trial.size <= (info.size or trial.size)
    beyond_ascii = not (trial.return_path + trial.oneself).isascii() and "SMTPUTF8" in info.features
    return [option for wanted, option in ((fits, f"SIZE={trial.size}".encode()), (beyond_ascii, b"SMTPUTF8")) if wanted]


async def _say(client: aiosmtplib.SMTP, seconds: float, *words: bytes) -> Reply | None:
    """The reply to one command; None if there is none any more."""
    try:
        answer = await client.execute_command(*words, timeout=seconds)
    except aiosmtplib.SMTPResponseException as error:
        return Reply(error.code, error.message)
    except MAPPED:
        return None
    return Reply(answer.code, answer.message)


async def _round_trip(client: aiosmtplib.SMTP, seconds: float) -> float | None:
    loop, trips = asyncio.get_running_loop(), []
    for _ in range(_TRIPS):
        begun = loop.time()
        if await _say(client, seconds, b"NOOP") is None:
            break
        trips.append(loop.time() - begun)
    return min(trips, default=None)


def _certificate_until(client: aiosmtplib.SMTP) -> datetime | None:
    transport = client.protocol.transport if client.protocol else None
    tls = transport.get_extra_info("ssl_object") if transport else None
    until = (tls.getpeercert() or {}).get("notAfter") if tls else None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(until)), UTC) if until else None
