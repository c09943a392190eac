"""The dossier as pages: a summary, and a table of every recipient. The same octets for the same facts.

Nothing of a list or a relay is read as markup: it goes in as data. A character that no font here has is shown by its
number, for evidence must not fail because of a name; what cannot be seen, or turns the direction of a line, is shown as
its code.
"""

import json
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from dispatcher.core.errors import DispatcherError
from dispatcher.paper.blocks import breakable
from dispatcher.paper.typesetting import FOLDER, FONTS, NoGlyph, compiled, ours

ROWS: Final = 1_000
"""Rows of a file: it takes some 250 MB of memory while it is made, so more are several files."""
LANGUAGES: Final = ("en", "fr", "es")
_ROUNDS: Final = 50
_ALWAYS: Final = ("accepted", "failed", "unknown")
"""States that are counted on the first page also where no letter is in them."""
_FITS: Final = 64
"""Characters of a digest or a Message-ID that fit a line of their column."""
_SHORT: Final = 700
"""Characters of a row that is not divided between two pages."""
_SEEN: Final = "\u200b\u200c\u200d\u00ad\u00a0\u202f"
"""Joiners and blanks that do no harm, though they do not show."""
_ISOLATE, _POP = "\u2068", "\u2069"
_LONGEST: Final = 2_000
"""Characters of a reply that are printed; the tables beside hold it whole."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Which part of the table a file holds: its number from 1, how many there are, its first row, and all rows."""

    part: int
    parts: int
    first: int
    rows: int


class _Exact(str):
    """A text that is to be copied out of the page as it stands: no places to break are put into it."""

    __slots__ = ()


