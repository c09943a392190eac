"""The recipients' domains: whether they take mail, are mistyped, want what the relay has not, get too much at once.

A letter that cannot arrive stops no other, so nothing here is a problem: it is a warning that names the recipients.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from dispatcher.core.bounds import words
from dispatcher.core.campaign import Pace
from dispatcher.core.posture import Mail
from dispatcher.core.preflight import Line, Part, ok, warning

COMMON: Final = words("""
    gmail.com googlemail.com yahoo.com yahoo.fr yahoo.es yahoo.de yahoo.it yahoo.co.uk ymail.com hotmail.com hotmail.fr
    hotmail.es hotmail.co.uk outlook.com outlook.fr outlook.es live.com live.fr msn.com icloud.com me.com mac.com
    aol.com gmx.com gmx.net gmx.de gmx.ch web.de t-online.de mail.com email.com mail.ru yandex.ru yandex.com proton.me
    protonmail.com orange.fr wanadoo.fr free.fr laposte.net sfr.fr bluewin.ch qq.com 163.com 126.com comcast.net
    verizon.net libero.it
""")
"""Where many people have their mail; what is one letter off is most likely meant to be it."""
NOBODY: Final = words("noreply no-reply no.reply no_reply donotreply do-not-reply do_not_reply nobody")
TECHNICAL: Final = words("abuse postmaster hostmaster webmaster mailer-daemon root spam security noc usenet ftp www")
"""Mailboxes for a server's own affairs (RFC 2142): letters there are reported sooner than read."""
MANY: Final = 100
"""Letters to one domain from which the pace matters to it."""
QUICK: Final = 60
"""Letters a minute that a domain which does not know the sender may find too many."""
_SHORTEST: Final = 5
_NAMED: Final = 5


@dataclass(slots=True)
class Reach:
    """Whom the letters go to, counted as they are read. Grows with the number of domains, not of letters."""

    letters: Counter[str] = field(default_factory=Counter)
    keys: dict[str, list[str]] = field(default_factory=dict)
    beyond_ascii: list[str] = field(default_factory=list)
    nobody: list[str] = field(default_factory=list)
    technical: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, key: str, mailboxes: Iterable[str]) -> None:
        """Note a letter and the identities it goes to."""
        self.count += 1
        domains = set()
        for identity in mailboxes:
            local, _, domain = identity.rpartition("@")
            domains.add(domain)
            plain = local.partition("+")[0]
            for found, holds in (
                (self.beyond_ascii, not local.isascii()),
                (self.nobody, plain in NOBODY),
                (self.technical, plain in TECHNICAL),
            ):
                if holds:
                    found.append(key)
        for domain in domains:
            self.letters[domain] += 1
            if len(first := self.keys.setdefault(domain, [])) < _NAMED:
                first.append(key)


def reach_lines(
    reach: Reach, found: Mapping[str, Mail], features: Mapping[str, str] | None, pace: Pace
) -> Iterator[Line]:
    """How it stands. `found` are the domains that were looked up; `features` what the relay offers, if it was met."""
    yield from _reachable(reach, found)
    yield from _mistyped(reach)
    yield from _mailboxes(reach, features)
    yield from _crowded(reach, pace)


def _line(subject: str, what: str, todo: str) -> Line:
    return warning(Part.RECIPIENTS, subject, what, todo)


def _reachable(reach: Reach, found: Mapping[str, Mail]) -> Iterator[Line]:
    if not found:
        yield ok(Part.RECIPIENTS, "domains", f"{_many(len(reach.letters), 'domain')}, examples all, and not looked up")
        return
    gone = [domain for domain, mail in found.items() if not mail.exists]
    null = [domain for domain, mail in found.items() if mail.null]
    dark = [domain for domain, mail in found.items() if mail.unknown]
    bare = [domain for domain, mail in found.items() if mail.exists and not (mail.takes or mail.null or mail.unknown)]
    good = len(found) - len(gone) - len(null) - len(dark) - len(bare)
    yield ok(Part.RECIPIENTS, "domains", f"{good:,} of {_many(len(found), 'domain')} take mail")
    mend = "correct the addresses, or leave these rows out: letters there come back"
    for what, domains, todo in (
        ("no such domain", gone, mend),
        ("takes no mail (null MX)", null, mend),
        ("has neither MX nor address", bare, mend),
        ("unknown: no answer about", dark, "try again; letters there may be delayed"),
    ):
        if domains:
            yield _line("domains", f"{what}: {_with_keys(reach, domains)}", todo)


