"""SPF (RFC 7208): whether a domain lets an address send for it, and how many look-ups its record costs.

Whoever receives a letter stops after ten look-ups, and then the record is as good as none (§4.6.4). They are counted
twice here: as far as the evaluation for one address goes, and over the whole record.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from dispatcher.core.dns import Answer, Inquiry, ask

LOOKUPS: Final = 10
VOID_LOOKUPS: Final = 2
_MOST: Final = 40
"""Where the count of a record without an end is given up."""
_NAMES: Final = 10
"""MX or PTR names of one term (§4.6.4)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Result(StrEnum):
    """What a check comes to (§2.6)."""

    PASS = "pass"  # noqa: S105 (nothing secret)
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


_QUALIFIERS: Final = {"+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}
_TERM: Final = re.compile(r"([+\-~?]?)([A-Za-z][A-Za-z0-9_.-]*)(?:([:=/])(.*))?\Z", re.DOTALL)
_MACRO: Final = re.compile(r"%(?:\{([slodiphcrtvSLODIPHCRTV])(\d*)([rR]?)([.+,/_=-]*)\}|([%_-]))")
_CIDR: Final = re.compile(r"(?:/(\d{1,3}))?(?://(\d{1,3}))?\Z")
_ASKING: Final = frozenset({"a", "mx", "ptr", "exists", "include", "redirect"})
"""Terms that cost a look-up."""


class SpfError(ValueError):
    """The record is wrong; the text says how."""


@dataclass(frozen=True, slots=True)
class Term:
    """A mechanism, or the modifier `redirect`. `value` is what stands behind its colon, without the prefix lengths."""

    qualifier: str
    name: str
    value: str = ""
    four: int = 32
    six: int = 128


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check for one address came to, which term said so, and the look-ups it took."""

    result: Result
    why: str
    lookups: int


@dataclass(slots=True)
class Cost:
    """A whole record: its text, its look-ups, the names it takes in, and what is wrong with it ('' if nothing)."""

    record: str = ""
    lookups: int = 0
    taken_in: list[str] = field(default_factory=list)
    fault: str = ""
    unknown: str = ""
    ends_in: str = ""


def is_spf(record: str) -> bool:
    """Whether a TXT record is one of SPF's (§4.5)."""
    return record.lower() == "v=spf1" or record.lower().startswith("v=spf1 ")


def parse(record: str) -> list[Term]:
    """The terms of a record (§4.6); `redirect` comes last, and not at all beside an `all`. Raises SpfError."""
    terms: list[Term] = []
    redirect: list[Term] = []
    for word in record.split(" ")[1:]:
        if not word:
            continue
        found = _TERM.match(word)
        if not found:
            raise SpfError(f"{word!r} is no term")
        qualifier, name, mark, value = found[1], found[2].lower(), found[3] or "", found[4] or ""
        if mark == "=":
            if qualifier:
                raise SpfError(f"{word!r} is no modifier")
            redirect += [Term("", "redirect", _name(word, value))] if name == "redirect" else []
        else:
            terms.append(_mechanism(word, qualifier or "+", name, mark + value))
    if len(redirect) > 1:
        raise SpfError("redirect stands there twice")
    return terms if any(term.name == "all" for term in terms) else terms + redirect


def _mechanism(word: str, qualifier: str, name: str, rest: str) -> Term:
    if name == "all":
        if rest:
            raise SpfError(f"{word!r}: nothing may follow all")
        return Term(qualifier, name)
    if name in ("ip4", "ip6"):
        return _network(word, qualifier, name, rest)
    if name in ("include", "exists"):
        return Term(qualifier, name, _name(word, rest.removeprefix(":") if rest[:1] == ":" else ""))
    if name in ("a", "mx"):
        return _hosts(word, qualifier, name, rest)
    if name == "ptr":
        return Term(qualifier, name, _name(word, rest[1:]) if rest else "")
    raise SpfError(f"there is no mechanism {name!r}")


def _name(word: str, value: str) -> str:
    if not value or re.search(r"%(?!\{[a-zA-Z]\d*[rR]?[.+,/_=-]*\}|[%_-])", value) or not value.isascii():
        raise SpfError(f"{word!r} names no domain")
    return value


def _network(word: str, qualifier: str, name: str, rest: str) -> Term:
    try:
        network = ipaddress.ip_network(rest.removeprefix(":"), strict=False)
    except ValueError:
        raise SpfError(f"{word!r} names no network") from None
    if network.version != int(name[2]) or rest[:1] != ":":
        raise SpfError(f"{word!r} names no network")
    return Term(qualifier, name, str(network))


def _hosts(word: str, qualifier: str, name: str, rest: str) -> Term:
    lengths = _CIDR.search(rest)
    assert lengths  # noqa: S101 (it matches the empty text)
    four, six = int(lengths[1] or 32), int(lengths[2] or 128)
    value = rest[: lengths.start()]
    if four > 32 or six > 128 or (value and value[0] != ":"):
        raise SpfError(f"{word!r} has a prefix that is none")
    return Term(qualifier, name, _name(word, value[1:]) if value else "", four, six)


# The check for one address.


class _Stop(Exception):
    """No more can be said than this."""

    def __init__(self, result: Result, why: str) -> None:
        self.result = result
        self.why = why
        super().__init__(why)


class _Check:
    def __init__(self, address: Address, sender: str, helo: str) -> None:
        self._address = address
        self._sender = sender
        self._helo = helo
        self.lookups = 0
        self._void = 0

    def host(self, domain: str) -> Inquiry[tuple[Result, str]]:
        """check_host() of §4."""
        record = yield from _record(domain)
        if record is None:
            return Result.NONE, f"{domain} publishes no SPF record"
        for term in _terms(domain, record):
            self._count(term)
            if term.name == "redirect":
                target = self._expanded(term.value, domain)
                result, why = yield from self.host(target)
                if result is Result.NONE:
                    raise _Stop(Result.PERMERROR, f"{domain} is redirected to {target}, which publishes no SPF record")
                return result, why
            if (yield from self._matches(term, domain)):
                return _QUALIFIERS[term.qualifier], f"{_shown(term)} of {domain}"
        return Result.NEUTRAL, f"nothing in {domain} names the address"

    def _count(self, term: Term) -> None:
        if term.name in _ASKING:
            self.lookups += 1
            if self.lookups > LOOKUPS:
                raise _Stop(Result.PERMERROR, f"more than {LOOKUPS} look-ups are wanted, and receivers stop there")

    def _matches(self, term: Term, domain: str) -> Inquiry[bool]:
        if term.name in ("ip4", "ip6", "all"):
            return term.name == "all" or self._address in ipaddress.ip_network(term.value)
        target = self._expanded(term.value, domain) if term.value else domain
        if term.name == "include":
            return (yield from self._included(target, domain))
        if term.name == "exists":
            return bool((yield from self._asked(target, "A")).records)
        find = {"a": self._at, "mx": self._at_mx, "ptr": self._reversed}[term.name]
        return (yield from find(target, term))

    def _included(self, target: str, domain: str) -> Inquiry[bool]:
        result, _ = yield from self.host(target)
        if result is Result.NONE:
            raise _Stop(Result.PERMERROR, f"{domain} includes {target}, which publishes no SPF record")
        return result is Result.PASS

    def _at(self, name: str, term: Term) -> Inquiry[bool]:
        found = yield from self._asked(name, "A" if self._address.version == 4 else "AAAA")
        return self._among(found, term)

    def _among(self, found: Answer, term: Term) -> bool:
        length = term.four if self._address.version == 4 else term.six
        return any(self._address in ipaddress.ip_network(f"{each}/{length}", strict=False) for each in found.records)

    def _at_mx(self, name: str, term: Term) -> Inquiry[bool]:
        found = yield from self._asked(name, "MX")
        hosts = [record.split(" ")[1] for record in found.records]
        if len(hosts) > _NAMES:
            raise _Stop(Result.PERMERROR, f"{name} has more than {_NAMES} MX hosts")
        for host in hosts:
            answer = yield from ask(host, "A" if self._address.version == 4 else "AAAA")
            if self._among(_known(answer, host), term):
                return True
        return False

    def _reversed(self, target: str, _: Term) -> Inquiry[bool]:
        answer = yield from ask(self._address.reverse_pointer, "PTR")
        for name in answer.records[:_NAMES]:
            if name == target or name.endswith(f".{target}"):
                there = yield from ask(name, "A" if self._address.version == 4 else "AAAA")
                if str(self._address) in there.records:
                    return True
        return False

    def _asked(self, name: str, kind: str) -> Inquiry[Answer]:
        answer = yield from ask(name, kind)  # type: ignore[arg-type]
        if not _known(answer, name).records:
            self._void += 1
            if self._void > VOID_LOOKUPS:
                raise _Stop(Result.PERMERROR, f"more than {VOID_LOOKUPS} names in it do not exist; one is {name}")
        return answer

    def _expanded(self, text: str, domain: str) -> str:
        """A domain-spec with its macros filled in (§7)."""
        local, _, at = self._sender.rpartition("@")
        dotted = ".".join(self._address.exploded.replace(":", "")) if self._address.version == 6 else str(self._address)
        letters = {
            "s": self._sender, "l": local, "o": at, "d": domain, "i": dotted, "p": "unknown", "h": self._helo,
            "v": "in-addr" if self._address.version == 4 else "ip6", "c": str(self._address), "r": "unknown", "t": "0",
        }  # fmt: skip

        def fill(found: re.Match[str]) -> str:
            if found[5]:
                return {"%": "%", "_": " ", "-": "%20"}[found[5]]
            parts = re.split(f"[{re.escape(found[4] or '.')}]", letters[found[1].lower()])
            if found[3]:
                parts.reverse()
            return ".".join(parts[-int(found[2]) :] if found[2] and int(found[2]) else parts)

        return _MACRO.sub(fill, text)


def check(address: Address, sender: str, helo: str) -> Inquiry[Checked]:
    """Whether the domain of the address `sender` lets this IP address send for it."""
    state = _Check(address, sender, helo)
    try:
        result, why = yield from state.host(sender.rpartition("@")[2])
    except _Stop as stop:
        result, why = stop.result, stop.why
    return Checked(result, why, state.lookups)


def _record(domain: str) -> Inquiry[str | None]:
    """The one SPF record of a domain; None if there is none."""
    answer = yield from ask(domain, "TXT")
    found = [record for record in _known(answer, domain).records if is_spf(record)]
    if len(found) > 1:
        raise _Stop(Result.PERMERROR, f"{domain} publishes {len(found)} SPF records; there must be one")
    return found[0] if found else None


def _known(answer: Answer, name: str) -> Answer:
    if answer.unknown:
        raise _Stop(Result.TEMPERROR, f"unknown: {name}: {answer.unknown}")
    return answer


def _terms(domain: str, record: str) -> list[Term]:
    try:
        return parse(record)
    except SpfError as error:
        raise _Stop(Result.PERMERROR, f"the record of {domain} is wrong: {error}") from None


def _shown(term: Term) -> str:
    sign = "" if term.qualifier == "+" else term.qualifier
    return f"{sign}{term.name}{':' if term.value else ''}{term.value}"


# The whole record.


def cost(domain: str) -> Inquiry[Cost]:
    """What a record would take if nobody stopped: its look-ups, and the names it includes or is redirected to."""
    found = Cost()
    try:
        record = yield from _record(domain)
        if record is not None:
            found.record = record
            yield from _walk(domain, record, found, (domain,))
    except _Stop as stop:
        if stop.result is Result.TEMPERROR:
            found.unknown = stop.why.removeprefix("unknown: ")
        else:
            found.fault = stop.why
    return found


def _walk(domain: str, record: str, found: Cost, above: tuple[str, ...]) -> Inquiry[None]:
    terms = _terms(domain, record)
    if len(above) == 1:
        found.ends_in = next((_shown(term) for term in terms if term.name == "all"), "")
    for term in terms:
        found.lookups += term.name in _ASKING
        if found.lookups > _MOST:
            return
        if term.name not in ("include", "redirect") or "%" in term.value:
            continue
        target = term.value.lower().rstrip(".")
        found.taken_in.append(target)
        if target in above:
            raise _Stop(Result.PERMERROR, f"{domain} includes {target}, which includes it in turn")
        inner = yield from _record(target)
        if inner is None:
            raise _Stop(Result.PERMERROR, f"{domain} includes {target}, which publishes no SPF record")
        yield from _walk(target, inner, found, (*above, target))


def with_term(record: str, term: str) -> str:
    """The record with one more mechanism, before its last word about all others."""
    words = record.split() or ["v=spf1", "~all"]
    last = next((n for n, word in enumerate(words) if _is_last(word)), len(words))
    return " ".join([*words[:last], term, *words[last:]])


def _is_last(word: str) -> bool:
    return word.lower().lstrip("+-~?") == "all" or word.lower().startswith("redirect=")
