"""MTA-STS (RFC 8461): whether servers that bring mail to a domain are told to insist on TLS, and where mail may go.

It is about answers and bounces, not about what we send; so nothing here is a problem. The record in the DNS only says
that there is a policy; the policy is a file of a web server, which is fetched by whoever is asked to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dispatcher.core.dns import tags
from dispatcher.core.preflight import Line, Part, ok, warning

PATH: Final = "/.well-known/mta-sts.txt"
LARGEST: Final = 64_000
"""Octets of a policy (§3.3)."""
_RECORD: Final = re.compile(r"v=STSv1[ \t]*;")
_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_FIELD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_LONGEST: Final = 31_557_600
"""Seconds in max_age: a year (§3.2)."""
_ABOUT: Final = "it is about mail to you, not these letters"
_AGREE: Final = "write it as RFC 8461 has it, or take the record away: what is wrong counts for nothing"


class StsError(ValueError):
    """The policy is wrong; the text says how."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain asks of servers that bring it mail: "enforce", "testing" or "none", and its MX hosts."""

    mode: str
    max_age: int
    mx: tuple[str, ...] = ()

    def names(self, host: str) -> bool:
        """Whether mail may go to this host; a * stands for one label (§4.1)."""
        return host in self.mx or f"*.{host.partition('.')[2]}" in self.mx


@dataclass(frozen=True, slots=True)
class Fetched:
    """A web server's answer. `fault` says for sure why there is no file, `unknown` why nobody can tell."""

    text: str = ""
    kind: str = ""
    fault: str = ""
    unknown: str = ""


def parse(text: str) -> Policy:
    """A policy (§3.2). Raises StsError."""
    said: dict[str, str] = {}
    hosts = []
    for number, line in enumerate(text.split("\n"), 1):
        name, colon, value = line.removesuffix("\r").partition(":")
        if not (name or colon):
            continue
        if not colon or not _FIELD.fullmatch(name):
            raise StsError(f"line {number} is no field: {line[:60]!r}")
        value = value.strip(" \t")
        if name == "mx":
            if not _HOST.fullmatch(value):
                raise StsError(f"line {number} names no host: {value[:60]!r}")
            hosts.append(value.lower())
        said.setdefault(name, value)
    return _policy(said, tuple(hosts))


def _policy(said: dict[str, str], hosts: tuple[str, ...]) -> Policy:
    version, mode, age = (said.get(name, "") for name in ("version", "mode", "max_age"))
    if version != "STSv1":
        raise StsError(f"version: is {version!r}, and must be STSv1")
    if mode not in ("enforce", "testing", "none"):
        raise StsError(f"mode: is {mode!r}, and must be enforce, testing or none")
    if not re.fullmatch(r"[0-9]{1,10}", age) or int(age) > _LONGEST:
        raise StsError(f"max_age: is {age!r}, and must be seconds, {_LONGEST} at most")
    if mode != "none" and not hosts:
        raise StsError("it names no mx:")
    return Policy(mode, int(age), hosts)


def has_policy(records: Sequence[str]) -> bool:
    """Whether the DNS says that there is a policy (§3.1); of two records none counts."""
    found = [record for record in records if _RECORD.match(record)]
    return len(found) == 1 and bool(_ID.fullmatch(tags(found[0]).get("id", "")))


def sts_line(records: Sequence[str], hosts: Sequence[str], fetched: Fetched | None) -> Line:
    """How it stands; `hosts` are the domain's MX hosts, () if unknown; `fetched` the policy, if it was asked for."""
    found = [record for record in records if record.startswith("v=STSv1")]
    if not found:
        return ok(Part.SENDER, "MTA-STS", f"none; {_ABOUT}")
    if not has_policy(records):
        what = f"{len(found)} records" if len(found) > 1 else f"no record by the rules: {found[0]}"
        return warning(Part.SENDER, "MTA-STS", what, _AGREE)
    if fetched is None:
        return ok(Part.SENDER, "MTA-STS", f"{found[0]}; {_ABOUT}")
    return _of_policy(hosts, fetched)


def _of_policy(hosts: Sequence[str], fetched: Fetched) -> Line:
    subject = "MTA-STS"
    if fetched.unknown:
        todo = "try again; if it stays so, ask whoever runs the web server"
        return warning(Part.SENDER, subject, f"unknown: {fetched.unknown}", todo)
    if fetched.fault:
        todo = "put the file there, or take the record away: without it the record says nothing"
        return warning(Part.SENDER, subject, f"there is no policy: {fetched.fault}", todo)
    try:
        policy = parse(fetched.text)
    except StsError as error:
        return warning(Part.SENDER, subject, f"the policy is wrong: {error}", _AGREE)
    shown = f"policy: {policy.mode}, kept for {policy.max_age:,} s"
    missing = [host for host in hosts if not policy.names(host)] if policy.mode != "none" else []
    if missing:
        todo = "add a line mx: for it, and change id= in the record: careful servers bring no mail to other hosts"
        return warning(Part.SENDER, subject, f"{shown}; it does not name {', '.join(missing)}", todo)
    if fetched.kind != "text/plain":
        todo = "have the web server give it as text/plain: some servers take nothing else"
        return warning(Part.SENDER, subject, f"{shown}; it comes as {fetched.kind or 'nothing in particular'}", todo)
    every = "" if policy.mode == "none" else "; it names every MX host" if hosts else "; the MX hosts are unknown"
    return ok(Part.SENDER, subject, f"{shown}{every}; {_ABOUT}")