@cache
def _words(language: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = tomllib.loads((FOLDER / "dossier.toml").read_text(encoding="utf-8"))[language]
    return found


def pages(
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    sheet: Sheet,
    *,
    language: str,
    timestamp: datetime,
    fonts: Path | None = None,
) -> bytes:
    """One file of a dossier as PDF/A-2b. `facts` are those of its manifest and more (see `desk.dossier`)."""
    words = _words(language)
    missing: dict[int, str] = {}
    given = {
        "words": {name: text for name, text in words.items() if isinstance(text, str)},
        "lang": language,
        "title": f"{words['title']}: {facts['title']}",
        "author": facts["created_by"],
        "foot": f"{facts['title']} ({facts['campaign']})",
        "part": sheet.part,
        "rows": [_row(words, number, row) for number, row in enumerate(rows, sheet.first)],
        "remark": _part(words, sheet, len(rows)) if sheet.parts > 1 else "",
        **_summary(words, facts),
    }
    for _ in range(_ROUNDS):
        shown = _shown(given, missing)
        if missing:
            shown["remark"] = " ".join((shown["remark"], words["glyphs"])).strip()
        try:
            inputs = {"data": json.dumps(shown, ensure_ascii=False)}
            return compiled((ours("dossier.typ"),), inputs, timestamp=timestamp, root=FONTS, fonts=fonts)
        except NoGlyph as error:
            missing.update((ord(char), f"U+{ord(char):04X}") for text in error.texts for char in text)
    raise DispatcherError("the dossier's pages have too many characters that no font here has")


def _part(words: Mapping[str, Any], sheet: Sheet, rows: int) -> str:
    span = {"first": f"{sheet.first:,}", "last": f"{sheet.first + rows - 1:,}", "rows": f"{sheet.rows:,}"}
    return str(words["part"].format(part=sheet.part, parts=sheet.parts, **span))


def _summary(words: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    remarks = [words[name] for name in ("rehearsal", "redacted") if facts[name]]
    counts = {state: count for state, count in facts["counts"].items() if state != "skipped"}
    counts = {state: counts.get(state, 0) for state in words["states"] if state in _ALWAYS or counts.get(state)}
    skipped = facts["counts"].get("skipped", 0)
    return {
        "remarks": remarks,
        "facts": list(_facts(words, facts)),
        "counts": [(words["states"][state], f"{count:,}") for state, count in counts.items()],
        "total": f"{sum(counts.values()):,}",
        "skipped": f"{skipped:,}" if skipped else "",
        "meaning": [words[name] for name in ("means_accepted", "means_unknown", "means_digest", "check")],
    }


def _facts(words: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    plan, chain, span = facts["plan"], facts["chain"], facts["span"]
    yield words["campaign"], [f"{facts['title']} ({facts['campaign']})"]
    yield words["sender"], [facts["sender"]]
    yield words["subject"], facts["subjects"]
    sealed = words["plan_value"].format(revision=plan["revision"], when=_moment(plan["sealed_at"]))
    yield words["plan"], [sealed, _Exact(f"SHA-256 {plan['digest']}")]
    approvals = [line for each in facts["approvals"] for line in _approval(words, each)]
    yield words["approvals"], approvals or [words["no_approvals"]]
    given = {"attempts": f"{span['attempts']:,}", "first": _moment(span["first"]), "last": _moment(span["last"])}
    yield words["span"], [words["span_value"].format(**given) if span["attempts"] else words["no_attempts"]]
    relays = [_relay(words, each) for each in facts["relays"][:5]]
    more = len(facts["relays"]) - len(relays)
    yield words["relays"], [*relays, *([words["more"].format(n=more)] if more else [])] or [words["no_attempts"]]
    if facts["certificates"]:
        yield words["smime"], [line for each in facts["certificates"] for line in _certificate(each)]
    yield words["chain"], [words["chain_value"].format(length=f"{chain['length']:,}"), _Exact(chain["head"])]
    made = {"when": _moment(facts["created_at"]), "by": facts["created_by"], "version": facts["version"]}
    yield words["made"], [words["made_value"].format(**made)]


def _approval(words: Mapping[str, Any], each: Mapping[str, Any]) -> list[str]:
    how = "unsigned" if not each["key"] else "signed" if each["good"] else "bad_signature"
    line = words[how].format(name=each["name"], when=_moment(each["at"]))
    return [line, _Exact(each["key"])] if each["key"] else [line]


def _relay(words: Mapping[str, Any], each: Mapping[str, Any]) -> str:
    tls = words["no_tls"]
    if each["tls_version"]:
        tls = words["tls"].format(version=each["tls_version"], certificate=each["certificate"])
    return str(words["relay_value"].format(host=each["host"], port=each["port"], tls=tls))


def _certificate(text: str) -> list[str]:
    """Its digest on a line of its own (`core.smime.Certificate`)."""
    name, comma, digest = text.rpartition(", ")
    return [name, _Exact(digest)] if comma else [digest]


def _row(words: Mapping[str, Any], number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    state = words["states"].get(row["state"], row["state"])
    relay = f"{row['host']}:{row['port']}" if row["host"] else ""
    reply = str(row["reply"] or row["reason"])
    if len(reply) > _LONGEST:
        reply = reply[:_LONGEST] + " … (recipients.csv)"
    tries = words["tries"].format(n=row["attempts"]) if row["attempts"] not in ("", 0, 1) else ""
    code = f"{row['code']} " if row["code"] != "" else ""
    whole = sum(len(str(value)) for value in row.values()) < _SHORT
    return {
        "number": str(number),
        "whole": whole,
        "key": row["key"],
        "who": [row["name"], row["addresses"]],
        "state": state,
        "when": [_moment(row["ended_at"] or row["at"]), relay, row["tls_version"], tries],
        "reply": [*f"{code}{reply}".split("\n"), row["queue_id"]],
        "proof": [_exact(row["message_id"]), _exact(row["message_digest"])],
    }


def _exact(text: str) -> str:
    return _Exact(text) if len(text) <= _FITS else text


def _moment(stamp: str) -> str:
    return f"{stamp[:10]} {stamp[11:19]} UTC" if stamp else ""


def _shown(value: Any, missing: Mapping[int, str]) -> Any:
    """The same data, its texts as they are printed."""
    if isinstance(value, _Exact):
        return _seen(value).translate(missing)
    if isinstance(value, str):
        return _text(value).translate(missing)
    if isinstance(value, Mapping):
        return {name: _shown(each, missing) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each, missing) for each in value]
    return value


def _text(text: str) -> str:
    if text.isascii() and text.isprintable():
        return breakable(text)
    seen = _seen(text)
    return f"{_ISOLATE}{breakable(seen)}{_POP}" if any(map(_runs_left, seen)) else breakable(seen)


def _seen(text: str) -> str:
    """With what cannot be seen, or turns the direction of a line, shown as its code."""
    return "".join(c if c.isprintable() or c in _SEEN else _code(c) for c in text)


def _code(char: str) -> str:
    return f"U+{ord(char):04X}"


def _runs_left(char: str) -> bool:
    return unicodedata.bidirectional(char) in ("R", "AL")


__all__ = ["LANGUAGES", "ROWS", "Sheet", "pages"]
