"""mailmerge's server file → [relay] and [pace]. A password is never read, wherever it stands. Raises UsageError."""

import configparser
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dispatcher.core.errors import Place, Problem, UsageError
from dispatcher.core.profile import Profile
from dispatcher.sources.mailmerge.message import read_text

_SECTION: Final = "smtp_server"
_KNOWN: Final = frozenset({"host", "port", "security", "username", "ratelimit"})
_SECURITY: Final = {"SSL/TLS": "tls", "STARTTLS": "starttls", "XOAUTH": "starttls", "PLAIN": "", "Never": "", "": ""}
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_LINE: Final = re.compile(r"line:?\s+(\d+)|\[line\s+(\d+)\]")


@dataclass(frozen=True, slots=True)
class Server:
    """What becomes of a server file: the keys of [relay], the rate for [pace] or '', and what to look at."""

    relay: Mapping[str, str | int | Mapping[str, str]]
    rate: str
    notes: Sequence[Problem]


def no_server() -> Server:
    """A relay that is still to be named."""
    todo = "put your provider's host, user and the like under [relay] in campaign.toml; docs/guide.md has a table"
    return Server({"host": "127.0.0.1", "port": 587}, "", [Problem("no server file was given", todo=todo)])


def read_server(path: Path, profiles: Mapping[str, Profile]) -> Server:
    """Read a server file; `profiles` are the mail services that are known by their host."""
    text, shown = read_text(path), str(path)
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text, shown)
        given = dict(parser[_SECTION])
    except KeyError:
        raise UsageError(Problem(f"there is no [{_SECTION}] in it", Place(shown, 1), "name another file")) from None
    except configparser.Error as error:
        found = _LINE.search(str(error))
        line = int(found[1] or found[2]) if found else None
        what = str(error).splitlines()[0].replace("<string>", shown)
        raise UsageError(Problem(what, Place(shown, line), "mend that line")) from None
    return _Reading(shown, text, given).server(profiles)


@dataclass(frozen=True, slots=True)
class _Reading:
    file: str
    text: str
    given: Mapping[str, str]

    def place(self, name: str) -> Place:
        lines = self.text.split("\n")
        pattern = re.compile(rf"\s*{re.escape(name)}\s*[=:]", re.IGNORECASE)
        return Place(self.file, next((n for n, line in enumerate(lines, 1) if pattern.match(line)), 1))

    def wrong(self, what: str, name: str, todo: str) -> UsageError:
        return UsageError(Problem(what, self.place(name), todo))

    def number(self, name: str, default: str) -> int:
        text = self.given.get(name, default)
        if not text.isascii() or not text.isdigit():
            raise self.wrong(f"{name} is {text!r}, which is no number", name, "write the number alone")
        return int(text)

    def server(self, profiles: Mapping[str, Profile]) -> Server:
        host = self.given.get("host", "")
        if not host:
            raise self.wrong("there is no host", "host", f"add host = … under [{_SECTION}]")
        said = self.given.get("security", "")
        if said not in _SECURITY:
            known = ", ".join(filter(None, _SECURITY))
            raise self.wrong(f"security is {said!r}, which mailmerge does not know", "security", f"it knows {known}")
        notes: list[Problem] = []
        relay: dict[str, str | int | Mapping[str, str]] = {}
        named = [name for name, profile in profiles.items() if profile.host == host.lower()]
        if named:
            relay["profile"] = named[0]
            others = f" (or {' or '.join(named[1:])})" if named[1:] else ""
            todo = "dispatcher check shows the limits that hold; look whether it is the right one"
            notes.append(Problem(f'{host} is known: profile = "{named[0]}"{others}', self.place("host"), todo))
        relay["host"] = host
        relay["port"] = self.number("port", "25")
        relay["security"] = self._security(host, said, notes)
        if said not in ("", "Never"):
            self._login(said, relay, notes)
        self._others(notes)
        rate = self.number("ratelimit", "0")
        return Server(relay, f"{rate}/min" if rate else "", notes)

    def _security(self, host: str, said: str, notes: list[Problem]) -> str:
        if security := _SECURITY[said]:
            return security
        if said != "PLAIN" and host.lower() in _LOOPBACK:
            return "none"
        what = f"mailmerge spoke to {host} in clear; here it is STARTTLS, and nothing leaves without it"
        todo = 'ask whoever runs the server for a port with TLS: security = "starttls" or "tls" under [relay]'
        notes.append(Problem(what, self.place("security" if said else "host"), todo))
        return "starttls"

    def _login(self, said: str, relay: dict[str, str | int | Mapping[str, str]], notes: list[Problem]) -> None:
        user = self.given.get("username", "")
        if not user:
            raise self.wrong(f"security = {said} needs a username", "security", "add username = …")
        relay["user"] = user
        relay["password"] = {"env": "DISPATCHER_PASSWORD"}
        if said == "XOAUTH":
            relay["auth"] = "xoauth2"
        secret = "access token" if said == "XOAUTH" else "password"
        todo = "dispatcher asks for it in the environment variable DISPATCHER_PASSWORD; see [relay] in campaign.toml"
        notes.append(Problem(f"the {secret} of {user} is not carried over", self.place("username"), todo))
        if user == "YOUR_USERNAME_HERE":
            notes.append(Problem("username is still mailmerge's example", self.place("username"), "put in yours: user"))

    def _others(self, notes: list[Problem]) -> None:
        for name in sorted(self.given.keys() - _KNOWN):
            what, todo = f"{name} has no counterpart", "see [relay] and [pace] in docs/guide.md"
            if "pass" in name or "secret" in name or "token" in name:
                what = f"{name} is a secret, and is not carried over"
                todo = "take it out of that file, and put it into the environment variable DISPATCHER_PASSWORD"
            notes.append(Problem(what, self.place(name), todo))
