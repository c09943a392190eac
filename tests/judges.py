"""Four independent judges of DKIM signatures: dkimpy, the npm package mailauth, Mail::DKIM in Perl, and opendkim.

Each is given messages, and the records of the keys by name; it says for each message which selectors' signatures are
good. RSA all four know; Ed25519 all but Debian's Mail::DKIM. None asks any DNS but what is on this machine.
"""

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dkim  # type: ignore[import-untyped]
import pytest

from tests.readers import NPM, SECONDS
from tests.servers import require
from tests.servers.names import NameServer

Verdicts = list[set[str]]
"""For each message, the selectors whose signatures are good."""
_HERE = Path(__file__).parent
_GOOD = re.compile(r"(?m)^opendkim: (\d+\.eml): verification \(s=.*succeeded$")
_SELECTOR = re.compile(rb"^DKIM-Signature:(?:[^\r]|\r\n[ \t])*?\bs=([^;]+);", re.MULTILINE)


def by_dkimpy(messages: Sequence[bytes], records: Mapping[str, str]) -> Verdicts:
    """Ed25519 by PyNaCl, which dkimpy's extra brings."""

    def dnsfunc(name: bytes, timeout: int = 5) -> bytes | None:
        record = records.get(name.decode().rstrip("."))
        return record.encode() if record else None

    found: Verdicts = []
    for octets in messages:
        selectors = [selector.decode() for selector in _SELECTOR.findall(octets)]
        judge = dkim.DKIM(octets)
        found.append({each for number, each in enumerate(selectors) if _verified(judge, number, dnsfunc)})
    return found


def _verified(judge: dkim.DKIM, number: int, dnsfunc: Callable[..., bytes | None]) -> bool:
    try:
        return bool(judge.verify(number, dnsfunc))
    except dkim.DKIMException:  # another body than was signed
        return False


def by_mailauth(messages: Sequence[bytes], records: Mapping[str, str]) -> Verdicts:
    node = require("node", "apt-get install nodejs npm")
    if not (NPM / "node_modules/mailauth").is_dir():
        pytest.skip("the npm package mailauth is missing; install it: make npm")
    lines = _lines([node, str(NPM / "dkim.js"), json.dumps(records)], messages)
    return [{selector for selector, result in json.loads(line) if result == "pass"} for line in lines]


def by_perl(messages: Sequence[bytes], records: Mapping[str, str]) -> Verdicts:
    """Debian's Mail::DKIM knows RSA alone."""
    perl = require("perl", "apt-get install perl libmail-dkim-perl")
    if subprocess.run([perl, "-MMail::DKIM", "-e", "1"], capture_output=True, check=False).returncode:
        pytest.skip("Perl's Mail::DKIM is missing; install it: apt-get install libmail-dkim-perl")
    domains = {name.partition("._domainkey.")[2] for name in records}
    zones = {
        domain: "\n".join(
            f"{name}. TXT {strings(record)}" for name, record in records.items() if name.endswith(f".{domain}")
        )
        for domain in domains
    }
    with NameServer(zones) as server:
        lines = _lines([perl, str(_HERE / "dkim.pl"), str(server.port)], messages)
    pairs = [[each.split("=", 1) for each in line.split()] for line in lines]
    return [{selector for selector, result in found if result == "pass"} for found in pairs]


def by_opendkim(messages: Sequence[bytes], records: Mapping[str, str], folder: Path) -> list[bool]:
    """It says of a message whether it is good: its first signature that is."""
    opendkim = require("opendkim", "apt-get install opendkim")
    keys, settings = folder / "keys", folder / "opendkim.conf"
    keys.write_text("".join(f"{name} {record}\n" for name, record in records.items()))
    settings.write_text(f"TestPublicKeys {keys}\nMode v\n")
    for number, octets in enumerate(messages):
        (folder / f"{number}.eml").write_bytes(octets.replace(b"\r\n", b"\n"))  # as on disk; it verifies with CRLF
    names = [f"{number}.eml" for number in range(len(messages))]
    argv, environment = [opendkim, "-x", str(settings), "-t", ",".join(names)], {"PATH": os.defpath}
    done = subprocess.run(argv, cwd=folder, capture_output=True, timeout=SECONDS, check=False, env=environment)
    good = set(_GOOD.findall(done.stdout.decode()))
    return [name in good for name in names]


def strings(record: str) -> str:
    """A long text as a zone file has it."""
    return " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255))


def _lines(argv: Sequence[str], messages: Sequence[bytes]) -> list[str]:
    given = b"".join(base64.b64encode(octets) + b"\n" for octets in messages)
    done = subprocess.run(argv, input=given, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")[:-1]
    assert len(lines) == len(messages)
    return lines