def _with_keys(reach: Reach, domains: list[str]) -> str:
    """Domains with the recipients there: "gmial.com (FRA, DEU)"."""
    shown = [f"{domain} ({_some(reach.keys.get(domain, []), reach.letters[domain])})" for domain in domains[:_NAMED]]
    more = len(domains) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _some(keys: list[str], count: int) -> str:
    shown = keys[:_NAMED]
    return ", ".join(shown) + (f" and {count - len(shown):,} more" if count > len(shown) else "")


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


# Typing mistakes.


def _mistyped(reach: Reach) -> Iterator[Line]:
    often = {domain for domain, count in reach.letters.items() if count >= 2 * _NAMED}
    for domain, count in sorted(reach.letters.items()):
        meant = neighbour(domain, COMMON) or (neighbour(domain, often) if count < _NAMED else "")
        if meant:
            what = f"{domain} looks like {meant} mistyped: {_some(reach.keys[domain], count)}"
            yield _line("typing", what, "correct the addresses, if so")


def neighbour(domain: str, known: Iterable[str]) -> str:
    """The known domain that is one slip of a finger away (a letter more, less or another, two exchanged), or ''."""
    if domain in COMMON or domain in known:
        return ""
    near = (name for name in known if len(name.partition(".")[0]) >= _SHORTEST and _one_slip(domain, name))
    return min(near, default="")


def _one_slip(first: str, second: str) -> bool:
    if abs(len(first) - len(second)) > 1 or first == second:
        return False
    at = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
    one, two = first[at:], second[at:]
    return one[1:] == two[1:] or one[1:] == two or one == two[1:] or (one[:2] == two[1::-1] and one[2:] == two[2:])


# Mailboxes.


def _mailboxes(reach: Reach, features: Mapping[str, str] | None) -> Iterator[Line]:
    if reach.nobody:
        what = f"nobody reads there: {_some(reach.nobody, len(reach.nobody))}"
        yield _line("mailboxes", what, "find the address of somebody who does")
    if reach.technical:
        what = f"for a server's own affairs: {_some(reach.technical, len(reach.technical))}"
        yield _line("mailboxes", what, "find the address of whom you mean: letters there are reported sooner than read")
    yield from _beyond_ascii(reach, features)


def _beyond_ascii(reach: Reach, features: Mapping[str, str] | None) -> Iterator[Line]:
    if not reach.beyond_ascii:
        return
    what = f"names beyond ASCII need SMTPUTF8: {_some(reach.beyond_ascii, len(reach.beyond_ascii))}"
    if features is None:
        yield _line("SMTPUTF8", f"unknown: {what}; the relay was not met", "settle what is wrong with the relay first")
    elif "SMTPUTF8" not in features:
        todo = "ask for another address, or send these by a relay that offers it; without it they fail"
        yield _line("SMTPUTF8", f"{what}, and the relay does not offer it", todo)
    else:
        yield ok(Part.RECIPIENTS, "SMTPUTF8", f"{what}, which the relay offers")


# Pace.


def _crowded(reach: Reach, pace: Pace) -> Iterator[Line]:
    if not reach.letters:
        return
    domain, most = reach.letters.most_common(1)[0]
    minute = pace.rate.count * 60 / pace.rate.seconds if pace.rate else None
    for domain_, count in reach.letters.most_common(_NAMED):
        own = pace.domains.get(domain_) or pace.domains.get("*")
        if count >= MANY and own is None and (minute is None or minute > QUICK):
            at = f"at {pace.rate}" if pace.rate else "as fast as the relay takes them"
            todo = f'give it a rate of its own: domains = {{ "{domain_}" = "20/min" }} under [pace] in campaign.toml'
            yield _line("pace", f"{count:,} letters go to {domain_} {at}", todo)
            return
    yield ok(Part.RECIPIENTS, "pace", f"at most {_many(most, 'letter')} to one domain, {domain}")
